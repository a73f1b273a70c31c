"""Which packets to endpoints behind Services show the legs that no trace has shown. Pure.

A trace shows its packet's egress leg, and where that passes its way and its ingress leg too. So
one that is predicted to pass shows several; what no packet reaches needs no trace.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.verdict.legs import Part

Receiver = tuple[int, int]
"""An endpoint behind a Service and its port, as indices into `ServiceCells.matrix`."""

_Leg = tuple[Part, int]

MOST_CANDIDATES = 8
"""Packets that are compared for each leg."""


class Pair(NamedTuple):
    """A packet from a sender to an endpoint behind a Service, of a cell to that."""

    cell: int
    receiver: Receiver


class _Candidate(NamedTuple):
    """A packet, and all legs that nobody has shown and that it shows if it goes as predicted."""

    pair: Pair
    shows: frozenset[_Leg]


class PacketChoice:
    """Packets that may show legs, a few for each leg, and the choice among them."""

    def __init__(self) -> None:
        self._candidates: dict[_Leg, list[_Candidate]] = defaultdict(list)

    def add(
        self,
        cells: NDArray[np.int64],
        receiver: Receiver,
        unshown: Mapping[Part, NDArray[np.int64]],
        passes: NDArray[np.bool_],
    ) -> None:
        """Consider the packets of cells to a receiver: parallel arrays, a row per packet.

        `unshown` has their legs by part, below 0 what is shown or not there; `passes` says whose
        egress leg is known or predicted to pass.
        """
        egress = unshown[Part.EGRESS]
        for part, legs in unshown.items():
            other = unshown[Part.INGRESS] if part is Part.EGRESS else egress
            rows = np.flatnonzero((legs >= 0) & (passes | (part is Part.EGRESS)))
            for row in _some_of_each(legs, other, rows):
                leg = part, int(legs[row])
                if len(self._candidates[leg]) < MOST_CANDIDATES:
                    shows = (
                        (of, int(ids[row]))
                        for of, ids in unshown.items()
                        if ids[row] >= 0 and (passes[row] or of is Part.EGRESS)
                    )
                    pair = Pair(int(cells[row]), receiver)
                    self._candidates[leg].append(_Candidate(pair, frozenset(shows)))

    def pairs(self) -> list[Pair]:
        """Return packets that show every leg: those of few candidates first, of most use each."""
        chosen: dict[Pair, None] = {}
        done: set[_Leg] = set()
        for part in (Part.INGRESS, Part.TRANSIT, Part.EGRESS, Part.ARRIVAL):
            legs = [leg for leg in self._candidates if leg[0] is part]
            for leg in sorted(legs, key=lambda leg: len(self._candidates[leg])):
                if leg not in done:
                    best = max(self._candidates[leg], key=lambda one: len(one.shows - done))
                    chosen[best.pair] = None
                    done |= best.shows
        return list(chosen)


def _some_of_each(
    legs: NDArray[np.int64], other: NDArray[np.int64], rows: NDArray[np.int64]
) -> list[int]:
    """Return for each leg a few of these rows, of different other legs."""
    if not rows.size:
        return []
    keys = legs[rows] * (int(other.max()) + 2) + other[rows] + 1
    _, first = np.unique(keys, return_index=True)
    rows = rows[first]
    starts = np.flatnonzero(np.append(True, np.diff(legs[rows]) != 0))
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    some: list[int] = rows[rank < MOST_CANDIDATES].tolist()
    return some
