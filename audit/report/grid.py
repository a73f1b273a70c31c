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

from audit.model.matrix import FAMILIES, Indices
from audit.model.run import Part, StreamedRun
from audit.model.verdicts import NO_VERDICT, Blame
from audit.report.axes import Axes, Order, axes

MOST_TRACED = 8_000_000
"""Entries of a grid up to which the traces of single cells are gathered too."""
NONE = 7
"""A verdict that is none, in three bits."""
_BITS = (3, 3, 7, 3, 3, 3, 2, 1)
"""Of verdict, reply, reason, intent, logical, datapath, drift, changed; the blame is the rest."""


class State(NamedTuple):
    """What cells have in common. Codes as in CellVerdicts; `blame` into `Grid.blames`, or -1."""

    verdict: int
    reply: int
    reason: int
    intent: int
    logical: int
    datapath: int
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


def gather(run: StreamedRun, changed: NDArray[np.bool_] | None = None) -> Grid:
    """Read all parts of a run. `changed` marks, of all cells in order, those to tell apart."""
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
        self._row = np.full(count, -1, np.int64)
        self._column = np.full(count * self._width, -1, np.int64)
        self._sources: list[int] = []
        self._columns = np.empty(0, np.int64)
        self._keys: dict[int, int] = {}
        # Pages of memory that nothing is written to cost nothing: rows may be many more than used.
        self._codes = np.zeros((count, count), np.uint32)
        traced = bool(run.manifest.get("counts", {}).get("traces", 1))
        self._starts = np.zeros((count, count), np.int32) if traced else None
        self._others = np.zeros((count, count), np.int32) if traced else None
        self._has_others = False

    def add(self, part: Part, changed: NDArray[np.bool_] | None) -> None:
        """Take the cells of a part."""
        if not len(part):
            return
        column = part.dst.astype(np.int64) * self._width
        column += part.family.astype(np.int64) * max(len(self._run.ports), 1) + part.port
        self._number(part.src, column)
        row, column = self._row[part.src], self._column[column]
        self._codes[row, column] = self._code(part, changed)
        if self._starts is not None and self._others is not None:
            self._starts[row, column] = part.trace + 1
            if part.other_trace is not None:
                self._has_others = True
                self._others[row, column] = part.other_trace + 1

    def _number(self, src: Indices, column: NDArray[np.int64]) -> None:
        for source in np.unique(src[self._row[src] < 0]).tolist():
            self._row[source] = len(self._sources)
            self._sources.append(source)
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
        grown[: len(self._sources), : array.shape[1]] = array[: len(self._sources)]
        return grown

    def _code(self, part: Part, changed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Return the code of each cell's state, counted from 1."""
        none = np.uint8(NO_VERDICT)
        fields = (
            part.verdict,
            part.reply,
            part.reason,
            none if part.intent is None else part.intent,
            none if part.logical is None else part.logical,
            none if part.datapath is None else part.datapath,
            none if part.drift is None else part.drift,
            np.uint8(0) if changed is None else changed,
        )
        keys = part.blame.astype(np.int64) + 1
        for bits, field in zip(_BITS, fields, strict=True):
            keys = keys << bits | np.minimum(field, (1 << bits) - 1).astype(np.int64)
        # Neighbours are mostly alike: only where a run of them begins is anything looked up.
        begins = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        values, inverse = np.unique(keys[begins], return_inverse=True)
        codes = [self._keys.setdefault(key, len(self._keys) + 1) for key in values.tolist()]
        lengths = np.diff(begins, append=len(keys))
        return np.repeat(np.array(codes, np.int64)[inverse.reshape(-1)], lengths)

    def grid(self) -> Grid:
        """Return everything in page order, with what differs by zone only made one."""
        sources = np.array(self._sources, np.int64)
        page, order = axes(self._run.endpoints, len(self._run.ports), sources, self._columns)
        states, blames, renamed = self._states()
        kind = np.uint16 if len(states) < 1 << 16 else np.uint32
        lookup = renamed.astype(kind)
        codes = np.empty((len(order.rows), len(order.columns)), kind)
        for row, source in enumerate(order.rows.tolist()):
            codes[row] = lookup[self._codes[source, order.columns]]
        self._codes = np.zeros((0, 0), np.uint32)
        return Grid(
            page=page,
            codes=codes,
            states=states,
            blames=blames,
            starts=_ordered(self._starts, order),
            others=_ordered(self._others, order) if self._has_others else None,
            trace_keys=self._run.trace_keys(),
        )

    def _states(self) -> tuple[tuple[State, ...], tuple[Blame, ...], NDArray[np.int64]]:
        """Return the states, the blames they index, and the state of each key that was seen."""
        found = self._run.blames()
        blames: dict[Blame, int] = {}
        states: dict[State, int] = {}
        renamed = [0]
        for key in self._keys:
            fields: list[int] = []
            rest = key
            for bits in reversed(_BITS):
                fields.append(rest & ((1 << bits) - 1))
                rest >>= bits
            decided = -1
            if rest:
                decided = blames.setdefault(_decision(found[rest - 1]), len(blames))
            state = State._make([*reversed(fields), decided])
            renamed.append(states.setdefault(state, len(states)) + 1)
        return tuple(states), tuple(blames), np.array(renamed, np.int64)


def _decision(blame: Blame) -> Blame:
    """Return a blame without what differs from zone to zone where the policy is the same."""
    if blame.policy is None and not blame.owner:
        return replace(blame, acl_match="", logical_flow="", zone="")
    return replace(blame, acl="", acl_match="", logical_flow="", stage="", zone="")


def _ordered(array: NDArray[np.int32] | None, order: Order) -> NDArray[np.int32] | None:
    """Return traces in page order, -1 where there is none."""
    if array is None or not array[: len(order.rows)].any():
        return None
    placed: NDArray[np.int32] = array[np.ix_(order.rows, order.columns)] - 1
    return placed


def deflate(data: bytes) -> bytes:
    """Compress as `DecompressionStream("deflate-raw")` inflates it; same bytes in, same out."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes) -> bytes:
    """Undo `deflate`."""
    return zlib.decompress(data, -zlib.MAX_WBITS)
