"""`audit history`: what is below a directory, how it moved, and what is taken away."""

import fcntl
import json
import os
import re
import shutil
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from audit.store.layout import manifest_text
from tests.end_to_end.conftest import Audit


@pytest.fixture
def root(small_run: Path, tmp_path: Path) -> Path:
    """Return a directory with three runs, the middle one of another scope, and what is none."""
    root = tmp_path / "kept"
    for day, scope in ((1, "a"), (2, "b"), (3, "a")):
        path = root / f"run-{day}"
        shutil.copytree(small_run, path)
        manifest = json.loads((path / "run.json").read_text())
        manifest |= {"run_id": f"run-{day}", "started": f"2026-11-0{day}T00:00:00+00:00"}
        manifest["scope"] = {"selector": scope}
        manifest["counts"]["blocked"] += day
        manifest["exposure"]["default"]["passes"] += day
        manifest["exposure"][f"new-{day}"] = {"passes": day, "proven": 2 * day, "cells": 9}
        (path / "run.json").write_bytes(manifest_text(manifest))
    old = json.loads((root / "run-2" / "run.json").read_text())
    (root / "another").mkdir()
    (root / "another" / "run.json").write_text(json.dumps({**old, "schema_version": 999}))
    for name, moment in (("old", "2020-01-01"), ("young", "2026-11-04"), ("odd", "some day")):
        (root / name).mkdir()
        (root / name / "plan.json").write_text(json.dumps({"started": f"{moment}T00:00:00+00:00"}))
    (root / "notes").mkdir()
    return root


def test_numbers_are_compared_with_the_last_of_the_same_scope(audit: Audit, root: Path) -> None:
    done = audit("history", root)
    assert done.code == 0
    table, exposure = done.out.split("\n\n")
    head, *lines = table.splitlines()
    titles = ["run", "began", "scope", "passing pairs", "gets through", "stopped"]
    assert re.split(r"  +", head)[:6] == titles
    runs = [re.split(r"  +", line) for line in lines]
    assert [(row[0], row[1], row[2]) for row in runs[:3]] == [
        ("run-1", "2026-11-01 00:00", "[1]"),
        ("run-2", "2026-11-02 00:00", "[2]"),
        ("run-3", "2026-11-03 00:00", "[1]"),
    ]
    assert [line.split(",")[0] for line in lines[3:]] == [
        f"[{number}] {{selector: {scope}}}" for number, scope in ((1, "a"), (2, "b"))
    ]
    assert "(" not in lines[0] + lines[1]
    assert "(+2)" in lines[2]
    assert "schema version 999" in done.err
    title, _, *namespaces = exposure.splitlines()
    assert title.endswith("in run-3 (and since run-1):")
    rows = [re.split(r"  +", line) for line in namespaces]
    passes = cells_into_default(root / "run-3") + 3
    assert rows == [
        ["new-3", "3 (+3)", "50.0%", "3"],
        ["default", f"{passes} (+2)", rows[1][2], "0"],
        ["new-1", "0 (-1)", "\N{EN DASH}", "0"],
    ]


def cells_into_default(run: Path) -> int:
    """Count from the cells themselves what the run's exposure says of `default`."""
    table = pads.dataset(run / "cells").to_table()
    return sum(
        row["verdict"] == "reachable"
        for row in table.select(["src_namespace", "dst_namespace", "verdict"]).to_pylist()
        if row["dst_namespace"] == "default" != row["src_namespace"]
    )


def test_programs_are_told_what_moved(audit: Audit, root: Path) -> None:
    first, second, third = audit("history", root, "-o", "json").json
    assert (first["moved"], second["moved"]) == (None, None)
    assert (first["scope"], second["scope"]) == ({"selector": "a"}, {"selector": "b"})
    assert first["planes"] == ["intent", "logical"]
    assert third["moved"]["since"] == "run-1"
    assert third["moved"]["numbers"]["blocked"] == 2
    assert third["moved"]["exposure"] == {"default": 2, "new-1": -1, "new-3": 3}


