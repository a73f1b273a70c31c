"""The rows and columns of the page: endpoints in reading order, and the groups they fall into.

Endpoints are ordered by group, then workload, then name, so that what belongs together stands
together. A row is a source; a column is a (destination, family, port) that some cell has. Every
cell of the matrix is in exactly one row and one column.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.matrix import FAMILIES, Matrix

NODES = "(nodes)"
EXTERNAL = "(external)"
"""Groups of what is in no namespace; no namespace can have a parenthesis in its name."""

GROUP_OF_KIND = {EndpointKind.NODE: NODES, EndpointKind.EXTERNAL: EXTERNAL}
LAST_GROUPS = (NODES, EXTERNAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What a cell's coordinates are on the page.

    `endpoints` are those the matrix uses, in page order; `place` maps an endpoint's index in the
    matrix to its index on the page (-1: unused); `group_of` maps a page index into `groups`.
    `sources` are the page indices of the rows, `row_of` the inverse (-1: no source).
    `slices` are the (family, port) pairs in use, as codes; `column_dst` and `column_slice` are what
    each column stands for, sorted by both.
    """

    endpoints: tuple[Endpoint, ...]
    place: NDArray[np.int32]
    groups: tuple[str, ...]
    group_of: NDArray[np.int32]
    sources: NDArray[np.int32]
    row_of: NDArray[np.int32]
    slices: tuple[tuple[int, int], ...]
    column_dst: NDArray[np.int32]
    column_slice: NDArray[np.int32]
    _slice_lut: NDArray[np.int32]
    _column_lut: NDArray[np.int32]

    def columns(self, matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the column of each of these cells."""
        dst = self.place[matrix.dst[cells]].astype(np.int64)
        keys = dst * len(self.slices) + self._slice_lut[_slice_keys(matrix, cells)]
        columns: NDArray[np.int32] = self._column_lut[keys]
        return columns


def group_name(endpoint: Endpoint) -> str:
    """Return the group an endpoint is shown in: its namespace, or what stands for one."""
    return GROUP_OF_KIND.get(endpoint.kind, endpoint.namespace)


def axes(matrix: Matrix) -> Axes:
    """Order the endpoints a matrix uses and number its rows and columns."""
    everything = np.arange(len(matrix), dtype=np.int64)
    is_source = np.zeros(len(matrix.endpoints), bool)
    is_source[matrix.src] = True
    used = is_source.copy()
    used[matrix.dst] = True
    order = sorted(np.flatnonzero(used).tolist(), key=lambda i: _order(matrix.endpoints[i]))
    place = np.full(len(matrix.endpoints), -1, np.int32)
    place[order] = np.arange(len(order))
    endpoints = tuple(matrix.endpoints[index] for index in order)
    groups = tuple(dict.fromkeys(group_name(endpoint) for endpoint in endpoints))
    number = {group: index for index, group in enumerate(groups)}
    sources = np.flatnonzero(is_source[order]).astype(np.int32) if order else _empty()
    row_of = np.full(len(endpoints), -1, np.int32)
    row_of[sources] = np.arange(len(sources))

    slice_keys = _slice_keys(matrix, everything)
    slice_lut, present = _number(slice_keys, len(FAMILIES) * max(len(matrix.ports), 1))
    ports = max(len(matrix.ports), 1)
    slices = tuple((int(key) // ports, int(key) % ports) for key in present)
    keys = place[matrix.dst].astype(np.int64) * len(slices) + slice_lut[slice_keys]
    column_lut, columns = _number(keys, len(endpoints) * len(slices))
    return Axes(
        endpoints=endpoints,
        place=place,
        groups=groups,
        group_of=np.array([number[group_name(e)] for e in endpoints], np.int32),
        sources=sources,
        row_of=row_of,
        slices=slices,
        column_dst=(columns // max(len(slices), 1)).astype(np.int32),
        column_slice=(columns % max(len(slices), 1)).astype(np.int32),
        _slice_lut=slice_lut,
        _column_lut=column_lut,
    )


def _order(endpoint: Endpoint) -> tuple[int, str, str, str, str, str]:
    """Sort namespaces first, then nodes, then external addresses; workloads stay together."""
    group = group_name(endpoint)
    rank = LAST_GROUPS.index(group) + 1 if group in LAST_GROUPS else 0
    workload = endpoint.workload or endpoint.name
    return rank, group, endpoint.kind, workload, endpoint.name, endpoint.node


def _slice_keys(matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for the family and port of each of these cells."""
    return matrix.family[cells].astype(np.int64) * len(matrix.ports) + matrix.port[cells]


def _number(keys: NDArray[np.int64], bound: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return where each key below `bound` stands among those in use (-1: nowhere), and those.

    By presence, not by sorting: there are millions of keys and few values.
    """
    present = np.zeros(bound, bool)
    present[keys] = True
    values = np.flatnonzero(present).astype(np.int64)
    lut = np.full(bound, -1, np.int32)
    lut[values] = np.arange(len(values))
    return lut, values


def _empty() -> NDArray[np.int32]:
    """Return no rows."""
    return np.empty(0, np.int32)
