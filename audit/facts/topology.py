"""The zones' databases, indexed the ways Kubernetes objects are looked up in them.

A pod's port is the one whose `external_ids` name the pod's namespace, and on another network than
the default one the attachment, and whose name ends in the pod's; a node's switch is the one that
has the node's subnets; the router on a switch is the patch peer that has an address there. No name
is composed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.facts.addresses import Network as Subnet
from audit.facts.addresses import network, networks
from audit.facts.kube import NodeFacts
from audit.model.endpoints import Attachment, Endpoint, EndpointKind
from audit.model.facts import LogicalPort, WayIn, Zone
from audit.model.networks import STRETCHED, Network

OUTSIDE_MAC = "02:00:5e:00:53:01"
"""What stands for the router outside: a locally administered address, as the first hop's MAC is
not in any database and no logical flow matches on it."""

NOBODYS_MAC = "02:00:5e:00:53:02"
"""What stands for the router of a network that has none, likewise: no port has it."""

_ROUTER_KINDS = frozenset({"patch", "l3gateway"})

Place = tuple[str, str]
"""A logical switch: (zone, name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Where pods and nodes are in OVN. Every index is made once, for a thousand nodes."""

    zones: Mapping[str, Zone]
    pod_ports: Mapping[tuple[str, str], tuple[tuple[str, LogicalPort], ...]]
    """(namespace, name) → (zone, port) on the default network: one, unless a database is behind."""
    other_ports: Mapping[tuple[str, str], tuple[tuple[str, LogicalPort], ...]]
    """The same of user-defined networks: one for each network that the pod is on."""
    attached: Mapping[str, Network]
    """The network that each network attachment definition leads to."""
    ports_at: Mapping[Place, tuple[LogicalPort, ...]]
    switch_of_node: Mapping[str, Place]
    gateway_macs: Mapping[Place, str]

    @classmethod
    def of(cls, zones: Mapping[str, Zone], nodes: Iterable[NodeFacts]) -> "Topology":
        """Index the zones."""
        pod_ports: dict[tuple[str, str], list[tuple[str, LogicalPort]]] = defaultdict(list)
        other_ports: dict[tuple[str, str], list[tuple[str, LogicalPort]]] = defaultdict(list)
        attached: dict[str, Network] = {}
        ports_at: dict[Place, list[LogicalPort]] = defaultdict(list)
        for zone in zones.values():
            for port in zone.ports.values():
                ports_at[zone.name, port.datapath].append(port)
                if not port.is_pod:
                    continue
                if port.nad and port.datapath in zone.networks:
                    attached[port.nad] = zone.networks[port.datapath]
                # A remote pod of a stretched network has a port of type `remote` here.
                if port.kind == "":
                    pod = port.name.rpartition("_")[2]  # no pod has an underscore in its name
                    of_network = other_ports if port.nad else pod_ports
                    of_network[port.namespace, pod].append((zone.name, port))
        return cls(
            zones=zones,
            pod_ports={key: tuple(ports) for key, ports in pod_ports.items()},
            other_ports={key: tuple(ports) for key, ports in other_ports.items()},
            attached=attached,
            ports_at={datapath: tuple(ports) for datapath, ports in ports_at.items()},
            switch_of_node=_switches_of_nodes(zones, nodes),
            gateway_macs=_gateway_macs(zones, ports_at),
        )

    def pod_port(self, namespace: str, name: str, node: str) -> tuple[str, LogicalPort] | None:
        """Return a pod's zone and port, by preference the one on its node's own switch."""
        ports = self.pod_ports.get((namespace, name), ())
        home = self.switch_of_node.get(node)
        at_home = [(zone, port) for zone, port in ports if (zone, port.datapath) == home]
        return next(iter([*at_home, *ports]), None)

    def port_on(self, namespace: str, name: str, nad: str) -> tuple[str, LogicalPort] | None:
        """Return a pod's zone and port by which it is attached to a user-defined network."""
        ports = self.other_ports.get((namespace, name), ())
        return next(((zone, port) for zone, port in ports if port.nad == nad), None)

    def attachment(self, zone: str, port: LogicalPort) -> Attachment | None:
        """Return how a port's packets reach the rest; None when its switch has no router.

        A user-defined network may have none. What is sent off-link there is sent to nobody.
        """
        network = self.zones[zone].networks.get(port.datapath)
        stretched = network is not None and network.topology in STRETCHED
        nobody = None if network is None else NOBODYS_MAC
        gateway = self.gateway_macs.get((zone, port.datapath), nobody)
        if gateway is None or not port.mac:
            return None
        return Attachment(
            zone=zone,
            switch=port.datapath,
            port=port.name,
            mac=port.mac,
            gateway_mac=gateway,
            addresses=port.addresses,
            segment=port.datapath if stretched else "",
        )

    def host_attachment(self, node: NodeFacts) -> Attachment | None:
        """Return how a node's host reaches OVN: by its management port."""
        home = self.switch_of_node.get(node.name)
        port = _management_port(node, self.ports_at.get(home, ())) if home else None
        return self.attachment(home[0], port) if home and port else None

    def gateways(self, nodes: Iterable[NodeFacts]) -> dict[str, Endpoint]:
        """Map each node to the way packets from outside enter at it: its localnet port.

        The gateway router beside that port has one of the node's own addresses, and so has every
        user-defined network's there: it is the default network's.
        """
        owners = {address: node.name for node in nodes for address in node.addresses}
        gateways = {}
        for (zone, switch), ports in self.ports_at.items():
            localnet = next((port for port in ports if port.kind == "localnet"), None)
            router = next(_routers(self.zones[zone], ports), None) if localnet else None
            if localnet is None or router is None:
                continue
            if not self.zones[zone].networks.keys().isdisjoint({switch, router.datapath}):
                continue
            node = _owner_of(router, owners)
            if node:
                gateways[node] = _gateway(node, (zone, switch), localnet, router)
        return dict(sorted(gateways.items()))

    def ways_in(self, nodes: Iterable[NodeFacts]) -> tuple[WayIn, ...]:
        """Return how each node takes in what the underlay brings for its pods.

        A host that its pods' packets leave by (local gateway mode) also routes what is for them.
        """
        nodes = tuple(nodes)
        gateways = self.gateways(nodes)
        ways = []
        for node in nodes:
            name, switch = self.switch_of_node.get(node.name, ("", ""))
            zone = self.zones[name] if name else None
            host, gateway = self.host_attachment(node), gateways.get(node.name)
            port = gateway.attachment if gateway is not None else None
            subnets = zone.switches[switch] if zone is not None else ()
            for subnet in networks((*subnets, *node.subnets, *node.hybrid_subnets)):
                by_host = zone is not None and _sends_by(zone, subnet, host)
                way = host if by_host else port if zone is not None else None
                ways.append(WayIn(subnet=str(subnet), node=node.name, port=way, by_host=by_host))
        return tuple(dict.fromkeys(ways))


def _sends_by(zone: Zone, subnet: Subnet, host: Attachment | None) -> bool:
    """Say whether what a subnet's pods send to the outside is routed to the host."""
    addresses = host.addresses if host is not None else ()
    return any(to in addresses and network(of) == subnet for of, to in zone.source_routes)


def _owner_of(router: LogicalPort, owners: Mapping[str, str]) -> str:
    """Return the node that has an address of a router's port; empty where none has."""
    bare = (address.partition("/")[0] for address in router.addresses)
    return next((owners[address] for address in bare if address in owners), "")


def _gateway(node: str, where: Place, localnet: LogicalPort, router: LogicalPort) -> Endpoint:
    attachment = Attachment(
        zone=where[0],
        switch=where[1],
        port=localnet.name,
        mac=OUTSIDE_MAC,
        gateway_mac=router.mac,
        addresses=(),
    )
    return Endpoint(kind=EndpointKind.EXTERNAL, name="", node=node, attachment=attachment)


def _routers(zone: Zone, ports: Iterable[LogicalPort]) -> Iterator[LogicalPort]:
    """Yield the router ports that a switch's ports are patched to."""
    return (
        zone.ports[port.peer]
        for port in ports
        if port.kind in _ROUTER_KINDS and port.peer in zone.ports
    )


def _gateway_macs(
    zones: Mapping[str, Zone], ports_at: Mapping[Place, Sequence[LogicalPort]]
) -> dict[Place, str]:
    """Map each switch to the MAC of its router: of the peer that has an address in it."""
    macs = {}
    for zone in zones.values():
        for switch, subnets in zone.switches.items():
            routers = list(_routers(zone, ports_at.get((zone.name, switch), ())))
            inside = networks(subnets)
            there = [router for router in routers if _has_address_in(router, inside)]
            if there or len(routers) == 1:
                macs[zone.name, switch] = (there or routers)[0].mac
    return macs


def _has_address_in(router: LogicalPort, subnets: Iterable[Subnet]) -> bool:
    addresses = networks(address.partition("/")[0] for address in router.addresses)
    return any(
        address.network_address in inside
        for inside in subnets
        for address in addresses
        if address.version == inside.version
    )


def _switches_of_nodes(zones: Mapping[str, Zone], nodes: Iterable[NodeFacts]) -> dict[str, Place]:
    """Map each node to the switch that has one of its subnets; without annotation, its namesake."""
    by_subnet: dict[Subnet, Place] = {}
    by_name: dict[str, Place] = {}
    for zone in zones.values():
        for switch, subnets in zone.switches.items():
            if switch in zone.networks:
                continue
            by_name.setdefault(switch, (zone.name, switch))
            for subnet in networks(subnets):
                by_subnet.setdefault(subnet, (zone.name, switch))
    switches = {}
    for node in nodes:
        wanted = networks(node.subnets)
        named = by_name.get(node.name) if not wanted else None
        home = next((by_subnet[s] for s in wanted if s in by_subnet), named)
        if home is not None:
            switches[node.name] = home
    return switches


def _management_port(node: NodeFacts, ports: Sequence[LogicalPort]) -> LogicalPort | None:
    """Find the host's own port on its switch: by the annotated MAC, else the only one left."""
    hosts = [port for port in ports if port.kind == "" and not port.is_pod and port.addresses]
    annotated = [port for port in hosts if port.mac in node.management_macs]
    candidates = annotated or hosts
    return candidates[0] if len(candidates) == 1 else None
