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

from audit.model.blocks import Blocks
from audit.model.matrix import FAMILIES, PLANES, Cells
from audit.model.run import StreamedRun
from audit.model.verdicts import NO_VERDICT, Blame
from audit.report.axes import Axes, axes, reading_order

MOST_TRACED = 8_000_000
"""Entries of a grid up to which the traces of single cells are gathered too."""
MOST_BLOCKS = 32_000_000
"""Pairs of classes up to which a run's own classes are the page's."""
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
    codes: "NDArray[np.uint16] | NDArray[np.uint32] | Rows"
    states: tuple[State, ...]
    blames: tuple[Blame, ...]
    starts: NDArray[np.int32] | None
    others: NDArray[np.int32] | None
    trace_keys: Sequence[str]


class Rows:
    """The codes of a grid by class: a row is laid out when it is asked for.

    `row_class` and `column_class` are those of the page's rows and columns, `base` the code of a
    row's and a column's class. `exceptions_of` counts each row's cells that are otherwise: their
    `columns` and `others`, in the order of rows and columns.
    """

    def __init__(
        self,
        classes: tuple[NDArray[np.int32], NDArray[np.int32]],
        base: NDArray[Any],
        exceptions_of: NDArray[np.int32],
        columns: NDArray[np.int32],
        others: NDArray[Any],
    ) -> None:
        self.row_class, self.column_class = classes
        self.base = base
        self.exceptions_of, self.columns, self.others = exceptions_of, columns, others
        self._ends = np.cumsum(exceptions_of)
        self.dtype = base.dtype
        self.shape = len(self.row_class), len(self.column_class)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.row_class)

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Return the codes of a row."""
        codes: NDArray[Any] = self.base[self.row_class[row]][self.column_class]
        span = slice(int(self._ends[row] - self.exceptions_of[row]), int(self._ends[row]))
        codes[self.columns[span]] = self.others[span]
        return codes


def gather(run: StreamedRun, changed: NDArray[np.uint8] | None = None) -> Grid:
    """Read all parts of a run. `changed` has a mark per cell, in order, as `ChangedCells.cells`."""
    if changed is None and run.blocks is not None and run.blocks.codes.size <= MOST_BLOCKS:
        return _gathered(run, run.blocks)
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


def _gathered(run: StreamedRun, blocks: Blocks) -> Grid:
    """Return the grid of cells by class, in the same classes."""
    order = reading_order(run.endpoints)
    row_cells, column_cells = blocks.margins
    sources = order[row_cells[order] > 0]
    used = np.flatnonzero(column_cells)
    ports = max(len(run.ports), 1)
    names = blocks.dst[used].astype(np.int64) * len(FAMILIES) + blocks.family[used]
    page, taken = axes(run.endpoints, len(run.ports), sources, names * ports + blocks.port[used])
    columns = used[taken]
    blames: dict[Blame, int] = {}
    decided = [blames.setdefault(_decision(blame), len(blames)) for blame in blocks.blames]
    states: dict[State, int] = {}
    there = np.flatnonzero(blocks.counts[1:]) + 1
    code_of = np.zeros(len(blocks.verdict), np.int64)
    for state in there.tolist():
        blame = int(blocks.blame[state])
        key = _of_objects(blocks, state, decided[blame] if blame >= 0 else -1)
        code_of[state] = states.setdefault(key, len(states) + 1)
    kind = np.uint16 if len(states) <= np.iinfo(np.uint16).max else np.uint32
    code_of = code_of.astype(kind)
    return Grid(
        page=page,
        codes=_rows(blocks, sources, columns, code_of),
        states=tuple(states),
        blames=tuple(blames),
        starts=None,
        others=None,
        trace_keys=run.trace_keys(),
    )


def _of_objects(blocks: Blocks, state: int, blame: int) -> State:
    """Return a state of cells by class, which nothing but the objects say anything of."""
    none = dict.fromkeys((*PLANES, "reply"), NONE)
    verdict, reason = int(blocks.verdict[state]), int(blocks.reason[state])
    return State(**none, verdict=verdict, reason=reason, drift=3, changed=0, blame=blame)


def _rows(
    blocks: Blocks,
    sources: NDArray[np.int64],
    columns: NDArray[np.int64],
    code_of: NDArray[Any],
) -> Rows:
    """Return the codes of the page's rows and columns, given as those of the run."""
    row_class = blocks.row_class[sources]
    base = code_of[blocks.codes]
    if (row_class < 0).any():  # what has exceptions alone: a class without cells
        base = np.concatenate([base, np.zeros((1, base.shape[1]), base.dtype)])
        row_class = np.where(row_class < 0, len(base) - 1, row_class)
    row_of = np.full(len(blocks.endpoints), -1, np.int64)
    row_of[sources] = np.arange(len(sources))
    column_of = np.full(len(blocks.dst), -1, np.int64)
    column_of[columns] = np.arange(len(columns))
    exceptions = blocks.exceptions
    row, column = row_of[exceptions.src], column_of[exceptions.column]
    shown = np.flatnonzero((row >= 0) & (column >= 0))
    shown = shown[np.lexsort((column[shown], row[shown]))]
    return Rows(
        (row_class.astype(np.int32), blocks.column_class[columns]),
        base,
        np.bincount(row[shown], minlength=len(sources)).astype(np.int32),
        column[shown].astype(np.int32),
        code_of[exceptions.code[shown]],
    )


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
