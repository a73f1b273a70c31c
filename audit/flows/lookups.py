"""Many words looked up at once, exactly: which of some keys each packet has. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FACTOR = 0x9E3779B97F4A7C15
"""Of 64 bits, as Fibonacci hashing takes it: 2^64 divided by the golden ratio."""
_SHIFT = 29


class Lookup:
    """Keys of some words each, all different."""

    def __init__(self, keys: Sequence[Sequence[int]]) -> None:
        self._keys = np.array(keys, np.uint32).reshape(len(keys), len(keys[0]))
        self.only = tuple(map(int, keys[0])) if len(keys) == 1 else None
        """The only key, where there is no other."""
        if len(keys) == 1:
            return
        self._seed = 1
        while True:
            mixed = self._mixed(list(self._keys.T))
            self._order = np.argsort(mixed, kind="stable")
            self._sorted = mixed[self._order]
            if not (self._sorted[1:] == self._sorted[:-1]).any():
                return
            self._seed += 2  # two keys are mixed alike

    def _mixed(self, columns: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint64]:
        mixed = np.full(len(columns[0]) if columns else len(self._keys), self._seed, np.uint64)
        for column in columns:
            mixed = (mixed ^ column) * np.uint64(_FACTOR)
            mixed ^= mixed >> np.uint64(_SHIFT)
        return mixed

    def find(self, columns: Sequence[NDArray[np.uint32]]) -> NDArray[np.intp]:
        """Return the number of each packet's key, -1 where it has none; `columns` are its words."""
        if len(self._keys) == 1:
            met = columns[0] == self._keys[0, 0]
            for column, value in zip(columns[1:], self._keys[0, 1:], strict=True):
                met &= column == value
            return np.where(met, 0, -1)
        mixed = self._mixed(columns)
        at = np.searchsorted(self._sorted, mixed)
        at[at == len(self._sorted)] = 0
        key = self._order[at]
        same = np.ones(len(mixed), np.bool_)
        for column, values in zip(columns, self._keys.T, strict=True):
            same &= values[key] == column
        numbers: NDArray[np.intp] = np.where(same, key, -1)
        return numbers
