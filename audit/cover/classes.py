"""Matrix → legs, classes and atoms: which cells few traces decide. Pure; `docs/cover.md` argues it.

Endpoints that the ACLs in force see alike are a class. For a class, the other ends that none of
its entries tells apart are an atom, and so are ports. A leg is a class, an atom of the other side
and an atom of the ports; every cell has an egress leg and an ingress leg, found by index.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.cover import acls, matches, ways
from audit.cover.acls import L4, Entry, Predicates, Seen, Stage, Vector, ZoneAcls
from audit.cover.balancing import Balancing, vip_numbers
from audit.cover.identities import At
from audit.cover.matches import MatchError, Side, Term
from audit.cover.met import NO_ACL, Met, Switch, sides_of
from audit.model.endpoints import Endpoint, Port
from audit.model.facts import LogicalFlow, Note, WayIn, Zone
from audit.model.legs import PASS, STOP, Composable, LegPlan, LegTable, Locality
from audit.model.matrix import FAMILIES, Matrix
from audit.model.packets import WITH_PORTS, Family, Protocol

_KINDS = (frozenset(WITH_PORTS), frozenset({Protocol.ICMP}))
"""Protocols that share legs. Flows tell pings from all that has ports, on routers too."""
_DENIES = frozenset({"drop", "reject"})
_GOES_ON = "pass"
NOTHING: tuple[tuple[Entry, ...], tuple[Entry, ...]] = ((), ())
"""What is seen of an endpoint that no leg begins or ends at."""

_Views = tuple[tuple[Entry, ...], tuple[Entry, ...], tuple[Entry, ...], tuple[Entry, ...]]
"""What is seen of an endpoint as a leg's own end, by Locality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """The leg plans of a matrix, one per address family it has, and what they cannot speak for."""

    plans: tuple[LegPlan, ...]
    notes: tuple[Note, ...]
    opaque: frozenset[str]
    """Switches with an ACL or a router policy whose match is not understood."""
    balancing: tuple[Balancing, ...] = ()
    """By plan: what of packets to Services is alike."""


NONE = Legs(plans=(), notes=(), opaque=frozenset())
"""No cell is composed."""


def legs(
    matrix: Matrix,
    zones: Mapping[str, Zone],
    vips: Sequence[str] = (),
    ways_in: Sequence[WayIn] = (),
) -> Legs:
    """Return how the cells between pods and nodes decompose into legs.

    `vips` are the addresses of Services that are asked about, `ways_in` how nodes take in packets
    from the underlay.

    Cells of other endpoints, and of endpoints on a switch with an ACL whose match is not
    understood, are not composed: they are traced one by one.
    """
    plans: list[LegPlan] = []
    balancing: list[Balancing] = []
    opaque: dict[str, set[str]] = defaultdict(set)
    notes: dict[object, Note] = {}
    for (index, family), kind in itertools.product(enumerate(FAMILIES), _KINDS):
        asked = np.array([port.protocol in kind for port in matrix.ports], dtype=np.bool_)
        cells = (matrix.family == index) & asked[matrix.port]
        if cells.any():
            planner = _Planner(matrix, zones, family, kind, cells, ways_in)
            plan, balanced, unread, family_notes = planner.plan(vips)
            plans.append(plan)
            balancing.append(balanced)
            notes |= {(note.code, note.text): note for note in family_notes}
            for switch, some in unread.items():
                opaque[switch] |= some
    return Legs(
        plans=tuple(plans),
        notes=(*notes.values(), *_opaque_notes(opaque)),
        opaque=frozenset(opaque),
        balancing=tuple(balancing),
    )


def _opaque_notes(opaque: Mapping[str, set[str]]) -> Iterable[Note]:
    unread = sorted({match for some in opaque.values() for match in some})
    if unread:
        text = (
            f"{len(unread)} matches are not understood, and the cells of {len(opaque)} switches "
            f"are traced one by one; the first is {unread[0]!r}"
        )
        yield Note(code="opaque-matches", text=text, subjects=tuple(sorted(opaque)))


