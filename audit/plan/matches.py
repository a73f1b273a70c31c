"""OVN's match language, read as the terms of a disjunction.

    ip4.src == {$a1, 10.0.0.0/8} && tcp && 1<=tcp.dst<=1024 && outport == @a2

is one `Term`: the source address is in the set a1 or in 10.0.0.0/8, the destination port is in the
group a2, the family is IPv4, the protocol TCP and its port 1 to 1024. Every literal of a term looks
at one side of a packet only, so that the sides can be classified apart.

Read for one kind of packet: the first of a connection (conntrack has it as new), unicast, untagged,
TCP, UDP or SCTP over IP, from `REQUEST_SOURCE_PORT`. Whatever is constant about it is decided here:
`arp` is false, `ct.new` true. What the language is, is in ovn-sb(5) under Logical_Flow, `match`,
and in OVN's lib/expr.c and lib/lex.c. What they say and is easily missed:

- A symbol implies its prerequisites where it is compared, and `!` is carried to the comparisons
  first. So `!(ip4.src == 10.0.0.1)` is `ip4.src != 10.0.0.1`, which is `ip4 && …`: not true of an
  IPv6 packet. Likewise `!(tcp.dst == 80)` is not true of UDP.
- Nominal symbols (`inport`, `ip.proto`, `tcp`, `ip4`) are tested positively only: `!tcp` and
  `inport != "a"` are errors, `!(inport != "a")` is not.
- `&&` and `||` are not mixed without parentheses, and `!` takes parentheses before a comparison.
- A comparison with a set of addresses that is empty is a constant, without prerequisites:
  `ip4.src != $empty` is true of IPv6 packets too.
"""

import ipaddress
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, combinations, pairwise, product
from typing import NoReturn

from audit.model.endpoints import MAX_PORT
from audit.model.packets import REQUEST_SOURCE_PORT, Family, Protocol

MAX_TERMS = 4096
"""Far more terms than a match of OVN-Kubernetes has; they can grow exponentially."""

_MAX_PRODUCTS = 4 * MAX_TERMS
"""How many pairs of terms a conjunction may combine: most of them may contradict each other."""
_MAX_DEPTH = 100
"""OVN's own limit of nested parentheses (lib/expr.c)."""
_COMPARED = 1024
"""How many pairs of networks are compared to find that two literals contradict each other."""


