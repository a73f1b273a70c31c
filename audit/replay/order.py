"""Keeps flows in the order in which `ovn-trace` takes them where a database has fewer. Pure.

Of flows with one priority that a packet meets `ovn-trace` takes the first, and goes through them as
a hash table has its rows: by as many of the last bits of the first 32 of their uuids as the number
of rows comes to (`ovn-trace.c`, read_flows; `include/openvswitch/hmap.h`; `lib/uuid.h`, uuid_hash).
With fewer rows that is another order. So rows have other uuids there, by which they come in the
order of the whole database, and a trace names them as before.

The order of two rows whose bits are the same is that of the file; in `ovn-trace` it is by what came
first to it, which nothing tells. One pair in as many as there are rows is so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FIRST = 8
"""Digits of a uuid that `ovn-trace` prints, and that make the order."""
_NAMED = re.compile(rf"\buuid ([0-9a-f]{{{_FIRST}}})\b")
_FILLER = "-a51d-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Order:
    """The order of the rows of a table; they are numbered as the file has them, each once.

    `firsts` (rows,) uint32 are the first 32 bits of their uuids, `rows` (rows,) intp the numbers in
    the order in which they are taken.
    """

    firsts: NDArray[np.uint32]
    rows: NDArray[np.intp]

    @classmethod
    def of(cls, uuids: Sequence[str], count: int) -> "Order":
        """Take the rows of a file, of which `count` exist in the end; ValueError for no uuids."""
        firsts = np.array([int(uuid[:_FIRST], 16) for uuid in uuids], np.uint32)
        bits = np.uint32((1 << max(count.bit_length() - 1, 0)) - 1)
        return cls(firsts, np.argsort(firsts & bits, kind="stable"))

    def among(self, kept: NDArray[np.bool_]) -> "Renamed":
        """Return how the rows that are kept, (rows,), are called without the others."""
        taken = self.rows[kept[self.rows]]
        places = np.full(self.rows.size, -1, np.int64)
        places[taken] = np.arange(taken.size)
        return Renamed(places, self.firsts[taken])


@dataclass(frozen=True, slots=True)
class Renamed:
    """Other uuids for rows: `places` (rows,) int64 are where each is in order, -1 where it is not.

    `firsts` (kept,) uint32 are the first 32 bits of what they were called, in that order.
    """

    places: NDArray[np.int64]
    firsts: NDArray[np.uint32]

    def uuid(self, number: int, uuid: str) -> str:
        """Return what the row of this number and uuid is called."""
        return f"{self.places[number]:08x}{uuid[_FIRST:]}"

    def fillers(self, *, more: int) -> list[str]:
        """Return uuids of rows that it takes besides, so that each has a place of its own.

        And as many `more`, of those that are kept may not exist in the end.
        """
        rows = self.firsts.size
        return [f"{place:08x}{_FILLER}" for place in range(rows, _power_of_two(rows) + more)]

    def as_before(self, trace: str) -> str:
        """Return a trace with the rows' uuids as they were, of which it prints the beginning."""
        return _NAMED.sub(self._before, trace)

    def _before(self, named: re.Match[str]) -> str:
        place = int(named[1], 16)
        return f"uuid {self.firsts[place]:08x}" if place < self.firsts.size else named[0]


def _power_of_two(least: int) -> int:
    """Return the smallest that is not less."""
    return 1 << (least - 1).bit_length() if least else 0
