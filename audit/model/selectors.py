"""Label selectors, as values: what Kubernetes objects and `-l` both come to.

A Selector written out with `str` is kubectl's text form. What surprises people is kept: `!=` and
`notin` also match objects that lack the key, and `app=` is the empty value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, assert_never

MAX_NAME = 63
"""Longest label value, and longest key after its prefix (apimachinery, `validation.go`)."""
MAX_PREFIX = 253
MAX_INTEGER = 2**63 - 1
"""`>` and `<` compare as Go's int64."""

UNSAID = "?"
"""Ends a label value of which no more than the beginning is known, `backup-?`. As a key it says
that there may be other labels than those listed. No label of a cluster's has this character."""

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_INTEGER = re.compile(r"[0-9]+")


class Operator(StrEnum):
    """What a requirement asks of a key, spelled as in the text form."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    NOT_EXISTS = "!"
    GREATER = ">"
    LESS = "<"


SETS = frozenset({Operator.IN, Operator.NOT_IN})
ORDERS = frozenset({Operator.GREATER, Operator.LESS})


def key_problem(key: str) -> str:
    """Say why `key` is no label key; empty when it is one."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > MAX_PREFIX or not _SUBDOMAIN.fullmatch(prefix)):
        return (
            f"label key {key!r} has a prefix that is not a DNS name of at most "
            f"{MAX_PREFIX} characters"
        )
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        return (
            f"label key {key!r} is not 1 to {MAX_NAME} letters, digits, '-', '_' or '.' "
            "that begin and end with a letter or digit"
        )
    return ""


def value_problem(value: str) -> str:
    """Say why `value` is no label value; empty when it is one."""
    if value and (len(value) > MAX_NAME or not _NAME.fullmatch(value)):
        return (
            f"label value {value!r} is not at most {MAX_NAME} letters, digits, '-', '_' or '.' "
            "that begin and end with a letter or digit"
        )
    return ""


def integer(text: str) -> int | None:
    """Read `text` as Go's ParseInt would a label value; None when it is no int64."""
    if len(text) > MAX_NAME or not _INTEGER.fullmatch(text):  # longer is no label's value
        return None
    number = int(text)
    return number if number <= MAX_INTEGER else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One condition on one key. `values` is sorted and unique, empty for the existence tests."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [key_problem(self.key), *map(value_problem, self.values)]
        if self.operator in SETS and not self.values:
            problems.append(f"{self.operator} needs at least one value")
        elif self.operator in ORDERS and [integer(v) is None for v in self.values] != [False]:
            problems.append(f"{self.operator} needs one integer")
        elif self.operator not in SETS | ORDERS and self.values:
            problems.append("an existence test has no values")
        if any(problems):
            raise ValueError(next(filter(None, problems)))
        object.__setattr__(self, "values", tuple(sorted(set(self.values))))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with `labels` meets this requirement."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.EXISTS:
                return value is not None
            case Operator.NOT_EXISTS:
                return value is None
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.GREATER | Operator.LESS:
                return self._compares(value)
            case _:
                assert_never(self.operator)

    def judge(self, labels: Mapping[str, str]) -> bool | None:
        """Tell the same where not all of the labels is known (UNSAID); None where that decides."""
        value = labels.get(self.key)
        if value is None and UNSAID in labels:
            return None
        if value is None or not value.endswith(UNSAID):
            return self.matches(labels)
        if self.operator in ORDERS:
            return None
        start = value.removesuffix(UNSAID)
        possible = any(wanted.startswith(start) and wanted != start for wanted in self.values)
        # The value is there and ends otherwise, so it is none that is not even possible.
        return None if possible else self.matches(labels)

    def _compares(self, value: str | None) -> bool:
        held = None if value is None else integer(value)
        if held is None:
            return False
        bound = int(self.values[0])
        return held > bound if self.operator is Operator.GREATER else held < bound

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.NOT_EXISTS:
                return f"!{self.key}"
            case Operator.GREATER | Operator.LESS:
                return f"{self.key}{self.operator}{self.values[0]}"
            case Operator.IN | Operator.NOT_IN if len(self.values) == 1:
                return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{self.values[0]}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case _:
                assert_never(self.operator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Requirements that must all hold; without any, everything matches."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Self:
        """Return what selects these labels, as far as a selector can say them.

        One that no API server takes may be in a snapshot, and in no policy.
        """
        return cls(
            requirements=tuple(
                Requirement(key=key, operator=Operator.IN, values=(value,))
                for key, value in sorted(labels.items())
                if not key_problem(key) and not value_problem(value)
            )
        )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with `labels` is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def judge(self, labels: Mapping[str, str]) -> bool | None:
        """Tell the same where not all of the labels is known (UNSAID); None where that decides."""
        answers = {requirement.judge(labels) for requirement in self.requirements}
        if False in answers:
            return False
        return None if None in answers else True

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