class MatchError(ValueError):
    """The match is not one OVN takes, or looks at what is not known of a packet."""


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

    `networks` are spelled as CIDRs without host bits: `10.0.0.0/8`, `10.1.2.3/32`, `fd00::/64`.
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
    an `AddressIn` has that family only.
    """

    literals: frozenset[Literal]
    families: frozenset[Family]
    l4: Intervals


Terms = tuple[Term, ...]

ANY_L4: Intervals = tuple((protocol, 0, MAX_PORT) for protocol in sorted(Protocol))
_NEVER: Terms = ()


def _of(
    *literals: Literal, families: Iterable[Family] = Family, l4: Iterable[Interval] = ANY_L4
) -> Terms:
    term = Term(literals=frozenset(literals), families=frozenset(families), l4=_united(l4))
    return (term,) if term.families and term.l4 else _NEVER


def _united(intervals: Iterable[Interval]) -> Intervals:
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


def _shared(one: Intervals, other: Intervals) -> Intervals:
    """Return the ports that are in both."""
    if ANY_L4 in (one, other):
        return other if one == ANY_L4 else one
    return _united(
        (protocol, max(first, low), min(last, high))
        for protocol, first, last in one
        for other_protocol, low, high in other
        if protocol is other_protocol
    )


def _every_port(protocols: Iterable[Protocol]) -> Intervals:
    return tuple((protocol, 0, MAX_PORT) for protocol in sorted(protocols))


_ALWAYS = _of()
_PORTS = {"inport": Side.SRC, "outport": Side.DST}
_ADDRESSES = {f"{family}.{side}": (family, side) for family in Family for side in Side}
_L4_PORTS = {f"{protocol}.{side}": (protocol, side) for protocol in Protocol for side in Side}
_PROTOCOL_NUMBERS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_MAX_PROTOCOL = 255
_MAX_MARK = (1 << 32) - 1

_NOMINAL: dict[str, Terms] = {
    "ip": _ALWAYS,
    **{str(family): _of(families=[family]) for family in Family},
    **{str(protocol): _of(l4=_every_port([protocol])) for protocol in Protocol},
    **dict.fromkeys(("arp", "rarp", "icmp", "icmp4", "icmp6", "igmp", "mldv1", "mldv2"), _NEVER),
    **dict.fromkeys(("nd", "nd_ns", "nd_ns_mcast", "nd_na", "nd_rs", "nd_ra"), _NEVER),
}
"""Predicates that OVN lets be tested positively only."""
_BITS = {
    **dict.fromkeys(("ct.trk", "ct.new"), True),
    **dict.fromkeys(("ct.est", "ct.rel", "ct.rpl", "ct.inv"), False),
    **dict.fromkeys(("eth.bcast", "eth.mcast", "eth.mcastv6"), False),
    **dict.fromkeys(("ip4.mcast", "ip4.src_mcast", "ip6.mcast"), False),
}
"""One-bit symbols, and what they are for every packet this module is about."""

_MARK = "pkt.mark"
"""A packet that enters by a logical port has no mark: 0."""

_FIELDS = frozenset({"ip.proto", _MARK, *_PORTS, *_ADDRESSES, *_L4_PORTS, *_NOMINAL, *_BITS})

_INVERTED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}|0[xX][0-9A-Fa-f]{1,32}", re.ASCII)
_TOKEN = re.compile(
    r"""
      (?P<blank> [ \t\n\r\v\f]+ | //[^\n]* | /\*(?:(?!\*/)[^\n])*\*/ )
    | (?P<operator> && | \|\| | [=!<>]= | [<>!(){},\[\]] )
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


def parse(match: str) -> Terms:
    """Return the terms any of which makes `match` true: none when nothing does.

    `(ip4.src == $a4 || ip6.src == $a6) && tcp && outport == @pg` has two terms, one per family;
    `arp || nd` has none. MatchError says what is not understood, and where.
    """
    terms = _Parser(match).whole()
    for literal, families in ((one, term.families) for term in terms for one in term.literals):
        if isinstance(literal, AddressIn) and families != {literal.family}:
            # The one thing that hangs on what a set holds, and that no term can say.
            sets = " or ".join(f"${name}" for name in sorted(literal.sets))
            raise MatchError(f"{match!r} depends on whether {sets} is empty")
    return terms


class _Parser:
    """Recursive descent over the tokens of one match; negation is carried to the comparisons."""

    def __init__(self, match: str) -> None:
        self._match = match
        self._tokens: list[_Token] = []
        at = 0
        while at < len(match):
            found = _TOKEN.match(match, at)
            if found is None:
                self._fail(f"{match[at]!r} is not understood", _Token("", "", at))
            if found.lastgroup != "blank":
                self._tokens.append(_Token(str(found.lastgroup), found.group(), at))
            at = found.end()
        self._tokens.append(_Token("end", "", at))
        self._next = 0
        self._depth = 0

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
        terms = _any(operands) if (operator.text == "||") != negated else _all(operands)
        if terms is None:
            self._fail(f"more than {MAX_TERMS} terms", operator)
        return terms

    def _operand(self, *, negated: bool) -> Terms:
        """Read `!a` or `a`: what `!` applies to must be in parentheses or one word."""
        inverted = self._accept("!")
        start = self._next
        if self._accept("("):
            return self._parenthesized(negated=negated != inverted)
        token = self._tokens[start]
        if token.text in ("0", "1") and self._tokens[start + 1].text not in _INVERTED:
            self._take()
            return _ALWAYS if (token.text == "1") != (negated != inverted) else _NEVER
        terms = self._comparison(negated=negated != inverted)
        if inverted and self._next > start + 1:
            self._fail("! needs parentheses before a comparison", token)
        return terms

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

    def _comparison(self, *, negated: bool) -> Terms:
        """Read `tcp`, `tcp.dst == {80, 443}`, `80 == tcp.dst` or `1 <= tcp.dst <= 1024`."""
        if self._tokens[self._next].kind == "name":
            field = self._field()
            if self._text in _INVERTED:
                relation = self._take().text
                return self._compare(field, relation, self._constants(), negated=negated)
            if field.text not in _NOMINAL and field.text not in _BITS:
                self._unexpected("a relation")
            zero = _Constants((_Token("number", "0", field.at),), in_braces=False)
            return self._compare(field, "!=", zero, negated=negated)
        low, first = self._constants(), self._relation()
        field = self._field()
        sides = [self._compare(field, _TURNED[first], low, negated=negated)]
        if self._text in _INVERTED:
            second = self._relation()
            if first[0] != second[0] or first[0] not in "<>":
                self._fail("a range is x <= field <= y or x >= field >= y", field)
            sides.append(self._compare(field, second, self._constants(), negated=negated))
        return (_any(sides) if negated else _all(sides)) or _NEVER

    def _relation(self) -> str:
        if self._text not in _INVERTED:
            self._unexpected("a relation")
        return self._take().text

    def _field(self) -> _Token:
        """Read a symbol; one that is not known of every packet is refused."""
        if self._tokens[self._next].kind != "name":
            self._unexpected("a field")
        token = self._take()
        if token.text not in _FIELDS:
            self._fail(f"{token.text} is not supported", token)
        if self._text == "[":
            self._fail(f"bits of {token.text} are not supported", token)
        return token

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
        self, field: _Token, relation: str, constants: _Constants, *, negated: bool
    ) -> Terms:
        """Return what `field relation constants` means, or its negation."""
        relation = _INVERTED[relation] if negated else relation
        if relation not in ("==", "!=") and constants.in_braces:
            self._fail("a set is compared with == and != only", field)
        if field.text in _ADDRESSES:
            return self._address(field, relation, constants.tokens)
        if field.text in _PORTS:
            return self._port(field, relation, constants.tokens)
        if field.text in _L4_PORTS:
            numbers = [self._number(token, MAX_PORT) for token in constants.tokens]
            return _l4_port(*_L4_PORTS[field.text], relation, numbers)
        if relation not in ("==", "!="):
            self._fail(f"{field.text} is compared with == and != only", field)
        if field.text == "ip.proto":
            self._only_positively(field, positive=relation == "==")
            numbers = [self._number(token, _MAX_PROTOCOL) for token in constants.tokens]
            return _of(l4=_every_port({p for n, p in _PROTOCOL_NUMBERS.items() if n in numbers}))
        if field.text == _MARK:
            marks = {self._number(token, _MAX_MARK) for token in constants.tokens}
            return _ALWAYS if (0 in marks) == (relation == "==") else _NEVER
        return self._bit(field, relation, constants.tokens)

    def _only_positively(self, field: _Token, *, positive: bool) -> None:
        if not positive:
            self._fail(f"{field.text} can only be tested positively", field)

    def _bit(self, field: _Token, relation: str, constants: Sequence[_Token]) -> Terms:
        """Read `tcp`, `ct.new == 1`, `!ct.est`: symbols of one bit."""
        numbers = {self._number(token, 1) for token in constants}
        if field.text in _NOMINAL:
            self._only_positively(field, positive=numbers == {relation == "=="})
            return _NOMINAL[field.text]
        return _ALWAYS if (_BITS[field.text] in numbers) == (relation == "==") else _NEVER

    def _number(self, token: _Token, most: int) -> int:
        """Read `80` or `0x50`."""
        if not _NUMBER.fullmatch(token.text) or int(token.text, 0) > most:
            self._fail(f"expected a number up to {most}, got {token.text}", token)
        return int(token.text, 0)

    def _port(self, field: _Token, relation: str, constants: Sequence[_Token]) -> Terms:
        """Read `outport == {@a1, "shop_web"}`."""
        self._only_positively(field, positive=relation == "==")
        for token in constants:
            if token.kind not in ("group", "string"):
                self._fail(f"expected a port or a group, got {token.text}", token)
        return _of(
            PortIs(
                side=_PORTS[field.text],
                groups=frozenset(token.text[1:] for token in constants if token.kind == "group"),
                names=frozenset(self._string(t) for t in constants if t.kind == "string"),
            )
        )

    def _string(self, token: _Token) -> str:
        try:
            return str(json.loads(token.text))
        except ValueError:
            self._fail(f"{token.text} is no JSON string", token)

    def _address(self, field: _Token, relation: str, constants: Sequence[_Token]) -> Terms:
        """Read `ip4.src == {$a1, 10.0.0.0/8}`, `ip6.dst != fd00::/64`."""
        family, side = _ADDRESSES[field.text]
        sets = frozenset(token.text[1:] for token in constants if token.kind == "set")
        networks = [self._network(token, family) for token in constants if token.kind != "set"]
        if relation not in ("==", "!="):
            self._fail(f"{field.text} is compared with == and != only", field)
        literal = AddressIn(
            side=side,
            family=family,
            sets=sets,
            networks=frozenset(networks),
            negated=relation == "!=",
        )
        # Other than that of an empty set, a comparison implies the family. `parse` refuses what
        # is left of `ip4.src != $a1` for the other family.
        either = literal.negated and not networks
        return _of(literal, families=Family if either else [family])

    def _network(self, token: _Token, family: Family) -> str:
        """Read `10.1.2.3`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `fd00::/64`."""
        mask = token.text.partition("/")[2]
        try:
            version = ipaddress.IPv4Network if family is Family.IP4 else ipaddress.IPv6Network
            network = version(token.text, strict=False)
        except ValueError:
            network = None
        # To ipaddress, 0.0.255.255 is a mask too, and 08 one of 8 bits.
        if network is None or mask not in ("", str(network.prefixlen), str(network.netmask)):
            self._fail(f"expected an {family} address or network, got {token.text}", token)
        return str(network)


