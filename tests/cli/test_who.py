"""Who and can: what they say of a run is what SQL says of it."""

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from audit.cli import run as cli_run
from audit.commands.report import Outcome
from tests.end_to_end.conftest import Audit

PAIRS = """
    SELECT src_name, dst_name, verdict, count(*) AS cells FROM cells
    WHERE dst_name LIKE 'web-%' GROUP BY ALL
"""


@pytest.fixture
def by_sql(audit: Audit, small_run: Path) -> Counter[tuple[str, str, str]]:
    rows = audit("query", small_run, PAIRS, "-o", "json").json
    return Counter(
        {
            (f"pod prod/{row['src_name']}", f"pod default/{row['dst_name']}", row["verdict"]): row[
                "cells"
            ]
            for row in rows
        }
    )


@pytest.mark.ovn
def test_who_says_what_sql_says(
    audit: Audit, small_run: Path, by_sql: Counter[tuple[str, str, str]]
) -> None:
    done = audit("who", "app=web", "--run", small_run, "-o", "json")
    counted: Counter[tuple[str, str, str]] = Counter()
    for path in done.json["paths"]:
        cells = path["cells"]
        assert cells["unproven"] == 0
        for verdict, count in (("reachable", cells["pass"]), ("blocked", cells["stopped"])):
            if count:
                counted[path["from"], path["to"], verdict] += count * len(path["ports"])
    assert counted == by_sql
    assert by_sql


@pytest.mark.ovn
def test_every_form_has_the_same_paths(audit: Audit, small_run: Path) -> None:
    words = ("who", "ns/default", "--run", small_run)
    paths = audit(*words, "-o", "json").json["paths"]
    rows = list(csv.DictReader(io.StringIO(audit(*words, "-o", "csv").out)))
    assert [(row["from"], row["to"], row["answer"]) for row in rows] == [
        (path["from"], path["to"], path["answer"]) for path in paths
    ]
    wide = audit(*words, "-o", "wide").out.splitlines()
    assert len([line for line in wide if line.startswith("  ")]) == len(paths)
    names = audit(*words, "-o", "name").out.split("\n")
    can = dict.fromkeys(path["from"] for path in paths if path["answer"] == "yes")
    assert names == [f"prod/pod/{name.removeprefix('pod prod/')}" for name in can] + [""]
    for name in names[:-1]:
        assert audit("who", "ns/default", "--from", name, "--run", small_run).code == 0
    folded = audit(*words).out
    assert folded.splitlines()[-1] == wide[-1]
    assert len(folded.splitlines()) < len(wide)


@pytest.mark.ovn
def test_can_answers_by_its_exit_code(
    audit: Audit, small_run: Path, by_sql: Counter[tuple[str, str, str]]
) -> None:
    for source, destination, verdict in by_sql:
        words: tuple[Any, ...] = (source.split()[1], destination.split()[1], "80")
        done = audit("can", *words, "--run", small_run)
        passes = verdict == "reachable"
        assert (done.code, done.out.split("\n")[0]) == (0, "yes") if passes else (1, "no")
    assert audit("can", "ns/prod", "ns/default", "--run", small_run).code in (0, 1)


@pytest.mark.ovn
def test_what_the_run_has_not_is_said(audit: Audit, small_run: Path) -> None:
    done = audit("can", "prod/prod-client-0", "default/web-0", "tcp/81", "--run", small_run)
    assert done.code == 2
    assert "no cell from prod/prod-client-0 to default/web-0 on tcp/81; it has tcp/80" in done.err
    done = audit("who", "prod/prod-client-0", "--run", small_run)
    assert (done.code, "it was not asked what reaches prod/prod-client-0: " in done.err) == (
        2,
        True,
    )
    done = audit("can", "prod/prod-client-0", "svc/default/web", "80", "--run", small_run)
    assert (done.code, "`audit run --to-service default/web`" in done.err) == (2, True)


@pytest.mark.ovn
def test_several_sources_are_asked_as_one(audit: Audit, small_run: Path) -> None:
    names = ("prod/prod-client-0", "prod/prod-client-1")
    web = ("default/web-0", "--run", small_run, "-o", "json")
    each = [audit("who", *web, "--from", name).json["paths"] for name in names]
    both = audit("who", *web, "--from", names[0], "--from", names[1]).json["paths"]
    assert both == each[0] + each[1]
    assert len(both) > len(each[0]) > 0
    refused = audit("who", *web, "--from", names[0], "--from", "default/web-1")
    assert (refused.code, "no cell from default/web-1 to" in refused.err) == (2, True)


@pytest.mark.ovn
def test_ports_stand_behind_the_ends_or_with_a_flag(audit: Audit, small_run: Path) -> None:
    run = ("--run", small_run)
    for words in (("who", "default/web-0"), ("can", "prod/prod-client-0", "default/web-0")):
        assert audit(*words, "tcp/80", *run).out == audit(*words, "-p", "tcp/80", *run).out
        twice = audit(*words, "tcp/80", "-p", "tcp/80", *run)
        assert (twice.code, "not both" in twice.err) == (2, True)
        lacking = audit(*words, "-p", "tcp/80", "-p", "tcp/81", *run)
        assert (lacking.code, "on tcp/81; it has tcp/80" in lacking.err) == (2, True)


