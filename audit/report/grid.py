"""The cells as the page carries them: one small number per cell, rows deflated in chunks.

A cell's *state* is its verdict, reply, reason and blame. There are N² cells and few states, so the
grid (sources by columns) holds codes into a table of states, 0 where there is no such cell. Rows of
one namespace are mostly the same, which is what deflate is good at: 25 million cells come to a few
hundred kilobytes. The page inflates only the chunks whose rows it shows.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import CellVerdicts, Matrix
from audit.report.axes import Axes
from audit.report.census import steps

CHUNK = 1_000_000
"""Entries of a grid in one chunk: some milliseconds to inflate, at most 4 MB inflated."""

State = tuple[int, int, int, int]
"""(verdict, reply, reason, blame), codes as in CellVerdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """The distinct states of a run's cells; code `n` in the grid is `table[n - 1]`."""

    table: tuple[State, ...]
    width: int
    _keys: NDArray[np.int64]

    def codes(self, verdicts: CellVerdicts, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the code of each of these cells, counted from 1."""
        return np.searchsorted(self._keys, _keys(verdicts, cells)) + 1


def states(verdicts: CellVerdicts) -> States:
    """Find the distinct states."""
    found = np.empty(0, np.int64)
    for cells in steps(len(verdicts.verdict)):
        found = np.union1d(found, _keys(verdicts, cells))
    table = tuple(
        (key & 0xFF, key >> 8 & 0xFF, key >> 16 & 0xFF, (key >> 24) - 1) for key in found.tolist()
    )
    return States(table=table, width=_width(len(table)), _keys=found)


def state_chunks(
    matrix: Matrix, verdicts: CellVerdicts, page: Axes, known: States
) -> Iterator[bytes]:
    """Yield the grid of state codes, deflated, `rows_per_chunk` rows at a time."""
    for cells, row, rows in _row_chunks(matrix, page):
        grid = np.zeros((rows, len(page.column_dst)), f"<u{known.width}")
        grid[row, page.columns(matrix, cells)] = known.codes(verdicts, cells)
        yield deflate(grid.tobytes())


def trace_chunks(
    matrix: Matrix, verdicts: CellVerdicts, page: Axes, number_of: NDArray[np.int64]
) -> Iterator[bytes]:
    """Yield, as `state_chunks` does, which trace each cell starts with.

    `number_of` maps an index into `trace_keys` to the trace's number on the page, counted from 1;
    its last entry, 0, is what "no trace" indexes. Rows are written as differences, because traces
    are numbered in the order of the cells.
    """
    for cells, row, rows in _row_chunks(matrix, page):
        grid = np.zeros((rows, len(page.column_dst)), np.int64)
        grid[row, page.columns(matrix, cells)] = number_of[verdicts.trace[cells]]
        yield deflate(np.diff(grid.reshape(-1), prepend=0).astype("<i4").tobytes())


def rows_per_chunk(page: Axes) -> int:
    """Return how many rows a chunk has."""
    return max(1, CHUNK // max(len(page.column_dst), 1))


def entries(page: Axes) -> int:
    """Return how many entries the whole grid has, cells or not."""
    return len(page.sources) * len(page.column_dst)


def deflate(data: bytes) -> bytes:
    """Compress as `DecompressionStream("deflate-raw")` inflates it; same bytes in, same out."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes) -> bytes:
    """Undo `deflate`."""
    return zlib.decompress(data, -zlib.MAX_WBITS)


def _row_chunks(
    matrix: Matrix, page: Axes
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """Yield (cells, their row within the chunk, rows of the chunk); every cell once."""
    # The matrix is sorted by source, so that a source's cells are one range.
    starts = np.searchsorted(matrix.src, np.arange(len(matrix.endpoints) + 1))
    source_of_place = np.full(len(page.endpoints), -1, np.int64)
    used = np.flatnonzero(page.place >= 0)
    source_of_place[page.place[used]] = used
    order = source_of_place[page.sources]
    size = rows_per_chunk(page)
    for first in range(0, len(order), size):
        sources = order[first : first + size]
        ranges = [np.arange(starts[source], starts[source + 1]) for source in sources]
        row = np.repeat(np.arange(len(sources)), [len(cells) for cells in ranges])
        yield np.concatenate(ranges), row, len(sources)


def _keys(verdicts: CellVerdicts, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for the state of each of these cells."""
    blame = (verdicts.blame[cells].astype(np.int64) + 1) << 24
    reason = verdicts.reason[cells].astype(np.int64) << 16
    reply = verdicts.reply[cells].astype(np.int64) << 8
    return blame | reason | reply | verdicts.verdict[cells]


def _width(count: int) -> int:
    """Return the bytes a code needs; 0 is taken."""
    return next(width for width in (1, 2, 4) if count < 1 << 8 * width)
