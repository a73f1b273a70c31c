"""Two sets of objects → what changes between them, by workload. Pure; by array per cell."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from audit.model.changes import ChangedPath, Changes
from audit.model.endpoints import Port
from audit.model.facts import ClusterState
from audit.model.matrix import FAMILIES, Matrix, proven
from audit.model.verdicts import REASONS, VERDICTS
from audit.policy.intent import IntentVerdicts

_Row = tuple[str, str, int, int, str, str]
"""Source, destination, verdicts before and after, and why each."""


def compare(
    states: tuple[ClusterState, ClusterState],
    matrices: tuple[Matrix, Matrix],
    verdicts: tuple[IntentVerdicts, IntentVerdicts],
) -> Changes:
    """Compare cell by cell what both matrices have; what only one has is an endpoint's coming."""
    before, after = matrices
    places = _Places(matrices)
    _, left, right = np.intersect1d(
        places.codes(before), places.codes(after), assume_unique=True, return_indices=True
    )
    differ = verdicts[0].verdict[left] != verdicts[1].verdict[right]
    names = tuple({e.belongs_to for e in m.endpoints} for m in matrices)
    return Changes(
        before=states[0].source,
        after=states[1].source,
        compared=len(left),
        unmatched=len(after) - len(left),
        unmatched_before=len(before) - len(left),
        proven=int((proven(verdicts[0].verdict[left]) & proven(verdicts[1].verdict[right])).sum()),
        paths=tuple(_paths(after, verdicts, left[differ], right[differ])),
        appeared=tuple(sorted(names[1] - names[0])),
        vanished=tuple(sorted(names[0] - names[1])),
        policies=tuple(_policies(*states)),
    )


class _Places:
    """Numbers endpoints and ports alike in two matrices."""

    def __init__(self, matrices: tuple[Matrix, Matrix]) -> None:
        self._endpoints: dict[str, int] = {}
        self._ports: dict[Port, int] = {}
        for matrix in matrices:
            for endpoint in matrix.endpoints:
                self._endpoints.setdefault(endpoint.key, len(self._endpoints))
            for port in matrix.ports:
                self._ports.setdefault(port, len(self._ports))

    def codes(self, matrix: Matrix) -> NDArray[np.int64]:
        """Return one number per cell, the same in both for the same cell."""
        ends = np.array([self._endpoints[e.key] for e in matrix.endpoints], np.int64)
        ports = np.array([self._ports[port] for port in matrix.ports], np.int64)
        code = ends[matrix.src] * len(self._endpoints) + ends[matrix.dst]
        code = code * len(FAMILIES) + matrix.family
        numbers: NDArray[np.int64] = code * len(self._ports) + ports[matrix.port]
        return numbers


def _paths(
    matrix: Matrix,
    verdicts: tuple[IntentVerdicts, IntentVerdicts],
    left: NDArray[np.intp],
    right: NDArray[np.intp],
) -> Iterator[ChangedPath]:
    """Yield the changes, those alike between two workloads together."""
    grouped: dict[_Row, list[int]] = defaultdict(list)
    names = [endpoint.belongs_to for endpoint in matrix.endpoints]
    for before, cell in zip(left.tolist(), right.tolist(), strict=True):
        row = (
            names[matrix.src[cell]],
            names[matrix.dst[cell]],
            int(verdicts[0].verdict[before]),
            int(verdicts[1].verdict[cell]),
            _why(verdicts[0], before),
            _why(verdicts[1], cell),
        )
        grouped[row].append(int(matrix.port[cell]))
    for (src, dst, was, is_, why_before, why), ports in sorted(grouped.items()):
        yield ChangedPath(
            src=src,
            dst=dst,
            ports=tuple(str(matrix.ports[port]) for port in sorted(set(ports))),
            before=VERDICTS[was],
            after=VERDICTS[is_],
            was=why_before,
            why=why,
            cells=len(ports),
        )


def _why(verdicts: IntentVerdicts, cell: int) -> str:
    index = int(verdicts.blame[cell])
    reason = str(REASONS[verdicts.reason[cell]])
    return f"{verdicts.blames[index]} ({reason})" if index >= 0 else reason


def _policies(before: ClusterState, after: ClusterState) -> Iterator[str]:
    old = {policy.ref: policy for policy in before.policies}
    new = {policy.ref: policy for policy in after.policies}
    for ref in sorted({*old, *new}):
        if ref not in old:
            yield f"added {ref}"
        elif ref not in new:
            yield f"removed {ref}"
        elif old[ref].spec != new[ref].spec:
            yield f"changed {ref}"
