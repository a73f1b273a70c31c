"""Clusters whose databases and objects do not agree: the cause is told, in a real run."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import Audit, run_of

CASES = REPOSITORY / "tests" / "data" / "cases"
PLANES = ("--planes", "intent,logical", "--port", "tcp/80")


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(CASES / f"{request.param}.tar.xz") as tar:
        extract(tar, tmp_path / "case")
    return tmp_path / "case"


def of_kind(run: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "run.json").read_text())["findings"]
    return [one for one in found if one["kind"] == kind]


@pytest.mark.ovn
@pytest.mark.parametrize("case", ["address-set-lacks-a-pod"], indirect=True)
def test_an_address_set_that_lacks_a_pod_is_the_cause_of_drift(
    audit_command: tuple[str, ...], tmp_path: Path, case: Path
) -> None:
    run = run_of(
        audit_command, tmp_path / "runs", case, *PLANES, "-n", "prod", "-n", "default", code=1
    )
    [found] = of_kind(run, "address-set-differs")
    lacks = (
        "address set a8233421367241191820 (all pods of namespace prod, IPv4) in zone ovn-worker "
        "lacks 10.130.0.5 of pod prod/prod-client-0"
    )
    assert lacks in found["text"]
    assert "Restart ovnkube-controller on the nodes of zone ovn-worker" in found["text"]
    [drift] = of_kind(run, "drift")
    assert drift["cause"] == "address-set-differs"
    assert drift["text"].endswith(f"in 1 cell: {lacks}")
    assert drift["subjects"] == ["pod prod/prod-client-0 to pod default/web-1 on tcp/80"]


@pytest.mark.ovn
@pytest.mark.parametrize("case", ["completed-pods-address"], indirect=True)
def test_a_completed_pod_that_took_its_address_with_it(
    audit_command: tuple[str, ...], tmp_path: Path, case: Path
) -> None:
    run = run_of(
        audit_command, tmp_path / "runs", case, *PLANES, "-n", "prod", "-n", "default", code=1
    )
    [found] = of_kind(run, "address-set-differs")
    assert (
        "in 3 zones (ovn-control-plane, ovn-worker, ovn-worker2) lacks 10.129.0.7" in found["text"]
    )
    assert "an address that completed pod prod/nightly-job-x1 had" in found["text"]
    [drift] = of_kind(run, "drift")
    assert (drift["cause"], drift["cells"]) == ("address-set-differs", 3)


@pytest.mark.ovn
@pytest.mark.parametrize("case", ["policies-only-in-ovn"], indirect=True)
def test_policies_that_only_ovn_has_are_named(
    audit_command: tuple[str, ...], tmp_path: Path, case: Path
) -> None:
    run = run_of(
        audit_command, tmp_path / "runs", case, *PLANES, "--to-namespace", "deny-in", code=1
    )
    [found] = of_kind(run, "policy-only-in-ovn")
    for name in (
        *("deny-in/allow-from-prod-idx", "deny-in/allow-same-namespace"),
        *("deny-in/deny-by-default", "shop/db-range"),
    ):
        assert f"NetworkPolicy {name} is in OVN and no longer in Kubernetes" in found["text"]
    assert {one["cause"] for one in of_kind(run, "drift")} == {"policy-only-in-ovn"}


@pytest.mark.ovn
@pytest.mark.parametrize("case", ["service-backends-differ"], indirect=True)
def test_backends_that_differ_are_told_by_service_and_port(
    audit_command: tuple[str, ...], tmp_path: Path, case: Path
) -> None:
    flags = ("--planes", "logical", "-n", "svc", "--to-service", "svc/plain", "--port", "tcp/80")
    run = run_of(audit_command, tmp_path / "runs", case, *flags, code=1)
    [found] = of_kind(run, "load-balancer-differs")
    assert (
        "service svc/plain in 3 zones (ovn-control-plane, ovn-worker, ovn-worker2): the load "
        in (found["text"])
    )
    for said in (
        "tcp 172.30.181.54:80 has 10.128.0.5:8087, which the EndpointSlices do not have",
        "and lacks 10.128.0.5:8080, which they have",
        "service svc/lb in 3 zones",
        "service svc/extip in 3 zones",
        "service svc/nodeport in zone ovn-worker: no load balancer has tcp 172.30.107.132:80",
    ):
        assert said in found["text"]


@pytest.mark.ovn
@pytest.mark.parametrize("case", ["pod-address-differs"], indirect=True)
def test_nothing_is_proven_of_a_pod_that_ovn_has_at_another_address(
    audit: Audit, audit_command: tuple[str, ...], tmp_path: Path, case: Path
) -> None:
    run = run_of(audit_command, tmp_path / "runs", case, *PLANES, "-n", "prod", code=1)
    [found] = of_kind(run, "pod-differs")
    both = "pod prod/prod-client-1: Kubernetes says 10.128.0.55, OVN 10.128.0.5"
    assert both in found["text"]
    where = "src_name = 'prod-client-1' OR dst_name = 'prod-client-1'"
    asked = audit(
        "query", run, f"SELECT DISTINCT verdict, reason FROM cells WHERE {where}", "-o", "json"
    )
    assert asked.json == [{"verdict": "untraced", "reason": "pod-differs"}]
    rest = audit(
        "query", run, f"SELECT DISTINCT verdict FROM cells WHERE NOT ({where})", "-o", "json"
    )
    assert {row["verdict"] for row in rest.json} <= {"reachable", "blocked"}
    for ends in (
        ("-dst-namespace", "prod", "-dst", "prod-client-1", "-src-namespace", "prod"),
        ("-src-namespace", "prod", "-src", "prod-client-1", "-dst-namespace", "prod"),
    ):
        other = "-src" if "-dst" in ends else "-dst"
        pair = audit(
            "trace", "--snapshot", case, *ends, other, "prod-client-0", "-tcp", "-dst-port", "80"
        )
        assert pair.code == 3
        assert both in " ".join(pair.out.split())
        assert "indicates success" not in pair.out
