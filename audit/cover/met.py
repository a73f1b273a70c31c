"""What flows tell of endpoints, in the terms that legs and ways are made of. Pure.

Legs are made of entries, ways of numbered places. What `audit.cover.flows` reads of each zone is
put into these here: an entry for what a switch's flows say of the endpoint at its own end, and one
for each kind of endpoint that they tell apart at the other end.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.cover import agreement, behind, flows, matches, readings
from audit.cover.acls import Entry, Predicates, Vector, ZoneAcls, address_sets, group_ports
from audit.cover.flows import Numbers, ZoneFlows, ZoneMarks
from audit.cover.identities import At, Identities
from audit.cover.matches import AddressIn, Intervals, MatchError, PortIs, Side, Term
from audit.cover.routers import Routers
from audit.cover.ways import Crossing
from audit.model.endpoints import Endpoint, Port
from audit.model.facts import Acl, LogicalFlow, Note, WayIn, Zone
from audit.model.legs import Locality

NO_ACL = -1
"""The stage of an entry that is of no ACL: it tells endpoints apart and decides nothing."""

_ANY = tuple((str(p), low, high) for p, low, high in matches.ANY_L4)

Switch = tuple[str, str]
"""A zone's logical switch, or its part of one that all zones have a part of: (zone, switch)."""

MOST_NAMED = 50
"""Endpoints that a note lists; its text counts all."""


class _Views(NamedTuple):
    """The entries that a switch's flows make of other ends, by Locality, and a number for them.

    `plain` says that none of them looks at ports, nor tells other ends apart.
    """

    entries: tuple[tuple[Entry, ...], ...]
    number: int
    plain: bool


