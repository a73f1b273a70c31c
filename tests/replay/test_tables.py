"""Rows as the file has them are the rows ovsdb-tool finds in it, whatever happened to it before."""

import hashlib
import itertools
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.errors import DatabaseError
from audit.replay.tables import Tables
from audit.replay.toolchain import Toolchain
from tests.archives import extract

pytestmark = pytest.mark.ovn

NB = "OVN_Northbound"
COLUMNS = ("_uuid", "name", "ports", "acls", "external_ids")


@pytest.fixture(scope="session")
def zone(tmp_path_factory: pytest.TempPathFactory, example_snapshot: Path) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    with tarfile.open(example_snapshot) as tar:
        extract(tar, root)
    return root / "ovn/ovn-worker"


Ovsdb = Callable[..., list[Any]]


@pytest.fixture
def ovsdb(toolchain: Toolchain) -> Ovsdb:
    """Return what runs ovsdb-tool on a file."""

    def run(command: str, database: Path, *operations: object) -> list[Any]:
        schema = NB if database.name.startswith("nb") else "OVN_Southbound"
        arguments = [json.dumps([schema, *operations])] if operations else []
        done = subprocess.run(
            toolchain.argv("ovsdb-tool", command, str(database), *arguments),
            capture_output=True,
            check=True,
            text=True,
        )
        results: list[Any] = json.loads(done.stdout) if operations else []
        assert not any("error" in result for result in results), results
        return results

    return run


def plain(value: Any) -> Any:
    """Return an OVSDB value in a form in which order says nothing; sets of one are sets."""
    if isinstance(value, list) and value and value[0] in ("map", "set", "uuid"):
        kind, content = value
        if kind == "uuid":
            return content
        if kind == "map":
            return {str(plain(k)): plain(v) for k, v in content}
        return sorted(map(plain, content), key=str)
    return value


def same(ours: Any, theirs: Any) -> bool:
    """Compare a value; a set of one may be written as its member."""
    theirs = plain(theirs)
    if isinstance(ours, list):
        return sorted(ours, key=str) == (theirs if isinstance(theirs, list) else [theirs])
    return bool([ours] == theirs if isinstance(theirs, list) else ours == theirs)


def assert_rows_agree(ovsdb: Ovsdb, database: Path, schema: str) -> int:
    """Compare every column of every row of every table; return how many values there were."""
    with database.open("rb") as file:
        length = int(file.readline().split()[2])
        described = json.loads(file.read(length))["tables"]
    tables = Tables.of(database, schema)
    compared = 0
    queries = [{"op": "select", "table": table, "where": []} for table in described]
    for table, found in zip(described, ovsdb("query", database, *queries), strict=True):
        columns = ("_uuid", *described[table]["columns"])
        ours = {row["_uuid"]: row for row in tables.rows(table, columns)}
        assert ours.keys() == {row["_uuid"][1] for row in found["rows"]}
        for row in found["rows"]:
            for column in columns:
                mine = ours[row["_uuid"][1]][column]
                assert same(mine, row[column]), (table, column, mine, row[column])
                compared += 1
    return compared


@pytest.mark.parametrize(("name", "schema"), [("nb.db", NB), ("sb.db", "OVN_Southbound")])
def test_a_recorded_database_has_the_rows_ovsdb_tool_finds(
    ovsdb: Ovsdb, zone: Path, name: str, schema: str
) -> None:
    assert assert_rows_agree(ovsdb, zone / name, schema) > 2_000


def group(*operations: dict[str, Any]) -> list[dict[str, Any]]:
    """Address the port group that the test changes."""
    return [
        {"table": "Port_Group", "where": [["name", "==", "changing"]], **operation}
        for operation in operations
    ]


