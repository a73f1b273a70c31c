"""A flow on a datapath: what its match asks there, without names, and as alternatives. Pure."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from audit.flows import actions, expressions
from audit.flows.actions import Actions, Next
from audit.flows.expressions import (
    FALSE,
    TRUE,
    AtPort,
    Constant,
    Every,
    Expression,
    Number,
    Resident,
    Some,
    Template,
    Unread,
    every,
)
from audit.flows.southbound import Datapath, Southbound

_EXPANDED = 16
"""Up to how many patterns of a comparison are so many keys of a family."""


class Bound(NamedTuple):
    """A flow on one datapath: what it asks there, what it does, and whether all is understood."""

    number: int
    priority: int
    match: Expression
    does: Actions
    unread: str


def bind(southbound: Southbound, datapath: Datapath, number: int) -> Bound | None:
    """Return a flow on a datapath; None where OVN ignores it there."""
    flow = southbound.flows[number]
    does = actions.read(flow.actions)
    expression = every((expressions.parse(flow.match), does.needs))
    match = _Binder(southbound, datapath).bound(expression)
    if match is None:
        return None
    why = next(iter(expressions.unread(match)), "")
    return Bound(number, flow.priority, match, does, why)


@dataclass(slots=True)
class _Binder:
    """Says what names in a match stand for on a datapath."""

    southbound: Southbound
    datapath: Datapath

    def bound(self, expression: Expression) -> Expression | None:
        """Return a match without names; None where OVN ignores it."""
        match expression:
            case Every(parts=parts) | Some(parts=parts):
                bound = [self.bound(part) for part in parts]
                there = [part for part in bound if part is not None]
                joined = every if isinstance(expression, Every) else expressions.some
                return joined(there) if len(there) == len(bound) else None
            case AtPort():
                return self._port(expression)
            case Resident(name=name, negated=negated):
                return Constant((not name or name in self.southbound.ports) != negated)
            case Number():
                return self._number(expression)
            case Template(field=bits, name=name):
                full = (1 << bits.width) - 1
                members = self.southbound.templates.get(name, ())
                values = tuple((value & full, full) for value in members)
                may = Number(bits, values, (), negated=False, needs=TRUE)
                return every((may if values else FALSE, Unread(f"the template variable ^{name}")))
            case _:
                return expression

    def _port(self, expression: AtPort) -> Expression | None:
        names = list(expression.names)
        for group in expression.groups:
            members = self.southbound.port_groups.get(f"{self.datapath.key}_{group}")
            if members is None:
                return None
            names += members
        keys = {self.datapath.port_key(self.southbound.ports, name) for name in names} - {None}
        full = (1 << expression.field.width) - 1
        patterns = tuple((key, full) for key in sorted(key for key in keys if key is not None))
        return (
            Number(expression.field, patterns, (), negated=False, needs=TRUE) if patterns else FALSE
        )

    def _number(self, expression: Number) -> Expression | None:
        full = (1 << expression.field.width) - 1
        patterns = list(expression.patterns)
        for name in expression.sets:
            members = self.southbound.sets.get(name)
            if members is None or self.southbound.widest[name] > expression.field.width:
                return None
            patterns += [(value & mask & full, mask & full) for value, mask in members]
        if expression.sets and not patterns:
            return Constant(expression.negated)
        needs = self.bound(expression.needs)
        compared = Number(
            expression.field, tuple(dict.fromkeys(patterns)), (), expression.negated, TRUE
        )
        return None if needs is None else every((needs, compared))


Key = tuple[tuple[int, int], ...]
"""Words and their values."""


class Alternative(NamedTuple):
    """What words must be under their masks, and what else must be true."""

    masks: Key
    values: tuple[int, ...]
    others: tuple[Expression, ...]


def alternatives(match: Expression) -> Iterator[Alternative]:
    """Yield what any of makes a match true."""
    parts = match.parts if isinstance(match, Every) else (match,)
    choices: list[tuple[Expression, list[dict[int, tuple[int, int]]]]] = []
    others: list[Expression] = []
    for part in parts:
        if part == TRUE or isinstance(part, Unread):
            continue
        if part == FALSE:
            return
        if isinstance(part, Number) and not part.negated and len(part.patterns) <= _EXPANDED:
            choices.append((part, [part.field.masked(v, mask) for v, mask in part.patterns]))
        else:
            others.append(part)
    choices.sort(key=lambda choice: len(choice[1]))
    while math.prod(len(choice) for _, choice in choices) > _EXPANDED:
        others.append(choices.pop()[0])
    for chosen in itertools.product(*(choice for _, choice in choices)):
        words = _merged(chosen)
        if words is not None:
            ordered = sorted(words.items())
            masks = tuple((word, mask) for word, (mask, _) in ordered)
            yield Alternative(masks, tuple(value for _, (_, value) in ordered), tuple(others))


def _merged(chosen: Iterable[dict[int, tuple[int, int]]]) -> dict[int, tuple[int, int]] | None:
    """Return what words must be for all of these; None where two exclude each other."""
    words: dict[int, tuple[int, int]] = {}
    for words_of in chosen:
        for word, (mask, value) in words_of.items():
            before, had = words.get(word, (0, 0))
            if (had ^ value) & mask & before:
                return None
            words[word] = before | mask, had | value
    return words


def passes_on(bound: Bound, table: int) -> bool:
    """Say whether a flow only goes on to the next table, whatever the packet.

    `ovn-trace` prints no such flow.
    """
    steps = bound.does.steps
    return (
        bound.match == TRUE
        and len(steps) == 1
        and isinstance(steps[0], Next)
        and steps[0].table in (None, table + 1)
    )
