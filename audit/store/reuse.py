"""The traces of a finished run that hold for a new one: of zones whose southbound is what it was.

A trace depends on its zone's southbound database, on the program that traced and on the one that
read it, and on the packet, of which its id is made. `run.json` says the first three, so a trace
with the same id in a zone of the same content ends as it did.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from audit.errors import RunReadError
from audit.model.traces import TraceOutcome
from audit.store import outcomes
from audit.store.layout import read_manifest, reading, table_files
from audit.store.schema import TRACES
from audit.store.traces import TraceFiles

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
    _files: TraceFiles = field(default_factory=lambda: TraceFiles(()))
    _read: dict[str, str] = field(default_factory=dict)
    """What was read of each trace, by its id."""

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
        files = table_files(path, manifest, TRACES)
        read = {key: text for file in files for key, text in _read(file, zones)}
        return cls(run=path.name, zones=zones, _files=TraceFiles(files), _read=read)

    def take(self, key: str) -> TraceOutcome | None:
        """Return what a trace came to, with the engine's words; None where it is to be run."""
        text = self._read.pop(key, None)
        trace = self._files.get(key) if text is not None else None
        if text is None or trace is None:
            return None
        try:
            outcome = outcomes.decode(key, text)
        except ValueError as error:
            raise RunReadError(f"trace {key} of run {self.run} cannot be read: {error}") from error
        return replace(outcome, output=trace.output)


def _read(file: Path, zones: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the id of each logical trace of a file in some zones, and what was read of it."""
    columns = ["trace_id", "read", "zone", "plane"]
    with reading(file):
        table = pq.read_table(file, columns=columns, partitioning=None)
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    for key, text, zone, plane in rows:
        if zone in zones and plane == "logical" and text is not None:
            yield key, text


def _obstacle(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say why no trace of a run holds now, in a few words; nothing where some may."""
    if not before:
        return "it does not say what its traces depend on"
    if before["audit"] != now["audit"]:
        return f"audit {before['audit']} made it, and this is {now['audit']}"
    if before["ovn"] != now["ovn"]:
        return f"OVN {before['ovn']} traced it, and the one at hand is {now['ovn']}"
    return ""
