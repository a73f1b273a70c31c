"""What the ACLs in force see of each endpoint, as numbered predicates. Pure.

An ACL of a port group is in force on every switch that has a port of the group, and only its
match restricts it. Its match is a disjunction of terms (`audit.cover.matches`), and each part of a
term looks at one end of the packet. So seen from one endpoint, its *own* end, a term is true,
false, or true for a certain set of *other* ends and ports: an `Entry`. The sets are vectors over
all endpoints, numbered by content, so that the same set is the same number in every zone.
"""

import functools
import ipaddress
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.cover import matches
from audit.cover.matches import AddressIn, Match, MatchError, PortIs, Side, Term
from audit.model.endpoints import Attachment, Endpoint, EndpointKind
from audit.model.facts import Acl, LogicalPort, Zone
from audit.model.packets import WITH_PORTS, Family, Protocol
from audit.model.verdicts import PolicyRef

Vector = NDArray[np.bool_]
L4 = tuple[tuple[str, int, int], ...]


class Stage(IntEnum):
    """The ACL stages of a switch in the order a packet passes them."""

    FROM_LPORT = 0
    FROM_LPORT_AFTER_LB = 1
    TO_LPORT = 2


class Entry(NamedTuple):
    """A term of an ACL that is true of the own end: `others` and `l4` say for which packets.

    `others` numbers a vector in `Predicates`, `decider` the ACL's owner there. A namespace's
    default deny is every policy's that selects the own end: `selecting` numbers them there, 0 for
    any other ACL.
    """

    stage: int
    tier: int
    priority: int
    action: str
    decider: int
    others: int
    l4: L4
    selecting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All entries of one endpoint, as source and as destination.

    With the other end on another switch (index 0), or on the same one (index 1).
    """

    egress: tuple[tuple[Entry, ...], tuple[Entry, ...]]
    ingress: tuple[tuple[Entry, ...], tuple[Entry, ...]]


class _InForce(NamedTuple):
    """A term of an ACL in force on a switch."""

    stage: Stage
    acl: Acl
    term: Term


@functools.lru_cache(maxsize=1 << 17)
def read(match: str) -> Match:
    """Return what a match says; MatchError when it is not understood. Zones share most."""
    return matches.read(match)


def terms(match: str) -> tuple[Term, ...]:
    """Return the terms of a match; MatchError when it is not understood."""
    return read(match).terms


@dataclass(slots=True)
class Predicates:
    """Numbers the sets of endpoints that ACLs tell apart, for one address family."""

    endpoints: Sequence[Endpoint]
    family: Family
    protocols: frozenset[Protocol] = frozenset(WITH_PORTS)
    """Of the packets asked about; what is true of others is nothing here."""
    vectors: list[Vector] = field(default_factory=list)
    deciders: list[str] = field(default_factory=list)
    _numbers: dict[object, int] = field(default_factory=dict)
    _deciders: dict[str, int] = field(default_factory=dict)
    _selecting: dict[frozenset[PolicyRef], int] = field(default_factory=dict)
    _places: dict[Side, dict[int, list[int]]] = field(default_factory=dict)
    _networks: dict[tuple[Side, matches.Pattern], Vector] = field(default_factory=dict)
    _members: dict[tuple[Side, tuple[str, ...]], Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side in Side:
            places: dict[int, list[int]] = defaultdict(list)
            for index, endpoint in enumerate(self.endpoints):
                address = address_as(endpoint, side, self.family)
                if address is not None:
                    places[_number(address)].append(index)
            self._places[side] = dict(places)

    def decider(self, owner: str) -> int:
        """Return the number of an ACL's owner."""
        if owner not in self._deciders:
            self._deciders[owner] = len(self.deciders)
            self.deciders.append(owner)
        return self._deciders[owner]

    def selecting(self, policies: frozenset[PolicyRef]) -> int:
        """Return the number of a set of policies, from 1."""
        return self._selecting.setdefault(policies, len(self._selecting) + 1)

    def number(self, vector: Vector) -> int:
        """Return the number of a vector, the same for the same content."""
        key = vector.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.vectors)
            self.vectors.append(vector)
        return self._numbers[key]

    def index_of(self, side: Side, address: str) -> int:
        """Return an endpoint that has this address as `side`; those that share it are alike."""
        return self._places[side][_number(address)][0]

    def members(self, side: Side, content: tuple[str, ...]) -> Vector:
        """Return which endpoints, as `side`, are in these addresses and networks.

        The same in every zone: most zones' address sets hold the same.
        """
        if (side, content) not in self._members:
            self._members[side, content] = self._in(side, content)
        return self._members[side, content]

    def _in(self, side: Side, content: Iterable[str]) -> Vector:
        vector = np.zeros(len(self.endpoints), dtype=np.bool_)
        for text in content:
            if Family.of(text) is not self.family:
                continue
            pattern = matches.masked(text)
            if pattern is None:
                continue  # OVN leaves out of a set what is no address
            value, mask = pattern
            if mask == (1 << self.family.bits) - 1:
                vector[self._places[side].get(value, [])] = True
            else:
                vector |= self._network(side, pattern)
        return vector

    def _network(self, side: Side, pattern: matches.Pattern) -> Vector:
        if (side, pattern) not in self._networks:
            value, mask = pattern
            vector = np.zeros(len(self.endpoints), dtype=np.bool_)
            for address, indices in self._places[side].items():
                if address & mask == value:
                    vector[indices] = True
            self._networks[side, pattern] = vector
        return self._networks[side, pattern]


