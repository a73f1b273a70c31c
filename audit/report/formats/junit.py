"""JUnit XML: a test case per expectation, and one per promise that every run makes."""

from collections.abc import Iterator

from audit.model.expectations import Checked, Status
from audit.report.formats import xml
from audit.report.formats.told import Result, Told

MOST_LINES = 200


def junit(told: Told) -> str:
    """Return the run as JUnit XML."""
    cases = [*_own(told), *_expectations(told)]
    failures = sum("<failure" in case for case in cases)
    name = xml.attribute(f"audit {told.run_id}")
    properties = "".join(
        f"<property name={xml.attribute(key)} value={xml.attribute(str(value))}/>"
        for key, value in _properties(told)
    )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<testsuites tests="{len(cases)}" failures="{failures}">',
            f'<testsuite name={name} tests="{len(cases)}" failures="{failures}" errors="0">',
            f"<properties>{properties}</properties>",
            *cases,
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
    """Yield a case for what every run promises: nothing unproven, and nothing disagrees."""
    lines = [f"{count} cells: {text} ({reason})" for reason, text, count in told.unproven]
    short = f"{told.cells - told.proven_cells} of {told.cells} cells are unproven"
    yield _case("audit.run", "every cell is proven", short, lines)
    rules: dict[str, list[Result]] = {}
    for result in told.results:
        if not result.rule.startswith("expectation/") and result.level == "error":
            rules.setdefault(result.rule, []).append(result)
    for rule, results in sorted(rules.items()):
        yield _case("audit.run", rule, f"{len(results)} findings", [r.text for r in results])
    if not rules:
        yield _case("audit.run", "no drift and no disagreement", "", [])


def _expectations(told: Told) -> Iterator[str]:
    for check in told.checks:
        lines = [] if check.status is Status.SATISFIED else [check.sentence, *_lines(check)]
        yield _case("audit.expectations", check.name, f"{check.status}: {check.sentence}", lines)


def _lines(check: Checked) -> Iterator[str]:
    for one in check.violations:
        by = f" ({one.by})" if one.by else ""
        cells = f"{one.cells} {'cell' if one.cells == 1 else 'cells'}"
        yield f"{one.src} to {one.dst} on {', '.join(one.ports)}: {one.verdict}{by}, {cells}"
    yield from check.notes


def _case(suite: str, name: str, short: str, lines: list[str]) -> str:
    """Return a test case, which fails where there are lines to show."""
    opening = f"<testcase classname={xml.attribute(suite)} name={xml.attribute(name)}"
    if not lines:
        return f"{opening}/>"
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    body = xml.text("\n".join([*lines[:MOST_LINES], *more]))
    return f"{opening}><failure message={xml.attribute(short)}>{body}</failure></testcase>"
