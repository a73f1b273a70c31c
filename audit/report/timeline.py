"""The page of all runs below a root: how their numbers and each namespace's exposure moved."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from audit.model.history import Exposed, Kept, Moved
from audit.model.tally import percent
from audit.report.formats.history import moves
from audit.report.sentences import scope_text

MOST_RUNS = 400
"""Runs of one scope that are drawn and listed, the newest; the terminal and the JSON have all."""
MOST_NAMESPACES = 40
MOST_MOVED = 3
"""Namespaces that a run's line names."""
WIDTH, HEIGHT = 240, 60
"""Of a drawing, in its own units; a point stays this far from the edge."""
EDGE = 4
_NOTHING = Exposed(passes=0, proven=0, cells=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run in a drawing."""

    x: float
    y: float
    label: str
    """What it says, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One number over the runs, as a line."""

    title: str
    latest: str
    change: str
    points: tuple[Point, ...]

    @property
    def line(self) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{point.x:g},{point.y:g}" for point in self.points)

    @property
    def spoken(self) -> str:
        """The drawing for who does not see it."""
        ends = (self.points[0], self.points[-1]) if len(self.points) > 1 else self.points
        return f"{self.title}: " + ", then ".join(point.label for point in ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRow:
    """How exposed a namespace is to all others."""

    name: str
    trend: Trend
    share: str
    passes: str
    unproven: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run, and what moved since the one before of the same scope."""

    name: str
    link: str
    """Empty where it has no page."""
    started: str
    numbers: tuple[tuple[str, str], ...]
    """Text and change, in the order of `TITLES`."""
    moved: str
    compare: str
    """The command that says what changed, cell by cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRuns:
    """The runs that were asked the same: only they are compared."""

    title: str
    trends: tuple[Trend, ...]
    namespaces: tuple[NamespaceRow, ...]
    namespaces_left_out: int
    runs: tuple[RunRow, ...]
    runs_left_out: int


_SUMS = {
    "Gets through": ("reachable", "exits"),
    "Stopped": ("blocked", "unroutable"),
    "Unproven": ("inconclusive", "untraced"),
    "Drifting": ("drifting",),
    "Findings": ("findings",),
}
_SECONDS = "Seconds"
TITLES = (*_SUMS, _SECONDS)


def _number(title: str, run: Kept) -> float | None:
    """Return a number of a run; None where the run does not say it."""
    return run.seconds if title == _SECONDS else _sum(title, run.numbers)


def _sum(title: str, numbers: Mapping[str, int]) -> int | None:
    names = _SUMS[title]
    return sum(numbers[name] for name in names) if numbers.keys() >= set(names) else None


def timeline(runs: Sequence[Kept]) -> tuple[ScopeRuns, ...]:
    """Return the runs by scope, the scope of the newest run first."""
    by_scope: dict[str, list[tuple[Kept, Moved | None]]] = {}
    for run, moved in zip(runs, moves(runs), strict=True):
        by_scope.setdefault(run.scope, []).append((run, moved))
    latest = sorted(by_scope.items(), key=lambda item: item[1][-1][0].started, reverse=True)
    return tuple(_scope(scope, some) for scope, some in latest)


def _scope(scope: str, some: Sequence[tuple[Kept, Moved | None]]) -> ScopeRuns:
    shown = some[-MOST_RUNS:]
    runs = [run for run, _ in shown]
    names = _namespaces(*some[-1])
    return ScopeRuns(
        title=_title(scope, runs[-1]),
        trends=tuple(_trends(runs)),
        namespaces=tuple(_namespace(name, runs) for name in names[:MOST_NAMESPACES]),
        namespaces_left_out=max(0, len(names) - MOST_NAMESPACES),
        runs=tuple(
            _run(run, moved, some[index - 1][0] if index else None)
            for index, (run, moved) in reversed([*enumerate(some)][-MOST_RUNS:])
        ),
        runs_left_out=len(some) - len(shown),
    )


def _title(scope: str, run: Kept) -> str:
    asked, planes, _ = json.loads(scope)
    texts = [run.source, scope_text(asked or {}), ", ".join(map(str, planes or ()))]
    return " · ".join(text for text in texts if text)


def _trends(runs: Sequence[Kept]) -> Iterator[Trend]:
    for title in TITLES:
        values = [(run, value) for run in runs if (value := _number(title, run)) is not None]
        if values:
            yield _trend(title, values)


def _trend(title: str, values: Sequence[tuple[Kept, float]]) -> Trend:
    """Return a line from the left edge to the right, from zero at the bottom to the most."""
    most = max(value for _, value in values) or 1.0
    step = (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)
    points = tuple(
        Point(
            x=round(EDGE + index * step, 2),
            y=round(HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * value / most, 2),
            label=f"{_figure(value)} in {run.run}",
        )
        for index, (run, value) in enumerate(values)
    )
    latest = values[-1][1]
    before = values[-2][1] if len(values) > 1 else latest
    return Trend(
        title=title, latest=_figure(latest), change=_change(latest - before), points=points
    )


def _namespaces(run: Kept, moved: Moved | None) -> list[str]:
    """Return the namespaces of the last run, those that moved most first, then by exposure."""
    changes = {} if moved is None else moved.exposure
    return sorted(
        run.exposure,
        key=lambda n: (-abs(changes.get(n, 0)), -run.exposure[n].passes, n),
    )


def _namespace(name: str, runs: Sequence[Kept]) -> NamespaceRow:
    values = [(run, float(run.exposure[name].passes)) for run in runs if name in run.exposure]
    exposed = runs[-1].exposure.get(name, _NOTHING)
    return NamespaceRow(
        name=name,
        trend=_trend(f"Gets through to {name}", values),
        share=f"{percent(exposed.passes, exposed.proven)} %" if exposed.proven else percent(0, 0),
        passes=_figure(exposed.passes),
        unproven=_figure(exposed.cells - exposed.proven),
    )


def _run(run: Kept, moved: Moved | None, before: Kept | None) -> RunRow:
    numbers = []
    for title in TITLES:
        value = _number(title, run)
        since = None if moved is None or title == _SECONDS else _sum(title, moved.numbers)
        text = "?" if value is None else _figure(value)
        numbers.append((text, "" if since is None else _change(since)))
    exposure = {} if moved is None else {n: c for n, c in moved.exposure.items() if c}
    most = sorted(exposure.items(), key=lambda item: (-abs(item[1]), item[0]))
    more = f" and {len(most) - MOST_MOVED:,} more" if len(most) > MOST_MOVED else ""
    return RunRow(
        name=run.name,
        link=f"{quote(run.name, safe='')}/report.html" if run.report else "",
        started=run.started.replace("T", " ").replace("+00:00", " UTC"),
        numbers=tuple(numbers),
        moved=", ".join(f"{name} {_change(change)}" for name, change in most[:MOST_MOVED]) + more,
        compare=shlex.join(["audit", "diff", before.path, run.path]) if before else "",
    )


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value != int(value) else f"{int(value):,}"


def _change(moved: float) -> str:
    """Return a change with its sign; nothing where there is none."""
    return f"{'+' if moved > 0 else MINUS}{_figure(abs(moved))}" if moved else ""


MINUS = "\N{MINUS SIGN}"
