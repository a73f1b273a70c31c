"""Ports of two runs that overlap: ranges may be cut differently when policies changed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Port


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaps:
    """Every overlap of a later port with an earlier one, by later port.

    Those of later port p are `start[p]` to `start[p + 1]`: `before` is the earlier port, `common`
    what both are.
    """

    start: NDArray[np.int64]
    before: NDArray[np.int64]
    common: tuple[Port, ...]

    def spread(self, ports: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for cells on these later ports, a row per overlap: which cell, which overlap."""
        counts = self.start[ports + 1] - self.start[ports]
        cells = np.repeat(np.arange(len(ports)), counts)
        within = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cells, self.start[ports][cells] + within


def overlaps(before: Sequence[Port], after: Sequence[Port]) -> Overlaps:
    """Find all overlaps; ports of one run never overlap each other."""
    start, earlier, common = [0], [], []
    for port in after:
        for index, other in enumerate(before):
            first, last = max(port.number, other.number), min(port.sample, other.sample)
            if port.protocol is other.protocol and first <= last:
                earlier.append(index)
                common.append(Port(protocol=port.protocol, number=first, last=last))
        start.append(len(earlier))
    return Overlaps(
        start=np.array(start, np.int64), before=np.array(earlier, np.int64), common=tuple(common)
    )
