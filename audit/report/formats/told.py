"""What every format says of a run: counted once, so that no two formats can disagree.

Cells are counted a file at a time into a table of namespaces, which is all that is kept of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.model import findings
from audit.model.expectations import Checked, Status
from audit.model.findings import Finding, Severity
from audit.model.matrix import FAMILIES
from audit.model.recorded import Recorded
from audit.model.verdicts import PASSES, REASONS, UNPROVEN, VERDICTS, Blame, Verdict
from audit.report.sentences import CAUSES

OUTSIDE = "(outside)"
"""Stands for the namespace of nodes and addresses outside: no namespace can be called that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Something that needs somebody's attention: one rule, one thing it is about.

    `level` is SARIF's: error, warning or note. `key` is what makes it the same result in another
    run: workloads and policies, never pods' names or addresses.
    """

    rule: str
    level: str
    text: str
    key: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    cells: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One namespace as a destination: its cells by verdict, in the order of VERDICTS."""

    name: str
    counts: tuple[int, ...]
    exposed: tuple[int, int]
    """Of its cells from anywhere else: how many get through, and how many are proven."""

    @property
    def passes(self) -> int:
        """Cells that get through to it."""
        return sum(self.counts[place] for place, v in enumerate(VERDICTS) if v in PASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
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


def tell(run: Recorded, checks: Sequence[Checked] = ()) -> Told:
    """Count the cells of a run, and gather what it found."""
    names: dict[str, int] = {}
    for name in sorted({e.namespace or OUTSIDE for e in run.endpoints}):
        names[name] = len(names)
    group = np.array([names[e.namespace or OUTSIDE] for e in run.endpoints], np.int64)
    size = max(len(names), 1)
    counts = np.zeros(size * size * len(VERDICTS), np.int64)
    reasons = np.zeros(len(REASONS) * len(VERDICTS), np.int64)
    blocking = np.zeros(1, np.int64)
    families: set[int] = set()
    drifting = 0
    for cells in run.cells:
        pair = group[cells.src] * size + group[cells.dst]
        counts += np.bincount(pair * len(VERDICTS) + cells.verdict, minlength=len(counts))
        by_reason = cells.reason.astype(np.int64) * len(VERDICTS) + cells.verdict
        reasons += np.bincount(by_reason, minlength=len(reasons))
        blocked = cells.blame[cells.verdict == _BLOCKED] + 1
        blocking = _sum(blocking, np.bincount(blocked, minlength=1))
        families |= set(np.unique(cells.family).tolist())
        drifting += int(cells.drift.sum())
    by_pair = counts.reshape(size, size, len(VERDICTS))
    total, into = by_pair.sum(axis=(0, 1)).tolist(), by_pair.sum(axis=0).tolist()
    passing = [place for place, verdict in enumerate(VERDICTS) if verdict in PASSES]
    known = [place for place, verdict in enumerate(VERDICTS) if verdict not in UNPROVEN]
    through, decided = (by_pair[:, :, places].sum(axis=2) for places in (passing, known))
    exposed = [(many.sum(axis=0) - many.diagonal()).tolist() for many in (through, decided)]
    return Told(
        manifest=run.manifest,
        counts=dict(zip(VERDICTS, total, strict=True)),
        namespaces=tuple(
            Namespace(
                name=name,
                counts=tuple(into[place]),
                exposed=(exposed[0][place], exposed[1][place]),
            )
            for name, place in names.items()
        ),
        matrix=tuple(map(tuple, through.tolist())),
        proven=tuple(map(tuple, decided.tolist())),
        pairs=tuple(map(tuple, by_pair.sum(axis=2).tolist())),
        blockers=_blockers((None, *run.cells.blames), blocking.tolist()),
        unproven=tuple(_unproven(reasons.reshape(len(REASONS), len(VERDICTS)).tolist())),
        drifting=drifting,
        families=tuple(str(FAMILIES[family]) for family in sorted(families)),
        results=(*map(_result, findings.recorded(run.manifest)), *_violations(checks)),
        notes=tuple(_noted(run.manifest)),
        checks=tuple(checks),
    )


_BLOCKED = VERDICTS.index(Verdict.BLOCKED)


def _sum(one: Any, two: Any) -> Any:  # noqa: ANN401 - arrays of different lengths
    """Add two arrays of counts, of which the second may know of more."""
    whole = np.zeros(max(len(one), len(two)), np.int64)
    whole[: len(one)] += one
    whole[: len(two)] += two
    return whole


def _blockers(blames: Sequence[Blame | None], counts: Sequence[int]) -> tuple[tuple[str, int], ...]:
    cells: dict[str, int] = {}
    for blame, count in zip(blames, counts, strict=False):
        if count:
            label = "no policy named" if blame is None else str(blame.policy or blame)
            cells[label] = cells.get(label, 0) + count
    return tuple(sorted(cells.items(), key=lambda one: (-one[1], one[0])))


def _unproven(counts: Sequence[Sequence[int]]) -> Iterator[tuple[str, str, int]]:
    places = [place for place, verdict in enumerate(VERDICTS) if verdict in UNPROVEN]
    found = [
        (reason, sum(row[place] for place in places))
        for reason, row in zip(REASONS, counts, strict=True)
    ]
    for reason, count in sorted(found, key=lambda one: (-one[1], one[0])):
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
    """Yield a result per pair of workloads that is not as expected."""
    for check in checks:
        for one in check.violations:
            ports = ", ".join(one.ports)
            by = f" ({one.by})" if one.by else ""
            yield Result(
                rule=f"expectation/{check.name}",
                level="error" if check.status is Status.VIOLATED else "warning",
                text=f"{check.name}: {one.src} to {one.dst} on {ports} is {one.verdict}{by}",
                key=(one.src, one.dst, ports),
                subjects=(one.src, one.dst),
                cells=one.cells,
            )
        if check.status is Status.EMPTY:
            yield Result(
                rule=f"expectation/{check.name}",
                level="error",
                text=f"{check.name}: {check.sentence}",
                key=("empty",),
            )
