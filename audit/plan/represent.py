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
        pairs = legs.egress * plan.ingress_count + legs.ingress
        distinct, first = np.unique(pairs, return_index=True)
        for pair, cell in zip(distinct.tolist(), legs.cells[first].tolist(), strict=True):
            found.setdefault(pair, cell)
    return np.unique(np.array(list(found.values()), dtype=np.int64))


def choose_replies(matrix: Matrix, plan: LegPlan, traced: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the cells whose replies are traced, sorted, such that every needed leg is shown.

    `traced` says which cells' requests are; their replies are preferred. An established reply is
    let through by every ACL stage, so a reply shows all of its legs. Empty where that does not
    hold.
    """
    chosen = _ChosenReplies(matrix, plan)
    if plan.stateful:
        chosen.add(plan.of(matrix, np.flatnonzero(plan.composed & traced)))
        for legs in plan.walk(matrix):
            chosen.add(legs)
    return chosen.cells()


class _ChosenReplies:
    """The cells chosen so far for their replies, and the reply legs these show."""

    def __init__(self, matrix: Matrix, plan: LegPlan) -> None:
        self._matrix = matrix
        self._plan = plan
        egress, ingress = plan.reply_counts
        self._shown = [
            np.zeros(count, dtype=np.bool_) for count in (egress, plan.transit_count, ingress)
        ]
        self._found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells."""
        return np.unique(np.concatenate(self._found))

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
    """The cells chosen so far, and what they show."""

    def __init__(self, matrix: Matrix, plan: LegPlan) -> None:
        self._matrix = matrix
        self._plan = plan
        self._egress = np.zeros(plan.egress_count, dtype=np.bool_)
        self._transit = np.zeros(plan.transit_count, dtype=np.bool_)
        self._ingress = np.zeros(plan.ingress_count, dtype=np.bool_)
        self._sources = np.zeros(len(matrix.endpoints), dtype=np.bool_)
        self._destinations = np.zeros(len(matrix.endpoints), dtype=np.bool_)
        self._found: list[NDArray[np.int64]] = []

    def cells(self) -> NDArray[np.int64]:
        """Return the chosen cells."""
        if not self._found:
            return np.zeros(0, dtype=np.int64)
        return np.unique(np.concatenate(self._found))

    def add(self, legs: CellLegs) -> None:
        """Choose among these cells for whatever is not shown yet.

        The order matters for how few are needed: a cell chosen for its ingress leg shows an
        egress leg, a pair of nodes and two endpoints besides.
        """
        passes, _ = self._plan.predicted(legs)
        arrives = np.flatnonzero(passes)
        src = self._matrix.src[legs.cells]
        dst = self._matrix.dst[legs.cells]
        everything = np.arange(len(legs.cells))
        apart = arrives[legs.transit[arrives] >= 0]
        for ids, done, among in (
            (legs.ingress, self._ingress, arrives),
            (legs.transit, self._transit, apart),
            (legs.egress, self._egress, everything),
            (dst, self._destinations, arrives),
            (src, self._sources, everything),
        ):
            fresh = among[~done[ids[among]]]
            _, first = np.unique(ids[fresh], return_index=True)
            self._take(legs, fresh[first], passes)

    def _take(self, legs: CellLegs, picked: NDArray[np.int64], passes: NDArray[np.bool_]) -> None:
        """Choose these positions and note what their traces will show."""
        self._found.append(legs.cells[picked])
        self._egress[legs.egress[picked]] = True
        self._sources[self._matrix.src[legs.cells[picked]]] = True
        there = picked[passes[picked]]
        self._ingress[legs.ingress[there]] = True
        self._transit[legs.transit[there][legs.transit[there] >= 0]] = True
        self._destinations[self._matrix.dst[legs.cells[there]]] = True
