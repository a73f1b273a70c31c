"""Cells by class: a matrix that is never laid out, for whatever decides whole classes at once.

A *row* is a source; a *column* is a destination, a family and a port that some source has a cell
of. Rows are in classes and columns are in classes, and what is decided of a cell is what its two
classes say, unless the cell is listed as an *exception*: one that is decided otherwise, or one
that is none, as that of an endpoint with itself. There are as many blocks as pairs of classes, and
about as many exceptions as endpoints; there are N² cells, which are made when they are asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, Port
from audit.model.matrix import Cells, Counted, Matrix, index_type
from audit.model.verdicts import NO_VERDICT, Blame

_Codes = NDArray[np.unsignedinteger[Any]]
NO_CLASS = -1
"""The class of an endpoint that is no source but in exceptions."""
CELLS_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which cells there are, by group of sources: a Matrix that is not laid out.

    `dst`, `family` and `port` say what each of the C columns is, sorted by all three, as in Matrix.
    `group[e]` is the group of a source (NO_CLASS: none), and `present[g, c]` tells whether its
    sources have a cell in a column. `absent` are cells that are none all the same, and `paths`
    those of sources that are in no group: sources and columns, shape (2, n), sorted by both.
    """

    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    dst: NDArray[np.int32]
    family: NDArray[np.int8]
    port: NDArray[np.int32]
    group: NDArray[np.int32]
    present: NDArray[np.bool_]
    absent: NDArray[np.int32]
    paths: NDArray[np.int32]

    def __len__(self) -> int:
        """Return how many cells there are."""
        members = np.bincount(self.group[self.group >= 0], minlength=len(self.present))
        cells = int(np.dot(members, np.count_nonzero(self.present, axis=1)))
        return cells - int(self.absent.shape[1]) + int(self.paths.shape[1])

    def cells(self, src: NDArray[np.integer[Any]], column: NDArray[np.integer[Any]]) -> Matrix:
        """Return some cells, given by sources and columns of one length."""
        return Matrix(
            endpoints=self.endpoints,
            ports=self.ports,
            src=np.asarray(src, index_type(len(self.endpoints))),
            dst=self.dst[column].astype(index_type(len(self.endpoints))),
            family=self.family[column],
            port=self.port[column].astype(index_type(len(self.ports))),
        )

    def matrix(self) -> Matrix:
        """Return all cells, laid out."""
        src, column = [self.paths[0]], [self.paths[1]]
        for source in np.flatnonzero(self.group >= 0).tolist():
            here = self.present[self.group[source]].copy()
            span = slice(*np.searchsorted(self.absent[0], [source, source + 1]).tolist())
            here[self.absent[1, span]] = False
            columns = np.flatnonzero(here).astype(np.int32)
            src.append(np.full(len(columns), source, np.int32))
            column.append(columns)
        sources, columns = np.concatenate(src), np.concatenate(column)
        order = np.lexsort((columns, sources))
        return self.cells(sources[order], columns[order])


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceptions:
    """Cells that are not as their classes say, sorted by source and column, each once.

    Parallel arrays; a `code` of 0 is a cell that there is not.
    """

    src: NDArray[np.int32]
    column: NDArray[np.int32]
    code: _Codes

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.src)

    @classmethod
    def none(cls) -> "Exceptions":
        """Return no exceptions."""
        empty = np.empty(0, np.int32)
        return cls(src=empty, column=empty, code=np.empty(0, np.uint16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What is decided of all cells, by class.

    `dst`, `family` and `port` are the columns, as in Layout. `row_class[e]` is the class of a
    source (NO_CLASS: all of its cells are exceptions), `column_class[c]` that of a column, and
    `codes[r, k]` is the *state* of the cells of both, 0 where there is no cell. `verdict`, `reason`
    and `blame` say what a state is, at the state's number; their first entry, of no cell, says
    nothing. Codes are those of CellVerdicts.
    """

    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    dst: NDArray[np.int32]
    family: NDArray[np.int8]
    port: NDArray[np.int32]
    row_class: NDArray[np.int32]
    column_class: NDArray[np.int32]
    codes: _Codes
    exceptions: Exceptions
    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    blame: NDArray[np.int32]
    blames: Sequence[Blame]

    def __len__(self) -> int:
        """Return how many cells there are."""
        return int(self.counts[1:].sum())

    @property
    def members(self) -> NDArray[np.int64]:
        """How many sources each class of rows has."""
        return np.bincount(self.row_class[self.row_class >= 0], minlength=len(self.codes))

    @property
    def widths(self) -> NDArray[np.int64]:
        """How many columns each class of columns has."""
        return np.bincount(self.column_class, minlength=self.codes.shape[1])

    @property
    def replaced(self) -> _Codes:
        """What their classes say of the exceptions, in their order."""
        rows = self.row_class[self.exceptions.src]
        columns = self.column_class[self.exceptions.column]
        if not len(self.codes):
            return np.zeros(len(rows), self.codes.dtype)
        return np.where(rows >= 0, self.codes[rows, columns], self.codes.dtype.type(0))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many cells are in each state, shape (states,); of state 0 it says nothing."""
        size = len(self.verdict)
        counts = np.zeros(size, np.int64)
        for row, members in zip(self.codes, self.members.tolist(), strict=True):
            # Sums of integers below 2**53, so exact as floats.
            counts += members * np.bincount(row, self.widths, size).astype(np.int64)
        counts -= np.bincount(self.replaced, minlength=size)
        counts += np.bincount(self.exceptions.code, minlength=size)
        return counts

    @property
    def margins(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many cells each endpoint has as a source, and each column: shapes (E,) and (C,)."""
        there = (self.codes != 0).astype(np.float64)  # exact, as below
        wide, long = there @ self.widths, self.members @ there
        rows = np.zeros(len(self.endpoints), np.int64)
        classed = self.row_class >= 0
        rows[classed] = wide[self.row_class[classed]]
        columns = long[self.column_class].astype(np.int64) if len(self.codes) else None
        columns = np.zeros(len(self.dst), np.int64) if columns is None else columns
        for sign, codes in ((-1, self.replaced), (1, self.exceptions.code)):
            cells = codes != 0
            np.add.at(rows, self.exceptions.src[cells], sign)
            np.add.at(columns, self.exceptions.column[cells], sign)
        return rows, columns

    @property
    def counted(self) -> Counted:
        """How many cells have each verdict for each reason."""
        keys = self.verdict[1:].astype(np.int64) << 8 | self.reason[1:]
        # Sums of integers below 2**53, so exact as floats.
        counts = np.bincount(keys, self.counts[1:], minlength=1 << 16)
        return Counted.by_key(counts.astype(np.int64))

    def exceptions_of(self, source: int) -> slice:
        """Return where the exceptions of a source are."""
        first, last = np.searchsorted(self.exceptions.src, [source, source + 1]).tolist()
        return slice(first, last)

    def row(self, source: int) -> _Codes:
        """Return the state of each column for a source."""
        number = self.row_class[source]
        codes: _Codes = np.zeros(len(self.dst), self.codes.dtype)
        if number >= 0:
            np.take(self.codes[number], self.column_class, out=codes)
        span = self.exceptions_of(source)
        codes[self.exceptions.column[span]] = self.exceptions.code[span]
        return codes

    @property
    def sources(self) -> NDArray[np.int64]:
        """The endpoints that have a cell, or may."""
        there = self.row_class >= 0
        there[self.exceptions.src] = True
        return np.flatnonzero(there)

    def states_of(
        self, source: int, columns: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], _Codes]:
        """Return the columns of a source's cells, of those among `columns`, and their states."""
        codes = self.row(source)
        there = codes != 0 if columns is None else (codes != 0) & columns
        where = np.flatnonzero(there)
        return where, codes[where]

    @property
    def none(self) -> Cells:
        """No cells, as a table of them."""
        return self._cells(*np.empty((3, 0), np.int64))

    def of_source(self, source: int, columns: NDArray[np.bool_] | None = None) -> Cells:
        """Return the cells of a source, or those among `columns`, in their order."""
        where, codes = self.states_of(source, columns)
        return self._cells(np.full(len(where), source), where, codes)

    def parts(
        self, sources: Sequence[int] | None = None, columns: NDArray[np.bool_] | None = None
    ) -> Iterator[Cells]:
        """Yield all cells, or those of some sources (sorted) and columns, some at a time."""
        src, where, codes, size = [], [], [], 0
        for source in self.sources.tolist() if sources is None else sources:
            columns_, states = self.states_of(source, columns)
            src.append(np.full(len(columns_), source))
            where.append(columns_)
            codes.append(states)
            size += len(columns_)
            if size >= CELLS_AT_A_TIME:
                yield self._cells(*map(np.concatenate, (src, where, codes)))
                src, where, codes, size = [], [], [], 0
        if size:
            yield self._cells(*map(np.concatenate, (src, where, codes)))

    def _cells(self, src: NDArray[Any], column: NDArray[Any], codes: NDArray[Any]) -> Cells:
        index = index_type(len(self.endpoints))
        none = np.broadcast_to(np.uint8(NO_VERDICT), len(codes))
        return Cells(
            src=src.astype(index),
            dst=self.dst[column].astype(index),
            family=self.family[column],
            port=self.port[column].astype(index_type(len(self.ports))),
            verdict=self.verdict[codes],
            reply=none,
            reason=self.reason[codes],
            drift=none,
            blame=self.blame[codes],
        )
