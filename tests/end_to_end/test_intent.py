"""The intent plane in whole runs: beside the logical one, alone, and on manifests."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from audit.commands import meaning
from audit.model.verdicts import VERDICTS
from audit.report.grid import gather
from audit.store import reader
from tests.end_to_end.conftest import Audit, run_of

MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: web}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: i, ports: [{name: pg, containerPort: 5432}]}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: jobs}
spec:
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: report}}
        spec: {containers: [{name: c, image: i}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: front}}}]
    ports: [{port: pg}]
"""


@pytest.mark.ovn
def test_every_difference_between_objects_and_ovn_has_a_known_cause(
    audit: Audit, audit_command: tuple[str, ...], example_snapshot: Path, tmp_path: Path
) -> None:
    ports = ("-p", "tcp/80", "-p", "tcp/8080", "-p", "udp/53")
    flags = ("--planes", "intent,logical", "--family", "both", *ports)
    run = run_of(audit_command, tmp_path / "runs", example_snapshot, *flags, code=1)
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["planes"] == ["intent", "logical"]
    causes: dict[str, int] = {}
    for finding in manifest["findings"]:
        if finding["cells"]:
            causes[finding["cause"]] = causes.get(finding["cause"], 0) + finding["cells"]
    # Twice the IPv4 cells of the recorded answers: no cell differs in one family only.
    assert causes == {
        "named-port-opens-protocol": 72,
        "number-hides-protocol": 8,
        "admin-named-port-leaks": 4,
    }
    sql = "SELECT drift, intent = logical AS same, count(*) AS n FROM cells GROUP BY ALL"
    counted = {
        (row["drift"], row["same"]): row["n"] for row in audit("query", run, sql, "-o", "json").json
    }
    assert counted[True, False] == sum(causes.values())
    assert not counted.get((True, True))
    told = audit("explain", run, "staging/stage-0", "default/web-0", "tcp/80", "--family", "ip4")
    assert "[NetworkPolicy] decides: no rule allows (default/deny-by-default," in told.out
    assert "default/web-allow-prod, ingress)" in told.out
    assert "Any one of these would open it (each was tried)" in told.out
    differs = audit(
        "explain",
        run,
        "deny-out/caged-0",
        "openshift-dns/dns-default-0",
        "tcp/80",
        "--family",
        "ip4",
    ).out
    assert "OVN does otherwise: a named port of a NetworkPolicy opens" in differs
    assert "a named port of a NetworkPolicy opens" in (run / "report.html").read_text()
    said = what_kinds_say(run)
    assert sum(said.values()) > 1_000
    assert {meant for meant, decided in said if meant != decided} == set()


def what_kinds_say(path: Path) -> Counter[tuple[str, str]]:
    """Count cells of a run by what the page says of their kind, and by their own `intent`.

    The one is asked of one pair and the policies of its namespaces, the other of all at once.
    """
    run = reader.stream_run(path)
    grid = gather(run)
    meant = meaning.of_run(run, grid)
    assert meant is not None
    page = grid.page
    kind = [meant.kind_of.get(endpoint.key, -1) for endpoint in page.endpoints]
    said: Counter[tuple[str, str]] = Counter()
    for row, src in enumerate(page.sources.tolist()):
        for column, (dst, place) in enumerate(
            zip(page.column_dst.tolist(), page.column_slice.tolist(), strict=True)
        ):
            found = meant.of.get((kind[src], kind[dst], *page.slices[place]))
            code = int(grid.codes[row][column])
            if found is not None and code and src != dst:
                said[str(found.verdict), str(VERDICTS[grid.states[code - 1].intent])] += 1
    return said


def test_objects_alone_need_no_ovn(audit: Audit, example_snapshot: Path) -> None:
    flags = ("--planes", "intent", "-n", "default", "--with-peers", "-p", "tcp/80", "-q")
    nowhere = ("--ovn-prefix", audit.directory / "nowhere")
    done = audit("run", "--snapshot", example_snapshot, *flags, *nowhere, "-o", "json")
    assert done.code == 0, done.err
    manifest = done.json
    assert (manifest["planes"], manifest["counts"]["traces"]) == (["intent"], 0)
    assert manifest["engine"] is None
    assert manifest["counts"]["blocked"] > 0
    page = Path(audit.directory / manifest["report"]).read_text()
    assert "decided by the policy objects alone" in page
    told = audit("run", "--snapshot", example_snapshot, *flags, *nowhere)
    assert (told.code, told.err) == (0, "")
    proven = manifest["coverage"]["proven"]
    assert f"{proven:,} cells decided by the policy objects" in told.out


