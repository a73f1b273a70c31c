"""Legs → the cells to trace: few, real, and reaching every leg some cell needs. Pure.

A cell's trace shows its egress leg, and where that passes also its way between the switches and
its ingress leg. So a leg is represented by a cell whose packet is predicted to reach it, and one
cell represents as many legs as it can. Every endpoint is used at least once as a source and once
as a destination, on its own node, and every ordered pair of nodes at least once, because port
security, routes and a node's own flows are not in any ACL.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from audit.model.legs import CellLegs, LegPlan
from audit.model.matrix import Matrix

Ids = Mapping[str, NDArray[np.integer]]
"""What cells show, by kind of thing."""

_ROUNDS = 12
"""How often the cells at hand are gone through for more that are worth it."""

_AT_A_TIME = 1 << 16
_BESIDES = ("egress", "source", "destination")


def choose(matrix: Matrix, plan: LegPlan) -> NDArray[np.int64]:
    """Return the cells to trace, sorted, such that every needed leg is shown by one of them.

    An ingress leg that no predicted packet reaches needs no trace of its own: whatever it says,
    its cells end at their egress legs.
    """
    chosen = _Chosen(matrix, plan)
    for legs in plan.walk(matrix):
        chosen.add(legs)
    return chosen.cells()


def choose_pairs(matrix: Matrix, plan: LegPlan) -> NDArray[np.int64]:
    """Return a cell for each pair of legs that some cell has, sorted.

    More than `choose` by far, and each cell is then decided by a trace of a packet that is like
    its own at both ends: that legs do not depend on each other is traced, not argued.
    """
    found: dict[int, int] = {}
    for legs in plan.walk(matrix):
        pairs = legs.egress * len(plan.ingress) + legs.ingress
        distinct, first = np.unique(pairs, return_index=True)
        for pair, cell in zip(distinct.tolist(), legs.cells[first].tolist(), strict=True):
            found.setdefault(pair, cell)
    return np.unique(np.array(list(found.values()), dtype=np.int64))


def choose_replies(matrix: Matrix, plan: LegPlan, traced: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the cells whose replies are traced, sorted, such that every needed leg is shown.

    `traced` says which cells' requests are; their replies are preferred, and what they show of the
    ways between holds for replies too. An established reply is let through by every ACL stage, so
    a reply shows all of its legs. Empty where that does not hold.
    """
    chosen = _ChosenReplies(matrix, plan)
    if plan.stateful:
        asked = plan.of(matrix, np.flatnonzero(plan.composed & traced))
        chosen.know(asked)
        chosen.add(asked)
        for legs in plan.walk(matrix):
            chosen.add(legs)
    return chosen.cells()


