"""Which packets to endpoints behind Services show the legs that no trace has shown. Pure.

A packet shows its egress leg, and where that passes its way and its ingress leg too. So one that is
predicted to pass shows several; what no packet reaches needs no trace. One that leaves for another
switch takes two traces.
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
"""Packets that are compared for each leg, of those that take as many traces."""


class Pair(NamedTuple):
    """A packet from a sender to an endpoint behind a Service, of a cell to that."""

    cell: int
    receiver: Receiver


class _Candidate(NamedTuple):
    """A packet, and all legs that nobody has shown and that it shows if it goes as predicted."""

    pair: Pair
    shows: frozenset[_Leg]
    traces: int

    def worth(self, done: set[_Leg]) -> float:
        """Return how many legs that are not done it shows with each trace."""
        return len(self.shows - done) / self.traces


class PacketChoice:
    """Packets that may show legs, a few for each leg, and the choice among them."""

    def __init__(self) -> None:
        self._candidates: dict[_Leg, dict[int, list[_Candidate]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def add(
        self,
        cells: NDArray[np.int64],
        receiver: Receiver,
        unshown: Mapping[Part, NDArray[np.int64]],
        passes: NDArray[np.bool_],
        beside: NDArray[np.bool_],
    ) -> None:
        """Consider the packets of cells to a receiver: parallel arrays, a row per packet.

        `unshown` has their legs by part, below 0 what is shown or not there; `passes` says whose
        egress leg is known or predicted to pass, `beside` whose receiver is on the sender's switch.
        """
        egress = unshown[Part.EGRESS]
        traces = np.where(passes & ~beside, 2, 1)
        for part, legs in unshown.items():
            other = unshown[Part.INGRESS] if part is Part.EGRESS else egress
            rows = np.flatnonzero((legs >= 0) & (passes | (part is Part.EGRESS)))
            for row in _some_of_each(legs, other, traces, rows):
                candidates = self._candidates[part, int(legs[row])][int(traces[row])]
                if len(candidates) < MOST_CANDIDATES:
                    shows = (
                        (of, int(ids[row]))
                        for of, ids in unshown.items()
                        if ids[row] >= 0 and (passes[row] or of is Part.EGRESS)
                    )
                    pair = Pair(int(cells[row]), receiver)
                    candidates.append(_Candidate(pair, frozenset(shows), int(traces[row])))

    def pairs(self) -> list[Pair]:
        """Return packets that show every leg: those of few candidates first, of most use each."""
        chosen: dict[Pair, None] = {}
        done: set[_Leg] = set()
        candidates = {
            leg: [each for some in by_traces.values() for each in some]
            for leg, by_traces in self._candidates.items()
        }
        for part in (Part.INGRESS, Part.TRANSIT, Part.EGRESS, Part.ARRIVAL):
            legs = [leg for leg in candidates if leg[0] is part]
            for leg in sorted(legs, key=lambda leg: len(candidates[leg])):
                if leg not in done:
                    best = max(candidates[leg], key=lambda one: one.worth(done))
                    chosen[best.pair] = None
                    done |= best.shows
        return list(chosen)


def _some_of_each(
    legs: NDArray[np.int64],
    other: NDArray[np.int64],
    traces: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> list[int]:
    """Return for each leg a few of these rows that take one trace, and that take two.

    They are of different other legs as far as there are such.
    """
    if not rows.size:
        return []
    kinds = legs[rows] * 2 + traces[rows] - 1
    _, first = np.unique(kinds * (int(other.max()) + 2) + other[rows] + 1, return_index=True)
    rows, kinds = rows[first], kinds[first]
    starts = np.flatnonzero(np.append(True, np.diff(kinds) != 0))
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    some: list[int] = rows[rank < MOST_CANDIDATES].tolist()
    return some
