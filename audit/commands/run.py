"""plan → traces → verdicts → store → report: one audit, from its start to its exit code.

A run directory becomes a run when `run.json` is in it, last; what fails before leaves what was
traced, to be gone on with, and nothing when nothing was.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from audit import __version__
from audit.commands import intent, plan_file
from audit.commands.intent import Judged
from audit.commands.report import Outcome, Page, complete, completed, lacks, signing_key
from audit.commands.resume import Sitting
from audit.errors import EngineError, RunReadError
from audit.model.facts import Note
from audit.model.matrix import CellVerdicts, Counted
from audit.model.options import INTENT_ALONE, PlaneName, Workers
from audit.report import sentences
from audit.scope.outside import Range
from audit.store import manifest, remote, unfinished
from audit.store.reuse import REUSABLE, Reusable, described
from audit.tracing import own_switches, switches
from audit.tracing.every_plane import Traced, logical_worker, trace
from audit.tracing.journal import Journal
from audit.tracing.markers import settle
from audit.tracing.options import Options, Progress
from audit.tracing.plan import Planned, plan
from audit.tracing.switches import Start
from audit.verdict import exposure
from audit.verdict import legs as composing


def run(
    options: Options,
    root: Path,
    progress: Progress,
    *,
    start: Start | None = None,
    page: Page | None = None,
) -> Outcome:
    """Audit a cluster: decide every cell in scope and write a run below `root`.

    `start` makes the nodes' switches run, where the datapath is asked; by default they are replayed
    or, where pods trace, the cluster's own. `page` renders the report of the run at a path, where
    it is another than a run's own.
    """
    key = signing_key(options)
    with Sitting.new(root) as sitting:
        written = _write(options, sitting, progress, start)
    if page is not None:
        page(written.path)
    return completed(written, options, key)  # what it held is free again


def decide(options: Options, root: Path, progress: Progress) -> Path:
    """Decide every cell in scope, and write a run without a page below `root`; return its place.

    Nobody is to go on with it: it is read, and goes.
    """
    try:
        with Sitting.new(root) as sitting:
            return _write(options, sitting, progress, None).path
    except BaseException as error:
        error.__notes__ = []  # they say how to go on
        raise


def resume(
    path: Path,
    given: Mapping[str, Any],
    progress: Progress,
    *,
    without: Collection[str] = (),
    delivered: bool = False,
    start: Start | None = None,
    page: Page | None = None,
) -> Outcome:
    """Go on with a run that was ended, or run again what failed in one that was finished.

    What is asked of the cluster stays. The rest of the options is `given`; of what the run names
    there, that is to be left out which is in `without` (`plan_file.options_of`). `delivered`: it
    is a copy of a run on an object store, which lacks nothing there. `page` as in `run`.
    """
    before = unfinished.read_plan(path)
    options = plan_file.options_of(before, given, path, without=without)
    _require_snapshot(path, options.snapshot)
    if unfinished.is_finished(path) and not delivered and lacks(path, options):
        return complete(path, options, page)
    key = signing_key(options)
    with Sitting.resumed(path, before) as sitting:
        written = _write(options, sitting, progress, start)
    return completed(written, options, key, page)


def _require_snapshot(run: Path, snapshot: Path | None) -> None:
    """Refuse a snapshot that never ends, as a FIFO: a run's plan may name anything."""
    if snapshot is not None and snapshot.exists() and not (snapshot.is_file() or snapshot.is_dir()):
        raise RunReadError(
            f"{run} says that it was made of {snapshot}, which is neither a file nor a directory; "
            "name the snapshot with --snapshot"
        )


def _write(options: Options, sitting: Sitting, progress: Progress, start: Start | None) -> Outcome:
    """Do everything but render the report."""
    if options.planes == INTENT_ALONE:
        return _write_intent(options, sitting, progress)
    return _write_run(options, sitting, progress, start or _start(options))


def _start(options: Options) -> Start:
    return own_switches.of(options.cluster) if options.cluster is not None else switches.replayed


def _write_run(options: Options, sitting: Sitting, progress: Progress, start: Start) -> Outcome:
    """Trace what is asked, and write what came out."""
    out = sitting.out
    with ExitStack() as stack:
        planned = plan(options, progress, stack)
        content = plan_file.planned(options, planned.state, _engine(planned))
        dependence = _dependence(options, planned)
        reusable = _reusable(options, dependence)
        content["reused"] = _source(reusable, sitting.before)
        journal = sitting.begin(content, options, reusable)
        if planned.cover.tasks and planned.pods is None:  # a pod's ovn-trace is its database's own
            _preflight(options, planned, progress)
        out.write_endpoints(planned.matrix.endpoints)
        out.write_policies(planned.state.policies)
        traced = trace(options, planned, journal, progress, start)
        settled = settle(options, planned, traced, progress)
        traced = settled.traced
        progress.phase("writing", 0)
        judged = _with_intent(options, planned, traced.verdicts, progress)
        verdicts = judged.verdicts
        predicted = composing.predicted(planned.matrix, planned.legs) if planned.legs else None
        logical = verdicts.verdict if verdicts.logical is None else verdicts.logical
        out.write_cells(planned.matrix, replace(verdicts, logical=logical), predicted)
        notes = (
            *planned.notes,
            *traced.notes,
            *_reused(reusable, journal, dependence),
            *_late(options, journal, traced),
            *sitting.clock(),
        )
        counted = Counted.of(verdicts.verdict, verdicts.reason)
        fields = {
            **manifest.describe(
                planned.state,
                counted,
                notes,
                request=_request(options, planned),
                traces=traced.count,
            ),
            **judged.fields(planned.state, traced.findings),
            "outside": _spans(planned.outside),
            **traced.checks,
            "incomplete": traced.incomplete,
            REUSABLE: dependence,
            "reused": content["reused"],
            **sitting.fields(journal),
            "markers": settled.markers,
            "place": _final_path(options, out.path),
            **_openness(exposure.openness(planned.matrix, verdicts)),
        }
        out.finish(fields)
    return _outcome(out.path, fields, counted)


