"""Decisions of cells to Services written into their columns, and the traces these name. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import CellVerdicts, passing
from audit.model.verdicts import CODE, REASON_CODE, Blame
from audit.verdict.compose import Decision
from audit.verdict.legs import UNKNOWN, essence


class Wholes:
    """Which groups have a traced request, and what it came to at each endpoint."""

    def __init__(
        self, traced: Iterable[tuple[int, int, Sequence[Decision]]], groups: NDArray[np.int32]
    ) -> None:
        """`traced` are groups, with a trace and its decisions; `groups` are all there are."""
        self._kind = np.full(int(groups.max(initial=-1)) + 1, UNKNOWN, dtype=np.int64)
        self._trace = np.full_like(self._kind, UNKNOWN)
        self._kinds: dict[tuple[object, ...], int] = {}
        self._alike: dict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros(0, dtype=np.int64))
        """By how many endpoints, and by the one outcome that all have: the kind, or UNKNOWN."""
        for group, trace, each in traced:
            self._kind[group] = self._kinds.setdefault(_essences(each), len(self._kinds))
            self._trace[group] = trace

    def kind(self, each: Sequence[Decision]) -> int:
        """Return which of what a traced request came to at its endpoints this is, if any."""
        return self._kinds.get(_essences(each), UNKNOWN - 1)

    def kinds(
        self, outcomes: NDArray[np.int32], count: int, made: Callable[[int], Decision]
    ) -> NDArray[np.int64]:
        """Return the same of so many endpoints that all have one of these outcomes."""
        known = _grown(self._alike[count], outcomes)
        new = np.unique(outcomes)
        for outcome in new[known[new] == UNKNOWN].tolist():
            known[outcome] = self.kind([made(outcome)] * count)
        self._alike[count] = known
        return known[outcomes]

    def traces(self, groups: NDArray[np.int32], kind: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return by group the code of the traced request that came to this; below 0 for none."""
        return np.where(self._kind[groups] == kind, self._trace[groups], UNKNOWN)


def _grown(table: NDArray[np.int64], outcomes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return a table by outcome, with room for these; UNKNOWN is what is new."""
    lacking = max(int(outcomes.max(initial=-1)) + 1 - len(table), 0)
    more = np.full((lacking, *table.shape[1:]), UNKNOWN, dtype=np.int64)
    return np.concatenate([table, more]) if lacking else table


def _essences(each: Sequence[Decision]) -> tuple[object, ...]:
    return tuple(map(essence, each))


class Table:
    """Writes decisions into the columns of cells."""

    def __init__(self, traced: CellVerdicts) -> None:
        self._traced = traced
        self.trace, self.reply = traced.trace, traced.reply
        """The columns themselves: each cell has its own."""
        self._blames: dict[Blame, int] = {blame: n for n, blame in enumerate(traced.blames)}
        self._keys = {key: number for number, key in enumerate(traced.trace_keys)}
        self._kept = np.zeros((0, 4), dtype=np.int64)
        """By outcome: its verdict's and its reason's code, whom it names, and its trace."""

    def lacking(self, outcomes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return which of these outcomes are not kept."""
        self._kept = _grown(self._kept, outcomes)
        outcomes = np.unique(outcomes)
        new: NDArray[np.int64] = outcomes[self._kept[outcomes, 0] == UNKNOWN].astype(np.int64)
        return new

    def keep(self, outcome: int, decision: Decision) -> None:
        """Keep what an outcome comes to."""
        trace = self.number(decision.trace) if decision.trace else UNKNOWN
        codes = CODE[decision.verdict], REASON_CODE[decision.reason]
        self._kept[outcome] = *codes, self._named(decision.blame), trace

    def write_kept(
        self, cells: NDArray[np.int64], outcomes: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Let each of these cells have what its outcome comes to; return which of them pass."""
        verdict, reason, blame, _ = self._kept[outcomes].T
        self._traced.verdict[cells] = verdict
        self._traced.reason[cells] = reason
        self._traced.blame[cells] = blame
        passes: NDArray[np.bool_] = passing(verdict.astype(np.uint8))
        return passes

    def kept_trace(self, outcomes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the codes of the traces that decided these outcomes; below 0 where none did."""
        traces: NDArray[np.int64] = self._kept[outcomes, 3]
        return traces

    def _named(self, blame: Blame | None) -> int:
        return UNKNOWN if blame is None else self._blames.setdefault(blame, len(self._blames))

    def write(self, cells: NDArray[np.int64], decision: Decision) -> None:
        """Let a decision be that of these cells."""
        self._traced.verdict[cells] = CODE[decision.verdict]
        self._traced.reason[cells] = REASON_CODE[decision.reason]
        self._traced.blame[cells] = self._named(decision.blame)
        if decision.trace:
            self.trace[cells] = self.number(decision.trace)

    def number(self, key: str) -> int:
        """Return the code of a trace."""
        return self._keys.setdefault(key, len(self._keys))

    def done(self) -> CellVerdicts:
        """Return the columns, with the blames and traces that they name."""
        return replace(self._traced, blames=tuple(self._blames), trace_keys=tuple(self._keys))
