"""From what a user types to cells of a run. Pure."""

import numpy as np
from numpy.typing import NDArray

from audit.errors import UsageError
from audit.model.matrix import FAMILIES
from audit.model.packets import Family
from audit.model.run import Run
from audit.model.verdicts import VERDICTS
from audit.scope import ports as porting

_MOST_NAMED = 6
"""Pairs that a refusal lists; it counts the rest."""


def find_cells(
    run: Run,
    sources: NDArray[np.int64],
    destinations: NDArray[np.int64],
    words: tuple[str, str],
    *,
    port: str = "",
    family: str | None = None,
) -> NDArray[np.int64]:
    """Return the cells between endpoints, all of which come to the same; without `port` on any.

    `words` are what the user called the two ends. UsageError when there is no such cell, with what
    there is instead, or when they do not come to the same.
    """
    matrix, ends = run.matrix, "from {} to {}".format(*words)
    here = np.isin(matrix.src, sources) & np.isin(matrix.dst, destinations)
    if not here.any():
        at = np.isin(matrix.dst, destinations).any()
        raise UsageError(
            f"the run has no cell {ends}; {no_cell(words[1], is_destination=bool(at))}"
        )
    if port:
        spec = porting.parse(port)
        meant = here & np.array(
            [
                porting.means(spec, matrix.endpoints[dst], matrix.ports[number])
                for dst, number in zip(matrix.dst.tolist(), matrix.port.tolist(), strict=True)
            ],
            dtype=np.bool_,
        )
        if not meant.any():
            there = ", ".join(str(matrix.ports[p]) for p in np.unique(matrix.port[here]).tolist())
            raise UsageError(f"the run has no cell {ends} on {spec}; it has {there}")
        here = meant
    if family is not None:
        here &= matrix.family == FAMILIES.index(Family(family))
    cells = np.flatnonzero(here)
    if not cells.size:
        raise UsageError(f"the run has no cell {ends} on {port or 'any port'} in {family}")
    _require_alike(run, cells, words)
    return cells


def no_cell(destination: str, *, is_destination: bool) -> str:
    """Return why a run has no cell between two ends, and what to do where that may be the ports."""
    if is_destination:
        return "it was not in its scope"
    return (
        f"it was not asked what reaches {destination}: that was out of its scope, or declares no "
        "port; `audit run --port tcp/80` asks about ports that nothing declares too"
    )


def _require_alike(run: Run, cells: NDArray[np.int64], words: tuple[str, str]) -> None:
    """Raise UsageError when cells do not come to the same, with how to choose among them."""
    matrix, verdicts = run.matrix, run.verdicts
    blames = [*map(str, verdicts.blames), ""]  # the last of which is that of nobody
    codes = (verdicts.verdict, verdicts.reason, verdicts.reply)
    states = {
        (*(int(code[cell]) for code in codes), blames[verdicts.blame[cell]])
        for cell in cells.tolist()
    }
    if len(states) == 1:
        return
    src, dst = words
    pairs = {(int(matrix.src[c]), int(matrix.dst[c])) for c in cells.tolist()}
    ports = {int(matrix.port[c]) for c in cells.tolist()}
    if len(pairs) == len(ports) == 1:
        raise UsageError(f"{src} to {dst} has a cell per address family; add --family")
    described = [_described(run, cell, pair=len(pairs) > 1) for cell in cells.tolist()]
    shown = "; ".join(described[:_MOST_NAMED])
    more = f" and {len(described) - _MOST_NAMED:,} more" if len(described) > _MOST_NAMED else ""
    add = "name one pair" if len(pairs) > 1 else "add the port"
    raise UsageError(f"{src} to {dst} means several cells, which differ: {shown}{more}; {add}")


def _described(run: Run, cell: int, *, pair: bool) -> str:
    """Return a cell and what it comes to: `'pod a/b' to 'pod a/c' on tcp/80: blocked`."""
    matrix, verdicts = run.matrix, run.verdicts
    on = str(matrix.ports[matrix.port[cell]])
    if pair:
        src, dst = (matrix.endpoints[end[cell]].key for end in (matrix.src, matrix.dst))
        on = f"{src!r} to {dst!r} on {on}"
    return f"{on}: {VERDICTS[verdicts.verdict[cell]]}"
