"""The cells as a grid: one small number per cell, gathered part by part.

A cell's *state* is its verdict, reply, reason, what each plane says, whether it drifts or changed,
and who decided: the policy, its rule and direction. There are N² cells and few states, so the grid
(sources by columns) holds codes into a table of states, 0 where there is no such cell.

The ACL and the logical flow behind a decision are not part of a state: they differ from zone to
zone where the policy is the same. They are in the traces.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import FAMILIES, PLANES, Cells
from audit.model.run import StreamedRun
from audit.model.verdicts import NO_VERDICT, Blame
from audit.report.axes import Axes, axes, reading_order

MOST_TRACED = 8_000_000
"""Entries of a grid up to which the traces of single cells are gathered too."""
NONE = 7
"""A verdict that is none, in three bits."""
_BITS = (3, 3, 7, *(3,) * len(PLANES), 2, 3)
"""Of verdict, reply, reason, each plane, drift, changed; the blame is the rest."""


class State(NamedTuple):
    """What cells have in common. Codes as in CellVerdicts; `blame` into `Grid.blames`, or -1."""

    verdict: int
    reply: int
    reason: int
    intent: int
    logical: int
    datapath: int
    probe: int
    drift: int
    changed: int
    blame: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All cells of a run: `codes[row, column]` is 0 or 1 + an index into `states`.

    `starts` and `others` are indices into `trace_keys` (-1: none) of each cell's trace and of its
    trace in the other plane; None where the run is too large for them or has none.
    """

    page: Axes
    codes: NDArray[np.uint16] | NDArray[np.uint32]
    states: tuple[State, ...]
    blames: tuple[Blame, ...]
    starts: NDArray[np.int32] | None
    others: NDArray[np.int32] | None
    trace_keys: Sequence[str]


def gather(run: StreamedRun, changed: NDArray[np.uint8] | None = None) -> Grid:
    """Read all parts of a run. `changed` has a mark per cell, in order, as `ChangedCells.cells`."""
    gathering = _Gathering(run)
    first = 0
    for part in run.parts():
        marked = None if changed is None else changed[first : first + len(part)]
        gathering.add(part, marked)
        first += len(part)
    return gathering.grid()


