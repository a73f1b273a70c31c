"""What packets to Services meet before a load balancer takes them: which are alike. Pure.

The sender's own switch has the load balancer. Up to there a packet to a Service's address meets
flows that name its sender, flows that name that address, and flows that name nobody. Where all of
these say the same of two senders, on two switches perhaps, the load balancer sends both to the
same endpoints; from there on each is a packet to an endpoint, which legs know.

An ACL that is asked before load balancing may be about who sends: then senders are compared by it.
One that is about a Service's address is none of those that OVN-Kubernetes writes; where there is
one, no packets to that address are alike.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.cover import identities, matches
from audit.cover.acls import ZoneAcls, address_sets
from audit.cover.matches import AddressIn, MatchError, Side
from audit.cover.met import Switch
from audit.flows.constants import masked
from audit.model.facts import LogicalFlow, Zone
from audit.model.packets import Family, Protocol

UNLIKE = -1
"""No number: what becomes of such a packet, its own trace has to say."""

_AFTER = "_after_lb"
"""In the name of a stage of ACLs that are asked when a load balancer has taken the packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """What of packets to Services is alike, as numbers.

    `sender` is by endpoint: what its switch says of it as a sender, and of nobody, and which ACLs
    its packets are asked before load balancing. `vip` is by switch and Service's address: what the
    switch says of that, UNLIKE where it cannot be compared.
    """

    sender: NDArray[np.int64]
    vip: NDArray[np.int64]
    protocols: frozenset[Protocol]
    """Of the packets that are meant."""


def vip_numbers(
    zones: Mapping[str, Zone],
    switches: Mapping[Switch, int],
    vips: Sequence[str],
    family: Family,
    acls: Mapping[str, ZoneAcls],
) -> NDArray[np.int64]:
    """Return numbers for what switches say of Services' addresses, as `Balancing.vip`."""
    numbers: dict[object, int] = {}
    asked = _Addresses(vips)
    table = np.full((max(len(switches), 1), len(vips)), UNLIKE, dtype=np.int64)
    for (name, switch), row in switches.items() if vips else ():
        zone = zones.get(name)
        if zone is None:
            continue
        told = _told(zone, switch, asked)
        parts = zone.service_flows.get(switch, ())
        for index, vip in enumerate(vips):
            digest = sum(part.get(vip, 0) for part in parts)
            table[row, index] = numbers.setdefault((digest, told.get(index, ())), len(numbers))
        unlike = _before(zone, switch, asked, family, acls[name])
        table[row, sorted(unlike)] = UNLIKE
    return table


class _Addresses:
    """Services' addresses, to be looked up by what flows and ACLs name."""

    def __init__(self, vips: Sequence[str]) -> None:
        self._exact = {identities.canonical(vip): index for index, vip in enumerate(vips)}
        self._numbers = [(Family.of(vip), int(ipaddress.ip_address(vip))) for vip in vips]
        self._within: dict[str, frozenset[int]] = {}

    def named(self, thing: str, zone: Zone) -> frozenset[int]:
        """Return which addresses a thing of a zone's flow is, or holds."""
        if thing[:1] == "$":
            members = address_sets(zone).get(thing[1:], ())
            return frozenset().union(*(self.within(member) for member in members))
        return self.within(thing)

    def within(self, thing: str) -> frozenset[int]:
        """Return which of them an address is, or a network holds; none for anything else."""
        if thing not in self._within:
            self._within[thing] = frozenset(self._look_up(thing))
        return self._within[thing]

    def _look_up(self, thing: str) -> Iterator[int]:
        if thing in self._exact:
            yield self._exact[thing]
            return
        pattern = masked(thing) if "/" in thing else None
        if pattern is not None:
            value, mask = pattern
            family = Family.of(thing)
            for index, (of, number) in enumerate(self._numbers):
                if of is family and number & mask == value:
                    yield index


def _told(zone: Zone, switch: str, asked: _Addresses) -> dict[int, tuple[LogicalFlow, ...]]:
    """Return what a switch's flows say of each address before load balancing, by its index.

    But for those of which the zone has a digest.
    """
    told: dict[int, list[LogicalFlow]] = defaultdict(list)
    for flow in zone.flows.get(switch, ()):
        if not flow.stage.startswith("ls_in_") or _AFTER in flow.stage:
            continue
        for thing, _ in identities.names_in(flow.match).things:
            for index in asked.named(thing, zone):
                told[index].append(flow)
    return {index: tuple(some) for index, some in told.items()}


def _before(
    zone: Zone, switch: str, asked: _Addresses, family: Family, acls: ZoneAcls
) -> frozenset[int]:
    """Return the addresses that an ACL may be about that is asked before load balancing."""
    everything = asked.within("0.0.0.0/0") | asked.within("::/0")
    touched: frozenset[int] = frozenset()
    for acl in acls.in_force(switch):
        if acl.direction != "from-lport" or acl.after_lb:
            continue
        try:
            terms = matches.parse(acl.match)
        except MatchError:
            return everything
        for term in terms:
            if family in term.families:
                touched |= _destinations(term, zone, asked, everything)
    return touched


def _destinations(
    term: matches.Term, zone: Zone, asked: _Addresses, everything: frozenset[int]
) -> frozenset[int]:
    """Return the addresses to which a packet may be that a term is true of, if it is about any."""
    literals = [each for each in term.literals if isinstance(each, AddressIn)]
    about = [literal for literal in literals if literal.side is Side.DST]
    may_be = everything if about else frozenset()
    sets = address_sets(zone)
    for literal in about:
        content = (*literal.networks, *(a for name in literal.sets for a in sets.get(name, ())))
        members = frozenset().union(*(asked.within(identities.canonical(each)) for each in content))
        may_be = may_be - members if literal.negated else may_be & members
    return may_be
