"""OVN's match language, read as the terms of a disjunction.

    ip4.src == {$a1, 10.0.0.0/8} && tcp && 1<=tcp.dst<=1024 && outport == @a2

is one `Term`: the source address is in the set a1 or in 10.0.0.0/8, the destination port is in the
group a2, the family is IPv4, the protocol TCP and its port 1 to 1024. Every literal of a term looks
at one side of a packet only, so that the sides can be classified apart.

Read for one kind of packet: the first of a connection (conntrack has it as new), unicast, untagged,
TCP, UDP or SCTP over IP, from `REQUEST_SOURCE_PORT`, or a ping. Whatever is constant about it is
decided here: `arp.tpa == 10.0.0.1` is false, `ct.new` true (`audit.flows.symbols`). What is not,
and not of an address, a port or a logical port, makes a match one that is not understood, unless
it comes to nothing: `arp && reg0[3]` is false. The language is parsed in `audit.flows.syntax`.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from audit.cover.terms import (
    ALWAYS,
    ANY_L4,
    MAX_TERMS,
    NEVER,
    AddressIn,
    Interval,
    Intervals,
    Literal,
    PortIs,
    Side,
    Term,
    Terms,
    TooManyError,
    all_of,
    among,
    any_of,
    complement,
    every_port,
    holds,
    of,
    united,
)
from audit.flows.constants import Pattern, has, masked, spelled
from audit.flows.literals import named_alike
from audit.flows.symbols import OF_REPLIES, SYMBOLS, Symbol
from audit.flows.syntax import Compared, Field, MatchError, Parser, Token
from audit.model.endpoints import MAX_PORT
from audit.model.packets import WITH_PORTS, Family, Protocol

__all__ = [
    "ANY_L4",
    "MAX_TERMS",
    "AddressIn",
    "Interval",
    "Intervals",
    "Literal",
    "Match",
    "MatchError",
    "Pattern",
    "PortIs",
    "Side",
    "Term",
    "Terms",
    "among",
    "holds",
    "masked",
    "parse",
    "read",
    "united",
    "widened",
]

_MAX_INTERVALS = 1024
"""Into how many ranges of ports a comparison may fall: `tcp.dst[0]` would make 32,768."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a match says, and the names in all of it, also in what can never be true.

    OVN ignores a flow that names a group or a set that is not there. `sets` come with the width in
    bits of what they are compared with.
    """

    terms: Terms
    groups: frozenset[str]
    sets: frozenset[tuple[str, int]]


_PORTS = {"inport": Side.SRC, "outport": Side.DST}
_ADDRESSES = {f"{family}.{side}": (family, side) for family in Family for side in Side}
_L4_PORTS = {f"{protocol}.dst": protocol for protocol in WITH_PORTS}
_PROTOCOL_NUMBERS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_ICMP_NUMBERS = {1: Family.IP4, 58: Family.IP6}
_ETHER_TYPES = {0x800: Family.IP4, 0x86DD: Family.IP6}
_TRACKED = ("ct_state", "ct.trk")
"""What is 0 of a packet that conntrack has not seen: one from a router's port, before ACLs."""


def parse(match: str) -> Terms:
    """Return the terms any of which makes `match` true: none when nothing does.

    `(ip4.src == $a4 || ip6.src == $a6) && tcp && outport == @pg` has two terms, one per family;
    `arp || nd` has none. MatchError says what is not understood, and where.
    """
    return read(match).terms


def read(match: str) -> Match:
    """Return the terms of a match, and what it names. MatchError as with `parse`.

    What a match means does not depend on names, but for which of them are one: half a million ACLs
    are some hundred texts without them, and each of these is parsed once.
    """
    alike = named_alike(match)
    try:
        read = _read_alike(alike.text)
    except MatchError:
        return _read(match)  # the error has the match's own text
    return _named(read, alike.names) if alike.names else read


@functools.lru_cache(maxsize=1 << 14)
def _read_alike(match: str) -> Match:
    return _read(match)


