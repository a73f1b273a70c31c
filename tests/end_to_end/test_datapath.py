"""The datapath plane on replayed clusters: whole, and with a fault in one node's flows.

Faults are made in the running switches, which is where a cluster has them: the databases, and so
the logical plane, know nothing of them.
"""

import html
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from audit.cli import progress
from audit.commands import run as command
from audit.commands.explain import explain
from audit.cover import requests
from audit.errors import ExitCode
from audit.model.datapath import Chassis, Switch
from audit.model.endpoints import Attachment
from audit.model.options import PlaneName
from audit.model.packets import Family
from audit.model.traces import DatapathTask, DatapathTrace, TraceBatch
from audit.replay import datapath as replay
from audit.replay.toolchain import Toolchain
from audit.scope import scope
from audit.trace.packets import PacketProbe
from audit.tracing import planes, switches
from audit.tracing.options import Options, Progress
from audit.tracing.plan import Planned, plan
from audit.tracing.switches import Running, Start
from tests.end_to_end.test_cover import DATA, EXAMPLE

pytestmark = pytest.mark.ovn

BOTH = frozenset({PlaneName.LOGICAL, PlaneName.DATAPATH})
Break = Callable[[Planned, Running], Running]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run on disk."""

    path: Path
    said: Any
    code: ExitCode

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        cells = f"read_parquet('{self.path}/cells/*.parquet')"
        return duckdb.execute(query.replace("cells", cells)).fetchall()

    @property
    def drift(self) -> Any:
        return self.said["drift"]

    def drifting(self, columns: str) -> set[tuple[Any, ...]]:
        """Return what these columns say of the cells that drift."""
        return set(self.rows(f"select {columns} from cells where drift"))


def run(
    root: Path,
    asked: scope.Scope,
    *,
    broken: Break | None = None,
    start: Start | None = None,
    snapshot: Path = EXAMPLE,
    **options: Any,
) -> Ran:
    """Run both planes over a recorded cluster, its switches broken by `broken` first."""

    def replayed(planned: Planned, told: Progress, stack: ExitStack) -> Running:
        running = switches.replayed(planned, told, stack)
        return running if broken is None else broken(planned, running)

    done = command.run(
        Options(snapshot=snapshot, scope=asked, planes=BOTH, **options),
        root,
        progress.Silent(),
        start=start or replayed,
    )
    return Ran(path=done.path, said=done.manifest, code=done.exit_code)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return a run of both planes over the whole example, with packets."""
    return run(tmp_path_factory.mktemp("whole"), scope.Scope(), verify_packets=10_000)


def test_on_an_intact_cluster_both_planes_prove_the_same_of_every_cell(whole: Ran) -> None:
    undecided = whole.rows(
        "select count(*) from cells where logical is distinct from datapath or drift"
    )
    decided = whole.rows("select count(*) from cells where datapath in ('reachable', 'blocked')")
    assert undecided == [(0,)]
    assert decided[0][0] > 2_000
    assert whole.drift["cells"] == 0
    assert whole.drift["of"] == whole.said["coverage"]["proven"]
    assert whole.code is ExitCode.CLEAN
    assert whole.said["datapath"]["place"] == "replayed here"


def test_real_packets_do_what_was_traced_in_every_cell_of_one_node(whole: Ran) -> None:
    on_switch = (
        f"(select namespace || '/' || name from '{whole.path}/endpoints.parquet' "
        "where kind = 'pod' and not host_network)"
    )
    sendable = whole.rows(
        "select count(*) from cells where src_node = dst_node and protocol in ('tcp', 'udp') "
        f"and src_namespace || '/' || src_name in {on_switch} "
        f"and dst_namespace || '/' || dst_name in {on_switch}"
    )
    assert whole.said["packets"]["disagreements"] == []
    assert whole.said["packets"]["agree"] == whole.said["packets"]["of"] == sendable[0][0] > 500


def test_every_node_was_asked_and_both_legs_of_a_packet(whole: Ran) -> None:
    received = "count(*) filter (microflow like '%tun_id=%')"
    rows = duckdb.execute(
        f"select node, {received} from read_parquet('{whole.path}/traces/*.parquet') "
        "where plane = 'datapath' group by 1"
    ).fetchall()
    assert {node for node, _ in rows} == {"ovn-control-plane", "ovn-worker", "ovn-worker2"}
    assert all(count > 50 for _, count in rows)


