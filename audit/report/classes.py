"""Classes of rows and columns: what the page carries instead of the cells.

Pods of one workload have the same row but for a few cells: the one of the pod itself, those of its
own node. So rows that are nearly alike share a class, columns too, and the page carries the grid
of class by class, the class of each row and column, and the cells that differ: 91 million cells of
5,500 endpoints are 1,600 by 4,400 classes and 200,000 exceptions, one megabyte deflated.

How the classes are chosen decides how much there is to carry, never what a cell says: every cell
that is not its classes' is an exception.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.report.grid import Grid, Rows

BLOCKS = 64
"""A row is hashed in this many pieces; rows that differ in few cells agree in most pieces."""
ALIKE = BLOCKS // 4
FEW = 64
"""A row joins a class when at most one cell in 64 differs."""
REMEMBERED = 8
"""Classes that are remembered for each piece: late ones, since what is alike stands together."""
TRIED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """`codes[row, column]` is `base[row_class[row], column_class[column]]`, but for exceptions.

    Those are sorted by row, then column: `exceptions_of` counts them by row.
    """

    row_class: NDArray[np.int32]
    column_class: NDArray[np.int32]
    base: NDArray[Any]
    exceptions_of: NDArray[np.int32]
    columns: NDArray[np.int32]
    codes: NDArray[Any]


def classes(grid: Grid) -> Classes:
    """Find classes of a grid's rows and columns."""
    codes = grid.codes
    if isinstance(codes, Rows):
        return Classes(
            row_class=codes.row_class,
            column_class=codes.column_class,
            base=codes.base,
            exceptions_of=codes.exceptions_of,
            columns=codes.columns,
            codes=codes.others,
        )
    row_class, rows = _alike(codes)
    by_column = np.ascontiguousarray(codes[rows].T)
    column_class, columns = _alike(by_column)
    base = np.ascontiguousarray(by_column[columns].T)
    counts = np.zeros(len(codes), np.int32)
    exception_columns, exception_codes = [np.empty(0, np.int32)], [np.empty(0, codes.dtype)]
    for row in range(len(codes)):
        differ = np.flatnonzero(codes[row] != base[row_class[row]][column_class])
        counts[row] = len(differ)
        exception_columns.append(differ.astype(np.int32))
        exception_codes.append(codes[row][differ])
    return Classes(
        row_class=row_class,
        column_class=column_class,
        base=base,
        exceptions_of=counts,
        columns=np.concatenate(exception_columns),
        codes=np.concatenate(exception_codes),
    )


def _alike(codes: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the class of each row, and the row each class was made of."""
    count, width = codes.shape
    hashes = _hashes(codes)
    # Of each piece and each value it has, some of the classes that were made with it, late ones.
    recent = np.full((hashes.shape[1], int(hashes.max(initial=-1)) + 1, REMEMBERED), -1, np.int32)
    pieces = np.arange(hashes.shape[1])
    made: list[int] = []
    of = np.empty(count, np.int32)
    for row in range(count):
        for best in _most_alike(recent[pieces, hashes[row]]):
            if np.count_nonzero(codes[row] != codes[made[best]]) * FEW <= width:
                of[row] = best
                break
        else:
            of[row] = len(made)
            slot = len(made) % REMEMBERED
            recent[pieces, hashes[row], slot] = len(made)
            made.append(row)
    return of, np.array(made, np.int64)


def _hashes(codes: NDArray[Any]) -> NDArray[np.int32]:
    """Return a number per row and piece: the same for rows with the same codes in that piece."""
    count, width = codes.shape
    draw = np.random.default_rng(0)
    block = np.asarray(draw.integers(0, BLOCKS, width))
    order = np.argsort(block, kind="stable")
    begins = np.flatnonzero(np.diff(block[order], prepend=-1))
    odd = np.asarray(draw.integers(0, 2**62, width, dtype=np.uint64) * np.uint64(2) + np.uint64(1))
    odd = odd[order]
    kinds = int(codes.max(initial=0)) + 1
    salt: NDArray[np.uint64] = draw.integers(0, 2**63, kinds, dtype=np.uint64)
    hashes = np.empty((count, len(begins)), np.uint64)
    for row in range(count if width else 0):
        hashes[row] = np.add.reduceat(salt[codes[row].take(order)] * odd, begins)
    numbers = np.empty(hashes.shape, np.int32)
    for piece in range(len(begins)):
        numbers[:, piece] = np.unique(hashes[:, piece], return_inverse=True)[1].reshape(-1)
    return numbers


def _most_alike(voted: NDArray[np.int32]) -> list[int]:
    """Return the classes that most pieces of a row are the same as, those few first."""
    classes, votes = np.unique(voted[voted >= 0], return_counts=True)
    best = np.argsort(-votes, kind="stable")[:TRIED]
    most: list[int] = classes[best[votes[best] * BLOCKS >= ALIKE * len(voted)]].tolist()
    return most
