"""Markdown that fits a comment on a pull request, whatever the cluster."""

import json
import re
from collections.abc import Iterator, Sequence

from audit.model.expectations import Checked, Status
from audit.model.tally import NO_SHARE, Tally, most_open, percent
from audit.report import printing
from audit.report.formats.overview import OUTSIDE, Overview, folded
from audit.report.sentences import listed, ports_text

MOST_ROWS = 20
MOST_OF_MANY = 5
"""Rows of what an expectation found, where several found something."""
MOST_TEXT = 300
ALL = "`audit report … -o json` has all"
ALL_CHECKS = "`audit check … -o json` has all"
_MARKS = {
    Status.SATISFIED: "✅",
    Status.VIOLATED: "❌",
    Status.UNPROVEN: "❔",
    Status.EMPTY: "❔",
    Status.WAIVED: "⚠️",
    Status.EXPIRED: "❌",
}


def markdown(overview: Overview) -> str:
    """Return the run as Markdown."""
    return "\n".join(_lines(overview)).rstrip() + "\n"


def _lines(overview: Overview) -> Iterator[str]:
    unproven = overview.cells - overview.proven_cells
    yield f"### Connectivity audit {escaped(overview.run_id)}"
    yield ""
    yield from _about(overview)
    yield f"{overview.proven_cells:,} of {overview.cells:,} cells proven, {unproven:,} unproven."
    yield ""
    yield from _verdicts(overview)
    yield from _expectations(overview)
    of_run = [r for r in overview.results if not r.rule.startswith("expectation/")]
    yield from _list("Findings", [_marked(r.level, r.sentence) for r in of_run])
    yield from _list("About the facts", [_marked(r.level, r.text) for r in overview.notes])
    yield from _list(
        "Unproven",
        [
            _marked(f"{count:,} {'cell' if count == 1 else 'cells'}", f"{text} ({reason})")
            for reason, text, count in overview.unproven
        ],
    )
    if overview.blockers:
        yield from _section("What blocks")
        blockers = [(escaped(name), f"{count:,}") for name, count in overview.blockers]
        yield from _table(("policy", "cells"), blockers)
    exposed = most_open((n.name, n.exposed) for n in overview.namespaces if n.name != OUTSIDE)
    if exposed:
        yield from _section("Most exposed namespaces")
        yield from _table(_EXPOSED, [_exposed(*entry) for entry in exposed])


def _about(overview: Overview) -> Iterator[str]:
    """Yield what was audited: the cluster, what it was read from, the scope and the planes."""
    manifest = overview.manifest
    scope = json.dumps(manifest.get("scope") or {}, ensure_ascii=False).replace('"', "")
    about = {
        "cluster": escaped(str(manifest.get("cluster") or "")),
        "read from": escaped(str(manifest.get("source") or "")),
        "scope": "`" + printing.line(scope).replace("`", "'") + "`",
        "planes": ", ".join(manifest.get("planes") or ()),
    }
    yield " · ".join(f"{name} {value}" for name, value in about.items() if value)
    yield ""


def _verdicts(overview: Overview) -> Iterator[str]:
    rows = [
        (str(verdict), f"{count:,}", _share(overview, str(verdict), count))
        for verdict, count in overview.counts.items()
    ]
    yield from _table(("verdict", "cells", "of the proven"), rows)


def _expectations(overview: Overview) -> Iterator[str]:
    if overview.checks:
        yield from _section("Expectations")
        checks = sorted(overview.checks, key=lambda c: (c.status.passes, c.name))
        rows = [
            (
                f"{_MARKS[c.status]} {c.status}",
                escaped(c.name),
                escaped("; ".join(c.controls)),
                escaped(c.sentence),
            )
            for c in checks
        ]
        yield from _table(("", "expectation", "evidence for", ""), rows)
        yield from _violations(checks)
        waivers = dict.fromkeys(waiver for check in checks for waiver in check.waivers)
        if waivers:
            yield from _section("Waivers")
            yield from _table(
                ("until", "owner", "for", "reason"),
                [
                    (
                        str(w.expires),
                        escaped(w.owner),
                        escaped(", ".join(w.names)),
                        escaped(w.reason),
                    )
                    for w in sorted(waivers, key=lambda w: (w.expires, w.names))
                ],
            )


def _violations(checks: Sequence[Checked]) -> Iterator[str]:
    """Yield what is not as expected, under its expectation; MOST_ROWS lines in all."""
    violated = [(check, rows) for check in checks if (rows := folded(check))]
    most = max(MOST_OF_MANY, MOST_ROWS // max(len(violated), 1))
    shown = violated[: MOST_ROWS // most]
    for check, rows in shown:
        yield from _section(f"Not as expected: {escaped(check.name)}")
        fields = [
            (
                escaped(listed(row.srcs)),
                escaped(row.receivers),
                escaped(ports_text(row.path.ports)),
                str(row.path.verdict),
                escaped("; ".join(filter(None, (row.path.by, row.path.waiver)))),
                f"{row.cells:,}",
            )
            for row in rows
        ]
        yield from _table(_VIOLATED, fields, most, ALL_CHECKS)
    if left := len(violated) - len(shown):
        expectations = "expectation" if left == 1 else "expectations"
        yield from (f"… and {left:,} more {expectations}: {ALL_CHECKS}.", "")


_VIOLATED = ("from", "to", "ports", "verdict", "by", "cells")
_EXPOSED = ("namespace", "of the cells from elsewhere", "get through")


def _exposed(name: str, to: Tally) -> tuple[str, str, str]:
    share = f"{percent(to.passes, to.proven)} %"
    return escaped(name), f"{to.passes:,} of {to.proven:,}", share


def _share(overview: Overview, verdict: str, count: int) -> str:
    if verdict in ("inconclusive", "untraced"):
        return ""
    share = percent(count, overview.proven_cells)
    return share if share == NO_SHARE else f"{share} %"


def _section(title: str) -> Iterator[str]:
    yield from (f"#### {title}", "")


def _list(title: str, texts: Sequence[str]) -> Iterator[str]:
    if not texts:
        return
    yield from _section(title)
    yield from (f"- {text}" for text in texts[:MOST_ROWS])
    if len(texts) > MOST_ROWS:
        yield f"- … and {len(texts) - MOST_ROWS:,} more: {ALL}"
    yield ""


def _marked(word: str, text: str) -> str:
    """Return a line that begins with a word of ours."""
    return f"{word}: {escaped(text)}"


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], most: int = MOST_ROWS, rest: str = ALL
) -> Iterator[str]:
    """Yield a table of the first rows; `rest` says where all of them are."""
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows[:most])
    if len(rows) > most:
        yield from ("", f"… and {len(rows) - most:,} more: {rest}.")
    yield ""


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell of a table too, and of bounded length.

    What stands between backticks is shown as code, where nothing means anything either.
    """
    kept = text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"
    shown = printing.line(kept)
    if shown.count("`") % 2 or "``" in shown:
        return _SPECIAL.sub(r"\\\g<0>", shown)
    parts = shown.split("`")
    parts[::2] = (_SPECIAL.sub(r"\\\g<0>", part) for part in parts[::2])
    parts[1::2] = (part.replace("|", r"\|") for part in parts[1::2])
    return "`".join(parts)


_SPECIAL = re.compile(r"[\\`*_\[\]<>|#~!{}&@$]|:(?!\s|$)")
"""Also what makes a mention, an image, a link, an emoji or a formula of a text on GitHub."""