def _l4_port(protocol: Protocol, side: Side, relation: str, numbers: Sequence[int]) -> Terms:
    """Return `tcp.dst == {80, 443}`, `udp.dst >= 1024`, `tcp.src != 80`: of that protocol only."""
    n = numbers[0]
    bounds = {
        "==": [(number, number) for number in numbers],
        "!=": [(a + 1, b - 1) for a, b in pairwise(sorted({-1, *numbers, MAX_PORT + 1}))],
        "<": [(0, n - 1)],
        "<=": [(0, n)],
        ">": [(n + 1, MAX_PORT)],
        ">=": [(n, MAX_PORT)],
    }[relation]
    if side is Side.SRC:
        met = any(first <= REQUEST_SOURCE_PORT <= last for first, last in bounds)
        return _of(l4=_every_port([protocol])) if met else _NEVER
    return _of(l4=[(protocol, first, last) for first, last in bounds])


def _all(operands: Sequence[Terms]) -> Terms | None:
    """Return the terms of a conjunction, None when they are too many."""
    whole = operands[0]
    for operand in operands[1:]:
        if len(whole) * len(operand) > _MAX_PRODUCTS:
            return None
        both = _any([[_both(one, other) for one, other in product(whole, operand)]])
        if both is None:
            return None
        whole = both
    return whole


