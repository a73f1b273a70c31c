"""Who can reach what, folded to workloads: cells of a run → one path for each pair of them. Pure.

A path has the ports on which all is the same, whether the packets of all its cells pass, of none,
or of some, and what decides. What is not proven counts on neither side; of a Service of which it is
proven that some endpoints are reached and others are not, that is the answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, Port, stretches
from audit.model.matrix import FAMILIES, Cells
from audit.model.recorded import Recorded
from audit.model.verdicts import PASSES, REASONS, STOPPED, VERDICTS, Reason, Verdict
from audit.report import printing
from audit.report.printing import wrap
from audit.report.sentences import CAUSES, gathered, listed


class Answer(StrEnum):
    """Whether a path's packets pass."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The cells between two workloads on ports on which all is the same.

    `partly` counts cells of Services of which packets reach some endpoints and not others.
    `because` are what stops, or leaves unproven, most cells first.
    """

    src: str
    dst: str
    ports: tuple[str, ...]
    passes: int
    stopped: int
    partly: int
    unproven: int
    because: tuple[str, ...]

    @property
    def answer(self) -> Answer:
        """Whether its packets pass: all, some or none; unproven where none does, and some may."""
        return answer_of([self])

    @property
    def cells(self) -> int:
        """All its cells."""
        return sum(self.counts.values())

    @property
    def counts(self) -> Mapping[str, int]:
        """Its cells by what becomes of them, as programs read it."""
        return {
            "pass": self.passes,
            "stopped": self.stopped,
            "partly": self.partly,
            "unproven": self.unproven,
        }


def answer_of(paths: Iterable[Path]) -> Answer:
    """Return the answer to paths as one; what is unproven keeps it from being yes or no.

    It is partly only where some packets are proven to pass.
    """
    total = Counter[str]()
    for path in paths:
        total.update(path.counts)
    if not total["pass"] and not total["partly"]:
        return Answer.UNPROVEN if total["unproven"] else Answer.NO
    return Answer.YES if total["pass"] == total.total() else Answer.PARTLY


_Key = tuple[int, int, int, int]
"""Numbers of a source's and a destination's names, of a port and of a family."""
_States = Counter[tuple[int, int, int]]
"""Cells by the codes of their verdict, reason and blame."""


def fold(
    run: Recorded,
    sources: NDArray[np.bool_],
    destinations: NDArray[np.bool_],
) -> tuple[Path, ...]:
    """Return the paths between endpoints of a run, by source, destination and port.

    `sources` is by endpoint, `destinations` by endpoint and port: which of them are asked for.
    """
    ends = _ends(run.endpoints, sources), _ends(run.endpoints, np.any(destinations, axis=1))
    names = sorted({*ends[0], *ends[1]})
    number = {name: index for index, name in enumerate(names)}
    numbers = [np.array([number[name] for name in side], np.int64) for side in ends]
    counted: dict[_Key, _States] = defaultdict(Counter)
    for cells in run.cells:
        chosen = cells.take(
            np.flatnonzero(sources[cells.src] & destinations[cells.dst, cells.port])
        )
        for key, state, count in _states(chosen, *numbers):
            counted[key][state] += count
    return tuple(_paths(run, names, counted))


def _ends(endpoints: Sequence[Endpoint], chosen: NDArray[np.bool_]) -> list[str]:
    """Return what each endpoint is called: its workload, unless only some of that is chosen."""
    partly = {e.belongs_to for e, picked in zip(endpoints, chosen, strict=True) if not picked}
    return [e.key if e.belongs_to in partly else e.belongs_to for e in endpoints]


def _states(
    cells: Cells, sources: NDArray[np.int64], destinations: NDArray[np.int64]
) -> Iterator[tuple[_Key, tuple[int, int, int], int]]:
    """Yield each pair of ends, port and family, the state of some of their cells, and how many."""
    ends = (sources[cells.src], destinations[cells.dst], cells.port, cells.family)
    rows = np.stack([*ends, cells.verdict, cells.reason, cells.blame], axis=1, dtype=np.int64)
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    for row, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        source, destination, port, family, *state = row
        yield (source, destination, port, family), tuple(state), count


def _paths(run: Recorded, names: Sequence[str], counted: dict[_Key, _States]) -> Iterator[Path]:
    """Yield paths: ports of a pair with the same counts and causes are one."""
    alike: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for (source, destination, port, family), states in sorted(counted.items()):
        alike[source, destination, *_summed(run, states)].append((port, family))
    both = len({family for *_, family in counted}) > 1
    for (source, destination, *counts, because), on in alike.items():
        passes, stopped, partly, unproven = counts
        yield Path(
            src=names[source],
            dst=names[destination],
            ports=tuple(_ports(run, on, both=both)),
            passes=passes,
            stopped=stopped,
            partly=partly,
            unproven=unproven,
            because=because,
        )


def _summed(run: Recorded, states: _States) -> tuple[int, int, int, int, tuple[str, ...]]:
    """Return how many cells pass, are stopped, pass in part and are unproven, and why.

    Causes are in the order of their cells, most first.
    """
    passes = stopped = partly = unproven = 0
    causes: Counter[str] = Counter()
    for (code, reason, blame), count in states.items():
        verdict = VERDICTS[code]
        if verdict in PASSES:
            passes += count
            continue
        if verdict in STOPPED:
            stopped += count
        elif REASONS[reason] is Reason.BACKENDS_DIFFER:
            partly += count
        else:
            unproven += count
        blocked = verdict is Verdict.BLOCKED and blame >= 0
        causes[str(run.cells.blames[blame]) if blocked else CAUSES[REASONS[reason]]] += count
    ranked = sorted(causes.items(), key=lambda entry: (-entry[1], entry[0]))
    return passes, stopped, partly, unproven, tuple(cause for cause, _ in ranked)


def _ports(run: Recorded, on: Sequence[tuple[int, int]], *, both: bool) -> Iterator[str]:
    """Yield ports in words; with the family, of a run that has both, where only one is meant."""
    families: dict[int, list[int]] = defaultdict(list)
    for port, family in on:
        families[port].append(family)
    alike: dict[str, list[Port]] = defaultdict(list)
    for port, some in families.items():
        only = f" ({FAMILIES[some[0]]})" if both and len(some) == 1 else ""
        alike[only].append(run.ports[port])
    for only, ports in alike.items():
        yield from (f"{port}{only}" for port in stretches(ports))


HEADS = {
    Answer.YES: "can reach",
    Answer.PARTLY: "can reach in part",
    Answer.NO: "cannot reach",
    Answer.UNPROVEN: "not proven either way",
}
"""What stands above the paths of an answer."""
WIDEST = 120
"""Columns of a table: what is wider wraps on most terminals, and its columns with it."""
MOST_OF_ENDS = 70
"""Columns that the ends may take where a row goes on below itself."""


def text(paths: Sequence[Path], *, wide: bool = False) -> str:
    """Return a table for each answer, and how many paths there are of each.

    Ends of which all is the same share a line; `wide` gives each path its own.
    """
    tables: dict[str, list[_Row]] = {}
    for answer, head in HEADS.items():
        chosen = [path for path in paths if path.answer is answer]
        rows = [*(_unfolded(chosen) if wide or answer is Answer.PARTLY else _folded(chosen))]
        if rows:
            tables[head] = rows
    lines = _columns(tables, None if wide else WIDEST) or _paragraphs(tables)
    counts = Counter(path.answer for path in paths)
    parts = (f"{counts[answer]:,} {head}" for answer, head in HEADS.items() if counts[answer])
    return printing.lines([*lines, f"paths: {', '.join(parts) or 'none'}"])


_Row = tuple[str, str, str]
"""Both ends, and the rest of what is said of a path."""


def _columns(tables: Mapping[str, Sequence[_Row]], widest: int | None) -> list[str]:
    """Return headings, and below each its rows with both ends in columns.

    What is too long for `widest` goes on below; nothing where the ends leave no room for that.
    """
    lines = []
    for head, rows in tables.items():
        source, destination = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines.append(f"{head}:")
        for a, b, rest in rows:
            ends = f"  {a:<{source}}  to {b:<{destination}}  "
            if widest is None or len(ends) + len(rest) <= widest:
                lines.append(ends + rest)
            elif len(ends) > MOST_OF_ENDS:
                return []
            else:
                beginning, *more = wrap(rest, columns=widest - len(ends))
                lines += [ends + beginning, *(" " * len(ends) + line for line in more)]
    return lines


def _paragraphs(tables: Mapping[str, Sequence[_Row]]) -> list[str]:
    """Return the same with a paragraph for each row, where columns would be too wide."""
    lines = []
    for head, rows in tables.items():
        lines.append(f"{head}:")
        for a, b, rest in rows:
            on = rest.replace("  ", ": ", 1).replace("  ", "; ")
            lines += wrap(f"{a} to {b} on {on}", indent=2, hang=6)
    return lines


def _unfolded(paths: Iterable[Path]) -> Iterator[_Row]:
    return ((path.src, path.dst, _rest(path)) for path in paths)


def _folded(paths: Iterable[Path]) -> Iterator[_Row]:
    """Yield ends and the rest of paths; ends of one namespace with the same paths share a line."""
    rows = gathered(paths, lambda path: (path.src.rpartition("/")[0], _rest(path)))
    for row in sorted(rows, key=lambda row: (row.srcs, row.dsts)):
        yield listed(row.srcs), row.receivers, _rest(row.path)


def _rest(path: Path) -> str:
    """Return a path's ports, its counts where they differ, and what decides."""
    counts = ""
    words = {"partly": "pass in part", "unproven": "not proven"}
    parts = [(words.get(name, name), count) for name, count in path.counts.items()]
    if sum(count > 0 for _, count in parts) > 1:
        shares = ", ".join(f"{count} {word}" for word, count in parts if count)
        counts = f"of {path.cells} cells {shares}"
    shown = (", ".join(path.ports), counts, "; ".join(path.because))
    return "  ".join(part for part in shown if part)


