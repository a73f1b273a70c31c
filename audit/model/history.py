"""Runs that are kept: what a list of them shows."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A finished run in numbers, as its run.json says them.

    `scope` is what was asked, as text: only runs that were asked the same are compared.
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

    @property
    def numbers(self) -> Mapping[str, int]:
        """Everything that can be counted from run to run."""
        return {
            **self.counts,
            "proven": self.proven,
            "drifting": self.drifting,
            "findings": self.findings,
        }
