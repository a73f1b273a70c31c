"""How much of a cluster is open: pairs of endpoints, and namespaces towards the others. Pure.

Counted where the cells are in memory, for `run.json`: what is compared from run to run must not
ask for the cells of every run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

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
