"""Progress on stderr: a bar on a terminal, else a line now and then."""

import sys
import time
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_S = 10.0


class Bar:
    """A bar per phase, with what is done, what is left and how long that takes."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int) -> None:
        """Replace the bar by one for the next phase."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total or None)

    def expect(self, steps: int) -> None:
        """Lengthen the bar."""
        if self._task is not None and (total := self._progress.tasks[0].total):
            self._progress.update(self._task, total=total + steps)

    def advance(self, steps: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, steps)


class Lines:
    """A line per phase, and within a phase one every ten seconds."""

    def __init__(self) -> None:
        self._name = ""
        self._total = self._done = 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to take back."""

    def phase(self, name: str, total: int) -> None:
        """Say that a phase begins."""
        self._name, self._total, self._done = name, total, 0
        self._began = self._said = time.monotonic()
        click.echo(f"{name} ({total:,})" if total else name, err=True)

    def expect(self, steps: int) -> None:
        """Count what is still to come."""
        self._total += steps

    def advance(self, steps: int) -> None:
        """Say how far it is, if it was not said lately."""
        self._done += steps
        now = time.monotonic()
        if now - self._said < _LINE_EVERY_S or not self._total:
            return
        self._said = now
        left = (now - self._began) / self._done * (self._total - self._done)
        click.echo(f"{self._name}: {self._done:,} of {self._total:,}, {left:.0f} s left", err=True)


def shown(*, quiet: bool) -> "Bar | Lines | Silent":
    """Return the progress that fits where stderr goes."""
    if quiet:
        return Silent()
    return Bar(Console(stderr=True)) if sys.stderr.isatty() else Lines()


class Silent:
    """No progress at all."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to take back."""

    def phase(self, name: str, total: int) -> None:
        """Say nothing."""

    def expect(self, steps: int) -> None:
        """Say nothing."""

    def advance(self, steps: int) -> None:
        """Say nothing."""