def test_manifests_of_a_repository(audit: Audit) -> None:
    (audit.directory / "deploy").mkdir()
    (audit.directory / "deploy" / "app.yaml").write_text(MANIFESTS)
    done = audit("run", "--manifests", "deploy", "-p", "tcp/5432", "-o", "json")
    assert done.code == 0, done.err
    run = audit.directory / done.json["path"]
    sql = (
        "SELECT src_name, verdict, blame_name, blame_rule, reason FROM cells "
        "WHERE dst_name = 'db-0' ORDER BY src_name"
    )
    rows = audit("query", run, sql, "-o", "json").json
    found = {row["src_name"]: (row["verdict"], row["reason"]) for row in rows}
    allowed, denied = ("reachable", "allowed-by-policy"), ("blocked", "default-deny")
    assert found == {
        "0.0.0.0/0": denied,
        "front-0": allowed,
        "front-1": allowed,
        "report-0": denied,
    }
    told = audit("explain", run, "jobs/report-0", "shop/db-0", "tcp/5432", "-o", "json").json
    assert (
        told["meaning"]["ingress"]
        == "[NetworkPolicy] decides: no rule allows (shop/allow-db, ingress)"
    )
    assert told["meaning"]["changes"]
    beyond = audit("explain", run, "jobs/report-0", "192.0.2.1", "tcp/5432")
    assert (beyond.code, beyond.out.count("0.0.0.0/0")) == (0, 1)


OUT = """---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-out, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: CIDR}}]}]
"""
NIGHTLY = """---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: jobs}
spec:
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: report, role: nightly}}
        spec: {containers: [{name: c, image: i}]}
"""
"""No policy tells it from `report`, but to let it in reads otherwise."""
BLOCKED = (
    ("jobs/report-0", "shop/db-0", "tcp/5432"),
    ("jobs/nightly-0", "shop/db-0", "tcp/5432"),
    ("shop/front-0", "shop/db-0", "tcp/80"),
    ("shop/front-1", "shop/db-0", "tcp/80"),
)


@pytest.mark.browser
def test_the_page_says_what_explain_says_of_blocked_cells(audit: Audit) -> None:
    (audit.directory / "app.yaml").write_text(MANIFESTS + NIGHTLY)
    run = audit("run", "--manifests", "app.yaml", "-p", "tcp/5432", "-p", "tcp/80", "-o", "json")
    assert run.code == 0, run.err
    place = run.json["path"]
    shown = panels(audit.directory / place / "report.html")
    edits = []
    for cell in BLOCKED:
        meant = audit("explain", place, *cell, "-o", "json").json["meaning"]
        terms, changes = shown[cell]
        assert terms == [meant["egress"], meant["ingress"]]
        assert changes == ["; and ".join(change["edits"]) for change in meant["changes"]]
        assert changes
        edits.append(changes)
    assert edits[0] != edits[1]
    assert edits[2] == edits[3]


def panels(page: Path) -> dict[tuple[str, str, str], tuple[list[str], list[str]]]:
    """Return what a browser shows of blocked cells: both sides' chains, and what would open it."""
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    found = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        for src, dst, port in BLOCKED:
            tab = chromium.new_page()
            tab.goto(f"{page.as_uri()}#cell=pod {src},pod {dst}&port={port}")
            tab.evaluate("window.auditReport.ready")
            tab.get_by_test_id("panel-changes").wait_for()
            terms = tab.get_by_test_id("panel-meaning").locator("dd").all_inner_texts()
            lines = tab.get_by_test_id("panel-changes").locator("li").all_inner_texts()
            found[src, dst, port] = (terms, [line.split("\n")[0] for line in lines])
            tab.close()
        chromium.close()
    return found


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--snapshot", "x", "--manifests", "y"),
            "give one of --snapshot, --live, --manifests and -k",
        ),
        (("-k", "x", "--manifests", "y"), "give one of --snapshot, --live, --manifests and -k"),
        (("--live", "--snapshot", "x"), "give one of --snapshot, --live, --manifests and -k"),
        (("-k", "x", "--planes", "logical"), "--manifests and -k go with --planes intent"),
        (("--manifests", "y", "--planes", "intent,logical"), "manifests have no OVN to ask"),
        (("--manifests", "y", "--planes", "intend"), "'intend' is no plane; there are intent"),
    ],
)
def test_what_contradicts_itself_is_refused(
    audit: Audit, flags: tuple[str, ...], said: str
) -> None:
    done = audit("run", *flags)
    assert done.code == 2
    assert said in done.err


