"""A live cluster → a snapshot of it: what every command then reads, as if it had been named."""

import datetime as dt
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audit.errors import AuditError, OutputError
from audit.facts.live.access import Access
from audit.model.facts import Note
from audit.pipeline.options import Progress
from audit.replay.tables import Tables

__all__ = ["Access", "Saved", "captured", "save"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A snapshot of a live cluster, and what is missing in it."""

    path: Path
    source: str
    zones: int
    notes: tuple[Note, ...]


@dataclass(slots=True, kw_only=True)
class Captured:
    """A snapshot that lasts as long as a block; `held` makes it stay where it may."""

    path: Path
    held: bool = False


@contextmanager
def captured(
    access: Access, progress: Progress, *, keep: Path | None = None, databases: bool = True
) -> Iterator[Captured]:
    """Read a live cluster, and yield the snapshot it is while the block lasts.

    Below `keep` it stays when the block is cut short, or it is held: an ended run is gone on with
    from it.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="audit-cluster-") as space:
            _take(access, Path(space), progress, databases=databases)
            yield Captured(path=Path(space))
        return
    place = _beside(keep)
    try:
        _take(access, place, progress, databases=databases)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    taken = Captured(path=place)
    try:
        yield taken
    except AuditError:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if not taken.held:
        shutil.rmtree(place, ignore_errors=True)


def save(access: Access, target: Path, progress: Progress, *, databases: bool = True) -> Saved:
    """Save a live cluster to a new directory, or to a `.tar.gz`; nothing is left half-written."""
    packed = target.name.endswith((".tar.gz", ".tgz"))
    if target.exists() and not packed:
        raise OutputError(f"{target} is there already; name a new directory, or a .tar.gz")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as space:
            unfinished = Path(space) / "snapshot"
            unfinished.mkdir()
            saved = _take(access, unfinished, progress, databases=databases)
            if packed:
                archive = Path(space) / "snapshot.tar.gz"
                with tarfile.open(archive, "w:gz") as tar:
                    tar.add(unfinished, arcname=".")
                archive.replace(target)
            else:
                unfinished.rename(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    return Saved(path=target, source=saved.source, zones=saved.zones, notes=saved.notes)


def _take(access: Access, place: Path, progress: Progress, *, databases: bool) -> Saved:
    from audit.facts.live.capture import Capture  # noqa: PLC0415 - only who reads a live cluster pays for its client

    progress.phase("reading the cluster", 0)
    capture = Capture(access=access, target=place, zone_name=_zone_name)
    capture.take(databases=databases)
    zones = sum(1 for _ in place.glob("ovn/*/sb.db"))
    return Saved(path=place, source=capture.source, zones=zones, notes=tuple(capture.notes))


def _zone_name(northbound: Path) -> str:
    """Return what a zone is called in its own database: `NB_Global.options:name`, else its name."""
    rows = Tables.of(northbound, "OVN_Northbound").rows("NB_Global", ("name", "options"))
    named = [str(row["options"].get("name") or row.get("name") or "") for row in rows]
    return named[0] if named else ""


def _beside(root: Path) -> Path:
    """Make a directory for what a run reads, beside the runs."""
    moment = dt.datetime.now(dt.UTC)
    place = root / f".cluster-{moment:%Y%m%dT%H%M%SZ}-{os.getpid()}"
    try:
        place.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror}") from error
    return place
