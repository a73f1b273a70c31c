"""The ranges of ports that nothing in force tells apart, by destination."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audit.model.endpoints import MAX_PORT, Endpoint, EndpointKind, Port
from audit.model.packets import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpace:
    """Where the ports of each protocol change what is decided.

    `cuts` are the first ports of ranges, for every destination; `of_address` those that load
    balancers add at an address, `of_nodes` at every node's.
    """

    cuts: Mapping[Protocol, frozenset[int]]
    of_address: Mapping[str, Mapping[Protocol, frozenset[int]]]
    of_nodes: Mapping[Protocol, frozenset[int]]

    def at(self, endpoint: Endpoint, protocol: Protocol) -> tuple[Port, ...]:
        """Return all ports of a protocol at a destination, as ranges in order."""
        cuts = {0} | self.cuts.get(protocol, frozenset())
        if endpoint.kind is not EndpointKind.POD:
            for address in endpoint.addresses:
                cuts |= self.of_address.get(address, {}).get(protocol, frozenset())
        if endpoint.kind is EndpointKind.NODE:
            cuts |= self.of_nodes.get(protocol, frozenset())
        if endpoint.kind is EndpointKind.SERVICE:  # a headless one has no load balancer
            numbers = {p.port.number for p in endpoint.declared if p.port.protocol is protocol}
            cuts |= numbers | {number + 1 for number in numbers}
        return ranges(protocol, cuts)


NO_SPACE = PortSpace(cuts={}, of_address={}, of_nodes={})
"""Nothing tells any port apart."""


def ranges(protocol: Protocol, cuts: Iterable[int]) -> tuple[Port, ...]:
    """Return the ranges that begin at `cuts`, of which 0 is one; the last ends at 65535."""
    starts = sorted(cut for cut in cuts if cut <= MAX_PORT)
    ends = [*(start - 1 for start in starts[1:]), MAX_PORT]
    return tuple(
        Port(protocol=protocol, number=first, last=last)
        for first, last in zip(starts, ends, strict=True)
    )
