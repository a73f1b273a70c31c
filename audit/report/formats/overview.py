"""A run in numbers and sentences, counted once, so that no two formats can disagree.

Cells are counted a file at a time into a table of namespaces, which is all that is kept of them.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model import findings
from audit.model.expectations import Checked, Status, Violation
from audit.model.findings import Finding, Severity
from audit.model.matrix import FAMILIES
from audit.model.recorded import Recorded
from audit.model.tally import Tally, from_others
from audit.model.verdicts import PASSES, REASONS, STOPPED, UNPROVEN, VERDICTS, Blame, Verdict
from audit.report import sentences
from audit.report.sentences import CAUSES, Gathered, gathered

OUTSIDE = "(outside)"
"""Stands for the namespace of nodes and addresses outside: no namespace can be called that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Something that needs somebody's attention: one rule, one thing it is about.

    `sentence` is the text as it stands alone, with no list of subjects beside it.
    `level` is SARIF's: error, warning or note. `key` is what makes it the same result in another
    run: workloads and policies, never pods' names or addresses.
    """

    rule: str
    level: str
    text: str
    key: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    cells: int = 0
    cause: str = ""
    """What a finding comes from, where that is known."""
    by: str = ""
    """The policy's rule that decided the cells of an expectation, if one did."""
    waiver: str = ""
    """Who accepts it until when, and why; empty where nobody does."""

    @property
    def sentence(self) -> str:
        """The text as it stands alone, with no list of subjects beside it."""
        return findings.with_names(self.rule, self.text, self.subjects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One namespace as a destination: all its cells, and those from anywhere else."""

    name: str
    tally: Tally
    exposed: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A run in numbers and sentences."""

    manifest: Mapping[str, Any]
    counts: Mapping[Verdict, int]
    namespaces: tuple[Namespace, ...]
    """By name; together they are all cells."""
    matrix: tuple[tuple[int, ...], ...]
    """Cells that get through, by source and destination namespace."""
    proven: tuple[tuple[int, ...], ...]
    """Cells that are proven either way, likewise."""
    pairs: tuple[tuple[int, ...], ...]
    """All cells, likewise."""
    blockers: tuple[tuple[str, int], ...]
    """What blocks and how many cells, most first; together they are the blocked cells."""
    unproven: tuple[tuple[str, str, int], ...]
    """(reason, sentence, cells), most first; together they are the unproven cells."""
    drifting: int
    families: tuple[str, ...]
    results: tuple[Result, ...]
    """What was found: errors first, then warnings."""
    notes: tuple[Result, ...]
    """What is to be known about the facts: warnings first, then notes."""
    checks: tuple[Checked, ...]

    @property
    def cells(self) -> int:
        """All cells."""
        return sum(self.counts.values())

    @property
    def proven_cells(self) -> int:
        """Cells that are proven either way."""
        return sum(n for verdict, n in self.counts.items() if verdict not in UNPROVEN)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.manifest.get("run_id", ""))


def folded(check: Checked) -> list[Gathered[Violation]]:
    """Gather what is not as expected alike; most cells first."""
    return gathered(check.violations, lambda v: (v.verdict, v.by, v.waiver, v.ports))


def violations_text(row: Gathered[Violation]) -> str:
    """Return in a line what is not as expected alike: who to whom, what it is, and how much."""
    of = row.path
    by = f" ({of.by})" if of.by else ""
    waived = f"; {of.waiver}" if of.waiver else ""
    count = sentences.cells(row.cells)
    return f"{row.ends} on {sentences.ports_text(of.ports)}: {of.verdict}{by}, {count}{waived}"


def overview_of(run: Recorded, checks: Sequence[Checked] = ()) -> Overview:
    """Count the cells of a run, and gather what it found."""
    names = sorted({e.namespace or OUTSIDE for e in run.endpoints})
    counts = _count(run, names)
    by_verdict = counts.by_pair.sum(axis=(0, 1)).tolist()
    into = map(Tally.by_verdict, counts.by_pair.sum(axis=0))
    passing, proven = counts.of(PASSES), counts.of(PASSES | STOPPED)
    return Overview(
        manifest=run.manifest,
        counts=dict(zip(VERDICTS, by_verdict, strict=True)),
        namespaces=tuple(
            Namespace(name=name, tally=tally, exposed=exposed)
            for name, tally, exposed in zip(names, into, from_others(counts.by_pair), strict=False)
        ),
        matrix=tuple(map(tuple, passing.tolist())),
        proven=tuple(map(tuple, proven.tolist())),
        pairs=tuple(map(tuple, counts.by_pair.sum(axis=2).tolist())),
        blockers=_blockers(run.cells.blames, counts.blocked),
        unproven=tuple(_unproven(counts.by_reason.tolist())),
        drifting=counts.drifting,
        families=tuple(str(FAMILIES[family]) for family in sorted(counts.families)),
        results=(*map(_result, findings.recorded(run.manifest)), *_violations(checks)),
        notes=tuple(_noted(run.manifest)),
        checks=tuple(checks),
    )


@dataclass(slots=True, kw_only=True)
class _Counts:
    """A run's cells, counted in several ways.

    `by_pair` has the shape (groups, groups, verdicts), from and to; `by_reason` (reasons,
    verdicts); `blocked` the blocked cells of each blame, by its index or -1 for none.
    """

    by_pair: NDArray[np.int64]
    by_reason: NDArray[np.int64]
    blocked: Counter[int]
    families: set[int]
    drifting: int

    def of(self, verdicts: Collection[Verdict]) -> NDArray[np.int64]:
        """Return the cells of some verdicts, by source and destination group."""
        which = np.array([verdict in verdicts for verdict in VERDICTS])
        counts: NDArray[np.int64] = self.by_pair[:, :, which].sum(axis=2)
        return counts


