"""Legs → the cells to trace: few, real, and reaching every leg some cell needs. Pure.

A cell's trace shows its egress leg, and where that passes also its way between the switches and
its ingress leg. So a leg is represented by a cell whose packet is predicted to reach it, and one
cell represents as many legs as it can. Every endpoint is used at least once as a source and once
as a destination, on its own node, and every way between switches, because port security, routes
and a node's own flows are not in any ACL.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.model.legs import CELLS_AT_A_TIME, NO_WAY, CellLegs, LegPlan
from audit.model.matrix import Matrix

_CANDIDATES = 8
"""Cells on one switch, and as many between two, that are remembered for each thing to be shown."""

_NONE = -1
"""No cell is remembered."""


def choose(matrix: Matrix, plan: LegPlan) -> NDArray[np.int64]:
    """Return the cells to trace, sorted, such that every needed leg is shown by one of them.

    An ingress leg that no predicted packet reaches needs no trace of its own: whatever it says,
    its cells end at their egress legs.
    """
    candidates = np.flatnonzero(plan.composed)
    if len(candidates) > CELLS_AT_A_TIME:
        candidates = _candidates(matrix, plan)
    return _Choice(matrix, plan, candidates).cells()


def choose_pairs(matrix: Matrix, plan: LegPlan) -> NDArray[np.int64]:
    """Return a cell for each pair of legs that some cell has, sorted.

    More than `choose` by far, and each cell is then decided by a trace of a packet that is like
    its own at both ends: that legs do not depend on each other is traced, not argued.
    """
    cells: dict[int, int] = {}
    for legs in plan.walk(matrix):
        pairs = legs.egress * len(plan.ingress) + legs.ingress
        distinct, first = np.unique(pairs, return_index=True)
        for pair, cell in zip(distinct.tolist(), legs.cells[first].tolist(), strict=True):
            cells.setdefault(pair, cell)
    return np.unique(np.array(list(cells.values()), dtype=np.int64))


def choose_replies(matrix: Matrix, plan: LegPlan, traced: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the cells whose replies are traced, sorted, such that every needed leg is shown.

    `traced` says which cells' requests are; their replies are preferred, and what they show of the
    ways between holds for replies too. An established reply is let through by every ACL stage, so
    a reply shows all of its legs. No cell of an end for which that does not hold is chosen.
    """
    chosen = _ChosenReplies(matrix, plan)
    requests = plan.of(matrix, np.flatnonzero(plan.composed & traced))
    chosen.know(requests)
    chosen.add(requests)
    for legs in plan.walk(matrix):
        chosen.add(legs)
    return chosen.cells()


class _ChosenReplies:
    """The cells chosen so far for their replies, and the reply legs these show."""

    def __init__(self, matrix: Matrix, plan: LegPlan) -> None:
        self._matrix = matrix
        self._plan = plan
        self._shown = [np.zeros(count, dtype=np.bool_) for count in plan.reply_counts]
        self._cells: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells."""
        return np.unique(np.concatenate(self._cells))

    def know(self, requests: CellLegs) -> None:
        """Take what requests are predicted to show of the ways between."""
        passes, _ = self._plan.predicted(requests)
        self._shown[1][requests.transit[passes & (requests.transit >= 0)]] = True

    def add(self, legs: CellLegs) -> None:
        """Choose among these cells, where the request is predicted to arrive."""
        arriving = legs.cells[self._plan.arrives(self._matrix, legs)]
        arriving = arriving[self._plan.answers(self._matrix, arriving)]
        replies = self._plan.replies(self._matrix, arriving)
        ids = (replies.egress, replies.transit, replies.ingress)
        for leg, shown in zip(ids, self._shown, strict=True):
            fresh = np.flatnonzero((leg >= 0) & ~shown[leg])
            _, first = np.unique(leg[fresh], return_index=True)
            picked = fresh[first]
            self._cells.append(arriving[picked])
            for other, done in zip(ids, self._shown, strict=True):
                done[other[picked][other[picked] >= 0]] = True


class _Shown(NamedTuple):
    """Things of one kind: which one each cell's trace is about, and whether it shows it."""

    ids: NDArray[np.int64]
    by: NDArray[np.bool_]


def _shows(matrix: Matrix, plan: LegPlan, legs: CellLegs) -> dict[str, _Shown]:
    """Return, by kind of thing, what each cell's trace shows if it goes as predicted."""
    passes, _ = plan.predicted(legs)
    always = np.ones(len(legs.cells), dtype=np.bool_)
    return {
        "transit": _Shown(legs.transit, passes & (legs.transit != NO_WAY)),
        "arrival": _Shown(legs.arrival, passes & (legs.arrival != NO_WAY)),
        "ingress": _Shown(legs.ingress, passes & ~legs.unjoined),
        "egress": _Shown(legs.egress, always),
        "outward": _Shown(legs.egress, ~passes | (legs.transit != NO_WAY)),
        "destination": _Shown(matrix.dst[legs.cells].astype(np.int64), passes & ~legs.unjoined),
        "source": _Shown(matrix.src[legs.cells].astype(np.int64), always),
    }


