"""What legs say of cells to Services, by array: an outcome for each cell and endpoint. Pure."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.verdicts import CODE, PASSES, Blame, Reason, Verdict
from audit.verdict.compose import Decision
from audit.verdict.legs import UNKNOWN
from audit.verdict.service_packets import Receiver

LEFT_OPEN = frozenset({Reason.LEGS_DISAGREE, Reason.LEG_NOT_SHOWN})
"""Of a composed decision: a cell's own trace has to say more."""

NOT_SHOWN = Decision(verdict=Verdict.UNTRACED, reason=Reason.LEG_NOT_SHOWN)

Outcome = tuple[int, int, int]
"""What decided, on the way between, and in the egress leg: indices into decisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Of some cells with the same receivers: what legs say, shape (cells, receivers) each.

    `at` are places in `ServiceCells.cells`. The outcomes are indices into decisions, below 0 where
    there is none.
    """

    at: NDArray[np.int64]
    receivers: tuple[Receiver, ...]
    decided: NDArray[np.int32]
    between: NDArray[np.int32]
    egress: NDArray[np.int32]

    def parted(self) -> "tuple[Outcomes, Outcomes]":
        """Return those that have one outcome at every receiver, of which it tells, and the rest."""
        first = self.decided[:, :1]
        alike = np.all((self.decided == first) & (first >= 0), axis=1)
        alike &= np.all((self.between < 0) & (self.egress < 0), axis=1)
        return self._rows(alike), self._rows(~alike)

    def _rows(self, chosen: NDArray[np.bool_]) -> "Outcomes":
        return Outcomes(
            at=self.at[chosen],
            receivers=self.receivers,
            decided=self.decided[chosen],
            between=self.between[chosen],
            egress=self.egress[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known by outcome, as arrays; the last entry is of none."""

    code: NDArray[np.uint8]
    """The verdict's."""
    reached: NDArray[np.bool_]
    open: NDArray[np.bool_]
    """A cell's own trace has to say more."""
    silent: NDArray[np.bool_]
    """It passes, and names nobody."""
    blame: NDArray[np.int32]
    """The first outcome that names the same, UNKNOWN where it names nobody."""

    @classmethod
    def of(cls, decisions: Sequence[Decision]) -> "Known":
        """Return it of these, and of one that was not shown."""
        first: dict[Blame, int] = {}
        every = (*decisions, NOT_SHOWN)
        return cls(
            code=np.array([CODE[d.verdict] for d in every], dtype=np.uint8),
            reached=np.array([d.verdict is Verdict.REACHABLE for d in every]),
            open=np.array([d.reason in LEFT_OPEN for d in every]),
            silent=np.array([d.verdict in PASSES and d.blame is None for d in every]),
            blame=np.array(
                [
                    UNKNOWN if d.blame is None else first.setdefault(d.blame, number)
                    for number, d in enumerate(every)
                ],
                dtype=np.int32,
            ),
        )


@functools.cache
def _multipliers(count: int) -> NDArray[np.int64]:
    """Return so many numbers that hardly any two rows have the same product with."""
    return np.random.default_rng(0).integers(1, 1 << 62, count)


def distinct(some: Outcomes) -> tuple[list[tuple[Outcome, ...]], NDArray[np.intp]]:
    """Return the different rows of outcomes, by receiver, and for each cell which is its own."""
    stacked = np.stack([some.decided, some.between, some.egress], axis=2)
    flat = stacked.reshape(len(some.at), -1)
    # By a number of each row: sorting whole rows takes twenty times as long.
    numbers = flat.astype(np.int64) @ _multipliers(flat.shape[1])
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    if not np.array_equal(flat, flat[first][inverse]):  # two rows have one number
        _, first, inverse = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    rows = [
        tuple((decided, between, egress) for decided, between, egress in row)
        for row in stacked[first].tolist()
    ]
    return rows, inverse.reshape(-1)
