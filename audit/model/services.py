"""Cells to Services that few traces decide: whose packets are alike up to the load balancer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import Matrix
from audit.model.packets import Protocol

_SPREADING = np.int64(2_654_435_761)
"""A multiple of it is anywhere (Knuth, "The Art of Computer Programming", 6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCells:
    """Cells from pods to Services' addresses, of one `LegPlan`, that traces of others may decide.

    `cells` are indices into the run's matrix, sorted; `group[i]` numbers the packets that are alike
    to that of `cells[i]` until a load balancer takes them. What it sends is decided by legs, whose
    tables are over the endpoints and ports of `matrix`: the run's, then those behind Services that
    the run does not ask about. `behind` finds endpoints there by address, `ports` their ports.
    """

    legs: int
    """Which of the run's leg plans."""
    matrix: Matrix
    cells: NDArray[np.int64]
    group: NDArray[np.int32]
    behind: Mapping[str, int]
    ports: Mapping[tuple[Protocol, int], int]
    sent: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """To whom groups are sent, endpoints and ports, where no trace has to tell: headless ones."""
    listed: Mapping[int, frozenset[tuple[int, int]]] = field(default_factory=dict)
    """By group, the endpoints and ports to which packets of all its cells have legs."""
    routed: bool = True
    """What the load balancer sends on goes by the router; what a sender sends itself, directly."""

    def asked(self) -> NDArray[np.int64]:
        """Return a cell of each group of which a trace has to tell to whom it is sent.

        Not of a sender that is behind the Service itself, if there is another: what it sends to
        itself is another packet. Senders are drawn, so that the traces begin on all nodes.
        """
        src = self.matrix.src[self.cells].astype(np.int64)
        count = len(self.matrix.endpoints)
        own = [g * count + end for g, ends in self.listed.items() for end, _ in ends]
        itself = np.isin(self.group.astype(np.int64) * count + src, own)
        groups, chosen = self._drawn(np.flatnonzero(~itself))
        others, also = self._drawn(np.flatnonzero(~np.isin(self.group, groups)))
        told = np.isin(np.concatenate([groups, others]), list(self.sent))
        asked: NDArray[np.int64] = self.cells[np.concatenate([chosen, also])[~told]]
        return asked

    def _drawn(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the groups of these cells, by place, and one of each; the same ones each time."""
        order = places[np.argsort(self.group[places], kind="stable")]
        groups, first, counts = np.unique(self.group[order], return_index=True, return_counts=True)
        return groups, order[first + groups * _SPREADING % counts]

    def receiver(self, address: str, protocol: Protocol, port: int) -> tuple[int, int] | None:
        """Return the endpoint with an address, and a port, as indices; None for no known ones."""
        endpoint, index = self.behind.get(address), self.ports.get((protocol, port))
        return None if endpoint is None or index is None else (endpoint, index)
