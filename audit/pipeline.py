"""facts → plan → traces → verdicts → store → report: the only module that knows the order.

Each public function is one command's work. They raise AuditError with a sentence for the user,
and leave nothing half-written: a run directory becomes a run when `run.json` is in it, last.
"""

import datetime as dt
import functools
import hashlib
import importlib.util
import os
import secrets
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audit import __version__
from audit.errors import AuditError, EngineError, ExitCode, OutputError
from audit.facts import assemble
from audit.fanout.base import Fanout
from audit.fanout.inline import InlineFanout
from audit.fanout.ray import RayFanout
from audit.model.endpoints import Endpoint
from audit.model.facts import ClusterState, Note
from audit.model.legs import LegPlan
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.run import TraceRecord
from audit.model.traces import TraceBatch, TraceOutcome, TraceTask
from audit.model.verdicts import OPERATIONAL, REASON_CODE
from audit.plan import batches, cover, expand, legs, matrix, ports, represent
from audit.plan.headless import Headless, headless
from audit.plan.scope import Scope
from audit.replay import databases, toolchain
from audit.report import cells, lookup, render, sentences
from audit.report import explain as explaining
from audit.store import manifest, reader, writer
from audit.store import query as querying
from audit.store.encode import Planes
from audit.trace.microflow import expression
from audit.trace.tracer import LogicalTracer
from audit.verdict import compose, records
from audit.verdict import legs as composing
from audit.verdict.arrivals import Arrival, Arrivals
from audit.verdict.blame import Blamer
from audit.verdict.hops import NextHops
from audit.verdict.judge import Judge, Judgement, forked


class Workers(StrEnum):
    """Where traces run."""

    RAY = "ray"
    INLINE = "inline"


class Covering(StrEnum):
    """Which cells are traced, and how the others follow (docs/cover.md)."""

    LEGS = "legs"
    EXHAUSTIVE = "exhaustive"
    PREDICT = "predict"


class Progress(Protocol):
    """Told what is going on, for whoever watches."""

    def phase(self, name: str, total: int) -> None:
        """Begin a phase of `total` steps; 0 when they cannot be counted."""
        ...

    def advance(self, steps: int) -> None:
        """Say that `steps` more are done."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `audit run` and `audit plan` are asked for."""

    snapshot: Path
    scope: Scope
    ovn_prefix: Path | None = None
    workers: Workers | None = None
    """None: Ray, when there is enough to trace to be worth its start."""
    worker_count: int = field(default_factory=lambda: os.cpu_count() or 1)
    trace_timeout_s: float = 30.0
    cover: Covering = Covering.LEGS
    verify: int = 50
    """Composed cells, drawn at random, that are traced end to end and compared."""
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A cluster read and a scope expanded: everything up to the first trace."""

    state: ClusterState
    engine: toolchain.Toolchain
    matrix: Matrix
    cover: cover.Cover
    legs: tuple[LegPlan, ...]
    """How the cells without a request of their own are composed."""
    owners: Mapping[str, Endpoint]
    """Who has which address."""
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run: where it is, what it says, and the exit code it deserves."""

    path: Path
    report: Path
    manifest: Mapping[str, Any]
    unproven: tuple[str, ...]
    """A sentence per reason for cells that are not proven."""
    exit_code: ExitCode


def plan(options: Options, progress: Progress, stack: ExitStack) -> Planned:
    """Read the cluster, expand the scope and choose the traces; nothing is traced.

    The staged databases live until `stack` is closed.
    """
    candidates = toolchain.find(options.ovn_prefix)
    newest = max(candidates, key=lambda found: found.version, default=None)
    if newest is None:
        toolchain.choose(candidates, {})  # raises, with what to install
    assert newest is not None  # noqa: S101 - choose() raised
    progress.phase("reading the snapshot", 0)
    workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-facts-")))
    state = assemble.load(options.snapshot, workdir, databases.OvsdbTool(programs=newest))
    versions = {zone.name: zone.northd_version for zone in state.zones.values()}
    engine = toolchain.choose(candidates, versions)
    progress.phase("planning", 0)
    sides = expand.sources_and_destinations(state, options.scope)
    resolved = ports.resolve(options.scope.ports, sides.endpoints, sides.destinations.tolist())
    built = matrix.build(sides.endpoints, sides.blocks, resolved, options.scope.family.families)
    owners = _owners(state)
    decomposed = legs.NONE
    if options.cover is not Covering.EXHAUSTIVE:
        decomposed = legs.legs(built.matrix, state.zones)
    return Planned(
        state=state,
        engine=engine,
        matrix=built.matrix,
        cover=_cover(options.cover, built.matrix, decomposed.plans, headless(state, owners)),
        legs=decomposed.plans,
        owners=owners,
        notes=(*state.notes, *_unknown_versions(versions), *built.notes(), *decomposed.notes),
    )