def appctl(engine: Toolchain, socket: Path, *arguments: str) -> str:
    argv = engine.argv("ovs-appctl", "-t", str(socket), *arguments)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def ofctl(engine: Toolchain, switch: Switch, command: str, *arguments: str) -> str:
    socket = f"unix:{switch.vswitchd.with_name('br-int.mgmt')}"
    argv = engine.argv("ovs-ofctl", "-O", "OpenFlow15", command, socket, *arguments)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def attached(planned: Planned, namespace: str, name: str) -> Attachment:
    found = next(
        pod.attachment
        for pod in planned.state.pods
        if (pod.namespace, pod.name) == (namespace, name)
    )
    assert found is not None
    return found


def as_it_is_now(planned: Planned, running: Running) -> Running:
    """Return the switches with the ports they have after something was changed."""
    switches_now = {
        node: replay.interfaces(planned.engine, switch) for node, switch in running.switches.items()
    }
    return replace(running, switches=switches_now)


def confirm(planned: Planned, running: Running, *nodes: str) -> None:
    """Wait until the nodes' controllers have done what their databases say."""
    for _ in range(3):
        for node in nodes:
            switch = running.switches[node]
            replay.confirm(planned.engine, [switch], running.southbound[switch.chassis.zone])


DEFAULT = scope.from_flags(ports=("tcp/80",), to_namespaces=("default",))


def test_a_flow_deleted_on_one_node(tmp_path: Path) -> None:
    def broken(planned: Planned, running: Running) -> Running:
        # How the node's switch finds one of its pods: by its MAC, in ls_in_l2_lkup.
        switch = running.switches["ovn-worker"]
        gone = f"table=36,dl_dst={attached(planned, 'default', 'client-1').mac}"
        assert ofctl(planned.engine, switch, "dump-flows", gone).count("cookie=") == 1
        ofctl(planned.engine, switch, "del-flows", gone)
        return running

    ran = run(tmp_path, DEFAULT, broken=broken)
    assert ran.code is ExitCode.FINDINGS
    assert set(ran.drift["nodes"]) == {"ovn-worker"}
    assert ran.drifting("dst_name") == {("client-1",)}
    assert ran.drifting("datapath") == {("unroutable",)}
    assert ran.drift["cells"] > 30
    # Both sides are in the report, and hop by hop in the explanation of a cell.
    found = [one for one in ran.said["findings"] if one["kind"] == "datapath-drift"]
    assert "by the datapath of node ovn-worker unroutable" in found[0]["text"]
    assert sum(one["cells"] for one in found) == ran.drift["cells"]
    assert found[0]["text"] in html.unescape((ran.path / "report.html").read_text())
    told = explain(
        ran.path, "infra/node-exporter-1", "default/client-1", "80", family=None, raw=False
    )
    assert "Planes   logical reachable, datapath unroutable (drift" in told.text
    assert "Request, logical plane" in told.text
    assert "Request, datapath plane" in told.text
    assert "node ovn-worker: unroutable" in told.text
    assert (told.fields["logical"], told.fields["drift"]) == ("reachable", True)
    assert {trace["plane"] for trace in told.fields["traces"]} == {"logical", "datapath"}
    # What does not drift was stopped before it came there.
    before = "dst_name = 'client-1' and not drift"
    assert set(ran.rows(f"select logical, datapath from cells where {before}")) == {
        ("blocked", "blocked")
    }