@pytest.mark.ovn
def test_the_newest_run_is_read_unless_another_is_named(
    audit: Audit, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = audit("who", "app=web")
    assert (done.code, "there are no runs in ./runs yet: start with `audit run`" in done.err) == (
        2,
        True,
    )
    for name in ("20200101T000000Z-aaaa", "20200102T000000Z-bbbb"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    shutil.copytree(small_run, tmp_path / "runs" / "20200101T000000Z-aaaa", dirs_exist_ok=True)
    newest = audit("who", "app=web", "-o", "json").json  # the other one is not finished
    assert newest == audit("who", "app=web", "--run", small_run, "-o", "json").json
    assert audit("query", "2020-01-01", "SELECT 1").code == 0
    named, newest_run = (audit("diff", run, small_run) for run in (small_run, "latest"))
    assert (newest_run.code, newest_run.out) == (named.code, named.out)
    done = audit("query", "2020-01-02", "SELECT 1")
    assert "there is no run of 2020-01-02 in ./runs" in done.err


@pytest.mark.ovn
def test_a_run_s_json_has_its_paths(audit: Audit, small_run: Path) -> None:
    manifest = json.loads((small_run / "run.json").read_text())
    done = Outcome(path=small_run, report=small_run, manifest=manifest, unproven=())
    paths = cli_run._paths(done)  # noqa: SLF001
    assert paths == audit("who", "--run", small_run, "-o", "json").json["paths"]
    cells = (sum(path["cells"].values()) * len(path["ports"]) for path in paths or [])
    assert sum(cells) == manifest["counts"]["cells"]
    manifest["counts"]["cells"] = 10**9
    assert cli_run._paths(done) is None  # noqa: SLF001


WORDS = ("who", "ns/default", "--from", "ns/prod", "-p", "tcp/80", "-o", "json")


@pytest.mark.ovn
def test_a_snapshot_answers_as_a_run_of_it_does_and_nothing_is_left(
    audit: Audit,
    small_run: Path,
    example_snapshot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    of_run = audit(*WORDS, "--run", small_run)
    traced = audit(*WORDS, "--snapshot", example_snapshot)
    assert traced.json == {**of_run.json, "run": None}
    assert len(traced.json["paths"]) > 1
    pair = ("can", "prod/prod-client-0", "default/web-0", "80")
    answers = [
        audit(*pair, *flags) for flags in (("--run", small_run), ("--snapshot", example_snapshot))
    ]
    assert answers[0].out == answers[1].out
    assert answers[0].code == answers[1].code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ovn
def test_a_word_that_the_cluster_has_not_is_a_usage_error(
    audit: Audit, example_snapshot: Path
) -> None:
    said = {
        ("shop/frontt-0", "default/web-0", "80"): "did you mean shop/front-0?",
        ("svc/shop/back", "default/web-0", "80"): "is a Service, which sends nothing",
        ("shop/front-0", "198.51.100.7"): "declares no ports; say which to ask for",
    }
    for words, sentence in said.items():
        done = audit("can", *words, "--snapshot", example_snapshot)
        assert (done.code, sentence in done.err) == (2, True), done.err


def test_only_one_thing_is_asked(audit: Audit) -> None:
    for flags in (("--run", "a", "--snapshot", "b"), ("--manifests", "a", "--live")):
        done = audit("can", "a", "b", "80", *flags)
        assert (done.code, "give one of them" in done.err) == (2, True), done.err
    done = audit("can", "a", "b", "80", "--snapshot", "c", "--traces", "exec")
    assert (done.code, "goes with --live" in done.err) == (2, True), done.err
    done = audit("can", "a", "b", "80")
    assert (done.code, "or ask a cluster, with --snapshot FILE or --live" in done.err) == (2, True)


MANIFESTS = """
kind: Deployment
apiVersion: apps/v1
metadata: {name: NAME, namespace: shop}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {containers: [{name: a, image: a, ports: [{containerPort: 5432}]}]}
---
"""
POLICY = """
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: front}}}]}]
"""


def test_manifests_answer_before_they_are_applied(audit: Audit, tmp_path: Path) -> None:
    workloads = "".join(MANIFESTS.replace("NAME", name) for name in ("front", "back", "db"))
    (tmp_path / "all.yaml").write_text(workloads + POLICY)
    asked = ("deploy/db", "5432", "--manifests", tmp_path)
    assert audit("can", "deploy/front", *asked).code == 0
    done = audit("can", "deploy/back", *asked)
    assert (done.code, done.out.split("\n")[0]) == (1, "no")
    assert "networkpolicy shop/db ingress" in done.out
