"""One outcome per task, in order, whatever the engine does."""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import EngineError, OutputError
from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import LogicalTrace, TraceBatch, TraceFailure, TraceTask
from audit.model.verdicts import Reason
from audit.trace import daemon, tracer
from audit.trace.daemon import EngineLostError, EngineTimeoutError, Unparsed
from audit.trace.local import Copies, Divide, Serve
from audit.trace.tracer import LogicalTracer
from audit.trace.unixctl import RefusedError

TRACE = """\
# tcp

ingress(dp="sw", inport="p1")
-----------------------------
 0. ls_in_check_port_sec (northd.c:1): 1, priority 50, uuid 5ed04908
    drop;
"""

BEHAVIOURS: dict[str, tuple[str | Exception, Reason | None]] = {
    "answers": (TRACE, None),
    "dies": (EngineLostError("died"), Reason.ENGINE_LOST),
    "hangs": (EngineTimeoutError("hung"), Reason.ENGINE_TIMEOUT),
    "refuses": (RefusedError("no"), Reason.ENGINE_REFUSED),
    "complains": ('unknown port "p1"\n', Reason.ENGINE_REFUSED),
    "is silent": ("", Reason.ENGINE_REFUSED),
    "is cut off": (TRACE.replace("uuid 5ed04908", "uuid 5ed0"), Reason.UNPARSABLE),
    "gibbers": (f"{TRACE}gibberish\n", Reason.UNPARSABLE),
    "gibbers deeply": (
        TRACE + "".join(f"{' ' * 4 * n}clone\n{' ' * 4 * n}-----\n" for n in range(1, 900, 2)),
        Reason.UNPARSABLE,
    ),
}
NO_ENGINE = "has no engine"
NO_SUCH_NAME = 'p1" || "'


class _Daemon:
    """A daemon that behaves as the packet's port is called."""

    def __init__(self, *_: object, **__: object) -> None:
        self.unparsed = Unparsed(flows=0, templates=3, example="")

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""

    def trace(self, expression: str) -> str:
        behaviour = expression.split('"')[1]
        if behaviour == NO_ENGINE:
            raise EngineError("ovn-trace did not start")
        answer, _ = BEHAVIOURS[behaviour]
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.contextmanager
def _serve(database: Path, rundir: Path, **_: object) -> Iterator[Path]:
    assert rundir.is_dir()
    if database.name == "broken":
        raise EngineError("ovsdb-server did not start")
    yield rundir / "db.sock"


def _tracer(
    database: str = "sb.db",
    serve: Serve = _serve,
    divide: Divide = lambda _: None,
    zones: Sequence[str] = ("z",),
) -> LogicalTracer:
    copies = Copies(
        divide=divide,
        programs=None,  # type: ignore[arg-type]  # the fake daemon runs nothing
        serve=serve,
        databases=dict.fromkeys(zones, Path(database)),
    )
    return LogicalTracer(transport=copies)