def test_an_address_that_a_conjunction_lacks_on_one_node(tmp_path: Path) -> None:
    def broken(planned: Planned, running: Running) -> Running:
        switch = running.switches["ovn-worker"]
        source = attached(planned, "back", "api-0").addresses[0]
        key = planned.state.zones["ovn-worker"].ports["data_cache-0"].tunnel_key
        member = f"table=51,ip,reg15={key:#x},nw_src={source}"
        found = ofctl(planned.engine, switch, "dump-flows").splitlines()
        clauses = [f for f in found if f"nw_src={source} " in f and "conjunction(" in f]
        assert clauses
        ofctl(planned.engine, switch, "del-flows", member)
        return running

    asked = scope.from_flags(ports=("tcp/8080",), to_namespaces=("data",))
    ran = run(tmp_path, asked, broken=broken, snapshot=DATA / "upgrade-after.tar.xz")
    assert ran.code is ExitCode.FINDINGS
    assert set(ran.drift["nodes"]) == {"ovn-worker"}
    assert ran.drifting("src_name, dst_name, logical, datapath") == {
        ("api-0", "cache-0", "reachable", "blocked")
    }


def test_a_node_whose_controller_stopped_before_a_policy_came(tmp_path: Path) -> None:
    def broken(planned: Planned, running: Running) -> Running:
        zone = planned.state.zones["ovn-worker"]
        denies = {
            acl.uuid[:8]
            for acls in zone.acls.values()
            for acl in acls
            if acl.namespace_default == "default" and acl.policy_direction == "ingress"
        }
        uuids = [
            hint.uuid for hints in zone.flow_hints.values() for hint in hints if hint.hint in denies
        ]
        assert uuids
        put_back = _without(planned, running, "ovn-worker", uuids)
        confirm(planned, running, "ovn-worker")
        appctl(planned.engine, running.switches["ovn-worker"].controller, "debug/pause")
        put_back()
        return running

    ran = run(tmp_path, DEFAULT, broken=broken)
    assert ran.code is ExitCode.FINDINGS
    assert set(ran.drift["nodes"]) == {"ovn-worker"}
    assert ran.drifting("dst_node, logical, datapath") == {("ovn-worker", "blocked", "reachable")}
    said = ran.drift["disagreements"][0]
    assert "networkpolicy default/deny-by-default ingress" in said
    assert "node ovn-worker" in said
    assert {(*about[3:],) for about in ran.drift["about"]} == {("blocked", "reachable")}


def _without(
    planned: Planned, running: Running, zone: str, uuids: Sequence[str]
) -> Callable[[], None]:
    """Take logical flows out of a served database; return what puts them back."""
    where = [["_uuid", "==", ["uuid", uuid]] for uuid in uuids]
    socket = running.southbound[zone]

    def transact(operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return replay.transact(planned.engine, socket, "OVN_Southbound", operations, timeout_s=30)

    table = {"table": "Logical_Flow"}
    rows = [
        r["rows"][0] for r in transact([{"op": "select", "where": [w], **table} for w in where])
    ]
    transact([{"op": "delete", "where": [w], **table} for w in where])
    inserts = [
        {
            "op": "insert",
            "uuid": row["_uuid"][1],
            "row": {name: value for name, value in row.items() if not name.startswith("_")},
            **table,
        }
        for row in rows
    ]

    def put_back() -> None:
        transact(inserts)

    return put_back


@pytest.mark.parametrize("each", [True, False], ids=["each cell", "legs per node"])
def test_a_pod_whose_port_is_not_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, each: bool
) -> None:
    """Where legs decide, the traces of one pod contradict those of its class: all are traced."""
    monkeypatch.setattr(planes, "MOST_CELLS_EACH", 4_000 if each else 0)

    def broken(planned: Planned, running: Running) -> Running:
        switch = running.switches["ovn-worker2"]
        name = switch.vifs["default_client-2"].name
        unbind = {
            "op": "mutate",
            "table": "Interface",
            "where": [["name", "==", name]],
            "mutations": [["external_ids", "delete", ["set", ["iface-id"]]]],
        }
        replay.transact(planned.engine, switch.database, "Open_vSwitch", [unbind], timeout_s=30)
        confirm(planned, running, "ovn-worker2")
        return as_it_is_now(planned, running)

    asked = scope.from_flags(ports=("tcp/80",), namespaces=("default",))
    ran = run(tmp_path, asked, broken=broken)
    assert ran.code is ExitCode.FINDINGS
    assert set(ran.drift["nodes"]) == {"ovn-worker2"}
    assert ran.drifting("datapath, reason") == {("unroutable", "port-not-bound")}
    ends = {end for pair in ran.drifting("src_name, dst_name") for end in pair}
    others = {"client-0", "client-1", "web-0", "web-1", "web-2"}
    assert ends == {"client-2", *others}
    assert ran.drift["cells"] == 2 * len(others)


