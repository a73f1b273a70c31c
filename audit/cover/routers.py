"""Which zones are alike to routers, so that one trace shows the way to all of them. Pure.

A packet from one zone to another meets flows of the sender's routers, then of the receiver's. What
each zone has of its own there (ports, their MACs and addresses, its subnets) gets a *label*, which
is the same in every zone. Flows that differ in nothing but the zones that they name then read the
same. From a sender two zones are alike where, read so, the sender's zone has the same flows about
both, both have the same about the sender's, and the same of their own.

What has no label stays in a flow as it is written, and tells zones apart. So does a network or a
set that holds something of the one and not of the other. What is not known costs a trace; it never
saves one.
"""

import bisect
import ipaddress
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit.cover.flows import Between
from audit.cover.identities import (
    THING,
    At,
    Identities,
    addresses_of,
    canonical,
    contents,
    holds_many,
    is_network,
    thing_of,
)
from audit.flows.constants import masked
from audit.flows.literals import MAC
from audit.model.facts import LogicalFlow, LogicalPort, WayIn, Zone
from audit.model.packets import Family

APART = -1
"""The number of a way of which it is not known whether others are like it."""

_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|/\*.*?\*/')
_REMOTE = "remote"


@dataclass(slots=True, kw_only=True)
class _Place:
    """A switch with endpoints, and what its packets can come to in its zone.

    The numbers are of sets of flows, as they read with labels: `kind` of all, whomever they are
    about; `about` of those that name something of another place, by that place; `marks` of those
    that are about an endpoint, by where it stands in a packet.
    """

    number: int
    zone: Zone
    switch: str
    network: str
    node: str
    datapaths: Mapping[str, str]
    """Their labels."""
    labels: Mapping[str, str]
    """Of the zone's own things there."""
    ports: Sequence[str]
    """Its own ports there."""
    kind: int = 0
    about: dict[int, int] = field(default_factory=dict)
    marks: dict[tuple[At, int], int] = field(default_factory=dict)
    holding: list[tuple[object, Mapping[int, object]]] = field(default_factory=list)
    """Networks and sets that its flows name, and what they hold of each place."""


