"""Expectations that a run is checked against as soon as it is there: `audit run --pack`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audit.commands import check as checking
from audit.commands import report as reports
from audit.model import expectations as expecting

if TYPE_CHECKING:
    from audit.tracing.options import Progress


@dataclass(slots=True)
class Expected:
    """What is expected of a run, and what became of it once it was checked."""

    expectations: tuple[expecting.Expectation, ...]
    checks: expecting.Checks | None = None

    @classmethod
    def of(cls, file: Path | None, packs: tuple[str, ...]) -> Expected | None:
        """Read them; None where none are named. ScopeError says what is wrong with one."""
        if file is None and not packs:
            return None
        return cls(checking.read_expectations(file, packs))

    def check(self, run: Path, progress: Progress) -> expecting.Checks:
        """Return what became of them in a run, which is found out once."""
        if self.checks is None:
            today = dt.datetime.now(dt.UTC).date()
            self.checks = checking.checked(run, self.expectations, today, progress)
        return self.checks

    def render(self, run: Path, progress: Progress) -> None:
        """Render the page of a run with them."""
        reports.write_report(run, checks=self.check(run, progress))
