"""The real daemon on a real database, and everything that kills it."""

import functools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from audit.errors import EngineError
from audit.model.engine import Programs
from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import (
    HopEnd,
    LogicalTrace,
    TraceBatch,
    TraceFailure,
    TraceOutcome,
    TraceTask,
)
from audit.model.verdicts import Reason
from audit.replay import toolchain as toolchains
from audit.replay.databases import serve
from audit.replay.toolchain import Toolchain, Version
from audit.trace import microflow, tracer, walk
from audit.trace.daemon import (
    EngineLostError,
    EngineTimeoutError,
    Launch,
    Start,
    TraceDaemon,
    Unparsed,
)
from audit.trace.local import Copies, LocalDaemon
from audit.trace.tracer import LogicalTracer
from audit.trace.unixctl import Unixctl, UnixctlError

pytestmark = pytest.mark.ovn

REPOSITORY = Path(__file__).resolve().parents[2]
Southbound = Callable[[str], Path]

WEB = Microflow(
    inport="client",
    eth_src="0a:00:00:00:02:01",
    eth_dst="0a:00:00:00:02:02",
    ip_src="10.0.2.1",
    ip_dst="10.0.2.2",
    protocol=Protocol.TCP,
    src_port=52888,
    dst_port=80,
)
"""Allowed by the ACL of the golden case `acl-allow`; takes two conntrack steps."""


def launch(programs: Programs, database: Path) -> Launch:
    return functools.partial(LocalDaemon, programs, database)


def _flow(**changed: object) -> Microflow:
    fields = {name: getattr(WEB, name) for name in WEB.__slots__}
    return Microflow(**{**fields, **changed})


def _task(flow: Microflow = WEB, key: str = "web", **asked: object) -> TraceTask:
    request: dict[str, object] = {"state": ConntrackState.REQUEST, "target": "web", **asked}
    return TraceTask(key=key, zone="z", microflow=flow, **request)  # type: ignore[arg-type]


def _batch(*tasks: TraceTask, zone: str = "z") -> TraceBatch:
    return TraceBatch(zone=zone, tasks=tasks)


def _end(outcome: TraceOutcome) -> HopEnd | Reason:
    return outcome.hop.end if isinstance(outcome, LogicalTrace) else outcome.reason


@pytest.fixture
def release(toolchain: Toolchain) -> str:
    """Return the golden database the newest OVN at hand can read."""
    return "25.03" if toolchain.version >= Version(25, 3, 0) else "23.03"


@pytest.fixture
def served(
    temporary: Path, toolchain: Toolchain, southbound: Southbound, release: str
) -> Iterator[Path]:
    rundir = temporary / "db"
    rundir.mkdir()
    with serve(toolchain, southbound(release), rundir) as socket:
        yield socket
    shutil.rmtree(rundir)


@pytest.fixture
def daemon(toolchain: Toolchain, served: Path) -> Iterator[TraceDaemon]:
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REQUEST, timeout_s=10)
    yield daemon
    daemon.stop()


@pytest.fixture
def tracing(
    temporary: Path, toolchain: Toolchain, southbound: Southbound, release: str
) -> Iterator[LogicalTracer]:
    assert temporary.is_dir()
    copies = Copies(
        programs=toolchain,
        serve=functools.partial(serve, toolchain),
        databases={"z": southbound(release)},
    )
    with LogicalTracer(transport=copies, timeout_s=10) as tracing:
        yield tracing


