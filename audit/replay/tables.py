"""A standalone OVSDB file's rows, read without a server.

The file is a sequence of records, each a line `OVSDB JSON <length> <sha1>` and a JSON value: the
schema, then transactions (ovsdb(5), "Standalone Format"; ovsdb/file.c). A transaction says per
table and uuid what columns a row has now, or null where it is gone; in one marked `_is_diff`
(since OVS 2.16) the sets and maps of rows that were there already are differences.

With interconnect each zone's northbound database holds the ACLs of all policies, tens of megabytes
of which a zone uses a tenth. So rows stay text until somebody asks for them.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from audit.errors import DatabaseError

Row = dict[str, Any]
"""A row as Python values: sets are lists, maps dicts, uuids strings."""

_MAGIC = b"OVSDB JSON "
_HEADER_FIELDS = 4
RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Reads what a transaction says by table, or of a table by row, and leaves the rest as text."""
_ANY = msgspec.json.Decoder()
_ZERO: dict[str, Any] = {
    "integer": 0,
    "real": 0.0,
    "boolean": False,
    "string": "",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
"""What a column holds that is not written (RFC 7047, 5.2.1)."""


class Tables:
    """The tables of one database."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._columns: dict[str, dict[str, Any]] = {
            name: {column: described["type"] for column, described in table["columns"].items()}
            for name, table in schema["tables"].items()
        }
        self._rows: dict[str, dict[str, _Stored]] = {}

    @classmethod
    def of(cls, database: Path, schema: str) -> "Tables":
        """Read a standalone file whose schema is `schema`.

        DatabaseError when it is none, or when a record does not have the checksum it states.
        """
        try:
            first, *transactions = records(database.read_bytes())
            described = _ANY.decode(first)
            tables, name = cls(described), described["name"]
            for transaction in transactions:
                tables._apply(RAW_OBJECT.decode(transaction))
        except OSError as error:
            raise DatabaseError(f"{database} cannot be read: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DatabaseError(f"{database} cannot be read as an OVSDB file: {error}") from error
        if name != schema:
            raise DatabaseError(f"{database} holds {name}, not {schema}; swap the two files")
        return tables

    def _apply(self, transaction: Mapping[str, msgspec.Raw]) -> None:
        """Change the rows as a transaction says."""
        strange = {key for key in transaction if key.startswith("_")} - _MARKS
        if strange:
            raise ValueError(f"transactions have marks of a later format: {sorted(strange)}")
        differs = "_is_diff" in transaction and bytes(transaction["_is_diff"]) == b"true"
        for table in transaction.keys() - _MARKS:
            rows = self._rows.setdefault(table, {})
            for uuid, change in RAW_OBJECT.decode(transaction[table]).items():
                if bytes(change) == b"null":
                    rows.pop(uuid, None)
                elif uuid in rows:
                    changed = self._changed(table, rows[uuid], _ANY.decode(change), differs)
                    rows[uuid] = changed
                else:
                    rows[uuid] = change

    def _changed(
        self,
        table: str,
        stored: "_Stored",
        change: dict[str, Any],
        differs: bool,  # noqa: FBT001 - a mark of the file
    ) -> dict[str, Any]:
        """Return a row as it is after a change of some of its columns."""
        row: dict[str, Any] = dict(
            _ANY.decode(stored) if isinstance(stored, msgspec.Raw) else stored
        )
        for column, value in change.items():
            kind = self._columns[table][column]
            many = isinstance(kind, dict) and kind.get("max", 1) != 1
            if differs and many:
                row[column] = _difference(row.get(column, _EMPTY), value, kind)
            else:
                row[column] = value
        return row

    def rows(
        self, table: str, columns: Sequence[str], *, mentioning: Collection[str] = ()
    ) -> list[Row]:
        """Return the rows of a table, of those only these columns.

        A table or a column that this database's version does not have is left out. `mentioning`
        keeps the rows whose text has one of these in it: a cheap first sieve.
        """
        if not mentioning:
            return [*self.each(table, columns)]
        sieve = re.compile(b"|".join(re.escape(word.encode()) for word in mentioning))
        return [*self.each(table, columns, lambda text: sieve.search(text) is None)]

    def each(
        self, table: str, columns: Sequence[str], unless: Callable[[bytes], bool] | None = None
    ) -> Iterator[Row]:
        """Yield rows as `rows` has them, but for those of whose text `unless` says so.

        One at a time: half a million fill a memory.
        """
        return (
            self._row(table, uuid, stored, columns)
            for uuid, stored in self._rows.get(table, {}).items()
            if unless is None or not unless(_text(stored))
        )

    def external_ids(self, table: str, key: str) -> frozenset[str]:
        """Return the values that rows of a table have for a key of theirs in a map of strings.

        Found in the rows' text: decoding ten thousand rows for one word each takes ten times as
        long, and there may be a hundred zones.
        """
        rows = b"\n".join(_text(stored) for stored in self._rows.get(table, {}).values())
        pair = rb'"%b",("[^"\\]*(?:\\.[^"\\]*)*")' % re.escape(key.encode())
        return frozenset(_ANY.decode(value) for value in set(re.findall(pair, rows)))

    def digest(self, without: Mapping[str, Collection[str]]) -> str:
        """Return a digest of all rows with their uuids, whatever their order in the file.

        Of a table in `without` these columns are left out; all of it where that names none. Rows
        that a later transaction changed may be written otherwise than the same rows in one piece:
        then the digest is another one.
        """
        total = hashlib.blake2b(digest_size=16)
        for table in sorted(self._rows.keys() - {name for name, of in without.items() if not of}):
            total.update(f"{table}\n".encode())
            columns = without.get(table, ())
            rows = self._rows[table]
            pieces = (
                piece
                for uuid in sorted(rows)
                for piece in (
                    uuid.encode(),
                    _text(_less(rows[uuid], columns) if columns else rows[uuid]),
                )
            )
            # Together: another thread may take its turn after each that is not small.
            while some := b"".join(itertools.islice(pieces, _TOGETHER)):
                total.update(some)
        return total.hexdigest()

    def pick(self, table: str, columns: Sequence[str], uuids: Iterable[str]) -> Iterator[Row]:
        """Yield the rows with these uuids, in this order; those that do not exist are left out."""
        stored = self._rows.get(table, {})
        return (self._row(table, u, stored[u], columns) for u in uuids if u in stored)

    def _row(self, table: str, uuid: str, stored: "_Stored", columns: Sequence[str]) -> Row:
        values = _columns(stored)
        described = self._columns[table]
        row = {
            name: _value(values[name]) if name in values else _default(described[name])
            for name in columns
            if name in described
        }
        if "_uuid" in columns:
            row["_uuid"] = uuid
        return row


_Stored = msgspec.Raw | dict[str, Any]
"""A row as the file has it: its text, or its columns once they were changed."""

_MARKS = frozenset({"_date", "_comment", "_is_diff"})
_EMPTY = ["set", []]


_TOGETHER = 1 << 13
"""Pieces of rows that are hashed at a time."""


def _columns(stored: _Stored) -> Mapping[str, Any]:
    return _ANY.decode(stored) if isinstance(stored, msgspec.Raw) else stored


def _less(stored: _Stored, columns: Collection[str]) -> dict[str, Any]:
    """Return a row without these columns."""
    return {name: value for name, value in _columns(stored).items() if name not in columns}


def _text(stored: _Stored) -> bytes:
    return bytes(stored) if isinstance(stored, msgspec.Raw) else msgspec.json.encode(stored)


def records(content: bytes) -> Iterator[memoryview]:
    """Yield the JSON text of each record, a part of `content`; ValueError where none is to read."""
    whole, end = memoryview(content), 0
    while end < len(content) or not end:
        line = content.find(b"\n", end) + 1
        fields = content[end:line].split()
        if not content.startswith(_MAGIC, end) or len(fields) != _HEADER_FIELDS:
            raise ValueError(f"no record begins at byte {end}")
        text = whole[line : line + int(fields[2])]
        if hashlib.sha1(text, usedforsecurity=False).hexdigest().encode() != fields[3]:
            raise ValueError(f"the record at byte {end} does not have the SHA-1 it states")
        yield text
        end = line + len(text)


def record(text: bytes) -> bytes:
    """Return a record of this JSON text, as `records` reads it."""
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return b"%b%d %b\n%b" % (_MAGIC, len(text), digest.encode(), text)


def _difference(old: Any, change: Any, kind: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Apply a difference to a set or a map, as `ovsdb_datum_apply_diff` does.

    Members of a set that are in both are taken away, others added. Pairs of a map that are in both
    are taken away; another value of a key that is there replaces it.
    """
    if "value" in kind:
        pairs = {_hashable(key): (key, value) for key, value in _members(old, "map")}
        for key, value in _members(change, "map"):
            if pairs.get(_hashable(key)) == (key, value):
                del pairs[_hashable(key)]
            else:
                pairs[_hashable(key)] = (key, value)
        return ["map", [list(pair) for pair in pairs.values()]]
    members = {_hashable(member): member for member in _members(old, "set")}
    for member in _members(change, "set"):
        if members.pop(_hashable(member), None) is None:
            members[_hashable(member)] = member
    return ["set", list(members.values())]


def _members(value: Any, kind: str) -> list[Any]:  # noqa: ANN401 - JSON
    """Return the members of a set or a map; a set of one is written as its member."""
    if isinstance(value, list) and value[0] in ("set", "map"):
        members: list[Any] = value[1]
        return members
    return [value] if kind == "set" else []


def _hashable(atom: Any) -> Any:  # noqa: ANN401 - an OVSDB <atom>
    return tuple(atom) if isinstance(atom, list) else atom


def _value(value: Any) -> Any:  # noqa: ANN401 - an OVSDB <value> is any JSON (RFC 7047, 5.1)
    """Turn an OVSDB `<value>` into Python: `["map", …]`, `["set", …]`, `["uuid", …]`, atoms."""
    if isinstance(value, list):
        kind, content = value
        if kind == "map":
            return {_value(k): _value(v) for k, v in content}
        if kind == "set":
            return [_value(item) for item in content]
        return content
    return value


def _default(kind: Any) -> Any:  # noqa: ANN401 - an OVSDB <type> and its values (RFC 7047, 3.2)
    """Return what a column of an OVSDB `<type>` holds where a row does not say."""
    if isinstance(kind, str):
        return _ZERO[kind]
    if "value" in kind:
        return {}
    if kind.get("min", 1) == 0 or kind.get("max", 1) != 1:
        return []
    key = kind["key"]
    return _ZERO[key if isinstance(key, str) else key["type"]]
