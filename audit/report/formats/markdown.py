"""Markdown that fits a comment on a pull request, whatever the cluster."""

from collections.abc import Iterator, Sequence

from audit.model.expectations import Status
from audit.report import printing
from audit.report.formats.told import OUTSIDE, Namespace, Told
from audit.report.tally import NO_SHARE, percent

MOST_ROWS = 20
MOST_TEXT = 300
_MARKS = {
    Status.SATISFIED: "✅",
    Status.VIOLATED: "❌",
    Status.UNPROVEN: "❔",
    Status.EMPTY: "❔",
}


def markdown(told: Told) -> str:
    """Return the run as Markdown."""
    return "\n".join(_lines(told)).rstrip() + "\n"


def _lines(told: Told) -> Iterator[str]:
    unproven = told.cells - told.proven_cells
    yield f"### Connectivity audit {escaped(told.run_id)}"
    yield ""
    yield f"{told.proven_cells:,} of {told.cells:,} cells proven, {unproven:,} unproven."
    yield ""
    yield from _table(
        ("verdict", "cells", "of the proven"),
        [
            (str(verdict), f"{count:,}", _share(told, str(verdict), count))
            for verdict, count in told.counts.items()
        ],
    )
    if told.checks:
        yield from _section("Expectations")
        checked = [
            (f"{_MARKS[c.status]} {c.status}", escaped(c.name), escaped(c.sentence))
            for c in sorted(told.checks, key=lambda c: (c.status is Status.SATISFIED, c.name))
        ]
        yield from _table(("", "expectation", ""), checked)
    if told.results:
        yield from _section("Findings")
        yield from _list([f"{r.level}: {r.text}" for r in told.results])
    if told.notes:
        yield from _section("About the facts")
        yield from _list([f"{r.level}: {r.text}" for r in told.notes])
    if told.unproven:
        yield from _section("Unproven")
        yield from _list([f"{n:,} cells: {text} ({why})" for why, text, n in told.unproven])
    if told.blockers:
        yield from _section("What blocks")
        blockers = [(escaped(name), f"{count:,}") for name, count in told.blockers]
        yield from _table(("policy", "cells"), blockers)
    asked = [one for one in told.namespaces if one.exposed[1] and one.name != OUTSIDE]
    if asked:
        yield from _section("Most exposed namespaces")
        yield from _table(_EXPOSED, [_exposed(one) for one in sorted(asked, key=_openness)])


_EXPOSED = ("namespace", "of the cells from elsewhere", "get through")


def _openness(one: Namespace) -> tuple[float, int, str]:
    """Return what the page sorts by too: those first of which most gets through."""
    passes, proven = one.exposed
    return -passes / proven, -passes, one.name


def _exposed(one: Namespace) -> tuple[str, str, str]:
    passes, proven = one.exposed
    return escaped(one.name), f"{passes:,} of {proven:,}", f"{percent(passes, proven)} %"


def _share(told: Told, verdict: str, count: int) -> str:
    if verdict in ("inconclusive", "untraced"):
        return ""
    share = percent(count, told.proven_cells)
    return share if share == NO_SHARE else f"{share} %"


def _section(title: str) -> Iterator[str]:
    yield from (f"#### {title}", "")


def _list(texts: Sequence[str]) -> Iterator[str]:
    yield from (f"- {escaped(text)}" for text in texts[:MOST_ROWS])
    if len(texts) > MOST_ROWS:
        yield f"- … and {len(texts) - MOST_ROWS:,} more"
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        yield from ("", f"… and {len(rows) - MOST_ROWS:,} more.")
    yield ""


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell of a table too, and of bounded length."""
    kept = text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"
    shown = printing.line(kept)
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in shown)


_SPECIAL = frozenset("\\`*_[]<>|#~!{}&@$:")
"""Also what makes a mention, an image, a link, an emoji or a formula of a text on GitHub."""
