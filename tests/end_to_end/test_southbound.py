"""What the southbound says decides: cases in which something there is not what rows tell."""

import json
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import run_of

pytestmark = pytest.mark.ovn

CASES = REPOSITORY / "tests" / "data" / "cases"
Cell = tuple[str, ...]
RunOf = Callable[..., Path]


@pytest.fixture
def ran(audit_command: tuple[str, ...], tmp_path: Path) -> RunOf:
    def run(case: str, *flags: str, code: int = 0) -> Path:
        plane = ("--planes", "logical", "--port", "tcp/80")
        return run_of(audit_command, tmp_path, CASES / f"{case}.tar.xz", *plane, *flags, code=code)

    return run


def verdicts(run: Path) -> dict[Cell, str]:
    rows = duckdb.execute(
        "SELECT src_kind, src_namespace, src_name, dst_kind, dst_namespace, dst_name, verdict "
        f"FROM read_parquet('{run}/cells/*.parquet')"
    ).fetchall()
    return {tuple(map(str, row[:6])): row[6] for row in rows}


def notes(run: Path, code: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((run / "run.json").read_text())["notes"]
    return [note for note in listed if note["code"] == code]


def test_a_pod_with_an_address_of_another_nodes_subnet_is_told_apart(
    audit_command: tuple[str, ...], tmp_path: Path
) -> None:
    """No route leads to it: what legs say of it is what each cell's own trace says."""
    found = {}
    for cover in ("legs", "exhaustive"):
        flags = ("--planes", "logical", "--port", "tcp/80", "-n", "prod", "-n", "default")
        case = CASES / "moved-vm.tar.xz"
        run = run_of(audit_command, tmp_path, case, *flags, "--cover", cover, code=1)
        found[cover] = verdicts(run)
    assert found["legs"] == found["exhaustive"]
    moved = ("pod", "prod", "prod-client-1")
    to = Counter(verdict for cell, verdict in found["legs"].items() if cell[3:] == moved)
    assert not to.keys() & {"exits"}
    assert to["reachable"] < sum(to.values()) / 2


def test_a_flow_that_no_acl_explains_decides_its_cells(ran: RunOf) -> None:
    run = ran("flow-without-acl", "-n", "default", "-n", "prod", code=1)
    [finding] = json.loads((run / "run.json").read_text())["findings"]
    assert (finding["kind"], len(finding["subjects"])) == ("southbound-differs", 1)
    [note] = notes(run, "southbound-differs")
    assert (
        "ls_out_acl_eval, priority 40000: ip4.src==10.128.0.4 && ip4.dst==10.130.0.6"
        in (note["text"])
    )
    assert note["subjects"] == ["pod default/client-1", "pod prod/prod-client-3"]
    found = verdicts(run)
    assert found["pod", "default", "client-1", "pod", "prod", "prod-client-3"] == "blocked"
    assert found["pod", "default", "client-0", "pod", "prod", "prod-client-3"] == "reachable"


def test_a_flow_whose_hint_is_of_an_acl_that_is_gone_is_blamed_by_what_it_says(ran: RunOf) -> None:
    """An ACL was deleted and made again; the recorded cluster without that has 1,272 too."""
    run = ran("stale-stage-hint")
    found = Counter(verdicts(run).values())
    assert (found["blocked"], found["inconclusive"]) == (1272, 0)


def test_a_southbound_that_lags_is_found_by_content(
    audit_command: tuple[str, ...], tmp_path: Path, newest_toolchain: Toolchain
) -> None:
    """Of three recorded zones with counters that stay 0, one was recorded before northd came by.

    What `ovsdb-tool` says of its two databases is the measure: every set of both that is not alike.
    """
    snapshot = REPOSITORY / "tests" / "data" / "head-shared-udn-ports.tar.xz"
    flags = ("--planes", "logical", "--port", "tcp/80", "--cover", "predict")
    run = run_of(audit_command, tmp_path, snapshot, *flags, code=1)
    listed = json.loads((run / "run.json").read_text())["findings"]
    [finding] = [one for one in listed if one["kind"] == "southbound-differs"]
    said = {text.split()[2] for text in finding["subjects"] if text.startswith("address set ")}
    assert all(text.endswith("in zone worker-b") for text in finding["subjects"])
    with tarfile.open(snapshot) as tar:
        extract(tar, tmp_path / "snapshot")
    behind = set[str]()
    for zone in (tmp_path / "snapshot" / "ovn").iterdir():
        north, south = (
            sets_of(newest_toolchain, zone / name, schema)
            for name, schema in (("nb.db", "OVN_Northbound"), ("sb.db", "OVN_Southbound"))
        )
        behind |= {name for name in north.keys() & south.keys() if north[name] != south[name]}
    assert said
    assert said <= behind


def sets_of(programs: Toolchain, database: Path, schema: str) -> dict[str, set[str]]:
    """Return the address sets of a database file, by name."""
    query = {"op": "select", "table": "Address_Set", "where": [], "columns": ["name", "addresses"]}
    done = subprocess.run(
        programs.argv("ovsdb-tool", "query", str(database), json.dumps([schema, query])),
        capture_output=True,
        text=True,
        check=True,
    )
    addresses = {row["name"]: row["addresses"] for row in json.loads(done.stdout)[0]["rows"]}
    return {
        name: set(some[1]) if isinstance(some, list) else {some} for name, some in addresses.items()
    }
