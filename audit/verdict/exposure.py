"""How much of a cluster is open: pairs of endpoints, and namespaces towards the others. Pure.

Counted where the cells are in memory, for `run.json`: what is compared from run to run must not
ask for the cells of every run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from audit.model.blocks import Blocks
from audit.model.history import Exposed
from audit.model.matrix import CellVerdicts, Matrix, passing
from audit.model.tally import Tally
from audit.model.verdicts import VERDICTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Openness:
    """A run's pairs and namespaces.

    `passing` of `pairs` ordered pairs of a source and a destination get through on some port;
    `namespaces` are what other namespaces, nodes and addresses outside may ask of each, by name.
    """

    pairs: int
    passing: int
    drifting: int
    namespaces: Mapping[str, Exposed]


def openness(matrix: Matrix, verdicts: CellVerdicts) -> Openness:
    """Count a run's cells; those within a namespace are no exposure of it."""
    names = sorted({endpoint.namespace for endpoint in matrix.endpoints})
    number = {name: index for index, name in enumerate(names)}
    group = np.array([number[e.namespace] for e in matrix.endpoints], np.int64)
    counts = np.zeros((len(names), len(VERDICTS)), np.int64)
    pairs = open_ = 0
    for source, span in _sources(matrix):
        dst, verdict = matrix.dst[span], verdicts.verdict[span]
        firsts = np.flatnonzero(np.diff(dst, prepend=-1))
        pairs += len(firsts)
        open_ += int(np.logical_or.reduceat(passing(verdict), firsts).sum())
        into = group[dst]
        other = into != group[source]
        cells = into[other] * len(VERDICTS) + verdict[other]
        counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    return Openness(
        pairs=pairs,
        passing=open_,
        drifting=0 if verdicts.drift is None else int((verdicts.drift == 1).sum()),
        namespaces={
            name: _exposed(counts[index])
            for index, name in enumerate(names)
            if name and counts[index].any()
        },
    )


def openness_of(blocks: Blocks) -> Openness:
    """Count the same of cells by class: rows of a class once, then what their exceptions change."""
    names = sorted({endpoint.namespace for endpoint in blocks.endpoints})
    number = {name: index for index, name in enumerate(names)}
    group = np.array([number[e.namespace] for e in blocks.endpoints], np.int64)
    passes = passing(blocks.verdict)
    passes[0] = False
    into = group[blocks.dst]
    firsts = np.flatnonzero(np.diff(blocks.dst, prepend=-1))
    size = len(VERDICTS) + 1
    verdict = np.where(np.arange(len(blocks.verdict)) > 0, blocks.verdict, size - 1).astype(int)
    counts = np.zeros((len(names), size), np.int64)
    pairs = open_ = 0
    # How many rows of each class are in each namespace.
    rows = np.flatnonzero(blocks.row_class >= 0)
    member = np.zeros((len(blocks.codes), len(names)), np.int64)
    np.add.at(member, (blocks.row_class[rows], group[rows]), 1)
    for states, members in zip(blocks.codes, member, strict=True):
        here = states[blocks.column_class]
        total = int(members.sum())
        pairs += total * int(np.logical_or.reduceat(here != 0, firsts).sum())
        open_ += total * int(np.logical_or.reduceat(passes[here], firsts).sum())
        cells = np.bincount(into * size + verdict[here], minlength=counts.size)
        counts += cells.reshape(counts.shape) * (total - members)[:, None]
    exceptions = blocks.exceptions
    other = into[exceptions.column] != group[exceptions.src]
    for sign, codes in ((-1, blocks.replaced), (1, exceptions.code)):
        cells = into[exceptions.column[other]] * size + verdict[codes[other]]
        counts += sign * np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    changed = _changed_pairs(blocks, passes, firsts)
    return Openness(
        pairs=pairs + changed[0],
        passing=open_ + changed[1],
        drifting=0,
        namespaces={
            name: _exposed(counts[index, :-1])
            for index, name in enumerate(names)
            if name and counts[index, :-1].any()
        },
    )


def _changed_pairs(
    blocks: Blocks, passes: NDArray[np.bool_], firsts: NDArray[np.int64]
) -> tuple[int, int]:
    """Return by how much exceptions change the number of pairs, and of those that pass."""
    ends = np.append(firsts[1:], len(blocks.dst))
    exceptions = blocks.exceptions
    nth = np.searchsorted(firsts, exceptions.column, side="right") - 1
    pairs, open_ = 0, 0
    starts = np.flatnonzero(
        np.diff(exceptions.src.astype(np.int64) * len(firsts) + nth, prepend=-1)
    )
    for start, end in pairwise([*starts.tolist(), len(nth)]):
        source, to = exceptions.src[start], nth[start]
        span = slice(int(firsts[to]), int(ends[to]))
        row = int(blocks.row_class[source])
        before = np.zeros(span.stop - span.start, blocks.codes.dtype)
        if row >= 0:
            before = blocks.codes[row, blocks.column_class[span]]
        after = before.copy()
        after[exceptions.column[start:end] - span.start] = exceptions.code[start:end]
        pairs += int((after != 0).any()) - int((before != 0).any())
        open_ += int(passes[after].any()) - int(passes[before].any())
    return pairs, open_


def _sources(matrix: Matrix) -> Iterator[tuple[int, slice]]:
    """Yield each source that has cells, and where they are: a matrix is sorted by source."""
    # Of the same type, else all of the matrix is converted to find them in it.
    firsts = np.arange(len(matrix.endpoints) + 1).astype(matrix.src.dtype)
    ends = np.searchsorted(matrix.src, firsts).tolist()
    for source, (start, end) in enumerate(pairwise(ends)):
        if start < end:
            yield source, slice(start, end)


def _exposed(counts: NDArray[np.int64]) -> Exposed:
    tally = Tally.by_verdict(counts)
    return Exposed(passes=tally.passes, proven=tally.proven, cells=tally.cells)
