"""Terms: what matches say, and how they are combined, negated and held to a packet. Pure.

A match is a disjunction of terms, a term a conjunction of literals, each of which looks at one side
of a packet. `audit.cover.matches` makes them.
"""

import functools
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, combinations, product

from audit.flows.constants import Pattern, has, masked
from audit.model.endpoints import MAX_PORT
from audit.model.packets import Family, Protocol

MAX_TERMS = 4096
"""Far more terms than a match of OVN-Kubernetes has; they can grow exponentially."""

_MAX_PRODUCTS = 4 * MAX_TERMS
"""How many pairs of terms a conjunction may combine: most of them may contradict each other."""
_COMPARED = 1024
"""How many pairs of networks are compared to find that two literals contradict each other."""


class Side(StrEnum):
    """The side of a packet that a literal looks at."""

    SRC = "src"
    DST = "dst"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortIs:
    """The logical port is one of these: `inport == {@a1, "shop_web"}`, `outport` for `DST`.

    OVN has ports tested positively only, so that `parse` negates none.
    """

    side: Side
    groups: frozenset[str]
    names: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressIn:
    """The address is in any of these: `ip4.src == {$a1, 10.0.0.0/8}`; in none when negated.

    `networks` are spelled as CIDRs without host bits: `10.0.0.0/8`, `10.1.2.3/32`, `fd00::/64`;
    where the bits compared are no prefix, with a mask: `0.0.0.1/0.0.0.255`. `masked` reads both.
    """

    side: Side
    family: Family
    sets: frozenset[str]
    networks: frozenset[str]
    negated: bool = False


Literal = PortIs | AddressIn
Interval = tuple[Protocol, int, int]
Intervals = tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """All literals hold, and family, protocol and destination port are among those given.

    `l4` holds sorted, disjoint intervals, both ends included, of ports from 0 to 65535. A term with
    an `AddressIn` has that family only. `varying` names what else must hold and is not known of
    every packet: nothing in what `parse` returns.
    """

    literals: frozenset[Literal]
    families: frozenset[Family]
    l4: Intervals
    varying: frozenset[str] = frozenset()


Terms = tuple[Term, ...]

ANY_L4: Intervals = tuple((protocol, 0, MAX_PORT) for protocol in sorted(Protocol))
NEVER: Terms = ()


def of(
    *literals: Literal,
    families: Iterable[Family] = Family,
    l4: Iterable[Interval] = ANY_L4,
    varying: Iterable[str] = (),
) -> Terms:
    """Return the one term of all this; none where no packet is of it."""
    term = Term(
        literals=frozenset(literals),
        families=frozenset(families),
        l4=united(l4),
        varying=frozenset(varying),
    )
    return (term,) if term.families and term.l4 else NEVER


def united(intervals: Iterable[Interval]) -> Intervals:
    """Return the same ports as sorted, disjoint intervals that do not touch."""
    united: list[Interval] = []
    for protocol, first, last in sorted(intervals):
        if first > last:
            continue
        if united and united[-1][0] is protocol and first <= united[-1][2] + 1:
            united[-1] = (protocol, united[-1][1], max(last, united[-1][2]))
        else:
            united.append((protocol, first, last))
    return tuple(united)


def _shared(l4: Intervals, other: Intervals) -> Intervals:
    """Return the ports that are in both."""
    if ANY_L4 in (l4, other):
        return other if l4 == ANY_L4 else l4
    return united(
        (protocol, max(first, low), min(last, high))
        for protocol, first, last in l4
        for other_protocol, low, high in other
        if protocol is other_protocol
    )


def among(protocols: Collection[Protocol], l4: Iterable[Interval]) -> Intervals:
    """Return the ports that are of some protocols; ANY_L4 where those are all ports of these."""
    some = united(interval for interval in l4 if interval[0] in protocols)
    return ANY_L4 if some == every_port(protocols) else some


def every_port(protocols: Iterable[Protocol]) -> Intervals:
    """Return all ports of these protocols."""
    return tuple((protocol, 0, MAX_PORT) for protocol in sorted(protocols))


ALWAYS = of()
"""The terms of what is true of every packet."""


