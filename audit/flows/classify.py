"""Which flow of a table packets meet: the one of the highest priority whose match is true. Pure.

A match is taken apart: words that must have a value stand in a *family* with those of other flows
that look at the same bits, and are looked up all at once, as Open vSwitch's classifier does; what
is left (sets, disjunctions, negations) is evaluated once for all flows that ask it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit.flows.bind import Bound, Key, alternatives, bind
from audit.flows.expressions import Constant, Every, Expression, Number, Some
from audit.flows.fields import Words
from audit.flows.lookups import Lookup
from audit.flows.southbound import Datapath, Southbound

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Fixed:
    """The same of every packet."""

    true: bool


@dataclass(frozen=True, slots=True)
class _Keys:
    """Words are of any of some keys, or of none."""

    lookups: tuple[tuple[Key, Lookup], ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class _Joined:
    """All of some tests, by number, or any of them."""

    parts: tuple[int, ...]
    every: bool


@dataclass(slots=True)
class _Tests:
    """Expressions by number, each once."""

    numbers: dict[Expression, int] = field(default_factory=dict)
    made: list[_Fixed | _Keys | _Joined] = field(default_factory=list)

    def add(self, expression: Expression) -> int:
        """Return an expression's number."""
        if expression not in self.numbers:
            made = self._made(expression)
            self.numbers[expression] = len(self.made)
            self.made.append(made)
        return self.numbers[expression]

    def _made(self, expression: Expression) -> _Fixed | _Keys | _Joined:
        match expression:
            case Every(parts=parts) | Some(parts=parts):
                return _Joined(tuple(map(self.add, parts)), isinstance(expression, Every))
            case Number():
                return _keys(expression)
            case Constant(true=true):
                return _Fixed(true)
            case _:
                return _Fixed(true=True)  # not understood: it may be


def _keys(number: Number) -> _Fixed | _Keys:
    by_masks: dict[Key, dict[tuple[int, ...], None]] = defaultdict(dict)
    for value, mask in number.patterns:
        words = sorted(number.field.masked(value, mask).items())
        masks = tuple((word, mask) for word, (mask, _) in words)
        by_masks[masks][tuple(value for _, (_, value) in words)] = None
    if () in by_masks:
        return _Fixed(not number.negated)
    lookups = tuple((masks, Lookup(list(keys))) for masks, keys in by_masks.items())
    return _Keys(lookups, number.negated)


class _Truth:
    """What is true of packets, each found out once."""

    def __init__(self, tests: Sequence[_Fixed | _Keys | _Joined], words: Words) -> None:
        self._tests = tests
        self._words = words
        self._true: dict[int, Mask] = {}
        self._columns: dict[tuple[int, int], NDArray[np.uint32]] = {}
        self._same: dict[tuple[int, int, int], Mask | None] = {}

    def of(self, number: int) -> Mask:
        """Return of which packets a test is true."""
        if number not in self._true:
            self._true[number] = self._evaluated(self._tests[number])
        return self._true[number]

    def _evaluated(self, test: _Fixed | _Keys | _Joined) -> Mask:
        count = self._words.shape[1]
        match test:
            case _Fixed(true=true):
                return np.full(count, true, np.bool_)
            case _Joined(parts=parts, every=every):
                joined: Mask = (np.logical_and if every else np.logical_or).reduce(
                    [self.of(part) for part in parts]
                )
                return joined
            case _Keys(lookups=lookups, negated=negated):
                met = np.zeros(count, np.bool_)
                for masks, lookup in lookups:
                    key = self.key(masks, lookup)
                    if key is not None:
                        met |= key >= 0
                return ~met if negated else met

    def key(self, masks: Key, lookup: Lookup) -> NDArray[np.intp] | None:
        """Return which key of a lookup each packet has, -1 for none; None where none has any."""
        if not masks:
            return np.zeros(self._words.shape[1], np.intp)
        if lookup.only is None:
            key = lookup.find([self._column(word, mask) for word, mask in masks])
            return key if (key >= 0).any() else None
        met: Mask | None = None
        for (word, mask), value in zip(masks, lookup.only, strict=True):
            same = self._is(word, mask, value)
            if same is None:
                return None
            met = same if met is None else met & same
        return None if met is None or not met.any() else met.astype(np.intp) - 1

    def _column(self, word: int, mask: int) -> NDArray[np.uint32]:
        if (word, mask) not in self._columns:
            self._columns[word, mask] = self._words[word] & np.uint32(mask)
        return self._columns[word, mask]

    def _is(self, word: int, mask: int, value: int) -> Mask | None:
        """Return of which packets a word is so; None where of none."""
        if (word, mask, value) not in self._same:
            same = self._column(word, mask) == value
            self._same[word, mask, value] = same if same.any() else None
        return self._same[word, mask, value]


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
            for masks, values, others in alternatives(bound.match):
                tests = tuple(sorted(self._tests.add(other) for other in others))
                keys = members.setdefault((masks, tests), defaultdict(list))
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
        truth = _Truth(self._tests.made, words)
        count = words.shape[1]
        hit = np.full(count, -1, np.int64)
        priority = np.full(count, -1, np.int64)
        lowest = -1
        for family in self._families:
            if family.highest < lowest:
                break  # every packet has met something higher
            key = self._key(family, truth)
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

    def _key(self, family: _Family, truth: _Truth) -> NDArray[np.intp] | None:
        """Return the key that each packet has in a family, -1 for none; None where none has."""
        key = truth.key(family.masks, family.lookup)
        if key is None:
            return None
        for other in family.others:
            mask = truth.of(other)
            if not mask.any():
                return None
            key = np.where(mask, key, -1)
        return key

    def _tie(self, hit: NDArray[np.int64], alike: Mask, other: NDArray[np.int64]) -> None:
        """Let packets meet several flows of one priority."""
        rows = np.flatnonzero(alike)
        pairs, which = np.unique(np.stack((hit[rows], other[rows])), axis=1, return_inverse=True)
        joined = [
            self._hit(tuple(sorted({*self.hits[left], *self.hits[right]})))
            for left, right in pairs.T.tolist()
        ]
        hit[rows] = np.array(joined, np.int64)[which.reshape(-1)]
