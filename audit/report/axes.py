"""The rows and columns of the page: endpoints in reading order, and the groups they fall into.

Endpoints are ordered by group, then workload, then name, so that what belongs together stands
together. A row is a source; a column is a (destination, family, port) that some cell has. Every
cell of the matrix is in exactly one row and one column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind

GROUP_OF_KIND = {
    EndpointKind.NODE: "(nodes)",
    EndpointKind.INGRESS: "(ingress)",
    EndpointKind.EXTERNAL: "(external)",
}
"""Groups of what is in no namespace; no namespace can have a parenthesis in its name."""
LAST_GROUPS = tuple(GROUP_OF_KIND.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What a cell's coordinates are on the page.

    `endpoints` are those the matrix uses, in page order; `group_of` maps a page index into
    `groups`. `sources` are the page indices of the rows, ascending. `slices` are the (family, port)
    pairs in use, as codes; `column_dst` and `column_slice` are what each column stands for, sorted
    by both.
    """

    endpoints: tuple[Endpoint, ...]
    groups: tuple[str, ...]
    group_of: NDArray[np.int32]
    sources: NDArray[np.int32]
    slices: tuple[tuple[int, int], ...]
    column_dst: NDArray[np.int32]
    column_slice: NDArray[np.int32]


def group_name(endpoint: Endpoint) -> str:
    """Return the group an endpoint is shown in: its namespace, or what stands for one."""
    return GROUP_OF_KIND.get(endpoint.kind, endpoint.namespace)


def reading_order(endpoints: Sequence[Endpoint]) -> NDArray[np.int64]:
    """Return the indices of endpoints in the order in which the page has them."""
    order = sorted(range(len(endpoints)), key=lambda index: _order(endpoints[index]))
    return np.array(order, np.int64)


def axes(
    endpoints: Sequence[Endpoint],
    ports: int,
    sources: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[Axes, NDArray[np.int64]]:
    """Order what a matrix uses; return where on the page each column goes, as indices to take.

    `sources` are indices into `endpoints`, in reading order; a column is (destination, family,
    port) as one number, and they come in any order. Each once.
    """
    width = 2 * max(ports, 1)
    used = np.zeros(len(endpoints), np.bool_)
    used[sources] = used[columns // width] = True
    order = [index for index in reading_order(endpoints).tolist() if used[index]]
    page_index = np.full(len(endpoints), -1, np.int64)
    page_index[order] = np.arange(len(order))
    shown = tuple(endpoints[index] for index in order)
    groups = tuple(dict.fromkeys(group_name(endpoint) for endpoint in shown))
    number = {group: index for index, group in enumerate(groups)}
    slices = np.unique(columns % width)
    keys = page_index[columns // width] * max(len(slices), 1)
    keys += np.searchsorted(slices, columns % width)
    by_column = np.argsort(keys)
    keys = keys[by_column]
    page = Axes(
        endpoints=shown,
        groups=groups,
        group_of=np.array([number[group_name(e)] for e in shown], np.int32),
        sources=page_index[sources].astype(np.int32),
        slices=tuple(divmod(key, max(ports, 1)) for key in slices.tolist()),
        column_dst=(keys // max(len(slices), 1)).astype(np.int32),
        column_slice=(keys % max(len(slices), 1)).astype(np.int32),
    )
    return page, by_column


def _order(endpoint: Endpoint) -> tuple[int, str, str, str, str, str]:
    """Sort namespaces first, then nodes, then external addresses; workloads stay together."""
    group = group_name(endpoint)
    rank = LAST_GROUPS.index(group) + 1 if group in LAST_GROUPS else 0
    workload = endpoint.workload or endpoint.name
    return rank, group, endpoint.kind, workload, endpoint.name, endpoint.node
