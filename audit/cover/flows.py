"""What logical flows other than ACLs' say of endpoints: whom they tell apart. Pure.

The argument (`docs/cover.md`) needs that two packets of one leg meet the same flows. Which flows an
endpoint's packets can meet is told by its *identity*: the addresses, the MAC and the logical port
that it sends from and is sent to. So here every flow of every datapath that packets can come to is
read for identities, whatever its stage and whatever feature it was made for:

- A flow whose match names an endpoint's identity, or a network, set or group it is in, is a
  *mark* of the endpoint. Two endpoints with the same marks, each with its own identity in place,
  are alike to that datapath.
- A flow that names nobody is met by all alike, and belongs to the datapath.
- A flow that looks at ports, and is met by endpoints, is a *limit*: the cells that can meet it are
  not composed.

The switch an endpoint is on belongs to legs, with what is the switch's own (its router's port, its
subnets) put under common names, so that nodes are compared with each other. Every other datapath
belongs to the ways between switches, which are pairs of switches and so compared with none.
"""

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.cover import matches
from audit.cover.identities import (
    At,
    Holder,
    Identities,
    Named,
    addresses_of,
    canonical,
    contents,
    has_alternatives,
    holds_many,
    is_network,
    names_in,
    renamed,
    things_in,
)
from audit.cover.matches import ANY_L4, AddressIn, Intervals, Literal, MatchError, Side
from audit.cover.readings import LOOKS_AT_PORTS, Reading, read
from audit.cover.ties import tied
from audit.flows.literals import MAC
from audit.model.endpoints import Endpoint, Port
from audit.model.facts import LogicalFlow, LogicalPort, Zone
from audit.model.packets import REQUEST_SOURCE_PORT, WITH_PORTS, Family, Protocol

_PROTOCOL = re.compile(r"\b(?:tcp|udp|sctp)\b")
_CONSTANT = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9]+")
_REGISTER_ASKED = re.compile(
    r"(?<![a-z])(reg[0-9]+)(?:\[([0-9]+)(?:\.\.([0-9]+))?\])? == "
    rf"({_CONSTANT.pattern})(?![\w./:])"
)
_LAST_BIT = 31
_ANYTHING = "anything"
_ITS_PORT = ("tcp.dst", "udp.dst", "sctp.dst", "ct_tp_dst()")
_ITS_ADDRESS = ("ip4.dst", "ip4.src", "ct_nw_dst()")
"""What a register is given of a packet: as it was sent, before any translation."""
_PORT_ASKED = re.compile(r"^[^|(]*\b(?:tcp|udp|sctp)\.dst == ([0-9]+)(?= &&|$)[^|]*$")
_GIVEN = re.compile(
    r"\b(x{0,2}reg[0-9]+)(?:\[([0-9]+)(?:\.\.([0-9]+))?\])? *(?:=(?!=)|<->) *([^;{}]*)"
)
_MARKS = re.compile(r"\bpkt\.mark = [0-9]+; *")
_GOES_ON = re.compile(r"(?:(?:set_meter\([^()]*\)|ip\.dscp = [0-9]+|next); *)*")
_SENT_TO = re.compile(
    r"(?:x{0,2}reg[0-9]+|eth\.dst|ip[46]\.dst|outport)(?:\[[^\]]*\])? *= *([^;{}]*)"
)
"""Where actions send a packet: a next hop stands in a register."""
_OUTPORT = re.compile(r'\boutport = "((?:[^"\\]|\\.)*)"')
_TEMPLATE = "^"
"""Begins a chassis' own variable. `ovn-trace` passes over such flows; to a node's they are of a
NodePort, whose cells are not composed anyway."""