class Routers:
    """Compares the ways between zones, by the flows `between` that packets meet there, by zone.

    `ways_in` are how nodes take in what the underlay brings. Ways lead from `senders` to
    `receivers`: endpoints by their index, these with where they stand in a packet.
    """

    def __init__(
        self,
        who: Identities,
        zones: Mapping[str, Zone],
        between: Mapping[str, Sequence[Between]],
        ways_in: Sequence[WayIn],
        senders: Iterable[int],
        receivers: Sequence[tuple[int, At]],
    ) -> None:
        self._who = who
        self._asked = frozenset((*senders, *(receiver for receiver, _ in receivers)))
        self._numbers: dict[object, int] = {}
        self._places = _places(who, zones)
        at = {(place.zone.name, place.switch): place.number for place in self._places}
        attached = [endpoint.attachment for endpoint in who.endpoints]
        self._at = [APART if a is None else at.get((a.zone, a.switch), APART) for a in attached]
        self._theirs: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for place in self._places:
            for thing in place.labels:
                self._theirs[place.network][thing].append(place.number)
        self._holdings = _Holdings(who, self._places, self._at)
        self._underlay = _taken_in(ways_in)
        self._zones_of_key: dict[tuple[str, int], set[str]] = defaultdict(set)
        for zone in zones.values():
            for key, port in zone.by_tunnel_key.items():
                if port.kind != _REMOTE:
                    self._zones_of_key[key].add(zone.name)
        self._pairs: dict[tuple[int, int], int] = {}
        self._rows: dict[object, NDArray[np.int64]] = {}
        self._abroad: dict[int, dict[int, int]] = defaultdict(dict)
        self._count = len(receivers)
        self._receivers: dict[str, list[tuple[int, int, At]]] = defaultdict(list)
        for index, (receiver, at_) in enumerate(receivers):
            if self._at[receiver] != APART:
                network = self._places[self._at[receiver]].network
                self._receivers[network].append((index, receiver, at_))
        for place in self._leading_on():
            self._read(place, between.get(place.zone.name, ()))

    def row(self, sender: int) -> NDArray[np.int64]:
        """Return a number for an endpoint's way to each receiver; those of one number are alike.

        APART is the way to an endpoint of the same zone or of another network, and to or from one
        whose packets no router takes to other zones.
        """
        start, abroad = self._at[sender], self._abroad.get(sender, {})
        key = (start, frozenset(abroad.items()))
        if key not in self._rows:
            self._rows[key] = self._row(start, abroad)
        return self._rows[key]

    def _row(self, start: int, abroad: Mapping[int, int]) -> NDArray[np.int64]:
        """Return the ways from a place, for a sender of which these other places' flows speak."""
        row = np.full(self._count, APART, dtype=np.int64)
        if start == APART:
            return row
        here = self._places[start]
        for index, receiver, at in self._receivers[here.network]:
            there = self._places[self._at[receiver]]
            if there.zone is not here.zone:
                end = (at, receiver)
                of_ends = here.marks.get(end), there.marks.get(end), abroad.get(there.number)
                row[index] = self._number((self._pair(here, there), of_ends))
        return row

    def _leading_on(self) -> Iterator[_Place]:
        """Yield the places of networks that are in several zones: no other has a way to compare."""
        zones: dict[str, set[str]] = defaultdict(set)
        for place in self._places:
            zones[place.network].add(place.zone.name)
        yield from (place for place in self._places if len(zones[place.network]) > 1)

    def _number(self, content: object) -> int:
        return self._numbers.setdefault(content, len(self._numbers))

    def _pair(self, here: _Place, there: _Place) -> int:
        """Return a number for all that is to be said of packets from one place to another."""
        key = here.number, there.number
        if key not in self._pairs:
            self._pairs[key] = self._number(
                (
                    (here.about.get(there.number), self._held(here, there)),
                    (there.about.get(here.number), self._held(there, here)),
                    (there.kind, self._held(there, there)),
                    self._linked(here, there),
                    self._linked(there, here),
                    self._taken_in(there),
                )
            )
        return self._pairs[key]

    def _held(self, place: _Place, other: _Place) -> tuple[object, ...]:
        """Return what networks and sets that a place's flows name hold of a place."""
        return tuple((name, held.get(other.number)) for name, held in place.holding)

    def _linked(self, here: _Place, there: _Place) -> frozenset[object]:
        """Return how a zone knows ports of another: by these a packet gets there.

        It goes by the port's tunnel key, which should be that zone's own for it and no other's.
        """
        links: list[object] = []
        for name in there.ports:
            port, own = here.zone.ports.get(name), there.zone.ports[name]
            if port is None or port.kind != _REMOTE:
                continue
            key = (port.datapath, port.tunnel_key)
            by_key = (zone.by_tunnel_key.get(key) for zone in (here.zone, there.zone))
            as_known = (
                (own.datapath, own.tunnel_key) == key
                and all(each is not None and each.name == name for each in by_key)
                and self._zones_of_key[key] == {there.zone.name}
                and port.chassis in ("", there.node, *there.zone.chassis)
            )
            links.append(
                (
                    there.labels[name],
                    here.datapaths.get(port.datapath),
                    there.labels.get(port.mac) or (port.mac,),
                    port.kind,
                    () if as_known else (name, *key),
                )
            )
        return frozenset(links)

    def _taken_in(self, place: _Place) -> tuple[object, ...]:
        """Return how a place's node takes in what the underlay brings for it."""
        return tuple(
            (
                place.labels.get(canonical(way.subnet)) or (way.subnet,),
                way.port and (place.labels.get(way.port.port) or (way.port.port,)),
                way.by_host,
                () if alone else (place.node,),
            )
            for way, alone in self._underlay.get(place.node, ())
        )

    def _read(self, place: _Place, flows: Iterable[Between]) -> None:
        """Note what the flows of a place's zone say, of whom."""
        kind = set[object]()
        about: dict[int, set[object]] = defaultdict(set)
        marks: dict[tuple[At, int], set[object]] = defaultdict(set)
        many: dict[str, None] = {}
        theirs = self._theirs[place.network]
        for between in flows:
            label = place.datapaths.get(between.datapath)
            if label is None:
                continue
            text = _Text.of(label, between.flow)
            alone = (place.zone.name, between.flow)  # compared with none of another zone
            kind.add(
                alone if between.tied else text.named(lambda thing: self._anybody(place, thing))
            )
            others = {
                number
                for thing in text.things
                if thing not in place.labels
                for number in theirs.get(thing, ())
            }
            own = alone if between.sent or between.tied else None
            for number in others:
                about[number].add(own or text.named(_Labels(place, self._places[number])))
            for at, index in between.about:
                if index in self._asked:
                    names = self._who.names[index]
                    labels = _Labels(place, self._home(index), names)
                    marks[at, index].add(own or text.named(labels))
            many.update(dict.fromkeys(filter(holds_many, text.asked)))
        place.kind = self._number(frozenset(kind))
        place.about = {number: self._number(frozenset(some)) for number, some in about.items()}
        place.marks = {end: self._number(frozenset(some)) for end, some in marks.items()}
        for (at, index), number in place.marks.items():
            if at is At.SRC:
                self._abroad[index][place.number] = number
        place.holding = [
            (place.labels.get(thing) or (thing,), held)
            for thing in sorted(many)
            if (held := self._holdings.of(place, thing)) is not None
        ]

    def _home(self, endpoint: int) -> _Place | None:
        number = self._at[endpoint]
        return None if number == APART else self._places[number]

    def _anybody(self, place: _Place, thing: str) -> object:
        """Return what a thing is called, whichever endpoint or other place it is of."""
        if label := place.labels.get(thing):
            return ("own", label)
        if holders := self._who.holders.get(thing):
            index = holders[0].endpoint
            return ("endpoint", self._who.names[index][thing])
        if others := self._theirs[place.network].get(thing):
            return ("other", self._places[others[0]].labels[thing])
        return thing


