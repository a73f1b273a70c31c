"""A finished run whose cells stay on disk: what comparing and checking see of it.

Two runs of a large cluster have 200 million cells between them, so nobody holds them: cells are
read source by source, or some at a time in their order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Protocol

import numpy as np

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Policy
from audit.model.matrix import Cells, Counted
from audit.model.verdicts import Blame

Spans = tuple[tuple[int, int, int], ...]
"""Stretches of addresses, in order: the version of IP, the first and the last as numbers."""


def spans(manifest: Mapping[str, Any], endpoint: Endpoint) -> Spans:
    """Return the addresses an external endpoint of a run is, by its run.json; none of any other."""
    if endpoint.kind is not EndpointKind.EXTERNAL:
        return ()
    texts = (manifest.get("outside") or {}).get(endpoint.name)
    if texts is None:
        texts = [(address, address) for address in endpoint.addresses]
    ends = [(ip_address(first), ip_address(last)) for first, last in texts]
    return tuple((first.version, int(first), int(last)) for first, last in ends)


class CellReader(Protocol):
    """Reads a run's cells from disk; `blames` grows as they are read."""

    @property
    def blames(self) -> Sequence[Blame]:
        """Who decided, as far as a cell names it: policy, direction and rule."""
        ...

    def of_source(self, source: int) -> Cells:
        """Return the cells of one source, by its place in the endpoints. Cheapest in order."""
        ...

    def __len__(self) -> int:
        """Return how many cells there are."""
        ...

    def __iter__(self) -> Iterator[Cells]:
        """Yield all cells in order, about a million at a time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A finished run with its cells on disk. `manifest` is run.json as read."""

    path: str
    manifest: Mapping[str, Any]
    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    policies: tuple[Policy, ...]
    cells: CellReader

    def counted(self) -> Counted:
        """Count its cells, which are read for it."""
        counts = np.zeros(1 << 16, np.int64)
        for part in self.cells:
            some = Counted.of(part.verdict, part.reason)
            counts[some.verdict.astype(np.int64) << 8 | some.reason] += some.cells
        return Counted.by_key(counts)

    @property
    def name(self) -> str:
        """The run's id."""
        return str(self.manifest.get("run_id", self.path))

    def spans(self, endpoint: Endpoint) -> Spans:
        """Return the addresses an external endpoint is; none of any other."""
        return spans(self.manifest, endpoint)

    def namespace_labels(self, namespace: str) -> Mapping[str, str]:
        """Return the labels of a namespace, as far as the run says them."""
        recorded = self.manifest.get("labels") or {}
        labels: Mapping[str, str] = recorded.get("namespaces", {}).get(namespace, {})
        return labels