@functools.lru_cache(maxsize=1 << 17)
def _number(address: str) -> int:
    """Return an address as a number: IPv6 addresses are spelled in several ways."""
    return int(ipaddress.ip_address(address))


def address_as(endpoint: Endpoint, side: Side, family: Family) -> str | None:
    """Return the address an endpoint has in a packet it sends, or in one sent to it.

    A node sends from its management port's address and is reached at its own.
    """
    if endpoint.attachment is None:
        return None
    if side is Side.DST:
        return endpoint.address(family)
    return next((a for a in endpoint.attachment.addresses if Family.of(a) is family), None)


def sends(endpoint: Endpoint) -> bool:
    """Say whether legs can begin here: a pod or a node with a port of its own."""
    is_sender = endpoint.kind in (EndpointKind.POD, EndpointKind.NODE)
    return is_sender and endpoint.attachment is not None and not endpoint.obstacle


def address_sets(zone: Zone) -> Mapping[str, tuple[str, ...]]:
    """Return the address sets that packets meet: the southbound's."""
    return zone.address_sets if zone.installed_sets is None else zone.installed_sets


def group_ports(zone: Zone) -> Mapping[str, frozenset[str]]:
    """Return the port groups that packets meet, and their ports: the southbound's."""
    if zone.installed_groups is None:
        return {group.name: group.ports for group in zone.port_groups}
    return zone.installed_groups


def in_force(zone: Zone) -> Mapping[str, tuple[Acl, ...]]:
    """Return the ACLs in force on each switch, of which northd makes flows, by uuid.

    They are the switch's own and those of the port groups that have a port there.
    """
    by_uuid = {acl.uuid: acl for some in zone.acls.values() for acl in some}
    uuids: dict[str, set[str]] = defaultdict(set)
    for switch, listed in zone.switch_acls.items():
        uuids[switch] |= listed
    for group in zone.port_groups:
        for switch in _datapaths(zone, group.ports) if group.acls else ():
            uuids[switch] |= group.acls
    return {
        switch: tuple(by_uuid[uuid] for uuid in sorted(some) if uuid in by_uuid)
        for switch, some in uuids.items()
    }


def _datapaths(zone: Zone, ports: Iterable[str]) -> set[str]:
    return {zone.ports[name].datapath for name in ports if name in zone.ports}


_STOPS = frozenset({"drop", "reject"})


