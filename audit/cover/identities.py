"""Who has which address, MAC and logical port, and what of these a flow's text names. Pure.

A packet's ends are known to logical flows by their *identities*. Whatever a match or an action
names is found by its form, not by the feature that the flow was made for.
"""

import functools
import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from audit.cover.matches import Side
from audit.flows.constants import masked, spelled
from audit.model.endpoints import Endpoint
from audit.model.facts import LogicalFlow, LogicalPort, Zone
from audit.model.packets import Family

THING = re.compile(
    r'"(?P<name>(?:[^"\\]|\\.)*)"'
    r"|(?<![\w:.])(?P<mac>(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2})(?![\w:])"
    r"|(?P<set>\$[\w.]+)|(?P<group>@[\w.]+)"
    r"|(?<![\w:.])(?P<ip>[0-9]+(?:\.[0-9]+){3}(?:/[0-9.]+)?"
    r"|(?:[0-9a-fA-F]+:|:(?=:))(?:[0-9a-fA-F]*:)+(?:[0-9a-fA-F.]+)?(?:/[0-9a-fA-F:]+)?)(?![\w:])"
)
"""What identifies something in a flow's text: names, MACs, sets, groups, addresses, networks."""
COMPARISON = re.compile(
    r"(?P<field>[a-z][\w.]*)(?:\[[^\]]*\])? *(?P<relation>==|!=|[<>]=?) *"
    r'(?P<constants>\{[^}]*\}|"(?:[^"\\]|\\.)*"|[^\s&|()]+)'
)


class At(StrEnum):
    """Where an endpoint's identity stands in a packet.

    Requests come from a host's management port and go to its node's address. Replies to them go to
    that port and come from that address: the last two are of hosts alone.
    """

    SRC = "src"
    DST = "dst"
    REPLY_TO = "reply to"
    REPLY_FROM = "reply from"


class Holder(NamedTuple):
    """An endpoint, by its index, with one of its identities: its port's, or its node's address."""

    endpoint: int
    of_node: bool = False

    def at(self, side: Side, *, host: bool) -> At:
        """Return where it stands when something is asked of it as that side of a packet."""
        if not host:
            return At(side)
        if side is Side.SRC:
            return At.REPLY_FROM if self.of_node else At.SRC
        return At.DST if self.of_node else At.REPLY_TO