class Numbers:
    """Numbers flows by what they say: the same for the same, whatever zone they are of."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}

    def of(self, key: object) -> int:
        """Return the number of a flow."""
        return self._numbers.setdefault(key, len(self._numbers))


class Between(NamedTuple):
    """A flow of a datapath that no endpoint is on, and the endpoints that it is about.

    It is `sent` where it sends them packets that are not for them, `tied` where OVN may take
    another for it.
    """

    datapath: str
    flow: LogicalFlow
    about: tuple[tuple[At, int], ...]
    sent: bool = False
    tied: bool = False


@dataclass(slots=True)
class ZoneMarks:
    """The marks that the flows of one zone put on endpoints, by the side of the packet they are at.

    `on` is by switch: marks of endpoints there; `kind` of a switch are flows that name nobody.
    `between` are marks on all other datapaths.
    """

    on: dict[str, dict[At, dict[int, list[int]]]] = field(default_factory=dict)
    kind: dict[str, list[tuple[int, Intervals]]] = field(default_factory=dict)
    tracking: dict[str, int] = field(default_factory=dict)
    """By switch, a number for all that decides there which packets conntrack and ACLs know."""
    answering: dict[str, bool] = field(default_factory=dict)
    """By switch, whether it lets established replies through before any ACL is looked at."""
    between: dict[At, dict[int, list[int]]] = field(
        default_factory=lambda: {at: defaultdict(list) for at in At}
    )
    crossing: dict[str, dict[int, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By network, marks between its switches of who is on another one, as a destination."""
    within: dict[str, dict[tuple[str, str], NDArray[np.bool_]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By network, who is in each network or set that flows between its switches name; a set is one
    zone's. One vector for all networks: there are as many of these as there are endpoints."""
    exact: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By network, those whose address its flows name by itself, or send packets to."""
    policies: list[LogicalFlow] = field(default_factory=list)
    """Of routers, which `audit.cover.classes` reads by priority."""
    beyond: list[Between] = field(default_factory=list)
    """All flows between switches that packets can meet; as one for each datapath the stages in
    which packets go on as they came, whose flows are not among them."""
    ties: list[tuple[LogicalFlow, frozenset[int] | None]] = field(default_factory=list)
    """Flows for which OVN may take another; where there are many, the endpoints these name."""
    limits: list[LogicalFlow] = field(default_factory=list)
    """Flows that look at ports and may be met by endpoints."""
    redirected: set[int] = field(default_factory=set)
    """Endpoints of which their switch sends what is for them to a port that is not theirs."""
    unread: set[str] = field(default_factory=set)
    """Matches that could not be read."""


_RIVALS = 16
"""Were more flows asked at the same time, all packets that meet the one are left out of legs."""
_ROUTER_POLICY = "lr_in_policy"


def _both(*matches_: str) -> str:
    """Return what is true where all of these are."""
    return " && ".join(f"({match})" if has_alternatives(match) else match for match in matches_)


def _is_policy(flow: LogicalFlow) -> bool:
    """Say whether a flow is a router policy whose match is understood."""
    if flow.stage != _ROUTER_POLICY:
        return False
    try:
        matches.parse(flow.match)
    except MatchError:
        return False
    return True


class ZoneFlows:
    """Reads one zone's flows for the marks they put on the endpoints of a matrix."""

    def __init__(
        self,
        zone: Zone,
        who: Identities,
        numbers: Numbers,
        family: Family,
        explained: Mapping[str, frozenset[int]],
        ports: Sequence[Port],
        protocols: frozenset[Protocol] = frozenset(WITH_PORTS),
    ) -> None:
        """`explained` are flows by switch, by their place there, that ACLs account for.

        `ports` are those that are asked about, of some or all of the `protocols`.
        """
        self._zone = zone
        self._who = who
        self._numbers = numbers
        self._family = family
        self._explained = explained
        self._ports = ports
        self._switches = switches_of(who.endpoints, zone)
        self._routers = _of_routers(zone.ports.values(), self._switches)
        self._others = _of_ends(zone.ports.values(), self._switches) - self._routers
        self._whole = _by_switch(who.endpoints)
        self._everyone = frozenset(Holder(i) for i, names in enumerate(who.names) if names)
        self._protocols = protocols
        self._several = len({endpoint.network for endpoint in who.endpoints}) > 1
        self._wide: dict[str, dict[str, None]] = defaultdict(dict)
        self._assigned: set[str] = set()
        self._asks_for_marks: set[tuple[str, str]] = set()
        self._holders: dict[str, frozenset[Holder]] = {}
        self._ports_of: dict[str, list[LogicalPort]] = defaultdict(list)
        self._redirecting: set[str] = set()

    def marks(self) -> ZoneMarks:
        """Return the marks of all flows that packets can come to."""
        marks = ZoneMarks()
        datapaths = reached(self._zone, self._switches)
        actions = set[str]()  # most flows say one of few things
        for name in datapaths:
            actions.update(flow.actions for flow in self._zone.flows.get(name, ()))
        self._assigned.update(itertools.chain.from_iterable(map(things_in, actions)))
        self._assigned -= self._others
        self._asks_for_marks.update(
            (name, flow.stage)
            for name in datapaths
            for flow in self._zone.flows.get(name, ())
            if "pkt.mark" in flow.match
        )
        for name in datapaths:
            self._datapath(name, marks)
        vectors: dict[str, NDArray[np.bool_]] = {}
        for network, things in self._wide.items():
            for thing in things:
                if thing not in vectors:
                    vectors[thing] = np.zeros(len(self._who.endpoints), dtype=np.bool_)
                    members = [holder.endpoint for holder in self._members(thing, None)]
                    vectors[thing][members] = True
                where = "" if is_network(thing) else self._zone.name
                marks.within[network][where, thing] = vectors[thing]
        return marks

    def _common_names(self, switch: str) -> dict[str, str]:
        if not self._ports_of:
            for port in self._zone.ports.values():
                self._ports_of[port.datapath].append(port)
                if port.kind == "chassisredirect":
                    self._redirecting.add(port.name)
        ports = self._ports_of.get(switch, ())
        return _common_names(self._zone, switch, ports, self._redirecting)

    def _cross(
        self, network: str, index: int, number: int, marks: ZoneMarks, *, exact: bool = False
    ) -> None:
        """Mark an endpoint to those of a network, if it is on another."""
        if self._who.endpoints[index].network != network:
            marks.crossing[network][index].append(number)
            if exact:
                marks.exact[network].add(index)

    def _datapath(self, name: str, marks: ZoneMarks) -> None:
        common = self._common_names(name) if name in self._switches else None
        switch = None if common is None else name
        explained = self._explained.get(name, frozenset())
        every = self._zone.flows.get(name, ())
        going_on = _going_on(every)
        if common is not None:
            marks.on[name] = {at: defaultdict(list) for at in At}
            # A stage that another switch lacks, or its default, is told from this one's.
            stages = self._numbers.of(("goes on", *sorted(going_on)))
            marks.kind[name] = [(stages, ANY_L4)]
            marks.tracking[name] = self._numbers.of(_tracking(every, explained, common))
            marks.answering[name] = _answering(every, explained)
        else:
            stages_here = LogicalFlow("goes on", 0, " ".join(sorted(going_on)), "")
            marks.beyond.append(Between(name, stages_here, ()))
        by_acls = [every[index] for index in explained]
        relevant = list(self._relevant(every, explained, marks))
        given = _Registers((flow for flow, _ in relevant), by_acls, self._ports, self._who.holders)
        met = [
            (flow, reading)
            for flow, reading in relevant
            if flow.stage not in going_on and given.may_be(flow.match)
        ]
        asked = [
            (flow, reading)
            for flow, reading in _whatever_the_protocol(met, self._protocols)
            if not self._of_somebody_else(names_in(flow.match), common or {}, switch)
        ]
        ties = self._ties(name, [flow for flow, _ in asked])
        for index, (flow, reading) in enumerate(asked):
            self._flow(flow, reading.l4, name, common, marks, tied=index in ties)
        for index, others in ties.items():
            self._tie(asked[index][0], others, switch, marks)

    def _ties(self, datapath: str, flows: Sequence[LogicalFlow]) -> dict[int, list[LogicalFlow]]:
        """Return, by its index, the flows that OVN may take for each of a datapath's.

        A mark that nothing asks for later, as ovn-kubernetes' for the host, makes no difference.
        """
        network = self._zone.network_at(datapath)
        asks_for_marks = {
            (name, stage)
            for name, stage in self._asks_for_marks
            if self._zone.network_at(name) == network
        }
        ties: dict[int, list[LogicalFlow]] = defaultdict(list)
        for first, second in tied(flows, self._zone):
            one, other = flows[first], flows[second]
            same = _MARKS.sub("", one.actions) == _MARKS.sub("", other.actions)
            if same and asks_for_marks <= {(datapath, one.stage)}:
                continue
            between = None if datapath in self._switches else network
            if self._may_both_be(one.match, other.match, between):
                ties[first].append(flows[second])
                ties[second].append(flows[first])
        return ties

    def _tie(
        self,
        flow: LogicalFlow,
        others: Sequence[LogicalFlow],
        switch: str | None,
        marks: ZoneMarks,
    ) -> None:
        """Limit what can meet a flow and one of others that may be taken for it.

        Where neither names an endpoint, all packets fare alike.
        """
        ends = {
            each: {index for _, index in self._marked(names_in(each.match), switch)}
            for each in (flow, *others)
        }
        rivals = [other for other in others if ends[flow] or ends[other]]
        if len(rivals) > _RIVALS:
            among = frozenset(itertools.chain.from_iterable(ends[rival] for rival in rivals))
            marks.ties.append((flow, among or None))
        else:
            both = (flow._replace(match=_both(flow.match, other.match)) for other in rivals)
            marks.ties += [(each, None) for each in both]

    def _may_both_be(self, first: str, second: str, between: str | None) -> bool:
        """Say whether both matches may be true of a packet that is asked about, and comes there.

        Where it comes to is `between` switches of a network: from one, and for another.
        """
        both = _both(first, second)
        if between is not None:
            ends = [self._required_of(both, side) for side in Side]
            places = {
                self._switch_of(end)
                for end in itertools.chain.from_iterable(ends)
                if self._who.endpoints[end].network == between
            }
            if all(ends) and len(places) == 1:
                return False
        try:
            return self._family in read(both, self._protocols).families
        except MatchError:
            return True

    def _required_of(self, match: str, side: Side) -> set[int]:
        """Return the endpoints of which one must be that side of a packet; empty if anybody may."""
        named = names_in(match)
        required = (
            things
            for things in named.required
            if all((thing, side) in named.things for thing in things)
        )
        return {holder.endpoint for things in required for holder in self._members_of(things, None)}

    def _switch_of(self, index: int) -> tuple[str, str] | None:
        attached = self._who.endpoints[index].attachment
        return None if attached is None else (attached.zone, attached.switch)

    def _relevant(
        self, every: Sequence[LogicalFlow], explained: Collection[int], marks: ZoneMarks
    ) -> Iterator[tuple[LogicalFlow, Reading]]:
        """Yield the flows that packets asked about can meet, but for those that ACLs explain."""
        for index, flow in enumerate(every):
            reading = None if index in explained else self._read(flow, marks)
            if reading is not None:
                yield flow, reading

    def _read(self, flow: LogicalFlow, marks: ZoneMarks) -> Reading | None:
        """Read a flow; None where no packet of the family, to a port asked about, can meet it."""
        if flow.stage[:1].isupper():  # a row that actions look up
            return Reading(frozenset(Family), None)
        if _TEMPLATE in flow.match or self._of_another_port(flow.match):
            return None
        try:
            reading = read(flow.match, self._protocols)
        except MatchError:
            marks.unread.add(flow.match)
            return None
        return reading if self._family in reading.families else None

    def _of_another_port(self, match: str) -> bool:
        """Say whether a match asks for a port that no request or reply is sent to."""
        comparison = _PORT_ASKED.search(match)
        if comparison is None:
            return False
        number = int(comparison[1])
        return number != REQUEST_SOURCE_PORT and not any(number in port for port in self._ports)

    def _flow(
        self,
        flow: LogicalFlow,
        l4: Intervals | None,
        datapath: str,
        common: Mapping[str, str] | None,
        marks: ZoneMarks,
        *,
        tied: bool,
    ) -> None:
        """Note the marks of one flow; `common` are names of what is the switch's own.

        Which of several that are `tied` OVN takes is each zone's own.
        """
        named = names_in(flow.match)
        switch = None if common is None else datapath
        marked = self._marked(named, switch)
        if l4 is not None and (marked or common is None or l4 == ANY_L4):
            marks.limits.append(flow)
            return
        self._sends_to(flow, named, datapath, switch, marks)
        if common is None:
            if self._several:
                wide = (thing for thing, _ in named.things if holds_many(thing))
                self._wide[self._zone.network_at(datapath)].update(dict.fromkeys(wide))
            by_itself = set[int]()
            if self._several and marked:
                things = (thing for thing, _ in named.things if not holds_many(thing))
                by_itself = {holder.endpoint for holder in self._members_of(things, None)}
            marks.beyond.append(Between(datapath, flow, tuple(marked), tied=tied))
            self._mark_between(flow, marked, datapath, by_itself, marks)
        elif marked:
            self._mark_on_switch(flow, marked, datapath, common, marks)
        else:
            # What stages of ACLs ask is set by those before; ACLs' own are compared elsewhere.
            where = (self._zone.name,) if tied and "_acl" not in flow.stage else ()
            number = self._numbers.of((*where, *renamed(flow, common)))
            marks.kind[datapath].append((number, ANY_L4 if l4 is None else l4))

    def _mark_between(
        self,
        flow: LogicalFlow,
        marked: Sequence[tuple[At, int]],
        datapath: str,
        by_itself: Collection[int],
        marks: ZoneMarks,
    ) -> None:
        """Mark the endpoints that a flow names between switches, some by their address itself."""
        is_policy = _is_policy(flow)
        if is_policy:
            marks.policies.append(flow)
        for at, index in marked:
            key = (self._zone.name, datapath, *renamed(flow, self._who.names[index]))
            number = self._numbers.of(key)
            if not is_policy:
                marks.between[at][index].append(number)
            if at is At.DST:
                network = self._zone.network_at(datapath)
                self._cross(network, index, number, marks, exact=index in by_itself)

    def _mark_on_switch(
        self,
        flow: LogicalFlow,
        marked: Iterable[tuple[At, int]],
        switch: str,
        common: Mapping[str, str],
        marks: ZoneMarks,
    ) -> None:
        """Mark the endpoints that a switch's flow names, and those whose packets it redirects."""
        outport = _OUTPORT.search(flow.actions)
        for at, index in marked:
            names = self._who.names[index]
            number = self._numbers.of(renamed(flow, {**common, **names}))
            marks.on[switch][at][index].append(number)
            elsewhere = outport is not None and names.get(outport[1]) != "port"
            if elsewhere and at in (At.DST, At.REPLY_TO) and self._on(index, switch):
                marks.redirected.add(index)

    def _sends_to(
        self, flow: LogicalFlow, named: Named, datapath: str, switch: str | None, marks: ZoneMarks
    ) -> None:
        """Mark whom a flow sends packets to of which some are for others.

        To a packet that is for it anyway such a flow does nothing wrong, to all others it does:
        what arrives at it says nothing of them.
        """
        sent_to = itertools.chain.from_iterable(map(things_in, _SENT_TO.findall(flow.actions)))
        receivers = self._members_of(sent_to, switch)
        if not receivers:
            return
        # From whom a packet is says nothing of for whom it is.
        destinations = (thing for thing, side in named.things if side is not Side.SRC)
        named_receivers = self._members_of(destinations, switch)
        is_policy = _is_policy(flow)
        by_side = marks.between if switch is None else marks.on[switch]
        for holder in sorted(receivers):
            if named_receivers == {holder}:
                continue
            if is_policy and not self._policy_asks_for(flow, holder):
                continue
            number = self._numbers.of((self._zone.name, datapath, flow))
            host = self._who.endpoints[holder.endpoint].host_network
            at = holder.at(Side.DST, host=host)
            by_side[at][holder.endpoint].append(number)
            if switch is None:
                about = ((at, holder.endpoint),)
                marks.beyond.append(Between(datapath, flow, about, sent=True))
            network = self._zone.network_at(datapath)
            self._cross(network, holder.endpoint, number, marks, exact=True)

    def _policy_asks_for(self, policy: LogicalFlow, holder: Holder) -> bool:
        """Say whether a router policy may be true of a packet that is for an endpoint.

        Where it is of none, what `audit.cover.classes` reads of it tells the endpoint already from
        those whose packets it sends there.
        """
        return not all(
            any(self._excludes(literal, holder) for literal in term.literals)
            for term in matches.parse(policy.match)
        )

    def _excludes(self, literal: Literal, holder: Holder) -> bool:
        """Say whether what must hold of a packet is certainly untrue of one for an endpoint."""
        if not isinstance(literal, AddressIn) or literal.side is not Side.DST or literal.negated:
            return False
        things = (*(f"${name}" for name in literal.sets), *map(canonical, literal.networks))
        return all(map(is_network, literal.networks)) and not any(
            holder in self._members(thing, None) for thing in things
        )

    def _on(self, index: int, switch: str) -> bool:
        return self._switch_of(index) == (self._zone.name, switch)

    def _marked(self, named: Named, switch: str | None) -> list[tuple[At, int]]:
        """Return the endpoints that a flow names, by where they stand in a packet it names."""
        marked: dict[tuple[At, int], None] = {}
        for thing, side in named.things:
            for holder in self._telling(thing, switch):
                host = self._who.endpoints[holder.endpoint].host_network
                for end in Side if side is None else (side,):
                    marked[holder.at(end, host=host), holder.endpoint] = None
        return list(marked)

    def _telling(self, thing: str, switch: str | None) -> Sequence[Holder]:
        """Return whom a thing is or holds, as far as that tells them from others.

        Between switches it tells nothing of pods that a set or network holds all pods of their
        switches: ways are between switches. A node is told from others by its address alone.
        """
        members = self._members(thing, switch)
        if not holds_many(thing):
            return sorted(members)
        nodes = sorted(holder for holder in members if holder.of_node)
        ports = frozenset(holder for holder in members if not holder.of_node)
        if ports >= self._everyone or (
            switch is None and all(self._whole[holder.endpoint] <= ports for holder in ports)
        ):
            return nodes
        return [*nodes, *sorted(ports)]

    def _members_of(self, things: Iterable[str], switch: str | None) -> set[Holder]:
        return {holder for thing in things for holder in self._members(thing, switch)}

    def _members(self, thing: str, switch: str | None) -> frozenset[Holder]:
        """Return whom a thing is, or holds, to a switch or, with None, to another datapath.

        A MAC is an identity on the own switch, and to what that sends to: it goes no farther.
        """
        if thing not in self._holders:
            self._holders[thing] = frozenset(
                holder
                for part in contents(thing, self._zone)
                for holder in (
                    self._who.within(part) if "/" in part else self._who.holders.get(part, ())
                )
            )
        holders = self._holders[thing]
        if MAC.fullmatch(thing):
            return frozenset(holder for holder in holders if self._near(holder, switch))
        return holders

    def _near(self, holder: Holder, switch: str | None) -> bool:
        """Say whether an endpoint is on a switch, or with None in the zone."""
        attached = self._who.endpoints[holder.endpoint].attachment
        return attached is not None and (
            attached.zone == self._zone.name if switch is None else attached.switch == switch
        )

    def _of_somebody_else(
        self, named: Named, common: Mapping[str, str], switch: str | None
    ) -> bool:
        """Say whether a flow asks for what no endpoint of the matrix has, and no flow gives."""

        def here(thing: str) -> bool:
            if self._members(thing, switch):
                return True
            if holds_many(thing):
                return False
            if thing in self._others:
                return False
            return (
                thing in common
                or thing in self._assigned
                or thing in self._routers
                or thing in self._zone.ports
                or thing.startswith(_MADE_BY_NORTHD)
            )

        return any(not any(map(here, things)) for things in named.required)


_MADE_BY_NORTHD = ("_MC_", "none")
"""Begin the names that stand for no port: multicast groups, and that no port was found."""


def _going_on(flows: Sequence[LogicalFlow]) -> frozenset[str]:
    """Return the stages in which every packet goes on as it came, but for its service class.

    Unless something asks for that. What no flow of a stage is for is dropped there.
    """
    if any("dscp" in flow.match for flow in flows):
        return frozenset()
    stages: dict[str, bool] = {}
    for flow in flows:
        plain = _only_goes_on(flow.actions)
        stages[flow.stage] = stages.get(flow.stage, True) and plain
    whole = {flow.stage for flow in flows if flow.match == "1"}
    return frozenset(stage for stage, plain in stages.items() if plain and stage in whole)


@functools.lru_cache(maxsize=1 << 16)
def _only_goes_on(actions: str) -> bool:
    """Say whether actions hand a packet on to the next stage as it came."""
    return _GOES_ON.fullmatch(actions) is not None


_TRACKING = re.compile(
    r"ls_(?:in|out)_(?:pre_acl|pre_lb|pre_stateful|acl(?:_after_lb)?(?:_hint|_eval|_action)?)"
)


def _tracking(
    flows: Sequence[LogicalFlow], explained: Collection[int], common: Mapping[str, str]
) -> tuple[object, ...]:
    """Return a switch's flows that track anybody's packets, or find out what ACLs know of them.

    The flows `explained` by ACLs are left out, by their indices.
    """
    tracking = {
        renamed(flow, common)
        for index, flow in enumerate(flows)
        if index not in explained
        and _TRACKING.fullmatch(flow.stage)
        and all(thing in common for thing, _ in names_in(flow.match).things)
    }
    return ("tracking", *sorted(tracking))


_DECIDES = re.compile(r"ls_(?:in|out)_acl(?:_after_lb)?(?:_eval)?")
"""Stages in which ACLs decide (northd.h)."""
_OF_REPLIES = frozenset(
    {
        *("1", "ct.est", "ct.rpl", "!ct.rel", "!ct.new", "!ct.inv"),
        *("ct_mark.blocked == 0", "ct_label.blocked == 0"),
        "reg0[17] == 1",
    }
)
"""What is true of an established reply that no ACL has blocked; register 0 has it from the stage
of the same ACLs before load balancing (northd.c, REGBIT_ACL_STATELESS and its neighbours)."""


def _answering(flows: Sequence[LogicalFlow], explained: Collection[int]) -> bool:
    """Say whether in every stage a flow lets all replies through before an ACL's is asked."""
    asked: dict[str, int] = defaultdict(int)
    passing: dict[str, int] = defaultdict(lambda: -1)
    for index, flow in enumerate(flows):
        if _DECIDES.fullmatch(flow.stage) is None:
            continue
        if index in explained or names_in(flow.match).things:
            asked[flow.stage] = max(asked[flow.stage], flow.priority)
        elif _OF_REPLIES.issuperset(flow.match.split(" && ")) and _passes(flow.actions):
            passing[flow.stage] = max(passing[flow.stage], flow.priority)
    return all(passing[stage] > priority for stage, priority in asked.items())


def _passes(actions: str) -> bool:
    """Say whether a flow of an ACL stage lets packets through."""
    return "next;" in actions and not any(f"reg8[{bit}] = 1" in actions for bit in (17, 18))


class _Registers:
    """What flows of a datapath give registers; each is 0 when a packet comes there."""

    def __init__(
        self,
        flows: Iterable[LogicalFlow],
        by_acls: Iterable[LogicalFlow],
        ports: Sequence[Port],
        addresses: Collection[str],
    ) -> None:
        """`ports` and `addresses` are those of the packets asked about."""
        self._ports = ports
        self._addresses = addresses
        self._given: dict[str, set[tuple[int, int, str]]] = defaultdict(set)
        for actions in {flow.actions for flow in by_acls}:
            self._note(actions)
        waiting = {(flow.match, flow.actions) for flow in flows if "reg" in flow.actions}
        # What no flow gives, the flows that ask for it do not give either.
        while met := {(match, actions) for match, actions in waiting if self.may_be(match)}:
            waiting -= met
            for _, actions in met:
                self._note(actions)

    def _note(self, actions: str) -> None:
        """Note what actions give registers."""
        for name, first, last, value in _GIVEN.findall(actions):
            width, number = name.count("x"), int(name.lstrip("xreg"))
            whole = (0, _LAST_BIT, _ANYTHING)
            given = (int(first or 0), int(last or first or _LAST_BIT), value.strip())
            for part in range(1 << width):
                self._given[f"reg{(number << width) + part}"].add(whole if width else given)

    def may_be(self, match: str) -> bool:
        """Say whether registers can be as a conjunction asks."""
        return all(
            self._may_be(name, int(first or 0), int(last or first or _LAST_BIT), value)
            for name, first, last, value in _REGISTER_ASKED.findall(_plain(match))
        )

    def _may_be(self, name: str, low: int, high: int, value: str) -> bool:
        return value == "0" or any(
            first <= high
            and low <= last
            and ((first, last) != (low, high) or self._yields(given, value))
            for first, last, given in self._given.get(name, ())
        )

    def _yields(self, given: str, value: str) -> bool:
        """Say whether what a register is given may be this number or address."""
        if _CONSTANT.fullmatch(given):
            return given == value
        if given in _ITS_PORT and value.isdecimal():
            number = int(value)
            return any(number in port for port in self._ports)
        if given in _ITS_ADDRESS:
            return value in self._addresses
        return True


@functools.lru_cache(maxsize=1 << 14)
def _plain(match: str) -> str:
    """Return the first part of a match that must hold: a conjunction without parentheses."""
    return "" if has_alternatives(match) else match.partition("(")[0]


def _whatever_the_protocol(
    flows: Sequence[tuple[LogicalFlow, Reading]], protocols: frozenset[Protocol]
) -> Iterator[tuple[LogicalFlow, Reading]]:
    """Yield flows; those that there are alike for every protocol look at no port."""
    alike: dict[object, list[Intervals]] = defaultdict(list)
    for flow, reading in flows:
        if reading.l4 is not None:
            alike[_but_for_the_protocol(flow)].append(reading.l4)
    for flow, reading in flows:
        if reading.l4 is not None and LOOKS_AT_PORTS.search(flow.match) is None:
            l4s = itertools.chain.from_iterable(alike[_but_for_the_protocol(flow)])
            if matches.among(protocols, l4s) == ANY_L4:
                yield flow, reading._replace(l4=None)
                continue
        yield flow, reading


def _but_for_the_protocol(flow: LogicalFlow) -> object:
    return (
        flow.stage,
        flow.priority,
        _PROTOCOL.sub("*", flow.match),
        _PROTOCOL.sub("*", flow.actions),
    )


def _is_end(port: LogicalPort, switches: Collection[str]) -> bool:
    """Say whether a port is a pod's or a host's of its zone, or a remote one on these switches."""
    remote = port.kind == "remote" and port.datapath in switches
    return port.peer == "" and (port.kind == "" or remote)


def _of_ends(ports: Iterable[LogicalPort], switches: Collection[str]) -> frozenset[str]:
    """Return the identities of pods and hosts."""
    return frozenset(
        thing
        for port in ports
        if _is_end(port, switches)
        for thing in (port.name, port.mac, *map(canonical, port.addresses))
        if thing
    )


def _of_routers(ports: Iterable[LogicalPort], switches: Collection[str]) -> frozenset[str]:
    """Return what all other ports have. A MAC may be a router's and a pod's, of two networks."""
    return frozenset(
        thing
        for port in ports
        if not _is_end(port, switches)
        for thing in (port.name, *(thing for thing, _ in addresses_of(port)))
    )


def _by_switch(endpoints: Sequence[Endpoint]) -> list[frozenset[Holder]]:
    """Return, for each endpoint, all ports that are on its switch."""
    groups: dict[object, set[Holder]] = defaultdict(set)
    keys: list[object] = []
    for index, endpoint in enumerate(endpoints):
        at = endpoint.attachment
        keys.append(index if at is None else (at.zone, at.switch))
        groups[keys[-1]].add(Holder(index))
    frozen = {key: frozenset(ports) for key, ports in groups.items()}
    return [frozen[key] for key in keys]


def switches_of(endpoints: Iterable[Endpoint], zone: Zone) -> set[str]:
    """Return the switches of a zone that endpoints are on."""
    return {
        e.attachment.switch
        for e in endpoints
        if e.attachment is not None and e.attachment.zone == zone.name
    }


def reached(zone: Zone, switches: Collection[str]) -> list[str]:
    """Return the datapaths that packets from these switches can come to in a zone, sorted."""
    return sorted(set().union(*zone.joined(switches).values()))


def _common_names(
    zone: Zone, switch: str, ports: Iterable[LogicalPort], redirecting: Collection[str]
) -> dict[str, str]:
    """Name what every switch has one of its own of: router ports, their peers, its subnets.

    `ports` are the switch's, `redirecting` names of the zone's ports of gateways' chassis. No two
    things of a switch have one name, so flows of two switches that are alike in these names are
    alike.
    """
    names: dict[str, str] = {}
    routers = [port for port in ports if port.peer in zone.ports]
    for index, port in enumerate(sorted(routers, key=lambda port: port.tunnel_key)):
        peer = zone.ports[port.peer]
        names[port.name] = f"router port {index}"
        names[peer.name] = f"peer {index}"
        for end in (port, peer):
            for thing, kind in addresses_of(end):
                names.setdefault(thing, f"{kind} of {names[end.name]}")
    for thing in list(names):
        if f"cr-{thing}" in redirecting:
            names[f"cr-{thing}"] = f"chassis of {names[thing]}"
    for index, subnet in enumerate(zone.switches.get(switch, ())):
        names.setdefault(canonical(subnet), f"subnet {index}")
    return names
