"""OVN's match language, read as the terms of a disjunction.

    ip4.src == {$a1, 10.0.0.0/8} && tcp && 1<=tcp.dst<=1024 && outport == @a2

is one `Term`: the source address is in the set a1 or in 10.0.0.0/8, the destination port is in the
group a2, the family is IPv4, the protocol TCP and its port 1 to 1024. Every literal of a term looks
at one side of a packet only, so that the sides can be classified apart.

Read for one kind of packet: the first of a connection (conntrack has it as new), unicast, untagged,
TCP, UDP or SCTP over IP, from `REQUEST_SOURCE_PORT`, or a ping. Whatever is constant about it is
decided here: `arp.tpa == 10.0.0.1` is false, `ct.new` true (`audit.cover.symbols`). What is not,
and not of an address, a port or a logical port, makes a match one that is not understood, unless
it comes to nothing: `arp && reg0[3]` is false. What the language is, is in ovn-sb(5) under
Logical_Flow, `match`, and in OVN's lib/expr.c and lib/lex.c. What they say and is easily missed:

- A symbol implies its prerequisites where it is compared, and `!` is carried to the comparisons
  first. So `!(ip4.src == 10.0.0.1)` is `ip4.src != 10.0.0.1`, which is `ip4 && …`: not true of an
  IPv6 packet. Likewise `!(tcp.dst == 80)` is not true of UDP.
- A predicate is negated with its prerequisites: `!ip4.mcast` is true of an IPv6 packet.
- Nominal symbols (`inport`, `ip.proto`, `tcp`, `ip4`) are tested positively only: `!tcp` and
  `inport != "a"` are errors, `!(inport != "a")` is not.
- A constant may be as wide as the field, also where it is compared with some bits of it only:
  what does not fit in those is cut off.
- `&&` and `||` are not mixed without parentheses, and `!` takes parentheses before a comparison.
- A comparison with a set of addresses that is empty is a constant, without prerequisites:
  `ip4.src != $empty` is true of IPv6 packets too.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from audit.cover.constants import NUMBER, Pattern, constant, has, masked, spelled
from audit.cover.symbols import OF_REPLIES, SYMBOLS, Symbol
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

_MAX_DEPTH = 100
"""OVN's own limit of nested parentheses (lib/expr.c)."""
_MAX_INTERVALS = 1024
"""Into how many ranges of ports a comparison may fall: `tcp.dst[0]` would make 32,768."""


class MatchError(ValueError):
    """The match is not one OVN takes, or looks at what is not known of a packet."""


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
_RESIDENT = "is_chassis_resident"
"""The one function; what it says differs from chassis to chassis."""

_TRACKED = ("ct_state", "ct.trk")
"""What is 0 of a packet that conntrack has not seen: one from a router's port, before ACLs."""

_INVERTED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}

