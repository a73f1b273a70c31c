"""Counting cells by namespace, port and policy: vectorised, because there are N² of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import CellVerdicts, Matrix
from audit.model.verdicts import CODE, VERDICTS, Blame, PolicyRef, Verdict
from audit.report.axes import Axes
from audit.report.tally import Tally

STEP = 2_000_000
"""Cells per step: the temporary arrays of one stay below 100 MB."""

MOST_LISTED = 200
"""How many blockers the page lists: enough to see what matters, of thousands of policies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """How many cells of each verdict there are, by source group and column.

    A column is a (destination group, slice).

    `counts` has the shape (groups, columns, verdicts); `column_group` and `column_slice` say what
    a column stands for. Summed over everything it is the tally of the run.
    """

    column_group: NDArray[np.int32]
    column_slice: NDArray[np.int32]
    counts: NDArray[np.int64]

    def total(self) -> Tally:
        """Return the tally of the whole run."""
        return _tally(self.counts.sum(axis=(0, 1)))

    def pairs(self, groups: int) -> NDArray[np.int64]:
        """Return the counts by (source group, destination group, verdict), over all slices."""
        pairs = np.zeros((groups, groups, len(VERDICTS)), np.int64)
        for column, group in enumerate(self.column_group):
            pairs[:, group] += self.counts[:, column]
        return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """What blocks, and how much of it: a policy, or what stands for one where none is known.

    `cells` names it as what decided; `shared` is in how many more a default deny is shared with
    the one named, so that taking only that one away would change nothing. `pairs` are
    (source group, destination group, cells), most cells first; they add up to `cells`.
    """

    label: str
    policy: PolicyRef | None
    cells: int
    shared: int
    pairs: tuple[tuple[int, int, int], ...] = ()


def census(matrix: Matrix, verdicts: CellVerdicts, page: Axes) -> Census:
    """Count the cells of a run by group, slice and verdict."""
    slices = max(len(page.slices), 1)
    keys = page.group_of[page.column_dst].astype(np.int64) * slices + page.column_slice
    present, narrow = np.unique(keys, return_inverse=True)
    shape = (len(page.groups), len(present), len(VERDICTS))
    counts = np.zeros(int(np.prod(shape)), np.int64)
    for cells in steps(len(matrix)):
        group = page.group_of[page.place[matrix.src[cells]]].astype(np.int64)
        column = narrow[page.columns(matrix, cells)]
        flat = (group * shape[1] + column) * shape[2] + verdicts.verdict[cells]
        counts += np.bincount(flat, minlength=len(counts))
    return Census(
        column_group=(present // slices).astype(np.int32),
        column_slice=(present % slices).astype(np.int32),
        counts=counts.reshape(shape),
    )


def blockers(matrix: Matrix, verdicts: CellVerdicts, page: Axes) -> tuple[Blocker, ...]:
    """Return what blocks, most cells first. The `cells` of all of them are the blocked cells.

    Only the first MOST_LISTED carry their namespace pairs.
    """
    blames = (*verdicts.blames, None)  # the last is what a blame of -1 indexes
    count_of = np.zeros(len(blames), np.int64)
    for cells in _blocked(verdicts):
        blame = verdicts.blame[cells] % len(blames)
        count_of += np.bincount(blame, minlength=len(blames))
    ranked = _ranked(blames, count_of.tolist())
    rank = {blocker.label: index for index, blocker in enumerate(ranked[:MOST_LISTED])}
    rank_of = np.array([rank.get(_label(blame), -1) for blame in blames], np.int64)
    pairs = _pairs(matrix, verdicts, page, rank_of)
    return tuple(
        replace(blocker, pairs=tuple(sorted(pairs.get(index, ()), key=lambda p: (-p[2], p))))
        for index, blocker in enumerate(ranked)
    )


def steps(cells: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of all cells, a step at a time."""
    for first in range(0, cells, STEP):
        yield np.arange(first, min(first + STEP, cells), dtype=np.int64)


def _blocked(verdicts: CellVerdicts) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the blocked cells, a step at a time."""
    for cells in steps(len(verdicts.verdict)):
        yield cells[verdicts.verdict[cells] == CODE[Verdict.BLOCKED]]


def _ranked(blames: Sequence[Blame | None], counts: Sequence[int]) -> tuple[Blocker, ...]:
    """Gather the counts of each blame under what it is called, most cells first."""
    cells: Counter[str] = Counter()
    shared: Counter[str] = Counter()
    policies: dict[str, PolicyRef | None] = {}
    for blame, count in zip(blames, counts, strict=True):
        if not count:
            continue
        label = _label(blame)
        cells[label] += count
        policies[label] = blame.policy if blame else None
        for other in blame.policies if blame else ():
            if blame is not None and other != blame.policy:
                shared[str(other)] += count
                policies.setdefault(str(other), other)
    found = (
        Blocker(label=label, policy=policy, cells=cells[label], shared=shared[label])
        for label, policy in policies.items()
    )
    return tuple(sorted(found, key=lambda b: (-b.cells, -b.shared, b.label)))


def _pairs(
    matrix: Matrix, verdicts: CellVerdicts, page: Axes, rank_of: NDArray[np.int64]
) -> dict[int, list[tuple[int, int, int]]]:
    """Count the blocked cells by rank (-1: not listed) and namespace pair."""
    groups = len(page.groups)
    counted: Counter[int] = Counter()
    for cells in _blocked(verdicts):
        rank = rank_of[verdicts.blame[cells]]
        listed, rank = cells[rank >= 0], rank[rank >= 0]
        pair = _groups(page, matrix.src[listed]) * groups + _groups(page, matrix.dst[listed])
        keys, counts = np.unique(rank * groups**2 + pair, return_counts=True)
        counted.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))
    pairs: dict[int, list[tuple[int, int, int]]] = {}
    for key, count in counted.items():
        rank_number, pair_number = divmod(key, groups**2)
        pairs.setdefault(rank_number, []).append((*divmod(pair_number, groups), count))
    return pairs


def _label(blame: Blame | None) -> str:
    """Return what a blocked cell is counted under."""
    if blame is None:
        return "no policy named"
    return str(blame.policy) if blame.policy is not None else str(blame)


def _groups(page: Axes, endpoints: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the group of each endpoint, given by its index in the matrix."""
    return page.group_of[page.place[endpoints]].astype(np.int64)


def _tally(counts: NDArray[np.int64]) -> Tally:
    """Return a row of counts as a tally."""
    return Tally(counts=tuple(int(count) for count in counts))
