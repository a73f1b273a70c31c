"""What became of expectations, for a terminal."""

from collections.abc import Iterator, Sequence

from audit.model.expectations import Checked, Status, Violation
from audit.report import printing
from audit.report.explain import wrap
from audit.report.sentences import gathered, listed

MOST_SHOWN = 20


def plain(checks: Sequence[Checked]) -> str:
    """Return a paragraph per expectation, those that fail first."""
    ranked = sorted(checks, key=lambda check: (check.status.passes, check.name))
    lines = [line for check in ranked for line in _lines(check)]
    good = sum(check.status is Status.SATISFIED for check in checks)
    waived = sum(check.status is Status.WAIVED for check in checks)
    besides = f", {waived} waived" if waived else ""
    lines.append(f"{good} of {len(checks)} expectations are satisfied{besides}")
    return printing.lines(lines)


def _lines(check: Checked) -> Iterator[str]:
    yield from wrap(f"{check.status:<10}{check.name}: {check.sentence}", hang=10)
    if check.controls:
        yield from wrap(f"evidence for {'; '.join(check.controls)}", indent=10, hang=12)
    rows = gathered(check.violations, lambda v: (v.verdict, v.by, v.waiver, v.ports))
    rows.sort(key=lambda row: (-_cells(row[2]), row[:2]))
    for sources, destinations, violations in rows[:MOST_SHOWN]:
        violation, cells = violations[0], _cells(violations)
        by = f" ({violation.by})" if violation.by else ""
        count = f"{cells:,} {'cell' if cells == 1 else 'cells'}"
        ends = f"{listed(sources)} to {listed(destinations)} on {', '.join(violation.ports)}"
        waived = f"; {violation.waiver}" if violation.waiver else ""
        yield from wrap(f"{ends}: {violation.verdict}{by}, {count}{waived}", indent=10, hang=12)
    if len(rows) > MOST_SHOWN:
        yield f"{'':10}… and {len(rows) - MOST_SHOWN:,} more; -o json has them all"
    for note in check.notes:
        yield from wrap(f"note: {note}", indent=10, hang=12)


def _cells(violations: Sequence[Violation]) -> int:
    return sum(violation.cells for violation in violations)