def _cover(
    covering: Covering, of: Matrix, plans: Sequence[LegPlan], names: Headless
) -> cover.Cover:
    """Choose the requests: for every cell, for what legs need, or for none."""
    match covering:
        case Covering.EXHAUSTIVE:
            return cover.exhaustive(of, names)
        case Covering.PREDICT:
            return cover.predict_only(of)
        case Covering.LEGS:
            asked = np.ones(len(of), dtype=np.bool_)
            for plan in plans:
                asked[plan.composed] = False
            for plan in plans:
                asked[represent.choose(of, plan)] = True
            return replace(cover.exhaustive(of, names, only=asked), name=str(covering))


def _unknown_versions(versions: Mapping[str, str]) -> Iterator[Note]:
    """Say which zones do not tell which OVN made them: their engine could not be checked."""
    silent = tuple(sorted(zone for zone, version in versions.items() if not version))
    if silent:
        text = (
            f"{len(silent)} zones do not say which ovn-northd made them; the newest OVN at hand "
            "was used, and what it could not parse was counted"
        )
        yield Note(code="northd-version-unknown", text=text, subjects=silent)


def run(options: Options, root: Path, progress: Progress) -> Outcome:
    """Audit a cluster: trace every cell in scope and write a run below `root`."""
    started = _now()
    with ExitStack() as stack:
        planned = plan(options, progress, stack)
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        out = writer.RunWriter(root, run_id)
        try:
            if planned.cover.tasks:
                _preflight(options, planned, progress)
            out.write_endpoints(planned.matrix.endpoints)
            out.write_policies(planned.state.policies)
            traced = _Tracing(options, planned, out, progress)
            with _fanout(options, planned) as workers:
                traced.run(workers)
            progress.phase("writing", 0)
            verdicts = traced.cells()
            out.write_cells(planned.matrix, verdicts, traced.planes(verdicts))
            said = manifest.describe(
                planned.state,
                verdicts,
                planned.notes,
                asked=_asked(options, planned),
                traces=traced.count,
            )
            said |= traced.checks() | {
                "run_id": run_id,
                "started": _text(started),
                "finished": _text(_now()),
            }
            out.finish(said)
        except BaseException:
            out.abandon()
            raise
    report = write_report(out.path)
    return Outcome(
        path=out.path,
        report=report,
        manifest=said,
        unproven=tuple(sentences.unproven(verdicts)),
        exit_code=ExitCode.FINDINGS if traced.disagreements else _exit_code(verdicts),
    )


