"""The matrix and its verdicts: columnar, because there are N² cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, Port
from audit.model.packets import Family
from audit.model.verdicts import Blame

FAMILIES: tuple[Family, ...] = tuple(Family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Every cell of a run: five parallel arrays of length N into the tables beside them.

    Sorted by (src, dst, family, port); `family` indexes FAMILIES. No cell is listed twice.
    """

    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    family: NDArray[np.int8]
    port: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVerdicts:
    """What is known about each cell of a Matrix: parallel arrays of length N.

    `verdict` and `reply` are codes into VERDICTS (`reply` may be NO_VERDICT: there is no reply
    to trace), `reason` into REASONS, `blame` into `blames` (-1: none), `trace` into `trace_keys`
    (-1: the cell was not traced).
    """

    verdict: NDArray[np.uint8]
    reply: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    blame: NDArray[np.int32]
    trace: NDArray[np.int32]
    blames: Sequence[Blame]
    trace_keys: Sequence[str]
