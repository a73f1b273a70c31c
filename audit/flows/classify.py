"""Which flow of a table packets meet: the one of the highest priority whose match is true. Pure.

A match is taken apart: words that must have a value stand in a *family* with those of other flows
that look at the same bits, and are looked up all at once, as Open vSwitch's classifier does; what
is left (sets, disjunctions, negations) is evaluated once for all flows that ask it.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
from audit.flows.fields import Words
from audit.flows.lookups import Lookup
from audit.flows.southbound import Datapath, Southbound

Mask = NDArray[np.bool_]

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
    asked = every((expressions.parse(flow.match), does.needs))
    match = _Binder(southbound, datapath).bound(asked)
    if match is None:
        return None
    why = next(iter(expressions.unread(match)), "")
    return Bound(number, flow.priority, match, does, why)


@dataclass(slots=True)
class _Binder:
    """Says what names in a match stand for on a datapath."""

    southbound: Southbound
    datapath: Datapath

    def bound(self, asked: Expression) -> Expression | None:
        """Return a match without names; None where OVN ignores it."""
        match asked:
            case Every(parts=parts) | Some(parts=parts):
                of = [self.bound(part) for part in parts]
                if None in of:
                    return None
                joined = every if isinstance(asked, Every) else expressions.some
                return joined(part for part in of if part is not None)
            case AtPort():
                return self._port(asked)
            case Resident(name=name, negated=negated):
                there = not name or name in self.southbound.ports
                return Constant(there != negated)
            case Number():
                return self._number(asked)
            case Template(field=place, name=name):
                full = (1 << place.width) - 1
                known = self.southbound.templates.get(name, ())
                values = tuple((value & full, full) for value in known)
                may = Number(place, values, (), negated=False, needs=TRUE)
                return every((may if values else FALSE, Unread(f"the template variable ^{name}")))
            case _:
                return asked

    def _port(self, asked: AtPort) -> Expression | None:
        names = list(asked.names)
        for group in asked.groups:
            members = self.southbound.port_groups.get(f"{self.datapath.key}_{group}")
            if members is None:
                return None
            names += members
        keys = {self.datapath.port_key(self.southbound.ports, name) for name in names} - {None}
        full = (1 << asked.field.width) - 1
        patterns = tuple((key, full) for key in sorted(key for key in keys if key is not None))
        return Number(asked.field, patterns, (), negated=False, needs=TRUE) if patterns else FALSE

    def _number(self, asked: Number) -> Expression | None:
        full = (1 << asked.field.width) - 1
        patterns = list(asked.patterns)
        for name in asked.sets:
            members = self.southbound.sets.get(name)
            if members is None or self.southbound.widest[name] > asked.field.width:
                return None
            patterns += [(value & mask & full, mask & full) for value, mask in members]
        if asked.sets and not patterns:
            return Constant(asked.negated)
        needs = self.bound(asked.needs)
        compared = Number(asked.field, tuple(dict.fromkeys(patterns)), (), asked.negated, TRUE)
        return None if needs is None else every((needs, compared))


Key = tuple[tuple[int, int], ...]
"""Words and their values."""


class _Alternative(NamedTuple):
    """What words must be under their masks, and what else must be true."""

    masks: Key
    values: tuple[int, ...]
    others: tuple[Expression, ...]


def _alternatives(match: Expression) -> Iterator[_Alternative]:
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
            yield _Alternative(masks, tuple(value for _, (_, value) in ordered), tuple(others))


def _merged(chosen: Iterable[dict[int, tuple[int, int]]]) -> dict[int, tuple[int, int]] | None:
    """Return what words must be for all of these; None where two exclude each other."""
    words: dict[int, tuple[int, int]] = {}
    for one in chosen:
        for word, (mask, value) in one.items():
            before, had = words.get(word, (0, 0))
            if (had ^ value) & mask & before:
                return None
            words[word] = before | mask, had | value
    return words


class _Truth:
    """Whether expressions are true of packets, each evaluated once."""

    def __init__(self, tests: "_Tests", words: Words) -> None:
        self._tests = tests
        self._words = words
        self._known: dict[int, Mask] = {}

    def of(self, number: int) -> Mask:
        """Return of which packets an expression is true, by its number."""
        if number not in self._known:
            self._known[number] = self._tests.evaluate(number, self)
        return self._known[number]

    def number(self, lookups: Sequence[tuple[Key, Lookup]], *, negated: bool) -> Mask:
        """Return whether words are of any of some keys."""
        met = np.zeros(self._words.shape[1], np.bool_)
        for masks, lookup in lookups:
            met |= lookup.find(_columns(self._words, masks)) >= 0
        return ~met if negated else met

    def all(self) -> Mask:
        """Return true of every packet."""
        return np.ones(self._words.shape[1], np.bool_)


def _columns(words: Words, masks: Key) -> list[NDArray[np.uint32]]:
    return [words[word] & np.uint32(mask) for word, mask in masks]


@dataclass(slots=True)
class _Tests:
    """Expressions by number, each once."""

    numbers: dict[Expression, int] = field(default_factory=dict)
    compiled: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, expression: Expression) -> int:
        """Return an expression's number."""
        if expression not in self.numbers:
            made = self._made(expression)
            self.numbers[expression] = len(self.compiled)
            self.compiled.append(made)
        return self.numbers[expression]

    def _made(self, expression: Expression) -> tuple[object, ...]:
        match expression:
            case Every(parts=parts) | Some(parts=parts):
                return type(expression), [self.add(part) for part in parts]
            case Number(field=place, patterns=patterns, negated=negated):
                by_masks: dict[Key, dict[tuple[int, ...], None]] = defaultdict(dict)
                for value, mask in patterns:
                    words = sorted(place.masked(value, mask).items())
                    masks = tuple((word, mask) for word, (mask, _) in words)
                    by_masks[masks][tuple(value for _, (_, value) in words)] = None
                lookups = [(masks, Lookup(list(keys))) for masks, keys in by_masks.items() if masks]
                if () in by_masks:
                    return Constant, not negated
                return Number, lookups, negated
            case Constant(true=true):
                return Constant, true
            case _:
                return Constant, True  # not understood: it may be

    def evaluate(self, number: int, truth: _Truth) -> Mask:
        """Return of which packets an expression is true."""
        kind, *of = self.compiled[number]
        if kind is Constant:
            return truth.all() if of[0] else ~truth.all()
        if kind is Number:
            return truth.number(of[0], negated=bool(of[1]))  # type: ignore[arg-type]
        masks = [truth.of(part) for part in of[0]]  # type: ignore[attr-defined]
        joined: Mask = (np.logical_and if kind is Every else np.logical_or).reduce(masks)
        return joined