@dataclass(slots=True)
class Identities:
    """Who has which address, MAC and logical port."""

    endpoints: Sequence[Endpoint]
    names: list[dict[str, str]] = field(default_factory=list)
    """Of each endpoint, its identity and what it is called in marks."""
    holders: dict[str, list[Holder]] = field(default_factory=lambda: defaultdict(list))
    _addresses: dict[Family, list[tuple[int, Holder]]] = field(default_factory=dict)
    _in: dict[str, frozenset[Holder]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        addresses: dict[Family, list[tuple[int, Holder]]] = {family: [] for family in Family}
        for index, endpoint in enumerate(self.endpoints):
            names: dict[str, str] = {}
            for thing, name, of_node in _identity(endpoint):
                names[thing] = name
                self.holders[thing].append(Holder(index, of_node))
                if name.startswith("address"):
                    number = int(ipaddress.ip_address(thing))
                    addresses[Family.of(thing)].append((number, Holder(index, of_node)))
            self.names.append(names)
        self._addresses = addresses

    def within(self, network: str) -> frozenset[Holder]:
        """Return who has an address in a network."""
        if network not in self._in:
            value, mask = masked(network) or (0, 0)
            addresses = self._addresses[Family.of(network)]
            self._in[network] = frozenset(
                holder for number, holder in addresses if number & mask == value
            )
        return self._in[network]


def _identity(endpoint: Endpoint) -> Iterator[tuple[str, str, bool]]:
    attached = endpoint.attachment
    if attached is None:
        return
    yield attached.port, "port", False
    if attached.mac:
        yield attached.mac, "mac", False
    for index, address in enumerate(attached.addresses):
        yield canonical(address), f"address {index} {Family.of(address)}", False
    for index, address in enumerate(endpoint.addresses):
        if address not in attached.addresses:
            yield canonical(address), f"address {index} {Family.of(address)} of its node", True


@functools.lru_cache(maxsize=1 << 16)
def canonical(address: str) -> str:
    """Return an address or a network in its usual spelling, and itself where it is none."""
    pattern = masked(address)
    if pattern is None:
        return address
    family = Family.of(address)
    spelling = spelled(pattern, family)
    return spelling.removesuffix(f"/{family.bits}")


class Named(NamedTuple):
    """What a flow's match names: identities by the side of the packet they are asked of.

    `required` are the sets of things of which the packet must have one, as far as is plain.
    """

    things: tuple[tuple[str, Side | None], ...]
    required: tuple[tuple[str, ...], ...]


@functools.lru_cache(maxsize=1 << 16)
def names_in(match: str) -> Named:
    """Return what a match names; a row that actions look up asks for the first thing it names."""
    if THING.search(match) is None:
        return Named((), ())
    if COMPARISON.search(match) is None:
        listed = tuple(dict.fromkeys(things_in(match)))
        return Named(tuple((thing, None) for thing in listed), (listed[:1],))
    things: dict[tuple[str, Side | None], None] = {}
    required: list[tuple[str, ...]] = []
    plain = not has_alternatives(match)  # then what stands in no parentheses must hold
    covered: list[tuple[int, int]] = []
    for comparison in COMPARISON.finditer(match):
        listed = tuple(things_in(comparison["constants"]))
        if not listed:
            continue
        covered.append(comparison.span())
        side = _side(comparison["field"])
        things |= dict.fromkeys((thing, side) for thing in listed)
        if plain and _is_equation(comparison):
            required.append(listed)
    for token in THING.finditer(match):
        if not any(start <= token.start() < end for start, end in covered):
            things[thing_of(token), None] = None
    return Named(tuple(things), tuple(required))


def _is_equation(comparison: re.Match[str]) -> bool:
    """Say whether it is `field == constants` and stands in no parentheses."""
    before = comparison.string[: comparison.start()]
    return comparison["relation"] == "==" and before.count("(") == before.count(")")


def has_alternatives(match: str) -> bool:
    """Say whether a match has `||` outside parentheses."""
    if "||" not in match:
        return False
    depth = 0
    for index, character in enumerate(match):
        depth += (character == "(") - (character == ")")
        if not depth and match.startswith("||", index):
            return True
    return False


def things_in(text: str) -> Iterator[str]:
    """Yield all that a text names."""
    return map(thing_of, THING.finditer(text))


def thing_of(token: re.Match[str]) -> str:
    """Return what a match of THING names, in its usual spelling."""
    match token.lastgroup:
        case "ip":
            return canonical(token["ip"])
        case "mac":
            return token["mac"].lower()
        case "name":
            return token["name"]
        case _:
            return token.group()


def _side(name: str) -> Side | None:
    """Return the end of a packet that a field is of; None where that is not known."""
    if name.endswith(".src") or name == "inport":
        return Side.SRC
    return Side.DST if name.endswith(".dst") or name == "outport" else None


def holds_many(thing: str) -> bool:
    """Say whether this is a set, a group or a network."""
    return thing[:1] in ("@", "$") or is_network(thing)


@functools.lru_cache(maxsize=1 << 16)
def is_network(thing: str) -> bool:
    """Say whether this is a network."""
    return "/" in thing and masked(thing) is not None


def renamed(flow: LogicalFlow, names: Mapping[str, str]) -> tuple[str, int, str, str]:
    """Return a flow's stage, priority, match and actions, with what `names` has called by them."""

    def called(token: re.Match[str]) -> str:
        name = names.get(thing_of(token))
        return token.group() if name is None else f"<{name}>"

    return (
        flow.stage,
        flow.priority,
        THING.sub(called, flow.match),
        THING.sub(called, flow.actions),
    )


def addresses_of(port: LogicalPort) -> Iterator[tuple[str, str]]:
    """Yield a port's MAC, addresses and networks, each with its kind and number."""
    if port.mac:
        yield port.mac, "MAC"
    for number, address in enumerate(port.addresses):
        yield canonical(address.partition("/")[0]), f"address {number}"
        yield canonical(address), f"network {number}"


def contents(thing: str, zone: Zone) -> Iterable[str]:
    """Return what is in a set or group of a zone's southbound; anything else is itself."""
    if thing[:1] == "@":
        return (zone.installed_groups or {}).get(thing[1:], ())
    if thing[:1] == "$":
        return map(canonical, (zone.installed_sets or {}).get(thing[1:], ()))
    return (thing,) if "/" not in thing or is_network(thing) else ()