@dataclass(slots=True)
class Met:
    """What the flows of all zones tell of a matrix' endpoints, in one address family."""

    endpoints: Sequence[Endpoint]
    zones: Mapping[str, Zone]
    predicates: Predicates
    acls: Mapping[str, ZoneAcls]
    switch: NDArray[np.int32]
    switches: Mapping[Switch, int]
    """The number of each switch in `switch`."""
    host: NDArray[np.bool_]
    ports: Sequence[Port]
    opaque: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Switches from which packets can meet a flow that could not be read, and those matches."""
    limits: list[tuple[Vector, Vector, Intervals]] = field(default_factory=list)
    """Cells that are not composed: as vectors of sources and of destinations, and ports."""
    notes: list[Note] = field(default_factory=list)
    _numbers: Numbers = field(default_factory=Numbers)
    _marks: dict[str, ZoneMarks] = field(default_factory=dict)
    _contents: dict[tuple[Switch, At], dict[int, int]] = field(default_factory=dict)
    _common: dict[tuple[Switch, At], "_Views"] = field(default_factory=dict)
    _most: dict[tuple[At, bool], tuple[int, int] | None] = field(default_factory=dict)
    usual_switches: frozenset[Switch] = frozenset()
    """Whose flows that name nobody are those of most switches."""
    _everyone: int = 0
    _router_ports: frozenset[str] = frozenset()
    _who: Identities = field(default_factory=lambda: Identities(()))
    _attached: Vector = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        who = self._who = Identities(self.endpoints)
        self._attached = np.array(
            [e.attachment is not None for e in self.endpoints], dtype=np.bool_
        )
        self._router_ports = behind.router_ports(self.zones.values())
        self._everyone = self.predicates.number(np.ones(len(self.endpoints), dtype=np.bool_))
        for name, zone in sorted(self.zones.items()):
            explained = self._agreed(zone, self.acls[name])
            read = ZoneFlows(
                zone,
                who,
                self._numbers,
                self.predicates.family,
                explained,
                self.ports,
                self.predicates.protocols,
            )
            marks = self._marks[name] = read.marks()
            for switch in zone.switches if marks.unread else ():
                self.opaque[switch] |= marks.unread
            for flow in marks.limits:
                self._limit(zone, flow)
            for flow, ends in marks.ties:
                self._limit(zone, flow, ends)
            if marks.redirected:
                self._redirect(sorted(marks.redirected))
        self.usual_switches = self._most_alike()

    def _agreed(self, zone: Zone, acls: ZoneAcls) -> dict[str, frozenset[int]]:
        """Return the flows that ACLs in force explain, by switch; note where they do not agree."""
        explained: dict[str, frozenset[int]] = {}
        strange: list[tuple[str, LogicalFlow]] = []
        lacking: list[tuple[str, Acl]] = []
        with_endpoints = flows.switches_of(self.endpoints, zone)
        for switch in flows.reached(zone, with_endpoints):
            listed = zone.flows.get(switch, ())
            in_force = acls.in_force(switch)
            if not listed or not (in_force or switch in zone.switches):
                continue
            agreed = agreement.compare(in_force, listed)
            if switch in with_endpoints:
                explained[switch] = agreed.explained  # elsewhere no leg is made of ACLs
            lacking += [(switch, acl) for acl in agreed.lacking]
            strange += [
                (switch, flow)
                for flow in behind.strange(listed, agreed.explained, self._router_ports)
                if self._can_meet(flow)
            ]
        self._disagree(zone, strange, lacking)
        return explained

    def _redirect(self, indices: Sequence[int]) -> None:
        """Leave out endpoints whose packets go to another's port: its ACLs are not theirs."""
        vector = np.zeros(len(self.endpoints), dtype=np.bool_)
        vector[indices] = True
        anybody = np.ones_like(vector)
        self.limits += [(anybody, vector, matches.ANY_L4), (vector, anybody, matches.ANY_L4)]

    def _can_meet(self, flow: LogicalFlow) -> bool:
        """Say whether a flow can be true of a packet that is asked about."""
        try:
            reading = readings.read(flow.match, self.predicates.protocols)
        except MatchError:
            return True
        if self.predicates.family not in reading.families:
            return False
        return reading.l4 is None or any(_touches(reading.l4, port) for port in self.ports)

    def _disagree(
        self,
        zone: Zone,
        strange: Sequence[tuple[str, LogicalFlow]],
        lacking: Sequence[tuple[str, Acl]],
    ) -> None:
        """Leave out of legs what can meet a flow without an ACL, or an ACL without its flows."""
        touched = np.zeros(len(self.endpoints), dtype=np.bool_)
        for _, flow in strange:
            touched |= self._limit(zone, flow)
        for switch, acl in lacking:
            try:
                terms = matches.parse(acl.match)
            except MatchError:
                self.opaque[switch].add(acl.match)
                continue
            touched |= self._cells(zone, terms, None)
        if not strange and not lacking:
            return
        parts = []
        if strange:
            switch, flow = strange[0]
            parts.append(
                f"has {len(strange)} flows of ACL stages that no northbound ACL explains (the "
                f"first on switch {switch}, {flow.stage}, priority {flow.priority}: {flow.match})"
            )
        if lacking:
            switch, acl = lacking[0]
            parts.append(
                f"lacks flows of {len(lacking)} northbound ACLs (the first on switch {switch}: "
                f"{behind.whose(acl)})"
            )
        keys = [self.endpoints[index].key for index in np.flatnonzero(touched).tolist()]
        text = (
            f"the southbound of zone {zone.name} {' and '.join(parts)}; packets meet what the "
            f"southbound says, so the cells that can are traced one by one ({len(keys)} endpoints)"
        )
        self.notes.append(
            Note(code="southbound-differs", text=text, subjects=tuple(keys[:MOST_NAMED]))
        )

    def _limit(
        self, zone: Zone, flow: LogicalFlow, ends_among: Collection[int] | None = None
    ) -> Vector:
        """Leave out the cells whose requests or replies can meet a flow; return their ends.

        One of these is among some endpoints, if they are given.
        """
        among = None
        if ends_among is not None:
            among = np.zeros(len(self.endpoints), dtype=np.bool_)
            among[list(ends_among)] = True
        try:
            ends = self._cells(zone, matches.widened(flow.match), among)
            return ends | self._cells(zone, readings.of_replies(flow.match), among, back=True)
        except MatchError:
            for switch in zone.switches:
                self.opaque[switch].add(flow.match)
            return np.zeros(len(self.endpoints), dtype=np.bool_)

    def _cells(
        self, zone: Zone, terms: Sequence[Term], among: Vector | None, *, back: bool = False
    ) -> Vector:
        """Leave out the cells of which a term may be true, of their replies with `back`."""
        ends = np.zeros(len(self.endpoints), dtype=np.bool_)
        for term in terms:
            if self.predicates.family not in term.families:
                continue
            sides = sides_of(term, zone, self.predicates)
            src, dst = sides[Side.SRC], sides[Side.DST]
            if src.any() and dst.any():
                cells = [(src, dst)] if among is None else [(src & among, dst), (src, dst & among)]
                self.limits += [(*((to, by) if back else (by, to)), term.l4) for by, to in cells]
                # An end that is anybody says nothing of anybody.
                ends |= np.zeros_like(src) if src.all() else src
                ends |= np.zeros_like(dst) if dst.all() else dst
        return ends

    def entries(self, index: int, side: At) -> tuple[tuple[Entry, ...], ...]:
        """Return the entries of an endpoint as the source's or the destination's side, by Locality.

        They are of the flows of its own switch. Where these say what they say of most endpoints, in
        every locality, there are none: ACLs alone tell such endpoints from others.
        """
        attached = self.endpoints[index].attachment
        if attached is None or attached.switch not in self._marks[attached.zone].on:
            return tuple(() for _ in Locality)
        zone, switch, sees = attached.zone, attached.switch, self._sees(index, side)
        content = self._named(zone, switch, side).get(index, self._numbers.of(()))
        views = self._views(zone, switch, sees)
        if (content, views.number) == self._usual(side, host=bool(self.host[index])):
            host = (self._entry(self._numbers.of("host")),) if self.host[index] else ()
            return tuple(host for _ in Locality)
        endpoint = self._entry(self._numbers.of((content, "own")))
        return tuple(
            (endpoint, self._entry(self._numbers.of(at)), *entries)
            for at, entries in zip(Locality, views.entries, strict=True)
        )

    def _usual(self, side: At, *, host: bool) -> tuple[int, int] | None:
        """Return the numbers of the marks that most endpoints of a kind have, and of their views.

        None where flows of it look at ports, or tell its other ends apart: then so must legs. Only
        of switches that are as most are: a flow that one alone has may tell what comes by the
        router from what stays, whomever it is about.
        """
        key = (side, host)
        if key not in self._most:
            counts: Counter[tuple[int, int]] = Counter()
            plain: dict[tuple[int, int], bool] = {}
            for index in np.flatnonzero(self.host == host).tolist():
                at = self.endpoints[index].attachment
                if at is not None and (at.zone, at.switch) in self.usual_switches:
                    named = self._named(at.zone, at.switch, side)
                    content = named.get(index, self._numbers.of(()))
                    views = self._views(at.zone, at.switch, self._sees(index, side))
                    counts[content, views.number] += 1
                    plain[content, views.number] = views.plain
            usual = max(counts, key=counts.__getitem__, default=None)
            self._most[key] = usual if usual is not None and plain[usual] else None
        return self._most[key]

    def _most_alike(self) -> frozenset[Switch]:
        """Return the switches whose flows that name nobody are those of most; one alone is not."""
        kinds = {
            (zone, switch): frozenset(kind)
            for zone, marks in self._marks.items()
            for switch, kind in marks.kind.items()
        }
        for kind, count in Counter(kinds.values()).most_common(1):
            if count > 1 and 2 * count > len(kinds):
                return frozenset(switch for switch in kinds if kinds[switch] == kind)
        return frozenset()

    def _views(self, zone: str, switch: str, side: At) -> "_Views":
        """Return the entries that all endpoints of a switch at `side` have in common."""
        key = ((zone, switch), side)
        if key not in self._common:
            entries = tuple(tuple(self._made(zone, switch, side, at)) for at in Locality)
            self._common[key] = _Views(
                entries=entries,
                number=self._numbers.of(entries),
                plain=all(
                    entry.l4 == _ANY and entry.others == self._everyone
                    for some in entries
                    for entry in some
                ),
            )
        return self._common[key]

    def _sees(self, index: int, side: At) -> At:
        """Return as what an endpoint looks at others; a node's own address is on no switch."""
        return At.REPLY_FROM if side is At.DST and self.host[index] else side

    def _entry(self, number: int, others: int | None = None, l4: Intervals = ()) -> Entry:
        return Entry(
            stage=NO_ACL,
            tier=0,
            priority=0,
            action=str(number),
            decider=-1,
            others=self._everyone if others is None else others,
            l4=tuple((str(p), low, high) for p, low, high in l4) or _ANY,
        )

    def _content(self, zone: str, switch: str, side: At) -> NDArray[np.int64]:
        """Return by endpoint the number of what a switch's flows say of it as `side`."""
        content = np.full(len(self.endpoints), self._numbers.of(()), dtype=np.int64)
        named = self._named(zone, switch, side)
        content[list(named)] = list(named.values())
        return content

    def _named(self, zone: str, switch: str, side: At) -> Mapping[int, int]:
        """Return the same for those alone that the flows name: few of a big cluster."""
        key = ((zone, switch), side)
        if key not in self._contents:
            self._contents[key] = {
                index: self._numbers.of(tuple(sorted(marks)))
                for index, marks in self._marks[zone].on[switch][side].items()
            }
        return self._contents[key]

    def _made(self, zone: str, switch: str, side: At, locality: Locality) -> Iterator[Entry]:
        kind = self._marks[zone].kind[switch]
        whole = tuple(sorted(number for number, l4 in kind if l4 == matches.ANY_L4))
        yield self._entry(self._numbers.of(("kind", whole)))
        for number, l4 in sorted(set(kind)):
            if l4 != matches.ANY_L4:
                yield self._entry(number, l4=l4)
        other = At.DST if side is At.SRC else At.SRC
        content = self._content(zone, switch, other)
        among = np.flatnonzero(self._at((zone, switch), side, locality))
        contents, counts = np.unique(content[among], return_counts=True)
        if not len(contents):
            return
        usual = int(contents[np.argmax(counts)])
        yield self._entry(self._numbers.of(("usual", usual)))
        for number in contents.tolist():
            if number != usual:
                vector = np.zeros(len(self.endpoints), dtype=np.bool_)
                vector[among[content[among] == number]] = True
                yield self._entry(number, others=self.predicates.number(vector))

    def _at(self, switch: Switch, side: At, locality: Locality) -> Vector:
        """Return the other ends that a switch's endpoints at `side` may have in a locality.

        `REPLY_FROM` stands for a node's own address, to which all packets come from another switch.
        """
        here: Vector = self._attached & (self.switch == self.switches[switch])
        match locality, side:
            case Locality.APART, At.SRC:
                return np.logical_or(~here, self.host)
            case Locality.APART, At.REPLY_FROM:
                return np.ones_like(here)
            case Locality.APART, _:
                return ~here
            case Locality.OWN_NODE, At.DST:
                return here & self.host
            case _:
                return here & ~self.host

    def tracked(self) -> Vector:
        """Return which endpoints' switches track packets as most do, and let replies through."""
        numbers = {
            (zone, switch): number
            for zone, marks in self._marks.items()
            for switch, number in marks.tracking.items()
        }
        answering = {
            (zone, switch)
            for zone, marks in self._marks.items()
            for switch, lets_through in marks.answering.items()
            if lets_through
        }
        most = Counter(numbers.values()).most_common(2)
        usual = most[0][0] if len(most) == 1 or (most and most[0][1] > most[1][1]) else None
        return np.array(
            [
                e.attachment is None
                or (
                    numbers.get((e.attachment.zone, e.attachment.switch)) == usual
                    and (e.attachment.zone, e.attachment.switch) in answering
                )
                for e in self.endpoints
            ],
            dtype=np.bool_,
        )

    def places(self, at: At) -> NDArray[np.int64]:
        """Return numbers by endpoint for what flows between switches say of it there."""
        by_endpoint: dict[int, list[int]] = defaultdict(list)
        for marks in self._marks.values():
            for index, numbers in marks.between[at].items():
                by_endpoint[index] += numbers
        contents = [
            self._numbers.of(tuple(sorted(by_endpoint.get(index, ()))))
            for index in range(len(self.endpoints))
        ]
        return np.array(contents, dtype=np.int64)

    def host_marks(self) -> dict[str, dict[int, object]]:
        """Return, by zone and host, numbers for what the zone's flows say of its node's address."""
        return {
            name: {
                index: self._numbers.of(tuple(sorted(marks.between[At.DST].get(index, ()))))
                for index in np.flatnonzero(self.host).tolist()
            }
            for name, marks in self._marks.items()
        }

    def crossing(self) -> Crossing:
        """Return what flows say of endpoints to those of other networks."""
        names = tuple(endpoint.network for endpoint in self.endpoints)
        addresses: dict[str, NDArray[np.int64]] = {}
        networks = np.array(names)
        for network in sorted(set(names)) if len(set(names)) > 1 else ():
            by_endpoint: dict[int, set[int]] = defaultdict(set)
            for marks in self._marks.values():
                for index, numbers in marks.crossing.get(network, {}).items():
                    by_endpoint[index].update(numbers)
            within = self._within(network) + 1
            within[networks == network] = 0
            addresses[network] = within
            several: dict[tuple[int, ...], int] = {}
            for index, marked in by_endpoint.items():
                content = (int(within[index]), *sorted(marked))
                within[index] = -1 - several.setdefault(content, len(several))
        joined = {
            (name, switch): frozenset(map(zone.network_at, datapaths))
            for name, zone in (self.zones if addresses else {}).items()
            for switch, datapaths in zone.joined(flows.switches_of(self.endpoints, zone)).items()
        }
        exact = {
            network: frozenset().union(*(marks.exact[network] for marks in self._marks.values()))
            for network in addresses
        }
        return Crossing(network=names, joined=joined, addresses=addresses, exact=exact)

    def _within(self, network: str) -> NDArray[np.int64]:
        """Return numbers by endpoint: which ranges and sets of a network's flows it is in."""
        vectors: dict[tuple[str, str], Vector] = {}
        for marks in self._marks.values():
            vectors |= marks.within.get(network, {})
        if not vectors:
            return np.zeros(len(self.endpoints), dtype=np.int64)
        packed = np.packbits(np.stack(list(vectors.values())), axis=0).T
        _, numbers = np.unique(packed, axis=0, return_inverse=True)
        return numbers.reshape(-1).astype(np.int64)

    def routers(
        self, ways_in: Sequence[WayIn], senders: Iterable[int], receivers: Sequence[tuple[int, At]]
    ) -> Routers:
        """Return what compares the ways from senders to receivers."""
        between = {zone: marks.beyond for zone, marks in self._marks.items()}
        return Routers(self._who, self.zones, between, ways_in, senders, receivers)

    def policies(self, zone: str) -> Sequence[LogicalFlow]:
        """Return the flows of router policies that packets from a zone's switches can meet."""
        return self._marks[zone].policies

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return `met_own` and `met_other` of a `LegPlan`."""
        others = np.zeros((max(len(self.switches), 1), len(self.endpoints)), dtype=np.int64)
        nothing = self._numbers.of(())
        kinds = {(nothing,) * len(At): 0}
        for zone, marks in self._marks.items():
            for switch in marks.on:
                sides = [self._named(zone, switch, at) for at in At]
                for index in set().union(*sides):
                    kind = tuple(named.get(index, nothing) for named in sides)
                    number = kinds.setdefault(kind, len(kinds))
                    others[self.switches[zone, switch], index] = number
        at_home = others[self.switch, np.arange(len(self.endpoints))]
        ends = np.stack([self.switch, at_home], axis=1)
        _, numbers = np.unique(ends, axis=0, return_inverse=True)
        return numbers.reshape(-1).astype(np.int64), others

    def limited(
        self, ports: Sequence[Port]
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Yield which packets are not composed: by source, by destination, and by port."""
        for sources, destinations, l4 in self.limits:
            touched = np.array([_touches(l4, each) for each in ports], dtype=np.bool_)
            if touched.any():
                yield sources, destinations, touched

    def senders(self) -> NDArray[np.int64]:
        """Return numbers by endpoint for what its switch says of it as a sender, and of nobody."""
        nothing = self._numbers.of(())
        kinds = {
            (zone, switch): self._numbers.of(tuple(sorted(set(kind))))
            for zone, marks in self._marks.items()
            for switch, kind in marks.kind.items()
        }
        numbers = np.full(len(self.endpoints), nothing, dtype=np.int64)
        for index, endpoint in enumerate(self.endpoints):
            at = endpoint.attachment
            if at is not None and (at.zone, at.switch) in kinds:
                own = self._named(at.zone, at.switch, At.SRC).get(index, nothing)
                numbers[index] = self._numbers.of(("sender", own, kinds[at.zone, at.switch]))
        return numbers


