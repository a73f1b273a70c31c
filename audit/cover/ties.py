"""Flows that are asked at the same time: of which OVN takes one, and does not say which. Pure.

ovn-northd hardly makes two flows of a stage and a priority that are true of one packet and do
different things with it; what is added by hand may be such a flow. Then each of two such flows wins
or loses for itself, so that what a trace shows of one endpoint says nothing of the next.

Two flows exclude each other where they ask for different constants in some field. Only what a whole
match requires is looked at; what is not understood excludes nothing.
"""

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from audit.cover.identities import THING, contents, has_alternatives, thing_of
from audit.flows.constants import masked
from audit.model.facts import LogicalFlow, Zone
from audit.model.packets import Family

_EQUATION = re.compile(
    r"(?P<field>[a-z][\w.]*(?:\[[^\]]*\])?) *== *(?P<constants>\{[^}]*\}|[^\s{}]+)"
)
_FLAG = re.compile(r"(?P<no>!?) *(?P<name>[a-z][\w.]*)(?P<of>\(\0\))?")
_HOLE = "\0"
"""Stands for a thing in a match, where matches that differ in things alone are one."""
_FAMILIES = {"ip4": 4, "icmp4": 4, "arp": 0, "ip6": 6, "icmp6": 6, "nd": 6}
_PROTOCOLS = frozenset({"tcp", "udp", "sctp", "icmp4", "icmp6"})
_STATES = (
    {"ct.new": 1, "ct.est": 0, "ct.rel": 0, "ct.rpl": 0, "ct.inv": 0},
    {"ct.new": 0, "ct.est": 1, "ct.rel": 0, "ct.rpl": 1, "ct.inv": 0},
)
"""What conntrack says of the first packet of a connection, and of what answers it."""
_EXPIRED = frozenset({0, 1})
"""What `ip.ttl` is of no packet that few routers have seen."""
_BITS = 32
"""Of a register."""


class _Network(NamedTuple):
    """Addresses of so many bits that have a value under a mask; a single one has a full mask."""

    value: int
    mask: int
    bits: int


_Constant = int | str | _Network
_Conditions = Mapping[str, frozenset[_Constant]]


