"""OVSDB rows as Python values."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

PREFIX = 8
"""A trace prints the first eight hexadecimal digits of a uuid."""

_T = TypeVar("_T")


def as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return an OVSDB set of strings; one with a single member is written as the member."""
    return (value,) if isinstance(value, str) else tuple(value)


def by_prefix(rows: Iterable[tuple[str, _T]]) -> dict[str, tuple[_T, ...]]:
    """Group values by the first eight digits of their uuid: 32 bits, so one to many."""
    grouped: dict[str, list[_T]] = defaultdict(list)
    for uuid, value in rows:
        grouped[uuid[:PREFIX]].append(value)
    return {prefix: tuple(values) for prefix, values in grouped.items()}
