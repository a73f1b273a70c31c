"""Where a packet goes on when one trace cannot take it further. Pure.

Five ways on: into the zone behind a remote port, over the underlay to another node's gateway
(`audit.verdict.underlay`), to each backend of a load balancer, by each member of an ECMP choice,
and from the other side of a patch port where the engine cannot go on.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from audit.model.facts import LogicalPort, Owners, Zone
from audit.model.packets import Family, Microflow, Protocol, split_port
from audit.model.tasks import keyed
from audit.model.traces import Hop, HopEnd, TraceTask
from audit.verdict.underlay import NO_UNDERLAY, Underlay, is_pod

_Vip = tuple[str, Protocol, int]

DRAWS_PER_BACKEND = 12
"""Traces per backend until a given one is drawn: it is missed once in e^12 times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHops:
    """Builds the traces that take over. `owners` says whose an address is."""

    zones: Mapping[str, Zone]
    owners: Owners
    underlay: Underlay = NO_UNDERLAY
    _ways: dict[str, dict[str, Hop]] = field(default_factory=dict, compare=False)
    _networks: dict[str, str] = field(default_factory=dict, compare=False)
    _balanced: dict[_Vip, set[str]] = field(default_factory=dict, compare=False)

    def beyond(self, task: TraceTask, hop: Hop) -> TraceTask | None:
        """Return the trace in the zone behind remote port `hop.port`; None when it is not here.

        The transit switch is one switch with a port per zone, known by its tunnel key: there the
        packet enters by the sender's port, from the sender's router to the receiver's. On a network
        of layer 2 the pods' own switch is such a one, and both ports are pods'.
        """
        zone = self.zones[task.zone]
        port, entry = zone.ports.get(hop.port), zone.ports.get(hop.entered)
        if port is None or entry is None or entry.datapath != port.datapath:
            return None
        receiver = self._behind(port)
        if receiver is None:
            return None
        inport = receiver.by_tunnel_key.get((port.datapath, entry.tunnel_key))
        sender = zone.ports.get(entry.peer)
        if inport is None or not port.mac:
            return None
        routed = sender is not None
        flow = replace(
            hop.translated(task.microflow),
            inport=inport.name,
            eth_src=sender.mac if sender is not None and sender.mac else task.microflow.eth_src,
            eth_dst=port.mac,
            ttl=task.microflow.ttl - routed,
        )
        onward = replace(task, zone=receiver.name, microflow=flow, select=0, depth=task.depth + 1)
        return keyed(onward)

    def network_of_pod(self, port: str) -> str | None:
        """Return the network of a pod's port, empty for the default one; None for no pod's.

        It is the one that the pod is audited on, whatever single zones say of a port that they have
        a part of.
        """
        if not self._networks:
            self._networks[""] = ""  # not filled again where no pod has a port
            for zone in self.zones.values():
                pods = (pod.name for pod in zone.ports.values() if pod.is_pod)
                self._networks.update((name, zone.network_of(name)) for name in pods)
            for owners in self.owners.by_network.values():
                self._networks.update(
                    (owner.attachment.port, owner.network)
                    for owner in owners.values()
                    if owner.attachment is not None and is_pod(owner)
                )
        return self._networks.get(port) if port else None

    def networks_of_service(self, flow: Microflow) -> frozenset[str]:
        """Return the networks on which a load balancer has what a packet is addressed to."""
        if not self._balanced:
            for balancer in (b for zone in self.zones.values() for b in zone.load_balancers):
                for address, port, _ in balancer.vips:
                    vip = (address, balancer.protocol, port)
                    self._balanced.setdefault(vip, set()).add(balancer.network)
        return frozenset(self._balanced.get((flow.ip_dst, flow.protocol, flow.dst_port), ()))

    def across(self, task: TraceTask, hop: Hop) -> TraceTask | None:
        """Return the same packet as it comes out at the other side of patch port `hop.port`.

        None where there is no such port.
        """
        ports = self.zones[task.zone].ports
        port = ports.get(hop.port)
        peer = ports.get(port.peer) if port is not None else None
        if peer is None:
            return None
        flow = replace(hop.translated(task.microflow), inport=peer.name)
        return keyed(replace(task, microflow=flow, depth=task.depth + 1))

    def expected(self, task: TraceTask, zone: str) -> TraceTask | None:
        """Return what `beyond` will, should the packet go on unchanged to this other zone.

        So the second half can be traced before the first has been. None where no way, or more than
        one, leads there.
        """
        if task.zone not in self._ways:
            self._ways[task.zone] = self._single_ways(task.zone)
        left = self._ways[task.zone].get(zone)
        return None if left is None else self.beyond(task, left)

    def _single_ways(self, name: str) -> dict[str, Hop]:
        """Return how packets leave a zone for each other one to which a single way leads."""
        ways: dict[str, list[Hop]] = defaultdict(list)
        for zone, hop in self._ways_out(self.zones[name]) if name in self.zones else ():
            ways[zone].append(hop)
        return {zone: hops[0] for zone, hops in ways.items() if len(hops) == 1}

    def _ways_out(self, zone: Zone) -> Iterator[tuple[str, Hop]]:
        """Yield how packets leave a zone, each with the name of the zone that they come to."""
        ports = [port for port in zone.ports.values() if port.datapath not in zone.networks]
        routers = {port.datapath: port.name for port in ports if port.kind == "patch"}
        for port in ports:
            there = self._behind(port) if port.kind == "remote" else None
            if there is not None and port.datapath in routers:
                entered = routers[port.datapath]
                yield there.name, Hop(end=HopEnd.OUTPUT, port=port.name, entered=entered)

    def _behind(self, port: LogicalPort) -> Zone | None:
        """Return the zone in which a remote port is a local one."""
        for zone in self.zones.values():
            there = zone.by_tunnel_key.get((port.datapath, port.tunnel_key))
            if there is not None and there.kind != "remote":
                return zone
        return None

    def lacking(self, task: TraceTask, hop: Hop) -> str:
        """Return the zone that lacks remote port `hop.port`, which is to be there, if one does."""
        port = self.zones[task.zone].ports.get(hop.port)
        if port is None or not port.chassis or self._behind(port) is not None:
            return ""
        return next((z.name for z in self.zones.values() if port.chassis in z.chassis), "")

    def members(self, task: TraceTask, hop: Hop) -> tuple[TraceTask, ...]:
        """Return the same packet once per ECMP member, forced."""
        return tuple(
            keyed(replace(task, select=choice, depth=task.depth + 1)) for choice in hop.choices
        )

    def backends(self, task: TraceTask, hop: Hop) -> tuple[TraceTask, ...]:
        """Return the packet once per backend, addressed to it as the load balancer would."""
        family = task.microflow.family
        legs = []
        for address, port in filter(None, map(split_port, hop.backends)):
            if Family.of(address) is family:
                legs.append(self._backend(task, hop, address, port))
        return tuple(legs)

    def _backend(self, task: TraceTask, hop: Hop, address: str, port: int) -> TraceTask:
        """Return one leg."""
        if address == task.microflow.ip_src:
            return self.to_itself(task, len(hop.backends))
        return self.to_backend(task, address, port)

    def to_itself(self, task: TraceTask, backends: int) -> TraceTask:
        """Return a packet to a Service that has so many, as it comes to its sender, one of them.

        It takes the hairpin, which only the Service's own trace goes through: the sender is drawn
        until it comes up.
        """
        return keyed(
            replace(
                task,
                target=task.microflow.inport,
                draws=DRAWS_PER_BACKEND * backends,
                depth=task.depth + 1,
            )
        )

    def to_backend(self, task: TraceTask, address: str, port: int) -> TraceTask:
        """Return a packet to a Service as its load balancer sends it to another than its sender."""
        owner = self.owners.get(address, task.network)
        attached = owner.attachment if owner is not None else None
        return keyed(
            replace(
                task,
                microflow=replace(task.microflow, ip_dst=address, dst_port=port),
                target=attached.port if attached is not None else "",
                to_service=False,
                depth=task.depth + 1,
            )
        )
