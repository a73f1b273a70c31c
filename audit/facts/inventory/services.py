"""Load balancers beside Services and their EndpointSlices. Pure.

Where a traffic policy is `Local`, a node's load balancer may have the node's own backends only;
which of a node's load balancers has which depends on where it is in force.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from audit.facts.fields import Field
from audit.facts.inventory.cluster import Cluster, family_of, in_zones, listed, plain
from audit.facts.kube import Object
from audit.model.findings import FindingKind
from audit.model.inventory import Balancer, Difference, Effect
from audit.model.packets import with_port
from audit.model.policies import Direction

Backend = tuple[str, int]
"""(address, port)."""
Vip = tuple[str, str, int]
"""(protocol, address, port)."""

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_PRIMARY = "k8s.ovn.org/primary-user-defined-network"
"""The label of namespaces whose Services are load-balanced in a user-defined network."""
_LOCAL_FIRST = "local-with-fallback"
"""How OpenShift marks Services, DNS among them, of which a node may prefer its own endpoints."""
_MASQUERADE = ("169.254.", "fd69::")
"""What OVN-Kubernetes puts for a host's own address, so that it can be a backend of its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint behind a port of a Service."""

    address: str
    port: int
    node: str
    ready: bool
    serving: bool
    """Being deleted, and still answering: used where nothing is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service; `name` ties it to its slices' ports."""

    protocol: str
    name: str
    number: int
    node_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A Service as far as load balancers are made of it."""

    namespace: str
    name: str
    cluster_ips: tuple[str, ...]
    outside: tuple[str, ...]
    """External addresses and those of its cloud load balancer."""
    ports: tuple[ServicePort, ...]
    internal_local: bool
    external_local: bool
    not_ready_too: bool
    local_first: bool
    targets: Mapping[tuple[str, int], tuple[Target, ...]] = field(default_factory=dict)
    """By (protocol, the Service's port)."""


def declared(item: Object, slices: Iterable[Object]) -> Declared | None:
    """Read a Service; None for a headless one or an ExternalName, which have no load balancer."""
    root = Field(item)
    spec = root["spec"]
    written = [*spec["clusterIPs"].each()] or [spec["clusterIP"]]
    ips = tuple(plain(ip.text()) for ip in written if ip.value not in (None, "", "None"))
    if spec["type"].text() == "ExternalName" or not ips:
        return None
    ports = tuple(_ports(spec))
    return Declared(
        namespace=root["metadata"]["namespace"].required(),
        name=root["metadata"]["name"].required(),
        cluster_ips=ips,
        outside=tuple(_outside(root)),
        ports=ports,
        internal_local=spec["internalTrafficPolicy"].text() == "Local",
        external_local=spec["externalTrafficPolicy"].text() == "Local",
        not_ready_too=spec["publishNotReadyAddresses"].flag(),
        local_first=any(_LOCAL_FIRST in key for key in root["metadata"]["annotations"].mapping()),
        targets={key: tuple(targets) for key, targets in _targets(ports, slices).items()},
    )


def _outside(root: Field) -> Iterator[str]:
    """Yield a Service's external addresses, and those that its cloud load balancer has."""
    ingress = (entry["ip"] for entry in root["status"]["loadBalancer"]["ingress"].each())
    for address in (*root["spec"]["externalIPs"].each(), *ingress):
        if address.text():
            yield plain(address.text())


def _ports(spec: Field) -> Iterator[ServicePort]:
    for port in spec["ports"].each():
        protocol = port["protocol"].text("TCP").lower()
        if protocol in _PROTOCOLS:
            yield ServicePort(
                protocol=protocol,
                name=port["name"].text(),
                number=port["port"].number(),
                node_port=port["nodePort"].number() if port["nodePort"].value is not None else 0,
            )


def _targets(
    ports: Sequence[ServicePort], slices: Iterable[Object]
) -> dict[tuple[str, int], list[Target]]:
    """Return what is behind each port: a slice's port belongs to that of its name and protocol."""
    targets: dict[tuple[str, int], list[Target]] = defaultdict(list)
    numbers = {(port.name, port.protocol): port.number for port in ports}
    for root in map(Field, slices):
        if root["addressType"].text() not in ("IPv4", "IPv6"):
            continue
        served = [
            (protocol, number, port["port"].number())
            for port in root["ports"].each()
            if port["port"].value is not None
            and (protocol := port["protocol"].text("TCP").lower()) in _PROTOCOLS
            and (number := numbers.get((port["name"].text(), protocol))) is not None
        ]
        for endpoint in root["endpoints"].each():
            for address in [*endpoint["addresses"].each()][:1]:
                for protocol, number, port in served:
                    targets[protocol, number].append(_target(endpoint, address, port))
    return targets


def _target(endpoint: Field, address: Field, port: int) -> Target:
    conditions = endpoint["conditions"]
    return Target(
        address=plain(address.text()),
        port=port,
        node=endpoint["nodeName"].text(),
        ready=conditions["ready"].flag(default=True),
        serving=conditions["serving"].flag() and conditions["terminating"].flag(),
    )


class Balancers:
    """Compares load balancers with the Services that they are of."""

    def __init__(self, cluster: Cluster, services: Iterable[Declared], *, sliced: bool) -> None:
        """`sliced` tells whether the EndpointSlices are known; else only VIPs are compared."""
        self._cluster = cluster
        self._services = {f"{service.namespace}/{service.name}": service for service in services}
        self._sliced = sliced
        self._families = {family_of(s) for node in cluster.nodes for s in node.subnets}
        self._other_network = frozenset(
            {pod.namespace for pod in cluster.pods if pod.primary_network}
            | {name for name, labels in cluster.namespaces.items() if _PRIMARY in dict(labels)}
        )

    def differences(self) -> Iterator[Difference]:
        """Yield VIPs with other backends than they should have, of no Service, and missing."""
        there: dict[Balancer, list[str]] = defaultdict(list)
        vips: dict[str, dict[str, set[Vip]]] = defaultdict(lambda: defaultdict(set))
        for zone in self._cluster.zones.values():
            for balancer in zone.stock.balancers:
                there[balancer].append(zone.name)
                for address, port, _ in balancer.vips:
                    vip = (str(balancer.protocol), plain(address), port)
                    vips[balancer.owner][zone.name].add(vip)
        wrong: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for balancer, zones in there.items():
            for shown, text in self._wrong(balancer, zones):
                wrong[balancer.owner, shown, text] |= set(zones)
        yield from self._as_differences(wrong)
        yield from self._absent(vips)

    def _as_differences(
        self, wrong: Mapping[tuple[str, str, str], set[str]]
    ) -> Iterator[Difference]:
        for (owner, _, text), zones in sorted(wrong.items()):
            yield Difference(
                kind=FindingKind.LOAD_BALANCER_DIFFERS,
                text=f"service {owner} {in_zones(sorted(zones))}: {text}",
                zones=tuple(sorted(zones)),
                about=frozenset({f"service {owner}"}),
                effects=_effects(owner),
            )

    def _wrong(self, balancer: Balancer, zones: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield (VIP, what is wrong with it) of a load balancer."""
        service = self._services.get(balancer.owner)
        namespace = balancer.owner.partition("/")[0]
        if namespace in self._other_network:
            return
        protocol = str(balancer.protocol)
        for address, port, backends in balancer.vips:
            shown = with_port(address, port)
            if service is None:
                if namespace not in self._cluster.unlisted:
                    yield shown, f"the load balancer has {shown}, and Kubernetes no such Service"
                continue
            served = self._served(service, protocol, plain(address), port)
            if served is None:
                yield shown, f"the load balancer has {protocol} {shown}, which the Service has not"
            elif self._sliced:
                text = self._backends(service, balancer, served, address, backends, zones)
                if text:
                    yield shown, f"the load balancer of {protocol} {shown} {text}"

    def _served(
        self, service: Declared, protocol: str, address: str, port: int
    ) -> ServicePort | None:
        """Return the port of a Service that a VIP is for; any address may be a node's."""
        candidates = [candidate for candidate in service.ports if candidate.protocol == protocol]
        if address in (*service.cluster_ips, *service.outside):
            return next((candidate for candidate in candidates if candidate.number == port), None)
        return next((candidate for candidate in candidates if candidate.node_port == port), None)

    def _backends(
        self,
        service: Declared,
        balancer: Balancer,
        served: ServicePort,
        address: str,
        backends: Sequence[str],
        zones: Sequence[str],
    ) -> str:
        """Say which backends a VIP has and which it should have; nothing where they agree."""
        family = _family(address)
        targets = [
            target
            for target in service.targets.get((served.protocol, served.number), ())
            if family_of(target.address) == family
        ]
        accepted = self._accepted(service, balancer, targets, address, zones)
        for has in self._expanded(backends, zones):
            if accepted and not any(self._same(has, allowed, zones) for allowed in accepted):
                nearest = min(accepted, key=lambda allowed: len(allowed ^ has))
                return _differing(has - nearest, nearest - has)
        return ""

    def _expanded(
        self, backends: Sequence[str], zones: Sequence[str]
    ) -> Iterator[frozenset[Backend]]:
        """Yield the backends, with the values of template variables for each chassis."""
        if not any(text.startswith("^") for text in backends):
            yield frozenset(map(_backend, backends))
            return
        for zone in zones:
            values = self._cluster.zones[zone].stock.variables
            for text in backends:
                for value in values.get(text.removeprefix("^"), ()):
                    yield frozenset(_backend(backend) for backend in value.split(",") if backend)

    def _accepted(
        self,
        service: Declared,
        balancer: Balancer,
        targets: Sequence[Target],
        address: str,
        zones: Sequence[str],
    ) -> list[frozenset[Backend]]:
        """Return the sets of backends that a VIP may have."""
        everywhere = _eligible(targets, service)
        internal = plain(address) in service.cluster_ips
        is_local = service.internal_local if internal else service.external_local
        if not (is_local or service.local_first):
            return [everywhere]
        local = [
            _eligible([target for target in targets if target.node == node], service)
            for node in self._cluster.nodes_of(zones)
        ]
        if internal and is_local and balancer.on_switch != balancer.on_router:
            return local if balancer.on_switch else [everywhere]
        return [everywhere, *local]

    def _same(
        self, has: frozenset[Backend], wanted: frozenset[Backend], zones: Sequence[str]
    ) -> bool:
        """Whether two sets of backends are the same, a host's own address being masqueraded."""
        if has == wanted:
            return True
        masked = {(a, port) for a, port in has if a.startswith(_MASQUERADE)}
        if not masked:
            return False
        lacking = wanted - has
        return (
            has - masked <= wanted
            and {address for address, _ in lacking} <= self._host_addresses(zones)
            and {port for _, port in lacking} == {port for _, port in masked}
        )

    def _host_addresses(self, zones: Sequence[str]) -> set[str]:
        nodes = set(self._cluster.nodes_of(zones))
        return {
            plain(address)
            for node in self._cluster.nodes
            if node.name in nodes
            for address in node.host_addresses
        }

    def _absent(self, vips: Mapping[str, Mapping[str, set[Vip]]]) -> Iterator[Difference]:
        """Yield the Services of which a zone has no load balancer at one of their addresses.

        A ClusterIP is in every zone; whether other addresses are depends on the gateways' mode, so
        of those only what some zones have and others do not.
        """
        zones = {z for z, zone in self._cluster.zones.items() if zone.stock.balancers}
        for owner, service in sorted(self._services.items()):
            if service.namespace in self._other_network:
                continue
            by_zone = vips.get(owner, {})
            for port in service.ports:
                yield from self._addresses(owner, port, by_zone, zones)
                yield from self._node_port(owner, port, by_zone, zones)

    def _addresses(
        self, owner: str, port: ServicePort, by_zone: Mapping[str, set[Vip]], zones: set[str]
    ) -> Iterator[Difference]:
        service = self._services[owner]
        for address in (*service.cluster_ips, *service.outside):
            if family_of(address) not in self._families:
                continue
            vip = (port.protocol, address, port.number)
            without = sorted(zone for zone in zones if vip not in by_zone.get(zone, ()))
            everywhere = address in service.cluster_ips or len(without) < len(zones)
            if without and everywhere:
                yield _missing(owner, f"{port.protocol} {with_port(address, port.number)}", without)

    def _node_port(
        self, owner: str, port: ServicePort, by_zone: Mapping[str, set[Vip]], zones: set[str]
    ) -> Iterator[Difference]:
        if not port.node_port:
            return
        has = {
            zone
            for zone, vips in by_zone.items()
            if any(vip[0] == port.protocol and vip[2] == port.node_port for vip in vips)
        }
        if has and has < zones:
            without = sorted(zones - has)
            yield _missing(owner, f"its NodePort {port.protocol} {port.node_port}", without)


def _missing(owner: str, shown: str, zones: Sequence[str]) -> Difference:
    """Return the difference that a service's address is in no load balancer of these zones."""
    return Difference(
        kind=FindingKind.LOAD_BALANCER_DIFFERS,
        text=f"service {owner} {in_zones(zones)}: no load balancer has {shown}",
        zones=tuple(zones),
        about=frozenset({f"service {owner}"}),
        effects=_effects(owner),
    )


def _eligible(targets: Sequence[Target], service: Declared) -> frozenset[Backend]:
    """Return the backends that are used: the ready ones, else those that still answer."""
    ready = [target for target in targets if target.ready or service.not_ready_too]
    used = ready or [target for target in targets if target.serving]
    return frozenset((target.address, target.port) for target in used)


def _effects(owner: str) -> tuple[Effect, ...]:
    return (Effect(direction=Direction.INGRESS, pods=frozenset({f"service {owner}"})),)


def _backend(text: str) -> Backend:
    address, _, port = text.rpartition(":")
    return plain(address.strip("[]")), int(port) if port.isdigit() else 0


def _family(address: str) -> str:
    """Return the family of a VIP; of a template variable's the family in its name."""
    if address.startswith("^"):
        return "v6" if "IPv6" in address else "v4"
    return family_of(address)


def _shown(backends: Iterable[Backend]) -> str:
    return listed([with_port(address, port) for address, port in sorted(backends)])


def _differing(extra: Collection[Backend], missing: Collection[Backend]) -> str:
    """Say which backends a load balancer has and the EndpointSlices do not, and which it lacks."""
    parts = []
    if extra:
        parts.append(f"has {_shown(extra)}, which the EndpointSlices do not have")
    if missing:
        parts.append(
            f"lacks {_shown(missing)}, which they have"
            if extra
            else f"lacks {_shown(missing)} of the EndpointSlices"
        )
    return ", and ".join(parts)
