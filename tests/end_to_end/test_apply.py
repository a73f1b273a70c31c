"""`audit run --apply`: what a change of policies would open and close, before it is made.

The oracle is a snapshot whose lists of objects were changed by hand: its run has the same cells.
"""

import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import sync_playwright

from tests.archives import extract
from tests.end_to_end.conftest import Audit

ALL_CELLS = (
    "SELECT src_namespace, src_name, dst_namespace, dst_name, family, protocol, port, verdict, "
    "reason, blame_kind, blame_namespace, blame_name, blame_direction, blame_rule FROM cells "
    "ORDER BY ALL"
)
NOTHING_PASSES = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
Lists = dict[str, dict[str, Any]]


def policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    }


@pytest.fixture
def snapshot(example_snapshot: Path, tmp_path: Path) -> Path:
    with tarfile.open(example_snapshot) as archive:
        extract(archive, tmp_path / "as-it-is")
    place = tmp_path / "as-it-is"
    return place if (place / "kube").is_dir() else next(place.iterdir())


def edited(snapshot: Path, edit: Callable[[Lists], object]) -> Path:
    """Change the lists of a snapshot itself, as the API server would after the change."""
    names = ("networkpolicies", "namespaces")
    files = {name: snapshot / "kube" / f"{name}.json" for name in names}
    lists = {name: json.loads(file.read_text()) for name, file in files.items()}
    edit(lists)
    for name, file in files.items():
        file.write_text(json.dumps(lists[name]))
    return snapshot


def cells(audit: Audit, run: str | Path) -> list[dict[str, Any]]:
    done = audit("query", run, ALL_CELLS, "-o", "json")
    assert done.code == 0, done.err
    rows: list[dict[str, Any]] = done.json
    return rows


