"""plan → traces → verdicts → store → report: one audit, from its start to its exit code.

A run directory becomes a run when `run.json` is in it, last; what fails before leaves what was
traced, to be gone on with, and nothing when nothing was.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from audit.errors import EngineError, ExitCode, OutputError
from audit.model import findings
from audit.model.changes import ChangedCells
from audit.model.facts import Note
from audit.model.matrix import CellVerdicts, Matrix
from audit.pipeline import intending, meanings, ownswitches, switches
from audit.pipeline.asking import Traced, logical_worker, trace
from audit.pipeline.intending import Judged
from audit.pipeline.journal import Journal
from audit.pipeline.marking import settle
from audit.pipeline.options import Options, PlaneName, Progress
from audit.pipeline.planning import Planned, plan
from audit.pipeline.sitting import Sitting, options_of
from audit.pipeline.sitting import planned as planning
from audit.pipeline.switches import Start
from audit.report import render, sentences
from audit.report.grid import gather
from audit.store import evidence, manifest, reader, remote, signing
from audit.store.encode import Planes
from audit.store.files import replacing, writing
from audit.store.layout import SIGNATURE
from audit.verdict import exposure
from audit.verdict import legs as composing


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run: where it is, and what it says."""

    path: Path
    report: Path
    manifest: Mapping[str, Any]
    unproven: tuple[str, ...]
    """A sentence per reason for cells that are not proven."""
    url: str = ""
    """Where it is on an object store, if it was put on one."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code it deserves by what it says: 1 for a finding that is an error."""
        return findings.exit_code(self.manifest)


def run(options: Options, root: Path, progress: Progress, *, start: Start | None = None) -> Outcome:
    """Audit a cluster: decide every cell in scope and write a run below `root`.

    `start` makes the nodes' switches run, where the datapath is asked; by default they are replayed
    or, where pods trace, the cluster's own.
    """
    key = _key(options)
    with Sitting.new(root) as sitting:
        if options.planes == {PlaneName.INTENT}:
            written = _write_intent(options, sitting, progress)
        else:
            written = _write_run(options, sitting, progress, start or _start(options))
    return _completed(written, key)  # what it held is free again


def resume(
    path: Path,
    changes: Mapping[str, Any],
    progress: Progress,
    *,
    start: Start | None = None,
) -> Outcome:
    """Go on with a run that was ended, or run again what failed in one that was finished.

    `changes` are options that are not as they were; what is asked of the cluster stays.
    """
    with Sitting.resumed(path) as sitting:
        assert sitting.before is not None  # noqa: S101 - it is resumed
        options = options_of(sitting.before, changes, path)
        key = _key(options)
        written = _write_run(options, sitting, progress, start or _start(options))
    return _completed(written, key)


def _start(options: Options) -> Start:
    return ownswitches.of(options.cluster) if options.cluster is not None else switches.replayed


def _key(options: Options) -> signing.PrivateKey | None:
    """Read the key before the work is done that it is for."""
    return None if options.sign_key is None else signing.load_private(options.sign_key)


def _completed(written: Outcome, key: signing.PrivateKey | None) -> Outcome:
    """Render the report of a run that is written, and sign it."""
    report = write_report(written.path)
    if key is not None:
        signing.sign(written.path, key)
    return replace(written, report=report)


def _write_run(options: Options, sitting: Sitting, progress: Progress, start: Start) -> Outcome:
    """Do everything but render the report."""
    out = sitting.out
    with ExitStack() as stack:
        planned = plan(options, progress, stack)
        asked = planning(options, planned.state, _engine(planned))
        journal = sitting.begin(asked, options.time_limit_s)
        if planned.cover.tasks and planned.pods is None:  # a pod's ovn-trace is its database's own
            _preflight(options, planned, progress)
        out.write_endpoints(planned.matrix.endpoints)
        out.write_policies(planned.state.policies)
        settled = settle(
            options, planned, trace(options, planned, journal, progress, start), progress
        )
        traced, verdicts = settled.traced, settled.traced.verdicts
        progress.phase("writing", 0)
        judged = _with_intent(options, planned, verdicts, progress)
        verdicts = judged.verdicts
        out.write_cells(planned.matrix, verdicts, _planes(planned, verdicts))
        said = manifest.describe(
            planned.state,
            verdicts,
            (*planned.notes, *traced.notes, *_late(options, journal, traced)),
            asked=_asked(options, planned),
            traces=traced.count,
        )
        said |= judged.fields(planned.state, traced.findings)
        said |= {**traced.checks, "incomplete": traced.incomplete, **sitting.fields(journal)}
        said |= {
            "markers": settled.markers,
            "place": _place(options, out.path),
            **_open(planned.matrix, verdicts),
        }
        out.finish(said)
    return Outcome(
        path=out.path,
        report=out.path,
        manifest=said,
        unproven=tuple(sentences.unproven(verdicts)),
    )


def _late(options: Options, journal: Journal, traced: Traced) -> Iterator[Note]:
    """Say that the time was not enough."""
    if traced.incomplete and time.monotonic() >= journal.until:
        text = (
            f"the time limit of {options.time_limit_s:g} s ended the run: what was not traced by "
            "then is unproven; `audit run --resume` goes on with it"
        )
        yield Note(code="time-limit", text=text, subjects=())


