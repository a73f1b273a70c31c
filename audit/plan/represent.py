"""Legs → the cells to trace: few, real, and reaching every leg some cell needs. Pure.

A cell's trace shows its egress leg, and where that passes also its way between the switches and
its ingress leg. So a leg is represented by a cell whose packet is predicted to reach it, and one
cell represents as many legs as it can. Every endpoint is used at least once as a source and once
as a destination, on its own node, and every ordered pair of nodes at least once, because port
security, routes and a node's own flows are not in any ACL.
"""

import numpy as np
from numpy.typing import NDArray

from audit.model.legs import CellLegs, LegPlan
from audit.model.matrix import Matrix


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

    A packet between two switches takes two traces and shows the way between; one that stays on its
    switch takes one. So a cell between switches is chosen at once only where it shows a pair of
    places *and* an ingress leg that are new, and one on a switch where its ingress leg is. For all
    else the first cell that would show it is remembered, and chosen at the end if need be.
    """

    def __init__(self, matrix: Matrix, plan: LegPlan) -> None:
        self._matrix = matrix
        self._plan = plan
        count = len(matrix.endpoints)
        self._things = {
            "ingress": _Things(len(plan.ingress)),
            "transit": _Things(plan.transit_count),
            "egress": _Things(len(plan.egress)),
            "destination": _Things(count),
            "source": _Things(count),
        }
        self._found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells, once all were added."""
        for things in self._things.values():
            self._take(self._plan.of(self._matrix, np.unique(things.missing())))
        return np.unique(np.concatenate(self._found))

    def add(self, legs: CellLegs) -> None:
        """Choose among these cells what is worth it at once, and remember the others."""
        shows = self._shows(legs)
        for name, (ids, shown) in shows.items():
            self._things[name].remember(ids, shown, legs.cells)
        arrives = shows["ingress"][1]
        fresh = arrives.copy()
        fresh[arrives] = ~self._things["ingress"].done[legs.ingress[arrives]]
        apart = legs.transit >= 0
        both = fresh & apart
        both[both] = ~self._things["transit"].done[legs.transit[both]]
        picked = _distinct(np.flatnonzero(both), legs.transit)
        picked = _distinct(picked, legs.ingress)
        here = np.flatnonzero(fresh & ~apart)
        here = _distinct(here[~np.isin(legs.ingress[here], legs.ingress[picked])], legs.ingress)
        self._take(_some(legs, np.concatenate([picked, here])))

    def _shows(self, legs: CellLegs) -> dict[str, tuple[NDArray[np.integer], NDArray[np.bool_]]]:
        """Return, by kind of thing, what each cell's trace shows if it goes as predicted."""
        passes, _ = self._plan.predicted(legs)
        always = np.ones(len(legs.cells), dtype=np.bool_)
        return {
            "ingress": (legs.ingress, passes),
            "transit": (legs.transit, passes & (legs.transit >= 0)),
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
        self._by = np.full(count, -1, dtype=np.int64)

    def remember(
        self, ids: NDArray[np.integer], shown: NDArray[np.bool_], cells: NDArray[np.int64]
    ) -> None:
        """Note the first cell that would show a thing."""
        among = np.flatnonzero(shown)
        fresh = among[self._by[ids[among]] < 0]
        picked = _distinct(fresh, ids)
        self._by[ids[picked]] = cells[picked]

    def missing(self) -> NDArray[np.int64]:
        """Return the cells that would show what nothing chosen shows."""
        unshown = np.flatnonzero((self._by >= 0) & ~self.done)
        return self._by[unshown]


def _distinct(places: NDArray[np.int64], ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the first of these places for each id."""
    _, first = np.unique(ids[places], return_index=True)
    distinct: NDArray[np.int64] = places[np.sort(first)]
    return distinct


def _some(legs: CellLegs, places: NDArray[np.int64]) -> CellLegs:
    return CellLegs(
        cells=legs.cells[places],
        egress=legs.egress[places],
        transit=legs.transit[places],
        ingress=legs.ingress[places],
    )
