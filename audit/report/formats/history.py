"""A list of runs, for a terminal: what each says, and how it moved since the one before."""

from collections.abc import Iterator, Sequence

from audit.model.history import Kept
from audit.report.explain import printable

_COLUMNS = (
    ("reachable", ("reachable", "exits")),
    ("blocked", ("blocked", "unroutable")),
    ("unproven", ("inconclusive", "untraced")),
    ("drifting", ("drifting",)),
    ("findings", ("findings",)),
)


def history(runs: Sequence[Kept]) -> str:
    """Return a line per run; in brackets what is more or less than in the last of its scope."""
    rows = [("run", *(title for title, _ in _COLUMNS)), *_rows(runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _rows(runs: Sequence[Kept]) -> Iterator[tuple[str, ...]]:
    last: dict[str, Kept] = {}
    for run in runs:
        before = last.get(run.scope)
        yield (
            printable(run.run).replace("\n", "�"),
            *(_entry(run, before, names) for _, names in _COLUMNS),
        )
        last[run.scope] = run


def _entry(run: Kept, before: Kept | None, names: Sequence[str]) -> str:
    count = sum(run.numbers.get(name, 0) for name in names)
    if before is None:
        return f"{count:,}"
    moved = count - sum(before.numbers.get(name, 0) for name in names)
    return f"{count:,} ({moved:+,})" if moved else f"{count:,} (=)"