def _one_shot(toolchain: Toolchain, socket: Path, expression: str, state: str = "new") -> str:
    states = [f"--ct={state}"] * 8
    arguments = [f"--db=unix:{socket}", "--detailed", *states, expression]
    return subprocess.run(
        toolchain.argv("ovn-trace", *arguments),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def _control(pid: int) -> Unixctl:
    """Connect to a daemon behind its supervisor's back."""
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    path = next(a.removeprefix("--unixctl=") for a in arguments if a.startswith("--unixctl="))
    return Unixctl(Path(path), timeout_s=10)


def test_the_daemon_answers_as_a_process_of_its_own_does(
    daemon: TraceDaemon, toolchain: Toolchain, served: Path
) -> None:
    for port in (80, 81, 23, 25, 7070):
        expression = microflow.expression(_flow(dst_port=port))
        assert daemon.trace(expression) == _one_shot(toolchain, served, expression)
    assert daemon.starts == 1


def _steady(release: str) -> Iterator[dict[str, str]]:
    """Yield what was asked in the golden cases that end the same each time."""
    for case in sorted((REPOSITORY / f"tests/trace/golden/ovn-{release}").glob("*/")):
        asked = json.loads((case / "asked.json").read_text())
        text = (case / "trace.txt").read_text()
        if not re.search(r"backends=[^;)]*,|Randomly", text) and not asked["select"]:
            yield {**asked, "text": text}


def test_many_packets_get_their_own_states_from_one_daemon(
    temporary: Path, newest_toolchain: Toolchain, southbound: Southbound
) -> None:
    """The golden packets of 26.03, replies first, then requests."""
    assert temporary.is_dir()
    asked = list(_steady("26.03"))
    replies = [one["microflow"] for one in asked if one["ct"] == "est,rpl"]
    requests = [one["microflow"] for one in asked if one["ct"] == "new"]
    assert len(replies) >= 1
    assert len(requests) > 30
    rundir = Path(tempfile.mkdtemp())
    with serve(newest_toolchain, southbound("26.03"), rundir) as socket:
        daemon = TraceDaemon(
            launch(newest_toolchain, socket), state=ConntrackState.REPLY, turns=True
        )
        for expression in replies:
            expected = _one_shot(newest_toolchain, socket, expression, "est,rpl")
            assert daemon.trace(expression) == expected
        assert daemon.turn()
        for expression in requests:
            assert daemon.trace(expression) == _one_shot(newest_toolchain, socket, expression)
        assert daemon.starts == 1
        daemon.stop()
    shutil.rmtree(rundir)


def test_the_states_a_trace_took_are_within_what_its_text_says(
    temporary: Path, engine: Toolchain, southbound: Southbound
) -> None:
    """How many it takes, a daemon with sixty of them tells by how long they last."""
    assert temporary.is_dir()
    release = "26.03" if engine.version >= Version(26, 3, 0) else "25.03"
    taken = set()
    rundir = Path(tempfile.mkdtemp())
    with serve(engine, southbound(release), rundir) as socket:
        for asked in (one for one in _steady(release) if "ct_" in one["text"]):
            start = Start(states=((ConntrackState.REQUEST, 60),))
            daemon = LocalDaemon(engine, socket, start)
            trace = functools.partial(
                daemon.connection.transact, "trace", "--detailed", asked["microflow"]
            )
            first, traces = trace(), 1
            while traces <= 60 and "default (use --ct" not in trace():
                traces += 1
            daemon.end()
            took = 60 // traces if traces <= 60 else 0
            least, most = walk.states_taken(first)
            assert least <= took <= most, asked
            taken.add(took)
    shutil.rmtree(rundir)
    assert {1, 2, 3} <= taken


def test_states_that_ran_out_are_noticed_and_the_trace_is_repeated(
    toolchain: Toolchain, served: Path
) -> None:
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REQUEST, states_at_start=3)
    expression = microflow.expression(WEB)
    expected = _one_shot(toolchain, served, expression)
    try:
        # Two states are taken by each trace: every second one finds only one left.
        assert [daemon.trace(expression) for _ in range(5)] == [expected] * 5
        assert daemon.starts == 5
    finally:
        daemon.stop()


def test_a_microflow_that_takes_more_states_than_there_are_is_not_answered_wrongly(
    toolchain: Toolchain, served: Path
) -> None:
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REQUEST, states_at_start=1)
    with pytest.raises(EngineLostError, match="conntrack states"):
        daemon.trace(microflow.expression(WEB))
    assert daemon.pid == 0


