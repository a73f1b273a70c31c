"""A run that reuses an earlier one's traces is the run that would have been made from nothing."""

import json
from pathlib import Path

import pytest

from tests import reuse
from tests.end_to_end.conftest import Audit
from tests.mutate import CLUSTERS

pytestmark = pytest.mark.ovn

SCOPE = ("-n", "shop", "-n", "prod", "--planes", "logical", "-p", "tcp/80", "--workers", "inline")


def one_run(audit: Audit, *arguments: str, out: str, code: int = 0) -> Path:
    done = audit("run", *SCOPE, *arguments, "--out", out)
    assert done.code == code, done.err
    return Path(max((audit.directory / out).iterdir()))


@pytest.fixture(scope="module")
def seeds() -> list[reuse.Compared]:
    return list(reuse.comparisons(range(5), sorted(CLUSTERS)))


def test_changed_clusters_are_audited_as_if_nothing_had_been_reused(
    seeds: list[reuse.Compared],
) -> None:
    assert [compared for compared in seeds if compared.differing] == []
    compared = [compared for compared in seeds if not compared.refused]
    assert sum(c.reused for c in compared) > 0
    assert any(0 < c.reused < c.traces for c in compared)


def test_of_the_same_databases_nothing_is_traced_again(
    audit: Audit, example_snapshot: Path
) -> None:
    snapshot = ("--snapshot", str(example_snapshot))
    first = one_run(audit, *snapshot, out="first")
    again = one_run(audit, *snapshot, "--reuse", str(first), out="again")
    assert list(reuse.differences(first, again)) == []
    manifest = json.loads((again / "run.json").read_bytes())
    (note,) = [note["text"] for note in manifest["notes"] if note["code"] == "reused"]
    count = manifest["counts"]["traces"]
    assert note == (
        f"{count:,} traces are those of run {first.name}, which ran in 3 of the 3 zones: their "
        "southbound databases are what they were"
    )
    assert manifest["reused"]["run"] == first.name
    (again / "run.json").unlink()
    assert audit("run", "--resume", str(again), "-q").code == 0
    assert json.loads((again / "run.json").read_bytes())["reused"] == manifest["reused"]


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("audit", "0.0.1", "audit 0.0.1 made it, and this is "),
        ("ovn", "22.03.0", "OVN 22.03.0 traced it, and the one at hand is "),
        (None, None, "it does not say what its traces depend on"),
    ],
)
def test_another_programs_traces_are_not_reused(
    audit: Audit, example_snapshot: Path, field: str | None, value: str | None, why: str
) -> None:
    from audit.store import layout  # noqa: PLC0415 - what a forger would use

    snapshot = ("--snapshot", str(example_snapshot))
    first = one_run(audit, *snapshot, out="first")
    manifest = json.loads((first / "run.json").read_bytes())
    manifest["reusable"] = None if field is None else {**manifest["reusable"], field: value}
    (first / "run.json").write_bytes(layout.manifest_text(manifest))
    again = one_run(audit, *snapshot, "--reuse", str(first), out="again")
    notes = json.loads((again / "run.json").read_bytes())["notes"]
    (note,) = [note["text"] for note in notes if note["code"] == "reused"]
    assert note.startswith(f"nothing of run {first.name} was reused: {why}")


def test_a_damaged_run_is_not_reused(audit: Audit, example_snapshot: Path) -> None:
    snapshot = ("--snapshot", str(example_snapshot))
    first = one_run(audit, *snapshot, out="first")
    (file, *_) = sorted(first.glob("traces/*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    done = audit("run", *SCOPE, *snapshot, "--reuse", str(first), "--out", "again")
    assert done.code == 4
    assert "is missing or not as the audit wrote it" in done.err
