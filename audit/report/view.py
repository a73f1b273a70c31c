"""What the page says without its script: finished strings and numbers that add up.

The six counters add up to the cells; proven and unproven cells add up to the cells; the cells of
the blockers add up to the blocked cells. The template does no arithmetic.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.model.changes import UNMATCHED, ChangedCells
from audit.model.expectations import Checks
from audit.model.findings import APPLIED, Severity
from audit.model.tally import NO_SHARE, Tally, percent
from audit.model.verdicts import UNPROVEN, VERDICTS, Verdict
from audit.report import messages
from audit.report.axes import Axes
from audit.report.census import Census, Decider, exposures
from audit.report.grid import Grid
from audit.report.links import Links
from audit.report.sections import (
    ChangeTable,
    ControlRow,
    ExpectationRow,
    FindingGroup,
    change_tables,
    controls,
    expectation_rows,
    groups,
)
from audit.report.sentences import MEANINGS, scope_text

BAR = 1000.0
"""The width of a full bar, in units of its own drawing."""
MOST_TABLE_GROUPS = 40
"""Beyond this the namespace table for screen readers has one row per source, not per pair."""
ZONES_SHOWN = 200
MOST_LISTED = 25
"""Policies the page lists without its script; with it, all of them can be searched."""
MOST_EXPOSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One of the six counters: a verdict, how often, and its share of the proven cells."""

    verdict: str
    meaning: str
    count: int
    text: str
    share: str
    """Empty for an unproven verdict: it is in no denominator."""
    left: float
    width: float
    """Where it stands in the bar of all cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeciderRow:
    """A row of the policies and what else decides: how many cells, and a bar of the blocked."""

    index: int
    label: str
    kind: str
    name: str
    blocks: str
    allows: str
    shared: str
    share: str
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureRow:
    """A namespace and how much of what others ask of it gets through."""

    group: str
    share: str
    text: str
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row of the table that stands for the heatmap: a source, and a text per column."""

    source: str
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The whole page except the heatmap."""

    run_id: str
    source: str
    headline: str
    coverage: str
    unproven: int
    cells: int
    facts: tuple[tuple[str, str], ...]
    zones: tuple[tuple[str, str, str], ...]
    zones_left_out: int
    counters: tuple[Counter, ...]
    checks: tuple[tuple[str, str], ...]
    """What does not agree with something else, and the view of the map that shows it, or none."""
    """What was verified and is not in order: its name, what came out. `coverage` says all."""
    failing: int
    finding_counts: str
    """How many errors and warnings there are among the findings, those not shown too."""
    findings: tuple[FindingGroup, ...]
    """By kind, errors first."""
    checked: str
    """How many expectations pass, and on which day; empty where none was checked."""
    failing_expectations: int
    controls: tuple[ControlRow, ...]
    expectations: tuple[ExpectationRow, ...]
    changed_since: str
    change_counts: str
    """How many cells changed in which way."""
    changed: tuple[str, ...]
    change_tables: tuple[ChangeTable, ...]
    unmatched: bool
    """Whether there are cells that the earlier run has no counterpart of."""
    most_exposed: tuple[ExposureRow, ...]
    least_exposed: tuple[ExposureRow, ...]
    deciders: tuple[DeciderRow, ...]
    idle: str
    """How many policies decide no cell, in a sentence."""
    note_counts: str
    """How many warnings and notes there are about the facts."""
    notes: tuple[FindingGroup, ...]
    table_head: tuple[str, ...]
    table: tuple[TableRow, ...]


def summary(
    manifest: Mapping[str, Any],
    grid: Grid,
    counted: Census,
    deciding: tuple[Decider, ...],
    *,
    changed: ChangedCells | None = None,
    checks: Checks | None = None,
) -> Summary:
    """Say what a run found, and what became of expectations."""
    tally = counted.total()
    zones = _zones(manifest)
    head, table = _table(grid.page, counted.pairs)
    findings, notes = messages.findings_of(manifest), messages.notes_of(manifest)
    links = Links(grid.page, (decider.label for decider in deciding))
    exposed = exposures(grid, counted)
    most = min(MOST_EXPOSED, (len(exposed) + 1) // 2)
    least = exposed[most:][-MOST_EXPOSED:][::-1]
    tables = change_tables(changed, links) if changed else ()
    return Summary(
        run_id=str(manifest.get("run_id", "")),
        source=str(manifest.get("source", "")),
        headline=_headline(tally, deciding, changed=_is_of_a_change(manifest)),
        coverage=_coverage(tally, manifest),
        unproven=tally.unproven,
        cells=tally.cells,
        facts=_facts(manifest, zones),
        zones=zones[:ZONES_SHOWN],
        zones_left_out=max(0, len(zones) - ZONES_SHOWN),
        counters=_counters(tally),
        checks=tuple(_disagreements(manifest)),
        failing=sum(
            1 + finding.alike for finding in findings if finding.severity is Severity.ERROR
        ),
        finding_counts=messages.counted(findings),
        findings=groups(findings, links),
        checked=_checked(checks) if checks else "",
        failing_expectations=checks.failing if checks else 0,
        controls=controls(checks) if checks else (),
        expectations=expectation_rows(checks, links) if checks else (),
        changed_since=changed.since if changed else "",
        change_counts=_change_counts(tables),
        changed=_changed(changed, counted) if changed else (),
        change_tables=tables,
        unmatched=any(state.changed == UNMATCHED for state in grid.states),
        most_exposed=tuple(starmap(_exposure, exposed[:most])),
        least_exposed=tuple(starmap(_exposure, least)),
        deciders=_decider_rows(deciding[:MOST_LISTED], tally.of(Verdict.BLOCKED)),
        idle=_idle(sum(not (d.blocks or d.allows or d.shared) for d in deciding)),
        note_counts=messages.counted(notes),
        notes=groups(notes, links),
        table_head=head,
        table=table,
    )


def _change_counts(tables: Sequence[ChangeTable]) -> str:
    """Return how many cells changed in which way: `59 opened, 46 closed`."""
    of_cells = (table for table in tables if table.only)
    counts = (f"{number(table.cells)} {table.title.lower()}" for table in of_cells)
    return ", ".join(counts) or "nothing changed"


def _idle(count: int) -> str:
    """Return how many policies decide nothing; empty where each decides something."""
    if not count:
        return ""
    return f"{number(count)} {'policy decides' if count == 1 else 'policies decide'} no cell."


def _checked(checks: Checks) -> str:
    """Return how many expectations pass."""
    count = len(checks.expectations)
    noun = "expectation passes" if count == 1 else "expectations pass"
    return f"{count - checks.failing} of {count} {noun} on {checks.day}"


def _changed(changed: ChangedCells, counted: Census) -> tuple[str, ...]:
    """Return what changed, in sentences."""
    return changed.sentences or (f"{_cells(counted.changed)} changed.",)


def _exposure(group: str, exposed: Tally) -> ExposureRow:
    """Return a namespace's row."""
    return ExposureRow(
        group=group,
        share=share_text(percent(exposed.passes, exposed.proven)),
        text=f"{number(exposed.passes)} of {number(exposed.proven)}",
        width=round(BAR * exposed.passes / exposed.proven, 3),
    )