@pytest.mark.parametrize("seed", range(6))
def test_a_change_does_what_it_does_when_it_is_there(
    audit: Audit, snapshot: Path, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - what is drawn is a test's
    listed = json.loads((snapshot / "kube" / "networkpolicies.json").read_text())["items"]
    spaces = json.loads((snapshot / "kube" / "namespaces.json").read_text())["items"]
    names = [space["metadata"]["name"] for space in spaces]
    deleted, replaced, copied = rng.sample(listed, 3)
    moved = policy(rng.choice(names), "moved", **copied["spec"])
    metadata = replaced["metadata"]
    other = policy(metadata["namespace"], metadata["name"], **rng.choice(listed)["spec"])
    labelled = rng.choice(names)
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    namespace["metadata"] = {"name": labelled, "labels": {"kind": "b", "env": "prod"}}  # type: ignore[assignment]
    file = tmp_path / "change.yaml"
    file.write_text(yaml.safe_dump_all([moved, other, namespace]))
    gone = f"{deleted['metadata']['namespace']}/{deleted['metadata']['name']}"

    tried = audit(
        *("run", "--snapshot", snapshot, "-A", "--apply", file, "-q", "-o", "json"),
        *("--apply-delete", f"netpol/{gone}"),
    )
    before = audit("run", "--snapshot", snapshot, "-A", "--planes", "intent", "-q", "-o", "json")

    def edit(lists: Lists) -> None:
        kept = [p for p in listed if p is not deleted and p is not replaced]
        lists["networkpolicies"]["items"] = [*kept, moved, other]
        for space in lists["namespaces"]["items"]:
            if space["metadata"]["name"] == labelled:
                space["metadata"].setdefault("labels", {}).update(namespace["metadata"]["labels"])  # type: ignore[index]

    changed = edited(snapshot, edit)
    after = audit("run", "--snapshot", changed, "-A", "--planes", "intent", "-q", "-o", "json")
    assert {before.code, after.code} <= {0, 1}, before.err + after.err

    assert cells(audit, tried.json["path"]) == cells(audit, after.json["path"])
    compared = audit("diff", before.json["path"], after.json["path"], "-o", "json")
    assert tried.code == compared.code
    for of_paths in ("paths", "policies", "compared", "proven"):
        assert tried.json["changes"][of_paths] == compared.json[of_paths]
    assert tried.json["changes"]["outside"]["paths"] == compared.json["outside"]["paths"]


def test_the_answer_names_what_closes_and_keeps_apart_from_the_cluster_as_it_is(
    audit: Audit, example_snapshot: Path, tmp_path: Path
) -> None:
    (tmp_path / "deny.yaml").write_text(
        yaml.safe_dump(policy("monitoring", "no", **NOTHING_PASSES))
    )
    real = audit("run", "--snapshot", example_snapshot, "--planes", "intent", "-q", "-o", "json")
    done = audit("run", "--snapshot", example_snapshot, "--apply", "deny.yaml", "-q")
    assert done.code == 1, done.err
    first, second, *_, where, page = done.out.splitlines()
    assert "0 cells opened" in first
    assert " closed" in first
    assert second == "different: added networkpolicy monitoring/no"
    assert "  because  added networkpolicy monitoring/no" in done.out
    assert "warning: this is the cluster as it would be, not as it is: 1 added;" in done.out
    assert where.startswith("run: runs/applied/")
    assert audit("explain", "latest", "monitoring/prom-0", "default/web-0", "-o", "json").code == 0
    history = audit("history", "runs", "-o", "json").json
    assert [Path(run["path"]).name for run in history] == [Path(real.json["path"]).name]
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        tab = chromium.new_page()
        cell = "pod monitoring/prom-0,pod prod/prod-client-0"
        tab.goto(f"{Path(page).as_uri()}#cell={cell}&port=tcp/80")
        tab.evaluate("window.auditReport.ready")
        panel = tab.get_by_test_id("panel-since").inner_text()
        heading = tab.locator("#changes h2").inner_text()
        headline = tab.locator("h1").inner_text()
        chromium.close()
    assert heading == "Compared with the cluster as it is"
    assert "With the change applied, of " in headline
    assert "networkpolicy monitoring/no" in panel


def test_nothing_changes_where_nothing_would(audit: Audit, example_snapshot: Path) -> None:
    again = policy("shop", "nobody", podSelector={"matchLabels": {"app": "nobody-has-this"}})
    (audit.directory / "again.yaml").write_text(yaml.safe_dump(again))
    done = audit("run", "--snapshot", example_snapshot, "--apply", "again.yaml", "-q")
    assert done.code == 0
    assert "0 cells opened, 0 cells closed" in done.out


WRONG = (
    (("--apply", "nowhere"), "nowhere does not exist; name a directory, a file or -"),
    (("--apply", "pods.yaml"), "pods.yaml has no policy and no Namespace"),
    (("--apply", "empty-peer.yaml"), "spec.ingress[0].from[0] is empty; an API server refuses it"),
    (("--apply-delete", "pod/shop/x"), "'pod' is no kind of policy"),
    (("--apply-delete", "netpol/x"), "'netpol/x' names no NetworkPolicy; write networkpolicy/NAME"),
    (("--apply-delete", "anp/shop/x"), "write adminnetworkpolicy/NAME"),
    (("--apply-delete", "netpol/shop/x"), "there is no networkpolicy shop/x in "),
    (("--apply", "p.yaml", "--planes", "logical"), "--apply goes with --planes intent"),
    (("--apply", "p.yaml", "--manifests", "p.yaml"), "of manifests, audit diff compares two"),
    (("--apply", "p.yaml", "--out", "s3://bucket/runs"), "it is kept in a directory (--out DIR)"),
)


@pytest.mark.parametrize(("words", "sentence"), WRONG)
def test_what_cannot_be_applied_is_refused(
    audit: Audit, example_snapshot: Path, words: tuple[str, ...], sentence: str
) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}
    empty = policy("shop", "p", podSelector={}, ingress=[{"from": [{}]}])
    for name, item in (
        ("p.yaml", policy("shop", "p", podSelector={})),
        ("pods.yaml", pod),
        ("empty-peer.yaml", empty),
    ):
        (audit.directory / name).write_text(yaml.safe_dump(item))
    given = () if "--manifests" in words else ("--snapshot", example_snapshot)
    done = audit("run", *given, *words, "-q")
    assert done.code == 2
    assert sentence in done.err
    assert done.err.count("\n") == 1
    if words == ("--apply", "empty-peer.yaml"):  # before the cluster is judged without it
        assert "evaluating" not in audit("run", *given, *words).err
    assert not [*audit.directory.glob("runs/**/run.json")]


def test_such_a_run_is_asked_again_and_not_gone_on_with(
    audit: Audit, example_snapshot: Path
) -> None:
    (audit.directory / "p.yaml").write_text(yaml.safe_dump(policy("shop", "p", podSelector={})))
    done = audit("run", "--snapshot", example_snapshot, "--apply", "p.yaml", "-q", "-o", "json")
    run = audit.directory / done.json["path"]
    (run / "run.json").unlink()
    resumed = audit("run", "--resume", run)
    assert resumed.code == 2
    assert "was begun with --apply or --apply-delete; ask that again" in resumed.err
