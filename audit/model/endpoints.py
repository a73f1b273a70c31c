"""Endpoints: what can be a row or a column of the matrix."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from audit.model.networks import DEFAULT, Role
from audit.model.packets import Family, Protocol

MAX_PORT = 65535


class EndpointKind(StrEnum):
    """The kinds of endpoint, as the `cells` columns spell them.

    INGRESS is an object that leads from outside to pods: an Ingress, a Route, a route of the
    Gateway API. It only sends, and stands for the controller that does.
    """

    POD = "pod"
    SERVICE = "service"
    NODE = "node"
    EXTERNAL = "external"
    INGRESS = "ingress"


LIKE_PODS = frozenset({EndpointKind.POD, EndpointKind.INGRESS})
"""Kinds that policies select as pods, unless they are in the host network."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Port:
    """A protocol and a port number, or a range of them: the last two coordinates of a cell.

    Of a range, `number` is the first port and `last` the last, and nothing tells its ports apart:
    what is true of `sample` is true of all. `last` is 0 where there is only one.
    """

    protocol: Protocol
    number: int
    last: int = 0

    def __post_init__(self) -> None:
        if self.last == self.number:
            object.__setattr__(self, "last", 0)
        if self.last and not 0 <= self.number < self.last <= MAX_PORT:
            raise ValueError(f"{self.number}-{self.last} is no range of ports")
        if not self.last and not 0 <= self.number <= MAX_PORT:
            raise ValueError(f"port {self.number} is not between 0 and {MAX_PORT}")
        if self.protocol is Protocol.ICMP and (self.number or self.last):
            raise ValueError("icmp has no ports")

    @property
    def sample(self) -> int:
        """The port that is traced: a range's last, since its first may be 0, which nothing uses."""
        return self.last or self.number

    def __contains__(self, number: int) -> bool:
        return self.number <= number <= self.sample

    def __str__(self) -> str:
        if self.protocol is Protocol.ICMP:
            return str(self.protocol)
        end = f"-{self.last}" if self.last else ""
        return f"{self.protocol}/{self.number}{end}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the port that `str` printed; ValueError for what it does not print."""
        protocol, _, numbers = text.partition("/")
        first, _, last = numbers.partition("-")
        return cls(protocol=Protocol(protocol), number=int(first or 0), last=int(last or 0))


def stretches(ports: Iterable[Port]) -> Iterator[Port]:
    """Yield ports in order; a range, with what lies in it or goes on where it ends, as one.

    Single ports that follow one another stay apart: they were asked for one by one.
    """
    stretch: list[Port] = []
    for port in sorted(ports):
        if stretch and not _goes_on(stretch, port):
            yield from _joined(stretch)
            stretch = []
        stretch.append(port)
    yield from _joined(stretch)


def _goes_on(stretch: Sequence[Port], port: Port) -> bool:
    end = max(earlier.sample for earlier in stretch)
    return port.protocol is stretch[0].protocol is not Protocol.ICMP and port.number <= end + 1


def _joined(stretch: Sequence[Port]) -> Sequence[Port]:
    if not any(port.last for port in stretch):
        return stretch
    last = max(port.sample for port in stretch)
    return [Port(protocol=stretch[0].protocol, number=stretch[0].number, last=last)]


PING = Port(protocol=Protocol.ICMP, number=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPort:
    """A port a container or a Service declares; `name` is empty when it has none."""

    name: str
    port: Port


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Where an endpoint's packets enter and leave OVN.

    `port` is a logical switch port of `switch` in `zone`; `mac` is what the endpoint sends from,
    `addresses` what it sends with; `gateway_mac` is the router port it sends everything off-link
    to, nobody's on a network without a router. `segment` is the layer 2 network that the switch is
    one zone's part of, empty for a switch of one zone. All of them are read from the databases.
    """

    zone: str
    switch: str
    port: str
    mac: str
    gateway_mac: str
    addresses: tuple[str, ...]
    segment: str = ""

    def on_link(self, other: "Attachment") -> bool:
        """Say whether packets between the two pass no router."""
        if self.segment:
            return self.segment == other.segment
        return (self.zone, self.switch) == (other.zone, other.switch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row or column of the matrix.

    `addresses` is what others send to (a host-network pod's is its node's; a Service's its
    ClusterIPs, or, when it is headless, those of its endpoints). An INGRESS declares the ports that
    it leads to. `attachment` is None when nothing
    of it is in OVN. `obstacle` is the reason code that settles every cell of this endpoint without
    a trace, empty when there is none.
    """

    kind: EndpointKind
    namespace: str = ""
    name: str
    node: str = ""
    addresses: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    workload: str = ""
    host_network: bool = False
    declared: tuple[NamedPort, ...] = ()
    attachment: Attachment | None = None
    obstacle: str = ""
    network: str = ""
    """The user-defined network that a pod is attached to here; empty for the default network."""
    role: Role = Role.PRIMARY
    """What that network is to the pod: there is an endpoint for each network that a pod is on."""
    opened: tuple[Port, ...] = ()
    """Of a pod's locked port, the ports that are open in spite of the isolation."""

    @property
    def key(self) -> str:
        """`pod shop/web-0`, `node worker`, `external 198.51.100.7 via worker`: unique in a run.

        A pod on a network that is not its primary one is `pod shop/web-0 on storage`.
        The name of an INGRESS begins with its object's kind: `route/shop/web` is `route shop/web`.
        """
        if self.kind is EndpointKind.INGRESS:
            return self.name.replace("/", " ", 1)
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        via = f" via {self.node}" if self.kind is EndpointKind.EXTERNAL and self.node else ""
        return f"{self.kind} {name}{via}{self.aside}"

    @property
    def aside(self) -> str:
        """What follows the name of a pod on a network that is not its primary one: ` on blue`."""
        return f" on {self.network_name}" if self.role is not Role.PRIMARY else ""

    @property
    def network_name(self) -> str:
        """A pod's network by name, `default` for the default one; empty for who is on none."""
        if self.kind is not EndpointKind.POD or self.host_network:
            return ""
        return self.network or DEFAULT

    @property
    def belongs_to(self) -> str:
        """`deployment shop/web`, or itself where nothing made it: the same when pods come anew.

        As of a pod, with the network where that is not the primary one.
        """
        if self.workload:
            kind, _, name = self.workload.partition("/")
            return f"{kind.lower()} {self.namespace}/{name}{self.aside}"
        return self.key

    def address(self, family: Family) -> str | None:
        """Return the address others reach this endpoint at in `family`, if it has one."""
        return next((a for a in self.addresses if Family.of(a) is family), None)


def in_order(endpoint: Endpoint) -> tuple[str, str, int, str]:
    """Return by what pods are sorted: of one pod the primary network first."""
    roles = tuple(Role)
    return endpoint.namespace, endpoint.name, roles.index(endpoint.role), endpoint.network
