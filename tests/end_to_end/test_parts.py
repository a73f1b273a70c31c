"""A trace in a part of a database is the one in the whole, or says that it may be another."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pytest

from audit.cli import progress
from audit.commands import run as command
from audit.errors import ExitCode
from audit.model.options import Covering, PlaneName, Workers
from audit.model.packets import ConntrackState
from audit.model.traces import TraceTask
from audit.replay import parts
from audit.scope import scope
from audit.store import reader
from audit.trace.daemon import Launch, TraceDaemon
from audit.trace.local import Copies
from audit.trace.microflow import expression
from audit.tracing.every_plane import logical_worker
from audit.tracing.options import Options
from audit.tracing.plan import plan
from tests.end_to_end.test_cover import DATA

pytestmark = pytest.mark.ovn

SERVICES = scope.from_flags(to_services=("*/*",), ports=("tcp/80", "udp/53"))
MOST_TASKS = 40
_DRAWN = re.compile(r"backends=[^;]*,[^;]*;|\S+ = \d+ /\* Randomly selected")
"""After it a trace is another each time: the engine draws."""


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have databases divided as small as recorded ones are."""
    monkeypatch.setattr(parts, "LEAST_BYTES", 0)
    parts.divide.cache_clear()
    yield
    parts.divide.cache_clear()


def certain(output: str) -> str:
    """Return what a trace prints before something is drawn."""
    drawn = _DRAWN.search(output)
    return output if drawn is None else output[: drawn.start()]


class Tracers:
    """Traces in a zone's whole database, and in parts of it."""

    def __init__(self, copies: Copies, zone: str, state: ConntrackState, stack: ExitStack) -> None:
        self._copies, self._zone, self._state, self._stack = copies, zone, state, stack
        division = copies.division(zone)
        assert isinstance(division, parts.Division)
        self.division = division
        self.whole = self._daemon(copies.open(zone))

    def daemon_of(self, part: parts.Part) -> TraceDaemon:
        return self._daemon(self._copies.open(self._zone, part.copy))

    def enters(self, kept: frozenset[str]) -> Callable[[TraceTask], bool]:
        """Return what says whether a task's packet enters by a network that a part has."""
        network = self.division.connected.of_port
        return lambda task: network[task.microflow.inport] in kept

    def _daemon(self, opening: AbstractContextManager[Launch]) -> TraceDaemon:
        daemon = TraceDaemon(self._stack.enter_context(opening), state=self._state)
        self._stack.callback(daemon.stop)
        return daemon


@pytest.mark.parametrize("state", ConntrackState)
@pytest.mark.parametrize("cluster", ["example", "head-shared", "services-egressip"])
def test_no_trace_in_any_part_differs_from_the_whole_without_saying_so(
    cluster: str, state: ConntrackState, example_snapshot: Path
) -> None:
    snapshot = example_snapshot if cluster == "example" else DATA / f"{cluster}.tar.xz"
    asked = Options(snapshot=snapshot, scope=SERVICES, cover=Covering.EXHAUSTIVE)
    chance = random.Random(20261130)  # noqa: S311 - a drawing of tasks, no secret
    same = missed = own_missed = 0
    with ExitStack() as stack:
        planned = plan(asked, progress.Silent(), stack)
        copies = logical_worker(planned, 30)().transport
        assert isinstance(copies, Copies)
        for zone in planned.state.zones:
            tasks = [task for task in planned.cover.tasks if task.zone == zone]
            tasks = chance.sample(tasks, min(MOST_TASKS, len(tasks)))
            with ExitStack() as opened:
                tracers = Tracers(copies, zone, state, opened)
                whole = {t.key: tracers.whole.trace(expression(t.microflow)) for t in tasks}
                for few in (0, 1, 5, len(tasks)):
                    own = chance.sample(tasks, min(few, len(tasks)))
                    kept = tracers.division.kept(own, ()) or tracers.division.kept(tasks[:1], ())
                    part = tracers.division.part(kept)
                    daemon = tracers.daemon_of(part)
                    for task in filter(tracers.enters(kept), tasks):
                        output = part.as_in_whole(daemon.trace(expression(task.microflow)))
                        lacks = part.missing(output)
                        if lacks is None or lacks:
                            missed += 1
                            own_missed += task in own
                        else:
                            assert certain(output) == certain(whole[task.key])
                            same += 1
    assert same > 100, "tested"
    assert missed - own_missed > 100, "parts were too small for most of them"
    assert own_missed < same / 10, "what a part was made for it is enough for"


def test_a_run_in_parts_is_the_run_in_the_whole(
    example_snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=example_snapshot,
        scope=scope.from_flags(namespaces=("default", "prod", "shop"), to_services=("*/*",)),
        workers=Workers.INLINE,
    )

    def run(name: str) -> tuple[ExitCode, Path]:
        done = command.run(asked, tmp_path / name, progress.Silent())
        return done.exit_code, done.path

    code, path = run("parts")
    assert parts.divide.cache_info().hits > 0
    monkeypatch.setattr(parts, "LEAST_BYTES", 1 << 40)
    parts.divide.cache_clear()
    assert run("whole")[0] is code
    one, other = (reader.open_run(p) for p in (path, next((tmp_path / "whole").glob("2*"))))
    assert one.verdicts.verdict.size > 200
    for column in ("verdict", "reply", "reason"):
        assert np.array_equal(getattr(one.verdicts, column), getattr(other.verdicts, column))