def test_a_wrong_tunnel_address(tmp_path: Path) -> None:
    def broken(planned: Planned, running: Running) -> Running:
        wrong = {
            "op": "update",
            "table": "Encap",
            "where": [["ip", "==", "172.18.0.4"]],
            "row": {"ip": "172.18.0.99"},
        }
        socket = running.southbound["ovn-worker"]
        replay.transact(planned.engine, socket, "OVN_Southbound", [wrong], timeout_s=30)
        confirm(planned, running, "ovn-worker")
        return as_it_is_now(planned, running)

    asked = scope.from_flags(ports=("tcp/80",), namespaces=("infra", "tenant-a"))
    ran = run(tmp_path, asked, broken=broken)
    assert ran.code is ExitCode.FINDINGS
    assert set(ran.drift["nodes"]) == {"ovn-worker"}
    assert ran.drifting("src_node, dst_node") == {
        ("ovn-worker", "ovn-worker2"),
        ("ovn-worker2", "ovn-worker"),
    }
    assert ran.drifting("reason") == {("tunnel-astray",), ("port-not-bound",)}
    assert any("172.18.0.99" in said for said in ran.drift["disagreements"])


def cpu_seconds(mark: str) -> float:
    """Return the CPU time of ovs-vswitchd with this socket (proc_pid_stat(5), utime and stime)."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes()
            stat = (path / "stat").read_text()
        except OSError:
            continue
        if f"--unixctl={mark}\0".encode() in command and b"keeper.py" not in command:
            times = stat.rpartition(")")[2].split()
            return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError(f"no process has {mark}")


def test_a_core_does_three_hundred_traces_a_second() -> None:
    """Counted by CPU time, ours and the switch's: how busy the machine is does not matter."""
    asked = Options(snapshot=EXAMPLE, scope=scope.Scope(), planes=BOTH)
    silent = progress.Silent()
    with ExitStack() as stack:
        planned = plan(asked, silent, stack)
        running = switches.replayed(planned, silent, stack)
        covered = planes.datapath(planned, running.chassis).cover
        tracer = stack.enter_context(running.tracers(planned, 30)())
        node = "ovn-worker"
        tasks = tuple(t for t in covered.tasks if isinstance(t, DatapathTask) and t.node == node)
        assert len(tasks) > 500
        list(tracer.run(TraceBatch(zone=node, tasks=tasks[:1])))  # what is read once is read now
        socket = str(running.switches[node].vswitchd)
        rates = []
        for _ in range(3):  # CPU time grows too when others use the same caches
            began, theirs = time.process_time(), cpu_seconds(socket)
            outcomes = [*tracer.run(TraceBatch(zone=node, tasks=tasks))]
            spent = time.process_time() - began + cpu_seconds(socket) - theirs
            assert all(isinstance(outcome, DatapathTrace) for outcome in outcomes)
            rates.append(len(tasks) / spent)
    assert max(rates) > 300


def test_node_ports_are_decided_and_real_packets_from_outside_agree(tmp_path: Path) -> None:
    """ovn-trace cannot follow them: it stops at the gateway router's ct_snat."""
    nodes = ("ovn-control-plane", "ovn-worker", "ovn-worker2")
    ports = ("tcp/30080", "tcp/30081", "tcp/30082", "tcp/30090")
    asked = scope.from_flags(from_ips=("192.0.2.1",), to_nodes=nodes, ports=ports)
    came: dict[tuple[str, int], frozenset[str]] = {}

    def sent(planned: Planned, running: Running) -> Running:
        of = planned.matrix
        with ExitStack() as stack:
            probes = {
                node: stack.enter_context(PacketProbe(switch))
                for node, switch in running.switches.items()
            }
            for cell in range(len(of)):
                src, dst = of.endpoints[of.src[cell]], of.endpoints[of.dst[cell]]
                if src.node != dst.node:
                    continue
                port = of.ports[of.port[cell]]
                flow = requests.request_for(src, dst, Family.IP4, port).microflow
                # A backend is drawn by the packet's hash: on this node or, unseen, on another.
                sent = [
                    probes[src.node].send(replace(flow, src_port=number))
                    for number in range(40_000, 40_024)
                ]
                found = {departure.port for left in sent for departure in left}
                came[src.node, port.number] = frozenset(found - {""})
        return running

    ran = run(tmp_path, asked, broken=sent, snapshot=DATA / "services-egressip.tar.xz")
    rows = ran.rows("select src_node, port, logical, datapath from cells where src_node = dst_node")
    assert len(rows) == len(came) == len(nodes) * len(ports)
    for node, port, logical, verdict in rows:
        assert logical == "inconclusive"
        assert verdict in ("reachable", "blocked", "unroutable")
        assert (verdict == "reachable") is bool(came[node, port]), (node, port)
    assert {verdict for _, _, _, verdict in rows} == {"reachable", "blocked", "unroutable"}
    assert ran.code is ExitCode.CLEAN


