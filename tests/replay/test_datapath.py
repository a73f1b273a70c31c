"""Open vSwitches made again from a database: what is in them, and that nothing of them stays."""

import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from audit.errors import EngineError
from audit.facts import openflow
from audit.model.datapath import Chassis, Switch, Vif
from audit.replay import databases, datapath
from audit.replay.toolchain import Toolchain
from audit.trace import ofproto_tree
from audit.trace.unixctl import Unixctl
from tests.conftest import REPOSITORY
from tests.trace.recorded_datapath import CLUSTERS, Recorded, recorded

pytestmark = pytest.mark.ovn

SNAPSHOTS = {
    "ovn-25.03-interconnect": REPOSITORY / "examples" / "interconnect.tar.gz",
    "ovn-23.03-central": REPOSITORY / "tests" / "data" / "ovn-23.03-central.tar.xz",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A recorded cluster's staged southbound databases by zone, and its chassis."""

    databases: Mapping[str, Path]
    chassis: tuple[Chassis, ...]
    engine: Toolchain


@pytest.fixture(scope="module")
def cluster(
    toolchain: Toolchain, example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory
) -> Cluster:
    return opened(toolchain, example_snapshot, tmp_path_factory.mktemp("cluster"))


def opened(toolchain: Toolchain, snapshot: Path, root: Path) -> Cluster:
    """Unpack a snapshot and read its chassis."""
    subprocess.run(["tar", "-xf", snapshot, "-C", root], check=True)
    tool = databases.OvsdbTool(programs=toolchain)
    staged: dict[str, Path] = {}
    chassis: list[Chassis] = []
    for southbound in sorted(root.rglob("sb.db")):
        zone = southbound.parent.name
        staged[zone] = root / f"{zone}.db"
        tool.stage(southbound, staged[zone])
        chassis += openflow.read_chassis(tool, zone, staged[zone])
    return Cluster(databases=staged, chassis=tuple(chassis), engine=toolchain)


@contextmanager
def replayed(cluster: Cluster, chassis: tuple[Chassis, ...]) -> Iterator[Mapping[str, Switch]]:
    """Serve the databases and run the switches of these chassis."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-t-")))
        sockets = {}
        for number, (zone, database) in enumerate(cluster.databases.items()):
            place = root / str(number)
            place.mkdir()
            served = databases.serve(cluster.engine, database, place)
            sockets[zone] = stack.enter_context(served)
        running = datapath.replay(cluster.engine, chassis, sockets, root / "d")
        yield stack.enter_context(running).switches


@pytest.fixture(scope="module")
def switches(cluster: Cluster) -> Iterator[Mapping[str, Switch]]:
    with replayed(cluster, cluster.chassis) as running:
        yield running


def test_every_chassis_is_there_with_its_ports(
    cluster: Cluster, switches: Mapping[str, Switch]
) -> None:
    assert set(switches) == {"ovn-control-plane", "ovn-worker", "ovn-worker2"}
    addresses = {one.name: one.address for one in cluster.chassis}
    for switch in switches.values():
        assert set(switch.vifs) == {vif.port for vif in switch.chassis.vifs}
        assert f"k8s-{switch.node}" in switch.vifs
        assert set(switch.localnets) == {f"breth0_{switch.node}"}
        others = {name: ip for name, ip in addresses.items() if name != switch.chassis.name}
        assert switch.encaps == others
        assert set(switch.tunnels) == set(others)


def flow_of(one: Recorded, switch: Switch) -> str:
    """Return a recorded packet, entering by the interface that stands for the recorded one."""
    if one.leg == "source":
        name = switch.vifs[one.src].name
    else:
        words = dict(word.strip().partition("=")[::2] for word in one.flow.split(","))
        name = next(
            switch.tunnels[chassis].name
            for chassis, remote in switch.encaps.items()
            if remote == words["tun_src"]
        )
    return re.sub(r"in_port=[^,]+", f"in_port={name}", one.flow)


def way(output: str) -> list[tuple[int, int]]:
    """Return the flows a packet matched, in order, as far as rows of the database made them.

    Tables are left out: their numbers move between versions of ovn-controller.
    """
    return [
        (step.priority, step.cookie)
        for section in ofproto_tree.parse(output)
        for step in section.steps
        if isinstance(step, ofproto_tree.Table) and step.cookie
    ]


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_recorded_trace_takes_the_same_flows_to_the_same_end(
    name: str, toolchain: Toolchain, tmp_path: Path
) -> None:
    """Recorded on other switches, the central cluster's by OVN 23.03 and Open vSwitch 3.1."""
    snapshot = SNAPSHOTS[name]
    cluster = opened(toolchain, snapshot, tmp_path)
    compared = 0
    with ExitStack() as stack:
        switches = stack.enter_context(replayed(cluster, cluster.chassis))
        sockets = {
            node: stack.enter_context(Unixctl(switch.vswitchd, timeout_s=30))
            for node, switch in switches.items()
        }
        for one in recorded(name):
            switch = switches[one.node]
            states = [word for state in one.states for word in ("--ct-next", state)]
            output = sockets[one.node].transact(
                "ofproto/trace", "br-int", flow_of(one, switch), *states
            )
            assert way(output) == way(one.output), one
            leaves = "output to kernel tunnel" in one.output
            assert ("output to kernel tunnel" in output) is leaves
            if one.states and not leaves:
                port = switch.vifs.get(one.dst)
                arrives = port is not None and f"output:{port.number}\n" in output
                assert arrives is one.delivered, one
            compared += 1
    assert compared == 150


def test_a_node_that_cannot_be_run_says_why_and_the_others_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    first, second, third = cluster.chassis
    with tempfile.TemporaryDirectory(prefix="audit-f-") as root:
        place = Path(root) / "z"
        place.mkdir()
        chassis = (
            replace(first, bridges=(("physnet", "no\0bridge"),)),
            replace(second, zone="nowhere"),
            third,
        )
        with databases.serve(cluster.engine, cluster.databases[third.zone], place) as served:
            sockets = {third.zone: served, first.zone: served, "nowhere": tmp_path / "no.sock"}
            replayed = datapath.replay(cluster.engine, chassis, sockets, Path(root) / "d")
            with replayed as running:
                assert set(running.switches) == {third.node}
                assert running.switches[third.node].vifs
                assert running.failures[first.node].startswith("its database cannot be made: ")
                assert "no.sock" in running.failures[second.node]
                left = " ".join(processes(root))
                assert "/n2/" in left
                assert "/n0/" not in left
                assert "/n1/" not in left
        assert not processes(root)


def test_a_controller_that_never_confirms_is_given_up_when_time_is_up(cluster: Cluster) -> None:
    """Without a tunnel address ovn-controller does not register its chassis (ovn-controller(8))."""
    one = replace(cluster.chassis[0], address="")
    with tempfile.TemporaryDirectory(prefix="audit-f-") as root:
        place = Path(root) / "z"
        place.mkdir()
        with (
            databases.serve(cluster.engine, cluster.databases[one.zone], place) as served,
            datapath.replay(
                cluster.engine, (one,), {one.zone: served}, Path(root) / "d", timeout_s=2
            ) as replayed,
        ):
            assert not replayed.switches
            assert replayed.failures == {one.node: "its flows were not installed in time"}
            assert not processes(f"{root}/d")


def test_a_directory_too_deep_for_sockets_is_said_at_once(cluster: Cluster, tmp_path: Path) -> None:
    first = cluster.chassis[0]
    nowhere = {first.zone: tmp_path / "nowhere.sock"}
    with (
        pytest.raises(EngineError, match="too long for the path of a Unix socket"),
        datapath.replay(cluster.engine, (first,), nowhere, tmp_path / ("x" * 120)),
    ):
        pass


def test_names_and_numbers_of_ports_do_not_matter(cluster: Cluster) -> None:
    """Pods of a namespace `k8s-…`, hundreds of them, bridges of one long prefix, and a bridge that
    has the name an interface would: all are names that clusters give."""
    [own] = [one for one in cluster.chassis if one.node == "ovn-worker"]
    more = tuple(Vif(port=f"k8s-{number:03}_{'x' * 200}") for number in range(400))
    bridges = (("physnet", "breth0"), ("one", "br-external-net1"), ("two", "br-external-net2"))
    odd = replace(own, vifs=(*own.vifs, *more), bridges=(*bridges, ("three", "if3")))
    with replayed(cluster, (odd,)) as running:
        switch = running[own.node]
        assert {vif.port for vif in odd.vifs} == set(switch.vifs) == set(switch.captures)
        names = [port.name for port in switch.vifs.values()]
        assert len(set(names)) == len(odd.vifs)
        assert set(switch.localnets) == set(switch.wires) == {f"breth0_{own.node}"}


HOLD = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from audit.facts import openflow
    from audit.replay import databases, datapath, toolchain

    engine = max(toolchain.find(), key=lambda found: found.version)
    database, root = Path(sys.argv[1]), Path(sys.argv[2])
    chassis = openflow.read_chassis(databases.OvsdbTool(programs=engine), "z", database)
    with databases.serve(engine, database, root) as socket:
        with datapath.replay(engine, chassis, {"z": socket}, root / "d"):
            print("running", flush=True)
            time.sleep(600)
    """)


def processes(mark: str) -> list[str]:
    """Return the commands of the running processes that name `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in command and "pytest" not in command:
            found.append(command)
    return found


def test_nothing_stays_when_the_process_is_killed(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory(prefix="audit-k-") as root:
        database = next(iter(cluster.databases.values()))
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, database, root], stdout=subprocess.PIPE, text=True
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "running\n"
            daemons = " ".join(processes(f"{root}/d"))
            for program in ("ovsdb-server", "ovs-vswitchd", "ovn-controller"):
                assert program in daemons
            holder.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while processes(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes(root)


def test_a_daemon_that_dies_takes_its_node_along(cluster: Cluster) -> None:
    with replayed(cluster, cluster.chassis[:1]) as running:
        [switch] = running.values()
        with Unixctl(switch.controller, timeout_s=10) as controller:
            controller.transact("exit")
        deadline = time.monotonic() + 10
        while processes(str(switch.vswitchd)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes(f"unix:{switch.database}")