def test_a_reply_is_established_at_every_step(toolchain: Toolchain, served: Path) -> None:
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REPLY)
    try:
        output = daemon.trace(microflow.expression(WEB))
    finally:
        daemon.stop()
    assert output.count("ct_next(ct_state=est|rpl|trk)") == 2
    assert not walk.ran_out_of_states(output)


def test_a_daemon_of_replies_turns_to_requests_once(toolchain: Toolchain, served: Path) -> None:
    """Each answer is one of a daemon that has never had another state."""
    expression = microflow.expression(WEB)
    plain = {}
    for state in ConntrackState:
        daemon = TraceDaemon(launch(toolchain, served), state=state)
        plain[state] = daemon.trace(expression)
        assert not daemon.turn()
        daemon.stop()
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REPLY, turns=True)
    try:
        replies = [daemon.trace(expression) for _ in range(3)]
        assert daemon.turn()
        requests = [daemon.trace(expression) for _ in range(3)]
        assert daemon.starts == 1
        os.kill(daemon.pid, signal.SIGKILL)
        requests.append(daemon.trace(expression))
        assert not daemon.turn()
    finally:
        daemon.stop()
    assert replies == [plain[ConntrackState.REPLY]] * 3
    assert requests == [plain[ConntrackState.REQUEST]] * 4


def test_replies_beyond_the_first_few_are_a_daemon_of_their_own(
    toolchain: Toolchain, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.trace.daemon.REPLIES_FIRST", 3)
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REPLY, turns=True)
    try:
        outputs = [daemon.trace(microflow.expression(WEB)) for _ in range(4)]
        assert daemon.starts == 2
        assert not daemon.turn()
    finally:
        daemon.stop()
    assert len(set(outputs)) == 1
    assert "ct_next(ct_state=est|rpl|trk)" in outputs[0]


def test_a_daemon_killed_between_traces_is_replaced(daemon: TraceDaemon) -> None:
    expression = microflow.expression(WEB)
    before = daemon.trace(expression)
    for _ in range(3):
        os.kill(daemon.pid, signal.SIGKILL)
        assert daemon.trace(expression) == before
    assert daemon.starts == 4


