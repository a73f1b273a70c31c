"""Progress on stderr: a bar on a terminal, else a line now and then."""

import time
from typing import Self

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

from audit.cli import say
from audit.report import printing

_LINE_EVERY_S = 10.0
_SHOWN_ZONES = 3
"""Zones that are named: those worked on last."""


class _Zones:
    """What is going on in which zone."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self._zones = 0

    def at(self, zone: str, left: int, zones: int) -> None:
        """Note how much is left of a zone, and of how many zones anything is."""
        self._left.pop(zone, None)
        self._left[zone] = left
        self._zones = zones

    def __str__(self) -> str:
        latest = list(self._left.items())[-_SHOWN_ZONES:]
        named = ", ".join(f"{zone} {f'{left:,} left' if left else 'done'}" for zone, left in latest)
        return f"{self._zones} zones to go; {printing.line(named)}" if latest else ""


class Bar:
    """A bar per phase, with what is done, what is left and how long that takes."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[zones]}", markup=False),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._zones = _Zones()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int) -> None:
        """Replace the bar by one for the next phase."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._zones = _Zones()
        self._task = self._progress.add_task(name, total=total or None, zones="")

    def expect(self, steps: int) -> None:
        """Lengthen the bar."""
        if self._task is not None and (total := self._progress.tasks[0].total):
            self._progress.update(self._task, total=total + steps)

    def advance(self, steps: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, steps)

    def at(self, zone: str, *, left: int, zones: int) -> None:
        """Name the zones worked on."""
        if self._task is not None:
            self._zones.at(zone, left, zones)
            self._progress.update(self._task, zones=str(self._zones))


class Lines:
    """A line per phase, and within a phase one every ten seconds."""

    def __init__(self) -> None:
        self._name = ""
        self._total = self._done = 0
        self._began = self._said = time.monotonic()
        self._zones = _Zones()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to take back."""

    def phase(self, name: str, total: int) -> None:
        """Say that a phase begins."""
        self._name, self._total, self._done, self._zones = name, total, 0, _Zones()
        self._began = self._said = time.monotonic()
        say.line(f"{name} ({total:,})" if total else name, err=True)

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
        where = f"; {self._zones}" if str(self._zones) else ""
        say.line(
            f"{self._name}: {self._done:,} of {self._total:,}, {left:.0f} s left{where}", err=True
        )

    def at(self, zone: str, *, left: int, zones: int) -> None:
        """Note what the next line names."""
        self._zones.at(zone, left, zones)


def shown(*, quiet: bool) -> "Bar | Lines | Silent":
    """Return the progress that fits where stderr goes."""
    if quiet:
        return Silent()
    return Bar(Console(stderr=True)) if say.is_screen(err=True) else Lines()


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

    def at(self, zone: str, *, left: int, zones: int) -> None:
        """Say nothing."""
