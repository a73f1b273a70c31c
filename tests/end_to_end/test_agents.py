"""Ray across nodes: agents that see their own node's databases only, and one that is killed."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from audit.facts import openflow
from audit.replay import databases, datapath
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.end_to_end.conftest import run_of

pytestmark = [pytest.mark.ovn, pytest.mark.ray]

NODES = ("ovn-worker", "ovn-worker2")
GONE = "ovn-control-plane"
COVER = ("--planes", "logical", "--cover", "exhaustive")
PLANES = ("--planes", "logical,datapath")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def two_nodes(example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_the_third(example_snapshot, tmp_path_factory.mktemp("cluster") / "snapshot")


def without_the_third(example_snapshot: Path, snapshot: Path) -> Path:
    """Unpack the example without its third node and the pods there."""
    with tarfile.open(example_snapshot) as archive:
        members = [m for m in archive.getmembers() if not m.name.startswith(f"ovn/{GONE}")]
        extract(archive, snapshot, members)
    for name, node in (("pods", "spec.nodeName"), ("nodes", "metadata.name")):
        path = snapshot / "kube" / f"{name}.json"
        listed = json.loads(path.read_text())
        part, key = node.split(".")
        listed["items"] = [o for o in listed["items"] if o[part].get(key) != GONE]
        path.write_text(json.dumps(listed))
    return snapshot


@dataclass(kw_only=True)
class Cluster:
    """Each node's database servers, the agents started on them, and what runs them all."""

    sockets: dict[str, Path]
    home: Path
    token: Path
    port: int = field(default_factory=free_port)
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        # Sockets of Ray are below its temporary directory; their paths must be short.
        own = {"RAY_AUTH_TOKEN_PATH": str(self.token), "TMPDIR": str(self.home)}
        return {**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")}, **own}

    def start(self, node: str) -> None:
        """Start a node's agent, in a mount namespace where other nodes' sockets are not."""
        hidden = [path for other, path in self.sockets.items() if other != node]
        hide = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
        agent = (
            *(sys.executable, "-m", "audit", "agent", "--node", node),
            *("--address", f"127.0.0.1:{self.port}", "--ovn-rundir", str(self.sockets[node])),
            *("--ovs-rundir", str(self.sockets[node])),
        )
        with (self.home / f"{node}.log").open("ab") as log:
            self.agents[node] = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh", *agent],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_all(self) -> None:
        """Start an agent per node; one that fails is started again, as a kubelet would."""
        for node in self.sockets:
            log = self.home / f"{node}.log"
            for _ in range(3):
                before = log.stat().st_size if log.exists() else 0
                self.start(node)
                while self.agents[node].poll() is None:
                    if "Ray runtime started" in log.read_text()[before:]:
                        break
                    time.sleep(0.1)
                else:
                    continue
                break

    def run(self, out: Path, *flags: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "audit", "run"),
                *("--workers", "agents", "--agents-listen", f"127.0.0.1:{self.port}"),
                *("--agents-wait", "200", "--out", str(out), "-o", "json", *map(str, flags)),
            ],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """End the agents as a kubelet does; nothing of them may be left."""
        for agent in self.agents.values():
            agent.terminate()
        for agent in self.agents.values():
            agent.wait(60)
            assert not list(session_of(agent.pid))
        assert [path.name for path in self.home.iterdir() if path.is_dir()] == []
        self.stop()

    def stop(self) -> None:
        for agent in self.agents.values():
            kill_session(agent.pid)
            agent.wait()
        self.agents.clear()
        self.port = free_port()

    def said(self) -> str:
        return "\n".join(log.read_text()[-2000:] for log in self.home.glob("*.log"))


def kill_session(leader: int) -> None:
    """Kill an agent and all that it started: what a node takes with it when it goes."""
    for process in session_of(leader):
        os.kill(process, signal.SIGKILL)


def session_of(leader: int) -> Iterator[int]:
    """Yield what an agent started, and itself."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":  # ended, and nobody has asked how
            yield int(place.name)


@pytest.fixture(scope="module")
def cluster(
    two_nodes: Path, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with serving(two_nodes, toolchain, tmp_path_factory.mktemp("n")) as made:
        yield made


@contextmanager
def serving(two_nodes: Path, toolchain: Toolchain, below: Path) -> Iterator[Cluster]:
    """Serve each node's databases, and its switch, as that node does."""
    with ExitStack() as stack:
        sockets = {}
        for node in NODES:
            sockets[node] = below / node[-4:]
            sockets[node].mkdir()
            for name in ("nb", "sb"):
                place = sockets[node] / name
                place.mkdir()
                source = two_nodes / "ovn" / node / f"{name}.db"
                served = stack.enter_context(databases.serve(toolchain, source, place))
                (sockets[node] / f"ovn{name}_db.sock").symlink_to(served)
            stack.enter_context(own_switch(toolchain, two_nodes / "ovn" / node, sockets[node]))
        home = Path(stack.enter_context(short_directory()))
        token = home / "token"
        token.write_text(secrets.token_hex(32))
        made = Cluster(sockets=sockets, home=home, token=token)
        stack.callback(made.stop)
        yield made