def _planes(planned: Planned, verdicts: CellVerdicts) -> Planes:
    """Return what each plane says of each cell, for the store."""
    predicted = composing.predicted(planned.matrix, planned.legs) if planned.legs else None
    return Planes(
        predicted=predicted,
        intent=verdicts.intent,
        logical=verdicts.verdict if verdicts.logical is None else verdicts.logical,
        datapath=verdicts.datapath,
        drift=verdicts.drift,
    )


def _with_intent(
    options: Options, planned: Planned, verdicts: CellVerdicts, progress: Progress
) -> Judged:
    """Return what OVN said, with what the objects say beside it where they are asked."""
    if PlaneName.INTENT not in options.planes:
        return intending.unasked(planned.state, verdicts)
    return intending.beside(planned.matrix, planned.state, verdicts, progress)


def _write_intent(options: Options, sitting: Sitting, progress: Progress) -> Outcome:
    """Evaluate the policy objects alone: no OVN, no traces, no replies."""
    out = sitting.out
    with ExitStack() as stack:
        intended = intending.plan(options, progress, stack)
        journal = sitting.begin(planning(options, intended.state, {}))
        judged = intending.alone(intended, progress)
        progress.phase("writing", 0)
        out.write_endpoints(intended.matrix.endpoints)
        out.write_policies(intended.state.policies)
        verdicts = judged.verdicts
        out.write_cells(intended.matrix, verdicts, Planes(intent=verdicts.intent))
        said = manifest.describe(
            intended.state,
            verdicts,
            intended.notes,
            asked={
                "command": options.command,
                "scope": options.scope.describe(),
                "planes": [str(PlaneName.INTENT)],
                "cover": "none",
                "engine": None,
            },
            traces=0,
        )
        said |= judged.fields(intended.state)
        said |= {"prediction": None, "drift": None, "packets": None, "markers": None}
        said |= {"incomplete": False, **sitting.fields(journal)}
        said |= {"place": _place(options, out.path), **_open(intended.matrix, verdicts)}
        out.finish(said)
    return Outcome(
        path=out.path,
        report=out.path,
        manifest=said,
        unproven=tuple(sentences.unproven(verdicts)),
    )


def _open(matrix: Matrix, verdicts: CellVerdicts) -> dict[str, Any]:
    """Return how open the cluster is, for run.json and for who compares many of them."""
    found = exposure.openness(matrix, verdicts)
    return {
        "pairs": {"total": found.pairs, "passing": found.passing},
        "drifting": found.drifting,
        "exposure": {name: asdict(one) for name, one in found.namespaces.items()},
    }


def _place(options: Options, path: Path) -> str | None:
    """Return where the run will be, if that is not where it is written."""
    return str(remote.located(options.destination) / path.name) if options.destination else None


def write_report(path: Path, changed: ChangedCells | None = None, out: Path | None = None) -> Path:
    """Render the report of the run at `path`, with what `changed`; return where it is.

    It goes into the run, where `run.json` lists it, or into `out`. OutputError when it is to go
    into a run that is signed: what was signed includes its report.
    """
    target = (out or path) / evidence.REPORT
    if out is None and (path / SIGNATURE).exists():
        raise OutputError(
            f"{path} is signed, its report included; copy it without {SIGNATURE} to render again"
        )
    run = reader.stream_run(path)
    grid = gather(run, changed.cells if changed else None)
    meant = meanings.of_run(run, grid)
    content = render.render_html(run, grid=grid, meanings=meant, changed=changed).encode()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(content)
    if out is None:
        evidence.list_report(path)
    return target


def _preflight(options: Options, planned: Planned, progress: Progress) -> None:
    """Refuse an engine that cannot read the databases, before anything is traced.

    Versions were compared already. That a logical flow does not parse is the other sign of an
    engine that is too old; zones of one version have the same kinds of flows, so one of each is
    tried here, and every worker looks again.
    """
    progress.phase("checking the engine", 0)
    samples = {zone.northd_version: zone for zone in planned.state.zones.values()}
    with logical_worker(planned, options.trace_timeout_s)() as tracer:
        for zone in samples.values():
            unparsed = tracer.unparsed(zone.name)
            if unparsed.flows:
                raise EngineError(
                    f"ovn-trace {planned.engine.version} cannot parse {unparsed.flows} logical "
                    f"flows of zone {zone.name} (such as {unparsed.example!r}), so nothing was "
                    "traced; name a newer OVN with --ovn-prefix"
                )


def _asked(options: Options, planned: Planned) -> dict[str, Any]:
    """Return what was asked, and of which engine, for run.json."""
    return {
        "command": options.command,
        "scope": options.scope.describe(),
        "planes": sorted(options.planes, key=list(PlaneName).index),
        "cover": planned.cover.name,
        "engine": _engine(planned),
    }


def _engine(planned: Planned) -> dict[str, Any]:
    return {
        "name": "ovn-trace",
        "version": str(planned.engine.version),
        "place": planned.engine.place,
    }