def number(value: int) -> str:
    """Return a number as people read it: `4,920`."""
    return f"{value:,}"


def share_text(share: str) -> str:
    """Return a percentage with its sign: a dash has none."""
    return share if share in ("", NO_SHARE) else f"{share} %"


def _is_of_a_change(manifest: Mapping[str, Any]) -> bool:
    """Say whether a run is of a cluster that nobody has: with policies that are to be applied."""
    return any(note["code"] == APPLIED for note in manifest.get("notes", ()))


def _headline(tally: Tally, deciding: tuple[Decider, ...], *, changed: bool) -> str:
    """Return the run in one sentence or two; `changed` says that it is not the cluster's own."""
    if not tally.cells:
        return "Nothing was in scope: the matrix has no cells."
    if not tally.proven:
        return f"Nothing is proven: none of {number(tally.cells)} cells could be decided."
    passes, stopped = (
        share_text(percent(count, tally.proven)).replace(" ", "\N{NO-BREAK SPACE}")
        for count in (tally.passes, tally.stopped)
    )
    of = "With the change applied, of" if changed else "Of"
    text = f"{of} {number(tally.proven)} decided cells, {passes} get through and {stopped} do not."
    named = [decider for decider in deciding if decider.policy is not None and decider.blocks]
    if named:
        text += f" What blocks most is {named[0].label}: {_cells(named[0].blocks)}."
    return text


