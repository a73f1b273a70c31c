"""A generated cluster against recorded ones, and its audit against an oracle."""

import dataclasses
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from audit.cli import progress
from audit.commands import run as command
from audit.facts import assemble
from audit.model.endpoints import EndpointKind
from audit.model.options import PlaneName, Workers
from audit.model.run import Run
from audit.model.verdicts import VERDICTS
from audit.replay.databases import OvsdbTool
from audit.replay.tables import Tables
from audit.replay.toolchain import Toolchain
from audit.scope import scope
from audit.store import reader
from audit.tracing.options import Options
from bench import addresses, manifests, selectors
from bench.acls import PolicyRows
from bench.cluster import Cluster, Pod, Policies, Population, Size, Workload
from bench.generate import cluster_of, generate, main
from bench.networks import Networks
from bench.ovsdb import Row
from tests.archives import extract
from tests.bench.oracle import Oracle

SMALL = Size(pods=40, nodes=3, namespaces=14, policies=40, seed=5, families=2)
RICH = Size(pods=90, nodes=3, namespaces=16, policies=150, seed=2, families=2)
SCHEMAS = {"nb.db": "OVN_Northbound", "sb.db": "OVN_Southbound"}
DATA = Path(__file__).resolve().parent.parent / "data"

Rows = Mapping[str, list[dict[str, Any]]]


def databases(root: Path, name: str) -> Iterator[Rows]:
    """Yield every table of each zone's database `name` below `root`."""
    for file in sorted(root.glob(f"ovn/*/{name}")):
        with file.open("rb") as content:
            schema = json.loads(content.read(int(content.readline().split()[2])))
        tables = Tables.of(file, SCHEMAS[name])
        yield {
            table: tables.rows(table, [*described["columns"], "_uuid"])
            for table, described in schema["tables"].items()
        }


def unpacked(archive: Path, target: Path) -> Path:
    with tarfile.open(archive) as packed:
        extract(packed, target)
    inside = [found.parent for found in target.rglob("kube")]
    return inside[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> Path:
    target = tmp_path_factory.mktemp("small") / "snapshot"
    generate(target, SMALL, toolchain)
    return target


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain) -> Path:
    target = tmp_path_factory.mktemp("rich") / "snapshot"
    generate(target, RICH, toolchain)
    return target


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, example_snapshot: Path) -> list[Path]:
    """Return the recorded interconnect clusters."""
    archives = (example_snapshot, DATA / "upgrade-after.tar.xz", DATA / "upgrade-before.tar.xz")
    return [unpacked(found, tmp_path_factory.mktemp("recorded")) for found in archives]