def tied(flows: Sequence[LogicalFlow], zone: Zone) -> Iterator[tuple[int, int]]:
    """Yield each two flows of a zone's datapath of which either may be taken, by their index."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, flow in enumerate(flows):
        if not flow.stage[:1].isupper():  # rows that actions look up are asked by another key
            groups[flow.stage, flow.priority].append(index)
    for group in groups.values():
        if len({flows[index].actions for index in group}) > 1:
            for first, second in _overlapping(group, flows, zone):
                if flows[first].actions != flows[second].actions:
                    yield first, second


def _overlapping(
    group: Sequence[int], flows: Sequence[LogicalFlow], zone: Zone
) -> Iterator[tuple[int, int]]:
    """Yield each two of a group that may both be true of a packet."""
    conditions = {
        index: required
        for index in group
        if _is_met(required := _conditions(flows[index].match, zone))
    }
    shapes: dict[frozenset[str], list[int]] = defaultdict(list)
    for index in conditions:
        shapes[frozenset(conditions[index])].append(index)
    for (fields, some), (others, more) in itertools.combinations_with_replacement(
        shapes.items(), 2
    ):
        index_of = _index(fields & others, some, more, conditions)
        for first in some:
            for second in index_of(first):
                if (some is not more or first < second) and not _exclude(
                    conditions[first], conditions[second]
                ):
                    yield first, second


def _index(
    common: frozenset[str],
    some: Sequence[int],
    more: Sequence[int],
    conditions: Mapping[int, _Conditions],
) -> Callable[[int], Sequence[int]]:
    """Return what finds those of `more` that may overlap one of `some`.

    By the common field that tells most apart, if there is one whose constants overlap only where
    they are equal.
    """
    best: dict[_Constant, list[int]] = {}
    chosen = ""
    for field in sorted(common):
        if _are_points(itertools.chain(some, more), field, conditions):
            found: dict[_Constant, list[int]] = defaultdict(list)
            for index in more:
                for constant in conditions[index][field]:
                    found[constant].append(index)
            if len(found) > len(best):
                best, chosen = found, field
    if not chosen:
        return lambda _: more

    def those_like(index: int) -> Sequence[int]:
        constants = conditions[index][chosen]
        alike = itertools.chain.from_iterable(best.get(constant, ()) for constant in constants)
        return list(dict.fromkeys(alike))

    return those_like


def _are_points(indices: Iterable[int], field: str, conditions: Mapping[int, _Conditions]) -> bool:
    """Say whether constants of a field overlap only where they are equal: all of one length."""
    masks = {
        constant.mask if isinstance(constant, _Network) else 0
        for index in indices
        for constant in conditions[index][field]
    }
    return len(masks) == 1


def _is_met(conditions: _Conditions) -> bool:
    """Say whether a request or a reply can be as a match requires, by conntrack and by its age."""
    if conditions.get("ip.ttl", frozenset((2,))) <= _EXPIRED:
        return False
    return any(
        all(bit in conditions.get(field, (bit,)) for field, bit in state.items())
        for state in _STATES
    )


def _exclude(first: _Conditions, second: _Conditions) -> bool:
    """Say whether no packet fulfils both."""
    return not _is_met({**first, **second}) or any(
        not _overlap(first[field], second[field]) for field in first.keys() & second.keys()
    )


def _overlap(some: frozenset[_Constant], others: frozenset[_Constant]) -> bool:
    """Say whether a constant of the one is one of the other, or holds one. Both may be large."""
    return not some.isdisjoint(others) or any(
        one.bits == other.bits and not (one.value ^ other.value) & one.mask & other.mask
        for networks, rest in ((_wide(some), others), (_wide(others), some))
        for one in networks
        for other in rest
        if isinstance(other, _Network)
    )


def _wide(constants: Iterable[_Constant]) -> list[_Network]:
    """Return the networks of several addresses."""
    networks = (constant for constant in constants if isinstance(constant, _Network))
    return [network for network in networks if network.mask != (1 << network.bits) - 1]


def _conditions(match: str, zone: Zone) -> _Conditions:
    """Return what a match requires of fields: one of some constants."""
    things = [thing_of(token) for token in THING.finditer(match)]
    conditions: dict[str, frozenset[_Constant]] = {}
    for name, of, constants in _required(THING.sub(_HOLE, match)):
        field = name if of is None else f"{name}({things[of]})"
        texts = [things[each] if isinstance(each, int) else each for each in constants]
        values = [
            _constant(field, part)
            for text in texts
            for part in (contents(text, zone) if text[:1] in ("$", "@") else (text,))
        ]
        known = frozenset(value for value in values if value is not None)
        if known and None not in values:
            for part, words in _parts(field, known):
                conditions[part] = conditions[part] & words if part in conditions else words
    return conditions


class _Required(NamedTuple):
    """A field that must equal one of some constants; of a function, also what it is asked of.

    A number stands for the thing of that number that a match names.
    """

    field: str
    of: int | None
    constants: tuple[int | str, ...]


@functools.lru_cache(maxsize=1 << 14)
def _required(match: str) -> tuple[_Required, ...]:
    """Return what a match requires whose things are left out."""
    if has_alternatives(match):
        return ()
    required: dict[_Required, None] = {}
    holes = 0
    for part in map(_bare, _conjuncts(match)):
        equation, flag = _EQUATION.fullmatch(part), _FLAG.fullmatch(part)
        if equation is not None:
            field, number = equation["field"], holes
            constants: list[int | str] = []
            for constant in equation["constants"].strip("{}").split(","):
                constants.append(number if constant.strip() == _HOLE else constant.strip())
                number += constant.count(_HOLE)
            required[_Required(field, None, tuple(constants))] = None
            required |= dict.fromkeys(_implied(field.partition(".")[0]))
        elif flag is not None:
            of = holes if flag["of"] else None
            required[_Required(flag["name"], of, ("0" if flag["no"] else "1",))] = None
            required |= dict.fromkeys(_implied("" if flag["no"] else flag["name"]))
        holes += part.count(_HOLE)
    return tuple(required)


def _conjuncts(match: str) -> Iterator[str]:
    """Yield what all must hold, outside parentheses."""
    depth, start = 0, 0
    for token in re.finditer(r"[(){}]|&&", match):
        if token[0] in "({":
            depth += 1
        elif token[0] in ")}":
            depth -= 1
        elif not depth:
            yield match[start : token.start()].strip()
            start = token.end()
    yield match[start:].strip()


def _bare(part: str) -> str:
    """Return a condition without parentheses around it."""
    inner = part[1:-1].strip()
    return inner if part[:1] == "(" and not re.search(r"[()]|\|\||&&", inner) else part


def _implied(symbol: str) -> Iterator[_Required]:
    """Yield what a protocol's symbol requires of a packet besides."""
    if symbol in _FAMILIES:
        yield _Required("family", None, (str(_FAMILIES[symbol]),))
    if symbol in _PROTOCOLS:
        yield _Required("protocol", None, (symbol,))


def _constant(field: str, text: str) -> _Constant | None:
    """Return a constant; None for a number with a mask."""
    if re.fullmatch(r"[0-9]+|0x[0-9a-fA-F]+", text):
        return int(text, 0)
    pattern = masked(text)
    if pattern is None:
        return None if "/" in text else text
    if "reg" in field:
        return pattern[0]
    return _Network(*pattern, Family.of(text).bits)


def _parts(
    field: str, constants: frozenset[_Constant]
) -> Iterator[tuple[str, frozenset[_Constant]]]:
    """Yield a field and the registers that it is made of, the first of which has its first bits."""
    yield field, constants
    wide = re.fullmatch(r"(x{1,2})reg([0-9]+)", field)
    numbers = [constant for constant in constants if isinstance(constant, int)]
    if wide is not None and len(numbers) == len(constants):
        count = 2 ** len(wide[1])
        for part in range(count):
            shift = _BITS * (count - 1 - part)
            words = frozenset(number >> shift & ((1 << _BITS) - 1) for number in numbers)
            yield f"reg{int(wide[2]) * count + part}", words
