"""OVSDB rows as Python values."""

from collections.abc import Sequence


def as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return an OVSDB set of strings; one with a single member is written as the member."""
    return (value,) if isinstance(value, str) else tuple(value)
