"""`audit history`: what is below a directory, how it moved, and what is taken away."""

import json
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Audit


@pytest.fixture
def root(small_run: Path, tmp_path: Path) -> Path:
    """Return a directory with three runs, of which the middle one is of another scope."""
    root = tmp_path / "kept"
    for day, scope in ((1, "a"), (2, "b"), (3, "a")):
        path = root / f"run-{day}"
        shutil.copytree(small_run, path)
        manifest = json.loads((path / "run.json").read_text())
        manifest |= {"run_id": f"run-{day}", "started": f"2026-11-0{day}T00:00:00+00:00"}
        manifest["scope"] = {"selector": scope}
        manifest["counts"]["blocked"] += day
        (path / "run.json").write_text(json.dumps(manifest))
    old = json.loads((root / "run-2" / "run.json").read_text())
    (root / "another").mkdir()
    (root / "another" / "run.json").write_text(json.dumps({**old, "schema_version": 999}))
    (root / "unfinished").mkdir()
    return root


def test_numbers_are_compared_with_the_last_of_the_same_scope(audit: Audit, root: Path) -> None:
    done = audit("history", root)
    assert done.code == 0
    head, *lines = done.out.splitlines()
    assert head.split()[:3] == ["run", "reachable", "blocked"]
    assert [line.split()[0] for line in lines] == ["run-1", "run-2", "run-3"]
    assert "(" not in lines[0] + lines[1]
    assert "(+2)" in lines[2]
    assert "schema version 999" in done.err


def test_sql_sees_all_runs(audit: Audit, root: Path) -> None:
    own = audit("query", root / "run-1", "SELECT count(*) AS n FROM cells", "-o", "json").json
    sql = "SELECT run, count(*) AS n FROM cells JOIN runs USING (run) GROUP BY run ORDER BY run"
    done = audit("history", root, "--sql", sql, "-o", "json")
    assert done.json == [{"run": f"run-{day}", "n": own[0]["n"]} for day in (1, 2, 3)]
    refused = audit("history", root, "--sql", "SELECT * FROM read_csv('/etc/passwd')")
    assert (refused.code, refused.out) == (2, "")


def test_retention_keeps_the_newest_and_what_it_cannot_read(audit: Audit, root: Path) -> None:
    assert audit("history", root, "--prune").code == 2
    done = audit("history", root, "--prune", "--keep-days", "0")
    assert done.code == 0
    assert done.out.splitlines() == [f"removed {root / name}" for name in ("run-1", "run-2")]
    assert sorted(path.name for path in root.iterdir()) == ["another", "run-3", "unfinished"]
    assert audit("history", root, "--prune", "--keep-last", "1").out == ""