_TOKEN = re.compile(
    r"""
      (?P<blank> [ \t\n\r\v\f]+ | //[^\n]* | /\*(?:(?!\*/)[^\n])*\*/ )
    | (?P<operator> && | \|\| | [=!<>]= | \.\. | [<>!(){},\[\]] )
    | (?P<string> "(?:[^"\\]|\\.)*" )
    | (?P<set> \$[A-Za-z_.][A-Za-z_.0-9]* )
    | (?P<group> @[A-Za-z_.][A-Za-z_.0-9]* )
    | (?P<number> (?:[0-9]|::|[0-9A-Fa-f]+:) (?:[0-9A-Za-z:]|\.(?!\.))* (?:/[0-9A-Za-z:.]*)? )
    | (?P<name> [A-Za-z_.][A-Za-z_.0-9]* )
    """,
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a match; the last is empty, of kind `end`."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class _Constants:
    """What a field is compared with: `80`, `{80, 443}`, `{$a1, 10.0.0.0/8}`."""

    tokens: tuple[_Token, ...]
    in_braces: bool


@dataclass(frozen=True, slots=True)
class _Field:
    """`width` bits of a symbol, from `low`: `ip4.src`, `ip4.src[0..7]`."""

    symbol: Symbol
    low: int
    width: int
    token: _Token


def parse(match: str) -> Terms:
    """Return the terms any of which makes `match` true: none when nothing does.

    `(ip4.src == $a4 || ip6.src == $a6) && tcp && outport == @pg` has two terms, one per family;
    `arp || nd` has none. MatchError says what is not understood, and where.
    """
    return read(match).terms


def read(match: str) -> Match:
    """Return the terms of a match, and what it names. MatchError as with `parse`."""
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


class _Parser:
    """Recursive descent over the tokens of one match; negation is carried to the comparisons."""

    def __init__(self, match: str, symbols: Mapping[str, Symbol] = SYMBOLS) -> None:
        self._match = match
        self._symbols = symbols
        self._tokens: list[_Token] = []
        at = 0
        while at < len(match):
            token = _TOKEN.match(match, at)
            if token is None:
                self._fail(f"{match[at]!r} is not understood", _Token("", "", at))
            if token.lastgroup != "blank":
                self._tokens.append(_Token(str(token.lastgroup), token.group(), at))
            at = token.end()
        self._tokens.append(_Token("end", "", at))
        self._next = 0
        self._depth = 0
        self.groups: set[str] = set()
        self.sets: set[tuple[str, int]] = set()

    def _fail(self, what: str, token: _Token) -> NoReturn:
        raise MatchError(f"{what} at character {token.at + 1} of {self._match!r}")

    def _unexpected(self, wanted: str) -> NoReturn:
        token = self._tokens[self._next]
        self._fail(f"expected {wanted}, got {token.text or 'the end'}", token)

    @property
    def _text(self) -> str:
        """The token that comes next."""
        return self._tokens[self._next].text

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _accept(self, text: str) -> bool:
        """Step over `text` if it comes next."""
        accepted = self._text == text
        self._next += accepted
        return accepted

    def whole(self) -> Terms:
        """Read all of the match."""
        terms = self._expression(negated=False)
        if self._text:
            self._unexpected("&&, || or the end")
        return terms

    def _expression(self, *, negated: bool) -> Terms:
        """Read `a && b && c`, `a || b || c` or just `a`."""
        operands = [self._operand(negated=negated)]
        operator = self._tokens[self._next]
        while operator.text in ("&&", "||") and self._accept(operator.text):
            operands.append(self._operand(negated=negated))
        if self._text in ("&&", "||"):
            self._fail("&& and || need parentheses when used together", self._tokens[self._next])
        try:
            return any_of(operands) if (operator.text == "||") != negated else all_of(operands)
        except TooManyError:
            self._fail(f"more than {MAX_TERMS} terms", operator)

    def _operand(self, *, negated: bool) -> Terms:
        """Read `!a` or `a`: what `!` applies to must be in parentheses or one word."""
        inverted = self._accept("!")
        start = self._next
        if self._accept("("):
            return self._parenthesized(negated=negated != inverted)
        token = self._tokens[start]
        if token.text in ("0", "1") and self._tokens[start + 1].text not in _INVERTED:
            self._take()
            return ALWAYS if (token.text == "1") != (negated != inverted) else NEVER
        if token.text == _RESIDENT:
            return self._resident()
        terms, bare = self._comparison(negated=negated != inverted)
        if inverted and not bare:
            self._fail("! needs parentheses before a comparison", token)
        return terms

    def _resident(self) -> Terms:
        """Read `is_chassis_resident("cr-lrp")`."""
        self._take()
        if not self._accept("("):
            self._unexpected("(")
        if self._tokens[self._next].kind != "string":
            self._unexpected("a string")
        self._take()
        if not self._accept(")"):
            self._unexpected(")")
        return of(varying=[_RESIDENT])

    def _parenthesized(self, *, negated: bool) -> Terms:
        """Read the rest of `( … )`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._unexpected(f"at most {_MAX_DEPTH} nested parentheses")
        terms = self._expression(negated=negated)
        if not self._accept(")"):
            self._unexpected("&&, || or )")
        self._depth -= 1
        return terms

    def _comparison(self, *, negated: bool) -> tuple[Terms, bool]:
        """Read `tcp`, `tcp.dst == {80, 443}`, `80 == tcp.dst` or `1 <= tcp.dst <= 1024`.

        Say too whether it is bare, as `tcp` is.
        """
        if self._tokens[self._next].kind == "name":
            field = self._field()
            if self._text in _INVERTED:
                relation = self._take().text
                return self._compare(field, relation, self._constants(), negated=negated), False
            if not field.width or (field.width > 1 and not negated):
                self._unexpected("a relation")
            zero = _Constants((_Token("number", "0", field.token.at),), in_braces=False)
            return self._compare(field, "!=", zero, negated=negated), True
        low, first = self._constants(), self._relation()
        field = self._field()
        sides = [self._compare(field, _TURNED[first], low, negated=negated)]
        if self._text in _INVERTED:
            second = self._relation()
            if first[0] != second[0] or first[0] not in "<>":
                self._fail("a range is x <= field <= y or x >= field >= y", field.token)
            sides.append(self._compare(field, second, self._constants(), negated=negated))
        return any_of(sides) if negated else all_of(sides), False

    def _relation(self) -> str:
        if self._text not in _INVERTED:
            self._unexpected("a relation")
        return self._take().text

    def _field(self) -> _Field:
        """Read a symbol, or some bits of one: `ip4.src`, `ip4.src[31]`, `ip6.dst[120..127]`."""
        if self._tokens[self._next].kind != "name":
            self._unexpected("a field")
        token = self._take()
        symbol = self._symbols.get(token.text)
        if symbol is None:
            self._fail(f"{token.text} is no symbol of OVN", token)
        if not self._accept("["):
            return _Field(symbol, 0, symbol.width, token)
        low = last = self._bit()
        if self._accept(".."):
            last = self._bit()
        if not self._accept("]"):
            self._unexpected("]")
        if not low <= last < symbol.width:
            self._fail(f"{symbol.name} has {symbol.width} bits", token)
        if symbol.nominal and last - low + 1 < symbol.width:
            self._fail(f"bits of {symbol.name} cannot be tested", token)
        return _Field(symbol, low, last - low + 1, token)

    def _bit(self) -> int:
        """Read the number of a bit."""
        token = self._tokens[self._next]
        if token.kind != "number" or not NUMBER.fullmatch(token.text):
            self._unexpected("the number of a bit")
        return int(self._take().text, 0)

    def _constants(self) -> _Constants:
        """Read a constant, or those in braces; commas between and after them are optional."""
        if not self._accept("{"):
            return _Constants((self._constant(),), in_braces=False)
        constants: list[_Token] = []
        while not constants or not self._accept("}"):
            constants.append(self._constant())
            self._accept(",")
        return _Constants(tuple(constants), in_braces=True)

    def _constant(self) -> _Token:
        if self._tokens[self._next].kind not in ("string", "set", "group", "number"):
            self._unexpected("a constant")
        return self._take()

    def _compare(
        self, field: _Field, relation: str, constants: _Constants, *, negated: bool
    ) -> Terms:
        """Return what `field relation constants` means, or its negation."""
        relation = _INVERTED[relation] if negated else relation
        symbol, token = field.symbol, field.token
        sets = [part.text for part in constants.tokens if part.kind == "set"]
        if relation not in ("==", "!="):
            self._check_ordered(field, constants, sets)
        if not symbol.width:
            return self._port(token, relation, constants.tokens)
        self.sets |= {(name[1:], symbol.width) for name in sets}
        values = [self._integer(t, symbol.width) for t in constants.tokens if t.kind != "set"]
        if symbol.means:
            return self._predicate(field, relation, values, sets)
        if symbol.nominal:
            self._only_positively(token, positive=relation == "==")
        return _number(field, relation, values, sets)

    def _check_ordered(self, field: _Field, constants: _Constants, sets: Sequence[str]) -> None:
        """Fail where less and greater mean nothing: of sets, of masks, and of what is no number."""
        symbol, token = field.symbol, field.token
        if constants.in_braces or sets:
            self._fail("a set is compared with == and != only", token)
        if symbol.nominal or symbol.means:
            self._fail(f"{symbol.name} is compared with == and != only", token)
        _, mask = self._integer(constants.tokens[0], symbol.width)
        if mask is not None:
            self._fail("what has a mask is compared with == and != only", token)

    def _predicate(
        self,
        field: _Field,
        relation: str,
        values: Sequence[tuple[int, int | None]],
        sets: Sequence[str],
    ) -> Terms:
        """Read `tcp`, `ip4.mcast == 0`: 1 is what the predicate means, 0 its negation."""
        if sets:
            self._fail(f"{field.symbol.name} is compared with 0 and 1 only", field.token)
        positive = [bool(value & 1) == (relation == "==") for value, _ in values]
        if field.symbol.nominal:
            self._only_positively(field.token, positive=all(positive))
        meant = _meant(field.symbol.means)
        operands = [meant if true else complement(meant) for true in positive]
        return any_of(operands) if relation == "==" else all_of(operands)

    def _only_positively(self, token: _Token, *, positive: bool) -> None:
        if not positive:
            self._fail(f"{token.text} can only be tested positively", token)

    def _integer(self, token: _Token, width: int) -> tuple[int, int | None]:
        """Read `80`, `0x50`, `10.0.0.0/8`, `ff:ff:ff:ff:ff:ff`: its value, and its mask if any."""
        whole = constant(token.text) if token.kind == "number" else None
        if whole is None or whole[2] > width:
            self._fail(f"expected a number of {width} bits, got {token.text}", token)
        return whole[:2]

    def _port(self, field: _Token, relation: str, constants: Sequence[_Token]) -> Terms:
        """Read `outport == {@a1, "shop_web"}`."""
        self._only_positively(field, positive=relation == "==")
        for token in constants:
            if token.kind not in ("group", "string"):
                self._fail(f"expected a port or a group, got {token.text}", token)
        groups = frozenset(token.text[1:] for token in constants if token.kind == "group")
        self.groups |= groups
        return of(
            PortIs(
                side=_PORTS[field.text],
                groups=groups,
                names=frozenset(self._string(t) for t in constants if t.kind == "string"),
            )
        )

    def _string(self, token: _Token) -> str:
        try:
            return str(json.loads(token.text))
        except ValueError:
            self._fail(f"{token.text} is no JSON string", token)


def _number(
    field: _Field,
    relation: str,
    values: Sequence[tuple[int, int | None]],
    sets: Sequence[str],
) -> Terms:
    """Return what comparing a field with numbers and sets of them means, prerequisites included."""
    patterns = _patterns(field, relation, values)
    if relation == "!=" and not sets and len(patterns) == 1 and patterns[0][1].bit_count() == 1:
        # Not 0 is 1: there is no need for a negation.
        relation, patterns = "==", [(patterns[0][0] ^ patterns[0][1], patterns[0][1])]
    met = _met(field, patterns, frozenset(name[1:] for name in sets))
    if relation == "!=":
        met = complement(met)
    needed = _meant(field.symbol.needs) if field.symbol.needs else ALWAYS
    terms = all_of([met, needed])
    if relation == "!=" and not values:
        # Where the sets are empty it is true of everything, whatever the symbol needs.
        empty = f"whether {' or '.join(sorted(sets))} is empty"
        terms = any_of([terms, all_of([complement(needed), of(varying=[empty])])])
    return terms


def _patterns(
    field: _Field, relation: str, values: Sequence[tuple[int, int | None]]
) -> list[Pattern]:
    """Return patterns of the numbers of a field that are these, or less or greater; not for !=."""
    full = (1 << field.width) - 1
    if relation in ("==", "!="):
        return [(v & full, full if mask is None else mask & full) for v, mask in values]
    return _ordered(relation, values[0][0] & full, field.width)


def _met(field: _Field, patterns: Sequence[Pattern], sets: frozenset[str]) -> Terms:
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


def _ordered(relation: str, number: int, width: int) -> list[Pattern]:
    """Return patterns of the numbers that are less than one, or greater, of `width` bits.

    A number is less than another if it has a 0 where that has a 1, and is like it above.
    """
    full = (1 << width) - 1
    if "=" in relation and number == (full if relation[0] == "<" else 0):
        return [(0, 0)]
    wanted = 1 if relation[0] == "<" else 0
    bits = [1 << bit for bit in range(width) if number >> bit & 1 == wanted]
    above = [((number ^ bit) & -bit, full & -bit) for bit in bits]
    return [*above, (number, full)] if "=" in relation else above


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
