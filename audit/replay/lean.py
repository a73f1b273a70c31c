"""A southbound database without the address sets that nothing in it names.

OVN-Kubernetes keeps the sets of all policies in every zone, and a zone's flows name a few of them.
With 35,000 sets, of which 1,200 are named, `ovn-trace` (25.03) starts in three quarters of the time
without the others, and a trace takes nine tenths.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from audit.errors import EngineError
from audit.replay.tables import RAW_OBJECT, record, records

SETS = "Address_Set"
_NAME = re.compile(rb"[\w.-]+")
_NAMED = re.compile(rb"\$([\w.-]+)")
"""A set in a match or an action (ovn-sb(5), Logical_Flow): what may be its name."""


def copy(source: Path, target: Path) -> None:
    """Write the database `source` to `target`, without address sets that nothing names.

    It is read whole, in some four times its size; `ovn-trace` takes thirty times. Both are
    standalone OVSDB files: EngineError when `source` is none, as of a server that does not start on
    it; OSError as writing a file does.
    """
    try:
        target.write_bytes(without_unnamed_sets(source.read_bytes()))
    except ValueError as error:
        raise EngineError(f"{source} cannot be read as an OVSDB file: {error}") from error


def without_unnamed_sets(content: bytes) -> bytes:
    """Return an OVSDB file without the address sets that no other row names, in any version."""
    schema, transactions = read(content)
    kept = called(sets(transactions), named(transactions))
    for transaction, rows in rows_of(transactions, SETS):
        put(transaction, SETS, {uuid: row for uuid, row in rows.items() if uuid in kept})
    return written(schema, transactions)


Transaction = dict[str, msgspec.Raw]
"""What a transaction says of each table."""


def read(content: bytes) -> tuple[bytes, list[Transaction]]:
    """Return an OVSDB file's schema and its transactions; ValueError where it is none."""
    schema, *transactions = map(bytes, records(content))
    return schema, [RAW_OBJECT.decode(transaction) for transaction in transactions]


def written(schema: bytes, transactions: Iterable[Transaction]) -> bytes:
    """Return a schema and transactions as an OVSDB file."""
    texts = (schema, *map(msgspec.json.encode, transactions))
    return b"".join(map(record, texts))


Rows = dict[str, msgspec.Raw]
"""What a transaction says of a table, by uuid."""


def rows_of(transactions: Iterable[Transaction], table: str) -> Iterator[tuple[Transaction, Rows]]:
    """Yield the transactions that say something of a table, with what they say."""
    for transaction in transactions:
        if table in transaction:
            yield transaction, RAW_OBJECT.decode(transaction[table])


def changing(transactions: Iterable[Transaction], table: str) -> frozenset[str]:
    """Return the rows of a table that several transactions write, as uuids."""
    times = Counter(uuid for _, rows in rows_of(transactions, table) for uuid in rows)
    return frozenset(uuid for uuid, count in times.items() if count > 1)


def put(transaction: Transaction, table: str, rows: Rows) -> None:
    """Have a transaction say this of a table."""
    transaction[table] = msgspec.Raw(msgspec.json.encode(rows))


def sets(transactions: Iterable[Transaction]) -> dict[bytes, frozenset[str]]:
    """Return the address sets, as uuids, by all names that they ever had.

    Under no name are those of which one is none that a match could have.
    """
    named: dict[bytes, set[str]] = defaultdict(set)
    for _, rows in rows_of(transactions, SETS):
        for uuid, row in rows.items():
            written = _SET.decode(row)
            if written is not None and written.name is not None:
                name = written.name.encode()
                named[name if _NAME.fullmatch(name) else b""].add(uuid)
    return {name: frozenset(uuids) for name, uuids in named.items()}


class _Set(msgspec.Struct):
    """What is read of an address set."""

    name: str | None = None


_SET = msgspec.json.Decoder(_Set | None)


def named(transactions: Iterable[Transaction], *, but: str = "") -> frozenset[bytes]:
    """Return what rows of other tables, `but` of one, may name of address sets."""
    return frozenset(
        name
        for transaction in transactions
        for table, rows in transaction.items()
        if table not in (SETS, but)
        for name in names_in(rows)
    )


def names_in(text: msgspec.Raw) -> list[bytes]:
    """Return what a text may name of address sets."""
    return _NAMED.findall(text)


def called(sets: Mapping[bytes, frozenset[str]], named: Iterable[bytes]) -> frozenset[str]:
    """Return the sets that have one of these names, or one that no match could have; as uuids."""
    return frozenset(uuid for name in (*named, b"") for uuid in sets.get(name, ()))
