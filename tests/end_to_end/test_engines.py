"""What the engine does to a run: it dies, it hangs, it talks nonsense; and where traces run."""

import contextlib
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from audit.cli import progress
from audit.commands import run as command
from audit.errors import ExitCode
from audit.model.options import Covering, PlaneName, Workers
from audit.model.packets import ConntrackState
from audit.model.run import Run
from audit.model.verdicts import REASONS, Reason
from audit.scope import scope
from audit.store import reader
from audit.trace.daemon import EngineLostError, TraceDaemon
from audit.trace.microflow import expression
from audit.trace.unixctl import Unixctl
from audit.tracing.every_plane import logical_worker
from audit.tracing.options import Options
from audit.tracing.plan import plan
from tests.end_to_end.conftest import run_of

pytestmark = pytest.mark.ovn

SCOPE = scope.from_flags(namespaces=("default", "prod", "shop"), ports=("tcp/80",))
POISON = "shop_front-0"


class Watcher(progress.Silent):
    """Progress that does something after each batch."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def advance(self, steps: int) -> None:
        del steps
        self._act()


def run(snapshot: Path, root: Path, act: Callable[[], None] = lambda: None) -> tuple[Run, ExitCode]:
    options = Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=snapshot,
        scope=SCOPE,
        workers=Workers.INLINE,
        trace_timeout_s=2.0,
        cover=Covering.EXHAUSTIVE,  # an equivalent packet would answer for the poison
    )
    done = command.run(options, root, Watcher(act))
    return reader.open_run(done.path), done.exit_code


@pytest.fixture(scope="module")
def undisturbed(example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    found, code = run(example_snapshot, tmp_path_factory.mktemp("undisturbed"))
    assert code is ExitCode.CLEAN
    return found


def reasons(found: Run, *, sender: str) -> set[Reason]:
    """Return the reasons of all cells from a pod (`namespace_pod`)."""
    endpoints = found.matrix.endpoints
    from_it = np.array(
        [f"{endpoints[s].namespace}_{endpoints[s].name}" == sender for s in found.matrix.src]
    )
    return {REASONS[code] for code in found.verdicts.reason[from_it].tolist()}


def test_daemons_killed_during_the_run_cost_nothing(
    example_snapshot: Path,
    tmp_path: Path,
    undisturbed: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemons: list[TraceDaemon] = []
    start = TraceDaemon.start

    def started(self: TraceDaemon) -> None:
        start(self)
        if self.starts == 1:  # what takes its daemon down twice is poison
            daemons.append(self)

    monkeypatch.setattr(TraceDaemon, "start", started)
    killed = []

    def kill() -> None:
        while daemons:
            pid = daemons.pop().pid
            with contextlib.suppress(ProcessLookupError):  # its zone is closed at this moment
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    found, code = run(example_snapshot, tmp_path, kill)
    assert killed
    assert code is ExitCode.CLEAN
    assert np.array_equal(found.verdicts.verdict, undisturbed.verdicts.verdict)
    assert np.array_equal(found.verdicts.reply, undisturbed.verdicts.reply)


def test_replies_that_no_engine_answers_for_leave_the_run_incomplete(
    example_snapshot: Path, tmp_path: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = TraceDaemon.trace

    def lost(self: TraceDaemon, expression: str) -> str:
        if "tcp.dst==52888" in expression:
            raise EngineLostError("ovn-trace died on it 2 times")
        return trace(self, expression)

    monkeypatch.setattr(TraceDaemon, "trace", lost)
    found, code = run(example_snapshot, tmp_path)
    assert code is ExitCode.INCOMPLETE
    assert np.array_equal(found.verdicts.verdict, undisturbed.verdicts.verdict)
    (note,) = [one for one in found.manifest["notes"] if one["code"] == "replies-lost"]
    assert note["text"].endswith("(engine-lost, logical plane); resume the run to trace them")


def test_replies_and_then_requests_of_one_daemon_are_as_of_daemons_of_their_own(
    example_snapshot: Path,
) -> None:
    asked = Options(snapshot=example_snapshot, scope=SCOPE)
    with ExitStack() as stack:
        planned = plan(asked, progress.Silent(), stack)
        zone = planned.cover.tasks[0].zone
        flows = [expression(t.microflow) for t in planned.cover.tasks if t.zone == zone]
        launch = stack.enter_context(logical_worker(planned, 30)().transport.open(zone))

        def daemon(state: ConntrackState, *, turns: bool = False) -> TraceDaemon:
            made = TraceDaemon(launch, state=state, turns=turns)
            stack.callback(made.stop)
            return made

        replies, requests = (
            {flow: one.trace(flow) for flow in flows}
            for one in map(daemon, (ConntrackState.REPLY, ConntrackState.REQUEST))
        )
        told = [flow for flow in flows if replies[flow] != requests[flow]] * 4
        for count in range(0, 9, 2):
            both = daemon(ConntrackState.REPLY, turns=True)
            first = [both.trace(flow) for flow in told[:count]]
            assert both.turn()
            assert [both.trace(flow) for flow in told] == [requests[flow] for flow in told]
            assert first == [replies[flow] for flow in told[:count]]
            assert both.starts == 1
        more = daemon(ConntrackState.REPLY, turns=True)
        assert [more.trace(flow) for flow in told] == [replies[flow] for flow in told]
        assert more.starts == 2


Disturb = Callable[[Unixctl, Callable[[], str]], str]


def disturbed(monkeypatch: pytest.MonkeyPatch, disturb: Disturb) -> None:
    """Let `disturb` answer whenever the daemon is asked about the poison's sender."""
    transact = Unixctl.transact

    def asked(self: Unixctl, method: str, *arguments: str) -> str:
        def answer() -> str:
            return transact(self, method, *arguments)

        if f'inport=="{POISON}"' not in " ".join(arguments):
            return answer()
        return disturb(self, answer)

    monkeypatch.setattr(Unixctl, "transact", asked)