def _batch(ports: list[str]) -> TraceBatch:
    return TraceBatch(
        zone="z",
        tasks=tuple(
            TraceTask(
                key=f"{number}",
                zone="z",
                state=ConntrackState.REQUEST,
                microflow=Microflow(
                    inport=port,
                    eth_src="0a:00:00:00:00:01",
                    eth_dst="0a:00:00:00:00:02",
                    ip_src="10.0.0.1",
                    ip_dst="10.0.0.2",
                    protocol=Protocol.TCP,
                    src_port=1,
                    dst_port=2,
                ),
                target="p2",
                draws=number % 3,
            )
            for number, port in enumerate(ports)
        ),
    )


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.sampled_from([*BEHAVIOURS, NO_ENGINE, NO_SUCH_NAME])))
def test_one_outcome_per_task_in_order(ports: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, _tracer() as tracing:
        patch.setattr(tracer, "TraceDaemon", _Daemon)
        outcomes = [*tracing.run(_batch(ports))]
    assert [outcome.key for outcome in outcomes] == [f"{n}" for n in range(len(ports))]
    engine = True
    for port, outcome in zip(ports, outcomes, strict=True):
        engine = engine and port != NO_ENGINE
        if not engine:
            expected: Reason | None = Reason.ENGINE_LOST
        elif port == NO_SUCH_NAME:
            expected = Reason.ENGINE_REFUSED
        else:
            expected = BEHAVIOURS[port][1]
        if expected is None:
            assert isinstance(outcome, LogicalTrace)
            assert outcome.output == TRACE
        else:
            assert isinstance(outcome, TraceFailure)
            assert outcome.reason is expected
            assert outcome.message


class _Division:
    """Says of each trace in turn what it missed, and knows for what parts were made."""

    def __init__(self, answers: Iterator[frozenset[str] | None]) -> None:
        self._answers = answers
        self.parts: list[frozenset[str]] = []
        self.read: list[set[int]] = []

    def kept(self, tasks: Iterable[TraceTask], more: Iterable[str]) -> frozenset[str]:
        return frozenset({*more, *(task.target for task in tasks)})

    def part(self, kept: frozenset[str]) -> "_Part":
        return _Part(self._answers, len(kept), lambda: self.parts.append(kept))

    texts = (7, 0, 8)

    def thin(self, read: AbstractSet[int]) -> Callable[[Path, Path], object]:
        self.read.append(set(read))
        return lambda _source, _target: None


class _Part:
    """Copies nothing, and says what a trace misses that is told as in the whole."""

    def __init__(
        self, answers: Iterator[frozenset[str] | None], size: int, copied: Callable[[], None]
    ) -> None:
        self._answers = answers
        self.size = size
        self._copied = copied
        self._told: list[str] = []

    @property
    def copy(self) -> Callable[[Path, Path], object]:
        self._copied()
        return lambda _source, _target: None

    def as_in_whole(self, output: str) -> str:
        self._told.append(output)
        return output

    def missing(self, output: str) -> frozenset[str] | None:
        assert output in self._told
        return next(self._answers, frozenset())


MISSED = st.lists(st.sampled_from([frozenset[str](), frozenset({"w"}), None]))


@settings(deadline=None)  # a busy machine is no failure
@given(
    ports=st.lists(st.sampled_from([*BEHAVIOURS, NO_ENGINE, NO_SUCH_NAME])),
    missed=MISSED,
    served=st.booleans(),
)
def test_outcomes_are_the_same_wherever_a_database_is_divided(
    *, ports: list[str], missed: list[frozenset[str] | None], served: bool
) -> None:
    division = _Division(iter(missed))

    @contextlib.contextmanager
    def serve(database: Path, rundir: Path, copy: object = None) -> Iterator[Path]:
        if copy is not None and not served:
            raise EngineError("ovsdb-server did not start")
        with _serve(database, rundir) as socket:
            yield socket

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracer, "TraceDaemon", _Daemon)
        patch.setattr(daemon, "TraceDaemon", _Daemon)
        with _tracer() as tracing:
            whole = {outcome.key: outcome for outcome in tracing.run(_batch(ports))}
        with _tracer(serve=serve, divide=lambda _: division) as tracing:
            outcomes = [*tracing.run(_batch(ports))]
    keys = [outcome.key for outcome in outcomes]
    assert sorted(keys, key=int) == [f"{n}" for n in range(len(ports))]
    if NO_ENGINE not in ports:  # that gives up the rest, in whatever order they come
        assert {outcome.key: outcome for outcome in outcomes} == whole
    assert len(division.parts) <= tracer.PARTS


def test_what_traces_missed_is_in_the_next_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "TraceDaemon", _Daemon)
    readable = Unparsed(flows=0, templates=0, example="")
    monkeypatch.setattr(Copies, "unparsed", lambda *_: readable)
    more = frozenset({"shop_db", "10.0.0.9"})
    division = _Division(iter([frozenset(), more]))
    with _tracer(serve=_serve_part, divide=lambda _: division) as tracing:
        outcomes = [*tracing.run(_batch(["answers", "answers"]))]
    assert [outcome.key for outcome in outcomes] == ["0", "1"]
    words = frozenset({"p2"})
    assert division.parts == [words, words | more]