class ZoneAcls:
    """The ACLs of one zone, seen from its endpoints."""

    def __init__(self, zone: Zone, predicates: Predicates, groups: Mapping[str, Vector]) -> None:
        self._zone = zone
        self._predicates = predicates
        self._groups = groups
        self._in_force = in_force(zone)
        self._groups_of: dict[str, set[str]] = defaultdict(set)
        self._policies_of: dict[str, set[PolicyRef]] = defaultdict(set)
        self._groups_on: dict[str, set[str]] = defaultdict(set)
        for group in zone.port_groups:
            for name in group.ports:
                if group.policy is not None:
                    self._policies_of[name].add(group.policy)
        for installed, names in group_ports(zone).items():
            for name in names:
                self._groups_of[name].add(installed)
                if (port := zone.ports.get(name)) is not None:
                    self._groups_on[port.datapath].add(installed)
        self._sets = address_sets(zone)
        self._switches: dict[str, _Switch] = {}
        self._contents: dict[AddressIn, Vector] = {}
        self._port_vectors: dict[PortIs, Vector] = {}
        self._uniform: dict[tuple[int, str], bool] = {}
        self._others: dict[tuple[int, Side, bool, str], int | None] = {}
        self._beyond: dict[str, tuple[int, ...]] = {}
        self.opaque: dict[str, set[str]] = defaultdict(set)
        """Switches with an ACL whose match is not understood, and those matches."""
        self.stateless: set[str] = set()
        """Switches on which replies may be stopped: an ACL in force is `allow-stateless`, or none
        is `allow-related` and OVN does not know replies there (ovn-nb(5), ACL)."""
        self.stopping: list[tuple[Vector, Vector]] = []
        """Who sends and who gets replies that an ACL stops on their way from or to a router."""

    def switch(self, name: str) -> "_Switch":
        """Return what is in force on a switch."""
        if name not in self._switches:
            self._switches[name] = self._read(name)
        return self._switches[name]

    def in_force(self, name: str) -> tuple[Acl, ...]:
        """Return the ACLs in force on a switch, by uuid."""
        return self._in_force.get(name, ())

    def _read(self, name: str) -> "_Switch":
        switch = _Switch(router_port=_router_port(self._zone, name))
        actions = {acl.action for acl in self.in_force(name)}
        unknown = not actions.isdisjoint(_STOPS) and "allow-related" not in actions
        if unknown or "allow-stateless" in actions:
            self.stateless.add(name)
        for acl in self.in_force(name):
            stage = _stage(acl)
            possible = self._possible_terms(name, acl, stage)
            if acl.action in _STOPS:
                self.stopping += self._stopped_replies(name, possible, stage, switch.router_port)
            for term in possible:
                switch.add(_InForce(stage, acl, term))
        return switch

    def _possible_terms(self, switch: str, acl: Acl, stage: Stage) -> Sequence[Term]:
        """Return the terms of an ACL that can be true on a switch; none where it is not understood.

        Then its match is noted as opaque.
        """
        try:
            match = read(acl.match)
        except MatchError:
            self.opaque[switch].add(acl.match)
            return ()
        possible = [term for term in match.terms if self._possible(switch, term)]
        if possible and (
            self._ignored(switch, match)
            # The output port is not known yet in these stages: nobody means this.
            or (stage is not Stage.TO_LPORT and any(map(_asks_outport, possible)))
        ):
            self.opaque[switch].add(acl.match)
            return ()
        return possible

    def _stopped_replies(
        self, switch: str, terms: Iterable[Term], stage: Stage, port: str
    ) -> Iterator[tuple[Vector, Vector]]:
        """Yield who sends and who gets replies that come from a router, or go to it, for each term.

        They are not tracked there (northd.c, `build_pre_acls`), so an ACL does not know them.
        """
        at_router = Side.DST if stage is Stage.TO_LPORT else Side.SRC
        for term in terms:
            # Most ACLs are of a pod's port, which a router's is not: that is looked at first.
            if self._predicates.family not in term.families or not all(
                self.in_groups(port, part)
                for part in term.literals
                if isinstance(part, PortIs) and part.side is at_router
            ):
                continue
            ends = self._ends_of_replies(switch, term, at_router)
            if ends[Side.SRC].any() and ends[Side.DST].any():
                yield ends[Side.SRC], ends[Side.DST]

    def _ends_of_replies(self, switch: str, term: Term, at_router: Side) -> dict[Side, Vector]:
        """Return the endpoints at each end of a reply that a term is true of."""
        everything = (self._predicates.family.everything,)
        ends = {side: self._replying(side, everything) for side in Side}
        ends[_other(at_router)] = ends[_other(at_router)] & self._on(switch)
        for part in term.literals:
            if isinstance(part, AddressIn):
                members = self._replying(part.side, self._content(part))
                ends[part.side] = ends[part.side] & (~members if part.negated else members)
            elif part.side is not at_router:
                ends[part.side] = ends[part.side] & self.port_vector(part)
        return ends

    def _on(self, switch: str) -> Vector:
        """Return which endpoints are on a switch."""
        return np.array(
            [
                e.attachment is not None and e.attachment.switch == switch
                for e in self._predicates.endpoints
            ],
            dtype=np.bool_,
        )

    def _replying(self, side: Side, content: tuple[str, ...]) -> Vector:
        """Return which endpoints, as that side of a reply, are in these addresses and networks.

        A reply goes to the address that a request is sent from, and comes from the one it is to.
        """
        return self._predicates.members(_other(side), content)

    def _content(self, literal: AddressIn) -> tuple[str, ...]:
        """Return all that a literal names, with this zone's address sets."""
        sets = (self._sets.get(name, ()) for name in literal.sets)
        return (*literal.networks, *itertools.chain.from_iterable(sets))

    def _possible(self, switch: str, term: Term) -> bool:
        """Say whether a switch has a port that each literal for ports may be true of."""
        return all(
            part.names or part.groups & self._groups_on[switch]
            for part in term.literals
            if isinstance(part, PortIs)
        )

    def _ignored(self, switch: str, match: Match) -> bool:
        """Say whether OVN ignores the whole match, where our reading would use a part of it.

        It ignores a logical flow that names, wherever and to whatever purpose, an address set that
        does not exist or holds what is wider than the field, or a port group without a port on the
        switch (expr.c). IPv4 addresses it takes for IPv6 ones, which nobody means.
        """
        return not match.groups <= self._groups_on[switch] or any(
            name not in self._sets or not self._of_width(width, name) for name, width in match.sets
        )

    def _of_width(self, width: int, name: str) -> bool:
        """Say whether an address set holds only addresses of so many bits."""
        if (width, name) not in self._uniform:
            families = _families(self._sets[name])
            self._uniform[width, name] = all(family.bits == width for family in families)
        return self._uniform[width, name]

    def seen_by(self, endpoint: Endpoint, attached: Attachment) -> Seen:
        """Return the entries of an endpoint, attached so."""
        switch = self.switch(attached.switch)
        addresses = {side: address_as(endpoint, side, self._predicates.family) for side in Side}
        rows = {
            side: None if address is None else self._predicates.index_of(side, address)
            for side, address in addresses.items()
        }
        segment = attached.segment if self._on_other_parts(attached.segment) else ""
        view = _View(self, switch, attached, rows, segment)
        apart, together = switch.router_port, None
        return Seen(
            egress=(
                _sorted(view.entries(Side.SRC, _FROM, apart), view.entries(Side.SRC, _TO, apart)),
                _sorted(view.entries(Side.SRC, _FROM, together)),
            ),
            ingress=(
                _sorted(view.entries(Side.DST, _FROM, apart), view.entries(Side.DST, _TO, apart)),
                _sorted(view.entries(Side.DST, _TO, together)),
            ),
        )

    def _on_other_parts(self, segment: str) -> tuple[int, ...]:
        """Return the endpoints of a layer 2 network that are on other zones' parts of it."""
        if segment not in self._beyond:
            self._beyond[segment] = tuple(
                index
                for index, endpoint in enumerate(self._predicates.endpoints)
                if segment
                and (at := endpoint.attachment) is not None
                and at.segment == segment
                and at.zone != self._zone.name
            )
        return self._beyond[segment]

    def names_of(self, port: str) -> list[str]:
        """Return everything a literal can call a port by: itself and its groups, sorted."""
        return sorted({port, *self._groups_of.get(port, ())})

    def selecting(self, port: str) -> int:
        """Return the number of the policies whose port groups hold a port."""
        return self._predicates.selecting(frozenset(self._policies_of.get(port, ())))

    def in_groups(self, port: str, literal: PortIs) -> bool:
        """Evaluate an `inport`/`outport` literal for one port."""
        groups = self._groups_of.get(port)
        is_in = groups is not None and not groups.isdisjoint(literal.groups)
        return (is_in or port in literal.names) is not literal.negated

    def port_vector(self, literal: PortIs) -> Vector:
        """Evaluate it for every endpoint, each in its own zone."""
        if literal not in self._port_vectors:
            self._port_vectors[literal] = self._port_vector(literal)
        return self._port_vectors[literal]

    def _port_vector(self, literal: PortIs) -> Vector:
        vector = np.zeros(len(self._predicates.endpoints), dtype=np.bool_)
        for group in literal.groups:
            if group in self._groups:
                vector |= self._groups[group]
        if literal.names:
            for index, endpoint in enumerate(self._predicates.endpoints):
                if endpoint.attachment is not None and endpoint.attachment.port in literal.names:
                    vector[index] = True
        return ~vector if literal.negated else vector

    def address_vector(self, literal: AddressIn) -> Vector:
        """Evaluate an address literal for every endpoint, with this zone's address sets."""
        if literal not in self._contents:
            vector = self._predicates.members(literal.side, self._content(literal))
            self._contents[literal] = ~vector if literal.negated else vector
        return self._contents[literal]

    def others(self, term: Term, side: Side, port: str | None, segment: str) -> int | None:
        """Return the number of the other ends a term holds for, whatever its own; None for none.

        `side` is the own end's. The other end is at this `port` of the switch, but for those that
        are on other zones' parts of the `segment`: they have a port of theirs here. Without either,
        each is at its own port; without a segment, what a term asks of the port was looked at.
        """
        key = (id(term), side, port is None, segment)  # terms are kept as long as their switch is
        if key not in self._others:
            vector = np.ones(len(self._predicates.endpoints), dtype=np.bool_)
            for literal in term.literals:
                if literal.side is side:
                    continue
                if isinstance(literal, AddressIn):
                    vector = vector & self.address_vector(literal)
                elif port is None:
                    vector = vector & self.port_vector(literal)
                elif segment:
                    vector = vector & self._far_ports(literal, port, segment)
            self._others[key] = self._predicates.number(vector) if vector.any() else None
        return self._others[key]

    def _far_ports(self, literal: PortIs, port: str, segment: str) -> Vector:
        """Evaluate a literal for the ports at which a switch has what is on no other of its ports.

        Those are the router's `port`, and the remote ports of who is on other parts of the segment.
        """
        endpoints = self._predicates.endpoints
        vector = np.full(len(endpoints), self.in_groups(port, literal), dtype=np.bool_)
        for index in self._on_other_parts(segment):
            attached = endpoints[index].attachment
            vector[index] = attached is not None and self.in_groups(attached.port, literal)
        return vector


