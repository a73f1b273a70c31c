"""A served southbound lacks the address sets that nothing names, and is the same otherwise."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from audit.errors import EngineError
from audit.replay import lean
from audit.replay.databases import OvsdbTool
from audit.replay.tables import Tables, record
from audit.replay.toolchain import Toolchain
from tests.archives import extract

SCHEMA = {
    "name": "OVN_Southbound",
    "tables": {
        "Address_Set": {"columns": {"name": {"type": "string"}, "addresses": {"type": "string"}}},
        "Logical_Flow": {"columns": {"match": {"type": "string"}, "actions": {"type": "string"}}},
        "Chassis_Template_Var": {"columns": {"variables": {"type": "string"}}},
    },
}


def file(*transactions: dict[str, Any]) -> bytes:
    """Return an OVSDB file with these transactions."""
    return b"".join(record(json.dumps(value).encode()) for value in (SCHEMA, *transactions))


def sets_of(content: bytes, tmp_path: Path) -> dict[str, str]:
    """Return the address sets of a file, by name."""
    path = tmp_path / "sb.db"
    path.write_bytes(content)
    rows = Tables.of(path, "OVN_Southbound").rows("Address_Set", ["name", "addresses"])
    return {row["name"]: row["addresses"] for row in rows}


def test_sets_that_any_row_of_any_transaction_names_stay(tmp_path: Path) -> None:
    sets = {f"u{n}": {"name": name, "addresses": name} for n, name in enumerate("abcdef")}
    content = file(
        {"Address_Set": sets, "Logical_Flow": {"f0": {"match": "ip4.src == $a || ip4.src=={$b}"}}},
        {"Logical_Flow": {"f1": {"match": "ip4", "actions": "set(x, $c);"}}, "_is_diff": True},
        {"Chassis_Template_Var": {"v": {"variables": "ip4.dst == $d"}}},
    )
    assert sets_of(lean.without_unnamed_sets(content), tmp_path).keys() == set("abcd")


def test_a_part_of_a_name_is_no_name(tmp_path: Path) -> None:
    sets = {
        "u0": {"name": "a1"},
        "u1": {"name": "a"},
        "u2": {"name": "a1.b-c_d"},
        "u3": {"name": "odd:name"},
    }
    content = file({"Address_Set": sets, "Logical_Flow": {"f": {"match": "ip4.src == $a1.b-c_d"}}})
    kept = sets_of(lean.without_unnamed_sets(content), tmp_path)
    assert kept.keys() == {"a1.b-c_d", "odd:name"}, "of the last it is not known what names it"


def test_what_later_transactions_say_of_a_set_goes_with_it(tmp_path: Path) -> None:
    content = file(
        {
            "Address_Set": {u: {"name": u, "addresses": "old"} for u in ("kept", "gone", "lost")},
            "Logical_Flow": {"f": {"match": "ip4.src == $kept || ip4.src == $later"}},
        },
        {"Address_Set": {"gone": {"addresses": "new"}, "kept": {"addresses": "new"}}},
        {"Address_Set": {"lost": None, "gone": None}},
        {"Address_Set": {"gone": {"name": "later", "addresses": "again"}}},
    )
    kept = sets_of(lean.without_unnamed_sets(content), tmp_path)
    assert kept == {"kept": "new", "later": "again"}


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no record begins"):
        lean.without_unnamed_sets(b"nothing")
    source = tmp_path / "sb.db"
    for content in (b"nothing", record(b"{}") + record(b"[")):
        source.write_bytes(content)
        with pytest.raises(EngineError, match="cannot be read as an OVSDB file"):
            lean.copy(source, tmp_path / "copy.db")


def test_a_copy_has_no_set_that_nothing_names(tmp_path: Path) -> None:
    source, target = tmp_path / "sb.db", tmp_path / "copy.db"
    source.write_bytes(file({"Address_Set": {"u": {"name": "a"}}}))
    lean.copy(source, target)
    assert sets_of(target.read_bytes(), tmp_path) == {}


@pytest.mark.ovn
def test_of_a_recorded_database_nothing_else_is_missing(
    toolchain: Toolchain, example_snapshot: Path, tmp_path: Path
) -> None:
    with tarfile.open(example_snapshot) as archive:
        extract(archive, tmp_path)
    whole = next(tmp_path.glob("**/ovn/ovn-worker/sb.db"))
    copy = tmp_path / "lean.db"
    lean.copy(whole, copy)
    both = [Tables.of(path, "OVN_Southbound") for path in (whole, copy)]
    digests = {tables.digest(without={"Address_Set": ()}) for tables in both}
    assert len(digests) == 1
    names = [{row["name"] for row in tables.rows("Address_Set", ["name"])} for tables in both]
    assert names[1] < names[0]
    matches = " ".join(row["match"] for row in both[0].rows("Logical_Flow", ["match"]))
    assert names[1] >= {name for name in names[0] if f"${name}" in matches}
    OvsdbTool(programs=toolchain).stage(copy, tmp_path / "staged.db")
