"""JUnit XML: a test case per expectation, and one per promise that every run makes.

It fails exactly when the command's exit code says findings (1) or incomplete (3): of `audit report`
that of the run, of `audit check` that of the expectations. A case has the same name in every run,
so that a gate can follow it; what is unproven though the run did all it could is skipped.
"""

from collections.abc import Iterator, Sequence

from audit.model.expectations import Checked, Status
from audit.model.findings import FAILING
from audit.model.verdicts import OPERATIONAL
from audit.report.formats import xml
from audit.report.formats.told import Told

MOST_LINES = 200
_RUN, _EXPECTATIONS = "audit.run", "audit.expectations"
_NOT_ASKED = "found in the run; `audit check` fails for expectations alone, `audit report` for this"


def junit(told: Told) -> str:
    """Return the run as JUnit XML."""
    cases = [*_own(told), *_expectations(told)]
    failures, skipped = (
        sum(f"<{mark} " in case for case in cases) for mark in ("failure", "skipped")
    )
    counts = f'tests="{len(cases)}" failures="{failures}" skipped="{skipped}"'
    properties = "".join(
        f"<property name={xml.attribute(key)} value={xml.attribute(str(value))}/>"
        for key, value in _properties(told)
    )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<testsuites tests="{len(cases)}" failures="{failures}">',
            f'<testsuite name="audit" {counts} errors="0">',
            f"<properties>{properties}</properties>",
            *cases,
            f"<system-out>{xml.line(f'audit {told.run_id}')}</system-out>",
            "</testsuite>",
            "</testsuites>",
            "",
        ]
    )


def _properties(told: Told) -> Iterator[tuple[str, object]]:
    yield "cells", told.cells
    for verdict, count in told.counts.items():
        yield str(verdict), count
    yield "proven", told.proven_cells
    yield "drifting", told.drifting


def _own(told: Told) -> Iterator[str]:
    """Yield a case for each promise: all was traced, all is proven, and nothing disagrees."""
    lost = [line for line, traced in _unproven(told) if not traced]
    left = [line for line, traced in _unproven(told) if traced]
    incomplete = bool(told.manifest.get("incomplete"))
    short = "the run did not do all it set out to do"
    yield _promise(told, "everything was traced", short, (lost or [short]) if incomplete else [])
    short = f"{told.cells - told.proven_cells} of {told.cells} cells are unproven"
    unproven = [*left, *(() if incomplete else lost)]
    yield _case(_RUN, "every cell is proven", short, unproven, skipped=True)
    for kind in sorted(FAILING):
        texts = [one.text for one in told.results if (one.rule, one.level) == (kind, "error")]
        yield _promise(told, str(kind), f"{len(texts)} findings", texts)


def _unproven(told: Told) -> Iterator[tuple[str, bool]]:
    """Yield a line per reason why cells are unproven, and whether their traces ran."""
    for reason, text, count in told.unproven:
        yield f"{count} cells: {text} ({reason})", reason not in OPERATIONAL


def _promise(told: Told, name: str, short: str, lines: list[str]) -> str:
    """Return a case that fails for a run, and is only said where expectations are asked about."""
    if told.checks:
        return _case(_RUN, name, f"{short}: {_NOT_ASKED}", lines, skipped=True)
    return _case(_RUN, name, short, lines)


def _expectations(told: Told) -> Iterator[str]:
    for check in told.checks:
        lines = [] if check.status is Status.SATISFIED else [check.sentence, *_lines(check)]
        yield _case(_EXPECTATIONS, check.name, f"{check.status}: {check.sentence}", lines)


def _lines(check: Checked) -> Iterator[str]:
    for one in check.violations:
        by = f" ({one.by})" if one.by else ""
        cells = f"{one.cells} {'cell' if one.cells == 1 else 'cells'}"
        yield f"{one.src} to {one.dst} on {', '.join(one.ports)}: {one.verdict}{by}, {cells}"
    yield from check.notes


def _case(suite: str, name: str, short: str, lines: Sequence[str], *, skipped: bool = False) -> str:
    """Return a test case, which fails or is `skipped` where there are lines to show."""
    opening = f"<testcase classname={xml.attribute(suite)} name={xml.attribute(name)}"
    if not lines:
        return f"{opening}/>"
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    body = "\n".join(xml.line(line) for line in [*lines[:MOST_LINES], *more])
    mark = "skipped" if skipped else "failure"
    return f"{opening}><{mark} message={xml.attribute(short)}>{body}</{mark}></testcase>"
