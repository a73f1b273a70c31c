"""Pods, nodes and gateways joined with the databases; what does not join is said."""

import dataclasses
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from audit.errors import DatabaseError, SnapshotError
from audit.facts import assemble, objects
from audit.facts.kube import NodeFacts
from audit.facts.topology import OUTSIDE_MAC, Topology
from audit.model.endpoints import EndpointKind, Port
from audit.model.facts import ClusterState, LogicalPort, Note, Zone
from audit.model.findings import FindingKind
from audit.model.packets import Protocol
from audit.model.verdicts import Reason
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from tests import parity
from tests.archives import extract
from tests.conftest import REPOSITORY

Rows = list[dict[str, Any]]
Load = Callable[[Path], ClusterState]
NODES = ("ovn-control-plane", "ovn-worker", "ovn-worker2")


@pytest.fixture
def load(tmp_path: Path, reader: OvsdbTool) -> Load:
    def read(path: Path) -> ClusterState:
        return assemble.load(path, tmp_path / "work", reader)

    return read


def ovsdb(toolchain: Toolchain, command: str, database: Path, *operations: object) -> list[Any]:
    """Ask or change a database with ovsdb-tool itself, past the code under test."""
    schema = "OVN_Northbound" if database.name == "nb.db" else "OVN_Southbound"
    done = subprocess.run(
        toolchain.argv("ovsdb-tool", command, str(database), json.dumps([schema, *operations])),
        capture_output=True,
        check=True,
        text=True,
    )
    results: list[Any] = json.loads(done.stdout)
    assert all("error" not in result for result in results), results
    return results


