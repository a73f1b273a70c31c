"""`audit diff` of two runs: what it counts is what other tools recorded, cell by cell."""

import csv
import gzip
import io
import ipaddress
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from audit.model.endpoints import EndpointKind
from audit.store.reader import open_recorded
from tests.archives import extract
from tests.end_to_end.conftest import Audit, run_of

DATA = Path(__file__).resolve().parent.parent / "data"
ENDS = ("source", "destination")
PORTS = ("tcp/80", "tcp/443", "tcp/8080", "tcp/9000", "udp/53")


def recorded(name: str) -> dict[tuple[str, str, str], bool]:
    """Return what `ovn-trace` said, a process per cell, over IPv4."""
    text = gzip.decompress((DATA / f"{name}.csv.gz").read_bytes()).decode()
    return {
        (row["src"], row["dst"], f"{row['protocol']}/{row['port']}"): row["delivered"] == "1"
        for row in csv.DictReader(io.StringIO(text))
        if row["family"] == "ip4"
    }


@pytest.fixture(scope="module")
def upgrade(
    audit_command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return runs of one cluster at two times."""
    root = tmp_path_factory.mktemp("upgrade")
    flags = [flag for port in PORTS for flag in ("-p", port)]
    before, after = (
        run_of(audit_command, root, DATA / f"upgrade-{name}.tar.xz", *flags, "-q")
        for name in ("before", "after")
    )
    return before, after


def cells_of(found: dict[str, Any]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return what changed, cell by cell: these pods are their own workloads."""
    return {
        (
            src.removeprefix("pod ").replace("/", "_"),
            dst.removeprefix("pod ").replace("/", "_"),
            p,
        ): (path["before"], path["after"])
        for path in found["paths"]
        for src, dst in [(path["src"], path["dst"])]
        for p in path["ports"]
    }


def test_what_changed_is_what_was_recorded(audit: Audit, upgrade: tuple[Path, Path]) -> None:
    done = audit("diff", *upgrade, "-o", "json", "-q")
    assert done.code == 1, done.err
    before, after = recorded("upgrade-before"), recorded("upgrade-after")
    common = before.keys() & after.keys()
    expected = {
        key: tuple("reachable" if side[key] else "blocked" for side in (before, after))
        for key in common
        if before[key] != after[key]
    }
    assert len(expected) > 100
    ours = {
        key: verdicts
        for key, verdicts in cells_of(done.json).items()
        if "data_db-4" not in key  # compared with the pod it stands in for
    }
    assert ours == expected


def test_each_change_is_laid_to_what_was_changed(audit: Audit, upgrade: tuple[Path, Path]) -> None:
    found = audit("diff", *upgrade, "-o", "json", "-q").json
    assert found["policies"] == [
        "changed networkpolicy back/api-in",
        "added networkpolicy front/web-out-added",
        "removed networkpolicy ops/ops-in",
    ]
    assert found["facts"] == [
        "labels of namespace ops: added env=prod",
        "labels of pod front/web-2: app=web to app=legacy, tier=front to tier=old",
        "pod back/api-2 moved from node ovn-worker2 to ovn-control-plane",
        "pod data/db-4 stands in for pod data/db-1",
    ]
    assert found["appeared"] == ["pod edge/edge-0", "pod edge/edge-1", "pod edge/edge-2"]
    assert found["vanished"] == []
    because = {
        (path["src"], path["dst"], port): path["because"]
        for path in found["paths"]
        for port in path["ports"]
    }
    assert because["pod data/cache-0", "pod ops/shell-0", "tcp/80"] == [
        "removed networkpolicy ops/ops-in"
    ]
    assert because["pod front/web-1", "pod lab/test-0", "tcp/80"] == [
        "added networkpolicy front/web-out-added"
    ]
    assert because["pod front/web-0", "pod back/api-0", "tcp/9000"] == [
        "changed networkpolicy back/api-in"
    ]
    assert because["pod lab/test-0", "pod ops/prom-1", "tcp/80"] == [
        "labels of namespace ops: added env=prod"
    ]
    unexplained = [path for path in found["paths"] if "nothing that" in path["because"][0]]
    assert unexplained == []


@pytest.mark.browser
def test_the_page_marks_what_was_recorded_as_changed(
    audit: Audit, upgrade: tuple[Path, Path]
) -> None:
    before, after = upgrade
    page = after / "report.html"
    for arguments, code in (
        (("diff", before, after, "-o", "html", "-q"), 1),
        (("report", after, "--since", before, "-q"), 0),
    ):
        page.unlink()
        done = audit(*arguments)
        assert (done.code, done.out) == (code, f"{page}\n"), done.err
        said, lines = read_changed(page)
        assert f"Compared with {before.name}" in said
        assert "changed networkpolicy back/api-in" in said
        ours = {
            (
                *(line[end].removeprefix("pod ").replace("/", "_") for end in ENDS),
                f"{line['protocol']}/{line['port']}",
            )
            for line in lines
        }
        assert len(ours) == len(lines)
        was, now = recorded("upgrade-before"), recorded("upgrade-after")
        differ = {key for key in was.keys() & now.keys() if was[key] != now[key]}
        assert {key for key in ours if "data_db-4" not in key} == {
            key for key in differ if "data_db-4" not in key
        }
    assert audit("verify", after).code == 0
    plain = audit("report", after)
    assert plain.code == 0
    assert "<h2>Compared with" not in page.read_text()


def read_changed(page: Path) -> tuple[str, list[dict[str, str]]]:
    """Return what a browser shows of what changed, and the cells it exports as changed."""
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        tab = chromium.new_page()
        tab.goto(f"{page.as_uri()}#ns=*,*&only=changed")
        tab.evaluate("window.auditReport.ready")
        said = tab.get_by_test_id("changes").inner_text()
        lines = list(csv.DictReader(io.StringIO(tab.evaluate("window.auditReport.csv()"))))
        chromium.close()
    return said, lines


def test_a_run_does_not_differ_from_itself(audit: Audit, upgrade: tuple[Path, Path]) -> None:
    done = audit("diff", upgrade[0], upgrade[0], "-q")
    assert (done.code, done.out.count("\n")) == (0, 2)
    assert (
        "The outside, by the policies alone (the intent plane, not traced): no change" in done.out
    )
    assert "0 cells opened, 0 cells closed" in done.out


def test_a_run_says_which_networks_are_the_clusters(upgrade: tuple[Path, Path]) -> None:
    run = open_recorded(upgrade[0])
    networks = [ipaddress.ip_network(cidr) for cidr in run.manifest["labels"]["networks"]]
    addresses = [
        ipaddress.ip_address(address)
        for pod in run.endpoints
        if pod.kind is EndpointKind.POD and not pod.host_network
        for address in pod.addresses
    ]
    assert addresses
    assert all(any(address in network for network in networks) for address in addresses)


def test_only_two_of_a_kind_are_compared(audit: Audit, upgrade: tuple[Path, Path]) -> None:
    mixed = audit("diff", upgrade[0], "missing.yaml")
    scoped = audit("diff", *upgrade, "-n", "ops")
    paged = audit("diff", "one.yaml", "two.yaml", "-o", "html")
    pageless = audit("report", upgrade[1], "--since", upgrade[0], "-o", "json")
    assert (mixed.code, scoped.code, paged.code, pageless.code) == (2, 2, 2, 2)
    assert "-o html goes with runs" in paged.err
    assert "it goes with -o html" in pageless.err
    assert "missing.yaml is not a run" in mixed.err
    assert "two runs are compared as they are" in scoped.err


@pytest.fixture(scope="module")
def one_policy_less(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """Return runs of the example's objects, and of the same without one policy."""
    root = tmp_path_factory.mktemp("policy")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root / "all")
        extract(tar, root / "less")
    (file,) = (root / "less").rglob("networkpolicies.json")
    listed = json.loads(file.read_text())
    kept = [
        p
        for p in listed["items"]
        if (p["metadata"]["namespace"], p["metadata"]["name"]) != ("default", "deny-by-default")
    ]
    assert len(kept) == len(listed["items"]) - 1
    file.write_text(json.dumps({**listed, "items": kept}))
    flags = ("--planes", "intent", "-p", "tcp/80", "-q")
    return (
        run_of(audit_command, root, root / "all", *flags),
        run_of(audit_command, root, root / "less", *flags),
    )


@pytest.mark.parametrize("word", ["added", "removed"])
def test_the_page_for_a_pull_request_names_exactly_the_policy(
    audit: Audit, one_policy_less: tuple[Path, Path], word: str
) -> None:
    with_it, without = one_policy_less
    ends = (without, with_it) if word == "added" else (with_it, without)
    done = audit("diff", *ends, "-o", "markdown", "-q")
    assert done.code == 1
    assert f"- {word} networkpolicy default/deny-by-default\n" in done.out
    rows = [line.split("|") for line in done.out.splitlines() if line.startswith("| pod")]
    rows += [line.split("|") for line in done.out.splitlines() if line.startswith("| deploy")]
    assert {row[6].strip() for row in rows} == {f"{word} networkpolicy default/deny-by-default"}
    assert len(done.out) < 65_536  # what a comment on GitHub may have
    # How many cells differ, counted by SQL over each run.
    reached = [
        {
            tuple(row.values())
            for row in audit(
                "query",
                end,
                "SELECT src_namespace, src_name, dst_namespace, dst_name FROM cells "
                "WHERE verdict = 'reachable'",
                "-o",
                "json",
            ).json
        }
        for end in ends
    ]
    opened, closed = len(reached[1] - reached[0]), len(reached[0] - reached[1])
    assert (opened, closed) == ((0, opened + closed) if word == "added" else (opened + closed, 0))
    assert f"{opened:,} cells opened, {closed:,} cells closed" in done.out
    assert opened + closed > 0