def test_a_part_stays_open_for_batches_that_need_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracer, "TraceDaemon", _Daemon)
    readable = Unparsed(flows=0, templates=0, example="")
    monkeypatch.setattr(Copies, "unparsed", lambda *_: readable)
    division = _Division(iter(()))
    opened: list[str] = []

    @contextlib.contextmanager
    def serve(database: Path, rundir: Path, copy: object = None) -> Iterator[Path]:
        del database
        assert copy is not None
        opened.append("open")
        yield rundir / "db.sock"
        opened.append("closed")

    def trace(tracing: LogicalTracer, *pods: str, zone: str = "z") -> frozenset[str]:
        tasks = zip(_batch(["answers"] * len(pods)).tasks, pods, strict=True)
        ready = tuple(dataclasses.replace(task, target=pod) for task, pod in tasks)
        batch = TraceBatch(zone=zone, tasks=ready)
        assert all(isinstance(each, LogicalTrace) for each in tracing.run(batch))
        return frozenset(word for word in division.parts[-1] if word.startswith("pod"))

    with _tracer(serve=serve, divide=lambda _: division, zones=("z", "y")) as tracing:
        assert trace(tracing, "pod1", "pod2", "pod3", "pod4") == {"pod1", "pod2", "pod3", "pod4"}
        trace(tracing, "pod2", "pod3")
        assert len(opened) == 1, "all of it is there"
        every = {"pod1", "pod2", "pod3", "pod4", "pod5", "pod6"}
        assert trace(tracing, "pod3", "pod4", "pod5", "pod6") == every
        trace(tracing, "pod1", "pod6")
        assert opened == ["open", "closed", "open"]
        assert trace(tracing, "pod7") == {"pod7"}, "the open part is mostly of others"
        trace(tracing, "pod7", zone="y")
        assert len(division.parts) == 4
    assert opened == ["open", "closed"] * 4


@pytest.mark.parametrize(("flows", "templates", "divided"), [(0, 3, True), (1, 0, False)])
def test_a_zone_with_flows_that_cannot_be_read_is_traced_in_the_whole(
    monkeypatch: pytest.MonkeyPatch, *, flows: int, templates: int, divided: bool
) -> None:
    class Complaining(_Daemon):
        def __init__(self, *_: object, **__: object) -> None:
            self.unparsed = Unparsed(flows=flows, templates=templates, example="x")

    monkeypatch.setattr(daemon, "TraceDaemon", Complaining)
    division = _Division(iter(()))
    opened: list[bool] = []

    @contextlib.contextmanager
    def serve(database: Path, rundir: Path, copy: object = None) -> Iterator[Path]:
        opened.append(copy is None)
        with _serve(database, rundir) as socket:
            yield socket

    transport = _tracer(serve=serve, divide=lambda _: division, zones=("z", "y")).transport
    assert [transport.division("z") is not None for _ in range(3)] == [divided] * 3
    assert opened == ([False] if divided else [False, True]), "how many is what the whole tells"
    assert (transport.division("y") is not None) is divided
    assert division.read == [set(), {7, 8} if divided else set()], "what zones have in common"
    broken = _tracer("broken", divide=lambda _: division).transport
    assert broken.division("z") is None


@contextlib.contextmanager
def _serve_part(_database: Path, rundir: Path, copy: object = None) -> Iterator[Path]:
    assert copy is not None, "what is in a part needs no whole"
    yield rundir / "db.sock"


def test_an_engine_that_does_not_start_fails_one_batch_and_not_the_next() -> None:
    with pytest.MonkeyPatch.context() as patch, _tracer() as tracing:
        patch.setattr(tracer, "TraceDaemon", _Daemon)
        first = [*tracing.run(_batch(["answers", NO_ENGINE, "answers"]))]
        second = [*tracing.run(_batch(["answers"]))]
    assert [type(outcome) for outcome in first] == [LogicalTrace, TraceFailure, TraceFailure]
    assert [type(outcome) for outcome in second] == [LogicalTrace]


def test_a_database_that_cannot_be_served_fails_every_task() -> None:
    with _tracer("broken") as tracing:
        outcomes = [*tracing.run(_batch(["answers"] * 3))]
    assert [outcome.key for outcome in outcomes] == ["0", "1", "2"]
    for outcome in outcomes:
        assert isinstance(outcome, TraceFailure)
        assert (outcome.reason, outcome.message) == (
            Reason.ENGINE_LOST,
            "ovsdb-server did not start",
        )


def test_a_tracer_is_closed_though_a_daemon_does_not_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[Path] = []

    class Stubborn(_Daemon):
        def stop(self) -> None:
            raise OSError("no")

    @contextlib.contextmanager
    def recording(database: Path, rundir: Path) -> Iterator[Path]:
        left.append(rundir)
        with _serve(database, rundir) as socket:
            yield socket

    monkeypatch.setattr(tracer, "TraceDaemon", Stubborn)
    tracing = _tracer(serve=recording)
    list(tracing.run(_batch(["answers"])))
    with pytest.raises(OSError, match="no"):
        tracing.close()
    assert not left[0].exists()
    tracing.close()


def test_a_full_disk_is_the_runs_trouble_and_no_traces() -> None:
    def full(_: Path, rundir: Path) -> contextlib.AbstractContextManager[Path]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(rundir / "db"))

    with pytest.raises(OutputError, match=r"cannot write .*/db: No space left on device"):
        list(_tracer(serve=full).run(_batch(["p1"])))
