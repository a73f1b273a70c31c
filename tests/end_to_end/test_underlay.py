"""Packets between nodes without an overlay: real traces to the pod itself, or no proof."""

import csv
import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.conftest import REPOSITORY
from tests.end_to_end.conftest import run_of

pytestmark = pytest.mark.ovn

DATA = REPOSITORY / "tests" / "data"
CASE = DATA / "cases" / "no-overlay.tar.xz"
Verdicts = dict[tuple[str, ...], tuple[str, str]]
RunOf = Callable[..., Path]


def verdicts(run: Path) -> Verdicts:
    """Return verdict and reason of each cell, by both ends and the source's node."""
    rows = duckdb.execute(
        "SELECT src_kind, src_namespace, src_name, dst_kind, dst_namespace, dst_name, family, "
        f"src_node = dst_node, verdict, reason FROM read_parquet('{run}/cells/*.parquet')"
    ).fetchall()
    return {tuple(map(str, row[:8])): (row[8], row[9]) for row in rows}


@pytest.fixture(scope="module")
def ran(audit_command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    def run(cover: str) -> Path:
        root = tmp_path_factory.mktemp(cover)
        flags = ("--port", "tcp/80", "--cover", cover, "--family", "ip4")
        return run_of(audit_command, root, CASE, *flags)

    return run


def test_no_pod_is_left_at_a_gateway_and_what_is_proven_is_what_was_recorded(ran: RunOf) -> None:
    """The same cluster with its overlay was recorded: policies decide alike in both."""
    with gzip.open(DATA / "ovn-25.03-interconnect.csv.gz", "rt", newline="") as file:
        recorded = {
            (row["src"], row["dst"]): row["delivered"].lower() in ("1", "true", "yes")
            for row in csv.DictReader(file)
            if (row["protocol"], row["port"]) == ("tcp", "80")
        }
    found = verdicts(ran("legs"))
    assert found == verdicts(ran("exhaustive"))
    proven, unproven = Counter[bool](), Counter[str]()
    for (_, *src, kind, namespace, name, _, same_node), (verdict, reason) in found.items():
        ends = ("_".join(src), f"{namespace}_{name}")
        if kind != "pod" or ends not in recorded:
            continue
        assert verdict in {"reachable", "blocked", "inconclusive"}
        if verdict == "inconclusive":
            unproven[f"{reason} {same_node}"] += 1
        else:
            assert (verdict == "reachable") is recorded[ends], ends
            proven[recorded[ends]] += 1
    # Its gateways translate what leaves, so that policies about pods may see a node.
    assert set(unproven) == {"source-translated False"}
    assert sum(proven.values()) > 5 * sum(unproven.values())
    assert proven[True] > 500
    assert proven[False] > 900


def test_the_outside_enters_by_the_default_network_alone(
    audit_command: tuple[str, ...], tmp_path: Path
) -> None:
    flags = ("--from-ip", "198.51.100.7", "--to-namespace", "plain", "--port", "tcp/80")
    # The recording has Service default/kubernetes in one zone of three, which is an error.
    run = run_of(audit_command, tmp_path, DATA / "udn-interconnect.tar.xz", *flags, code=1)
    counts = duckdb.execute(
        "SELECT src_node, verdict, count(*) FROM "
        f"read_parquet('{run}/cells/*.parquet') GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    nodes = ("ovn-control-plane", "ovn-worker", "ovn-worker2")
    assert counts == [
        (node, verdict, count)
        for node in nodes
        for verdict, count in (("blocked", 3), ("reachable", 2))
    ]