class _Labels:
    """What things are called where a flow is read as one about an endpoint or another place."""

    def __init__(
        self, place: _Place, other: _Place | None, names: Mapping[str, str] | None = None
    ) -> None:
        self._own = place.labels
        self._names = names or {}
        self._other = {} if other is None or other is place else other.labels

    def __call__(self, thing: str) -> object:
        """Return a thing's label; itself where it has none."""
        if label := self._own.get(thing):
            return ("own", label)
        if name := self._names.get(thing):
            return ("endpoint", name)
        if label := self._other.get(thing):
            return ("other", label)
        return thing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A flow, taken apart into what it names and what is between."""

    where: tuple[str, str, int, int]
    """Its datapath's label, its stage and priority, and how many things its match names."""
    between: tuple[str, ...]
    things: tuple[str, ...]
    asked: tuple[str, ...]
    """The things that its match names, which come first."""

    @classmethod
    def of(cls, datapath: str, flow: LogicalFlow) -> "_Text":
        """Take a flow apart. Comments mean nothing to OVN, and ovn-kubernetes names nodes there."""
        texts = [flow.match, flow.actions]
        between: list[str] = []
        things: list[list[str]] = []
        for text in (_COMMENT.sub(_without, each) if "/*" in each else each for each in texts):
            last, named = 0, []
            for token in THING.finditer(text):
                start, end = token.span(str(token.lastgroup))  # quotes of a name are between
                between.append(text[last:start])
                named.append(thing_of(token))
                last = end
            between.append(text[last:])
            things.append(named)
        return cls(
            where=(datapath, flow.stage, flow.priority, len(things[0])),
            between=tuple(between),
            things=(*things[0], *things[1]),
            asked=tuple(things[0]),
        )

    def named(self, called: Callable[[str], object]) -> object:
        """Return what can be compared of it, where things are called such."""
        return self.where, self.between, tuple(map(called, self.things))


def _without(comment: re.Match[str]) -> str:
    """Return what a comment leaves; a string that looks like one stays."""
    return comment[1] or ""


def _places(who: Identities, zones: Mapping[str, Zone]) -> list[_Place]:
    """Return the switches from which alone packets come to what is beyond them in their zone.

    On a network of layer 2 no router leads to other zones; its switches are none of these.
    """
    networks: dict[tuple[str, str], tuple[str, str]] = {}
    for endpoint in who.endpoints:
        at = endpoint.attachment
        if at is not None and at.zone in zones:
            networks[at.zone, at.switch] = (
                ("", "") if at.segment else (endpoint.network, endpoint.node)
            )
    places: list[_Place] = []
    for name, zone in sorted(zones.items()):
        switches = {switch for zone_, switch in networks if zone_ == name}
        ports: dict[str, list[LogicalPort]] = defaultdict(list)
        for port in zone.ports.values():
            ports[port.datapath].append(port)
        for switch, joined in sorted(zone.joined(switches).items()):
            network, node = networks[name, switch]
            if node and not (joined - {switch}) & switches:
                datapaths = _labelled(sorted(joined - {switch}), zone)
                own = _own_ports(zone, switch, datapaths, ports)
                places.append(
                    _Place(
                        number=len(places),
                        zone=zone,
                        switch=switch,
                        network=network,
                        node=node,
                        datapaths=datapaths,
                        labels=_labels(zone, switch, own),
                        ports=tuple(own),
                    )
                )
    return places


def _labelled(names: Iterable[str], zone: Zone) -> dict[str, str]:
    """Return labels of things by their names: these without their zone's, which is its node's."""
    labels: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for name in sorted(names, key=lambda name: (name.replace(zone.name, "*"), name)):
        label = name.replace(zone.name, "*")
        labels[name] = f"{label} {taken[label]}"
        taken[label] += 1
    return labels


def _own_ports(
    zone: Zone,
    switch: str,
    datapaths: Mapping[str, str],
    ports: Mapping[str, Sequence[LogicalPort]],
) -> dict[str, str]:
    """Return labels of a zone's own ports that packets from a switch come to, but for pods'."""
    own: dict[str, str] = {}
    for datapath, label in ((switch, "switch"), *datapaths.items()):
        names = [
            port.name
            for port in ports.get(datapath, ())
            if port.kind != _REMOTE and (datapath != switch or port.peer in zone.ports)
        ]
        own |= {name: f"{label}: {of}" for name, of in _labelled(names, zone).items()}
    return own


