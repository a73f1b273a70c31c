"""Several runs below one directory: listed, asked, and thinned out."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import UsageError
from audit.model.history import Kept
from audit.report.formats import history as shown
from audit.store import history


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs below a directory, oldest first, and sentences about what could not be read."""

    runs: tuple[Kept, ...]
    skipped: tuple[str, ...]
    text: str


def past(root: Path) -> History:
    """Return the runs below `root`."""
    found = history.find(root)
    return History(runs=found.runs, skipped=found.skipped, text=shown.history(found.runs))


def ask_all(root: Path, sql: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run `sql` over all runs below `root`."""
    return history.ask(history.find(root).runs, sql)


def prune(root: Path, *, last: int | None, days: int | None, now: dt.datetime) -> tuple[Kept, ...]:
    """Delete runs below `root` but the `last` and those of the last `days`; return them.

    The newest run stays in any case, and so does what cannot be read.
    """
    if last is None and days is None:
        raise UsageError("say what to keep: --keep-last, --keep-days, or both")
    runs = history.find(root).runs
    kept = {run.path for run in runs[-max(last or 1, 1) :]}
    if days is not None:
        since = now - dt.timedelta(days=days)
        kept |= {run.path for run in runs if dt.datetime.fromisoformat(run.started) >= since}
    gone = tuple(run for run in runs if run.path not in kept)
    history.remove(gone)
    return gone
