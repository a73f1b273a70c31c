"""JUnit XML: a test case per expectation, and one per promise that every run makes.

It fails exactly when the command's exit code says findings (1) or incomplete (3): of `audit report`
that of the run, of `audit check` that of the expectations. A case has the same name in every run,
so that a gate can follow it; what is unproven though the run did all it could is skipped.
"""

from collections.abc import Iterator, Sequence

from audit.model.expectations import Checked, Status
from audit.model.findings import FAILING
from audit.model.verdicts import OPERATIONAL
from audit.report import sentences
from audit.report.formats import xml
from audit.report.formats.overview import Overview, folded, violations_text

MOST_LINES = 200
_RUN, _EXPECTATIONS = "audit.run", "audit.expectations"
_NOT_ASKED = "found in the run; `audit check` fails for expectations alone, `audit report` for this"


def junit(overview: Overview) -> str:
    """Return the run as JUnit XML."""
    cases = [*_promises(overview), *_expectations(overview)]
    failures, skipped = (
        sum(f"<{mark} " in case for case in cases) for mark in ("failure", "skipped")
    )
    counts = f'tests="{len(cases)}" failures="{failures}" skipped="{skipped}"'
    properties = "".join(
        f"<property name={xml.attribute(key)} value={xml.attribute(str(value))}/>"
        for key, value in _properties(overview)
    )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<testsuites tests="{len(cases)}" failures="{failures}">',
            f'<testsuite name="audit" {counts} errors="0">',
            f"<properties>{properties}</properties>",
            *cases,
            f"<system-out>{xml.line(f'audit {overview.run_id}')}</system-out>",
            "</testsuite>",
            "</testsuites>",
            "",
        ]
    )


def _properties(overview: Overview) -> Iterator[tuple[str, object]]:
    yield "cells", overview.cells
    for verdict, count in overview.counts.items():
        yield str(verdict), count
    yield "proven", overview.proven_cells
    yield "drifting", overview.drifting


def _promises(overview: Overview) -> Iterator[str]:
    """Yield a case for each promise: all was traced, all is proven, and nothing disagrees."""
    lost, left = _unproven(overview)
    short = "the run did not do all it set out to do"
    if overview.manifest.get("incomplete"):
        yield _promise(overview, "everything was traced", short, lost or [short])
    else:
        yield _promise(overview, "everything was traced", short, [])
        left += lost
    short = f"{overview.cells - overview.proven_cells} of {overview.cells} cells are unproven"
    yield _case(_RUN, "every cell is proven", short, left, skipped=True)
    errors = [result for result in overview.results if result.level == "error"]
    for kind in sorted(FAILING):
        texts = [result.text for result in errors if result.rule == kind]
        yield _promise(overview, str(kind), f"{len(texts)} findings", texts)


def _unproven(overview: Overview) -> tuple[list[str], list[str]]:
    """Return lines on why cells are unproven: those that no trace ran for, and the others."""
    lost, left = list[str](), list[str]()
    for reason, text, count in overview.unproven:
        lines = lost if reason in OPERATIONAL else left
        lines.append(f"{sentences.cells(count)}: {text} ({reason})")
    return lost, left


def _promise(overview: Overview, name: str, short: str, lines: list[str]) -> str:
    """Return a case that fails for a run; beside expectations it is skipped, with its lines."""
    if overview.checks:
        return _case(_RUN, name, f"{short}: {_NOT_ASKED}", lines, skipped=True)
    return _case(_RUN, name, short, lines)


def _expectations(overview: Overview) -> Iterator[str]:
    for check in overview.checks:
        lines = [] if check.status is Status.SATISFIED else [check.sentence, *_lines(check)]
        short = f"{check.status}: {check.sentence}"
        yield _case(_EXPECTATIONS, check.name, short, lines, skipped=check.status.passes)


def _lines(check: Checked) -> Iterator[str]:
    yield from map(violations_text, folded(check))
    yield from (f"evidence for {control}" for control in check.controls)
    yield from check.notes


def _case(suite: str, name: str, short: str, lines: Sequence[str], *, skipped: bool = False) -> str:
    """Return a test case, which fails or is `skipped` where there are lines to show."""
    opening = f"<testcase classname={xml.attribute(suite)} name={xml.attribute(name)}"
    if not lines:
        return f"{opening}/>"
    left = len(lines) - MOST_LINES
    command = "audit check" if suite == _EXPECTATIONS else "audit report"
    more = [f"and {left:,} more: `{command} … -o json` has all"] if left > 0 else []
    body = "\n".join(xml.line(line) for line in [*lines[:MOST_LINES], *more])
    mark = "skipped" if skipped else "failure"
    return f"{opening}><{mark} message={xml.attribute(short)}>{body}</{mark}></testcase>"