@contextmanager
def own_switch(programs: Toolchain, recorded: Path, place: Path) -> Iterator[None]:
    """Run a node's switch below the directory of its sockets, and name them as a node does."""
    reader = databases.OvsdbTool(programs=programs)
    chassis = openflow.read_chassis(reader, recorded.name, recorded / "sb.db")
    southbound = {recorded.name: place / "ovnsb_db.sock"}
    with datapath.replay(programs, chassis, southbound, place / "d") as running:
        [switch] = running.switches.values()
        (place / "ovs-vswitchd.pid").write_text("7\n")
        (place / "ovs-vswitchd.7.ctl").symlink_to(switch.vswitchd)
        for name in ("db.sock", "br-int.mgmt"):
            (place / name).symlink_to(switch.vswitchd.with_name(name))
        yield


def short_directory() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="ar-", ignore_cleanup_errors=True)


def cells(run: Path) -> list[tuple[object, ...]]:
    columns = "src_namespace, src_name, dst_namespace, dst_name, family, protocol, port"
    more = "verdict, reason, src_node, dst_node, blame_name, trace_id, logical, datapath, drift"
    return rows(f"select {columns}, {more} from '{run}/cells/*.parquet' order by all")


def rows(query: str) -> list[tuple[object, ...]]:
    found = duckdb.sql(query)
    assert found is not None
    return found.fetchall()


def finished(process: subprocess.Popen[str], cluster: Cluster, code: int) -> Path:
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, (
        f"{process.returncode}: {out[-3000:]}\n{err[-3000:]}\n{cluster.said()}"
    )
    return Path(json.loads(out)["path"])


def test_agents_answer_as_this_machine_does_and_one_that_is_killed_takes_its_node_only(
    cluster: Cluster, two_nodes: Path, audit_command: tuple[str, ...], tmp_path: Path
) -> None:
    both = run_of(audit_command, tmp_path / "both", two_nodes, *PLANES)
    expected = cells(run_of(audit_command, tmp_path / "alone", two_nodes, *COVER))

    run = cluster.run(tmp_path / "runs", "--snapshot", two_nodes, *PLANES)
    cluster.start_all()
    done = finished(run, cluster, 0)
    assert cells(done) == cells(both)
    assert json.loads((done / "run.json").read_text())["datapath"]["place"] == "the nodes' own"
    cluster.end()

    run = cluster.run(tmp_path / "lost", "--snapshot", two_nodes, *COVER)
    cluster.start_all()
    victim = NODES[1]
    await_traces(tmp_path / "lost", victim, run)
    kill_session(cluster.agents[victim].pid)
    left = finished(run, cluster, 3)
    found = cells(left)
    assert len(found) == len(expected)
    lost = [(now, then) for now, then in zip(found, expected, strict=True) if now != then]
    assert lost
    for now, then in lost:
        assert now[:7] == then[:7]
        assert victim in (now[9], now[10]), now
        assert (now[7], now[8]) == ("untraced", "worker-lost")
    zones = rows(
        f"select zone, reason = 'worker-lost', count(*), any_value(detail) "
        f"from '{left}/traces/*.parquet' group by all"
    )
    lost_of = {zone for zone, is_lost, *_ in zones if is_lost}
    assert lost_of == {victim}
    said = {detail for _, is_lost, _, detail in zones if is_lost}
    assert all("agent" in str(text) and victim in str(text) for text in said), said
    assert (victim, False) in {(zone, is_lost) for zone, is_lost, *_ in zones}, "killed mid-run"
    cluster.stop()

    run = cluster.run(tmp_path / "lost", "--resume", left)
    cluster.start_all()
    whole = finished(run, cluster, 0)
    assert cells(whole) == expected
    resumed = json.loads((whole / "run.json").read_text())["resumed"]
    assert (
        resumed["traces_kept"]
        == rows(f"select count(*) from '{left}/traces/*.parquet' where reason != 'worker-lost'")[0][
            0
        ]
    )


def await_traces(root: Path, zone: str, run: subprocess.Popen[str]) -> None:
    """Return when the first traces of a zone are on disk."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and run.poll() is None:
        for file in root.glob("*/traces/*.parquet"):
            if rows(f"select 1 from '{file}' where zone = '{zone}' limit 1"):
                return
        time.sleep(0.05)
    run.kill()
    pytest.fail(f"no trace of {zone} was written: {run.communicate()[1][-3000:]}")
