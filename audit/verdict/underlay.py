"""Where a packet goes on that left OVN towards a pod of the cluster. Pure.

Without an overlay (no-overlay, advertised networks) the underlay carries packets between nodes:
each node is the next hop to its pods' subnet, and takes packets in by its gateway or by its host.
What the underlay does is in no database: this is where a packet comes in that it delivers.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from audit.model.endpoints import Attachment, Endpoint, EndpointKind
from audit.model.facts import WayIn, Zone
from audit.model.tasks import keyed
from audit.model.traces import DatapathTask, Hop, TraceTask

_ROUTERS_OUT = 2
"""The cluster router, and the gateway router or the host."""

_Network = tuple[int, int, int]
"""A network: IP version, how many bits follow its prefix, the prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """Finds the node that takes in what is for an address, by the pods' subnets."""

    ways: Mapping[_Network, WayIn]
    shifts: Mapping[int, tuple[int, ...]]
    """By IP version, how many bits follow the prefixes of subnets, fewest first."""

    @classmethod
    def of(cls, ways_in: Iterable[WayIn]) -> "Underlay":
        """Index ways in by subnet."""
        ways: dict[_Network, WayIn] = {}
        shifts: dict[int, set[int]] = defaultdict(set)
        for way in ways_in:
            network = ipaddress.ip_network(way.subnet)
            shift = network.max_prefixlen - network.prefixlen
            shifts[network.version].add(shift)
            ways.setdefault((network.version, shift, int(network.network_address) >> shift), way)
        return cls(ways=ways, shifts={version: tuple(sorted(s)) for version, s in shifts.items()})

    def way_in(self, address: str) -> WayIn | None:
        """Return how a packet for `address` comes to its node; None for one in no pods' subnet."""
        number = ipaddress.ip_address(address)
        networks = (
            (number.version, shift, int(number) >> shift)
            for shift in self.shifts.get(number.version, ())
        )
        return next((self.ways[network] for network in networks if network in self.ways), None)


NO_UNDERLAY = Underlay(ways={}, shifts={})


def is_pod(owner: Endpoint | None) -> bool:
    """Say whether an address is a pod's own, and so inside the cluster wherever it is routed."""
    return owner is not None and owner.kind is EndpointKind.POD and not owner.host_network


def taken_in(
    task: TraceTask, hop: Hop, way: WayIn, entry: Attachment, owner: Endpoint | None
) -> TraceTask:
    """Return the trace at the node that takes in by `entry` what left by `hop`.

    The gateway router routes it on; a host is on its pods' switch, and sends to the pod itself.
    """
    packet = hop.translated(task.microflow)
    to = owner.attachment if owner is not None and way.by_host else None
    on_link = to is not None and entry.on_link(to) and packet.ip_dst in to.addresses
    flow = replace(
        packet,
        inport=entry.port,
        eth_src=entry.mac,
        eth_dst=to.mac if to is not None and on_link else entry.gateway_mac,
        ttl=task.microflow.ttl - _ROUTERS_OUT - way.by_host,
    )
    onward = replace(task, zone=entry.zone, microflow=flow, select=0, depth=task.depth + 1)
    if isinstance(onward, DatapathTask):
        onward = replace(onward, node=way.node, tunnel=None)
    return keyed(onward)


def untranslated(
    task: TraceTask, hop: Hop, zones: Mapping[str, Zone], to: Attachment
) -> TraceTask | None:
    """Return the trace of what a pod's switch does with the packet, had it kept its source.

    There it comes from the router. None where the switch has no port to that.
    """
    zone = zones.get(to.zone)
    ports = zone.ports if zone is not None else {}
    inport = next(
        (
            port
            for port in ports.values()
            if port.datapath == to.switch
            and port.peer in ports
            and ports[port.peer].mac == to.gateway_mac
        ),
        None,
    )
    if inport is None:
        return None
    flow = replace(
        task.microflow,
        inport=inport.name,
        eth_src=to.gateway_mac,
        eth_dst=to.mac,
        ip_dst=hop.ip_dst or task.microflow.ip_dst,
        ttl=task.microflow.ttl - 2 * _ROUTERS_OUT,
    )
    return keyed(replace(task, zone=to.zone, microflow=flow, select=0, depth=task.depth + 1))