def test_what_a_kustomization_makes_is_audited(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (audit.directory / "app.yaml").write_text(MANIFESTS)
    patch = '[{"op": "remove", "path": "/spec/ingress"}]'
    (audit.directory / "kustomization.yaml").write_text(
        f"resources: [app.yaml]\npatches: [{{target: {{kind: NetworkPolicy}}, patch: '{patch}'}}]"
    )
    done = audit("run", "-k", ".", "-p", "tcp/5432", "--to-selector", "app=db", "-o", "json")
    assert done.code == 0, done.err
    counts = done.json["counts"]
    assert (counts["blocked"], counts["reachable"]) == (counts["cells"], 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("podselector: {}", "spec.podselector is not a field of this API"),
        ("podSelector: {}\n  podSelector: {}", "podSelector is there twice; leave one of them"),
    ],
)
def test_a_policy_that_no_server_accepts_ends_the_run_before_it_begins(
    audit: Audit, wrong: str, said: str
) -> None:
    policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec:\n"
    (audit.directory / "app.yaml").write_text(f"{MANIFESTS.strip()}\n---\n{policy}  {wrong}\n")
    done = audit("run", "--manifests", "app.yaml", "-p", "tcp/5432")
    assert (done.code, done.out) == (2, "")
    assert "app.yaml, line " in done.err
    assert said in done.err
    assert [one.name for one in audit.directory.iterdir()] == ["app.yaml"]


def test_what_a_change_of_manifests_changes(audit: Audit) -> None:
    for name in ("before", "after"):
        (audit.directory / name).mkdir()
    closed = MANIFESTS.replace("matchLabels: {app: front}", "matchLabels: {app: nobody}")
    (audit.directory / "before" / "app.yaml").write_text(closed)
    (audit.directory / "after" / "app.yaml").write_text(MANIFESTS)
    done = audit("diff", "before", "after", "-p", "tcp/5432", "-p", "tcp/80", "-q")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("### Connectivity: 2 cells opened, 0 cells closed\n")
    assert "- changed networkpolicy shop/allow-db\n" in done.out
    row = (
        "| deployment shop/front | statefulset shop/db | tcp/5432 | blocked | reachable "
        "| networkpolicy shop/allow-db ingress\\[0\\] (allowed-by-policy) | 2 |"
    )
    assert row in done.out
    back = audit("diff", "after", "before", "-p", "tcp/5432", "-q", "-o", "json", "--exit-zero")
    assert back.code == 0
    [path] = back.json["paths"]
    assert (path["before"], path["after"], path["cells"]) == ("reachable", "blocked", 2)
    text = audit("diff", "after", "before", "-p", "tcp/5432", "-q", "-o", "text").out
    assert "before   reachable (networkpolicy shop/allow-db ingress[0]" in text
    assert "after    blocked (networkpolicy shop/allow-db ingress (default-deny))" in text
    assert "because" not in text  # what decides on both sides is all that objects can say
    wider = MANIFESTS + OUT.replace("CIDR", "203.0.113.0/24")
    (audit.directory / "before" / "app.yaml").write_text(wider)
    (audit.directory / "after" / "app.yaml").write_text(wider.replace("113.0/24", "113.128/25"))
    cut = audit("diff", "before", "after", "-p", "tcp/443", "-q", "-o", "json")
    paths = [(path["src"], path["dst"], path["after"]) for path in cut.json["paths"]]
    lost = "external 203.0.113.0/24 except 203.0.113.128/25"
    assert (cut.code, paths) == (1, [("statefulset shop/db", lost, "blocked")])
    same = audit("diff", "after", "after", "-p", "tcp/5432", "-q")
    assert (same.code, same.out.count("|")) == (0, 0)
