"""What runs in pods: what is asked of a node's own ovs-vswitchd, and what never is."""

import ast
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from audit.errors import EngineError
from audit.model.packets import ConntrackState
from audit.replay.toolchain import Toolchain
from audit.trace.daemon import TraceDaemon
from audit.trace.pods import Pods, PodSwitches, Streams, program, switch_program
from audit.trace.unixctl import UnixctlError

FLOW = "in_port=a, tcp, nw_src=10.0.0.1"
STATES = ("--ct-next", "trk,new")


class Vswitchd:
    """Answers on a socket as ovs-vswitchd does, and remembers what it was asked."""

    def __init__(self, rundir: Path) -> None:
        self.rundir = rundir
        self.asked: list[dict[str, object]] = []
        self.listening: socket.socket | None = None

    def start(self, pid: int) -> None:
        """Listen where ovs-appctl(8) looks for this process."""
        self.stop()
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.rundir / f"ovs-vswitchd.{pid}.ctl"))
        self.listening.listen()
        (self.rundir / "ovs-vswitchd.pid").write_text(f"{pid}\n")
        threading.Thread(target=self._serve, args=(self.listening,), daemon=True).start()

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(1 << 16):
                    request = json.loads(data)
                    self.asked.append(request)
                    if request["params"][1] == f"{FLOW}, deadly":
                        break
                    answer = {"id": request["id"], "result": "Flow: it\n", "error": None}
                    connection.sendall(json.dumps(answer).encode())

    def stop(self) -> None:
        if self.listening is not None:
            self.listening.shutdown(socket.SHUT_RDWR)
            self.listening.close()
            self.listening = None


@pytest.fixture
def vswitchd() -> Iterator[Vswitchd]:
    with tempfile.TemporaryDirectory(prefix="t-") as rundir:
        made = Vswitchd(Path(rundir))
        yield made
        made.stop()


class Pipe:
    """The standard input and output of a command, as a channel."""

    def __init__(self, argv: Sequence[str], rundir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *argv[1:]],
            env={
                **os.environ,
                "OVN_RUNDIR": str(rundir),
                "OVS_RUNDIR": str(rundir),
                "TMPDIR": str(rundir),
                "PATH": f"{rundir}:{os.environ['PATH']}",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def settimeout(self, value: float, /) -> None:
        pass

    def sendall(self, data: bytes, /) -> None:
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), data)

    def recv(self, bufsize: int, /) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), bufsize)

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture
def switches(vswitchd: Vswitchd) -> PodSwitches:
    def stream(_: str, argv: Sequence[str]) -> Pipe:
        return Pipe(argv, vswitchd.rundir)

    return PodSwitches(streams=Streams(stream=stream, ready_s=10), tables={})


def asked_alone(switches: PodSwitches, method: str, *arguments: str) -> str:
    connection, end = switches.connect("worker", 10)
    try:
        return connection.transact(method, *arguments)
    finally:
        end()


def test_a_switch_is_asked_many_traces_on_one_stream(
    vswitchd: Vswitchd, switches: PodSwitches
) -> None:
    vswitchd.start(7)
    connection, end = switches.connect("worker", 10)
    for _ in range(100):
        assert connection.transact("ofproto/trace", "br-int", FLOW, *STATES * 20) == "Flow: it\n"
    end()
    assert len(vswitchd.asked) == 100
    assert {request["method"] for request in vswitchd.asked} == {"ofproto/trace"}


@pytest.mark.parametrize(
    "request_",
    [
        ("exit",),
        ("exit", "br-int", FLOW),
        ("dpctl/add-flow", "br-int", FLOW),
        ("ofproto/trace", "br-int"),
        ("ofproto/trace", "br-int", "-generate"),
        ("ofproto/trace", "br-int", FLOW, "-generate"),
        ("ofproto/trace", "br-int", FLOW, *STATES, "--generate"),
        ("ofproto/trace", "br-int", FLOW, "0a580af40006"),
        ("ofproto/trace", "br-int", FLOW, "-consistent", "trk,new"),
        ("ofproto/trace", "br-ex", FLOW),
        ("ofproto/trace", "-generate", FLOW, *STATES),
    ],
    ids=" ".join,
)
def test_what_is_more_than_a_trace_does_not_get_to_a_switch(
    vswitchd: Vswitchd, switches: PodSwitches, request_: tuple[str, ...]
) -> None:
    vswitchd.start(7)
    with pytest.raises(UnixctlError):
        asked_alone(switches, *request_)
    assert vswitchd.asked == []


