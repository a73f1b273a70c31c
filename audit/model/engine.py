"""How the stages that run OVN's programs are given them."""

from collections.abc import Mapping, Sequence
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


class DatabaseReader(Protocol):
    """Reads the OVSDB files of a snapshot."""

    def stage(self, source: Path, target: Path) -> bool:
        """Copy a database file to `target`, standalone; True when its last write was cut off.

        DatabaseError when nothing of it can be read.
        """
        ...

    def select(
        self,
        database: Path,
        schema: str,
        tables: Mapping[str, Sequence[str]],
        where: Mapping[str, Sequence[Any]],
    ) -> dict[str, list[dict[str, Any]]]:
        """Read columns of tables; sets are lists, maps dicts, uuids strings."""
        ...