def _sorted(*entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries in an order of their own: endpoints that see the same are equal."""
    return tuple(sorted({entry for some in entries for entry in some}))


_FROM = (Stage.FROM_LPORT, Stage.FROM_LPORT_AFTER_LB)
_TO = (Stage.TO_LPORT,)


@dataclass(slots=True)
class _Switch:
    """Terms in force on a switch, filed by stage and by the group or port that must hold."""

    router_port: str
    free: dict[Stage, list[_InForce]] = field(default_factory=lambda: defaultdict(list))
    filed: dict[tuple[Stage, Side], dict[str, list[_InForce]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, in_force: _InForce) -> None:
        """File a term under the first groups or ports it requires, or under none."""
        for literal in in_force.term.literals:
            if isinstance(literal, PortIs) and not literal.negated:
                for name in literal.groups | literal.names:
                    self.filed[in_force.stage, literal.side][name].append(in_force)
                return
        self.free[in_force.stage].append(in_force)

    def requiring(
        self, stage: Stage, side: Side, names: Iterable[str] | None
    ) -> Iterator[_InForce]:
        """Yield the terms that require one of these on a side; all of them where None."""
        filed = self.filed.get((stage, side), {})
        for name in filed if names is None else names:
            yield from filed.get(name, ())


@dataclass(slots=True)
class _View:
    """One endpoint's view of what is in force on its switch."""

    acls: ZoneAcls
    switch: _Switch
    attached: Attachment
    rows: Mapping[Side, int | None]
    """The row of the endpoint's address in a vector; None where it has none as that side."""
    segment: str
    """The layer 2 network that others are on, at other zones' parts of the switch."""

    def entries(
        self, side: Side, stages: Sequence[Stage], other_port: str | None
    ) -> Iterator[Entry]:
        """Yield the entries of these stages with the endpoint as `side`.

        `other_port` is the switch's port at the other end; None when that is the other
        endpoint's own. Who is on the same segment in another zone is at a remote port.
        """
        family = self.acls._predicates.family  # noqa: SLF001 - one module, two views of it
        ports = {side: self.attached.port}
        if other_port is not None and not self.segment:
            ports[_other(side)] = other_port
        predicates = self.acls._predicates  # noqa: SLF001 - as above
        candidates = {id(some): some for some in self._candidates(stages, ports)}
        for stage, acl, term in candidates.values():
            if family not in term.families or not self._own_end(term, side, ports):
                continue
            segment = "" if other_port is None else self.segment
            others = self.acls.others(term, side, other_port, segment)
            l4 = _l4(predicates.protocols, term.l4)
            if others is None or not l4:
                continue
            yield Entry(
                stage=int(stage),
                tier=acl.tier,
                priority=acl.priority,
                action=acl.action,
                decider=predicates.decider(acl.owner),
                others=others,
                l4=l4,
                selecting=self.acls.selecting(self.attached.port) if acl.namespace_default else 0,
            )

    def _candidates(self, stages: Sequence[Stage], ports: Mapping[Side, str]) -> Iterator[_InForce]:
        """Yield the terms whose required group or port can hold here."""
        for stage in stages:
            yield from self.switch.free.get(stage, ())
            for side in Side:
                port = ports.get(side)
                names = None if port is None else self.acls.names_of(port)
                yield from self.switch.requiring(stage, side, names)

    def _own_end(self, term: Term, side: Side, ports: Mapping[Side, str]) -> bool:
        """Say whether what a term asks of the own end, and of known ports, is so."""
        for literal in term.literals:
            if isinstance(literal, PortIs):
                port = ports.get(literal.side)
                if port is not None and not self.acls.in_groups(port, literal):
                    return False
            elif literal.side is side:
                row = self.rows[side]
                if row is None or not self.acls.address_vector(literal)[row]:
                    return False
        return True


@functools.lru_cache(maxsize=1 << 14)
def _l4(protocols: frozenset[Protocol], intervals: matches.Intervals) -> L4:
    return tuple((str(p), low, high) for p, low, high in matches.among(protocols, intervals))


@functools.lru_cache(maxsize=1 << 14)
def _families(addresses: tuple[str, ...]) -> frozenset[Family]:
    return frozenset(map(Family.of, addresses))


def _asks_outport(term: Term) -> bool:
    return any(isinstance(part, PortIs) and part.side is Side.DST for part in term.literals)


def _other(side: Side) -> Side:
    return Side.DST if side is Side.SRC else Side.SRC


def _stage(acl: Acl) -> Stage:
    """Return the stage an ACL is evaluated in (ovn-nb(5), ACL: direction, apply-after-lb)."""
    if acl.direction == "to-lport":
        return Stage.TO_LPORT
    return Stage.FROM_LPORT_AFTER_LB if acl.after_lb else Stage.FROM_LPORT


def _router_port(zone: Zone, switch: str) -> str:
    """Return the port by which a switch's packets go to and come from its router."""
    subnets = [ipaddress.ip_network(s, strict=False) for s in zone.switches.get(switch, ())]

    def has_subnet(port: LogicalPort) -> bool:
        peer = zone.ports[port.peer]
        interfaces = [ipaddress.ip_interface(address) for address in peer.addresses]
        return any(i.ip in s for i in interfaces for s in subnets if i.version == s.version)

    routers = [
        port for port in zone.ports.values() if port.datapath == switch and port.peer in zone.ports
    ]
    fitting = [port for port in routers if has_subnet(port)] or routers
    return fitting[0].name if fitting else ""