def test_a_switch_that_ends_while_it_is_asked_is_not_asked_again(
    vswitchd: Vswitchd, switches: PodSwitches
) -> None:
    vswitchd.start(7)
    with pytest.raises(UnixctlError):
        asked_alone(switches, "ofproto/trace", "br-int", f"{FLOW}, deadly")
    vswitchd.start(8)
    for words in ("was started anew", "given up"):
        with pytest.raises(EngineError, match=words):
            switches.connect("worker", 10)
    assert len(vswitchd.asked) == 1


def test_a_switch_that_is_not_there_is_said_not_to_be(
    vswitchd: Vswitchd, switches: PodSwitches
) -> None:
    with pytest.raises(EngineError, match=r"ovs-vswitchd of .*No such file"):
        switches.connect("worker", 10)
    (vswitchd.rundir / "ovs-vswitchd.pid").write_text("9\n")
    with pytest.raises(EngineError, match=r"ovs-vswitchd of .*No such file"):
        switches.connect("worker", 10)
    with pytest.raises(EngineError, match="given up"):
        switches.connect("worker", 10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def follower(toolchain: Toolchain, southbound: Callable[[str], Path]) -> Iterator[Path]:
    """Yield the run directory of a member of a RAFT cluster that is not its leader."""
    with tempfile.TemporaryDirectory(prefix="t-") as name, ExitStack() as stack:
        rundir = Path(name)
        one, other = (f"tcp:127.0.0.1:{free_port()}" for _ in range(2))

        def tool(*arguments: str | Path) -> None:
            argv = toolchain.argv("ovsdb-tool", *map(str, arguments))
            subprocess.run(argv, check=True, capture_output=True)

        tool("create-cluster", rundir / "leader.db", southbound("25.03"), one)
        tool("join-cluster", rundir / "member.db", "OVN_Southbound", other, one)
        for database, sock in (("leader.db", "leader.sock"), ("member.db", "ovnsb_db.sock")):
            argv = toolchain.argv(
                "ovsdb-server",
                *(f"--remote=punix:{rundir / sock}", f"--unixctl={rundir / sock}.ctl"),
                *("-vsyslog:off", str(rundir / database)),
            )
            server = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.kill)
        program = rundir / "ovn-trace"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(toolchain.argv("ovn-trace"))} "$@"\n')
        program.chmod(0o755)
        status = ("-t", f"{rundir}/ovnsb_db.sock.ctl", "cluster/status", "OVN_Southbound")
        deadline = time.monotonic() + 30
        while True:
            done = subprocess.run(
                toolchain.argv("ovs-appctl", *status), capture_output=True, text=True, check=False
            )
            if "Status: cluster member" in done.stdout and "Role: follower" in done.stdout:
                break
            assert time.monotonic() < deadline, done
            time.sleep(0.05)
        yield rundir


@pytest.mark.ovn
def test_a_member_that_is_not_the_leader_is_traced_on_too(follower: Path) -> None:
    """By default ovn-trace leaves a server of a cluster that does not lead it."""

    def stream(_: str, argv: Sequence[str]) -> Pipe:
        return Pipe(argv, follower)

    pods = Pods(zones=("global",), streams=Streams(stream=stream, ready_s=30))
    with pods.open("global") as launch:
        daemon = TraceDaemon(launch, state=ConntrackState.REQUEST, states_at_start=100)
        said = daemon.trace('inport == "nowhere"')
        daemon.stop()
    assert "nowhere" in said
    assert not list(follower.glob("ovn-audit-*"))


@pytest.mark.parametrize("argv", [program("version"), switch_program()], ids=["trace", "switch"])
def test_what_is_sent_to_pods_fits_in_a_url_and_old_pythons_can_read_it(
    argv: tuple[str, ...],
) -> None:
    """Some proxies in front of an API server allow 8 kB; RHEL 8 has Python 3.6."""
    assert len(quote(argv[4])) < 7_300
    ast.parse(argv[4], feature_version=(3, 6))
