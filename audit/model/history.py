"""Runs that are kept: what a list of them shows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCOPED = ("scope", "planes", "cluster")
"""What of run.json says what a run was asked: runs that agree in it are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Cells into a namespace from anywhere else: all, the proven ones, and those that pass."""

    passes: int
    proven: int
    cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A finished run in numbers, as its run.json says them.

    `scope` is what was asked, `SCOPED` as JSON: only runs that were asked the same are compared.
    `passing` of `pairs` ordered pairs get through on some port; `exposure` is by namespace. Both
    are unknown (None, empty) of a run that an earlier audit wrote, and so is how many `seconds` it
    took.
    `report` says whether its page is among its files.
    """

    path: str
    run: str
    started: str
    source: str
    scope: str
    counts: Mapping[str, int]
    proven: int
    drifting: int
    findings: int
    pairs: int | None
    passing: int | None
    exposure: Mapping[str, Exposed]
    seconds: float | None = None
    report: bool = False

    @property
    def name(self) -> str:
        """What the run is called below its root: the last part of its path, or of its address."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def request(self) -> Mapping[str, Any]:
        """What was asked, and of which cluster, by the names that run.json has for it."""
        return dict(zip(SCOPED, json.loads(self.scope), strict=True))

    @property
    def numbers(self) -> Mapping[str, int]:
        """Everything that can be counted from run to run."""
        counted = {
            **self.counts,
            "proven": self.proven,
            "drifting": self.drifting,
            "findings": self.findings,
        }
        if self.pairs is not None and self.passing is not None:
            counted |= {"pairs": self.pairs, "passing": self.passing}
        return counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What is more or less in a run than in the last before it that was asked the same."""

    since: str
    numbers: Mapping[str, int]
    exposure: Mapping[str, int]
    """Cells into a namespace that pass; a namespace that is only in one of the runs too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A run that was never finished, and when it began."""

    path: str
    started: str
