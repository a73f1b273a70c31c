"""A live cluster → a snapshot of it: what every command then reads, as if it had been named."""

import datetime as dt
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from audit import scratch
from audit.errors import NoClusterError, OutputError
from audit.facts.live.access import Access
from audit.model.facts import Note
from audit.replay.tables import Tables
from audit.store import unfinished
from audit.store.lock import exclusively
from audit.tracing.options import Progress

__all__ = ["Access", "Saved", "captured", "save", "sweep"]

_PREFIX = ".cluster-"
_OLD_S = 3600
"""Snapshots that no run names are left alone for so long: where directories cannot be locked, one
may be in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A snapshot of a live cluster, and what is missing in it."""

    path: Path
    source: str
    zones: int
    notes: tuple[Note, ...]


@contextmanager
def captured(
    access: Access,
    progress: Progress,
    *,
    keep: Path | None = None,
    elsewhere: bool = False,
    databases: bool = True,
) -> Iterator[Path]:
    """Read a live cluster, and yield the snapshot it is while the block lasts.

    Below `keep`, where runs are, it stays as long as one that is not whole needs it to go on; so do
    earlier ones. `elsewhere`: runs are moved from there when they are finished.
    """
    if keep is None:
        with scratch.directory("cluster") as space:
            _capture(access, space, progress, databases=databases)
            yield space
        return
    directory = _beside(keep)
    try:
        with exclusively(directory):
            _capture(access, directory, progress, databases=databases)
            yield directory
    finally:
        if not unfinished.snapshots(keep).get(directory.name):
            shutil.rmtree(directory, ignore_errors=True)
        sweep(keep, lost=not elsewhere)


def sweep(root: Path, *, lost: bool = False) -> None:
    """Remove the snapshots of live clusters below `root` that no run there needs any more.

    `lost`: also those that no run there names, as theirs was removed; but none that is in use.
    """
    needed = unfinished.snapshots(root)
    for snapshot in root.glob(f"{_PREFIX}*"):
        with suppress(OSError, OutputError):
            named = snapshot.name in needed
            if needed.get(snapshot.name) or not (named or (lost and _is_old(snapshot))):
                continue
            with exclusively(snapshot):
                shutil.rmtree(snapshot)


def _is_old(snapshot: Path) -> bool:
    """Say whether a run that read it would have its plan by now, were there one."""
    return time.time() - snapshot.stat().st_mtime > _OLD_S


def save(access: Access, target: Path, progress: Progress, *, databases: bool = True) -> Saved:
    """Save a live cluster to a new directory, or to a `.tar.gz`; nothing is left half-written."""
    packed = target.name.endswith((".tar.gz", ".tgz"))
    if target.exists() and not packed:
        raise OutputError(f"{target} is there already; name a new directory, or a .tar.gz")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.sweep(target.parent)
        with scratch.directory("snapshot", target.parent) as space:
            begun = space / "snapshot"
            begun.mkdir()
            saved = _take(access, begun, progress, databases=databases)
            if packed:
                archive = space / "snapshot.tar.gz"
                with tarfile.open(archive, "w:gz") as tar:
                    tar.add(begun, arcname=".")
                archive.replace(target)
            else:
                begun.rename(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    return Saved(path=target, source=saved.source, zones=saved.zones, notes=saved.notes)


def _capture(access: Access, target: Path, progress: Progress, *, databases: bool) -> None:
    """Save a live cluster for a command that takes a saved one instead."""
    try:
        _take(access, target, progress, databases=databases)
    except NoClusterError as error:
        raise NoClusterError(f"{error}, or give --snapshot") from error


def _take(access: Access, target: Path, progress: Progress, *, databases: bool) -> Saved:
    from audit.facts.live.capture import Capture  # noqa: PLC0415 - only who reads a live cluster pays for its client

    progress.phase("reading the cluster", 0)
    capture = Capture(access=access, target=target, zone_name=_zone_name)
    capture.take(databases=databases)
    zones = sum(1 for _ in target.glob("ovn/*/sb.db"))
    return Saved(path=target, source=capture.source, zones=zones, notes=tuple(capture.notes))


def _zone_name(northbound: Path) -> str:
    """Return what a zone is called in its own database: `NB_Global.options:name`, else its name."""
    rows = Tables.of(northbound, "OVN_Northbound").rows("NB_Global", ("name", "options"))
    named = [str(row["options"].get("name") or row.get("name") or "") for row in rows]
    return named[0] if named else ""


def _beside(root: Path) -> Path:
    """Make a directory for what a run reads, beside the runs."""
    moment = dt.datetime.now(dt.UTC)
    directory = root / f"{_PREFIX}{moment:%Y%m%dT%H%M%SZ}-{os.getpid()}"
    try:
        directory.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"{directory} cannot be written: {error.strerror}") from error
    return directory
