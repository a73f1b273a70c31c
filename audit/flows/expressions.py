"""A match as an expression that can be evaluated, the same object for the same text. Pure.

What a match asks is kept as OVN has it: conjunctions, disjunctions, and comparisons of a field
with patterns, address sets, ports and groups. A comparison comes with what its symbol needs.
"""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.flows.constants import Pattern
from audit.flows.fields import FIELDS, Slice
from audit.flows.symbols import Symbol
from audit.flows.syntax import Compared, MatchError, Parser, Token

__all__ = ["Expression", "MatchError", "parse"]


@dataclass(frozen=True, slots=True)
class Constant:
    """True or false of every packet."""

    true: bool


@dataclass(frozen=True, slots=True)
class Number:
    """A field is of one of these patterns or in one of these address sets, or is not.

    Where there are no patterns and all sets are empty, that is so of every packet, whatever the
    field `needs`; else that must be true too.
    """

    field: Slice
    patterns: tuple[Pattern, ...]
    sets: tuple[str, ...]
    negated: bool
    needs: "Expression"


@dataclass(frozen=True, slots=True)
class AtPort:
    """`inport` or `outport` is one of these ports or in one of these port groups."""

    field: Slice
    names: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resident:
    """`is_chassis_resident(name)`, or its negation."""

    name: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A field is what each chassis has under a name: `ip4.dst == ^NODEIP`."""

    field: Slice
    name: str


@dataclass(frozen=True, slots=True)
class Unread:
    """What is not understood; `why` says what it is."""

    why: str


@dataclass(frozen=True, slots=True)
class Every:
    """All of these are true."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Some:
    """Any of these is true."""

    parts: "tuple[Expression, ...]"


Expression = Constant | Number | AtPort | Resident | Template | Unread | Every | Some

TRUE, FALSE = Constant(true=True), Constant(true=False)

_TEMPLATE = re.compile(r"(?P<field>[a-z][\w.]*)\s*==\s*\^(?P<name>\w+)")
"""A comparison with a variable that each chassis fills in."""
_BARE = re.compile(r"\^\w+")
_VARIABLE = "^"
"""Begins the name of no port; so a template is read as a question about one."""


def every(parts: Iterable[Expression]) -> Expression:
    """Return the conjunction."""
    return _joined(parts, Every, neutral=TRUE, final=FALSE)


def some(parts: Iterable[Expression]) -> Expression:
    """Return the disjunction."""
    return _joined(parts, Some, neutral=FALSE, final=TRUE)


def _joined(
    parts: Iterable[Expression], kind: type[Every | Some], *, neutral: Constant, final: Constant
) -> Expression:
    flat: dict[Expression, None] = {}
    for part in parts:
        if part == final:
            return final
        if isinstance(part, kind):
            flat |= dict.fromkeys(part.parts)
        elif part != neutral:
            flat[part] = None
    if len(flat) > 1:
        return kind(tuple(flat))
    return next(iter(flat), neutral)


class _Parser(Parser[Expression]):
    """Reads a match as an expression."""

    def constant(self, *, true: bool) -> Expression:
        return TRUE if true else FALSE

    def joined(
        self,
        operands: Sequence[Expression],
        operator: Token | None,  # noqa: ARG002 - there is no limit to complain about
        *,
        every: bool,
    ) -> Expression:
        return _every(operands) if every else some(operands)

    def resident(self, name: str, *, negated: bool) -> Expression:
        port = str(json.loads(name))
        if port.startswith(_VARIABLE):
            field, _, variable = port.removeprefix(_VARIABLE).partition(" ")
            return Unread("a negated template variable") if negated else _template(field, variable)
        return Resident(port, negated)

    def port(self, field: Token, groups: frozenset[str], names: frozenset[str]) -> Expression:
        return AtPort(FIELDS[field.text], tuple(sorted(names)), tuple(sorted(groups)))

    def predicates(self, symbol: Symbol, positive: Sequence[bool], *, every: bool) -> Expression:
        parts = [_meant(symbol.means, negated=not true) for true in positive]
        return _every(parts) if every else some(parts)

    def numbers(self, compared: Compared) -> Expression:
        symbol = compared.field.symbol
        bits = FIELDS.get(symbol.name)
        if bits is None:
            return Unread(f"the symbol {symbol.name}")
        return Number(
            field=bits.part(compared.field.low, compared.field.width),
            patterns=tuple(dict.fromkeys(compared.patterns)),
            sets=compared.sets,
            negated=compared.negated,
            needs=_meant(symbol.needs, negated=False) if symbol.needs else TRUE,
        )


def _template(field: str, variable: str) -> Expression:
    bits = FIELDS.get(field)
    return Template(bits, variable) if bits is not None else Unread(f"the symbol {field}")


_every = every
"""Under a name that no parameter has."""


@functools.cache
def _meant(match: str, *, negated: bool) -> Expression:
    """Return what a predicate means or a symbol needs, or its negation."""
    return _Parser(match)._expression(negated=negated)  # noqa: SLF001 - its own parser


@functools.lru_cache(maxsize=1 << 17)
def parse(match: str) -> Expression:
    """Return what a match asks; what is not understood of it is `Unread`."""
    shown = _TEMPLATE.sub(rf'is_chassis_resident("{_VARIABLE}\g<field> \g<name>")', match)
    if _BARE.search(re.sub(r'"(?:[^"\\]|\\.)*"', "", shown)):
        return Unread("a template variable")
    try:
        return _Parser(shown).whole()
    except MatchError as error:
        return Unread(str(error))


def unread(expression: Expression) -> Iterable[str]:
    """Yield why parts of an expression are not understood."""
    match expression:
        case Unread(why=why):
            yield why
        case Every(parts=parts) | Some(parts=parts):
            for part in parts:
                yield from unread(part)
        case Number(needs=needs):
            yield from unread(needs)
        case _:
            pass