class _Planner:
    """Makes the leg plan of one family, for some protocols."""

    def __init__(
        self,
        matrix: Matrix,
        zones: Mapping[str, Zone],
        family: Family,
        protocols: frozenset[Protocol],
        cells: NDArray[np.bool_],
        ways_in: Sequence[WayIn],
    ) -> None:
        """`cells` says which of the matrix these are."""
        self._matrix = matrix
        self._ways_in = ways_in
        self._cells = cells
        self._zones = zones
        self._family = FAMILIES.index(family)
        self._predicates = Predicates(matrix.endpoints, family, protocols)
        names = [e.attachment.zone if e.attachment else "" for e in matrix.endpoints]
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        self._zone = np.array([numbers[name] for name in names], dtype=np.int64)
        groups = _group_vectors(matrix.endpoints, zones)
        self._acls = {
            name: ZoneAcls(zone, self._predicates, groups) for name, zone in zones.items()
        }

    def plan(
        self, vips: Sequence[str]
    ) -> tuple[LegPlan, Balancing, Mapping[str, set[str]], Sequence[Note]]:
        """Return the plan, what of packets to `vips` is alike, and notes.

        Between them the matches that are not understood, by switch.
        """
        endpoints = self._matrix.endpoints
        seen = [self._seen(endpoint) for endpoint in endpoints]
        switch, numbers = _switches(endpoints)
        host = np.array([e.host_network for e in endpoints])
        met = Met(
            endpoints=endpoints,
            zones=self._zones,
            predicates=self._predicates,
            acls=self._acls,
            switch=switch,
            switches=numbers,
            host=host,
            ports=[p for p in self._matrix.ports if p.protocol in self._predicates.protocols],
        )
        met_own, met_other = met.ends()
        crossing = met.crossing()
        places, host_marks, unread = self._places(switch, host, met, crossing)
        routers = met.routers(self._ways_in, *ways.ends(places))
        between = ways.ways(endpoints, places, host_marks, crossing, routers.row)
        opaque: dict[str, set[str]] = defaultdict(set)
        for some in (*(acl.opaque for acl in self._acls.values()), unread, met.opaque):
            for name, unread_there in some.items():
                opaque[name] |= unread_there
        egress, ingress = self._tables(seen, met, _Trim(self._predicates, switch, host))
        composable = self._composable(seen, opaque, met)
        plan = LegPlan(
            family=self._family,
            composed=composable.of(self._matrix.src, self._matrix.dst, self._matrix.port)
            & self._cells,
            composable=composable,
            switch=switch,
            host=host,
            sending=places.sending,
            receiving=places.receiving,
            answered=places.answered,
            ways=between.legs,
            common=between.common,
            apart=between.apart,
            unjoined=between.unjoined,
            packets=ways.packets(
                endpoints, crossing, self._predicates.family, len(self._matrix.ports)
            ),
            egress=egress,
            ingress=ingress,
            deciders=tuple(self._predicates.deciders),
            met_own=met_own,
            met_other=met_other,
            stateful=self._stateful() & met.tracked(),
            stopping=tuple(ends for acl in self._acls.values() for ends in acl.stopping),
        )
        return plan, self._balancing(vips, numbers, met, seen), opaque, met.notes

    def _balancing(
        self,
        vips: Sequence[str],
        switches: Mapping[Switch, int],
        met: Met,
        seen: Sequence[Seen | None],
    ) -> Balancing:
        """Return what of packets to Services' addresses is alike; without any, nothing is asked."""
        family, protocols = self._predicates.family, self._predicates.protocols
        nobody = np.zeros(len(seen), dtype=np.int64)
        return Balancing(
            sender=_numbered(met.senders(), _asked_first(seen)) if vips else nobody,
            vip=vip_numbers(self._zones, switches, vips, family, self._acls),
            protocols=protocols,
        )

    def _tables(
        self, seen: Sequence[Seen | None], met: Met, trim: "_Trim"
    ) -> tuple[LegTable, LegTable]:
        """Return the egress legs and the ingress legs."""
        sent = [NOTHING if ends is None else ends.egress for ends in seen]
        received = [NOTHING if ends is None else ends.ingress for ends in seen]
        egress = self._table(
            [
                _with(trim.egress(acl_entries), met.entries(index, At.SRC))
                for index, acl_entries in enumerate(sent)
            ]
        )
        ingress = self._table(
            [
                _with(trim.ingress(index, acl_entries), met.entries(index, At.DST))
                for index, acl_entries in enumerate(received)
            ]
        )
        return egress, ingress

    def _stateful(self) -> NDArray[np.bool_]:
        """Return which endpoints are on a switch that lets replies through whatever its ACLs."""
        return np.array(
            [
                e.attachment is None
                or e.attachment.switch not in self._acls[e.attachment.zone].stateless
                for e in self._matrix.endpoints
            ],
            dtype=np.bool_,
        )

    def _table(self, entries: Sequence[_Views]) -> LegTable:
        """Return the legs of one side: classes by entries in each locality, then their atoms."""
        numbers, distinct = self._classes(entries)
        classes = [_Class(some, self._matrix.ports, self._predicates) for some in distinct]
        sizes = np.array([class_.legs.size for class_ in classes], dtype=np.int64)
        counts = np.array([len(class_.decided) for class_ in classes], dtype=np.int64)
        decided = [leg for class_ in classes for leg in class_.decided]
        tied = np.array([leg.tied for leg in decided], dtype=np.bool_)
        flat = (class_.legs.reshape(-1) for class_ in classes)
        legs = np.concatenate([np.zeros(0, np.int64), *flat])
        return LegTable(
            classes=numbers,
            atoms=np.array([class_.atoms for class_ in classes], dtype=np.int32),
            port_atoms=np.array([class_.port_atoms for class_ in classes], dtype=np.int32),
            first=np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64),
            width=np.array([class_.legs.shape[1] for class_ in classes], dtype=np.int64),
            legs=legs + np.repeat(np.cumsum(counts) - counts, sizes),
            predicted=np.array([leg.verdict for leg in decided], dtype=np.uint8),
            decider=np.array([leg.decider for leg in decided], dtype=np.int32),
            zonal=np.full(len(decided), -1, dtype=np.int64),
            zone=self._zone,
        ).by_zone(tied, self._zone)

    def _classes(
        self, entries: Sequence[_Views]
    ) -> tuple[NDArray[np.int32], list[tuple[Entry, ...]]]:
        """Return each endpoint's class by Locality, shape (localities, endpoints), and its entries.

        The entries are by class: those that decide.
        """
        everyone = self._predicates.number(np.ones(len(entries), dtype=np.bool_))
        views = {views[locality] for views in entries for locality in Locality}
        deciding = {view: _deciding(view, everyone) for view in views}
        numbers: dict[tuple[Entry, ...], int] = {}
        classes = [
            [numbers.setdefault(deciding[views[locality]], len(numbers)) for views in entries]
            for locality in Locality
        ]
        shape = (len(Locality), len(entries))
        return np.array(classes, dtype=np.int32).reshape(shape), list(numbers)

    def _seen(self, endpoint: Endpoint) -> Seen | None:
        """Return an endpoint's entries; None for one that no leg begins or ends at."""
        address = acls.address_as(endpoint, Side.SRC, self._predicates.family)
        if endpoint.attachment is None or address is None or not acls.sends(endpoint):
            return None
        return self._acls[endpoint.attachment.zone].seen_by(endpoint, endpoint.attachment)

    def _places(
        self, switch: NDArray[np.int32], host: NDArray[np.bool_], met: Met, crossing: ways.Crossing
    ) -> tuple[ways.TransitClasses, dict[str, dict[int, object]], Mapping[str, set[str]]]:
        """Return where packets come from and go to, with unread router policies by switch.

        Besides, by zone, numbers for what its flows make of hosts' addresses.
        """
        endpoints, family = self._matrix.endpoints, self._predicates.family
        # Nodes are answered at their management port's address: as a pod there would be.
        ports = [
            replace(e, addresses=e.attachment.addresses, host_network=False) if e.attachment else e
            for e in itertools.compress(endpoints, host)
        ]
        routing = _routing(
            self._zones, Predicates([*endpoints, *ports], family, met.predicates.protocols), met
        )
        count = len(endpoints)
        to, replied = met.places(At.DST), met.places(At.REPLY_TO)
        to = _numbered(to, *crossing.addresses.values())
        receiving = _numbered(
            np.concatenate([switch, switch[host]]),
            routing.columns,
            np.concatenate([self._own_addresses(host), np.zeros(len(ports), dtype=np.int64)]),
            np.concatenate([to, replied[host]]),
        )
        answered = receiving[:count].copy()
        answered[host] = receiving[count:]
        sending = _numbered(switch, routing.rows[:count], met.places(At.SRC), self._by_host(host))
        hosts = met.host_marks()
        for zone, marks in hosts.items():
            column = routing.by_zone[zone]
            for index, number in marks.items():
                marks[index] = (number, int(column[index]))
        places = ways.TransitClasses(
            sending=sending, receiving=receiving[:count], answered=answered
        )
        return places, hosts, routing.unread

    def _by_host(self, host: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Say which nodes' packets a router sends back to their host (local gateway mode)."""
        hosts = [
            e.attachment if is_host else None
            for e, is_host in zip(self._matrix.endpoints, host, strict=True)
        ]
        return np.array(
            [
                at is not None
                and at.zone in self._zones
                and any(hop in at.addresses for _, hop in self._zones[at.zone].source_routes)
                for at in hosts
            ],
            dtype=np.int64,
        )

    def _own_addresses(self, host: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return numbers for the addresses of nodes, 0 for endpoints that are on their switch."""
        family = self._predicates.family
        numbers: dict[str, int] = {}
        return np.array(
            [
                numbers.setdefault(e.address(family) or "", len(numbers) + 1) if is_host else 0
                for e, is_host in zip(self._matrix.endpoints, host, strict=True)
            ],
            dtype=np.int64,
        )

    def _composable(
        self, seen: Sequence[Seen | None], opaque: Mapping[str, set[str]], met: Met
    ) -> Composable:
        """Return which packets are decided by legs."""
        endpoints = self._matrix.endpoints
        return Composable(
            understood=np.array(
                [
                    ends is not None
                    and e.attachment is not None
                    and e.attachment.switch not in opaque
                    for ends, e in zip(seen, endpoints, strict=True)
                ],
                dtype=np.bool_,
            ),
            host=np.array([e.host_network for e in endpoints], dtype=np.bool_),
            balanced=_balanced(self._matrix, self._zones),
            limits=tuple(met.limited(self._matrix.ports)),
        )


def _balanced(matrix: Matrix, zones: Mapping[str, Zone]) -> NDArray[np.bool_]:
    """Return, by endpoint and port, where a load balancer may take a packet to an own address.

    A NodePort is at every node's address, as a VIP or by a template, and no ACL says so.
    """
    # Made of many zones that mostly say the same: as plain tuples.
    vips: set[tuple[str, Protocol, int]] = set()
    for zone in zones.values():
        for balancer in zone.load_balancers:
            for address, number, _ in balancer.vips:
                vips.add(("" if balancer.template else address, balancer.protocol, number))

    def balanced(endpoint: Endpoint, port: Port) -> bool:
        addresses = (*endpoint.addresses, "") if endpoint.host_network else endpoint.addresses
        return not port.last and any((a, port.protocol, port.number) in vips for a in addresses)

    return np.array(
        [[balanced(endpoint, port) for port in matrix.ports] for endpoint in matrix.endpoints],
        dtype=np.bool_,
    ).reshape(len(matrix.endpoints), len(matrix.ports))


def _group_vectors(
    endpoints: Sequence[Endpoint], zones: Mapping[str, Zone]
) -> dict[str, NDArray[np.bool_]]:
    """Return which endpoints are in each port group, each looked up in its own zone."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, endpoint in enumerate(endpoints):
        if endpoint.attachment is not None:
            places[endpoint.attachment.zone, endpoint.attachment.port].append(index)
    vectors: dict[str, NDArray[np.bool_]] = {}
    for zone in zones.values():
        for name, ports in acls.group_ports(zone).items():
            for port in ports:
                for index in places.get((zone.name, port), ()):
                    if name not in vectors:
                        vectors[name] = np.zeros(len(endpoints), dtype=np.bool_)
                    vectors[name][index] = True
    return vectors


def _switches(endpoints: Sequence[Endpoint]) -> tuple[NDArray[np.int32], dict[Switch, int]]:
    """Return the number of each endpoint's switch, and the numbers of switches.

    Of a switch that all zones have a part of, each part is one: it has flows of its own.
    """
    attached = [e.attachment for e in endpoints]
    switches = {(at.zone, at.switch) for at in attached if at is not None}
    in_order = sorted(switches, key=lambda switch: switch[::-1])
    numbers = {switch: number for number, switch in enumerate(in_order)}
    of_endpoints = [numbers[at.zone, at.switch] if at is not None else 0 for at in attached]
    return np.array(of_endpoints, dtype=np.int32), numbers


def _with(views: _Views, flows: Sequence[tuple[Entry, ...]]) -> _Views:
    """Return the entries of ACLs and those of other flows together, by Locality."""
    apart, together, own_node, routed = (
        (*of_acls, *of_flows) for of_acls, of_flows in zip(views, flows, strict=True)
    )
    return apart, together, own_node, routed


def _either(first: Iterable[Entry], second: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries of both, each once: sorted, as those of a single locality are."""
    return tuple(sorted({*first, *second}))


class _Trim:
    """Takes out the entries that no other end in a locality can fulfil.

    Every switch has an ACL for the node it is on. Without this, that one entry would make the
    classes of one node's pods another node's strangers.
    """

    def __init__(
        self, predicates: Predicates, switch: NDArray[np.int32], host: NDArray[np.bool_]
    ) -> None:
        self._predicates = predicates
        self._switch = switch
        self._host = host
        self._everyone = predicates.number(np.ones(len(switch), dtype=np.bool_))
        self._nodes: dict[int, frozenset[int] | None] = {}

    def egress(self, seen: tuple[tuple[Entry, ...], tuple[Entry, ...]]) -> _Views:
        """Return a source's entries by locality."""
        apart, together = seen
        return apart, together, together, _either(apart, together)

    def ingress(self, index: int, seen: tuple[tuple[Entry, ...], tuple[Entry, ...]]) -> _Views:
        """Return a destination's entries by locality."""
        apart, together = seen
        if self._host[index]:
            return apart, (), (), ()  # a node's own address is always apart
        home = frozenset([int(self._switch[index])])
        from_others = tuple(entry for entry in apart if self._switches(entry.others) != home)
        from_beside = tuple(entry for entry in together if self._switches(entry.others) is None)
        return (
            from_others,
            from_beside,
            self._of_node(index, together),
            _either(from_others, from_beside),
        )

    def _switches(self, number: int) -> frozenset[int] | None:
        """Return the switches of a vector of nodes alone; None where it has other endpoints."""
        if number not in self._nodes:
            vector = self._predicates.vectors[number]
            nodes = not (vector & ~self._host).any()
            switches = np.unique(self._switch[vector]).tolist()
            self._nodes[number] = frozenset(switches) if nodes else None
        return self._nodes[number]

    def _of_node(self, index: int, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """Return the entries that are true of the endpoint's node, whatever else they are of."""
        node = np.flatnonzero(self._host & (self._switch == self._switch[index]))
        true = []
        for entry in entries:
            held = self._predicates.vectors[entry.others][node]
            if held.all():
                true.append(entry._replace(others=self._everyone))
            elif held.any():
                true.append(entry)
        return tuple(sorted(set(true)))


def _deciding(entries: tuple[Entry, ...], everyone: int) -> tuple[Entry, ...]:
    """Leave out the entries that another one is always asked before, and answers for.

    In a tier the highest priority decides. `everyone` numbers the vector of all endpoints.
    """
    above: dict[tuple[int, int, int, L4], int] = {}
    """The highest priority of the entries that may answer for others."""
    for entry in entries:
        if entry.others == everyone or entry.l4 == matches.ANY_L4:
            key = entry.stage, entry.tier, entry.others, entry.l4
            above[key] = max(entry.priority, above.get(key, entry.priority))

    def answered(entry: Entry) -> bool:
        wider = itertools.product((everyone, entry.others), (matches.ANY_L4, entry.l4))
        return any(
            above.get((entry.stage, entry.tier, others, l4), entry.priority) > entry.priority
            for others, l4 in wider
        )

    return tuple(entry for entry in entries if not answered(entry))


class _Class:
    """The atoms and predicted legs of endpoints with the same entries.

    `legs[a, p]` is the leg of atom a and port atom p, `decided` what each leg should answer.
    """

    def __init__(
        self, entries: tuple[Entry, ...], ports: Sequence[Port], predicates: Predicates
    ) -> None:
        self._entries = entries
        vectors = sorted({entry.others for entry in entries})
        columns = [predicates.vectors[number] for number in vectors]
        self._vector_row = {number: row for row, number in enumerate(vectors)}
        self.atoms, self._truth = _atoms(columns, len(predicates.endpoints))
        l4s = sorted({entry.l4 for entry in entries})
        self._l4_row = {l4: row for row, l4 in enumerate(l4s)}
        holds = [np.array([_holds(l4, port) for port in ports]) for l4 in l4s]
        self.port_atoms, self._port_truth = _atoms(holds, len(ports))
        self.legs = np.empty((self._truth.shape[1], self._port_truth.shape[1]), dtype=np.int64)
        self.decided: list[Decided] = []
        for atom in range(len(self.legs)):
            numbers: dict[tuple[Entry, ...], int] = {}
            for port_atom in range(self.legs.shape[1]):
                entries = tuple(self._matching(atom, port_atom))
                if entries not in numbers:
                    numbers[entries] = len(self.decided)
                    self.decided.append(evaluate(entries))
                self.legs[atom, port_atom] = numbers[entries]

    def _matching(self, atom: int, port_atom: int) -> Iterator[Entry]:
        """Yield the entries that are true of packets of an atom and a port atom."""
        for entry in self._entries:
            other = self._truth[self._vector_row[entry.others], atom]
            if other and self._port_truth[self._l4_row[entry.l4], port_atom]:
                yield entry


def _atoms(
    columns: Sequence[NDArray[np.bool_]], count: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the atom of each of `count` things, and the truth of each column per atom."""
    if not columns or not count:
        return np.zeros(count, dtype=np.int32), np.zeros((0, 1), dtype=np.bool_)
    stacked = np.stack(columns)
    keys = np.ascontiguousarray(np.packbits(stacked, axis=0).T)
    opaque = keys.view(np.dtype((np.void, keys.shape[1]))).ravel()
    _, first, inverse = np.unique(opaque, return_index=True, return_inverse=True)
    return inverse.astype(np.int32), stacked[:, first]


def _holds(l4: L4, port: Port) -> bool:
    return any(
        protocol == port.protocol and low <= port.sample <= high for protocol, low, high in l4
    )


class Decided(NamedTuple):
    """What ACLs do with a packet: PASS or STOP, and the decider, -1 where there is none."""

    verdict: int
    decider: int
    tied: bool
    """ACLs of several owners decide alike in a stage: which of them OVN takes is its own choice."""


def evaluate(entries: Iterable[Entry]) -> Decided:
    """Return what the ACLs that match a packet do with it.

    Stages in order; in a stage tiers from 0; in a tier the highest priority decides, and `pass`
    goes on to the next tier. Where nothing decides, the stage lets the packet through. Of ACLs
    with one priority that contradict each other OVN may take any; the denial is taken here, and
    the trace will tell.
    """
    by_tier: dict[tuple[int, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.stage != NO_ACL:
            by_tier[entry.stage, entry.tier].append(entry)
    allowed_by, allowed_in, tied = -1, NO_ACL, False
    for (stage, _), asked_together in sorted(by_tier.items()):
        if stage == allowed_in:
            continue
        deciding = _highest(asked_together)
        tied |= len({entry.decider for entry in deciding}) > 1
        denying = [entry for entry in deciding if entry.action in _DENIES]
        if denying:
            return Decided(STOP, denying[0].decider, tied)
        if deciding[0].action != _GOES_ON:
            allowed_by, allowed_in = deciding[0].decider, stage
    return Decided(PASS, allowed_by, tied)


def _highest(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of the highest priority."""
    top = max(entry.priority for entry in entries)
    return [entry for entry in entries if entry.priority == top]


def _asked_first(seen: Sequence[Seen | None]) -> NDArray[np.int64]:
    """Return numbers by endpoint for the ACLs that its packets are asked before load balancing."""
    numbers: dict[tuple[Entry, ...], int] = {}
    entries = ([] if ends is None else ends.egress[Locality.APART] for ends in seen)
    first = (tuple(e for e in some if e.stage == Stage.FROM_LPORT) for some in entries)
    listed = [numbers.setdefault(some, len(numbers)) for some in first]
    return np.array(listed, dtype=np.int64)


def _numbered(*numbers: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each combination of numbers that endpoints have."""
    stacked = np.stack([column.astype(np.int64) for column in numbers], axis=1)
    _, places = np.unique(stacked, axis=0, return_inverse=True)
    return places.reshape(-1).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routing:
    """What router policies decide of endpoints, as numbers: as source and as destination.

    Two endpoints with the same number are treated alike by every policy that decides a packet
    between endpoints. `by_zone` are the columns of each zone, `unread` by switch the policies whose
    match is not understood.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    by_zone: Mapping[str, NDArray[np.int32]]
    unread: Mapping[str, set[str]]


def _routing(zones: Mapping[str, Zone], predicates: Predicates, met: Met) -> _Routing:
    """Read the flows that router policies are in the southbound, by priority."""
    rows: list[NDArray[np.int32]] = [np.zeros(len(predicates.endpoints), dtype=np.int32)]
    columns = [*rows]
    by_zone: dict[str, NDArray[np.int32]] = {}
    unread: dict[str, set[str]] = defaultdict(set)
    for name, zone in sorted(zones.items()):
        row, column, opaque = _decisions(met.policies(name), zone, predicates)
        rows.append(row)
        columns.append(column)
        by_zone[name] = column
        for switch in zone.switches if opaque else ():
            unread[switch] |= opaque
    return _Routing(
        rows=_numbered(*rows), columns=_numbered(*columns), by_zone=by_zone, unread=dict(unread)
    )


def _ends(
    terms: Iterable[Term], zone: Zone, predicates: Predicates
) -> Iterator[tuple[Vector, Vector]]:
    """Yield, of each term that packets between endpoints can meet, their sources and destinations.

    Where a packet enters the router is its switch, which a transit leg has anyway.
    """
    for term in terms:
        if predicates.family in term.families:
            sides = sides_of(term, zone, predicates)
            if sides[Side.SRC].any() and sides[Side.DST].any():
                yield sides[Side.SRC], sides[Side.DST]


def _decisions(
    policies: Sequence[LogicalFlow], zone: Zone, predicates: Predicates
) -> tuple[NDArray[np.int32], NDArray[np.int32], set[str]]:
    """Return each endpoint's row and its column among what policies decide."""
    count = len(predicates.endpoints)
    sources, destinations, opaque = [], [], set()
    order: list[LogicalFlow] = []
    default = [flow.actions for flow in policies if flow.match == "1"]
    for policy in sorted(policies, key=lambda policy: -policy.priority):
        try:
            terms = matches.parse(policy.match)
        except MatchError:
            opaque.add(policy.match)
            continue
        for src, dst in _ends(terms, zone, predicates):
            sources.append(src)
            destinations.append(dst)
            order.append(policy)
    rows, row_truth = _atoms(sources, count)
    columns, column_truth = _atoms(destinations, count)
    decided = np.zeros((row_truth.shape[1], column_truth.shape[1]), dtype=np.int32)
    for number in range(len(order) - 1, -1, -1):
        action = 0 if order[number].actions in default else number + 1
        both = row_truth[number][:, None] & column_truth[number][None, :]
        decided[both] = action
    _, row_numbers = np.unique(decided, axis=0, return_inverse=True)
    _, column_numbers = np.unique(decided, axis=1, return_inverse=True)
    return (
        row_numbers.reshape(-1)[rows].astype(np.int32),
        column_numbers.reshape(-1)[columns].astype(np.int32),
        opaque,
    )