def _count(run: Recorded, names: Sequence[str]) -> _Counts:
    """Count a run's cells by the namespaces of their ends, a file at a time."""
    number = {name: index for index, name in enumerate(names)}
    group = np.array([number[e.namespace or OUTSIDE] for e in run.endpoints], np.int64)
    size = max(len(names), 1)
    counts = _Counts(
        by_pair=np.zeros((size, size, len(VERDICTS)), np.int64),
        by_reason=np.zeros((len(REASONS), len(VERDICTS)), np.int64),
        blocked=Counter(),
        families=set(),
        drifting=0,
    )
    for cells in run.cells:
        pair = group[cells.src] * size + group[cells.dst]
        counts.by_pair += _table(pair, cells.verdict, counts.by_pair.shape)
        counts.by_reason += _table(cells.reason, cells.verdict, counts.by_reason.shape)
        blocked = np.bincount(cells.blame[cells.verdict == _BLOCKED] + 1)
        counts.blocked.update({int(n) - 1: int(blocked[n]) for n in np.flatnonzero(blocked)})
        counts.families |= set(np.unique(cells.family).tolist())
        counts.drifting += int((cells.drift == 1).sum())
    return counts


def _table(
    rows: NDArray[Any], verdict: NDArray[np.uint8], shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Count cells by row and verdict; `shape` ends with the verdicts, the rest is of the rows."""
    codes = rows.astype(np.int64) * len(VERDICTS) + verdict
    return np.bincount(codes, minlength=math.prod(shape)).reshape(shape)


_BLOCKED = VERDICTS.index(Verdict.BLOCKED)


def _blockers(blames: Sequence[Blame], blocked: Mapping[int, int]) -> tuple[tuple[str, int], ...]:
    cells: Counter[str] = Counter()
    for number, count in blocked.items():
        blame = blames[number] if number >= 0 else None
        cells["no policy named" if blame is None else str(blame.policy or blame)] += count
    return tuple(sorted(cells.items(), key=lambda entry: (-entry[1], entry[0])))


def _unproven(counts: Sequence[Sequence[int]]) -> Iterator[tuple[str, str, int]]:
    """Yield each reason of unproven cells, its sentence and their count, most first."""
    unproven = [index for index, verdict in enumerate(VERDICTS) if verdict in UNPROVEN]
    sums = {
        reason: sum(row[index] for index in unproven)
        for reason, row in zip(REASONS, counts, strict=True)
    }
    for reason, count in sorted(sums.items(), key=lambda entry: (-entry[1], entry[0])):
        if count:
            yield str(reason), CAUSES[reason], count


def _result(finding: Finding) -> Result:
    """Return a finding of the run as a result."""
    failing = finding.severity is Severity.ERROR
    # Earlier versions said less: the cells' own names.
    about = finding.about or sorted(finding.subjects)
    cause = () if finding.kind in findings.FROM_DISAGREEMENTS else (finding.cause,)
    return Result(
        rule=finding.kind,
        level=str(finding.severity),
        text=finding.text,
        key=(*cause, *about) if failing else (finding.text,),
        subjects=finding.subjects,
        cells=finding.cells,
        cause=finding.cause,
    )


def _noted(manifest: Mapping[str, Any]) -> Iterator[Result]:
    """Yield what the run notes about the facts, warnings first."""
    noted = [
        Result(
            rule=str(note["code"]),
            level=str(findings.severity_of_note(str(note["code"]))),
            text=str(note["text"]),
            key=(str(note["text"]),),
            subjects=tuple(map(str, note.get("subjects") or ())),
        )
        for note in findings.notes_of(manifest)
    ]
    yield from sorted(noted, key=lambda note: note.level != Severity.WARNING)


def _violations(checks: Sequence[Checked]) -> Iterator[Result]:
    """Yield a result per pair of workloads that is not as expected, and per waiver that is over."""
    for check in checks:
        rule = f"expectation/{check.name}"
        for violation in check.violations:
            ports = sentences.ports_text(violation.ports)
            ends = f"{violation.src} to {violation.dst} on {ports}"
            by = f" ({violation.by})" if violation.by else ""
            waived = f"; {violation.waiver}" if violation.waiver else ""
            leaves = violation.verdict is Verdict.EXITS
            state = "leaves OVN" if leaves else f"is {violation.verdict}"
            yield Result(
                rule=rule,
                level=_level(check, violation),
                text=f"{check.name}: {ends} {state}{by}{waived}",
                key=(violation.src, violation.dst, ports),
                subjects=(violation.src, violation.dst),
                cells=violation.cells,
                by=violation.by,
                waiver=violation.waiver,
            )
        for sentence in check.expired:
            yield Result(
                rule=rule,
                level="error",
                text=f"{check.name}: {sentence}",
                key=("expired", sentence),
            )
        if check.status is Status.EMPTY:
            yield Result(
                rule=rule,
                level="error",
                text=f"{check.name}: {check.sentence}",
                key=("empty",),
            )


def _level(check: Checked, violation: Violation) -> str:
    """Return how much a violation matters: one that is waived is for the reader to know."""
    if violation.waiver:
        return "note"
    return "error" if check.status is Status.VIOLATED else "warning"