def _coverage(tally: Tally, manifest: Mapping[str, Any]) -> str:
    """Return how much was decided, and by how many real traces."""
    traces = manifest.get("counts", {}).get("traces")
    by = f" by {_plural(traces, 'trace')}" if traces is not None else ""
    if manifest.get("planes") == ["intent"]:
        by = " by the policy objects alone"
    checks = "".join(
        f"; {check.agreeing.format(number(agree), number(of))}"
        for check, agree, of in _checks(manifest)
    )
    return f"{_cells(tally.proven)} decided{by}; {number(tally.unproven)} unproven{checks}."


class _Check(NamedTuple):
    """What a run compared with something else: how that reads, and the map's filter for it."""

    agreeing: str
    """With how many agree, of how many."""
    differing: str
    """With how many do not, of how many."""
    only: str = ""


_CHECKS = {
    "verify": _Check(
        "{} of {} cells verified from end to end agree",
        "{} of {} cells verified from end to end disagree",
    ),
    "intent": _Check(
        "intent and logical agree on {} of {} cells",
        "intent and logical disagree on {} of {} cells",
        only="drift",
    ),
    "drift": _Check(
        "logical and datapath agree on {} of {} cells",
        "logical and datapath disagree on {} of {} cells",
        only="drift",
    ),
    "packets": _Check(
        "real packets agree in {} of {} cells", "real packets disagree in {} of {} cells"
    ),
    "probe": _Check(
        "real connections agree in {} of {} cells",
        "real connections disagree in {} of {} cells",
        only="drift",
    ),
    "prediction": _Check(
        "{} of {} traced legs answer as predicted", "{} of {} traced legs answer otherwise"
    ),
}
"""By the entry of run.json that has the figures."""


def _checks(manifest: Mapping[str, Any]) -> Iterator[tuple[_Check, int, int]]:
    """Yield what the run compared with something else, how many agree, and of how many."""
    for key, check in _CHECKS.items():
        figures = manifest.get(key)
        if figures:
            agree = figures["of"] - figures["cells"] if "cells" in figures else figures["agree"]
            yield check, agree, figures["of"]


