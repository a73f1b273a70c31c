"""How the stages that run OVN's programs are given them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Programs(Protocol):
    """An installed OVN: where its programs are, and what they need to run."""

    def argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        """Return the command that runs `program` with `arguments`."""
        ...

    def environment(self, rundir: Path) -> Mapping[str, str]:
        """Return the variables that keep sockets, databases and logs below `rundir`."""
        ...


class Tables(Protocol):
    """The tables of one database: rows as dicts of columns; sets are lists, uuids strings."""

    def rows(
        self, table: str, columns: Sequence[str], *, mentioning: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Return a table's rows; `mentioning`: those whose text has one of these words in it."""
        ...

    def each(
        self, table: str, columns: Sequence[str], unless: Callable[[bytes], bool]
    ) -> Iterator[dict[str, Any]]:
        """Yield a table's rows one at a time, but for those of whose JSON text `unless` says so."""
        ...

    def external_ids(self, table: str, key: str) -> frozenset[str]:
        """Return the values that rows of a table have for a key; no row is decoded for it."""
        ...

    def digest(self, without: Mapping[str, Collection[str]]) -> str:
        """Return a digest of all rows and uuids, less these columns or, with none, tables."""
        ...

    def pick(
        self, table: str, columns: Sequence[str], uuids: Iterable[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows with these uuids, as far as they exist."""
        ...


class SchemaPrograms(Programs, Protocol):
    """An installed OVN that also knows its database schemas."""

    def schema(self, name: str) -> Path:
        """Return the path of an OVSDB schema."""
        ...


class DatabaseReader(Protocol):
    """Reads the OVSDB files of a snapshot."""

    def stage(self, source: Path, target: Path) -> bool:
        """Make `target` a standalone database of a file; True when its last write was cut off.

        DatabaseError when nothing of it can be read.
        """
        ...

    def tables(self, database: Path, schema: str) -> Tables:
        """Return the tables of a staged database whose schema is `schema`; or DatabaseError."""
        ...
