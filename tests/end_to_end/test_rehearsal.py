"""`audit run --recompile`: the recorded northbound database, compiled by another OVN's northd."""

import csv
import gzip
import io
import json
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.end_to_end.conftest import Audit

DATA = Path(__file__).resolve().parent.parent / "data"
FLAGS = (
    "--planes",
    "logical",
    "--recompile",
    "-p",
    "tcp/80",
    "-p",
    "tcp/8080",
    "-p",
    "udp/53",
    "--workers",
    "inline",
)


def pod(logical_port: str) -> str:
    return logical_port.replace("_", "/", 1)


def test_a_newer_northd_decides_the_recorded_cluster_alike(
    audit: Audit, newest_toolchain: Toolchain
) -> None:
    done = audit("run", "--snapshot", DATA / "ovn-23.03-central.tar.xz", *FLAGS, "-q", "-o", "json")
    assert done.code == 0, done.err
    recorded, recompiled = done.json["recorded"], done.json["recompiled"]
    versions = [run["databases"][0]["northd_version"] for run in (recorded, recompiled)]
    assert versions[0].startswith("23.03.1-")
    assert versions[1].startswith(f"{newest_toolchain.version.release}.")
    changes = done.json["changes"]
    assert changes["paths"] == []
    assert changes["compared"] == recorded["counts"]["cells"] > 4000
    assert recorded["engine"] == recompiled["engine"]
    assert changes["facts"] == [f"databases made by northd: {versions[0]} to {versions[1]}"]
    assert recompiled["counts"]["blocked"] == recorded["counts"]["blocked"] > 1000


@pytest.fixture
def without_an_acl(tmp_path: Path, toolchain: Toolchain) -> tuple[Path, set[tuple[str, str, str]]]:
    """Return the cluster without the ACL that denies most, and the cells it denies.

    Only the northbound database lacks it, as after a change that northd did not get to.
    """
    rows = list(
        csv.DictReader(
            io.StringIO(gzip.decompress((DATA / "ovn-23.03-central.csv.gz").read_bytes()).decode())
        )
    )
    ((prefix, _),) = Counter(row["acl"] for row in rows if row["delivered"] == "0").most_common(1)
    with tarfile.open(DATA / "ovn-23.03-central.tar.xz") as tar:
        extract(tar, tmp_path / "cluster")
    (database,) = (tmp_path / "cluster").rglob("nb.db")
    database.chmod(0o600)

    def transact(*operations: dict[str, Any]) -> Any:
        text = json.dumps(["OVN_Northbound", *operations])
        argv = toolchain.argv("ovsdb-tool", "transact", str(database), text)
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    (acls,) = transact({"op": "select", "table": "ACL", "where": [], "columns": ["_uuid"]})
    (acl,) = (row["_uuid"] for row in acls["rows"] if row["_uuid"][1].startswith(prefix))
    lists = ["Port_Group", "Logical_Switch"]
    transact(
        *(
            {"op": "mutate", "table": table, "where": [], "mutations": [["acls", "delete", acl]]}
            for table in lists
        )
    )
    denied = {
        (pod(row["src"]), pod(row["dst"]), f"{row['protocol']}/{row['port']}")
        for row in rows
        if row["acl"] == prefix
    }
    return database.parents[2], denied


def test_what_northd_would_change_is_named(
    audit: Audit, without_an_acl: tuple[Path, set[tuple[str, str, str]]]
) -> None:
    snapshot, denied = without_an_acl
    flags = ("--recompile", "-p", "tcp/80", "--cover", "exhaustive", "--workers", "inline")
    done = audit("run", "--snapshot", snapshot, *flags, "-q", "-o", "json")
    assert done.code == 1, done.err
    ends = [done.json[name]["path"] for name in ("recorded", "recompiled")]
    sql = "SELECT src_namespace || '/' || src_name AS src, dst_namespace || '/' || dst_name AS dst,"
    sql += " protocol || '/' || port AS port FROM cells WHERE verdict = 'blocked'"
    before, after = (
        {(row["src"], row["dst"], row["port"]) for row in audit("query", p, sql, "-o", "json").json}
        for p in ends
    )
    opened = before - after
    assert after <= before
    pods = {end for cell in denied for end in cell[:2]}
    asked = {cell for cell in opened if pods.issuperset(cell[:2])}  # without pods of the hosts
    assert asked
    assert asked <= denied
    changes = done.json["changes"]
    assert sum(path["cells"] for path in changes["paths"]) == len(opened)
    assert {(path["before"], path["after"]) for path in changes["paths"]} == {
        ("blocked", "exits"),
        ("blocked", "reachable"),
    }
    # Few traces say the same: what the recorded flows do otherwise than the ACLs is traced.
    short = audit("run", "--snapshot", snapshot, *flags[:3], *flags[5:], "-q", "-o", "json")
    assert short.code == 1
    assert short.json["recorded"]["counts"]["traces"] < done.json["recorded"]["counts"]["traces"]
    assert [
        {(row["src"], row["dst"], row["port"]) for row in audit("query", p, sql, "-o", "json").json}
        for p in (short.json[name]["path"] for name in ("recorded", "recompiled"))
    ] == [before, after]


def test_what_cannot_be_rehearsed_is_refused(audit: Audit) -> None:
    manifests = audit("run", "--manifests", "-", "--recompile")
    intent = audit(
        "run", "--snapshot", DATA / "upgrade-after.tar.xz", "--planes", "intent", "--recompile"
    )
    assert (manifests.code, intent.code) == (2, 2)
    nowhere = audit(
        "run", "--snapshot", DATA / "upgrade-after.tar.xz", *FLAGS, "--ovn-prefix", audit.directory
    )
    assert nowhere.code == 4
    assert "there is no ovn-trace below" in nowhere.err
    assert not (audit.directory / "runs").exists()