class _Gathering:
    """Numbers rows, columns and states as they come."""

    def __init__(self, run: StreamedRun) -> None:
        self._run = run
        self._width = len(FAMILIES) * max(len(run.ports), 1)
        count = len(run.endpoints)
        self._order = reading_order(run.endpoints)
        self._row = np.argsort(self._order)
        self._used = np.zeros(count, np.bool_)
        self._column = np.full(count * self._width, -1, np.int64)
        self._columns = np.empty(0, np.int64)
        self._keys: dict[int, int] = {}
        self._blames: dict[Blame, int] = {}
        self._decided: list[int] = []
        # Pages of memory that nothing is written to cost nothing: rows may be many more than used.
        self._codes: NDArray[Any] = np.zeros((count, count), np.uint16)
        traced = bool(run.manifest.get("counts", {}).get("traces", 1))
        self._starts = np.zeros((count, count), np.int32) if traced else None
        self._others = np.zeros((count, count), np.int32) if traced else None
        self._has_others = False

    def add(self, part: Cells, changed: NDArray[np.uint8] | None) -> None:
        """Take the cells of a part."""
        if not len(part):
            return
        column = part.dst.astype(np.int64) * self._width
        column += part.family.astype(np.int64) * max(len(self._run.ports), 1) + part.port
        self._used[self._row[part.src]] = True
        self._number(column)
        row, column = self._row[part.src], self._column[column]
        codes = self._code(part, changed)
        if len(self._keys) > np.iinfo(self._codes.dtype).max:
            self._codes = self._codes.astype(np.uint32)
        self._codes[row, column] = codes
        if self._starts is not None and self._others is not None:
            if part.trace is not None:
                self._starts[row, column] = part.trace + 1
            if part.other_trace is not None:
                self._has_others = True
                self._others[row, column] = part.other_trace + 1

    def _number(self, column: NDArray[np.int64]) -> None:
        """Give columns that are new a number."""
        new = np.unique(column[self._column[column] < 0])
        if not len(new):
            return
        self._column[new] = np.arange(len(self._columns), len(self._columns) + len(new))
        self._columns = np.concatenate([self._columns, new])
        if self._starts is not None and len(self._row) * len(self._columns) > MOST_TRACED:
            self._starts = self._others = None
        while len(self._columns) > self._codes.shape[1]:
            self._codes = self._wider(self._codes)
            if self._starts is not None and self._others is not None:
                self._starts, self._others = self._wider(self._starts), self._wider(self._others)

    def _wider(self, array: NDArray[Any]) -> NDArray[Any]:
        grown = np.zeros((array.shape[0], 2 * array.shape[1]), array.dtype)
        grown[self._used, : array.shape[1]] = array[self._used]
        return grown

    def _code(self, part: Cells, changed: NDArray[np.uint8] | None) -> NDArray[np.int64]:
        """Return the code of each cell's state, counted from 1."""
        planes = (*(getattr(part, name) for name in PLANES), part.drift)
        none, unchanged = np.uint8(NO_VERDICT), np.uint8(0)
        fields = (
            *(part.verdict, part.reply, part.reason),
            *(none if plane is None else plane for plane in planes),
            unchanged if changed is None else changed,
        )
        keys = self._deciders()[part.blame]
        for bits, field in zip(_BITS, fields, strict=True):
            keys <<= bits
            keys |= np.minimum(field, np.uint8((1 << bits) - 1))
        # Neighbours are mostly alike: only where a run of them begins is anything looked up.
        begins = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        values, inverse = np.unique(keys[begins], return_inverse=True)
        codes = [self._keys.setdefault(key, len(self._keys) + 1) for key in values.tolist()]
        lengths = np.diff(begins, append=len(keys))
        return np.repeat(np.array(codes, np.int64)[inverse.reshape(-1)], lengths)

    def _deciders(self) -> NDArray[np.int64]:
        """Return, by a part's `blame`, who decided as the page says it: one more, 0 for nobody.

        What differs from zone to zone only is one.
        """
        for blame in self._run.blames()[len(self._decided) :]:
            self._decided.append(self._blames.setdefault(_decision(blame), len(self._blames)) + 1)
        return np.array([*self._decided, 0], np.int64)

    def grid(self) -> Grid:
        """Return everything in page order."""
        sources = self._order[self._used]
        page, order = axes(self._run.endpoints, len(self._run.ports), sources, self._columns)
        return Grid(
            page=page,
            codes=self._ordered(self._codes, order),
            states=tuple(map(_state, self._keys)),
            blames=tuple(self._blames),
            starts=self._traces(self._starts, order),
            others=self._traces(self._others, order) if self._has_others else None,
            trace_keys=self._run.trace_keys(),
        )

    def _ordered(self, array: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
        """Return an array's rows and columns in page order; they are moved in place."""
        rows = np.flatnonzero(self._used)
        for to, row in enumerate(rows.tolist()):  # never to below where it was
            array[to, : len(order)] = array[row].take(order)
        return array[: len(rows), : len(order)]

    def _traces(
        self, array: NDArray[np.int32] | None, order: NDArray[np.int64]
    ) -> NDArray[np.int32] | None:
        """Return traces in page order, -1 where there is none."""
        if array is None or not array[self._used].any():
            return None
        return self._ordered(array, order) - 1


def _state(key: int) -> State:
    """Return the state that a key is made of."""
    fields: list[int] = []
    for bits in reversed(_BITS):
        fields.append(key & ((1 << bits) - 1))
        key >>= bits
    return State._make([*reversed(fields), key - 1])


def _decision(blame: Blame) -> Blame:
    """Return a blame without what differs from zone to zone where the policy is the same."""
    if blame.policy is None and not blame.owner:
        return replace(blame, acl_match="", logical_flow="", zone="")
    return replace(blame, acl="", acl_match="", logical_flow="", stage="", zone="")


def deflate(data: bytes) -> bytes:
    """Compress as `DecompressionStream("deflate-raw")` inflates it; same bytes in, same out."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()