@functools.lru_cache(maxsize=1 << 12)
def complement(terms: Terms) -> Terms:
    """Return the terms of all packets that none of `terms`, which look at no logical port, is of.

    What varies may be one way or the other.
    """
    return all_of([ALWAYS, *map(_without, terms)])


def _without(term: Term) -> Terms:
    parts = [of(families=set(Family) - term.families), of(l4=_other_ports(term.l4))]
    for literal in term.literals:
        if isinstance(literal, AddressIn):
            opposite = replace(literal, negated=not literal.negated)
            parts.append(of(opposite, families=[literal.family]))
    if term.varying:
        parts.append(of(varying=term.varying))
    return any_of(parts)


def _other_ports(l4: Intervals) -> Iterable[Interval]:
    """Yield the ports that are not in these sorted intervals."""
    for protocol in Protocol:
        after = 0
        for _, first, last in (interval for interval in l4 if interval[0] is protocol):
            yield protocol, after, first - 1
            after = last + 1
        yield protocol, after, MAX_PORT


class TooManyError(Exception):
    """A match has more terms than are looked at."""


def all_of(operands: Sequence[Terms]) -> Terms:
    """Return the terms of a conjunction."""
    whole = operands[0]
    for operand in operands[1:]:
        if len(whole) * len(operand) > _MAX_PRODUCTS:
            raise TooManyError
        whole = any_of([[_both(term, other) for term, other in product(whole, operand)]])
    return whole


def _both(term: Term, other: Term) -> Term:
    literals = term.literals | other.literals
    # In none of these and none of those is in none of either.
    for family, side in product(Family, Side):
        never = [
            literal
            for literal in literals
            if isinstance(literal, AddressIn)
            and (literal.family, literal.side, literal.negated) == (family, side, True)
        ]
        literals = literals.difference(never).union(_listing(never))
    return Term(
        literals=literals,
        families=term.families & other.families,
        l4=_shared(term.l4, other.l4),
        varying=term.varying | other.varying,
    )


def any_of(operands: Iterable[Iterable[Term]]) -> Terms:
    """Return the terms of a disjunction, as few as easily done.

    Terms that differ in ports, in families, or in what one literal lists, become one. What varies
    is left out where the others are true of the same packets.
    """
    possible = [term for operand in operands for term in operand if _possible(term)]
    if len(possible) < 2:  # noqa: PLR2004 - there is nothing to join
        return tuple(possible)
    terms = _joined(dict.fromkeys(possible))
    for kind, side in product((PortIs, AddressIn), Side):
        terms = _listed_together(terms, kind, side)
    if len(terms) > MAX_TERMS:
        raise TooManyError
    constant = [term for term in terms if not term.varying]
    return tuple(t for t in terms if not t.varying or not any(_covers(c, t) for c in constant))


def _joined(terms: Iterable[Term]) -> list[Term]:
    """Join terms that differ in ports alone, then those that differ in families alone."""
    ports: dict[Term, list[Intervals]] = {}
    for term in terms:
        ports.setdefault(replace(term, l4=()), []).append(term.l4)
    families: dict[Term, frozenset[Family]] = {}
    for rest, l4s in ports.items():
        alike = replace(rest, families=frozenset(), l4=united(chain.from_iterable(l4s)))
        families[alike] = families.get(alike, frozenset()) | rest.families
    return [replace(rest, families=either) for rest, either in families.items()]


def _covers(wider: Term, term: Term) -> bool:
    """Say whether one term is certainly true where another is."""
    return (
        wider.literals <= term.literals
        and wider.families >= term.families
        and _shared(wider.l4, term.l4) == term.l4
    )


def _listed_together(terms: Iterable[Term], kind: type, side: Side) -> list[Term]:
    """Join terms that differ in one positive literal: `ip4.src == $a1 || ip4.src == $a2`."""
    groups: dict[tuple[Term, bool], list[Literal]] = {}
    for term in terms:
        alike = [
            part
            for part in term.literals
            if isinstance(part, kind) and part.side is side and not part.negated
        ]
        joinable = alike if len(alike) == 1 else []
        rest = replace(term, literals=term.literals.difference(joinable))
        groups.setdefault((rest, bool(joinable)), []).extend(joinable)
    return [
        replace(rest, literals=rest.literals.union(_listing(alike)))
        for (rest, _), alike in groups.items()
    ]