def test_a_history_of_changes_to_sets_and_maps_is_followed(
    ovsdb: Ovsdb, zone: Path, tmp_path: Path
) -> None:
    database = tmp_path / "nb.db"
    database.write_bytes((zone / "nb.db").read_bytes())
    switch_ports = Tables.of(database, NB).rows("Logical_Switch_Port", ("_uuid",))
    first, second, third = (["uuid", row["_uuid"]] for row in itertools.islice(switch_ports, 3))
    row = {
        "name": "changing",
        "ports": ["set", [first, second]],
        "external_ids": ["map", [["kept", "1"], ["replaced", "1"], ["removed", "1"]]],
    }
    insert = {"op": "insert", "table": "Port_Group", "row": row}
    mutations = [
        ["ports", "insert", ["set", [third]]],
        ["ports", "delete", ["set", [first]]],
        ["external_ids", "delete", ["set", ["removed", "replaced"]]],
        ["external_ids", "insert", ["map", [["replaced", "2"], ["added", "1"]]]],
    ]
    emptied = {"ports": ["set", []], "external_ids": ["map", []]}
    refilled = {"ports": first, "external_ids": ["map", [["only", "1"]]], "name": "changing"}
    history: list[list[dict[str, Any]]] = [
        [insert],
        group({"op": "mutate", "mutations": mutations}),
        group({"op": "update", "row": emptied}),
        group({"op": "update", "row": refilled}),
        [{"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": 77}}],
    ]
    for operations in history:
        ovsdb("transact", database, *operations)
        assert assert_rows_agree(ovsdb, database, NB) > 2_000
    assert b'"_is_diff":true' in database.read_bytes()
    ovsdb("transact", database, *group({"op": "delete"}))
    assert_rows_agree(ovsdb, database, NB)
    assert "changing" not in {
        r["name"] for r in Tables.of(database, NB).rows("Port_Group", COLUMNS)
    }


def test_rows_are_sieved_and_picked(zone: Path) -> None:
    tables, columns = Tables.of(zone / "nb.db", NB), ("_uuid", "action", "match")
    everything = tables.rows("ACL", columns)
    sieved = tables.rows("ACL", columns, mentioning=('"drop"', '"reject"'))
    assert 0 < len(sieved) < len(everything)
    assert sieved == [row for row in everything if row["action"] in ("drop", "reject")]
    wanted = [sieved[1]["_uuid"], "00000000-0000-0000-0000-000000000000", sieved[0]["_uuid"]]
    assert [*tables.pick("ACL", columns, wanted)] == [sieved[1], sieved[0]]


def test_tables_and_columns_of_another_release_are_left_out(zone: Path) -> None:
    tables = Tables.of(zone / "nb.db", NB)
    assert list(tables.rows("NB_Global", ("nb_cfg", "invented"))[0]) == ["nb_cfg"]
    assert tables.rows("Invented", ("name",)) == []
    assert len(tables.rows("ACL", ("_uuid", "invented"))) > 50


def test_what_was_never_written_is_the_columns_default(zone: Path) -> None:
    acls = Tables.of(zone / "nb.db", NB).rows("ACL", ("priority", "log", "name", "options"))
    assert {type(row["priority"]) for row in acls} == {int}
    assert {row["log"] for row in acls} == {False}
    assert {} in [row["options"] for row in acls]


def test_swapped_files_are_told_apart(zone: Path) -> None:
    with pytest.raises(DatabaseError, match="holds OVN_Southbound, not OVN_Northbound; swap the"):
        Tables.of(zone / "sb.db", NB)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content.replace(b'"nb_cfg":', b'"nb_cfh":', 1), "SHA-1"),
        (lambda content: content + b"OVSDB", "no record begins at byte"),
        (lambda _: b"", "no record begins at byte 0"),
    ],
)
def test_damage_is_an_error(
    zone: Path, tmp_path: Path, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    damaged = tmp_path / "nb.db"
    damaged.write_bytes(damage((zone / "nb.db").read_bytes()))
    with pytest.raises(DatabaseError, match=complaint):
        Tables.of(damaged, NB)


def test_a_mark_of_a_later_format_is_not_passed_over(zone: Path, tmp_path: Path) -> None:
    marked = tmp_path / "nb.db"
    text = b'{"_squeezed":true}\n'
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    header = f"OVSDB JSON {len(text)} {digest}\n".encode()
    marked.write_bytes((zone / "nb.db").read_bytes() + header + text)
    with pytest.raises(DatabaseError, match="_squeezed"):
        Tables.of(marked, NB)


def test_values_of_external_ids_are_found_without_decoding_rows(
    zone: Path, tmp_path: Path, ovsdb: Ovsdb
) -> None:
    database = Path(shutil.copy(zone / "nb.db", tmp_path / "nb.db"))
    strange = r'quoted " and \ and "k8s.ovn.org/id","inner"'
    ids = ["map", [["k8s.ovn.org/id", strange]]]
    ovsdb(
        "transact",
        database,
        {"op": "insert", "table": "Port_Group", "row": {"name": "odd", "external_ids": ids}},
    )
    tables = Tables.of(database, NB)
    rows = tables.rows("Port_Group", ("external_ids",))
    wanted = {row["external_ids"]["k8s.ovn.org/id"] for row in rows}
    assert strange in wanted
    assert tables.external_ids("Port_Group", "k8s.ovn.org/id") == wanted
    assert tables.external_ids("Port_Group", "k8s.ovn.org") == frozenset()
    assert tables.external_ids("No_Such_Table", "k8s.ovn.org/id") == frozenset()