def _signal(connection: Unixctl, sent: signal.Signals) -> None:
    """Send a signal to the daemon behind a connection."""
    os.kill(int((connection._path.parent / "pid").read_text()), sent)  # noqa: SLF001


def kill_first(connection: Unixctl, answer: Callable[[], str]) -> str:
    _signal(connection, signal.SIGKILL)
    return answer()


def hang_first(connection: Unixctl, answer: Callable[[], str]) -> str:
    _signal(connection, signal.SIGSTOP)
    return answer()


def garble(connection: Unixctl, answer: Callable[[], str]) -> str:
    del connection
    return answer().replace(" ls_in_check_port_sec", " ?? ls_in_check_port_sec")


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (kill_first, Reason.ENGINE_LOST),
        (hang_first, Reason.ENGINE_TIMEOUT),
        (garble, Reason.UNPARSABLE),
    ],
)
def test_a_microflow_the_engine_cannot_take_is_untraced_and_alone(
    example_snapshot: Path,
    tmp_path: Path,
    undisturbed: Run,
    monkeypatch: pytest.MonkeyPatch,
    disturb: Disturb,
    reason: Reason,
) -> None:
    if reason is Reason.ENGINE_TIMEOUT:
        monkeypatch.setattr(
            "tests.end_to_end.test_engines.SCOPE",
            scope.from_flags(from_namespaces=("shop",), to_namespaces=("prod",), ports=("tcp/80",)),
        )
        baseline, _ = run(example_snapshot, tmp_path / "baseline")
    else:
        baseline = undisturbed
    disturbed(monkeypatch, disturb)
    found, code = run(example_snapshot, tmp_path)
    assert code is ExitCode.INCOMPLETE
    assert reasons(found, sender=POISON) == {reason}
    others = found.verdicts.reason != list(REASONS).index(reason)
    assert others.any()
    assert np.array_equal(found.verdicts.verdict[others], baseline.verdicts.verdict[others])


@pytest.mark.ray
def test_ray_and_inline_give_the_same_cells_byte_for_byte(
    audit_command: tuple[str, ...], example_snapshot: Path, tmp_path: Path
) -> None:
    flags = ("-n", "default", "-n", "prod", "-n", "shop", "-p", "tcp/80", "-p", "udp/53")
    inline = run_of(
        audit_command, tmp_path / "inline", example_snapshot, "--workers", "inline", *flags
    )
    ray = run_of(audit_command, tmp_path / "ray", example_snapshot, "--workers", "ray", *flags)
    for table in ("cells/part-00000.parquet", "endpoints.parquet", "policies.parquet"):
        assert (inline / table).read_bytes() == (ray / table).read_bytes(), table