def test_both_families_and_sctp_come_out_alike_on_both_planes(tmp_path: Path) -> None:
    flags = scope.from_flags(
        namespaces=("infra", "openshift-dns", "tenant-a"),
        ports=("sctp/7777", "tcp/8080"),
        family="both",
    )
    ran = run(tmp_path, flags)
    decided = ran.rows(
        "select family, protocol, count(*) filter (datapath = 'reachable'), "
        "count(*) filter (datapath = 'blocked') from cells group by all"
    )
    assert len(decided) == 4
    assert all(passed + stopped > 30 and stopped for _, _, passed, stopped in decided)
    assert all(passed + stopped > 20 for _, _, passed, stopped in decided)
    assert any(passed for _, _, passed, _ in decided)
    assert ran.rows("select count(*) from cells where logical is distinct from datapath") == [(0,)]


def test_a_node_without_its_switch_leaves_its_cells_to_the_logical_plane(tmp_path: Path) -> None:
    """The node's switch cannot be made; the others run, and so does the audit."""

    def start(planned: Planned, _: Progress, stack: ExitStack) -> Running:
        chassis = switches.chassis_of(planned)
        wanted = [
            replace(one, bridges=(("physnet", "no\0bridge"),)) if one.node == "ovn-worker" else one
            for one in chassis
        ]
        return switches.started(planned, chassis, wanted, stack)

    ran = run(tmp_path, DEFAULT, start=start)
    assert ran.code is ExitCode.INCOMPLETE
    assert ran.drift["cells"] == 0
    untraced = ran.rows(
        "select distinct src_node = 'ovn-worker' or dst_node = 'ovn-worker' "
        "from cells where datapath = 'untraced'"
    )
    assert untraced == [(True,)]
    alone = ran.rows("select count(*) from cells where datapath = 'untraced' and drift is null")
    decided = ran.rows("select count(*) from cells where verdict != logical")
    there = ran.rows("select count(*) from cells where datapath = logical and not drift")
    assert alone[0][0] > 50
    assert there[0][0] > 50
    assert decided == [(0,)]
    notes = {note["code"]: note for note in ran.said["notes"]}
    assert "node-missing (" in notes["datapath-unproven"]["text"]
    said = notes["node-untraceable"]
    assert said["subjects"] == ["ovn-worker"]
    assert "ovn-worker could not be made again: its database cannot be made" in said["text"]


def test_a_node_without_a_chassis_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    everyone = switches.chassis_of

    def all_but_one(planned: Planned) -> tuple[Chassis, ...]:
        return tuple(one for one in everyone(planned) if one.node != "ovn-worker2")

    monkeypatch.setattr(switches, "chassis_of", all_but_one)
    ran = run(tmp_path, scope.from_flags(ports=("tcp/80",), namespaces=("default",)))
    assert ran.code is ExitCode.INCOMPLETE
    [note] = [note for note in ran.said["notes"] if note["code"] == "node-untraceable"]
    assert note["subjects"] == ["ovn-worker2"]
    assert "has no chassis of it with a tunnel address" in note["text"]
    assert ran.rows("select count(*) > 5 from cells where datapath = logical and not drift") == [
        (True,)
    ]