def _dependence(options: Options, planned: Planned) -> dict[str, Any] | None:
    """Return what traces depend on; None where they ran in databases that go on changing."""
    if options.cluster is not None or options.workers is Workers.AGENTS:
        return None
    zones = {z.name: "" if z.torn else z.content for z in planned.state.zones.values()}
    return described(zones, audit=__version__, engine=_engine(planned))


def _reusable(options: Options, dependence: Mapping[str, Any] | None) -> Reusable | None:
    """Return the traces of an earlier run that hold, where one is named."""
    if options.reuse is None or dependence is None:
        return None
    return Reusable.of(options.reuse, dependence)


def _source(reusable: Reusable | None, before: Mapping[str, Any] | None) -> object:
    """Return which run's traces are reused, and where; `before` is the plan that is resumed."""
    if reusable is not None:
        return {"run": reusable.run, "zones": sorted(reusable.zones)}
    return before.get("reused") if before is not None else None


def _reused(
    reusable: Reusable | None, journal: Journal, dependence: Mapping[str, Any] | None
) -> Iterator[Note]:
    """Say what was taken over from an earlier run, or why nothing was."""
    if reusable is None or dependence is None:
        return
    if reusable.obstacle:
        text = f"nothing of run {reusable.run} was reused: {reusable.obstacle}"
    else:
        text = (
            f"{journal.reused:,} traces are those of run {reusable.run}, which ran in "
            f"{len(reusable.zones)} of the {len(dependence['zones'])} zones: their southbound "
            "databases are what they were"
        )
    yield Note(code="reused", text=text, subjects=())


def _outcome(path: Path, fields: Mapping[str, Any], counted: Counted) -> Outcome:
    """Return a run that is written, but for its report."""
    unproven = tuple(sentences.unproven(counted))
    return Outcome(path=path, report=path, manifest=fields, unproven=unproven)


def _spans(outside: Sequence[Range]) -> dict[str, list[list[str]]]:
    """Return the first and last addresses of what ranges hold, by their name, for run.json."""
    return {range_.name: [list(span) for span in range_.spans] for range_ in outside}


def _late(options: Options, journal: Journal, traced: Traced) -> Iterator[Note]:
    """Say that the time was not enough."""
    if traced.incomplete and time.monotonic() >= journal.until:
        text = (
            f"the time limit of {options.time_limit_s:g} s ended the run: what was not traced by "
            "then is unproven; `audit run --resume` goes on with it"
        )
        yield Note(code="time-limit", text=text, subjects=())


def _with_intent(
    options: Options, planned: Planned, verdicts: CellVerdicts, progress: Progress
) -> Judged:
    """Return what OVN said, with what the objects say beside it where they are asked."""
    if PlaneName.INTENT not in options.planes:
        return intent.unasked(planned.state, verdicts)
    return intent.beside(planned.matrix, planned.state, verdicts, progress)


def _write_intent(options: Options, sitting: Sitting, progress: Progress) -> Outcome:
    """Evaluate the policy objects alone: no OVN, no traces, no replies."""
    out = sitting.out
    with ExitStack() as stack:
        intended = intent.plan(options, progress, stack)
        journal = sitting.begin(plan_file.planned(options, intended.state, {}), options)
        judged = intent.alone(intended, progress)
        progress.phase("writing", 0)
        out.write_endpoints(intended.layout.endpoints)
        out.write_policies(intended.state.policies)
        blocks = judged.blocks
        out.write_blocks(blocks)
        fields = {
            **manifest.describe(
                intended.state,
                blocks.counted,
                (*intended.notes, *sitting.clock()),
                request={
                    "command": options.command,
                    "scope": options.scope.describe(),
                    "planes": [str(PlaneName.INTENT)],
                    "cover": "none",
                    "engine": None,
                },
                traces=0,
            ),
            **intent.fields(intended.state, judged.findings),
            "outside": _spans(intended.outside),
            **dict.fromkeys(("prediction", "drift", "packets", "markers")),
            "incomplete": False,
            **sitting.fields(journal),
            "place": _final_path(options, out.path),
            **_openness(exposure.openness_of(blocks)),
        }
        out.finish(fields)
    return _outcome(out.path, fields, blocks.counted)


def _openness(openness: exposure.Openness) -> dict[str, Any]:
    """Return how open the cluster is, for run.json and for who compares many of them."""
    return {
        "pairs": {"total": openness.pairs, "passing": openness.passing},
        "drifting": openness.drifting,
        "exposure": {name: asdict(exposed) for name, exposed in openness.namespaces.items()},
    }


def _final_path(options: Options, path: Path) -> str | None:
    """Return where the run will be, if that is not where it is written."""
    return str(remote.located(options.destination) / path.name) if options.destination else None


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


def _request(options: Options, planned: Planned) -> dict[str, Any]:
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
        "place": planned.engine.where,
    }