def _counts(matrix: Matrix, plan: LegPlan) -> dict[str, int]:
    """Return how many things of each kind there are."""
    ends = len(matrix.endpoints)
    return {
        "transit": plan.transit_count,
        "arrival": plan.arrival_count,
        "ingress": len(plan.ingress),
        "egress": len(plan.egress),
        "outward": len(plan.egress),
        "destination": ends,
        "source": ends,
    }


def _candidates(matrix: Matrix, plan: LegPlan) -> NDArray[np.int64]:
    """Return, for every thing that any cell shows, some cells that do, from all over the matrix.

    Both on one switch and between two, where there are such.
    """
    counts = _counts(matrix, plan)
    batches = [
        {kind: np.full(2 * count, _NONE, dtype=np.int64) for kind, count in counts.items()}
        for _ in range(_CANDIDATES)
    ]
    for number, legs in enumerate(plan.spread(matrix)):
        first = batches[number % _CANDIDATES]
        apart = (legs.transit != NO_WAY).astype(np.int64)
        for kind, (ids, by) in _shows(matrix, plan, legs).items():
            places = np.flatnonzero(by)
            numbers = 2 * ids[places] + apart[places]
            fresh = first[kind][numbers] == _NONE
            # Of several for one thing the last that is written stays.
            first[kind][numbers[fresh][::-1]] = legs.cells[places[fresh]][::-1]
    kept = [cells[cells != _NONE] for first in batches for cells in first.values()]
    return np.unique(np.concatenate(kept))


class _Choice:
    """The candidates chosen so far, and what they show.

    A packet between two switches costs as much as two that stay on theirs, and is all that shows a
    way between. So where it must be, it is to show an ingress leg besides, by preference one that
    no packet on a single switch shows; whatever is left is shown by those. Among cells that would
    do, those come first that show what few others could, then those that show most besides; then
    chance decides, the same chance every time.
    """

    def __init__(self, matrix: Matrix, plan: LegPlan, candidates: NDArray[np.int64]) -> None:
        legs = plan.of(matrix, candidates)
        self._candidates = candidates
        self._apart = legs.transit != NO_WAY
        self._shows = _shows(matrix, plan, legs)
        counts = _counts(matrix, plan)
        self._done = {kind: np.zeros(count, dtype=np.bool_) for kind, count in counts.items()}
        self._chosen = np.zeros(len(candidates), dtype=np.bool_)
        self._chance = np.random.default_rng(0)

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells."""
        passes = self._shows["ingress"].by
        far, near = passes & self._apart, passes & ~self._apart
        ingress = self._shows["ingress"].ids
        within = np.zeros(len(self._done["ingress"]), dtype=np.bool_)
        within[ingress[near]] = True
        cheap = ~far
        everywhere = np.ones(len(passes), dtype=np.bool_)
        for among, *kinds in (
            (~passes, "egress", "source"),
            (~passes, "egress"),
            (far & ~within[ingress], "transit", "ingress"),
            (far, "transit", "ingress"),
            (near, "ingress", "egress"),
            (near, "ingress"),
            (near, "egress"),
            (far, "transit"),
            (far, "ingress"),
            (far, "egress"),
            (far, "outward"),
            (far, "arrival"),
            (cheap, "source"),
            (cheap, "destination"),
            (everywhere, "source"),
            (everywhere, "destination"),
        ):
            self._choose(among, kinds)
        return self._candidates[self._chosen]

    def _choose(self, among: NDArray[np.bool_], kinds: Sequence[str]) -> None:
        """Choose among these until none shows a new thing of each of these kinds."""
        places = np.flatnonzero(among)
        while (places := places[self._new(places, kinds)]).size:
            picked = self._chance.permutation(places)
            besides = np.sum([self._new(picked, [kind]) for kind in self._shows], axis=0)
            others = np.min([self._others(picked, kind) for kind in kinds], axis=0)
            picked = picked[np.lexsort((-besides, others))]
            for kind in kinds:
                picked = _distinct(picked, self._shows[kind].ids, len(self._done[kind]))
            self._take(picked)

    def _new(self, places: NDArray[np.int64], kinds: Sequence[str]) -> NDArray[np.bool_]:
        """Say which of these show a new thing of each of these kinds."""
        new = np.ones(len(places), dtype=np.bool_)
        for kind in kinds:
            ids, by = self._shows[kind]
            new &= by[places] & ~self._done[kind][ids[places]]
        return new

    def _others(self, places: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
        """Return for each of these how many of them show the same thing of a kind."""
        ids = self._shows[kind].ids[places]
        numbers: NDArray[np.int64] = np.bincount(ids, minlength=len(self._done[kind]))[ids]
        return numbers

    def _take(self, places: NDArray[np.int64]) -> None:
        """Choose these and note what their traces will show."""
        self._chosen[places] = True
        for kind, (ids, by) in self._shows.items():
            self._done[kind][ids[places[by[places]]]] = True


def _distinct(places: NDArray[np.int64], ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the first of these places for each id; ids are below `count`."""
    first = np.empty(count, dtype=np.int64)
    first[ids[places[::-1]]] = places[::-1]  # the last one written stays
    distinct: NDArray[np.int64] = places[first[ids[places]] == places]
    return distinct
