"""What tracers are blind to, met in recorded clusters by the real tools: never proven by them.

What is right is known from elsewhere: the nodes' own switches, real packets, and databases that
`ovn-northd` made of ACLs written for it.
"""

import json
import os
import random
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from audit.cli import progress
from audit.commands import run as command
from audit.model.options import PlaneName
from audit.replay import toolchain as toolchains
from audit.replay.recompile import recompile
from audit.replay.toolchain import Toolchain
from audit.scope import scope
from audit.tracing.options import Options
from tests import mutate
from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.mutable import Cluster, a_set, copied, members

pytestmark = pytest.mark.ovn

DATA = REPOSITORY / "tests" / "data"
OBSERVED = DATA / "head-observability.tar.xz"
BOTH = frozenset({PlaneName.LOGICAL, PlaneName.DATAPATH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run on disk."""

    path: Path
    said: Mapping[str, Any]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Answer a query about `cells` and `traces`."""
        for table in ("cells", "traces"):
            query = query.replace(table, f"read_parquet('{self.path}/{table}/*.parquet')")
        return duckdb.execute(query).fetchall()


def run(
    root: Path,
    snapshot: Path,
    *,
    planes: frozenset[PlaneName] = BOTH,
    engine: Toolchain | None = None,
    **flags: Any,
) -> Ran:
    done = command.run(
        Options(
            snapshot=snapshot,
            scope=scope.from_flags(**flags),
            planes=planes,
            ovn_prefix=engine.prefix if engine is not None else None,
        ),
        root,
        progress.Silent(),
    )
    return Ran(path=done.path, said=json.loads((done.path / "run.json").read_text()))


@pytest.fixture(scope="module")
def newest() -> Toolchain:
    """Return the OVN that a database of 26.03 is traced with; without one the test fails."""
    prefix = os.environ.get("AUDIT_OVN_PREFIX")
    candidates = toolchains.find(Path(prefix) if prefix else None)
    return toolchains.choose(candidates, {"z": "26.03.0"})


# --- registers that ovn-trace keeps


@pytest.fixture(scope="module")
def observed(newest: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run a cluster with observability, whose ACLs leave sample ids in registers."""
    root = tmp_path_factory.mktemp("observed")
    return run(root, OBSERVED, engine=newest, ports=("tcp/80",))


def test_a_sample_id_is_not_taken_for_a_packet_too_large(observed: Ran) -> None:
    doubts = "select distinct reason from cells where logical in ('inconclusive', 'untraced')"
    assert observed.rows(doubts) == [("host-to-host",)]
    # The nodes' switches clear their registers: what they say is right.
    differing = "select count(*) from cells where logical != datapath"
    assert observed.rows(differing) == [(0,)]
    stopped = "select count(*) from traces where reason = 'pipeline-drop'"
    assert observed.rows(stopped) == [(0,)]


def test_a_trace_is_taken_up_again_behind_the_patch_port(observed: Ran) -> None:
    taken_up = "select count(*) from traces where plane = 'logical' and detail like 'to rtos-%'"
    assert observed.rows(taken_up)[0][0] > 0


def test_a_packet_with_a_service_class_is_followed_behind_the_patch_port(
    newest: Toolchain, tmp_path: Path
) -> None:
    """An EgressQoS marks what a sampled ACL lets out: ovn-trace takes no packet with a mark."""
    snapshot = sampled(tmp_path / "snapshot")
    ran = run(tmp_path, snapshot, engine=newest, from_namespaces=("qos",), ports=("tcp/80",))
    taken_up = "select count(*) from traces where plane = 'logical' and detail like 'to rtos-%'"
    assert ran.rows(taken_up)[0][0] > 0
    cells = "from cells where src_kind = 'pod' and dst_kind = 'pod'"
    assert ran.rows(f"select distinct reason {cells} and logical = 'inconclusive'") == []
    assert ran.rows(f"select count(*) {cells} and logical != datapath") == [(0,)]
    assert len(ran.rows(f"select distinct logical {cells}")) > 1


def sampled(target: Path) -> Path:
    """Return the cluster with an ACL of every switch that lets all of TCP in, and samples it."""
    engine = mutate.Clusters(target / "c", ["head-observability"]).engine("head-observability")
    assert engine is not None
    cluster = Cluster(root=copied(engine.snapshot, target / "s"), rng=random.Random(0))  # noqa: S311
    for zone in cluster.zones:
        northbound = cluster.database(zone, "nb")
        acls = northbound.rows("ACL")
        _, samples = min(
            (key, row)
            for key, row in acls.items()
            if row["direction"] == "to-lport" and row["sample_est"] != a_set([])
        )
        key = "00000001-0000-4000-8000-000000000001"
        acls[key] = {**samples, "match": "ip4 && tcp", "action": "allow-related"}
        for row in northbound.rows("Logical_Switch").values():
            if row["name"] == zone:
                row["acls"] = a_set([*members(row["acls"]), ["uuid", key]])
        cluster.recompile.add(zone)
    mutate.recompile_zones(cluster, engine, target)
    return cluster.root


# --- what conntrack has of a connection


@pytest.fixture(scope="module")
def services(newest: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("services")
    return run(root, OBSERVED, engine=newest, ports=("declared",), to_services=("open/*",))


def test_the_datapath_balances_what_reads_its_port_from_conntrack(services: Ran) -> None:
    assert services.said["drift"]["cells"] == 0
    unroutable = "select distinct dst_name, reason from cells where datapath = 'unroutable'"
    assert services.rows(unroutable) == [("none", "service-without-endpoints")]
    balanced = "select count(*) from cells where datapath = 'reachable' and src_namespace != 'open'"
    assert services.rows(balanced)[0][0] > 0


def test_a_host_reaches_a_service_by_a_way_that_is_not_traced(services: Ran) -> None:
    hosts = (
        "select distinct verdict, reason from cells where dst_name != 'headless' and "
        "src_name like 'ovnkube-node%'"
    )
    assert services.rows(hosts) == [("inconclusive", "host-to-service")]


# --- hairpins


def test_a_pod_that_calls_itself_is_decided_by_a_packet(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        DATA / "cases" / "pod-calls-itself.tar.xz",
        planes=BOTH | {PlaneName.INTENT},
        from_selector="app=one",
        to_services=("svc/etp-local",),
        ports=("declared",),
    )
    found = ran.rows(
        "select src_name, verdict, intent, logical, datapath from cells order by src_name"
    )
    assert found == [
        ("one-0", "reachable", "reachable", "inconclusive", "reachable"),
        ("one-1", "blocked", "blocked", "blocked", "blocked"),
    ]
    told = {finding["kind"] for finding in ran.said["findings"]}
    # The EndpointSlices have one backend of the two in OVN, which is no matter of this packet.
    assert (ran.said["drift"]["cells"], told) == (0, {"no-default-deny", "load-balancer-differs"})


# --- ACLs that contradict each other


def owner(action: str) -> dict[str, str]:
    """Return what OVN-Kubernetes writes beside an ACL of an AdminNetworkPolicy."""
    name = f"{action}-it"
    return {
        "k8s.ovn.org/id": f"default-network-controller:AdminNetworkPolicy:{name}:Ingress:0",
        "k8s.ovn.org/owner-controller": "default-network-controller",
        "k8s.ovn.org/owner-type": "AdminNetworkPolicy",
        "k8s.ovn.org/name": name,
        "direction": "Ingress",
        "gress-index": "0",
    }


def contradicting(engine: Toolchain, root: Path, *, priorities: tuple[int, int]) -> Path:
    """Return the example with two ACLs about tcp/80 to default/web-1, as ovn-northd makes it."""
    with tarfile.open(REPOSITORY / "examples" / "interconnect.tar.gz") as packed:
        extract(packed, root)
    snapshot = next(path.parent for path in root.rglob("kube"))
    zone, switch = "ovn-worker", "ovn-worker"
    files = {kind: snapshot / "ovn" / zone / f"{kind}.db" for kind in ("nb", "sb")}
    acls = [
        {
            "op": "insert",
            "table": "ACL",
            "uuid-name": f"a{number}",
            "row": {
                "direction": "to-lport",
                "priority": priority,
                "match": 'outport == "default_web-1" && tcp.dst == 80',
                "action": action,
                "external_ids": ["map", sorted(owner(action).items())],
            },
        }
        for number, (action, priority) in enumerate(
            zip(("allow-related", "drop"), priorities, strict=True)
        )
    ]
    both = ["set", [["named-uuid", "a0"], ["named-uuid", "a1"]]]
    hold = {
        "op": "mutate",
        "table": "Logical_Switch",
        "where": [["name", "==", switch]],
        "mutations": [["acls", "insert", both]],
    }
    transaction = json.dumps(["OVN_Northbound", *acls, hold])
    argv = engine.argv("ovsdb-tool", "transact", str(files["nb"]), transaction)
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert '"count":1' in said
    made = root / "made"
    recompile(engine, {zone: (files["nb"], files["sb"])}, made, root / "w", lambda _: None)
    for kind, file in files.items():
        file.write_bytes((made / zone / f"{kind}.db").read_bytes())
    return snapshot


def verdicts_to_the_pod(ran: Ran) -> set[tuple[Any, ...]]:
    cells = "from cells where dst_name = 'web-1' and dst_namespace = 'default'"
    return set(ran.rows(f"select logical, datapath, reason {cells} and src_kind = 'pod'"))


def test_acls_that_contradict_each_other_prove_nothing(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    snapshot = contradicting(toolchain, tmp_path / "one", priorities=(1500, 1500))
    ran = run(tmp_path, snapshot, ports=("tcp/80",), from_namespaces=("prod",))
    assert verdicts_to_the_pod(ran) == {("inconclusive", "inconclusive", "acls-contradict")}
    assert ran.said["drift"]["cells"] == 0
    (detail,) = ran.rows("select distinct detail from traces where reason = 'acls-contradict'")
    assert "adminnetworkpolicy allow-related-it (allow-related)" in detail[0]
    assert "adminnetworkpolicy drop-it (drop)" in detail[0]
    # Each for itself decides, and is taken for it.
    snapshot = contradicting(toolchain, tmp_path / "other", priorities=(1500, 1501))
    ran = run(tmp_path, snapshot, ports=("tcp/80",), from_namespaces=("prod",))
    assert {(one, other) for one, other, _ in verdicts_to_the_pod(ran)} == {("blocked", "blocked")}