@dataclass(slots=True)
class _Family:
    """Flows that look at the same bits and ask the same else."""

    masks: Key
    others: tuple[int, ...]
    lookup: Lookup
    priorities: NDArray[np.int64]
    hits: NDArray[np.int64]
    """What is met by each key: numbers of `Table.hits`."""
    highest: int


class Table:
    """The flows of one table of a datapath."""

    def __init__(self, southbound: Southbound, datapath: Datapath, flows: Iterable[int]) -> None:
        self.flows: dict[int, Bound] = {}
        """What can be met, by the flow's number."""
        self.hits: list[tuple[int, ...]] = []
        """Numbers of flows that are met together: several where they have one priority."""
        self._numbers: dict[tuple[int, ...], int] = {}
        self._tests = _Tests()
        members: dict[tuple[Key, tuple[int, ...]], dict[tuple[int, ...], list[Bound]]] = {}
        for number in flows:
            bound = bind(southbound, datapath, number)
            if bound is None:
                continue
            self.flows[number] = bound
            for masks, values, others in _alternatives(bound.match):
                asked = tuple(sorted(self._tests.add(other) for other in others))
                keys = members.setdefault((masks, asked), defaultdict(list))
                keys[values].append(bound)
        self._families = sorted(
            (self._family(*which, keys) for which, keys in members.items()),
            key=lambda family: -family.highest,
        )

    def _family(
        self, masks: Key, others: tuple[int, ...], keys: dict[tuple[int, ...], list[Bound]]
    ) -> _Family:
        priorities, hits = [], []
        for flows in keys.values():
            priorities.append(max(flow.priority for flow in flows))
            best = {flow.number for flow in flows if flow.priority == priorities[-1]}
            hits.append(self._hit(tuple(sorted(best))))
        return _Family(
            masks=masks,
            others=others,
            lookup=Lookup(list(keys)),
            priorities=np.array(priorities, np.int64),
            hits=np.array(hits, np.int64),
            highest=max(priorities),
        )

    def _hit(self, flows: tuple[int, ...]) -> int:
        if flows not in self._numbers:
            self._numbers[flows] = len(self.hits)
            self.hits.append(flows)
        return self._numbers[flows]

    def met(self, words: Words) -> NDArray[np.int64]:
        """Return the number in `hits` of what each packet meets, -1 where that is nothing."""
        truth = _Truth(self._tests, words)
        count = words.shape[1]
        hit = np.full(count, -1, np.int64)
        priority = np.full(count, -1, np.int64)
        lowest = -1
        for family in self._families:
            if family.highest < lowest:
                break  # every packet has met something higher
            key = self._key(family, words, truth)
            if key is None:
                continue
            there = np.where(key >= 0, family.priorities[key], -1)
            better = there > priority
            if (alike := (there == priority) & (key >= 0)).any():
                self._tie(hit, alike, family.hits[key])
            hit[better] = family.hits[key[better]]
            priority[better] = there[better]
            lowest = int(priority.min())
        return hit

    def _key(self, family: _Family, words: Words, truth: _Truth) -> NDArray[np.intp] | None:
        """Return the key that each packet has in a family, -1 for none; None where none has."""
        asked = [truth.of(other) for other in family.others]
        if any(not mask.any() for mask in asked):
            return None
        if family.masks:
            key = family.lookup.find(_columns(words, family.masks))
        else:
            key = np.zeros(words.shape[1], np.intp)
        for mask in asked:
            key = np.where(mask, key, -1)
        return key

    def _tie(self, hit: NDArray[np.int64], alike: Mask, other: NDArray[np.int64]) -> None:
        """Let packets meet several flows of one priority."""
        rows = np.flatnonzero(alike)
        pairs, which = np.unique(np.stack((hit[rows], other[rows])), axis=1, return_inverse=True)
        joined = [
            self._hit(tuple(sorted({*self.hits[one], *self.hits[another]})))
            for one, another in pairs.T.tolist()
        ]
        hit[rows] = np.array(joined, np.int64)[which.reshape(-1)]


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