def _touches(l4: Intervals, port: Port) -> bool:
    return any(
        protocol is port.protocol and low <= port.sample and port.number <= high
        for protocol, low, high in l4
    )


def sides_of(term: Term, zone: Zone, predicates: Predicates) -> dict[Side, Vector]:
    """Return the endpoints that may be each side of a packet that a term is true of.

    A port that is no endpoint's, as a router's, says nothing of the endpoints.
    """
    count = len(predicates.endpoints)
    sides = {side: np.ones(count, dtype=np.bool_) for side in Side}
    for literal in term.literals:
        if isinstance(literal, AddressIn):
            sets = (address_sets(zone).get(name, ()) for name in literal.sets)
            content = (*literal.networks, *itertools.chain.from_iterable(sets))
            vector = predicates.members(literal.side, content)
            sides[literal.side] &= ~vector if literal.negated else vector
        elif not literal.negated:
            vector = _at_ports(literal, zone, predicates.endpoints)
            if vector.any():
                sides[literal.side] &= vector
    return sides


def _at_ports(literal: PortIs, zone: Zone, endpoints: Sequence[Endpoint]) -> Vector:
    """Return the endpoints whose port is among a literal's names, or in its groups."""
    groups = group_ports(zone)
    names = literal.names.union(*(groups.get(name, ()) for name in literal.groups))
    return np.array(
        [
            (at := e.attachment) is not None
            and at.port in names
            # Of a layer 2 network a zone has the ports of other zones too.
            and (at.zone == zone.name or (at.segment != "" and at.port in zone.ports))
            for e in endpoints
        ],
        dtype=np.bool_,
    )
