"""The traces of a finished run that hold for a new one: of zones whose southbound is what it was.

A trace depends on its zone's southbound database, on the program that traced and on the one that
read it, and on the packet, of which its id is made. `run.json` says the first three, so a trace
with the same id in a zone of the same content ends as it did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.errors import RunReadError
from audit.model.traces import TraceOutcome
from audit.store import outcomes
from audit.store.layout import read_manifest, reading, table_files
from audit.store.schema import TRACES

_GROUPS = 64
"""Row groups of raw text that are kept: traces are asked for nearly in the order they ran."""

REUSABLE = "reusable"
"""The field of run.json that says what traces depend on; null where that is not known."""


def described(zones: Mapping[str, str], *, audit: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `run.json` says of it: `zones` are digests of their content, by name."""
    return {"audit": audit, "ovn": engine.get("version"), "zones": dict(zones)}


@dataclass(slots=True, kw_only=True)
class Reusable:
    """Traces of the run `run` in `zones`, each given once; none where `obstacle` says why."""

    run: str
    zones: frozenset[str] = frozenset()
    obstacle: str = ""
    _read: dict[str, tuple[str, Path, int, int]] = field(default_factory=dict)
    """By trace id: what was read of it, and the file, row group and row of its raw text."""

    @classmethod
    def of(cls, path: Path, now: Mapping[str, Any]) -> "Reusable":
        """Read the traces of the run at `path` that hold where `now` describes the zones.

        RunReadError when it is no finished run, or a file of it is not as it was written.
        """
        manifest = read_manifest(path)
        before = manifest.get(REUSABLE)
        obstacle = _obstacle(before, now)
        if before is None or obstacle:
            return cls(run=path.name, obstacle=obstacle)
        zones = frozenset(
            zone
            for zone, content in now["zones"].items()
            if content and before["zones"].get(zone) == content
        )
        reusable = cls(run=path.name, zones=zones)
        for file in table_files(path, manifest, TRACES):
            reusable._add(file)
        return reusable

    def take(self, key: str) -> TraceOutcome | None:
        """Return what a trace came to, with the engine's words; None where it is to be run."""
        row = self._read.pop(key, None)
        if row is None:
            return None
        text, file, group, number = row
        try:
            outcome = outcomes.decode(key, text)
        except ValueError as error:
            raise RunReadError(f"trace {key} of run {self.run} cannot be read: {error}") from error
        return replace(outcome, output=_words(file, group, number))

    def _add(self, file: Path) -> None:
        """Index the traces of a file that are in `zones`."""
        with reading(file), pq.ParquetFile(file) as parquet:
            columns = ["trace_id", "zone", "plane", "read"]
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=columns)
                rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
                for row, (key, zone, plane, text) in enumerate(rows):
                    if zone in self.zones and plane == "logical" and text is not None:
                        self._read[key] = (text, file, group, row)


def _obstacle(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say why no trace of a run holds now, in a few words; nothing where some may."""
    if not before:
        return "it does not say what its traces depend on"
    if before["audit"] != now["audit"]:
        return f"audit {before['audit']} made it, and this is {now['audit']}"
    if before["ovn"] != now["ovn"]:
        return f"OVN {before['ovn']} traced it, and the one at hand is {now['ovn']}"
    return ""


@lru_cache(maxsize=_GROUPS)
def _group(file: Path, group: int) -> Any:  # noqa: ANN401 - an Arrow array, which has no stubs
    with reading(file), pq.ParquetFile(file) as parquet:
        return pc.cast(parquet.read_row_group(group, columns=["raw"])["raw"], "string")


def _words(file: Path, group: int, row: int) -> str:
    return str(_group(file, group)[row].as_py())