def test_a_daemon_that_hangs_is_given_up_and_replaced(toolchain: Toolchain, served: Path) -> None:
    daemon = TraceDaemon(launch(toolchain, served), state=ConntrackState.REQUEST, timeout_s=0.5)
    expression = microflow.expression(WEB)
    try:
        before = daemon.trace(expression)
        hung = daemon.pid
        os.kill(hung, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(EngineTimeoutError, match=r"0\.5 s"):
            daemon.trace(expression)
        assert time.monotonic() - began < 2
        assert daemon.trace(expression) == before
        assert daemon.pid != hung
        os.kill(daemon.pid, signal.SIGSTOP)
    finally:
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 2, "a daemon that hangs is killed, not asked"


def test_a_poisonous_command_really_kills(temporary: Path, southbound: Southbound) -> None:
    """OVN 23.03 asserts that the inport is in the datapath it is given; 25.03 complains."""
    assert temporary.is_dir()
    for toolchain in toolchains.find():
        rundir = Path(tempfile.mkdtemp())
        with serve(toolchain, southbound("23.03"), rundir) as socket:
            daemon = TraceDaemon(launch(toolchain, socket), state=ConntrackState.REQUEST)
            expression = microflow.expression(WEB)
            before = daemon.trace(expression)
            datapath = re.findall(r'ingress\(dp="([^"]*)"', before)[0]
            with _control(daemon.pid) as control:
                poison = ("trace", datapath, 'inport == "nope" && ip4')
                if toolchain.version < Version(23, 6, 0):
                    with pytest.raises(UnixctlError):
                        control.transact(*poison)
                else:
                    assert "port" in control.transact(*poison)
            assert daemon.trace(expression) == before
            daemon.stop()
        shutil.rmtree(rundir)


class _Poisoned(TraceDaemon):
    """Dies of one port's packets."""

    deaths = 0

    def _ask(self, expression: str) -> str:
        if 'inport=="poison"' in expression:
            if not self.pid:
                self.start()
            type(self).deaths += 1
            os.kill(self.pid, signal.SIGKILL)
        return super()._ask(expression)


def test_poison_is_isolated(tracing: LogicalTracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "TraceDaemon", _Poisoned)
    monkeypatch.setattr(_Poisoned, "deaths", 0)
    poison = _task(_flow(inport="poison"), key="poison")
    blocked = _task(_flow(dst_port=81), key="blocked")
    outcomes = [*tracing.run(_batch(_task(), poison, blocked, poison, _task()))]
    assert [outcome.key for outcome in outcomes] == ["web", "poison", "blocked", "poison", "web"]
    assert [_end(outcome) for outcome in outcomes] == [
        *(HopEnd.OUTPUT, Reason.ENGINE_LOST, HopEnd.DROPPED, Reason.ENGINE_LOST, HopEnd.OUTPUT)
    ]
    assert _Poisoned.deaths == 4
    assert isinstance(outcomes[1], TraceFailure)
    assert outcomes[1].message == "ovn-trace died on it 2 times"


def test_a_few_replies_and_then_requests_take_one_daemon(
    tracing: LogicalTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []
    start = TraceDaemon.start

    def counted(self: TraceDaemon) -> None:
        start(self)
        starts.append(self.pid)

    monkeypatch.setattr(TraceDaemon, "start", counted)
    reply = _task(state=ConntrackState.REPLY)
    first = [*tracing.run(_batch(reply, _task()))]
    assert len(starts) == 1
    assert [*tracing.run(_batch(_task(), reply))] == first[::-1]
    assert len(starts) == 2, "who has turned does not turn back"


def test_a_database_server_that_died_is_replaced(tracing: LogicalTracer, temporary: Path) -> None:
    first = [*tracing.run(_batch(_task()))]
    servers = [
        pid
        for entry in temporary.glob("audit.db.*/db.sock")
        for pid in _with_argument(f"--remote=punix:{entry}")
    ]
    assert len(servers) == 1
    os.kill(servers[0], signal.SIGKILL)
    time.sleep(0.2)  # the daemon notices
    assert [*tracing.run(_batch(_task(), _task()))] == first * 2


def _with_argument(argument: str) -> list[int]:
    return [
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if argument.encode() in _read(entry).split(b"\0")
    ]


def _read(entry: Path) -> bytes:
    try:
        return entry.read_bytes()
    except OSError:
        return b""


def test_the_engine_refuses_in_its_own_words(tracing: LogicalTracer) -> None:
    nowhere, bad = tracing.run(
        _batch(_task(_flow(inport="nope")), _task(_flow(dst_port=70000), key="bad"))
    )
    assert isinstance(nowhere, TraceFailure)
    assert (nowhere.reason, nowhere.message) == (Reason.ENGINE_REFUSED, 'unknown port "nope"')
    assert isinstance(bad, TraceFailure)
    assert bad.reason is Reason.ENGINE_REFUSED
    assert "error parsing flow" in bad.message


def test_a_name_that_cannot_be_asked_for_never_reaches_the_engine(
    tracing: LogicalTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("an engine was started")

    monkeypatch.setattr(tracer, "TraceDaemon", never)
    (outcome,) = tracing.run(_batch(_task(_flow(inport='x" || inport == "client'))))
    assert isinstance(outcome, TraceFailure)
    assert outcome.reason is Reason.ENGINE_REFUSED
    assert "cannot be named" in outcome.message


def test_a_long_output_is_kept_in_part_and_judged_as_a_whole(
    tracing: LogicalTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = tracing.run(_batch(_task()))
    monkeypatch.setattr(tracer, "KEPT_OUTPUT", 300)
    (cut,) = tracing.run(_batch(_task()))
    assert isinstance(whole, LogicalTrace)
    assert isinstance(cut, LogicalTrace)
    assert cut.hop == whole.hop
    assert cut.hop.end is HopEnd.OUTPUT
    assert cut.output == f"{whole.output[:300]}\n*** cut ***\n"


def test_a_backend_is_drawn_until_it_is_the_one_meant(
    tracing: LogicalTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[str] = []
    trace = TraceDaemon.trace

    def counted(self: TraceDaemon, expression: str) -> str:
        traced.append(expression)
        return trace(self, expression)

    monkeypatch.setattr(TraceDaemon, "trace", counted)
    service = _flow(
        inport="lc",
        eth_src="0a:00:00:00:05:01",
        eth_dst="0a:00:00:00:05:12",
        ip_src="10.0.5.1",
        ip_dst="10.96.0.4",
    )
    (drawn,) = tracing.run(_batch(_task(service, target="nobody", draws=5)))
    assert _end(drawn) is HopEnd.OUTPUT
    assert len(traced) == 5
    (balanced,) = tracing.run(_batch(_task(service, target="b1")))
    assert _end(balanced) is HopEnd.BALANCED
    assert len(traced) == 6


def test_each_state_and_choice_has_its_own_daemon(tracing: LogicalTracer, temporary: Path) -> None:
    ecmp = _flow(
        inport="x1",
        eth_src="0a:00:00:01:00:01",
        eth_dst="0e:00:00:00:00:01",
        ip_src="10.1.0.1",
        ip_dst="192.0.2.7",
    )
    tasks = [_task(ecmp, target="", select=select) for select in (0, 1, 2, 1, 2)]
    outcomes = [*tracing.run(_batch(*tasks, _task(state=ConntrackState.REPLY)))]
    assert _end(outcomes[0]) is HopEnd.SELECTED
    first, second, *again = (o.hop.port for o in outcomes[1:5] if isinstance(o, LogicalTrace))
    assert {first, second} == {"y2", "y3"}
    assert again == [first, second]
    assert len(list(temporary.glob("audit.trace.*"))) == 4


@pytest.fixture(params=["25.03", "26.03"])
def engine(request: pytest.FixtureRequest) -> Toolchain:
    """Return an OVN that says all its warnings, and one that says one a second."""
    name = {"25.03": "toolchain", "26.03": "newest_toolchain"}[request.param]
    found: Toolchain = request.getfixturevalue(name)
    return found


MANY = 60
"""Far more than a limited engine would have time to say."""


def test_flows_beyond_the_engine_are_counted_all_of_them(
    temporary: Path, engine: Toolchain, southbound: Southbound
) -> None:
    assert temporary.is_dir()
    readable = southbound("25.03")
    newer = Path(shutil.copy(readable, readable.with_name("newer.db")))
    future = [{"actions": f"teleport(speed={number}); next;"} for number in range(MANY)]
    future += [{"match": f"tcp.flavour == {number}"} for number in range(MANY)]
    # The one that no annotation can be found for, and one with an operator that logs write too.
    future += [{"match": "ip4 || tcp.flavour == 1"}]
    _add_flows(engine, newer, future)
    plain, passing = _first_look(engine, readable)
    assert _end(passing) is HopEnd.OUTPUT
    assert plain.templates > 0
    assert (plain.flows, plain.example) == (0, "")
    unparsed, refused = _first_look(engine, newer)
    assert (unparsed.flows, unparsed.templates) == (len(future), plain.templates)
    assert unparsed.example in {flow.get("actions") or flow["match"] for flow in future}
    assert isinstance(refused, TraceFailure)
    assert refused.reason is Reason.ENGINE_REFUSED
    assert refused.message == f"{len(future)} logical flows are beyond this ovn-trace"


def test_a_flow_is_not_hidden_behind_what_else_is_warned_of(
    temporary: Path, engine: Toolchain, southbound: Southbound
) -> None:
    """Templates' and others' warnings are said before, and are more than a limited engine's."""
    assert temporary.is_dir()
    database = southbound("25.03")
    _add_flows(
        engine,
        database,
        [{"match": f"ip4.dst == ^VIP{number}"} for number in range(MANY)],
    )
    before, _ = _first_look(engine, database)
    _add_flows(engine, database, [{"actions": "teleport(speed=1); next;"}])
    after, _ = _first_look(engine, database)
    assert before.templates >= MANY
    assert (before.flows, after.flows, after.templates) == (0, 1, before.templates)


def _first_look(toolchain: Toolchain, database: Path) -> tuple[Unparsed, TraceOutcome]:
    """Return what an engine cannot read of a database, and what it makes of a packet there."""
    serving = functools.partial(serve, toolchain)
    copies = Copies(programs=toolchain, serve=serving, databases={"z": database})
    with LogicalTracer(transport=copies) as tracing:
        (outcome,) = tracing.run(_batch(_task()))
        return tracing.unparsed("z"), outcome


def _add_flows(toolchain: Toolchain, database: Path, flows: Sequence[Mapping[str, str]]) -> None:
    """Add logical flows to a southbound database, in the datapath of some other flow."""
    query = [
        "OVN_Southbound",
        {"op": "select", "table": "Datapath_Binding", "where": [], "columns": ["_uuid"]},
    ]
    asked = toolchain.argv("ovsdb-tool", "query", str(database), json.dumps(query))
    done = subprocess.run(asked, check=True, capture_output=True, text=True)
    row = {
        "logical_datapath": json.loads(done.stdout)[0]["rows"][0]["_uuid"],
        "pipeline": "ingress",
        "table_id": 0,
        "priority": 1,
        "match": "ip",
        "actions": "next;",
    }
    inserted = [{"op": "insert", "table": "Logical_Flow", "row": {**row, **flow}} for flow in flows]
    operations = json.dumps(["OVN_Southbound", *inserted])
    told = toolchain.argv("ovsdb-tool", "transact", str(database), operations)
    subprocess.run(told, check=True, capture_output=True)


def test_close_leaves_nothing(tracing: LogicalTracer, temporary: Path) -> None:
    for _ in range(2):
        list(tracing.run(_batch(_task(), _task(state=ConntrackState.REPLY))))
        assert list(temporary.iterdir())
        tracing.close()
        assert not list(temporary.iterdir())


OWNER = """
import functools, sys, tempfile, time
from pathlib import Path
from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import TraceBatch, TraceTask
from audit.replay import toolchain as toolchains
from audit.replay.databases import serve
from audit.trace.local import Copies, LocalDaemon
from audit.trace.tracer import LogicalTracer

tempfile.tempdir, database = sys.argv[1:]
toolchain = toolchains.choose(toolchains.find(), {"z": "25.03.0"})
copies = Copies(
    programs=toolchain,
    serve=functools.partial(serve, toolchain),
    databases={"z": Path(database)},
)
tracing = LogicalTracer(transport=copies)
flow = Microflow(
    inport="client", eth_src="0a:00:00:00:02:01", eth_dst="0a:00:00:00:02:02",
    ip_src="10.0.2.1", ip_dst="10.0.2.2", protocol=Protocol.TCP, src_port=52888, dst_port=80,
)
task = TraceTask(
    key="k", zone="z", state=ConntrackState.REQUEST, microflow=flow, target="web"
)
(outcome,) = tracing.run(TraceBatch(zone="z", tasks=(task,)))
print(outcome.hop.end, flush=True)
time.sleep(600)
"""


def test_nothing_survives_an_owner_that_is_killed(
    temporary: Path, southbound: Southbound, release: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(temporary), str(southbound(release))],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == "output\n"
            below = _below(temporary)
            assert {"ovsdb-server", "ovn-trace"} <= set(below.values())
        finally:
            owner.kill()
    deadline = time.monotonic() + 10
    while _below(temporary) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _below(temporary) == {}
    for left in temporary.iterdir():  # files nobody is left to remove
        shutil.rmtree(left)


def _below(directory: Path) -> Mapping[int, str]:
    """Return the engine's processes that were given a path below `directory`."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        arguments = _read(entry)
        for name in ("ovsdb-server", "ovn-trace"):
            if f"{directory}/".encode() in arguments and name.encode() in arguments[:200]:
                found[int(entry.parent.name)] = name
    return found


class _Script:
    """An `ovn-trace` that is a shell script; `$PID` is where the pid file is expected."""

    def __init__(self, script: str) -> None:
        self.script = script

    def argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        assert program == "ovn-trace"
        pid_file = next(a for a in arguments if a.startswith("--pidfile="))
        script = f"PID={pid_file.removeprefix('--pidfile=')}; {self.script}"
        return ("/bin/sh", "-c", script)

    def environment(self, rundir: Path) -> Mapping[str, str]:
        assert rundir.is_dir()
        return {}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'database connection failed' >&2; exit 1", "database connection failed"),
        ("exit 7", "exit 7"),
        ("exit 0", "does not answer"),
        ("sleep 60 >/dev/null 2>&1 & echo $! >$PID", "does not answer"),
        ("sleep 60 >/dev/null 2>&1 & echo $! >$PID; sleep 60", "did not read"),
    ],
)
def test_a_daemon_that_does_not_start_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr("audit.trace.local._START_TIMEOUT_S", 1)
    daemon = TraceDaemon(
        launch(_Script(script), temporary / "db.sock"), state=ConntrackState.REQUEST
    )
    for _ in range(2):
        with pytest.raises(EngineError, match=message):
            daemon.start()
        assert daemon.pid == 0
    assert not list(temporary.iterdir())


def test_a_full_or_missing_temporary_directory_is_the_engines_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toolchain: Toolchain
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    daemon = TraceDaemon(launch(toolchain, tmp_path / "db.sock"), state=ConntrackState.REQUEST)
    with pytest.raises(EngineError, match="could not be started"):
        daemon.trace("ip4")
    copies = Copies(
        programs=toolchain, serve=functools.partial(serve, toolchain), databases={"z": tmp_path}
    )
    tracing = LogicalTracer(transport=copies)
    outcomes = [*tracing.run(_batch(_task(), _task()))]
    assert [_end(outcome) for outcome in outcomes] == [Reason.ENGINE_LOST] * 2


def test_a_pid_that_has_passed_on_to_another_process_is_left_alone(daemon: TraceDaemon) -> None:
    daemon.trace(microflow.expression(WEB))
    os.kill(daemon.pid, signal.SIGKILL)
    with subprocess.Popen(["/bin/sleep", "60"]) as bystander:
        # As if the kernel had given the daemon's number to it.
        launched = daemon._launched  # noqa: SLF001 - a pid cannot be reused on demand
        assert isinstance(launched, LocalDaemon)
        process = launched.process
        assert process is not None
        launched.process = type(process)(bystander.pid, process.started)
        daemon.stop()
        assert bystander.poll() is None
        bystander.kill()


def test_a_tracer_can_be_sent_to_where_it_runs(
    temporary: Path, toolchain: Toolchain, southbound: Southbound, release: str
) -> None:
    assert temporary.is_dir()
    copies = Copies(
        programs=toolchain,
        serve=functools.partial(serve, toolchain),
        databases={"z": southbound(release)},
    )
    made = LogicalTracer(transport=copies)
    with pickle.loads(pickle.dumps(made)) as tracing:  # noqa: S301 - our own bytes
        assert _end(next(tracing.run(_batch(_task())))) is HopEnd.OUTPUT


def test_an_unknown_zone_is_missing(tracing: LogicalTracer) -> None:
    (outcome,) = tracing.run(_batch(_task(), zone="elsewhere"))
    assert _end(outcome) is Reason.ZONE_MISSING
    with pytest.raises(EngineError, match="elsewhere"):
        tracing.unparsed("elsewhere")