def _named(match: Match, names: Mapping[str, str]) -> Match:
    """Return a match with these names for the others."""

    def those(some: Iterable[str]) -> frozenset[str]:
        return frozenset([names[name] for name in some])

    def literal(part: Literal) -> Literal:
        if isinstance(part, PortIs):
            return PortIs(
                side=part.side,
                groups=those(part.groups),
                names=those(part.names),
                negated=part.negated,
            )
        if not part.sets:
            return part
        return AddressIn(
            side=part.side,
            family=part.family,
            sets=those(part.sets),
            networks=part.networks,
            negated=part.negated,
        )

    return Match(
        terms=tuple(
            Term(
                literals=frozenset(map(literal, term.literals)), families=term.families, l4=term.l4
            )
            for term in match.terms
        ),
        groups=those(match.groups),
        sets=frozenset((names[name], width) for name, width in match.sets),
    )


def _read(match: str) -> Match:
    parser = _Parser(match)
    terms = parser.whole()
    if varying := sorted({name for term in terms for name in term.varying}):
        raise MatchError(f"{match!r} depends on {' and '.join(varying)}")
    return Match(terms=terms, groups=frozenset(parser.groups), sets=frozenset(parser.sets))


_CONNTRACK = r"\b(?:ct[._]\w+(?:\.\w+)*|pkt\.mark)(?:\[[^\]]*\])?"
"""What flows before may have given a packet, or a reply has otherwise than a request."""
_COMPARED = re.compile(_CONNTRACK + r"(?=\s*(?:[=!<>]=|[<>]))")
_BARE = re.compile(_CONNTRACK)
_NAMES_NOBODY = re.compile(r"\b(?:ip[46]\.(?:src|dst)|eth\.(?:src|dst))(?:\[(?!40\])|\s*[<>])")
"""Bits and ranges of addresses: whom they are of, no name in the match tells.

Bit 40 of a MAC says that it is a group's, which no endpoint's is."""


def widened(match: str, *, of_replies: bool = False) -> Terms:
    """Return terms of which one is true of every packet asked that `match` may be true of.

    Registers, MACs, conntrack and whatever else is not known of a packet may be anything here, in
    requests and in replies to them; pings are the ones or the others. MatchError also where a match
    looks at bits of an address.
    """
    blurred = _BARE.sub("flags.loopback", _COMPARED.sub("xxreg0", match))
    terms = _Parser(blurred, OF_REPLIES if of_replies else SYMBOLS).whole()
    if terms and _NAMES_NOBODY.search(match):
        raise MatchError(f"{match!r} looks at parts of an address")
    return terms


class _Parser(Parser[Terms]):
    """Reads a match as terms."""

    def constant(self, *, true: bool) -> Terms:
        return ALWAYS if true else NEVER

    def joined(self, operands: Sequence[Terms], operator: Token | None, *, every: bool) -> Terms:
        try:
            return all_of(operands) if every else any_of(operands)
        except TooManyError:
            if operator is None:
                raise
            self._fail(f"more than {MAX_TERMS} terms", operator)

    def resident(self, name: str, *, negated: bool) -> Terms:  # noqa: ARG002 - it varies
        return of(varying=["is_chassis_resident"])

    def port(self, field: Token, groups: frozenset[str], names: frozenset[str]) -> Terms:
        return of(PortIs(side=_PORTS[field.text], groups=groups, names=names))

    def predicates(self, symbol: Symbol, positive: Sequence[bool], *, every: bool) -> Terms:
        meant = _meant(symbol.means)
        operands = [meant if true else complement(meant) for true in positive]
        return all_of(operands) if every else any_of(operands)

    def numbers(self, compared: Compared) -> Terms:
        return _number(compared)


