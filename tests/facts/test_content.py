"""The digest of a southbound: every change that a trace may see changes it, the time does not."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.facts import content
from audit.replay.tables import Tables
from tests.archives import extract
from tests.mutable import Database, a_map, pairs

Change = Callable[[Database], None]


@pytest.fixture(scope="module")
def southbound(tmp_path_factory: pytest.TempPathFactory, example_snapshot: Path) -> Path:
    target = tmp_path_factory.mktemp("cluster")
    with tarfile.open(example_snapshot) as archive:
        extract(archive, target)
    return next(target.rglob("ovn-worker/sb.db"))


def digest(path: Path) -> str:
    return content.southbound(Tables.of(path, "OVN_Southbound"))


def changed(original: Path, target: Path, change: Change) -> str:
    shutil.copyfile(original, target)
    database = Database(target)
    change(database)
    database.write()
    return digest(target)


def first(database: Database, table: str) -> dict[str, Any]:
    row: dict[str, Any] = database.rows(table)[min(database.rows(table))]
    return row


def count(database: Database) -> None:
    first(database, "SB_Global")["nb_cfg"] = 12345
    for row in database.rows("Chassis_Private").values():
        row["nb_cfg_timestamp"] = 12345


def beat(database: Database) -> None:
    options = pairs(first(database, "SB_Global")["options"])
    first(database, "SB_Global")["options"] = a_map(options | {"e2e_timestamp": "12345"})


def option(database: Database) -> None:
    options = pairs(first(database, "SB_Global")["options"])
    first(database, "SB_Global")["options"] = a_map(options | {"use_ct_inv_match": "false"})


def match(database: Database) -> None:
    first(database, "Logical_Flow")["match"] += " "


def removed(database: Database) -> None:
    rows = database.rows("Logical_Flow")
    del rows[min(rows)]


def renamed(database: Database) -> None:
    rows = database.rows("Logical_Flow")
    rows["0" * 8 + min(rows)[8:]] = rows.pop(min(rows))


def rebound(database: Database) -> None:
    bound = next(row for row in database.rows("Port_Binding").values() if row["type"] == "")
    bound["tunnel_key"] += 1000


def member(database: Database) -> None:
    first(database, "Address_Set")["addresses"] = "192.0.2.99"


@pytest.mark.parametrize("change", [count, beat])
def test_the_time_is_no_change(southbound: Path, tmp_path: Path, change: Change) -> None:
    before = changed(southbound, tmp_path / "before.db", lambda _: None)
    assert changed(southbound, tmp_path / "after.db", change) == before


@pytest.mark.parametrize("change", [option, match, removed, renamed, rebound, member])
def test_what_a_trace_may_see_is_one(southbound: Path, tmp_path: Path, change: Change) -> None:
    before = changed(southbound, tmp_path / "before.db", lambda _: None)
    assert changed(southbound, tmp_path / "after.db", change) != before


def test_the_order_of_rows_is_none(southbound: Path, tmp_path: Path) -> None:
    def reordered(database: Database) -> None:
        rows = database.rows("Logical_Flow")
        database.tables["Logical_Flow"] = dict(reversed(rows.items()))

    before = changed(southbound, tmp_path / "before.db", lambda _: None)
    assert changed(southbound, tmp_path / "after.db", reordered) == before
