"""Transit legs: which pairs of places routers tell apart. Pure.

Between two pods' switches every pair is a way of its own. A node's own address is behind no
switch, and most nodes' addresses are to a zone's routers one like the other: nothing in the zone
names them, and they leave by the gateway. Such share a way, from each sender.
"""

import functools
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint
from audit.model.facts import Zone
from audit.model.packets import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Numbers, by endpoint, of where it sends from, is sent to, and is answered at.

    The endpoints of a place are alike to every router policy.
    """

    sending: NDArray[np.int64]
    receiving: NDArray[np.int64]
    answered: NDArray[np.int64]


def ways(
    endpoints: Sequence[Endpoint], zones: Mapping[str, Zone], family: Family, places: Places
) -> NDArray[np.int64]:
    """Return the transit leg of each pair of places, shape (senders, receivers)."""
    senders = _count(places.sending)
    receivers = max(_count(places.receiving), _count(places.answered))
    zone_of = {int(place): _zone(e) for place, e in zip(places.sending, endpoints, strict=True)}
    nodes = {
        int(place): endpoint.address(family) or ""
        for place, endpoint in zip(places.receiving, endpoints, strict=True)
        if endpoint.host_network
    }
    named = {name: _Named(_mentioned(zone), family) for name, zone in zones.items()}
    found = np.empty((senders, receivers), dtype=np.int64)
    numbers: dict[tuple[int, object], int] = {}
    for sender in range(senders):
        seen = named.get(zone_of[sender])
        for receiver in range(receivers):
            alike: object = receiver
            if seen is not None and receiver in nodes:
                alike = seen.containing(nodes[receiver])
            found[sender, receiver] = numbers.setdefault((sender, alike), len(numbers))
    return found


def _mentioned(zone: Zone) -> Iterator[str]:
    """Yield what a zone's routers can look at; a template's VIP is a variable, and of its node."""
    yield from zone.routed
    for balancer in zone.load_balancers:
        yield from (address for address, _, _ in balancer.vips if not balancer.template)


class _Named:
    """The addresses and networks that a zone's routers can look at."""

    def __init__(self, routed: Iterable[str], family: Family) -> None:
        self._networks: dict[int, set[int]] = defaultdict(set)
        self._bits = family.bits
        self._known: dict[str, frozenset[tuple[int, int]]] = {}
        for network in map(_network, routed):
            if network.version == (6 if family is Family.IP6 else 4):
                shift = self._bits - network.prefixlen
                self._networks[shift].add(int(network.network_address) >> shift)

    def containing(self, address: str) -> frozenset[tuple[int, int]]:
        """Return those that contain an address: addresses with the same are treated alike."""
        if address not in self._known:
            number = int(ipaddress.ip_address(address)) if address else -1
            self._known[address] = frozenset(
                (shift, number >> shift)
                for shift, networks in self._networks.items()
                if number >> shift in networks
            )
        return self._known[address]


@functools.lru_cache(maxsize=1 << 16)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _zone(endpoint: Endpoint) -> str:
    return endpoint.attachment.zone if endpoint.attachment is not None else ""


def _count(places: NDArray[np.int64]) -> int:
    return int(places.max(initial=-1)) + 1