def _listing(alike: Sequence[Literal]) -> Sequence[Literal]:
    """Return the one literal that lists what any of these does; nothing for nothing."""

    def listed(name: str) -> frozenset[str]:
        return frozenset().union(*(getattr(literal, name) for literal in alike))

    match alike:
        case [PortIs() as first, _, *_]:
            return [replace(first, groups=listed("groups"), names=listed("names"))]
        case [AddressIn() as first, _, *_]:
            return [replace(first, sets=listed("sets"), networks=listed("networks"))]
        case _:
            return alike


def _possible(term: Term) -> bool:
    """Say whether some packet may meet the term: no two of its parts exclude each other."""
    pairs = combinations(term.literals, 2)
    return bool(term.families and term.l4) and not any(_exclude(*pair) for pair in pairs)


def _exclude(literal: Literal, other: Literal) -> bool:
    """Say whether two literals certainly never hold together, whatever groups and sets hold."""
    if literal.side is not other.side or (literal.negated and other.negated):
        return False
    if isinstance(literal, PortIs) and isinstance(other, PortIs):
        return not (literal.groups or other.groups or literal.names & other.names)
    if isinstance(literal, AddressIn) and isinstance(other, AddressIn):
        return literal.family is other.family and _addresses_exclude(literal, other)
    return False


def _addresses_exclude(literal: AddressIn, other: AddressIn) -> bool:
    """Say so of two literals of one family, of which one at most is negated."""
    if len(literal.networks) * len(other.networks) > _COMPARED:
        return False
    if literal.negated:
        return _inside(other, literal)
    if other.negated:
        return _inside(literal, other)
    return not (literal.sets or other.sets) and all(
        _apart(network, another) for network, another in product(literal.networks, other.networks)
    )


def _inside(inner: AddressIn, outer: AddressIn) -> bool:
    """Say whether all that a literal lists is certainly among what another lists."""
    return inner.sets <= outer.sets and all(
        any(_within(network, wider) for wider in outer.networks) for network in inner.networks
    )


def _within(inner: str, outer: str) -> bool:
    (value, mask), (wider, wide) = _pattern(inner), _pattern(outer)
    return not wide & ~mask and value & wide == wider


def _apart(network: str, other: str) -> bool:
    (value, mask), (another, also) = _pattern(network), _pattern(other)
    return bool((value ^ another) & mask & also)


def _pattern(network: str) -> Pattern:
    return masked(network) or (0, 0)


def holds(  # noqa: PLR0913 - one packet, and what the names in a match stand for
    terms: Term | Iterable[Term],
    *,
    inport: str,
    outport: str,
    ports_in_groups: Mapping[str, Collection[str]],
    src: str,
    dst: str,
    address_sets: Mapping[str, Collection[str]],
    protocol: Protocol,
    port: int,
) -> bool:
    """Say whether any of `terms` is true of a packet: what terms mean, not how to use them.

    `address_sets` hold addresses and networks. Every group and set that a term names must be there:
    OVN ignores a flow when one does not exist.
    """
    ports = {Side.SRC: inport, Side.DST: outport}
    addresses = {
        side: int(ipaddress.ip_address(a)) for side, a in zip(Side, (src, dst), strict=True)
    }

    def literal_holds(literal: Literal) -> bool:
        if isinstance(literal, PortIs):
            names = literal.names.union(*(ports_in_groups[name] for name in literal.groups))
            return (ports[literal.side] in names) != literal.negated
        listed = literal.networks.union(*(address_sets[name] for name in literal.sets))
        patterns = [masked(text) for text in listed if Family.of(text) is literal.family]
        inside = has(addresses[literal.side], filter(None, patterns))
        return Family.of(src) is literal.family and inside != literal.negated

    return any(
        Family.of(src) in term.families
        and any(first <= port <= last for p, first, last in term.l4 if p is protocol)
        and all(literal_holds(literal) for literal in term.literals)
        for term in ((terms,) if isinstance(terms, Term) else terms)
    )
