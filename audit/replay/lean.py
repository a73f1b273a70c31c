"""A southbound database without the address sets that nothing in it names.

OVN-Kubernetes keeps the sets of all policies in every zone, and a zone's flows name a few of them.
With 35,000 sets, of which 1,200 are named, `ovn-trace` (25.03) starts in three quarters of the time
without the others, and a trace takes nine tenths.
"""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from audit.errors import EngineError
from audit.replay.tables import RAW_OBJECT, record, records

MOST_BYTES = 128 << 20
"""Of a database that is read whole, by each worker, in some four times its size."""

_SETS = "Address_Set"
_NAME = re.compile(rb"[\w.-]+")
_NAMED = re.compile(rb"\$([\w.-]+)")
"""A set in a match or an action (ovn-sb(5), Logical_Flow): what may be its name."""


def copy(source: Path, target: Path) -> None:
    """Write the database `source` to `target`, without address sets that nothing names.

    One that is very large is copied as it is. Both are standalone OVSDB files: EngineError when
    `source` is none, as of a server that does not start on it; OSError as writing a file does.
    """
    if source.stat().st_size > MOST_BYTES:
        shutil.copyfile(source, target)
        return
    try:
        target.write_bytes(without_unnamed_sets(source.read_bytes()))
    except ValueError as error:
        raise EngineError(f"{source} cannot be read as an OVSDB file: {error}") from error


def without_unnamed_sets(content: bytes) -> bytes:
    """Return an OVSDB file without the address sets that no other row names, in any version.

    A set whose name is none that a match could have stays.
    """
    schema, transactions = read(content)
    leave_out_unnamed_sets(transactions)
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


def leave_out_unnamed_sets(transactions: Sequence[Transaction]) -> None:
    """Take out of transactions what they say of address sets that nothing in them names."""
    sets = [RAW_OBJECT.decode(transaction.get(_SETS, b"{}")) for transaction in transactions]
    kept = _kept(sets, _named(transactions))
    for transaction, rows in zip(transactions, sets, strict=True):
        if rows:
            left = {uuid: row for uuid, row in rows.items() if uuid in kept}
            transaction[_SETS] = msgspec.Raw(msgspec.json.encode(left))


def _named(transactions: Iterable[Mapping[str, msgspec.Raw]]) -> frozenset[bytes]:
    """Return what rows of other tables may name."""
    return frozenset(
        name
        for transaction in transactions
        for table, rows in transaction.items()
        if table != _SETS
        for name in _NAMED.findall(bytes(rows))
    )


def _kept(
    transactions: Iterable[Mapping[str, msgspec.Raw]], named: frozenset[bytes]
) -> frozenset[str]:
    """Return the uuids of the sets that are named, whenever they were called so."""
    kept = set()
    for rows in transactions:
        for uuid, row in rows.items():
            name = (msgspec.json.decode(row) or {}).get("name")
            if name is not None and _may_be(str(name).encode(), named):
                kept.add(uuid)
    return frozenset(kept)


def _may_be(name: bytes, named: frozenset[bytes]) -> bool:
    return name in named or not _NAME.fullmatch(name)
