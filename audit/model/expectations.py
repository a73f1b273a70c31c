"""Expectations: who should and who should not reach whom, and what a run says of it."""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from audit.model.endpoints import EndpointKind, Port
from audit.model.selectors import EVERYTHING, Selector
from audit.model.verdicts import PolicyRef, Verdict


class Expect(StrEnum):
    """What is expected of every cell an expectation is about."""

    REACHABLE = "reachable"
    BLOCKED = "blocked"
    ANY = "any"
    """Either, so long as it is proven and decided as `by` says."""


class Where(StrEnum):
    """How the namespaces of both ends relate."""

    ANYWHERE = "anywhere"
    ACROSS_NAMESPACES = "across-namespaces"
    WITHIN_NAMESPACE = "within-namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Endpoints: all that is given must hold; empty is everything.

    `names` and `workloads` are `namespace/name`; `addresses` are addresses or networks.
    """

    kinds: tuple[EndpointKind, ...] = ()
    namespaces: tuple[str, ...] = ()
    selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    workloads: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


ALL = Side()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Cells of an expectation that it is not about, until `expires` (that day included)."""

    reason: str
    owner: str = ""
    expires: dt.date | None = None
    src: Side = ALL
    dst: Side = ALL
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Cells that may be otherwise than the expectations called `names` want, until `expires`.

    That day is included. A waiver hides no cell: it marks those that it accepts.
    """

    names: tuple[str, ...]
    reason: str
    owner: str
    expires: dt.date
    src: Side = ALL
    dst: Side = ALL
    ports: tuple[Port, ...] = ()

    def __str__(self) -> str:
        return f"waived by {self.owner} until {self.expires}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One named expectation. No `ports` are all ports. `by` is a policy, or any for `by_policy`."""

    name: str
    expect: Expect
    src: Side = ALL
    dst: Side = ALL
    ports: tuple[Port, ...] = ()
    where: Where = Where.ANYWHERE
    by: PolicyRef | None = None
    by_policy: bool = False
    exemptions: tuple[Exemption, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    controls: tuple[str, ...] = ()
    """What it is evidence for, as `PCI DSS 4.0.1 1.3.1`."""
    description: str = ""
    needs: str = ""
    """What to ask a run for when it has no cell of this."""


class Status(StrEnum):
    """How an expectation fares; only the first two pass."""

    SATISFIED = "satisfied"
    WAIVED = "waived"
    """All that is not as expected is accepted by waivers."""
    EXPIRED = "expired"
    """As the two above, but for a waiver or an exception whose last day is over."""
    VIOLATED = "violated"
    UNPROVEN = "unproven"
    EMPTY = "empty"
    """No cell is about it, which proves nothing."""

    @property
    def passes(self) -> bool:
        """Whether a gate may open."""
        return self in (Status.SATISFIED, Status.WAIVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Cells between two workloads that are not as expected, alike in verdict and decider."""

    src: str
    dst: str
    ports: tuple[str, ...]
    verdict: Verdict
    by: str
    cells: int
    waiver: str = ""
    """Who accepts it until when, and why; empty where nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What became of one expectation: its cells are the four counts together."""

    name: str
    description: str
    status: Status
    sentence: str
    as_expected: int
    violating: int
    unproven: int
    exempt: int
    waived: int
    violations: tuple[Violation, ...]
    notes: tuple[str, ...]
    """Exceptions and waivers that no cell needs, and endpoints of which labels are not known."""
    controls: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    """A sentence for each waiver or exception whose last day is over."""
    waivers: tuple[Waiver, ...] = ()
    """Those that are in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What became of expectations on a day: waivers end with one."""

    day: dt.date
    expectations: tuple[Checked, ...]

    @property
    def failing(self) -> int:
        """How many do not pass."""
        return sum(not checked.status.passes for checked in self.expectations)