def _number(compared: Compared) -> Terms:
    """Return what comparing a field with numbers and sets of them means, prerequisites included."""
    field, negated, patterns = compared.field, compared.negated, compared.patterns
    if negated and not compared.sets and len(patterns) == 1 and patterns[0][1].bit_count() == 1:
        # Not 0 is 1: there is no need for a negation.
        negated, patterns = False, [(patterns[0][0] ^ patterns[0][1], patterns[0][1])]
    met = _met(field, patterns, frozenset(compared.sets))
    if negated:
        met = complement(met)
    needed = _meant(field.symbol.needs) if field.symbol.needs else ALWAYS
    terms = all_of([met, needed])
    if negated and not compared.values:
        # Where the sets are empty it is true of everything, whatever the symbol needs.
        sets = sorted(f"${name}" for name in compared.sets)
        empty = f"whether {' or '.join(sets)} is empty"
        terms = any_of([terms, all_of([complement(needed), of(varying=[empty])])])
    return terms


def _met(field: Field, patterns: Sequence[Pattern], sets: frozenset[str]) -> Terms:
    """Return of which packets a field is of one of these patterns, or in one of these sets."""
    symbol, low = field.symbol, field.symbol.low + field.low
    whole = symbol.whole or symbol.name
    if sets and whole in _ADDRESSES and field.width < symbol.width:
        return of(varying=[f"bits of {symbol.name}"])
    shifted = [(v << low, mask << low) for v, mask in patterns]
    met = _matching(SYMBOLS[whole] if symbol.whole else symbol, shifted, sets)
    if symbol.name in _TRACKED and not met and has(0, shifted):
        return of(varying=[symbol.name])
    return met


def _matching(symbol: Symbol, patterns: Sequence[Pattern], sets: frozenset[str]) -> Terms:
    """Return of which packets a field's number is of one of these patterns, or in a set."""
    if symbol.name in _ADDRESSES:
        return _at_addresses(symbol, patterns, sets)
    if sets:
        return of(varying=[symbol.name])
    if symbol.name in _L4_PORTS:
        return _at_ports(symbol, patterns)
    if symbol.name == "ip.proto":
        return _of_protocols(patterns)
    if symbol.name == "eth.type":
        return of(families={f for n, f in _ETHER_TYPES.items() if has(n, patterns)})
    return _at_bits(symbol, patterns)


def _of_protocols(patterns: Sequence[Pattern]) -> Terms:
    """Return the packets of some IP protocols; ICMP's number is another in IPv6."""
    with_ports = {p for number, p in _PROTOCOL_NUMBERS.items() if has(number, patterns)}
    families = {f for number, f in _ICMP_NUMBERS.items() if has(number, patterns)}
    pings = of(families=families, l4=every_port({Protocol.ICMP}))
    return any_of([of(l4=every_port(with_ports)), pings])


def _at_addresses(symbol: Symbol, patterns: Sequence[Pattern], sets: frozenset[str]) -> Terms:
    family, side = _ADDRESSES[symbol.name]
    networks = frozenset(spelled(pattern, family) for pattern in patterns)
    literal = AddressIn(side=side, family=family, sets=sets, networks=networks)
    return of(literal, families=[family]) if sets or networks else NEVER


def _at_ports(symbol: Symbol, patterns: Sequence[Pattern]) -> Terms:
    intervals = _intervals(_L4_PORTS[symbol.name], patterns)
    many = len(intervals) > _MAX_INTERVALS
    return of(varying=[f"single bits of {symbol.name}"]) if many else of(l4=intervals)


def _at_bits(symbol: Symbol, patterns: Sequence[Pattern]) -> Terms:
    """Return when a pattern is met: for certain, certainly not, or where other bits are so."""
    possible = [mask for v, mask in patterns if not (v ^ symbol.value) & mask & symbol.fixed]
    if not possible:
        return NEVER
    return of(varying=[symbol.name] if all(mask & ~symbol.fixed for mask in possible) else [])


def _intervals(protocol: Protocol, patterns: Iterable[Pattern]) -> Intervals:
    """Return the ports of these patterns."""
    some: list[Interval] = []
    for value, mask in patterns:
        free = mask ^ MAX_PORT
        if free & (free + 1):
            ports = (port for port in range(MAX_PORT + 1) if port & mask == value)
            some.extend((protocol, port, port) for port in ports)
        else:
            some.append((protocol, value, value | free))
    return united(some)


@functools.cache
def _meant(match: str) -> Terms:
    """Return the terms of what a predicate means or a symbol needs."""
    return _Parser(match).whole()