def write_report(path: Path) -> Path:
    """Render the report of the run at `path` into it; return where it is."""
    target = path / "report.html"
    text = render.render_html(reader.open_run(path))
    unfinished = target.with_suffix(".html.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    return target


def _preflight(options: Options, planned: Planned, progress: Progress) -> None:
    """Refuse an engine that cannot read the databases, before anything is traced.

    Versions were compared already. That a logical flow does not parse is the other sign of an
    engine that is too old; zones of one version have the same kinds of flows, so one of each is
    tried here, and every worker looks again.
    """
    progress.phase("checking the engine", 0)
    samples = {zone.northd_version: zone for zone in planned.state.zones.values()}
    with _worker(options, planned)() as tracer:
        for zone in samples.values():
            unparsed = tracer.unparsed(zone.name)
            if unparsed.flows:
                raise EngineError(
                    f"ovn-trace {planned.engine.version} cannot parse {unparsed.flows} logical "
                    f"flows of zone {zone.name} (such as {unparsed.example!r}), so nothing was "
                    f"traced; install a newer OVN with `{toolchain.INSTALL_COMMAND}`, or name "
                    "one with --ovn-prefix"
                )


def _worker(options: Options, planned: Planned) -> Callable[[], LogicalTracer]:
    """Return what makes a tracer, here or in another process."""
    zones = planned.state.zones.values()
    return functools.partial(
        LogicalTracer,
        programs=planned.engine,
        serve=functools.partial(databases.serve, planned.engine),
        databases={zone.name: zone.southbound for zone in zones},
        timeout_s=options.trace_timeout_s,
    )


WORTH_RAY = 20_000
"""Requests from which Ray's start, some six seconds, is won back by a second core."""


def _fanout(options: Options, planned: Planned) -> AbstractContextManager[Fanout]:
    make = _worker(options, planned)
    large = len(planned.cover.tasks) >= WORTH_RAY and options.worker_count > 1
    if options.workers is Workers.RAY or (options.workers is None and large):
        return RayFanout(make, workers=options.worker_count)
    return InlineFanout(make)


MOST_ROUNDS = 5
"""How often legs that turn out unshown are asked for again; each round shows what it asks."""

MOST_SAID = 50
"""Disagreements written out in run.json; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How many composed cells a trace of their own confirmed, and a sentence for each other."""

    agree: int
    of: int
    disagreements: tuple[str, ...]


class _Tracing:
    """Runs a cover to its end: requests, the hops they lead to, then the replies.

    Raw text goes to disk as batches finish; what stays is one small judgement per trace.
    """

    def __init__(
        self, options: Options, planned: Planned, out: writer.RunWriter, progress: Progress
    ) -> None:
        self._options = options
        self.count = 0
        """How many traces were run."""
        self._planned = planned
        self._out = out
        self._progress = progress
        self._judge = Judge(
            blamer=Blamer.of(planned.state.zones, planned.state.policies),
            hops=NextHops(zones=planned.state.zones, owners=planned.owners),
        )
        self._judgements: dict[str, Judgement] = {}
        self._replies: dict[str, list[str]] = defaultdict(list)
        """The replies to each request."""
        self._replied: dict[str, set[str]] = defaultdict(set)
        """The traces that each reply answers."""

        self._cover = planned.cover
        self._requests = [composing.LegResults(plan) for plan in planned.legs]
        self._answers = [composing.LegResults(plan, replies=True) for plan in planned.legs]
        self._learned = np.zeros(len(planned.matrix), dtype=np.bool_)
        self._verified = Verified(agree=0, of=0, disagreements=())

    def run(self, workers: Fanout) -> None:
        """Trace everything; failures are outcomes."""
        self._seed(self._cover.forks)
        self._trace("tracing requests", self._cover.tasks, workers)
        if self._cover.tasks:
            self._show_legs(workers)
            self._verify(workers)
        self._trace("tracing replies", self._reply_tasks(), workers)
        if self._cover.tasks:
            self._show_reply_legs(workers)

    def cells(self) -> CellVerdicts:
        """Compose the judgements into the verdict of every cell."""
        requests = compose.Requests(
            keys=self._cover.keys,
            request=self._cover.request,
            settled=self._cover.settled,
            replies=self._replies,
        )
        traced = compose.cells(requests, self._judgements)
        if not self._cover.tasks:
            return traced
        return composing.compose(self._planned.matrix, traced, self._requests, self._answers)

    def planes(self, verdicts: CellVerdicts) -> Planes:
        """Return what each plane says of each cell, for the store."""
        predicted = composing.predicted(self._planned.matrix, self._planned.legs)
        return Planes(logical=verdicts.verdict, predicted=predicted if self._planned.legs else None)

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Sentences about traces that contradict a prediction or a composed cell."""
        compared = [known.compare() for known in self._requests]
        return (*(s for one in compared for s in one.disagreements), *self._verified.disagreements)

    def checks(self) -> dict[str, Any]:
        """Return how prediction and verification came out, for run.json."""
        compared = [known.compare() for known in self._requests]
        wrong = [sentence for one in compared for sentence in one.disagreements]
        prediction = {
            "agree": sum(one.agree for one in compared),
            "of": sum(one.of for one in compared),
            "disagreements": wrong[:MOST_SAID],
        }
        verify = {
            "agree": self._verified.agree,
            "of": self._verified.of,
            "disagreements": list(self._verified.disagreements[:MOST_SAID]),
        }
        return {
            "prediction": prediction if self._requests and self._cover.tasks else None,
            "verify": verify if self._verified.of else None,
        }

    def _show_legs(self, workers: Fanout) -> None:
        """Learn what the traces show, and trace what is still missing."""
        self._learn()
        for _ in range(MOST_ROUNDS):
            missing = composing.unknown(self._requests, self._planned.matrix)
            missing = missing[self._cover.request[missing] < 0]
            if not missing.size:
                return
            self._ask("tracing missing legs", missing, workers)
            self._learn()

    def _ask(self, name: str, cells: NDArray[np.int64], workers: Fanout) -> None:
        """Trace these cells too."""
        known = {task.key for task in self._cover.tasks}
        self._cover = cover.extended(self._cover, self._planned.matrix, cells)
        fresh = [task for task in self._cover.tasks if task.key not in known]
        self._trace(name, fresh, workers)

    def _learn(self) -> None:
        """Note what the traces since the last time show of their cells' legs."""
        for known in self._requests:
            fresh = known.plan.composed & (self._cover.request >= 0) & ~self._learned
            cells = np.flatnonzero(fresh)
            keys = [self._cover.tasks[i].key for i in self._cover.request[cells].tolist()]
            known.learn_from(self._planned.matrix, cells, keys, self._judgements)
            self._learned |= fresh

    def _verify(self, workers: Fanout) -> None:
        """Trace some composed cells end to end, and compare what comes with what was composed."""
        of = self._planned.matrix
        untraced = self._cover.request < 0
        among = np.flatnonzero(
            untraced & np.logical_or.reduce([known.plan.composed for known in self._requests])
        )
        # The same snapshot and scope draw the same cells: a run can be repeated.
        seed = "".join(file.sha256 for file in self._planned.state.inputs).encode()
        draw = np.random.default_rng(list(hashlib.blake2b(seed, digest_size=16).digest()))
        count = min(self._options.verify, len(among))
        cells = np.sort(draw.choice(among, size=count, replace=False)) if count else among[:0]
        composed = [(known, known.plan.composed[cells]) for known in self._requests if cells.size]
        self._ask("verifying", cells, workers)
        wrong = []
        for known, own in composed:
            for cell in cells[own].tolist():
                task = self._cover.tasks[self._cover.request[cell]]
                found = compose.decide(task.key, self._judgements)
                expected = known.decision(of, cell)
                if not composing.same(expected, found):
                    wrong.append(
                        f"{of.endpoints[of.src[cell]].key} to {of.endpoints[of.dst[cell]].key} "
                        f"on {of.ports[of.port[cell]]}: composed {expected.verdict} "
                        f"({expected.blame}), traced {found.verdict} ({found.blame})"
                    )
        self._verified = Verified(
            agree=len(cells) - len(wrong), of=len(cells), disagreements=tuple(wrong)
        )

    def _show_reply_legs(self, workers: Fanout) -> None:
        """Trace the replies that show each leg replies have."""
        of = self._planned.matrix
        for _ in range(MOST_ROUNDS):
            cells = composing.unknown_replies(self._answers, self._requests, of)
            asked: dict[int, TraceTask] = {}
            for cell in cells.tolist():
                src, dst = of.endpoints[of.src[cell]], of.endpoints[of.dst[cell]]
                family, port = FAMILIES[of.family[cell]], of.ports[of.port[cell]]
                request = cover.request_for(src, dst, family, port)
                asked[cell] = cover.reply_for(request, src, dst)
                self._replied[asked[cell].key].add(request.key)
            fresh = {t.key: t for t in asked.values() if t.key not in self._judgements}
            if not fresh:
                return
            self._trace("tracing replies", list(fresh.values()), workers)
            for known in self._answers:
                own = np.array([c for c in asked if known.plan.composed[c]], dtype=np.int64)
                keys = [asked[cell].key for cell in own.tolist()]
                known.learn_from(of, own, keys, self._judgements)

    def _seed(self, forks: Sequence[cover.Fork]) -> None:
        """Judge the requests that are no packets: their legs, which are traced, decide."""
        for fork in forks:
            self._judgements[fork.key] = forked(fork.legs)
        if forks:
            judged = [(fork.key, self._judgements[fork.key]) for fork in forks]
            self._out.write_traces("forks", [records.fork_record(*one) for one in judged])

    def _trace(self, name: str, tasks: Sequence[TraceTask], workers: Fanout) -> None:
        """Run tasks and the hops they lead to, round by round until none is left."""
        while tasks:
            self._progress.phase(name, len(tasks))
            onward: dict[str, TraceTask] = {}
            for batch, outcomes in workers.run(batches.cut(tasks)):
                rows = []
                for task, outcome in zip(batch.tasks, outcomes, strict=True):
                    judgement = self._judge.judge(task, outcome)
                    self._judgements[task.key] = judgement
                    onward.update((hop.key, hop) for hop in judgement.next_hops)
                    rows.append(self._record(task, outcome, judgement))
                self._out.write_traces(_batch_name(batch), rows)
                self._progress.advance(len(batch.tasks))
                self.count += len(batch.tasks)
            tasks = [task for key, task in onward.items() if key not in self._judgements]
            name = f"{name.removesuffix(', next hops')}, next hops"

    def _reply_tasks(self) -> list[TraceTask]:
        """Return the reply to every request that arrived, each once."""
        plan, matrix_, owners = self._cover, self._planned.matrix, self._planned.owners
        arrivals = Arrivals(
            judgements=self._judgements,
            owners=owners,
            decisions=compose.Decisions(self._judgements),
        )
        tasks: dict[str, TraceTask] = {}
        requests = (*plan.tasks, *plan.forks)
        traced, first = np.unique(plan.request, return_index=True)
        for index, cell in zip(traced.tolist(), first.tolist(), strict=True):
            composed = any(known.plan.composed[cell] for known in self._requests)
            # Replies of composed cells have legs of their own, traced afterwards.
            if index < 0 or composed or not arrivals.passed(requests[index].key):
                continue
            request = requests[index]
            src = matrix_.endpoints[matrix_.src[cell]]
            if isinstance(request, cover.Fork):
                legs = [(leg, owners.get(leg.microflow.ip_dst)) for leg in request.legs]
            else:
                legs = [(request, matrix_.endpoints[matrix_.dst[cell]])]
            for leg, dst in legs:
                for arrival in arrivals.of(leg, src, dst):
                    reply = self._reply(request.key, src, arrival)
                    if reply is not None:
                        tasks[reply.key] = reply
        return list(tasks.values())

    def _reply(self, request: str, src: Endpoint, arrival: Arrival) -> TraceTask | None:
        """Return the reply to one arrival, and note whose it is."""
        if arrival.receiver is None:
            self._replies[request].append(compose.NOT_TRACEABLE)
            return None
        reply = cover.reply_for(arrival.task, src, arrival.receiver)
        self._replies[request].append(reply.key)
        self._replied[reply.key].add(arrival.task.key)
        return reply

    def _record(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> TraceRecord:
        return records.record(
            task,
            outcome,
            judgement,
            microflow=_said(task),
            reply_of=tuple(sorted(self._replied.get(task.key, ()))),
        )


def _said(task: TraceTask) -> str:
    """Return a task's microflow as `ovn-trace` takes it; as data where it cannot be said."""
    try:
        return expression(task.microflow)
    except ValueError:
        return repr(task.microflow)


def _batch_name(batch: TraceBatch) -> str:
    """Name a batch by its content, so that running it again replaces its file."""
    digest = hashlib.blake2b(digest_size=8)
    for task in batch.tasks:
        digest.update(task.key.encode())
    return digest.hexdigest()


def _owners(state: ClusterState) -> dict[str, Endpoint]:
    """Map addresses to who has them: pods by their own, nodes by the host's."""
    owners = {address: node for node in state.nodes for address in node.addresses}
    for pod in state.pods:
        if not pod.host_network:
            owners.update(dict.fromkeys(pod.addresses, pod))
    return owners


def _asked(options: Options, planned: Planned) -> dict[str, Any]:
    """Return what was asked, and of which engine, for run.json."""
    return {
        "command": options.command,
        "scope": options.scope.describe(),
        "planes": [records.PLANE],
        "cover": planned.cover.name,
        "engine": {
            "name": "ovn-trace",
            "version": str(planned.engine.version),
            "place": planned.engine.place,
        },
    }


def _exit_code(verdicts: CellVerdicts) -> ExitCode:
    """Return 3 when a cell is untraced because the run did not do what it set out to."""
    operational = [REASON_CODE[reason] for reason in OPERATIONAL]
    incomplete = np.isin(verdicts.reason, operational).any()
    return ExitCode.INCOMPLETE if incomplete else ExitCode.CLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One cell: as text for people, as fields for programs."""

    text: str
    fields: Mapping[str, Any]


def explain(
    path: Path, src: str, dst: str, port: str, *, family: str | None, raw: bool
) -> Explained:
    """Say what the run at `path` knows about one cell."""
    finished = reader.open_run(path)
    cell = lookup.find_cell(finished, src, dst, port, family)
    return Explained(
        text=explaining.explain(finished, cell) + (cells.raw_text(finished, cell) if raw else ""),
        fields=cells.fields(finished, cell, raw=raw),
    )


query = querying.query


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing `audit doctor` looked at."""

    good: bool
    text: str

    def fields(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"good": self.good, "text": self.text}


def install_engine(prefix: Path | None, *, progress: Callable[[str], None]) -> toolchain.Toolchain:
    """Install a private OVN, at its default place unless one is named."""
    return toolchain.install(prefix or toolchain.default_prefix(), progress=progress)


def examine(prefix: Path | None, snapshot: Path | None) -> list[Finding]:
    """Look for everything a run needs here, and at a snapshot if one is named."""
    findings = [Finding(good=True, text=f"audit {__version__} on Python {sys.version.split()[0]}")]
    try:
        candidates = toolchain.find(prefix)
    except EngineError as error:
        return [*findings, Finding(good=False, text=str(error))]
    findings += [
        Finding(good=True, text=f"OVN {found.version} in {found.place}") for found in candidates
    ]
    if not candidates:
        findings.append(Finding(good=False, text=_said_by(toolchain.choose, candidates, {})))
    if importlib.util.find_spec("ray") is None:
        text = "Ray is not installed, so --workers ray is not available; pip install ray"
        findings.append(Finding(good=False, text=text))
    if snapshot is not None and candidates:
        findings.append(_examine_snapshot(candidates, snapshot))
    return findings


def _examine_snapshot(candidates: Sequence[toolchain.Toolchain], snapshot: Path) -> Finding:
    """Say whether a snapshot can be read and traced by one of these."""
    newest = max(candidates, key=lambda found: found.version)
    try:
        with tempfile.TemporaryDirectory(prefix="audit-facts-") as workdir:
            tool = databases.OvsdbTool(programs=newest)
            state = assemble.load(snapshot, Path(workdir), tool)
        versions = {zone.name: zone.northd_version for zone in state.zones.values()}
        engine = toolchain.choose(candidates, versions)
    except AuditError as error:
        return Finding(good=False, text=str(error))
    made_by = ", ".join(sorted(set(versions.values())))
    return Finding(
        good=True,
        text=f"{snapshot}: {len(versions)} zones made by ovn-northd {made_by}, {len(state.pods)} "
        f"pods; OVN {engine.version} in {engine.place} would trace it",
    )


def _said_by(function: Callable[..., Any], *arguments: Any) -> str:  # noqa: ANN401
    """Return the sentence with which a function refuses."""
    try:
        function(*arguments)
    except AuditError as error:
        return str(error)
    return ""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _text(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="seconds")
