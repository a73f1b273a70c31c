"""Runs that earlier programs wrote, each with the program of its time: they stay readable.

`tests/data/runs/earlier-runs.tar.xz` has one audit of the example three times: of schema version 2,
and of version 3 before and after `run.json` had a sum of its own content.
"""

import json
import tarfile
from pathlib import Path

import pytest

from tests.archives import extract
from tests.cli.conftest import Inside

ARCHIVE = Path(__file__).parent.parent / "data" / "runs" / "earlier-runs.tar.xz"
VERSIONS = {"v2": 2, "v3-without-sum": 3, "v3-with-sum": 3}
PAIR = ("prod/prod-client-0", "shop/sctp-0", "tcp/80")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        extract(archive, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("name", VERSIONS)
def test_every_command_reads_a_run_of_an_earlier_version(
    inside: Inside, runs: Path, name: str
) -> None:
    run = runs / name
    recorded = json.loads((run / "run.json").read_text())
    assert recorded["schema_version"] == VERSIONS[name]
    wanted = {verdict: recorded["counts"][verdict] for verdict in ("reachable", "blocked")}
    assert sum(wanted.values()) == 28  # as the program that wrote it counted

    shown = inside("report", run, "-o", "json", "--stdout")
    assert shown.code == 0
    assert wanted.items() <= json.loads(shown.out)["counts"].items()
    sql = "SELECT verdict, count(*) AS n FROM cells GROUP BY 1"
    asked = json.loads(inside("query", run, sql, "-o", "json").out)
    assert {row["verdict"]: row["n"] for row in asked} == wanted
    assert inside("explain", run, *PAIR).code == 0
    assert inside("report", run, "--out", runs.parent / "pages").code == 0
    listed = json.loads(inside("history", runs, "-o", "json").out)
    assert {Path(each["path"]).name for each in listed} == VERSIONS.keys()
    for other in VERSIONS:
        compared = json.loads(inside("diff", runs / other, run, "-o", "json").out)
        assert compared["compared"] == compared["proven"] == 28
        assert not any(compared["counts"].values())


@pytest.mark.parametrize("name", VERSIONS)
def test_damage_to_a_run_of_an_earlier_version_is_told(
    inside: Inside, runs: Path, name: str
) -> None:
    run = runs / name
    verified = inside("verify", run)
    # Version 2 did not list the page that was rendered of it.
    assert verified.code == (1 if name == "v2" else 0)
    assert "has other content" not in verified.out
    [part] = run.glob("cells/*.parquet")
    data = part.read_bytes()
    part.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    assert inside("verify", run).code == 1
    assert inside("report", run, "-o", "json", "--stdout").code == 4


def test_a_run_of_this_version_without_its_sum_is_no_earlier_versions(
    inside: Inside, runs: Path
) -> None:
    manifest = runs / "v3-without-sum" / "run.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"schema_version": 3', '"schema_version": 4'))
    done = inside("report", manifest.parent, "-o", "json", "--stdout")
    assert done.code == 4
    assert "does not say what the audit wrote" in done.err
