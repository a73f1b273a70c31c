"""Several runs below one directory, or on an object store: listed, asked, and thinned out.

Of a store's runs `run.json` is fetched, which says all that a list shows; SQL fetches their tables.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from audit import scratch
from audit.commands.copy import RemoteDirectory
from audit.errors import OutputError, UsageError
from audit.model.history import Kept
from audit.report import render
from audit.report.formats import history as shown
from audit.store import history, remote
from audit.store.lock import exclusively


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs of a root, oldest first, and sentences about what could not be read."""

    runs: tuple[Kept, ...]
    skipped: tuple[str, ...]

    @property
    def text(self) -> str:
        """The runs for a terminal."""
        return shown.history(self.runs)

    def page(self, root: str) -> str:
        """Return the runs of `root` as one HTML page."""
        return render.render_history(root, self.runs, self.skipped)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The runs for programs; `moved` is what changed since the last of the same scope."""
        return [
            {**asdict(run), **run.request, "moved": moved and asdict(moved)}
            for run, moved in zip(self.runs, shown.moves(self.runs), strict=True)
        ]


def past(root: Path | RemoteDirectory) -> History:
    """Return the runs of `root`."""
    with ExitStack() as stack:
        listing = _listing(root, stack)
    return History(runs=listing.runs, skipped=listing.skipped)


def _listing(root: Path | RemoteDirectory, stack: ExitStack) -> history.Found:
    """Return the runs of `root`, named as they are there; copies last as long as `stack`."""
    if isinstance(root, Path):
        return history.find(root)
    space = stack.enter_context(scratch.directory("runs"))
    remote.fetch_manifests(root, space)
    listing = history.find(space)
    return replace(
        listing,
        runs=tuple(replace(run, path=str(root / run.name)) for run in listing.runs),
        skipped=tuple(sentence.replace(str(space), str(root)) for sentence in listing.skipped),
    )


def ask_all(
    root: Path | RemoteDirectory, sql: str, stack: ExitStack
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run `sql` over all runs of `root`; what is fetched for it lasts as long as `stack`."""
    runs = _listing(root, stack).runs
    if not isinstance(root, Path):
        space = stack.enter_context(scratch.directory("runs"))
        paths = [remote.fetch(root / run.name, space) for run in runs]
        runs = tuple(replace(r, path=str(p)) for r, p in zip(runs, paths, strict=True))
    return history.ask(runs, sql)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept: the `last` runs, and those of the last `days`. At least one is said."""

    last: int | None = None
    days: int | None = None

    def __post_init__(self) -> None:
        if self.last is None and self.days is None:
            raise UsageError("say what to keep: --keep-last, --keep-days, or both")

    def gone(self, listing: history.Found, now: dt.datetime) -> tuple[str, ...]:
        """Return the runs that are not kept: never the newest, nor one that was given a name.

        What is called otherwise than its id was put there by somebody, as a copy of a run or a
        link to one, which stays too. One that was never finished goes when it began before the
        last `days` and before the newest finished one: that is no run at work.
        """
        since = None if self.days is None else now - dt.timedelta(days=self.days)
        stay = self._kept(listing.runs, since) | _named(listing.runs)
        gone = [run.path for run in listing.runs if Path(run.path).resolve() not in stay]
        if since is not None and listing.runs:
            until = min(since, _moment(listing.runs[-1].started))
            gone += [run.path for run in listing.left if _moment(run.started) < until]
        return tuple(gone)

    def _kept(self, runs: Sequence[Kept], since: dt.datetime | None) -> set[Path]:
        """Return where the last runs are, and those begun at or after `since`."""
        last = runs[-max(self.last or 1, 1) :]
        recent = [run for run in runs if since is not None and _moment(run.started) >= since]
        return {Path(run.path).resolve() for run in (*last, *recent)}


def _named(runs: Sequence[Kept]) -> set[Path]:
    """Return where the runs are whose directory, or a link to it, has a name of its own."""
    return {Path(run.path).resolve() for run in runs if Path(run.path).name != run.run}


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def prune(
    root: Path | RemoteDirectory, keep: Retention, now: dt.datetime, *, dry: bool = False
) -> tuple[str, ...]:
    """Delete the runs of `root` that are not kept, unless `dry`; return them.

    What cannot be read stays, and what is no run; and an unfinished one while another audit writes
    below the root. Of an object store only finished runs go.
    """
    with ExitStack() as stack:
        listing = _listing(root, stack)
        if isinstance(root, Path):
            try:
                stack.enter_context(exclusively(root))
            except OutputError:
                listing = replace(listing, left=())
        gone = keep.gone(listing, now)
        if not dry:
            _remove(root, gone)
    return gone


def _remove(root: Path | RemoteDirectory, gone: tuple[str, ...]) -> None:
    if isinstance(root, Path):
        history.remove(gone)
        return
    for path in gone:
        remote.remove(root / path.rpartition("/")[2])