def _both(one: Term, other: Term) -> Term:
    literals = one.literals | other.literals
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
        families=one.families & other.families,
        l4=_shared(one.l4, other.l4),
    )


def _any(operands: Iterable[Iterable[Term]]) -> Terms | None:
    """Return the terms of a disjunction, as few as easily done; None when they are too many.

    Terms that differ in ports, in families, or in what one literal lists, become one.
    """
    possible = (term for operand in operands for term in operand if _possible(term))
    ports: dict[Term, list[Intervals]] = {}
    for term in dict.fromkeys(possible):
        ports.setdefault(replace(term, l4=()), []).append(term.l4)
    families: dict[Term, frozenset[Family]] = {}
    for rest, l4s in ports.items():
        alike = replace(rest, families=frozenset(), l4=_united(chain.from_iterable(l4s)))
        families[alike] = families.get(alike, frozenset()) | rest.families
    terms = [replace(rest, families=either) for rest, either in families.items()]
    for kind, side in product((PortIs, AddressIn), Side):
        terms = _listed_together(terms, kind, side)
    return tuple(terms) if len(terms) <= MAX_TERMS else None


def _listed_together(terms: Iterable[Term], kind: type, side: Side) -> list[Term]:
    """Join terms that differ in one positive literal: `ip4.src == $a1 || ip4.src == $a2`."""
    groups: dict[tuple[Term, bool], list[Literal]] = {}
    for term in terms:
        own = [x for x in term.literals if isinstance(x, kind) and x.side is side and not x.negated]
        own = own if len(own) == 1 else []
        rest = replace(term, literals=term.literals.difference(own))
        groups.setdefault((rest, bool(own)), []).extend(own)
    return [
        replace(rest, literals=rest.literals.union(_listing(own)))
        for (rest, _), own in groups.items()
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


def _exclude(one: Literal, other: Literal) -> bool:
    """Say whether two literals certainly never hold together, whatever groups and sets hold."""
    if one.side is not other.side or (one.negated and other.negated):
        return False
    if isinstance(one, PortIs) and isinstance(other, PortIs):
        return not (one.groups or other.groups or one.names & other.names)
    if not isinstance(one, AddressIn) or not isinstance(other, AddressIn):
        return False
    if one.family is not other.family or len(one.networks) * len(other.networks) > _COMPARED:
        return False
    if one.negated or other.negated:
        inner, outer = (other, one) if one.negated else (one, other)
        return inner.sets <= outer.sets and all(
            any(_within(network, wider) for wider in outer.networks) for network in inner.networks
        )
    return not (one.sets or other.sets) and not any(
        _within(a, b) or _within(b, a) for a, b in product(one.networks, other.networks)
    )


def _within(inner: str, outer: str) -> bool:
    network, wider = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return wider.prefixlen <= network.prefixlen and network.network_address in wider


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
    addresses = {Side.SRC: ipaddress.ip_address(src), Side.DST: ipaddress.ip_address(dst)}

    def literal_holds(literal: Literal) -> bool:
        if isinstance(literal, PortIs):
            names = literal.names.union(*(ports_in_groups[name] for name in literal.groups))
            return (ports[literal.side] in names) != literal.negated
        listed = literal.networks.union(*(address_sets[name] for name in literal.sets))
        networks = (ipaddress.ip_network(text) for text in listed)
        found = any(addresses[literal.side] in network for network in networks)
        return Family.of(src) is literal.family and found != literal.negated

    return any(
        Family.of(src) in term.families
        and any(first <= port <= last for p, first, last in term.l4 if p is protocol)
        and all(literal_holds(literal) for literal in term.literals)
        for term in ((terms,) if isinstance(terms, Term) else terms)
    )
