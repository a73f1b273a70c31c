"""Ports as a scope names them, and the ports they are at each destination.

`tcp/80`, `udp/53`, `sctp/38412`, `80/tcp`, `80` (tcp), `tcp/8000-8100`, a port's name (`http`),
`declared`, `tcp/all`, `all`, or `icmp`, a ping. Numbers are the same at every destination; names
and `declared` are what each destination declares itself, so one scope can mean port 8080 of one pod
and 80 of another.
`all` are ranges of ports that nothing tells apart (`audit.cover.portspace`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from audit.errors import ScopeError
from audit.model.endpoints import MAX_PORT, Endpoint, EndpointKind, Port
from audit.model.packets import WITH_PORTS, Protocol
from audit.model.portspace import NO_SPACE, PortSpace
from audit.scope import outside
from audit.scope.suggestions import did_you_mean, nearest

DECLARED_WORD = "declared"
ALL_WORD = "all"

_MOST_DIGITS = 100
"""Digits that a port is read with: more is refused by its length, and not repeated."""
_NUMBERS = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A Service's port name may be any DNS label; a container's is one of at most 15 characters."""
_PROTOCOL_LAST = re.compile(r"([0-9]+(?:-[0-9]+)?)[/:]([a-z]+)")
_PROTOCOLS = tuple(map(str, WITH_PORTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRange:
    """The ports `first` to `last` of a protocol, both included; one port when they are equal.

    ICMP has none, and is 0 to 0.
    """

    protocol: Protocol
    first: int
    last: int

    def __post_init__(self) -> None:
        lowest = 0 if self.protocol is Protocol.ICMP else 1
        if not lowest <= self.first <= self.last <= MAX_PORT * lowest:
            raise ValueError(f"{self.first}-{self.last} is no range of ports")

    def __str__(self) -> str:
        if self.protocol is Protocol.ICMP:
            return str(self.protocol)
        last = f"-{self.last}" if self.last != self.first else ""
        return f"{self.protocol}/{self.first}{last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortName:
    """The ports a destination declares under `name`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredPorts:
    """Every port a destination declares."""

    def __str__(self) -> str:
        return DECLARED_WORD


@dataclass(frozen=True, slots=True, kw_only=True)
class AllPorts:
    """Every port of some protocols, from 0 to 65535."""

    protocols: tuple[Protocol, ...]

    def __str__(self) -> str:
        whole = self.protocols == WITH_PORTS
        return ALL_WORD if whole else f"{self.protocols[0]}/{ALL_WORD}"


PortSpec = PortRange | PortName | DeclaredPorts | AllPorts

DECLARED = DeclaredPorts()


def parse(text: str) -> PortSpec:
    """Return the port `text` names; ScopeError says what it should look like instead."""
    word = text.strip().lower()
    if word == DECLARED_WORD:
        return DECLARED
    if word == ALL_WORD:
        return AllPorts(protocols=WITH_PORTS)
    if word == Protocol.ICMP:
        return PortRange(protocol=Protocol.ICMP, first=0, last=0)
    if _NUMBERS.fullmatch(word):
        return _range(text, Protocol.TCP, word)
    if _NAME.fullmatch(word):
        return PortName(name=word)
    protocol, slash, numbers = word.partition("/")
    if numbers in _PROTOCOLS:  # as Kubernetes writes them
        protocol, numbers = numbers, protocol
    if numbers == ALL_WORD and protocol in _PROTOCOLS:
        return AllPorts(protocols=(Protocol(protocol),))
    if not slash or protocol not in _PROTOCOLS or not _NUMBERS.fullmatch(numbers):
        raise ScopeError(_malformed(text, word))
    return _range(text, Protocol(protocol), numbers)


def _range(text: str, protocol: Protocol, numbers: str) -> PortRange:
    low, dash, high = numbers.partition("-")
    if (digits := max(len(low), len(high))) > _MOST_DIGITS:
        raise ScopeError(
            f"port {text[:_MOST_DIGITS]}…: a number of {digits:,} digits is not between 1 and "
            f"{MAX_PORT}"
        )
    first, last = int(low), int(high if dash else low)
    for number in (first, last):
        if not 0 < number <= MAX_PORT:
            raise ScopeError(f"port {text!r}: {number} is not between 1 and {MAX_PORT}")
    if first > last:
        raise ScopeError(
            f"port {text!r}: the range runs backwards; did you mean {protocol}/{last}-{first}?"
        )
    return PortRange(protocol=protocol, first=first, last=last)


def _malformed(text: str, word: str) -> str:
    """Say what is wrong with `text`, and what was probably meant."""
    if "," in text:
        return f"port {text!r} is several: give each with a --port of its own"
    if swapped := _PROTOCOL_LAST.fullmatch(word):
        word = f"{swapped[2]}/{swapped[1]}"
    protocol, _, rest = word.replace(":", "/", 1).partition("/")
    if protocol == Protocol.ICMP:
        return f"port {text!r}: icmp has no ports; write icmp"
    meant = protocol if protocol in _PROTOCOLS else nearest(protocol, _PROTOCOLS)
    if meant and _NUMBERS.fullmatch(rest):
        return f"port {text!r}: did you mean {meant}/{rest}?"
    if meant and _NAME.fullmatch(rest):
        return f"port {text!r}: a name is given without a protocol; did you mean {rest}?"
    if _NUMBERS.fullmatch(rest):
        return f"port {text!r}: expected tcp, udp or sctp as the protocol, got {protocol!r}"
    return (
        f"port {text!r}: expected tcp/80, udp/53, sctp/38412, tcp/8000-8100, 80, "
        "icmp, the name of a declared port, 'declared', tcp/all, or 'all'"
    )


def means(spec: PortSpec, endpoint: Endpoint, port: Port) -> bool:
    """Say whether a port of a destination, or a part of a range of them, is what `spec` names."""
    match spec:
        case PortRange(protocol=protocol, first=first, last=last):
            return protocol is port.protocol and first <= port.sample and port.number <= last
        case AllPorts(protocols=protocols):
            return port.protocol in protocols
        case PortName() | DeclaredPorts():
            return port in _declared([spec], endpoint)
        case _:
            assert_never(spec)


def asks_for_all(specs: Iterable[PortSpec]) -> bool:
    """Say whether all ports of some protocol are asked for."""
    return any(isinstance(spec, AllPorts) for spec in specs)


def asks_for(specs: Iterable[PortSpec], endpoint: Endpoint, port: Port) -> bool:
    """Say whether a port that something leads to, at a destination, is among those asked for.

    With `declared` it is: that something leads there says as much as a container does.
    """
    for spec in specs:
        match spec:
            case DeclaredPorts():
                return True
            case PortName(name=name):
                if any(
                    declared.name == name and declared.port == port
                    for declared in endpoint.declared
                ):
                    return True
            case PortRange(protocol=protocol, first=first, last=last):
                if protocol is port.protocol and first <= port.number <= last:
                    return True
            case AllPorts(protocols=protocols):
                if port.protocol in protocols:
                    return True
            case _:
                assert_never(spec)
    return False


def resolve(
    specs: Sequence[PortSpec],
    endpoints: Sequence[Endpoint],
    destinations: Iterable[int],
    space: PortSpace = NO_SPACE,
    *,
    whole_outside: bool = False,
) -> tuple[tuple[Port, ...], ...]:
    """Return the ports of every endpoint as a destination, parallel to `endpoints`.

    `destinations` index `endpoints`; others get no port. Of a protocol all of whose ports are asked
    for, `space` says the ranges, and nothing else is asked besides. With `whole_outside` so are all
    ports of a range of addresses, which declares none, where no other is asked for. ScopeError when
    a name is declared by no destination, or when an external address would have no port.
    """
    chosen = sorted(set(destinations))
    _check_names(specs, [endpoints[index] for index in chosen])
    whole = sorted({p for spec in specs if isinstance(spec, AllPorts) for p in spec.protocols})
    numbered = _besides(whole, _numbered(specs))
    # Endpoints with the same ports share one tuple: a range may be all 65,535 ports.
    shared: dict[frozenset[Port], tuple[Port, ...]] = {}
    ports: list[tuple[Port, ...]] = [()] * len(endpoints)
    for index in chosen:
        endpoint = endpoints[index]
        declared = _besides(whole, _declared(specs, endpoint))
        varying = (declared - numbered).union(_ranges(space, endpoint, whole))
        if varying not in shared:
            shared[varying] = tuple(sorted(numbered | varying))
        ports[index] = shared[varying] or _undeclared(endpoint, space, whole_outside=whole_outside)
    return tuple(ports)


def _besides(whole: Sequence[Protocol], ports: Iterable[Port]) -> frozenset[Port]:
    """Return the ports of protocols that are not asked for as a whole."""
    return frozenset(port for port in ports if port.protocol not in whole)


def _ranges(
    space: PortSpace, endpoint: Endpoint, protocols: Iterable[Protocol]
) -> tuple[Port, ...]:
    return tuple(port for protocol in protocols for port in space.at(endpoint, protocol))


def _undeclared(endpoint: Endpoint, space: PortSpace, *, whole_outside: bool) -> tuple[Port, ...]:
    """Return the ports of a destination at which the scope means none."""
    if whole_outside and outside.is_range_endpoint(endpoint):
        ports = _ranges(space, endpoint, WITH_PORTS)
    else:
        ports = ()
    if not ports and endpoint.kind is EndpointKind.EXTERNAL:
        raise ScopeError(
            f"{endpoint.key} declares no ports; say which to ask for, as in --port tcp/443"
        )
    return ports


def _numbered(specs: Iterable[PortSpec]) -> set[Port]:
    return {
        Port(protocol=spec.protocol, number=number)
        for spec in specs
        if isinstance(spec, PortRange)
        for number in range(spec.first, spec.last + 1)
    }


def _declared(specs: Iterable[PortSpec], endpoint: Endpoint) -> set[Port]:
    ports: set[Port] = set()
    for spec in specs:
        match spec:
            case DeclaredPorts():
                ports.update(named.port for named in endpoint.declared)
            case PortName(name=name):
                ports.update(named.port for named in endpoint.declared if named.name == name)
            case PortRange() | AllPorts():
                pass
            case _:
                assert_never(spec)
    return ports


def _check_names(specs: Iterable[PortSpec], destinations: Iterable[Endpoint]) -> None:
    names = {named.name for endpoint in destinations for named in endpoint.declared} - {""}
    for spec in specs:
        if isinstance(spec, PortName) and spec.name not in names:
            declared = f"they declare {', '.join(sorted(names))}" if names else "they name none"
            raise ScopeError(
                f"no destination in this scope declares a port named {spec.name!r}: {declared}"
                + did_you_mean(spec.name, names)
            )