def _disagreements(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what does not agree, in words, and the view of the map that shows it, if one does."""
    for check, agree, of in _checks(manifest):
        if agree < of:
            link = f"only={check.only}" if check.only else ""
            yield check.differing.format(number(of - agree), number(of)), link


def _counters(tally: Tally) -> tuple[Counter, ...]:
    """Return the six counters, and where each stands in the bar of all cells."""
    counters, left = [], 0.0
    for verdict in VERDICTS:
        count = tally.of(verdict)
        width = round(BAR * count / tally.cells, 3) if tally.cells else 0.0
        counters.append(
            Counter(
                verdict=verdict,
                meaning=MEANINGS[verdict],
                count=count,
                text=number(count),
                share="" if verdict in UNPROVEN or not count else share_text(tally.share(verdict)),
                left=round(left, 3),
                width=width,
            )
        )
        left += width
    return tuple(counters)


def _decider_rows(deciding: tuple[Decider, ...], blocked: int) -> tuple[DeciderRow, ...]:
    """Return what decides; bars are relative to what blocks most."""
    most = max((decider.blocks for decider in deciding), default=0)
    return tuple(
        DeciderRow(
            index=index,
            label=decider.label,
            kind=decider.policy.kind if decider.policy else "",
            name=_decider_name(decider),
            blocks=number(decider.blocks),
            allows=number(decider.allows),
            shared=number(decider.shared) if decider.shared else "",
            share=share_text(percent(decider.blocks, blocked)),
            width=round(BAR * decider.blocks / most, 3) if most else 0.0,
        )
        for index, decider in enumerate(deciding)
    )


def _decider_name(decider: Decider) -> str:
    """Return the name without the kind, which has its own line."""
    policy = decider.policy
    if policy is None:
        return decider.label
    return f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name


def _facts(
    manifest: Mapping[str, Any], zones: tuple[tuple[str, str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Return what was audited, as label and text; what the manifest does not say is not shown."""
    engine = manifest.get("engine") or {}
    facts = (
        ("Source", _text(manifest.get("source"))),
        ("Run", _text(manifest.get("run_id"))),
        ("Time", _time(_text(manifest.get("started")), _text(manifest.get("finished")))),
        ("Scope", scope_text(manifest.get("scope") or {})),
        ("Planes", ", ".join(manifest.get("planes") or ())),
        ("Cover", _text(manifest.get("cover"))),
        ("Engine", " ".join(_text(engine.get(key)) for key in ("name", "version")).strip()),
        ("Databases", _databases(zones)),
        ("Command", _text(manifest.get("command"))),
    )
    return tuple((label, text) for label, text in facts if text)


def _databases(zones: tuple[tuple[str, str, str], ...]) -> str:
    """Return how many zones there are, and the versions of their northd."""
    if not zones:
        return ""
    versions = sorted({version for _, version, _ in zones if version})
    northd = f", northd {', '.join(versions)}" if versions else ""
    return _plural(len(zones), "zone") + northd


def _text(value: object) -> str:
    """Return a manifest's value as text; a command may be a list of words."""
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _time(started: str, finished: str) -> str:
    """Return start and end; the end without its date when that is the same."""
    begin, end = (time.replace("T", " ").replace("+00:00", "Z") for time in (started, finished))
    if not end:
        return begin
    same_day = begin[:10] == end[:10]
    return f"{begin.removesuffix('Z')} to {end[11:] if same_day else end}".replace("Z", " UTC")


def _zones(manifest: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return (zone, northd version, sequence) of each pair of databases."""
    rows = manifest.get("databases") or ()
    keys = ("zone", "northd_version", "sequence")
    return tuple(
        (_text(r.get(keys[0])), _text(r.get(keys[1])), _text(r.get(keys[2]))) for r in rows
    )


def _table(page: Axes, pairs: NDArray[np.int64]) -> tuple[tuple[str, ...], tuple[TableRow, ...]]:
    """Return the namespace matrix as a table: per pair, or per source when there are too many."""
    if len(page.groups) > MOST_TABLE_GROUPS:
        rows = tuple(
            TableRow(source=group, entries=(_spoken(pairs[index].sum(axis=0)),))
            for index, group in enumerate(page.groups)
        )
        return ("all destinations",), rows
    rows = tuple(
        TableRow(source=group, entries=tuple(_spoken(counts) for counts in pairs[index]))
        for index, group in enumerate(page.groups)
    )
    return page.groups, rows


def _spoken(counts: Iterable[int]) -> str:
    """Return the counts of one pair as text: `12 reachable, 3 blocked`."""
    named = zip(counts, VERDICTS, strict=True)
    return ", ".join(f"{number(int(count))} {v}" for count, v in named if count) or "no cells"


def _cells(count: int) -> str:
    """Return `1 cell` or `2 cells`."""
    return _plural(count, "cell")


def _plural(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"
