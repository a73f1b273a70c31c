"""Counts per verdict that add up, and percentages that never flatter.

A tally is a commutative monoid: the tallies of two parts of a matrix add to the tally of both.
The unproven (inconclusive, untraced) are in no denominator and are always shown beside.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.verdicts import CODE, PASSES, STOPPED, UNPROVEN, VERDICTS, Verdict

NO_SHARE = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many cells have each verdict, in the order of VERDICTS."""

    counts: tuple[int, ...] = (0,) * len(VERDICTS)

    def __post_init__(self) -> None:
        if len(self.counts) != len(VERDICTS):
            raise ValueError(f"{len(self.counts)} counts for {len(VERDICTS)} verdicts")

    def __add__(self, other: "Tally") -> "Tally":
        pairs = zip(self.counts, other.counts, strict=True)
        return Tally(counts=tuple(mine + theirs for mine, theirs in pairs))

    def of(self, verdict: Verdict) -> int:
        """Return how many cells have `verdict`."""
        return self.counts[CODE[verdict]]

    def among(self, verdicts: Iterable[Verdict]) -> int:
        """Return how many cells have one of `verdicts`."""
        return sum(self.of(verdict) for verdict in verdicts)

    @classmethod
    def by_verdict(cls, counts: NDArray[np.int64]) -> "Tally":
        """Return the tally of counts, shape (verdicts,), in the order of VERDICTS."""
        return cls(counts=tuple(counts.tolist()))

    @property
    def cells(self) -> int:
        """All cells: proven and unproven."""
        return sum(self.counts)

    @property
    def passes(self) -> int:
        """Cells whose packet arrives, or leaves OVN by a gateway."""
        return self.among(PASSES)

    @property
    def stopped(self) -> int:
        """Cells whose packet is stopped."""
        return self.among(STOPPED)

    @property
    def unproven(self) -> int:
        """Cells about which nothing is proven."""
        return self.among(UNPROVEN)

    @property
    def proven(self) -> int:
        """Cells with a proof either way: the only denominator there is."""
        return self.passes + self.stopped

    def share(self, verdict: Verdict) -> str:
        """Return the share of `verdict` among the proven cells, empty for an unproven verdict."""
        return "" if verdict in UNPROVEN else percent(self.of(verdict), self.proven)


def from_others(pairs: NDArray[np.int64]) -> tuple[Tally, ...]:
    """Return what is asked of each group by all others.

    `pairs` are cells by the groups they come from and go to, shape (groups, groups, verdicts).
    """
    into = pairs.sum(axis=0) - np.diagonal(pairs).T
    return tuple(map(Tally.by_verdict, into))


def most_open(groups: Iterable[tuple[str, Tally]]) -> tuple[tuple[str, Tally], ...]:
    """Return groups, those of which most gets through first; without a proven cell, left out."""
    some = ((name, to) for name, to in groups if to.proven)
    return tuple(sorted(some, key=lambda e: (-e[1].passes / e[1].proven, -e[1].passes, e[0])))


def percent(part: int, whole: int) -> str:
    """Return `part` of `whole` in percent: "0" only for none of it, "100" only for all of it.

    One decimal; what would round to 0 or 100 is `<0.1` or `>99.9`. Of nothing there is no share:
    the answer is NO_SHARE.
    """
    if whole == 0:
        return NO_SHARE
    if part in (0, whole):
        return "100" if part else "0"
    tenths = (2000 * part + whole) // (2 * whole)
    if tenths == 0:
        return "<0.1"
    if tenths >= 1000:  # noqa: PLR2004 - a thousand tenths of a percent are all of it
        return ">99.9"
    return f"{tenths / 10:.1f}"
