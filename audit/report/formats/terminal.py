"""A run's namespaces against each other, small enough for a terminal of 80 columns."""

from collections.abc import Iterator

import numpy as np

from audit.report import printing
from audit.report.formats.overview import Overview
from audit.report.printing import wrap

MOST = 8
"""Namespaces that are shown: those with most cells. The rest are one more, `(others)`."""
_NAME = 22
_WIDTH = 6


def matrix(overview: Overview) -> str:
    """Return who gets through to whom, by namespace: the share of the proven cells.

    `?` marks entries of which something is unproven, `-` those without a proven cell. A namespace
    that is no source has no row, and one that is no destination no column.
    """
    if not overview.cells:
        return ""
    return "".join(f"{line.rstrip()}\n" for line in _lines(overview))


def _lines(overview: Overview) -> Iterator[str]:
    names = [namespace.name for namespace in overview.namespaces]
    tables = [np.array(table) for table in (overview.matrix, overview.proven, overview.pairs)]
    cells = tables[-1]
    counts = (cells.sum(axis=0) + cells.sum(axis=1)).tolist()
    order = sorted(filter(counts.__getitem__, range(len(names))), key=lambda n: (-counts[n], n))
    groups = [[n] for n in sorted(order[:MOST])]
    shown = [printing.line(names[n]) for (n,) in groups]
    if others := order[MOST:]:
        groups.append(others)
        shown.append(f"({len(others)} {'other' if len(others) == 1 else 'others'})")
    sends = [bool(cells[group].any()) for group in groups]
    receives = [bool(cells[:, group].any()) for group in groups]
    columns = [number for number, any_cell in enumerate(receives) if any_cell]
    numbers = "".join(f"{f'[{number + 1}]':>{_WIDTH}}" for number in columns)
    yield f"{'gets through, from / to':<{_NAME + 4}}{numbers}"
    for number, (name, group) in enumerate(zip(shown, groups, strict=True)):
        if sends[number]:
            sums = [
                [int(table[np.ix_(group, groups[to])].sum()) for table in tables] for to in columns
            ]
            entries = "".join(f"{_entry(*counts):>{_WIDTH}}" for counts in sums)
            yield f"{f'[{number + 1}]':<4}{_cut(name):<{_NAME}}{entries}"
    named = [f"[{number + 1}] {_cut(shown[number])}" for number in columns if not sends[number]]
    if named:
        yield from wrap(f"to  {', '.join(named)}", hang=4)


def _entry(passing: int, proven: int, cells: int) -> str:
    """Return a share: 0 only for nothing of what is proven, 100 only for all of it."""
    if not cells:
        return ""
    unproven = "?" if proven < cells else ""
    if not proven:
        return f"-{unproven}"
    share = min(max(round(100 * passing / proven), int(passing > 0)), 100 - int(passing < proven))
    return f"{share}%{unproven}"


def _cut(name: str) -> str:
    return name if len(name) < _NAME else f"{name[: _NAME - 2]}…"