def bindings(toolchain: Toolchain, root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (zone, logical port) → Port_Binding, with the name of its datapath."""
    select = {"op": "select", "where": []}
    found = {}
    for database in root.glob("ovn/*/sb.db"):
        ports, datapaths = ovsdb(
            toolchain,
            "query",
            database,
            {**select, "table": "Port_Binding"},
            {**select, "table": "Datapath_Binding"},
        )
        names = {row["_uuid"][1]: dict(row["external_ids"][1])["name"] for row in datapaths["rows"]}
        for row in ports["rows"]:
            row["datapath"] = names[row["datapath"][1]]
            found[database.parent.name, row["logical_port"]] = row
    return found


def edit(root: Path, resource: str, change: Callable[[Rows], Rows | None]) -> None:
    """Change the items of `kube/<resource>.json`."""
    file = root / f"kube/{resource}.json"
    content = json.loads(file.read_text())
    changed = change(content["items"])
    content["items"] = content["items"] if changed is None else changed
    file.write_text(json.dumps(content))


def item(items: Rows, name: str) -> dict[str, Any]:
    return next(i for i in items if i["metadata"]["name"] == name)


def note(state: ClusterState, code: str) -> Note:
    return next(note for note in state.notes if note.code == code)


def test_every_running_pod_is_where_the_databases_have_it(
    recorded: Path, load: Load, toolchain: Toolchain
) -> None:
    rows = bindings(toolchain, recorded)
    pods = json.loads((recorded / "kube/pods.json").read_text())["items"]
    running = {
        (p["metadata"]["namespace"], p["metadata"]["name"]): p
        for p in pods
        if p["status"]["phase"] == "Running"
    }
    state = load(recorded)
    assert [(p.namespace, p.name) for p in state.pods] == sorted(running)
    central = (recorded / "ovn/global").exists()
    for pod in state.pods:
        assert pod.obstacle == ""
        assert pod.attachment is not None
        place = pod.attachment
        port = f"k8s-{pod.node}" if pod.host_network else f"{pod.namespace}_{pod.name}"
        row = rows["global" if central else pod.node, port]
        mac, *addresses = row["mac"].split()
        assert (place.zone, place.port) == ("global" if central else pod.node, port)
        assert (place.mac, place.addresses) == (mac, tuple(addresses))
        assert place.switch == row["datapath"] == pod.node
        router = rows[place.zone, f"rtos-{pod.node}"]
        assert place.gateway_mac == router["mac"].split()[0]
        written = running[pod.namespace, pod.name]["status"]["podIPs"]
        if not pod.host_network:
            assert pod.addresses == tuple(ip["ip"] for ip in written)


def test_nodes_are_attached_by_their_management_ports(
    recorded: Path, load: Load, toolchain: Toolchain
) -> None:
    rows = bindings(toolchain, recorded)
    state = load(recorded)
    assert tuple(node.name for node in state.nodes) == NODES
    for node in state.nodes:
        assert node.kind is EndpointKind.NODE
        assert node.attachment is not None
        row = rows[node.attachment.zone, f"k8s-{node.name}"]
        mac, *addresses = row["mac"].split()
        assert node.attachment.port == f"k8s-{node.name}"
        assert (node.attachment.mac, node.attachment.addresses) == (mac, tuple(addresses))
        assert node.addresses
        assert not set(node.addresses) & set(addresses)


def test_every_node_has_a_gateway(recorded: Path, load: Load, toolchain: Toolchain) -> None:
    rows = bindings(toolchain, recorded)
    state = load(recorded)
    assert tuple(state.gateways) == NODES
    for node, gateway in state.gateways.items():
        assert gateway.attachment is not None
        place = gateway.attachment
        assert rows[place.zone, place.port]["type"] == "localnet"
        assert rows[place.zone, place.port]["datapath"] == place.switch == f"ext_{node}"
        assert place.gateway_mac == rows[place.zone, f"rtoe-GR_{node}"]["mac"].split()[0]
        assert place.mac == OUTSIDE_MAC
        assert gateway.key == f"external  via {node}"


def test_the_notes_of_a_healthy_cluster(recorded: Path, load: Load) -> None:
    notes = load(recorded).notes
    texts = {note.code: note.text for note in notes}
    assert texts["pod-pending-with-port"] == (
        "1 pod pending with a logical port already: not audited, though policies may select it"
    )
    assert {note.code: note.subjects for note in notes} == {
        "pod-finished": ("default/web-done", "infra/job-done"),
        "pod-pending": ("infra/stuck-unscheduled",),
        "pod-pending-with-port": ("infra/stuck-creating",),
    }


def test_policies_services_and_endpoints_are_read(recorded: Path, load: Load) -> None:
    state = load(recorded)
    kinds = {policy.ref.kind for policy in state.policies}
    assert {"NetworkPolicy", "EgressFirewall"} <= kinds
    assert list(state.policies) == sorted(state.policies, key=lambda policy: policy.ref)
    services = {f"{service.namespace}/{service.name}": service for service in state.services}
    assert list(services) == sorted(services)
    assert [name for name, service in services.items() if service.headless] == ["shop/db"]
    db = next(pod for pod in state.pods if pod.key == "pod shop/db-0")
    assert {e.address for e in services["shop/db"].endpoints} <= set(db.addresses)
    assert services["shop/db"].endpoints
    assert state.namespaces["prod"]


def test_an_archive_gives_the_same_state(
    example_snapshot: Path, tmp_path: Path, reader: OvsdbTool
) -> None:
    # Nothing of where it was unpacked may show: the same input gives the same run.
    first, second = (assemble.load(example_snapshot, tmp_path / work, reader) for work in "ab")
    assert (first.pods, first.nodes, first.notes) == (second.pods, second.nodes, second.notes)
    assert first.inputs == second.inputs


# --- what does not join


def test_a_port_whose_pod_is_gone(cluster: Path, load: Load) -> None:
    edit(cluster, "pods", lambda pods: [p for p in pods if p["metadata"]["name"] != "web-0"])
    state = load(cluster)
    [gone] = state.differences
    assert (gone.kind, gone.zones) == (FindingKind.PORT_WITHOUT_POD, ("ovn-control-plane",))
    assert gone.text == (
        "port default_web-0 in zone ovn-control-plane: pod default/web-0 is not in Kubernetes"
    )
    assert "pod default/web-0" not in {pod.key for pod in state.pods}


def test_a_pod_that_is_being_deleted_is_audited_while_it_has_a_port(
    cluster: Path, load: Load
) -> None:
    def change(pods: Rows) -> None:
        item(pods, "web-0")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    edit(cluster, "pods", change)
    state = load(cluster)
    assert note(state, "pod-terminating").subjects == ("default/web-0",)
    assert next(pod for pod in state.pods if pod.key == "pod default/web-0").attachment


def test_a_running_pod_without_a_port(cluster: Path, load: Load) -> None:
    def change(pods: Rows) -> None:
        item(pods, "web-0")["metadata"]["name"] = "web-7"
        other = item(pods, "web-1")["metadata"]
        other |= {"name": "web-8", "deletionTimestamp": "2026-01-01T00:00:00Z"}

    edit(cluster, "pods", change)
    state = load(cluster)
    assert note(state, Reason.NO_LOGICAL_PORT).subjects == ("default/web-7", "default/web-8")
    pod = next(pod for pod in state.pods if pod.name == "web-7")
    assert (pod.attachment, pod.obstacle) == (None, Reason.NO_LOGICAL_PORT)
    assert len(pod.addresses) == 2
    assert "pod-terminating" not in {note.code for note in state.notes}


def test_a_pod_of_a_user_defined_network(cluster: Path, load: Load) -> None:
    networks = {"default": {"role": "infrastructure-locked"}, "blue/net": {"role": "primary"}}

    def change(pods: Rows) -> None:
        annotations = item(pods, "web-0")["metadata"]["annotations"]
        annotations["k8s.ovn.org/pod-networks"] = json.dumps(networks)

    edit(cluster, "pods", change)
    state = load(cluster)
    primary, locked = (pod for pod in state.pods if pod.name == "web-0")
    assert (primary.key, primary.network) == ("pod default/web-0", "blue/net")
    assert (primary.attachment, primary.obstacle) == (None, Reason.NO_LOGICAL_PORT)
    assert note(state, Reason.NO_LOGICAL_PORT).subjects == ("default/web-0",)
    assert (locked.key, locked.network) == ("pod default/web-0 on default", "")
    assert locked.attachment is not None
    assert locked.obstacle == ""


def test_a_pod_that_ovn_has_on_another_node(cluster: Path, load: Load) -> None:
    def change(pods: Rows) -> None:
        item(pods, "web-0")["spec"]["nodeName"] = "ovn-worker2"

    edit(cluster, "pods", change)
    state = load(cluster)
    [moved] = state.differences
    assert moved.kind is FindingKind.POD_DIFFERS
    assert "Kubernetes says node ovn-worker2, OVN has it on switch ovn-control-plane" in moved.text
    pod = next(pod for pod in state.pods if pod.key == "pod default/web-0")
    assert (pod.node, pod.obstacle) == ("ovn-worker2", Reason.POD_DIFFERS)


@pytest.mark.parametrize("damage", ["absent", "half", "unreadable"])
def test_a_zone_that_is_missing(cluster: Path, load: Load, damage: str) -> None:
    place = cluster / "ovn/ovn-worker"
    match damage:
        case "absent":
            shutil.rmtree(place)
        case "half":
            (place / "sb.db").unlink()
        case _:
            (place / "nb.db").write_bytes(b"garbage")
    state = load(cluster)
    there = [pod for pod in state.pods if pod.node == "ovn-worker"]
    assert {(pod.obstacle, pod.attachment) for pod in there} == {(Reason.ZONE_MISSING, None)}
    assert all(pod.attachment for pod in state.pods if pod.node != "ovn-worker")
    missing = [n for n in state.notes if n.code == Reason.ZONE_MISSING]
    assert [len(n.subjects) for n in missing] == [1, len(there)]
    assert missing[0].subjects == ("ovn-worker",)
    codes = {note.code: note.text for note in state.notes}
    if damage == "half":
        assert codes["zone-incomplete"] == "zone ovn-worker lacks nb.db or sb.db"
    if damage == "unreadable":
        assert codes["zone-unreadable"].startswith(f"{cluster}/ovn/ovn-worker/nb.db is not an OVS")
    assert sorted(state.zones) == ["ovn-control-plane", "ovn-worker2"]


def test_swapped_databases_are_told_apart(cluster: Path, load: Load) -> None:
    place = cluster / "ovn/ovn-worker"
    (place / "nb.db").rename(place / "x")
    (place / "sb.db").rename(place / "nb.db")
    (place / "x").rename(place / "sb.db")
    # The user's file is named, not our copy of it.
    assert note(load(cluster), "zone-unreadable").text == (
        f"{place}/nb.db holds OVN_Southbound, not OVN_Northbound; swap the two files"
    )


def test_a_torn_database_is_used_and_said(cluster: Path, load: Load, toolchain: Toolchain) -> None:
    database = cluster / "ovn/ovn-worker/nb.db"
    change = {"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": 7}}
    ovsdb(toolchain, "transact", database, change)
    database.write_bytes(database.read_bytes()[:-5])
    state = load(cluster)
    assert note(state, "zone-torn").subjects == ("ovn-worker",)
    assert [zone.torn for zone in state.zones.values()] == [False, True, False]
    assert all(pod.attachment for pod in state.pods)


def test_without_any_zone_there_is_nothing_to_say(cluster: Path, load: Load) -> None:
    for database in cluster.glob("ovn/*/sb.db"):
        database.write_bytes(b"")
    with pytest.raises(DatabaseError, match=r"ovn-control-plane/sb.db is empty; copy the database"):
        load(cluster)


@pytest.mark.parametrize("resource", ["pods", "nodes", "namespaces"])
def test_a_list_that_nothing_can_be_said_without(cluster: Path, load: Load, resource: str) -> None:
    (cluster / f"kube/{resource}.json").unlink()
    with pytest.raises(SnapshotError, match=f"has no kube/{resource}.json; save it with `kubectl"):
        load(cluster)


@pytest.mark.parametrize("resource", ["services", "networkpolicies", "endpointslices"])
def test_a_list_that_is_missed(cluster: Path, load: Load, resource: str) -> None:
    (cluster / f"kube/{resource}.json").unlink()
    found = note(load(cluster), "list-missing")
    assert found.subjects == (resource,)
    assert found.text.startswith(f"kube/{resource}.json is not in the snapshot: ")


def test_a_malformed_pod_ends_the_run_with_its_place(cluster: Path, load: Load) -> None:
    def change(pods: Rows) -> None:
        del pods[3]["metadata"]

    edit(cluster, "pods", change)
    with pytest.raises(SnapshotError, match=r"kube/pods.json: item 3: metadata.namespace is miss"):
        load(cluster)


def test_every_note_is_a_sentence_with_its_number(cluster: Path, load: Load) -> None:
    def change(pods: Rows) -> None:
        for name in ("web-0", "web-1"):
            item(pods, name)["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    edit(cluster, "pods", change)
    notes = {n.code: n for n in load(cluster).notes}
    assert notes["pod-terminating"].text.startswith("2 pods being deleted")
    assert notes["pod-pending"].text.startswith("1 pod pending")
    assert all(n.subjects == tuple(sorted(n.subjects)) for n in notes.values())


def test_an_unreadable_zone_in_an_archive_is_named_as_it_was_given(
    cluster: Path, load: Load
) -> None:
    (cluster / "ovn/ovn-worker/nb.db").write_bytes(b"garbage")
    archive = shutil.make_archive(str(cluster), "gztar", cluster)
    text = note(load(Path(archive)), "zone-unreadable").text
    assert text.startswith(f"{archive}/ovn/ovn-worker/nb.db is not an OVSDB file")


# --- nodes that are not as usual


def test_a_node_that_ovn_does_not_have(cluster: Path, load: Load) -> None:
    def change(nodes: Rows) -> None:
        item(nodes, "ovn-worker")["metadata"]["annotations"] = {
            "k8s.ovn.org/node-subnets": '{"default":["10.99.0.0/24"]}'
        }

    edit(cluster, "nodes", change)
    state = load(cluster)
    worker = next(node for node in state.nodes if node.name == "ovn-worker")
    assert (worker.attachment, worker.obstacle) == (None, Reason.ZONE_MISSING)
    # Its pods are in OVN all the same; its host-network pods are not.
    pods = {pod.host_network: pod for pod in state.pods if pod.node == "ovn-worker"}
    assert pods[False].attachment
    assert pods[True].obstacle == Reason.ZONE_MISSING


def test_a_node_without_annotations_is_found_by_its_name(cluster: Path, load: Load) -> None:
    def change(nodes: Rows) -> None:
        for node in nodes:
            node["metadata"]["annotations"] = None

    edit(cluster, "nodes", change)
    ports = {node.attachment.port for node in load(cluster).nodes if node.attachment}
    assert ports == {f"k8s-{name}" for name in NODES}


def test_a_node_without_an_internal_address(cluster: Path, load: Load) -> None:
    def change(nodes: Rows) -> None:
        item(nodes, "ovn-worker")["status"]["addresses"] = [
            {"type": "Hostname", "address": "ovn-worker"}
        ]

    edit(cluster, "nodes", change)
    state = load(cluster)
    assert note(state, Reason.NO_ADDRESS).subjects == ("ovn-worker",)
    # A host-network pod reports its node's address itself.
    host = next(p for p in state.pods if p.node == "ovn-worker" and p.host_network)
    assert host.obstacle == ""
    assert host.addresses
    assert "ovn-worker" not in state.gateways


def test_names_are_read_and_never_composed(cluster: Path, load: Load, toolchain: Toolchain) -> None:
    """Another release may call the node switch, its ports and the router's what it likes."""
    before = {node.name: node.attachment for node in load(cluster).nodes}
    shutil.rmtree(cluster.parent / "work")
    for node in NODES:
        rename(toolchain, cluster / "ovn" / node, node)
    state = load(cluster)
    for found in state.nodes:
        old, new = before[found.name], found.attachment
        assert old is not None
        assert new is not None
        assert (new.switch, new.port) == (f"sw.{found.name}", f"mgmt.{found.name}")
        assert (new.mac, new.gateway_mac) == (old.mac, old.gateway_mac)
        assert new.addresses == old.addresses
    assert all(pod.attachment for pod in state.pods)
    assert {g.attachment.port for g in state.gateways.values() if g.attachment} == {
        f"outside.{node}" for node in NODES
    }
    switches = {pod.attachment.switch for pod in state.pods if pod.attachment}
    assert switches == {f"sw.{node}" for node in NODES}


def rename(toolchain: Toolchain, zone: Path, node: str) -> None:
    """Give the entities of a node other names, in both of its zone's databases."""
    ports = {
        f"k8s-{node}": f"mgmt.{node}",
        f"rtos-{node}": f"lrp.{node}",
        f"stor-{node}": f"lsp.{node}",
        f"breth0_{node}": f"outside.{node}",
    }

    def update(table: str, column: str, old: str, new: str) -> dict[str, Any]:
        where = [[column, "==", old]]
        return {"op": "update", "table": table, "where": where, "row": {column: new}}

    north = [
        update("Logical_Switch", "name", node, f"sw.{node}"),
        *(update("Logical_Switch_Port", "name", old, new) for old, new in ports.items()),
    ]
    datapath = [["external_ids", "includes", ["map", [["name", node]]]]]
    names = [
        ["external_ids", "delete", ["set", ["name"]]],
        ["external_ids", "insert", ["map", [["name", f"sw.{node}"]]]],
    ]
    south: list[dict[str, Any]] = [
        {"op": "mutate", "table": "Datapath_Binding", "where": datapath, "mutations": names},
        *(update("Port_Binding", "logical_port", old, new) for old, new in ports.items()),
    ]
    for old, new in ports.items():
        peers = [
            ["options", "delete", ["map", [["peer", old]]]],
            ["options", "insert", ["map", [["peer", new]]]],
        ]
        where = [["options", "includes", ["map", [["peer", old]]]]]
        south.append({"op": "mutate", "table": "Port_Binding", "where": where, "mutations": peers})
    ovsdb(toolchain, "transact", zone / "nb.db", *north)
    ovsdb(toolchain, "transact", zone / "sb.db", *south)


def test_a_secondary_network_may_use_the_same_subnets(
    cluster: Path, load: Load, toolchain: Toolchain
) -> None:
    for node, subnet in (("ovn-worker", "10.128.0.0/23"), ("ovn-worker2", "10.129.0.0/23")):
        row = {
            "name": f"blue_{node}",
            "other_config": ["map", [["subnet", subnet]]],
            "external_ids": ["map", [["k8s.ovn.org/network", "blue"]]],
        }
        insert = {"op": "insert", "table": "Logical_Switch", "row": row}
        ovsdb(toolchain, "transact", cluster / "ovn/ovn-control-plane/nb.db", insert)
    found = {node.name: node.attachment for node in load(cluster).nodes}
    assert {name: place.zone for name, place in found.items() if place} == {n: n for n in NODES}


# --- a topology of a thousand nodes, without a database


def port(name: str, datapath: str, **fields: Any) -> LogicalPort:
    values: dict[str, Any] = {
        "kind": "",
        "tunnel_key": 1,
        "mac": "",
        "addresses": (),
        "peer": "",
        "namespace": "",
        "is_pod": False,
        **fields,
    }
    return LogicalPort(name=name, datapath=datapath, **values)


def zone(name: str, switches: Mapping[str, tuple[str, ...]], *ports: LogicalPort) -> Zone:
    return Zone(
        name=name,
        northbound=Path("nb.db"),
        southbound=Path("sb.db"),
        northd_version="",
        sequence="",
        switches=MappingProxyType(switches),
        ports=MappingProxyType({port.name: port for port in ports}),
        by_tunnel_key=MappingProxyType({}),
        acls=MappingProxyType({}),
        port_groups=(),
        flow_hints=MappingProxyType({}),
        load_balancers=(),
    )


def node_facts(name: str, *subnets: str, macs: frozenset[str] = frozenset()) -> NodeFacts:
    return NodeFacts(name=name, addresses=(), labels=(), subnets=subnets, management_macs=macs)


@pytest.mark.timeout(20)
def test_a_thousand_nodes_in_one_zone_are_placed_at_once() -> None:
    subnets = {
        f"sw{i}": (f"10.{i // 256}.{i % 256}.0/24", f"fd01:0:0:{i:x}::/64") for i in range(1000)
    }
    nodes = [node_facts(f"n{i}", f"10.{i // 256}.{i % 256}.0/24") for i in range(1000)]
    found = Topology.of({"global": zone("global", subnets)}, nodes)
    assert found.switch_of_node == {f"n{i}": ("global", f"sw{i}") for i in range(1000)}


def test_the_gateway_is_the_router_with_an_address_on_the_switch() -> None:
    other = port("r1", "router", kind="patch", mac="00:00:00:00:00:01", addresses=("10.9.0.1/24",))
    own = port("r2", "router", kind="patch", mac="00:00:00:00:00:02", addresses=("fd01::1/64",))
    patches = [port(f"p{i}", "sw", kind="patch", peer=f"r{i}") for i in (1, 2, 3)]
    both = {"sw": ("10.1.0.0/24", "fd01::/64")}
    found = Topology.of({"z": zone("z", both, other, own, *patches)}, [])
    assert found.gateway_macs == {("z", "sw"): own.mac}
    # With a single router there is no choice, whatever its address.
    found = Topology.of({"z": zone("z", {"sw": ()}, other, *patches)}, [])
    assert found.gateway_macs == {("z", "sw"): other.mac}
    found = Topology.of({"z": zone("z", {"sw": ("nonsense",)}, other, own, *patches)}, [])
    assert found.gateway_macs == {}


def test_a_pod_in_two_zones_is_taken_where_its_node_is() -> None:
    ports = {
        name: port("shop_web", name, namespace="shop", is_pod=True, mac=f"00:00:00:00:00:0{i}")
        for i, name in enumerate(("a", "b"))
    }
    zones = {
        name: zone(name, {name: (f"10.{i}.0.0/24",)}, ports[name]) for i, name in enumerate("ab")
    }
    nodes = [node_facts("a", "10.0.0.0/24"), node_facts("b", "10.1.0.0/24")]
    found = Topology.of(zones, nodes)
    assert found.pod_port("shop", "web", "a") == ("a", ports["a"])
    assert found.pod_port("shop", "web", "b") == ("b", ports["b"])
    assert found.pod_port("shop", "web", "c") == ("a", ports["a"])
    assert found.pod_port("shop", "db", "a") is None


def test_the_management_port_is_told_by_its_mac_or_by_being_alone() -> None:
    router = port("r", "router", kind="patch", mac="00:00:00:00:00:0f", addresses=("10.0.0.1/24",))
    patch = port("p", "sw", kind="patch", peer="r")
    hosts = [
        port(f"h{i}", "sw", mac=f"00:00:00:00:00:0{i}", addresses=(f"10.0.0.{i}",)) for i in (2, 3)
    ]
    hybrid = port("int-n", "sw", mac="00:00:00:00:00:09")  # without an address it is no host's
    pod = port("a_b", "sw", mac="00:00:00:00:00:08", addresses=("10.0.0.8",), is_pod=True)
    subnet = {"sw": ("10.0.0.0/24",)}

    def attached(*ports: LogicalPort, macs: frozenset[str] = frozenset()) -> str | None:
        node = node_facts("n", "10.0.0.0/24", macs=macs)
        found = Topology.of({"z": zone("z", subnet, router, patch, *ports)}, [node])
        place = found.host_attachment(node)
        return place.port if place else None

    assert attached(hosts[0], hybrid, pod) == "h2"
    assert attached(*hosts, hybrid, pod) is None
    assert attached(*hosts, macs=frozenset({"00:00:00:00:00:03"})) == "h3"
    assert attached(hosts[0], macs=frozenset({"00:00:00:00:00:0e"})) == "h2"
    assert attached(pod) is None


def test_the_underlay_leads_to_the_default_network_of_each_node(tmp_path: Path, load: Load) -> None:
    """In `udn-interconnect` three networks' gateway routers have each node's address."""
    with tarfile.open(REPOSITORY / "tests" / "data" / "udn-interconnect.tar.xz") as archive:
        extract(archive, tmp_path / "udn")
    state = load(tmp_path / "udn")
    ports = {node: f"breth0_{node}" for node in NODES}
    entered = {node: g.attachment.port for node, g in state.gateways.items() if g.attachment}
    assert entered == ports
    ways = {(way.subnet, way.node): way for way in state.ways_in}
    assert len(ways) == len(state.ways_in) == 6
    assert ("10.129.0.0/23", "ovn-worker") in ways
    for way in state.ways_in:
        assert way.port is not None
        assert (way.port.port, way.by_host) == (ports[way.node], False)


def test_a_host_that_its_pods_leave_by_takes_in_what_is_for_them() -> None:
    host = port("k8s-w", "w", mac="0a:58:0a:80:00:02", addresses=("10.128.0.2",))
    to_router = port("stor-w", "w", kind="patch", peer="rtos-w")
    router = port(
        "rtos-w", "r", kind="patch", mac="0a:58:0a:80:00:01", addresses=("10.128.0.1/23",)
    )
    known = zone("z", {"w": ("10.128.0.0/23",)}, host, to_router, router)
    node = node_facts("w", "10.128.0.0/23")
    windows = dataclasses.replace(node_facts("win"), hybrid_subnets=("10.132.0.0/24",))

    def ways(hop: str) -> list[tuple[str, str | None, bool]]:
        routed = dataclasses.replace(known, source_routes=(("10.128.0.0/23", hop),))
        found = Topology.of({"z": routed}, [node, windows]).ways_in([node, windows])
        return [(way.node, way.port.port if way.port else None, way.by_host) for way in found]

    assert ways("10.128.0.2") == [("w", "k8s-w", True), ("win", None, False)]
    assert ways("100.64.0.2") == [("w", None, False), ("win", None, False)]


def test_a_virtual_machine_that_is_migrated_is_one_endpoint(tmp_path: Path, load: Load) -> None:
    with tarfile.open(parity.SNAPSHOTS["upgrade-before"]) as tar:
        extract(tar, tmp_path / "s")
    (path,) = (tmp_path / "s").glob("**/kube/pods.json")
    listed = json.loads(path.read_text())
    pods = [p for p in listed["items"] if p["metadata"]["namespace"] == "data"][:2]
    for hour, pod in enumerate(pods):
        pod["metadata"]["labels"]["vm.kubevirt.io/name"] = "db"
        pod["metadata"]["creationTimestamp"] = f"2026-11-01T0{hour}:00:00Z"
    path.write_text(json.dumps(listed))
    first, second = (pod["metadata"]["name"] for pod in pods)
    state = load(path.parent.parent)
    for read in (state, objects.load_snapshot(path.parent.parent, tmp_path / "alone")):
        names = {pod.name for pod in read.pods if pod.namespace == "data"}
        assert first in names
        assert second not in names
        (note,) = (note for note in read.notes if "virtual machine" in note.text)
        assert note.subjects == (f"data/{second}",)
        assert note.text.startswith("1 pod w")


def test_networks_that_a_port_joins_are_joined_whatever_acls_say(
    tmp_path: Path, load: Load, reader: OvsdbTool, toolchain: Toolchain
) -> None:
    """As a ClusterNetworkConnect's router does that lets everything through."""
    with tarfile.open(parity.SNAPSHOTS["udn-interconnect"]) as tar:
        extract(tar, tmp_path / "s")
    state = load(tmp_path / "s")
    assert not state.joined
    name, read = next(iter(state.zones.items()))
    ports = {
        network: next(
            port.name
            for port in read.ports.values()
            if port.peer in read.ports and read.network_of(port.name) == network
        )
        for network in ("blue_l3net", "green_l2net")
    }
    update = {
        "op": "update",
        "table": "Port_Binding",
        "where": [["logical_port", "==", ports["blue_l3net"]]],
        "row": {"options": ["map", [["peer", ports["green_l2net"]]]]},
    }
    (southbound,) = (tmp_path / "s").glob(f"**/{name}/sb.db")
    assert ovsdb(toolchain, "transact", southbound, update) == [{"count": 1}]
    assert assemble.load(tmp_path / "s", tmp_path / "again", reader).joined


def test_multi_network_policies_that_ovn_enforces_and_nobody_listed(
    tmp_path: Path, load: Load
) -> None:
    """OVN's ACLs tell that there are some; of a cluster without the CRD there is no list either."""
    root = tmp_path / "unlisted"
    with tarfile.open(parity.SNAPSHOTS["head-shared"]) as tar:
        extract(tar, root)
    (root / "kube" / "multi-networkpolicies.json").unlink()
    state = load(root)
    assert state.unread_policies == ("multi-networkpolicies",)
    assert state.attached["sec/sec-l3"].name == "sec_sec-l3"
    assert not state.joined
    [opening] = [pod for pod in state.pods if pod.opened]
    assert (opening.key, opening.opened) == (
        "pod blue/blue-0 on default",
        (Port(protocol=Protocol.ICMP, number=0), Port(protocol=Protocol.TCP, number=80)),
    )
    alone = objects.load_snapshot(root, tmp_path / "alone")
    assert alone.unread_policies == ("multi-networkpolicies",)
    assert [pod.key for pod in alone.pods] == [pod.key for pod in state.pods]