class _ChosenReplies:
    """The cells chosen so far for their replies, and the reply legs these show."""

    def __init__(self, matrix: Matrix, plan: LegPlan) -> None:
        self._matrix = matrix
        self._plan = plan
        self._shown = [np.zeros(count, dtype=np.bool_) for count in plan.reply_counts]
        self._found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells."""
        return np.unique(np.concatenate(self._found))

    def know(self, requests: CellLegs) -> None:
        """Take what requests are predicted to show of the ways between."""
        passes, _ = self._plan.predicted(requests)
        self._shown[1][requests.transit[passes & (requests.transit >= 0)]] = True

    def add(self, legs: CellLegs) -> None:
        """Choose among these cells, where the request is predicted to arrive."""
        arriving = legs.cells[self._plan.arrives(self._matrix, legs)]
        replies = self._plan.replies(self._matrix, arriving)
        ids = (replies.egress, replies.transit, replies.ingress)
        for leg, shown in zip(ids, self._shown, strict=True):
            fresh = np.flatnonzero((leg >= 0) & ~shown[leg])
            _, first = np.unique(leg[fresh], return_index=True)
            picked = fresh[first]
            self._found.append(arriving[picked])
            for other, done in zip(ids, self._shown, strict=True):
                done[other[picked][other[picked] >= 0]] = True


class _Chosen:
    """The cells chosen so far, and what they show.

    A packet between two switches costs as much as two that stay on theirs, and is all that shows a
    way between. So such a cell is chosen at once where its way and its ingress leg are both new,
    and one that stops at its source's side where its egress leg and its source are. For all else
    the first cell that would show it is remembered, one on a single switch before others, and
    chosen in the end if need be. Among cells that would do, chance takes those that have little
    else in common; it is the same chance every time.
    """

    def __init__(self, matrix: Matrix, plan: LegPlan) -> None:
        self._matrix = matrix
        self._plan = plan
        count = len(matrix.endpoints)
        self._things = {
            "transit": _Things(plan.transit_count),
            "ingress": _Things(len(plan.ingress)),
            "egress": _Things(len(plan.egress)),
            "destination": _Things(count),
            "source": _Things(count),
        }
        self._chance = np.random.default_rng(0)
        self._found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells, once all were added."""
        for things in self._things.values():
            self._take(self._plan.of(self._matrix, np.unique(things.missing())))
        return np.unique(np.concatenate(self._found))

    def add(self, legs: CellLegs) -> None:
        """Choose among these cells what is worth it at once, and remember the others."""
        legs = _some(legs, np.flatnonzero(self._news(legs)))
        shows = self._shows(legs)
        apart = legs.transit >= 0
        for kind, (numbers, shown) in shows.items():
            self._things[kind].remember(numbers, shown, apart, legs.cells)
        passes = shows["ingress"][1]
        ids: Ids = {kind: numbers for kind, (numbers, _) in shows.items()}
        self._choose(legs, passes & apart, ("transit", "ingress"), ids)
        self._choose(legs, ~passes, ("egress", "source"), ids)

    def _news(self, legs: CellLegs) -> NDArray[np.bool_]:
        """Say which cells' traces would show anything that nothing chosen shows."""
        new = np.zeros(len(legs.cells), dtype=np.bool_)
        for kind, (ids, shown) in self._shows(legs).items():
            new |= shown & ~self._things[kind].done[ids]
        return new

    def _choose(
        self,
        legs: CellLegs,
        among: NDArray[np.bool_],
        kinds: Collection[str],
        ids: Ids,
    ) -> None:
        """Choose among these cells until none shows a new thing of each of these kinds.

        Those that show new things of other kinds besides come first.
        """
        places = np.flatnonzero(among)
        for _ in range(_ROUNDS):
            for kind in kinds:
                places = places[~self._things[kind].done[ids[kind][places]]]
            if not places.size:
                return
            picked = self._chance.permutation(places)[:_AT_A_TIME]
            old = [self._things[kind].done[ids[kind][picked]] for kind in _BESIDES]
            picked = picked[np.argsort(np.sum(old, axis=0), kind="stable")]
            for kind in kinds:
                picked = _distinct(picked, ids[kind], len(self._things[kind].done))
            self._take(_some(legs, picked))

    def _shows(self, legs: CellLegs) -> dict[str, tuple[NDArray[np.integer], NDArray[np.bool_]]]:
        """Return, by kind of thing, what each cell's trace shows if it goes as predicted."""
        passes, _ = self._plan.predicted(legs)
        always = np.ones(len(legs.cells), dtype=np.bool_)
        return {
            "transit": (legs.transit, passes & (legs.transit >= 0)),
            "ingress": (legs.ingress, passes),
            "egress": (legs.egress, always),
            "destination": (self._matrix.dst[legs.cells], passes),
            "source": (self._matrix.src[legs.cells], always),
        }

    def _take(self, legs: CellLegs) -> None:
        """Choose these cells and note what their traces will show."""
        self._found.append(legs.cells)
        for name, (ids, shown) in self._shows(legs).items():
            self._things[name].done[ids[shown]] = True


class _Things:
    """Things of one kind that are to be shown, by number."""

    def __init__(self, count: int) -> None:
        self.done = np.zeros(count, dtype=np.bool_)
        self._near, self._far = np.full((2, count), -1, dtype=np.int64)

    def remember(
        self,
        ids: NDArray[np.integer],
        shown: NDArray[np.bool_],
        apart: NDArray[np.bool_],
        cells: NDArray[np.int64],
    ) -> None:
        """Note the first cell on a single switch, and the first between two, that show a thing."""
        for first, among in ((self._near, shown & ~apart), (self._far, shown & apart)):
            places = np.flatnonzero(among)
            fresh = places[first[ids[places]] < 0]
            first[ids[fresh[::-1]]] = cells[fresh[::-1]]  # the last one written stays

    def missing(self) -> NDArray[np.int64]:
        """Return the cells that would show what nothing chosen shows."""
        first = np.where(self._near < 0, self._far, self._near)
        unshown: NDArray[np.int64] = first[(first >= 0) & ~self.done]
        return unshown


def _distinct(places: NDArray[np.int64], ids: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Return the first of these places for each id; ids are below `count`."""
    first = np.empty(count, dtype=np.int64)
    first[ids[places[::-1]]] = places[::-1]  # the last one written stays
    distinct: NDArray[np.int64] = places[first[ids[places]] == places]
    return distinct


def _some(legs: CellLegs, places: NDArray[np.int64]) -> CellLegs:
    return CellLegs(
        cells=legs.cells[places],
        egress=legs.egress[places],
        transit=legs.transit[places],
        ingress=legs.ingress[places],
    )
