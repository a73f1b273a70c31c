"""OVN's match language, parsed; what a comparison comes to is for subclasses to say. Pure.

What the language is, is in ovn-sb(5) under Logical_Flow, `match`, and in OVN's lib/expr.c and
lib/lex.c. What they say and is easily missed:

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

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, NoReturn, TypeVar

from audit.flows.constants import NUMBER, Pattern, constant
from audit.flows.symbols import SYMBOLS, Symbol

T = TypeVar("T")
"""What a part of a match is read as."""

_MAX_DEPTH = 100
"""OVN's own limit of nested parentheses (lib/expr.c)."""


class MatchError(ValueError):
    """The match is not one OVN takes, or looks at what is not known of a packet."""


_RESIDENT = "is_chassis_resident"
"""The one function; what it says differs from chassis to chassis."""

_INVERTED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}

BLANK = r"(?P<blank> [ \t\n\r\v\f]+ | //[^\n]* | /\*(?:(?!\*/)[^\n])*\*/ )"
CONSTANTS = r"""
    (?P<string> "(?:[^"\\]|\\.)*" )
  | (?P<set> \$[A-Za-z_.][A-Za-z_.0-9]* )
  | (?P<group> @[A-Za-z_.][A-Za-z_.0-9]* )
  | (?P<number> (?:[0-9]|::|[0-9A-Fa-f]+:) (?:[0-9A-Za-z:]|\.(?!\.))* (?:/[0-9A-Za-z:.]*)? )
  | (?P<name> [A-Za-z_.][A-Za-z_.0-9]* )
"""
_TOKEN = re.compile(
    rf"{BLANK} | (?P<operator> && | \|\| | [=!<>]= | \.\. | [<>!(){{}},\[\]] ) | {CONSTANTS}",
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """A piece of a text; the last is empty, of kind `end`."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class _Constants:
    """What a field is compared with: `80`, `{80, 443}`, `{$a1, 10.0.0.0/8}`."""

    tokens: tuple[Token, ...]
    in_braces: bool


@dataclass(frozen=True, slots=True)
class Field:
    """`width` bits of a symbol, from `low`: `ip4.src`, `ip4.src[0..7]`."""

    symbol: Symbol
    low: int
    width: int
    token: Token


@dataclass(frozen=True, slots=True)
class Compared:
    """A field and what it is compared with by `==`, or `!=` where `negated`.

    `values` are numbers with their masks, None where the whole field is compared; `sets` are names
    of address sets. `ordered` is `<`, `<=`, `>` or `>=` where that is the relation, of one value.
    """

    field: Field
    values: tuple[tuple[int, int | None], ...]
    sets: tuple[str, ...]
    negated: bool
    ordered: str

    @property
    def patterns(self) -> list[Pattern]:
        """The patterns of the field's numbers that are these, or less or greater; not for !=."""
        full = (1 << self.field.width) - 1
        if self.ordered:
            return ordered(self.ordered, self.values[0][0] & full, self.field.width)
        return [(v & full, full if mask is None else mask & full) for v, mask in self.values]


def ordered(relation: str, number: int, width: int) -> list[Pattern]:
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


def tokens(pattern: re.Pattern[str], text: str) -> list[Token]:
    """Split a text into tokens, without blanks; MatchError at what is none."""
    some: list[Token] = []
    at = 0
    for token in pattern.finditer(text):
        if token.start() != at:
            break
        at = token.end()
        if token.lastgroup != "blank":
            some.append(Token(str(token.lastgroup), token.group(), token.start()))
    if at < len(text):
        raise MatchError(f"{text[at]!r} is not understood at character {at + 1} of {text!r}")
    some.append(Token("end", "", at))
    return some


class Parser(ABC, Generic[T]):
    """Recursive descent over the tokens of one match; negation is carried to the comparisons."""

    def __init__(self, match: str, symbols: Mapping[str, Symbol] = SYMBOLS) -> None:
        self._match = match
        self._symbols = symbols
        self._tokens = tokens(_TOKEN, match)
        self._next = 0
        self._depth = 0
        self.groups: set[str] = set()
        """Names of the port groups in all of it."""
        self.sets: set[tuple[str, int]] = set()
        """Names of the address sets, each with the width in bits of what is compared with it."""

    @abstractmethod
    def constant(self, *, true: bool) -> T:
        """Return what `1` or `0` is read as."""

    @abstractmethod
    def joined(self, operands: Sequence[T], operator: Token | None, *, every: bool) -> T:
        """Return `a && b`, with `every`, or `a || b`; `operator` is the token, if one is there."""

    @abstractmethod
    def resident(self, name: str, *, negated: bool) -> T:
        """Return `is_chassis_resident(name)`."""

    @abstractmethod
    def port(self, field: Token, groups: frozenset[str], names: frozenset[str]) -> T:
        """Return `inport == {@groups, names}`."""

    @abstractmethod
    def predicates(self, symbol: Symbol, positive: Sequence[bool], *, every: bool) -> T:
        """Return what a predicate means, or its negation, joined."""

    @abstractmethod
    def numbers(self, compared: Compared) -> T:
        """Return what comparing a field means, prerequisites included."""

    def _fail(self, what: str, token: Token) -> NoReturn:
        raise MatchError(f"{what} at character {token.at + 1} of {self._match!r}")

    def _unexpected(self, wanted: str) -> NoReturn:
        token = self._tokens[self._next]
        self._fail(f"expected {wanted}, got {token.text or 'the end'}", token)

    @property
    def _text(self) -> str:
        """The token that comes next."""
        return self._tokens[self._next].text

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _accept(self, text: str) -> bool:
        """Step over `text` if it comes next."""
        accepted = self._text == text
        self._next += accepted
        return accepted

    def whole(self) -> T:
        """Read all of the match."""
        terms = self._expression(negated=False)
        if self._text:
            self._unexpected("&&, || or the end")
        return terms

    def _expression(self, *, negated: bool) -> T:
        """Read `a && b && c`, `a || b || c` or just `a`."""
        operands = [self._operand(negated=negated)]
        operator = self._tokens[self._next]
        while operator.text in ("&&", "||") and self._accept(operator.text):
            operands.append(self._operand(negated=negated))
        if self._text in ("&&", "||"):
            self._fail("&& and || need parentheses when used together", self._tokens[self._next])
        return self.joined(operands, operator, every=(operator.text == "||") == negated)

    def _operand(self, *, negated: bool) -> T:
        """Read `!a` or `a`: what `!` applies to must be in parentheses or one word."""
        inverted = self._accept("!")
        start = self._next
        if self._accept("("):
            return self._parenthesized(negated=negated != inverted)
        token = self._tokens[start]
        if token.text in ("0", "1") and self._tokens[start + 1].text not in _INVERTED:
            self._take()
            return self.constant(true=(token.text == "1") != (negated != inverted))
        if token.text == _RESIDENT:
            return self._resident(negated=negated != inverted)
        terms, bare = self._comparison(negated=negated != inverted)
        if inverted and not bare:
            self._fail("! needs parentheses before a comparison", token)
        return terms

    def _resident(self, *, negated: bool) -> T:
        """Read `is_chassis_resident("cr-lrp")`."""
        self._take()
        if not self._accept("("):
            self._unexpected("(")
        if self._tokens[self._next].kind != "string":
            self._unexpected("a string")
        name = self._take()
        if not self._accept(")"):
            self._unexpected(")")
        return self.resident(name.text, negated=negated)

    def _parenthesized(self, *, negated: bool) -> T:
        """Read the rest of `( … )`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._unexpected(f"at most {_MAX_DEPTH} nested parentheses")
        terms = self._expression(negated=negated)
        if not self._accept(")"):
            self._unexpected("&&, || or )")
        self._depth -= 1
        return terms

    def _comparison(self, *, negated: bool) -> tuple[T, bool]:
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
            zero = _Constants((Token("number", "0", field.token.at),), in_braces=False)
            return self._compare(field, "!=", zero, negated=negated), True
        low, first = self._constants(), self._relation()
        field = self._field()
        sides = [self._compare(field, TURNED[first], low, negated=negated)]
        if self._text in _INVERTED:
            second = self._relation()
            if first[0] != second[0] or first[0] not in "<>":
                self._fail("a range is x <= field <= y or x >= field >= y", field.token)
            sides.append(self._compare(field, second, self._constants(), negated=negated))
        return self.joined(sides, None, every=not negated), False

    def _relation(self) -> str:
        if self._text not in _INVERTED:
            self._unexpected("a relation")
        return self._take().text

    def _field(self) -> Field:
        """Read a symbol, or some bits of one: `ip4.src`, `ip4.src[31]`, `ip6.dst[120..127]`."""
        if self._tokens[self._next].kind != "name":
            self._unexpected("a field")
        token = self._take()
        symbol = self._symbols.get(token.text)
        if symbol is None:
            self._fail(f"{token.text} is no symbol of OVN", token)
        if not self._accept("["):
            return Field(symbol, 0, symbol.width, token)
        low = last = self._bit()
        if self._accept(".."):
            last = self._bit()
        if not self._accept("]"):
            self._unexpected("]")
        if not low <= last < symbol.width:
            self._fail(f"{symbol.name} has {symbol.width} bits", token)
        if symbol.nominal and last - low + 1 < symbol.width:
            self._fail(f"bits of {symbol.name} cannot be tested", token)
        return Field(symbol, low, last - low + 1, token)

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
        constants: list[Token] = []
        while not constants or not self._accept("}"):
            constants.append(self._constant())
            self._accept(",")
        return _Constants(tuple(constants), in_braces=True)

    def _constant(self) -> Token:
        if self._tokens[self._next].kind not in ("string", "set", "group", "number"):
            self._unexpected("a constant")
        return self._take()

    def _compare(self, field: Field, relation: str, constants: _Constants, *, negated: bool) -> T:
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
        ordered = "" if relation in ("==", "!=") else relation
        names = tuple(name[1:] for name in sets)
        return self.numbers(Compared(field, tuple(values), names, relation == "!=", ordered))

    def _check_ordered(self, field: Field, constants: _Constants, sets: Sequence[str]) -> None:
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
        field: Field,
        relation: str,
        values: Sequence[tuple[int, int | None]],
        sets: Sequence[str],
    ) -> T:
        """Read `tcp`, `ip4.mcast == 0`: 1 is what the predicate means, 0 its negation."""
        if sets:
            self._fail(f"{field.symbol.name} is compared with 0 and 1 only", field.token)
        positive = [bool(value & 1) == (relation == "==") for value, _ in values]
        if field.symbol.nominal:
            self._only_positively(field.token, positive=all(positive))
        return self.predicates(field.symbol, positive, every=relation == "!=")

    def _only_positively(self, token: Token, *, positive: bool) -> None:
        if not positive:
            self._fail(f"{token.text} can only be tested positively", token)

    def _integer(self, token: Token, width: int) -> tuple[int, int | None]:
        """Read `80`, `0x50`, `10.0.0.0/8`, `ff:ff:ff:ff:ff:ff`: its value, and its mask if any."""
        whole = constant(token.text) if token.kind == "number" else None
        if whole is None or whole[2] > width:
            self._fail(f"expected a number of {width} bits, got {token.text}", token)
        return whole[:2]

    def _port(self, field: Token, relation: str, constants: Sequence[Token]) -> T:
        """Read `outport == {@a1, "shop_web"}`."""
        self._only_positively(field, positive=relation == "==")
        for token in constants:
            if token.kind not in ("group", "string"):
                self._fail(f"expected a port or a group, got {token.text}", token)
        groups = frozenset(token.text[1:] for token in constants if token.kind == "group")
        self.groups |= groups
        names = frozenset(self._string(t) for t in constants if t.kind == "string")
        return self.port(field, groups, names)

    def _string(self, token: Token) -> str:
        try:
            return str(json.loads(token.text))
        except ValueError:
            self._fail(f"{token.text} is no JSON string", token)