_SHORT = {
    "deployment": "deploy",
    "statefulset": "sts",
    "daemonset": "ds",
    "replicaset": "rs",
    "replicationcontroller": "rc",
    "cronjob": "cj",
}
"""kubectl's short names of kinds."""
_VIA, _ON = " via ", " on "


def word(end: str) -> str:
    """Return an end of a path as commands take it (`audit.scope.named`).

    `deployment shop/web` is `shop/deploy/web`, `node worker` is `node/worker`; an address stays
    one, and a network behind a name stays there.
    """
    kind, _, name = end.partition(" ")
    if kind == EndpointKind.EXTERNAL:
        return name.replace(_VIA, "@")
    namespace, slash, rest = name.partition("/")
    if not slash or _ON in rest or kind not in {*_SHORT, "job", "pod"}:
        return f"{kind}/{name}"
    return f"{namespace}/{_SHORT.get(kind, kind)}/{rest}"


COLUMNS = ("from", "to", "ports", "answer", "pass", "stopped", "partly", "unproven", "because")


def row(path: Path) -> tuple[object, ...]:
    """Return a path as `COLUMNS` name it."""
    ends = path.src, path.dst, " ".join(path.ports), str(path.answer)
    return (*ends, *path.counts.values(), "; ".join(path.because))


def fields(path: Path) -> dict[str, Any]:
    """Return a path for programs."""
    return {
        "from": path.src,
        "to": path.dst,
        "ports": list(path.ports),
        "answer": str(path.answer),
        "cells": path.counts,
        "because": list(path.because),
    }