def test_the_page_of_all_runs_links_to_each(audit: Audit, root: Path) -> None:
    done = audit("history", root, "-o", "html")
    assert done.code == 0
    assert re.findall(r'href="(run-\d/[^"]*)"', done.out) == [
        f"run-{day}/report.html" for day in (3, 1, 2)
    ]
    assert "schema version 999" in done.out
    assert f"<code>audit diff {root / 'run-1'} {root / 'run-3'}</code>" in done.out
    assert done.out.count("One run so far") == 1
    assert audit("history", root, "--sql", "SELECT 1", "-o", "html").code == 2


def test_sql_sees_all_runs(audit: Audit, root: Path) -> None:
    own = audit("query", root / "run-1", "SELECT count(*) AS n FROM cells", "-o", "json").json
    sql = "SELECT run, passes FROM exposure WHERE namespace LIKE 'new-%' ORDER BY run"
    exposed = audit("history", root, "--sql", sql, "-o", "json")
    assert exposed.json == [{"run": f"run-{day}", "passes": day} for day in (1, 2, 3)]
    sql = "SELECT run, count(*) AS n FROM cells JOIN runs USING (run) GROUP BY run ORDER BY run"
    done = audit("history", root, "--sql", sql, "-o", "json")
    assert done.json == [{"run": f"run-{day}", "n": own[0]["n"]} for day in (1, 2, 3)]
    assert "ask all of them with `audit history --sql`" in audit("query", root, "SELECT 1").err
    refused = audit("history", root, "--sql", "SELECT * FROM read_csv('/etc/passwd')")
    assert (refused.code, refused.out) == (2, "")


def test_retention_keeps_what_was_given_a_name(audit: Audit, root: Path) -> None:
    """A baseline is a link to a run, or a copy of one: both stay, and what the link leads to."""
    (root / "linked").symlink_to("run-1")
    shutil.copytree(root / "run-2", root / "copied")
    shutil.copytree(root / "run-2", root / "strange")
    spoilt = json.loads((root / "strange" / "run.json").read_text())
    spoilt["exposure"] = {"default": {"passes": "many", "proven": 1e999, "cells": []}}
    (root / "strange" / "run.json").write_bytes(manifest_text(spoilt))
    done = audit("history", root, "--prune", "--keep-last", "1")
    assert done.out.splitlines() == [f"removed {root / 'run-2'}"]
    assert "strange/run.json is not as an audit writes it" in audit("history", root).err
    assert (root / "linked" / "run.json").is_file()
    assert (root / "copied" / "run.json").is_file()
    assert (root / "strange" / "run.json").is_file()


def test_retention_keeps_the_newest_and_what_it_cannot_read(audit: Audit, root: Path) -> None:
    assert audit("history", root, "--prune").code == 2
    assert audit("history", root, "--dry-run").code == 2
    everything = sorted(path.name for path in root.iterdir())
    gone = ["run-1", "run-2", "old"]
    dry = audit("history", root, "--prune", "--keep-days", "0", "--dry-run")
    assert dry.out.splitlines() == [f"would remove {root / name}" for name in gone]
    assert sorted(path.name for path in root.iterdir()) == everything
    descriptor = os.open(root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as an audit that writes a run
    busy = audit("history", root, "--prune", "--keep-days", "0", "--dry-run")
    assert busy.out.splitlines() == [f"would remove {root / name}" for name in gone[:2]]
    os.close(descriptor)
    done = audit("history", root, "--prune", "--keep-days", "0")
    assert done.out.splitlines() == [f"removed {root / name}" for name in gone]
    left = ["another", "notes", "odd", "run-3", "young"]
    assert sorted(path.name for path in root.iterdir()) == left
    nothing = audit("history", root, "--prune", "--keep-last", "1")
    assert (nothing.code, nothing.out) == (0, "nothing to delete: all runs are kept\n")
    empty = audit("history", root / "notes")
    assert empty.code == 0
    assert "there are no runs in " in empty.err