@pytest.fixture(scope="module")
def multicast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recorded cluster with multicast, which the interconnect ones are without."""
    return unpacked(DATA / "head-shared.tar.xz", tmp_path_factory.mktemp("multicast"))


Shape = tuple[frozenset[str], frozenset[str], frozenset[str]]


def _shape(row: Mapping[str, Any]) -> Shape:
    """Return which columns a row fills, and the keys of its external_ids and options."""
    filled = frozenset(
        column
        for column, value in row.items()
        if value not in ([], {}, "", 0, False) and column not in _MEMBERS
    )
    maps = (row.get(column) for column in ("external_ids", "options"))
    keys = [frozenset(found if isinstance(found, dict) else ()) for found in maps]
    return filled, keys[0], keys[1]


_MEMBERS = {"acls", "addresses", "ports", "load_balancer", "vips", "nat_addresses"}
"""Columns that are empty where a zone happens to have no members."""
_AFFINITY = "affinity_timeout"
"""Session affinity is not generated."""


def shapes(root: Path, name: str) -> dict[tuple[str, str], set[Shape]]:
    """Return the shapes of the rows of each table and kind: owner type, or port type."""
    found: dict[tuple[str, str], set[Shape]] = {}
    for tables in databases(root, name):
        for table, rows in tables.items():
            for row in rows:
                external_ids = row.get("external_ids") or {}
                kind = external_ids.get("k8s.ovn.org/owner-type") or row.get("type") or ""
                kind = kind if isinstance(kind, str) else ""
                found.setdefault((table, kind), set()).add(_shape(row))
    return found


@pytest.mark.ovn
@pytest.mark.parametrize("name", SCHEMAS)
def test_rows_have_the_shapes_recorded_ones_have(
    rich: Path, recorded: list[Path], multicast: Path, name: str
) -> None:
    made = shapes(rich, name)
    known: dict[tuple[str, str], set[Shape]] = {}
    for root in recorded:
        for kind, found in shapes(root, name).items():
            known.setdefault(kind, set()).update(found)
    # Which groups a controller joins for multicast is learned by a real one only.
    assert set(known) - set(made) <= {("IGMP_Group", "")}
    for kind, found in shapes(multicast, name).items():
        known.setdefault(kind, set()).update(found)
    assert set(made) <= set(known)
    for kind in sorted(made):
        if kind[0] == "Logical_Flow":
            continue
        strange = made[kind] - known[kind]
        assert not strange, (kind, strange)


def _skeleton(match: str) -> str:
    """Return a match without its names, numbers and addresses."""
    text = re.sub(r"[$@]a\d+", "NAME", match)
    text = re.sub(r"[0-9a-f]*:[0-9a-f:]*:[0-9a-f]*(/\d+)?|\d+(\.\d+){3}(/\d+)?", "ADDRESS", text)
    text = re.sub(r"\b\d+\b", "N", text)
    text = re.sub(r"\b(tcp|udp|sctp)\b", "L4", text)
    text = re.sub(r"\{([A-Z]+)(, ?\1)+\}", r"{\1}", text)
    text = re.sub(r"\{N(,N)*\}", "N", text)
    return re.sub(r"\bip[46]\b", "IP", text)


def test_the_skeleton_of_a_match() -> None:
    match = "(ip4.src == {$a1, $a22} || ip6.src == {$a3}) && tcp && tcp.dst=={80,81} && @a9"
    assert _skeleton(match) == ("(IP.src == {NAME} || IP.src == {NAME}) && L4 && L4.dst==N && NAME")
    assert _skeleton("ip6.dst == ::/0 && ip6.dst != fd01::/48") == (
        _skeleton("ip4.dst == 0.0.0.0/0 && ip4.dst != 10.128.0.0/14")
    )


_CLAUSE = re.compile(r" && L4(?: && (?:\([^()]*\)|[^ &]+))?(?= && |$)")


def _acl_skeletons(root: Path) -> set[tuple[str, str, str]]:
    """Return (owner type, direction, skeleton), and port clauses as skeletons of their own."""
    found = set()
    for tables in databases(root, "nb.db"):
        for row in tables["ACL"]:
            kind = row["external_ids"]["k8s.ovn.org/owner-type"]
            text = _skeleton(row["match"])
            clause = _CLAUSE.search(text)
            if clause and kind != "EgressFirewall":
                found.add(("ports", "", clause[0].replace("(N<=L4.dst<=N)", "N<=L4.dst<=N")))
                text = text.replace(clause[0], "")
            found.add((kind, row["direction"], text))
    return found


@pytest.mark.ovn
def test_acl_matches_are_written_as_recorded_ones_are(
    rich: Path, recorded: list[Path], multicast: Path
) -> None:
    known = set().union(*(_acl_skeletons(root) for root in (*recorded, multicast)))
    strange = _acl_skeletons(rich) - known
    assert not strange, strange


@pytest.mark.ovn
def test_acls_have_recorded_priorities_tiers_and_actions(
    rich: Path, recorded: list[Path], multicast: Path
) -> None:
    def settings(root: Path) -> set[tuple[object, ...]]:
        return {
            (
                row["external_ids"]["k8s.ovn.org/owner-type"],
                row["direction"],
                row["action"],
                row["tier"],
                # Rules count down; what they count from is the kind's.
                0 if row["tier"] != 2 or row["priority"] > 2000 else row["priority"],
            )
            for tables in databases(root, "nb.db")
            for row in tables["ACL"]
        }

    known = set().union(*map(settings, (*recorded, multicast)))
    assert settings(rich) <= known


@pytest.mark.ovn
def test_multicast_is_on_as_ovn_kubernetes_turns_it_on(rich: Path, multicast: Path) -> None:
    def turned_on(root: Path, controller: str = "default-network-controller") -> set[str]:
        said = set()
        for tables in databases(root, "nb.db"):
            acls = {
                row["_uuid"]: row
                for row in tables["ACL"]
                if row["external_ids"]["k8s.ovn.org/owner-type"] == "MulticastCluster"
                and row["external_ids"]["k8s.ovn.org/owner-controller"] == controller
            }
            for group in tables["Port_Group"]:
                for own in (acls[uuid] for uuid in group["acls"] if uuid in acls):
                    name = group["external_ids"]["k8s.ovn.org/id"]
                    columns = ("match", "action", "direction", "priority", "tier", "options")
                    said.add(f"{name} {own['external_ids']} {[own[c] for c in columns]}")
            said.update(
                f"{router['name']} relays"
                for router in tables["Logical_Router"]
                if router["name"] == "ovn_cluster_router"
                and router["options"].get("mcast_relay") == "true"
            )
        return said

    assert turned_on(rich) == turned_on(multicast)
    assert len(turned_on(rich)) == 5


@pytest.mark.ovn
def test_logical_flows_have_the_stages_recorded_ones_have(rich: Path, recorded: list[Path]) -> None:
    def stages(root: Path) -> set[str]:
        return {
            row["external_ids"]["stage-name"]
            for tables in databases(root, "sb.db")
            for row in tables["Logical_Flow"]
        }

    assert stages(rich) == set().union(*map(stages, recorded))


def test_the_same_seed_gives_the_same_objects_and_another_seed_others() -> None:
    def text(size: Size) -> str:
        cluster = cluster_of(size)
        return json.dumps(dict(manifests.lists(cluster, Networks(cluster))))

    other = dataclasses.replace(SMALL, seed=6)
    assert text(SMALL) == text(SMALL)
    assert text(SMALL) != text(other)


@pytest.mark.ovn
def test_the_same_seed_gives_the_same_northbound_rows(
    small: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    generate(again, SMALL, toolchain)
    ours, theirs = (
        [
            {
                table: sorted(json.dumps(row, sort_keys=True) for row in rows)
                for table, rows in tables.items()
                if table != "NB_Global"  # ovn-northd writes its times there
            }
            for tables in databases(root, "nb.db")
        ]
        for root in (small, again)
    )
    assert ours == theirs


@pytest.mark.ovn
@pytest.mark.parametrize("families", [1, 2])
def test_every_pod_and_node_is_attached(
    families: int, toolchain: Toolchain, tmp_path: Path
) -> None:
    size = Size(pods=30, nodes=2, namespaces=6, policies=10, families=families)
    generate(tmp_path / "snapshot.tar.gz", size, toolchain)
    workdir = tmp_path / "work"
    workdir.mkdir()
    reader_ = OvsdbTool(programs=toolchain)
    state = assemble.load(tmp_path / "snapshot.tar.gz", workdir, reader_)
    own = [pod for pod in state.pods if not pod.host_network]
    assert len(own) == size.pods
    assert not [e.key for e in (*state.pods, *state.nodes) if e.obstacle]
    assert all(len(pod.addresses) == families for pod in own)
    assert sorted(state.gateways) == ["worker-1", "worker-2"]
    assert {note.code for note in state.notes} == {"pod-finished"}


def _audited(snapshot: Path, root: Path) -> Run:
    asked = scope.from_flags(family="both", ports=("tcp/8080", "tcp/9100", "udp/53"))
    options = Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=snapshot,
        scope=asked,
        workers=Workers.INLINE,
        worker_count=1,
    )
    return reader.open_run(command.run(options, root, progress.Silent()).path)


@pytest.mark.ovn
def test_an_audit_says_of_every_cell_what_the_policies_say(small: Path, tmp_path: Path) -> None:
    run, oracle = _audited(small, tmp_path), Oracle(small)
    matrix, compared, wrong = run.matrix, {"reachable": 0, "blocked": 0}, []
    for cell in range(len(matrix)):
        ends = (matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]])
        if any(end.kind is not EndpointKind.POD or end.host_network for end in ends):
            continue
        src, dst = (oracle.pods[end.namespace, end.name] for end in ends)
        port = matrix.ports[matrix.port[cell]]
        family = ("ip4", "ip6")[matrix.family[cell]]
        allowed = oracle.reachable(src, dst, family, port.protocol.value, port.number)
        expected = "reachable" if allowed else "blocked"
        compared[expected] += 1
        if VERDICTS[run.verdicts.verdict[cell]] != expected:
            wrong.append((ends[0].key, ends[1].key, family, str(port), expected))
    assert not wrong, wrong[:5]
    assert sum(compared.values()) == 40 * 39 * 3 * 2
    assert min(compared.values()) > 1_000, compared


def _as_recorded(root: Path) -> Cluster:
    """Return a recorded cluster as the generator would have it: its namespaces, pods, policies."""

    def items(resource: str) -> list[Any]:
        found: list[Any] = json.loads((root / "kube" / f"{resource}.json").read_text())["items"]
        return found

    size = Size(pods=0, nodes=3, namespaces=0, policies=0, families=2)
    population = Population.empty(size)
    population.namespaces.update(
        {item["metadata"]["name"]: item["metadata"]["labels"] for item in items("namespaces")}
    )
    for item in items("pods"):
        metadata, status = item["metadata"], item["status"]
        if not status.get("podIPs"):
            continue
        workload = Workload(
            kind="Pod",
            namespace=metadata["namespace"],
            name=metadata["name"],
            labels=metadata["labels"],
            ports=(),
            host_network=item["spec"].get("hostNetwork", False),
        )
        population.pods.append(
            Pod(
                workload=workload,
                name=metadata["name"],
                node=population.nodes[0],
                addresses=tuple(ip["ip"] for ip in status["podIPs"]),
                phase=status["phase"],
            )
        )
    policies = Policies(
        network=items("networkpolicies"),
        admin=items("adminnetworkpolicies"),
        baseline=items("baselineadminnetworkpolicies"),
        firewalls=items("egressfirewalls"),
    )
    return Cluster(population=population, policies=policies)


def _named_ports(text: str) -> bool:
    """Whether a policy names ports, which the generator does not translate."""
    return '"namedPort"' in text or bool(re.search(r'"port": "', text))


@pytest.mark.ovn
def test_recorded_policies_are_translated_as_ovn_kubernetes_did(recorded: list[Path]) -> None:
    compared = 0
    for root in recorded:
        cluster = _as_recorded(root)
        for policies in (cluster.policies.network, cluster.policies.admin):
            policies[:] = [p for p in policies if not _named_ports(json.dumps(p))]
        made = {row.key[1]: json.loads(f"{{{row.columns}}}") for row in _acls(cluster)}
        theirs = {
            row["external_ids"]["k8s.ovn.org/id"]: row
            for tables in databases(root, "nb.db")
            for row in tables["ACL"]
        }
        assert len(made) > 20
        assert set(made) <= set(theirs)
        for name, row in made.items():
            for column in ("match", "priority", "tier", "action", "direction", "name"):
                assert row.get(column, []) == theirs[name].get(column), (name, column)
                compared += 1
    assert compared > 500


def _acls(cluster: Cluster) -> Iterator[Row]:
    return (row for row in PolicyRows(cluster).shared() if row.key[0] == "ACL")


def test_port_groups_and_address_sets_are_named_as_ovn_kubernetes_names_them() -> None:
    prefix = "default-network-controller"
    vectors = {
        f"{prefix}:AdminNetworkPolicy:cluster-control": "a14645450421485494999",
        f"{prefix}:Namespace:default:v4": "a4322231855293774466",
        f"{prefix}:NetpolNamespace:default:Ingress": "a7142533792977303281",
        f"{prefix}:Cluster:clusterPortGroup": "a13298398610555951118",
    }
    assert {text: addresses.hash_for_ovn(text) for text in vectors} == vectors


def test_selectors_are_written_as_in_the_names_of_recorded_address_sets() -> None:
    terms = [
        {"key": "tier", "operator": "In", "values": ["frontend", "cache"]},
        {"key": "app", "operator": "Exists"},
    ]
    assert selectors.text({}) == "LS{}"
    assert selectors.text({"matchLabels": {"tier": "backend"}}) == "LS{ML:{tier: backend,},}"
    assert selectors.text({"matchExpressions": terms}) == (
        "LS{ME:{LSR{Key:tier,Operator:In,Values:[cache frontend],},"
        "LSR{Key:app,Operator:Exists,Values:[],}},}"
    )


def test_a_cluster_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="namespaces"):
        main([str(tmp_path / "no"), "--namespaces", "2"])


NETWORKS = Size(pods=30, nodes=2, namespaces=8, policies=0, seed=3, networks=4)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, newest_toolchain: Toolchain) -> Path:
    target = tmp_path_factory.mktemp("networks") / "snapshot"
    generate(target, NETWORKS, newest_toolchain)
    return target


@pytest.mark.ovn
@pytest.mark.parametrize("name", SCHEMAS)
def test_rows_of_networks_have_the_shapes_recorded_ones_have(
    networks: Path, multicast: Path, name: str
) -> None:
    made, known = shapes(networks, name), shapes(multicast, name)
    for kind in sorted(made):
        if kind[0] not in _OF_NETWORKS:
            continue
        # Another family and flags of other kinds of cluster: only what is named is compared.
        keys = {shape[1:] for shape in known[kind]}
        assert {shape[1:] for shape in made[kind]} <= keys, kind


_OF_NETWORKS = {"Logical_Router", "Logical_Switch", "Datapath_Binding", "Logical_Router_Policy"}


@pytest.mark.ovn
def test_pods_of_a_network_reach_each_other_and_nobody_elsewhere(
    networks: Path, newest_toolchain: Toolchain, tmp_path: Path
) -> None:
    options = Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=networks,
        scope=scope.from_flags(ports=("tcp/80",)),
        ovn_prefix=newest_toolchain.prefix,
        workers=Workers.INLINE,
    )
    run = reader.open_run(command.run(options, tmp_path, progress.Silent()).path)
    matrix, verdicts = run.matrix, run.verdicts
    seen = set()
    for cell in range(len(matrix)):
        src, dst = (matrix.endpoints[ends[cell]] for ends in (matrix.src, matrix.dst))
        if EndpointKind.POD not in (src.kind, dst.kind) or src.host_network or dst.host_network:
            continue
        if src.network or dst.network:
            inside = src.network == dst.network
            passes = VERDICTS[verdicts.verdict[cell]] == "reachable"
            assert passes == inside, matrix.describe(cell)
            seen.add((inside, src.network_name.count("_"), dst.network_name.count("_")))
    assert seen == {(True, 1, 1), (False, 1, 1), (False, 1, 0), (False, 0, 1)}