def _labels(zone: Zone, switch: str, ports: Mapping[str, str]) -> dict[str, str]:
    """Return labels of all that a zone has of its own: no two things have the same."""
    labels = dict(ports)
    for name, label in ports.items():
        for thing, kind in addresses_of(zone.ports[name]):
            labels.setdefault(thing, f"{kind} of {label}")
            if is_network(thing):
                last = str(ipaddress.ip_network(thing, strict=False).broadcast_address)
                labels.setdefault(last, f"last of {kind} of {label}")
            elif MAC.fullmatch(thing):
                labels.setdefault(_link_local(thing), f"link-local address of {label}")
    for index, subnet in enumerate(zone.switches.get(switch, ())):
        labels.setdefault(canonical(subnet), f"subnet {index}")
    return labels


def _link_local(mac: str) -> str:
    """Return the IPv6 address that an interface makes of its MAC (RFC 4291, appendix A)."""
    first, *middle = (int(part, 16) for part in mac.split(":"))
    parts = (first ^ 2, *middle[:2], 0xFF, 0xFE, *middle[2:])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes(parts)))


class _Holdings:
    """What networks and sets hold: endpoints, and what zones have of their own."""

    def __init__(self, who: Identities, places: Sequence[_Place], at: Sequence[int]) -> None:
        self._who = who
        self._at = at
        self._places = places
        self._labels: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for place in places:
            for thing, label in place.labels.items():
                self._labels[thing].append((place.number, label))
        self._sorted: dict[Family, list[tuple[int, str]]] = {family: [] for family in Family}
        for thing in self._labels:
            pattern = None if is_network(thing) else masked(thing)
            if pattern is not None:
                self._sorted[Family.of(thing)].append((pattern[0], thing))
        for some in self._sorted.values():
            some.sort()
        self._all = Counter(number for number in at if number != APART)
        self._held: dict[tuple[str, str], Mapping[int, object] | None] = {}

    def of(self, place: _Place, thing: str) -> Mapping[int, object] | None:
        """Return what a network, or a set of a place's zone, holds of each place.

        None where that is one place's own network, and holds nothing of another's.
        """
        key = ("" if is_network(thing) else place.zone.name, thing)
        if key not in self._held:
            held = self._of(place.zone, thing)
            owners = {number for number, _ in self._labels.get(thing, ())}
            self._held[key] = None if len(owners) == 1 and owners.issuperset(held) else held
        return self._held[key]

    def _of(self, zone: Zone, thing: str) -> Mapping[int, object]:
        endpoints: dict[int, set[int]] = defaultdict(set)
        things: dict[int, set[str]] = defaultdict(set)
        for part in contents(thing, zone):
            many = is_network(part)
            held = self._who.within(part) if many else self._who.holders.get(part, ())
            for holder in held:
                number = self._at[holder.endpoint]
                if number == APART:
                    continue
                if holder.of_node:
                    things[number].add("its node")
                else:
                    endpoints[number].add(holder.endpoint)
            for each in self._addresses_in(part) if many else (part,):
                for number, label in self._labels.get(each, ()):
                    things[number].add(label)
        return {
            number: (
                len(endpoints[number]) == self._all[number],
                len(endpoints[number]) > 0,
                frozenset(things[number]),
            )
            for number in {*endpoints, *things}
        }

    def _addresses_in(self, network: str) -> Iterator[str]:
        """Yield the addresses in a network that zones have of their own."""
        value, mask = masked(network) or (0, 0)
        addresses = self._sorted[Family.of(network)]
        for number, thing in addresses[bisect.bisect_left(addresses, (value, "")) :]:
            if number > value | ~mask & ((1 << Family.of(network).bits) - 1):
                return
            if number & mask == value:
                yield thing


def _taken_in(ways_in: Sequence[WayIn]) -> dict[str, list[tuple[WayIn, bool]]]:
    """Return the ways in of each node, and whether no other leads to an address of its subnet."""
    listed: dict[str, list[tuple[WayIn, bool]]] = defaultdict(list)
    ranges = sorted(
        (subnet.version, int(subnet.network_address), int(subnet.broadcast_address), number)
        for number, way in enumerate(ways_in)
        for subnet in [ipaddress.ip_network(way.subnet)]
    )
    shared = set[int]()
    widest = ranges[:1]
    for each in ranges[1:]:
        before = widest[-1]
        if each[0] == before[0] and each[1] <= before[2]:
            shared |= {each[-1], before[-1]}
        if each[:1] + each[2:3] > before[:1] + before[2:3]:
            widest.append(each)
    for number, way in enumerate(ways_in):
        listed[way.node].append((way, number not in shared))
    return listed
