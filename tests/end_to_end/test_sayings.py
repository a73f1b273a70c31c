"""What runs say of recorded clusters with one deviation each (`tests/data/cases`)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Audit

pytestmark = pytest.mark.ovn

CASES = Path(__file__).resolve().parent.parent / "data" / "cases"


def case(name: str) -> Path:
    return CASES / f"{name}.tar.xz"


def run(audit: Audit, name: str, *flags: str) -> tuple[int, Any]:
    done = audit("run", "--snapshot", case(name), "-q", "-o", "json", *flags)
    return done.code, json.loads(done.out)


def test_a_port_that_is_not_bound_is_no_matter_of_policies(audit: Audit) -> None:
    planes = ("--planes", "intent,logical,datapath")
    code, said = run(audit, "unbound-ports", *planes, "-n", "tenant-a", "-n", "tenant-b")
    assert said["intent"]["cells"] == 0 < said["intent"]["of"]
    errors = [one for one in said["findings"] if one["severity"] == "error"]
    # One pod's port is not bound, and another has an address that its pod has not.
    assert {one["kind"] for one in errors} == {"datapath-drift", "port-not-bound", "pod-differs"}
    drift = [one["cause"] for one in errors if one["kind"] == "datapath-drift"]
    assert {"no interface" in cause or "no flow" in cause for cause in drift} == {True}
    assert code == 1


def test_what_a_stale_hint_makes_of_a_run_is_said(audit: Audit) -> None:
    done = audit("run", "--snapshot", case("stale-stage-hint"), "-q", "--port", "tcp/80")
    assert (done.code == 1) is ("\nerror: " in done.out)


def test_a_windows_node_is_untraced_by_nature_and_no_failure(audit: Audit) -> None:
    code, said = run(audit, "windows-node", "-n", "tenant-a", "--port", "tcp/80")
    assert (code, said["incomplete"]) == (0, False)
    where = "src_name = 'win-web' OR dst_name = 'win-web'"
    sql = f"SELECT DISTINCT verdict, reason FROM cells WHERE {where}"
    cells = audit("query", said["path"], sql, "-o", "json").json
    assert cells == [{"verdict": "untraced", "reason": "hybrid-overlay"}]


def test_a_pod_selector_means_pods_in_the_host_network_where_packets_go_to_them(
    audit: Audit,
) -> None:
    code, said = run(audit, "host-network-labels", "-n", "infra", "--port", "tcp/9100")
    assert (code, said["intent"]["cells"]) == (0, 0)
    sql = "SELECT DISTINCT dst_name, intent FROM cells WHERE src_name = 'plain-0' ORDER BY ALL"
    reached = {
        row["dst_name"]: row["intent"]
        for row in audit("query", said["path"], sql, "-o", "json").json
    }
    assert {reached[f"node-exporter-{n}"] for n in range(3)} == {"reachable"}


def test_advice_for_a_source_in_the_host_network_names_its_namespace(audit: Audit) -> None:
    flags = ("--from-namespace", "ovn-kubernetes", "--to-namespace", "tenant-a")
    _, said = run(audit, "host-network-labels", *flags, "--port", "tcp/9443")
    sql = (
        "SELECT src_name, dst_name FROM cells WHERE verdict = 'blocked' AND src_node <> dst_node "
        "AND dst_name = 'a-0'"
    )
    blocked = audit("query", said["path"], sql, "-o", "json").json
    assert blocked
    ends = (f"ovn-kubernetes/{blocked[0]['src_name']}", "tenant-a/a-0")
    told = audit("explain", said["path"], *ends, "tcp/9443").out
    assert "kubernetes.io/metadata.name=ovn-host-network" in " ".join(told.split())
    assert "/32" not in told.partition("would open it")[2]


def test_of_a_service_it_is_said_what_policies_see(audit: Audit) -> None:
    flags = ("--from-namespace", "prod", "--to-service", "default/kubernetes")
    _, said = run(audit, "apiserver-by-service", *flags, "--port", "declared")
    told = audit("explain", said["path"], "prod/prod-client-1", "default/kubernetes", "tcp/443").out
    text = " ".join(told.split())
    assert "they see the backend's address and port, 172.18.0.2:6443, and not the Service's" in text
    assert "172.30.0.1:443" in text


def test_a_composed_cell_is_explained_by_its_own_zones_acl(audit: Audit, example_run: Path) -> None:
    """Whose ACL it is, the zone's own recorded northbound database says."""
    sql = (
        "SELECT src_namespace || '/' || src_name AS src, dst_namespace || '/' || dst_name AS dst, "
        "port, dst_node FROM cells WHERE verdict = 'blocked' AND blame_direction = 'ingress' "
        "AND dst_kind = 'pod' AND src_kind = 'pod' AND protocol = 'tcp' ORDER BY ALL LIMIT 400"
    )
    composed = 0
    for row in audit("query", example_run, sql, "-o", "json").json[::40]:
        ends = (row["src"], row["dst"], f"tcp/{row['port']}")
        said = audit("explain", example_run, *ends).out
        fields = audit("explain", example_run, *ends, "-o", "json").json
        method = "\n\nDecided together with an equivalent packet: pod "
        assert (method in said.partition("\n\nRequest")[0]) is fields["composed"]
        assert said.startswith(f"pod {row['src']} cannot reach ")
        composed += fields["composed"]
        own = f"of zone {row['dst_node']}" in said.partition("\n\nRequest")[0]
        assert own or f"those of zone {row['dst_node']}, which" in " ".join(said.split())
    assert composed


def test_each_endpoint_of_a_service_fares_as_its_pod_does(
    audit: Audit, example_snapshot: Path
) -> None:
    """Whoever is asked directly, on the port that the Service leads to, is another cell."""
    pods = ("--to-namespace", "shop", "--to-namespace", "default")
    sources = ("--from", "prod/prod-client-0", "--from", "shop/front-0", "--from", "default/web-0")
    services = ("--to-service", "shop/*", "--to-service", "default/web")
    done = audit(
        *("run", "--snapshot", example_snapshot, *sources, *pods, *services, "-p", "declared"),
        *("--planes", "logical", "--workers", "inline", "--verify", "0", "-q", "-o", "json"),
    )
    run = done.json["path"]
    sql = (
        "SELECT c.src_namespace || '/' || c.src_name AS src, e.addresses[1] || ':' || c.port AS "
        "target, c.verdict FROM cells c JOIN endpoints e ON e.kind = 'pod' AND e.namespace = "
        "c.dst_namespace AND e.name = c.dst_name WHERE c.dst_kind = 'pod' AND c.protocol = 'tcp'"
    )
    alone = {
        (row["src"], row["target"]): row["verdict"]
        for row in audit("query", run, sql, "-o", "json").json
    }
    asked = (
        "SELECT src_namespace || '/' || src_name AS src, dst_namespace || '/' || dst_name AS dst, "
        "port FROM cells WHERE dst_kind = 'service' AND protocol = 'tcp'"
    )
    compared = 0
    for row in audit("query", run, asked, "-o", "json").json:
        ends = (row["src"], f"svc/{row['dst']}", str(row["port"]))
        told = audit("explain", run, *ends, "-o", "json").json
        for backend in told["backends"]:
            if backend["target"]:
                compared += 1
                assert backend["verdict"] == alone[row["src"], backend["target"]], (row, backend)
        passing = sum(backend["verdict"] in ("reachable", "exits") for backend in told["backends"])
        if len(told["backends"]) > 1:
            lines = audit("explain", run, *ends).out
            assert f"Backends {passing} of {len(told['backends'])} can be reached" in lines
    assert compared > 10
