"""What the page lists below the map: findings by kind, and what changed, each with its view."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from audit.model.changes import ChangedCells, ChangedPaths
from audit.model.expectations import Checked, Checks, Status, Violation
from audit.model.findings import FindingKind, Severity
from audit.report import changes
from audit.report.formats.overview import folded
from audit.report.links import Links
from audit.report.messages import Message
from audit.report.sentences import Gathered, listed, port_names

LISTED = 6
DRIFTING = frozenset(
    {
        FindingKind.DRIFT,
        FindingKind.NOT_ENFORCED,
        FindingKind.DATAPATH_DRIFT,
        FindingKind.PROBE_DRIFT,
    }
)
"""Kinds of findings whose cells the map's filter `drift` chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a finding is about, and its view; the link is empty where the map does not have it."""

    text: str
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A finding, or a note about the facts: what kind, in a sentence, about what."""

    kind: str
    severity: str
    text: str
    subjects: tuple[Subject, ...]
    more: int
    link: str = ""
    count: int = 1
    """How many it stands for: those that are alike are counted and not written out."""

    @property
    def failing(self) -> bool:
        """Whether it ends a run with exit code 1."""
        return self.severity == Severity.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """The findings of one kind."""

    kind: str
    severity: str
    rows: tuple[FindingRow, ...]

    @property
    def failing(self) -> bool:
        """Whether it ends a run with exit code 1."""
        return self.severity == Severity.ERROR

    @property
    def count(self) -> int:
        """How many findings there are, those not written out too."""
        return sum(row.count for row in self.rows)


def groups(entries: Iterable[Message], links: Links) -> tuple[FindingGroup, ...]:
    """Return messages by kind: in the order in which they come, which is by severity."""
    kinds: dict[tuple[str, str], list[FindingRow]] = {}
    for message in entries:
        kinds.setdefault((message.severity, message.kind), []).append(_row(message, links))
    return tuple(
        FindingGroup(kind=kind, severity=severity, rows=tuple(rows))
        for (severity, kind), rows in kinds.items()
    )


def _row(message: Message, links: Links) -> FindingRow:
    sends = "for egress" in message.text
    subjects = tuple(
        Subject(text=text, link=links.subject(text, sends=sends))
        for text in message.subjects[:LISTED]
    )
    return FindingRow(
        kind=message.kind,
        severity=message.severity,
        text=message.text,
        subjects=subjects,
        more=max(0, len(message.subjects) - LISTED),
        link=links.cells("drift", message.subjects) if message.kind in DRIFTING else "",
        count=1 + message.alike,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """Cells that changed alike: who to whom, on which ports, from what to what, and why."""

    src: str
    dst: str
    ports: str
    before: str
    after: str
    because: str
    cells: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTable:
    """One way of changing: its title, the map's filter for it, and its rows, most cells first.

    Of what is in no cell there is no filter, and no row has a link.
    """

    title: str
    only: str
    cells: int
    """How many cells, or combinations of what is no cell."""
    rows: tuple[ChangeRow, ...]
    more: int
    """Rows that are left out."""


MOST_CHANGES = 60
"""Rows that the page lists of each way of changing; `audit diff` has all."""


def change_tables(changed: ChangedCells, links: Links) -> tuple[ChangeTable, ...]:
    """Return what opened, what closed, whose reply changed, and the rest; empty ones not."""
    outside = ", outside, by the policies alone"
    return (*_tables(changed.paths, links), *_tables(changed.outside, links, where=outside))


def _tables(paths: ChangedPaths, links: Links, where: str = "") -> Iterator[ChangeTable]:
    ways = (
        ("Opened", "opened", paths.opened),
        ("Closed", "closed", paths.closed),
        ("Replies changed", "changed", paths.replies),
        ("Otherwise changed", "changed", paths.otherwise),
    )
    for title, only, of_way in ways:
        if not of_way:
            continue
        rows = changes.folded(of_way)
        yield ChangeTable(
            title=f"{title}{where}",
            only="" if where else only,
            cells=sum(path.cells for path in of_way),
            rows=tuple(_change(row, "" if where else only, links) for row in rows[:MOST_CHANGES]),
            more=max(0, len(rows) - MOST_CHANGES),
        )


def _change(row: changes.Row, only: str, links: Links) -> ChangeRow:
    before, after = changes.states(row.path)
    return ChangeRow(
        src=listed(row.srcs),
        dst=row.receivers,
        ports=_few(row.path.ports),
        before=before,
        after=after,
        because="; ".join(row.path.because) or row.path.why,
        cells=row.cells,
        link=links.between(only, row.srcs, row.dsts) if only else "",
    )


MOST_VIOLATIONS = 60
"""Rows that the page lists of each expectation; `audit check -o json` has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """A control, what the expectations that are evidence for it come to, and which these are."""

    control: str
    result: str
    """`passes`, `passes with waivers`, `fails`, or `unproven`."""
    expectations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationRow:
    """Cells that are not as expected: who to whom, how, and who accepts it."""

    src: str
    dst: str
    ports: str
    verdict: str
    by: str
    waiver: str
    cells: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationRow:
    """An expectation, what became of it, and each waiver in force with its owner and last day."""

    name: str
    description: str
    status: str
    passes: bool
    sentence: str
    controls: str
    notes: tuple[str, ...]
    waivers: tuple[tuple[str, str, str], ...]
    """Owner, last day and reason."""
    violations: tuple[ViolationRow, ...]
    more: int
    """Rows that are left out."""


def controls(checks: Checks) -> tuple[ControlRow, ...]:
    """Return each control that an expectation names."""
    named: dict[str, list[Checked]] = {}
    for checked in checks.expectations:
        for control in checked.controls:
            named.setdefault(control, []).append(checked)
    return tuple(
        ControlRow(
            control=control,
            result=_result({checked.status for checked in evidence}),
            expectations=tuple(checked.name for checked in evidence),
        )
        for control, evidence in sorted(named.items())
    )


def _result(statuses: Collection[Status]) -> str:
    """Say what statuses come to: one fails all, and one that proves nothing leaves it open."""
    if not {Status.VIOLATED, Status.EXPIRED}.isdisjoint(statuses):
        return "fails"
    if not all(status.passes for status in statuses):
        return "unproven"
    return "passes with waivers" if Status.WAIVED in statuses else "passes"


def expectation_rows(checks: Checks, links: Links) -> tuple[ExpectationRow, ...]:
    """Return what became of each expectation: those that fail first."""
    ordered = sorted(checks.expectations, key=lambda checked: checked.status.passes)
    together = ((checked, folded(checked)) for checked in ordered)
    return tuple(
        ExpectationRow(
            name=checked.name,
            description=checked.description,
            status=str(checked.status),
            passes=checked.status.passes,
            sentence=checked.sentence,
            controls=", ".join(checked.controls),
            notes=(*checked.expired, *checked.notes),
            waivers=tuple((w.owner, str(w.expires), w.reason) for w in checked.waivers),
            violations=tuple(_violation(row, links) for row in rows[:MOST_VIOLATIONS]),
            more=max(0, len(rows) - MOST_VIOLATIONS),
        )
        for checked, rows in together
    )


def _violation(row: Gathered[Violation], links: Links) -> ViolationRow:
    violation = row.path
    return ViolationRow(
        src=listed(row.srcs),
        dst=row.receivers,
        ports=_few(violation.ports),
        verdict=str(violation.verdict),
        by=violation.by,
        waiver=violation.waiver,
        cells=row.cells,
        link=links.between(str(violation.verdict), row.srcs, row.dsts),
    )


def _few(ports: Sequence[str]) -> str:
    names = port_names(ports)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
