"""What became of expectations, for a terminal."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from audit.model.expectations import Checked, Status
from audit.report import printing
from audit.report.formats.overview import folded, violations_text
from audit.report.printing import wrap

MOST_SHOWN = 20


def plain(checks: Sequence[Checked]) -> str:
    """Return a paragraph per expectation, those that fail first."""
    lines = [line for check in _ranked(checks) for line in _lines(check)]
    lines += wrap(_one_run(checks))
    return printing.lines([*lines, _counted(checks)])


def summary(checks: Sequence[Checked]) -> str:
    """Return a sentence per expectation, those that fail first, and nothing of their cells."""
    lines = [line for check in _ranked(checks) for line in _sentence(check)]
    return printing.lines([*lines, _counted(checks)])


def _ranked(checks: Sequence[Checked]) -> list[Checked]:
    return sorted(checks, key=lambda check: (check.status.passes, check.name))


def _counted(checks: Sequence[Checked]) -> str:
    """Return how many there are of each status."""
    counts = Counter(check.status for check in checks)
    besides = "".join(f", {counts[status]} {status}" for status in _OTHERS if counts[status])
    good = counts[Status.SATISFIED]
    return f"{good} of {len(checks)} expectations are satisfied{besides}"


_OTHERS = (Status.VIOLATED, Status.EXPIRED, Status.UNPROVEN, Status.EMPTY, Status.WAIVED)
_FLAG = re.compile(r"--(?:from-namespace|to-namespace|from-ip|to-ip|to-node|port) [^\s,;]+")
"""How an expectation's `needs` asks for more cells."""


def _one_run(checks: Sequence[Checked]) -> str:
    """Return one run that asks about all that the empty expectations need, if several say it."""
    empty = [check.sentence for check in checks if check.status is Status.EMPTY]
    needed = [flags for text in empty if (flags := _FLAG.findall(text))]
    if len(needed) < 2:  # noqa: PLR2004 - the sentence of one says it already
        return ""
    flags = sorted({flag for flags in needed for flag in flags})
    return (
        f"What {len(needed)} of the empty ones ask for, in one run: audit run … {' '.join(flags)}"
    )


def _sentence(check: Checked) -> list[str]:
    return wrap(f"{check.status:<10}{check.name}: {check.sentence}", hang=10)


def _lines(check: Checked) -> Iterator[str]:
    yield from _sentence(check)
    if check.controls:
        yield from wrap(f"evidence for {'; '.join(check.controls)}", indent=10, hang=12)
    rows = folded(check)
    for row in rows[:MOST_SHOWN]:
        yield from wrap(violations_text(row), indent=10, hang=12)
    if len(rows) > MOST_SHOWN:
        yield f"{'':10}… and {len(rows) - MOST_SHOWN:,} more; -o json has them all"
    for note in check.notes:
        yield from wrap(f"note: {note}", indent=10, hang=12)
