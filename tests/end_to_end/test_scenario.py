"""The documented ovnkube-trace scenario, by the command line alone.

`default/deny-by-default` isolates every pod of the namespace and `default/web-allow-prod` lets the
namespace labelled `purpose=production` in (OVN-Kubernetes, docs/troubleshooting/ovnkube-trace.md).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Audit

pytestmark = pytest.mark.ovn


@pytest.fixture(scope="module")
def run(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    root = tmp_path_factory.mktemp("scenario")
    audit = Audit(command=audit_command, directory=root)
    done = audit(
        *("run", "--snapshot", example_snapshot, "--out", root, "-o", "json"),
        *("-p", "tcp/80", "-p", "udp/53", "--cover", "exhaustive", "--planes", "logical"),
    )
    assert done.code == 0, done.err
    return Path(done.json["path"])


def cell(audit: Audit, run: Path, src: str, dst: str, port: str) -> dict[str, Any]:
    done = audit("explain", run, src, dst, port, "-o", "json")
    assert done.code == 0, done.err
    fields: dict[str, Any] = json.loads(done.out)
    return fields


@pytest.mark.parametrize("client", ["prod/prod-client-0", "prod/prod-client-1"])
@pytest.mark.parametrize("web", ["default/web-0", "default/web-1", "default/web-2"])
def test_production_reaches_the_web_pods_and_gets_its_reply(
    audit: Audit, run: Path, client: str, web: str
) -> None:
    found = cell(audit, run, client, web, "tcp/80")
    assert found["verdict"] == "reachable"
    assert found["blame"] == "networkpolicy default/web-allow-prod ingress[0]"
    assert found["reply"] == "reachable"
    states = {trace["conntrack"] for trace in found["traces"]}
    assert states == {"new", "est,rpl"}


def test_another_namespace_is_blocked_by_the_default_deny(audit: Audit, run: Path) -> None:
    found = cell(audit, run, "staging/stage-0", "default/web-0", "tcp/80")
    assert found["verdict"] == "blocked"
    assert found["reason"] == "default-deny"
    assert found["blame"] == "networkpolicy default/deny-by-default ingress"
    assert "networkpolicy default/web-allow-prod" in found["policies"]
    assert found["reply"] is None


def test_dns_works_from_the_same_and_from_another_node(audit: Audit, run: Path) -> None:
    for number in range(3):
        dns = f"openshift-dns/dns-default-{number}"
        for client in ("prod/prod-client-0", "prod/prod-client-1"):
            found = cell(audit, run, client, dns, "udp/53")
            assert found["verdict"] == "reachable", (client, dns)
            assert found["reply"] == "reachable", (client, dns)


def test_the_explanation_reads_well_on_a_terminal(audit: Audit, run: Path) -> None:
    done = audit("explain", run, "staging/stage-0", "default/web-0", "tcp/80")
    assert done.code == 0
    assert "networkpolicy default/deny-by-default ingress" in " ".join(done.out.split())
    raw = audit("explain", run, "staging/stage-0", "default/web-0", "tcp/80", "--raw")
    assert 'ingress(dp="' in raw.out
    assert "ls_out_acl_eval" in raw.out


def test_sql_says_which_namespaces_can_reach_the_web_pods(audit: Audit, run: Path) -> None:
    done = audit(
        "query",
        run,
        "SELECT DISTINCT src_namespace FROM cells WHERE dst_namespace = 'default' "
        "AND dst_name LIKE 'web-%' AND protocol = 'tcp' AND port = 80 "
        "AND verdict = 'reachable' AND src_kind = 'pod' ORDER BY 1",
        *("-o", "json"),
    )
    assert done.code == 0, done.err
    namespaces = [row["src_namespace"] for row in done.json]
    assert "prod" in namespaces
    assert "staging" not in namespaces


def test_composed_cells_say_the_same_and_that_they_are_composed(
    audit: Audit, run: Path, example_snapshot: Path
) -> None:
    done = audit(
        *("run", "--snapshot", example_snapshot, "-o", "json", "-p", "tcp/80", "-p", "udp/53"),
        *("--planes", "logical"),
    )
    assert done.code == 0, done.err
    legs = audit.directory / done.json["path"]
    composed = 0
    for client in ("prod/prod-client-0", "prod/prod-client-1", "staging/stage-0"):
        for web in range(3):
            where = (client, f"default/web-{web}", "tcp/80")
            own, found = cell(audit, run, *where), cell(audit, legs, *where)
            composed += found["composed"]
            assert not own["composed"]
            for field in ("verdict", "reason", "reply", "blame", "policies"):
                assert own[field] == found[field], (where, field)
    assert composed
