"""A list of runs, for a terminal: what each says, and how it moved since the one before."""

import json
from collections.abc import Iterator, Sequence

from audit.model.history import Exposed, Kept, Moved
from audit.model.tally import percent
from audit.report import printing

_COLUMNS = (
    ("passing pairs", ("passing",)),
    ("gets through", ("reachable", "exits")),
    ("stopped", ("blocked", "unroutable")),
    ("unproven", ("inconclusive", "untraced")),
    ("drifting", ("drifting",)),
    ("findings", ("findings",)),
)
MOST_NAMESPACES = 20
"""Namespaces that are shown; the JSON has all."""
_NOTHING = Exposed(passes=0, proven=0, cells=0)


def moves(runs: Sequence[Kept]) -> tuple[Moved | None, ...]:
    """Return what moved since the last run of the same scope, for each; None for a first."""
    last: dict[str, Kept] = {}
    since_last: list[Moved | None] = []
    for run in runs:
        before = last.get(run.scope)
        since_last.append(None if before is None else _moved(before, run))
        last[run.scope] = run
    return tuple(since_last)


def _moved(before: Kept, run: Kept) -> Moved:
    common = before.numbers.keys() & run.numbers.keys()
    names = before.exposure.keys() | run.exposure.keys() if common >= {"pairs"} else ()
    return Moved(
        since=before.run,
        numbers={n: run.numbers[n] - before.numbers[n] for n in run.numbers if n in common},
        exposure={
            name: run.exposure.get(name, _NOTHING).passes
            - before.exposure.get(name, _NOTHING).passes
            for name in sorted(names)
        },
    )


def history(runs: Sequence[Kept]) -> str:
    """Return a line per run; in brackets what is more or less than in the last of its scope.

    Below it what each scope is, and how exposed the namespaces were in the last run.
    """
    moved = moves(runs)
    scopes = {scope: number for number, scope in enumerate(dict.fromkeys(r.scope for r in runs), 1)}
    rows = [("run", "began", "scope", *(title for title, _ in _COLUMNS))]
    rows += [
        (
            _one_line(run.run),
            _one_line(run.started[: len("2026-11-23T04:34")].replace("T", " ")),
            f"[{scopes[run.scope]}]",
            *(_entry(run, since, names) for _, names in _COLUMNS),
        )
        for run, since in zip(runs, moved, strict=True)
    ]
    text = _table(rows) + "".join(
        f"[{number}] {_one_line(_scope(scope))}\n" for scope, number in scopes.items()
    )
    if runs and runs[-1].exposure:
        text += "\n" + "".join(_exposure(runs[-1], moved[-1]))
    return text


def _scope(text: str) -> str:
    """Return what was asked, and of which cluster: the scope as a scope file has it."""
    scope, planes, cluster = json.loads(text)
    asked = json.dumps(scope or {}, ensure_ascii=False).replace('"', "")
    return f"{asked}, planes {' '.join(planes or ['logical'])}, cluster {cluster or 'unnamed'}"


def _entry(run: Kept, since: Moved | None, names: Sequence[str]) -> str:
    if not all(name in run.numbers for name in names):
        return "?"
    count = sum(run.numbers[name] for name in names)
    if since is None or not all(name in since.numbers for name in names):
        return f"{count:,}"
    return f"{count:,} {_change(sum(since.numbers[name] for name in names))}"


def _exposure(run: Kept, since: Moved | None) -> Iterator[str]:
    """Yield the namespaces that moved most, then the most exposed ones."""
    moved = {} if since is None else since.exposure
    names = sorted(
        run.exposure.keys() | {name for name, change in moved.items() if change},
        key=lambda n: (-abs(moved.get(n, 0)), -run.exposure.get(n, _NOTHING).passes, n),
    )
    yield f"from elsewhere into each namespace, in {_one_line(run.run)}"
    yield f" (and since {_one_line(since.since)}):\n" if moved and since else ":\n"
    rows = [("namespace", "gets through", "of the proven", "unproven")]
    for name in names[:MOST_NAMESPACES]:
        exposed = run.exposure.get(name, _NOTHING)
        rows.append(
            (
                _one_line(name),
                f"{exposed.passes:,}" + (f" {_change(moved.get(name, 0))}" if moved else ""),
                f"{percent(exposed.passes, exposed.proven)}%" if exposed.proven else percent(0, 0),
                f"{exposed.cells - exposed.proven:,}",
            )
        )
    yield _table(rows)
    if len(names) > MOST_NAMESPACES:
        yield f"and {len(names) - MOST_NAMESPACES:,} more (-o json)\n"


def _change(moved: int) -> str:
    return f"({moved:+,})" if moved else "(=)"


def _one_line(name: str) -> str:
    return printing.line(name)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)
