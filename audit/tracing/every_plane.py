"""plan → the verdicts of every plane that was asked, compared with each other."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

from audit.fanout.agents import AgentFanout
from audit.fanout.base import Fanout, MakeWorker
from audit.fanout.inline import InlineFanout
from audit.fanout.ray import RayFanout
from audit.model.facts import Note
from audit.model.findings import Finding, FindingKind, of_disagreements
from audit.model.matrix import CellVerdicts, among
from audit.model.options import PlaneName, Workers
from audit.model.traces import TraceTask
from audit.model.verdicts import OPERATIONAL, REASON_CODE
from audit.replay import databases, lean, parts
from audit.trace.local import Copies
from audit.trace.pods import DAEMONS
from audit.trace.tracer import LogicalTracer
from audit.tracing import agents, packets, planes
from audit.tracing.drift import drifted, unheard
from audit.tracing.follow import Tracing, Verified
from audit.tracing.journal import Journal
from audit.tracing.options import Options, Progress
from audit.tracing.plan import Planned
from audit.tracing.switches import OWN, Running, Start, idle, require
from audit.verdict.drift import merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What all planes say together. `findings` are about what does not agree."""

    verdicts: CellVerdicts
    count: int
    checks: Mapping[str, Any]
    """How prediction, verification and the planes came out, for run.json."""
    findings: tuple[Finding, ...]
    incomplete: bool
    """A cell, or a reply, is untraced because the run did not do what it set out to."""
    notes: tuple[Note, ...] = ()
    """What the report says of the planes."""


def trace(
    options: Options,
    planned: Planned,
    journal: Journal,
    progress: Progress,
    start: Start,
) -> Traced:
    """Trace every plane that is asked, as far as the journal's time allows."""
    replayed = planned.pods is None and options.workers is not Workers.AGENTS
    if PlaneName.DATAPATH in options.planes and replayed:
        require(planned)
    logical = Tracing(options, planned, planes.logical(planned), journal, progress)
    with ExitStack() as stack:
        workers = stack.enter_context(_fanout(options, planned, journal.until))
        logical.run(workers)
        if not isinstance(workers, AgentFanout):
            stack.close()  # others trace the datapath
        traced = _one_plane(logical)
        if PlaneName.DATAPATH in options.planes and planned.cover.tasks:
            below = _datapath(options, planned, journal, progress, start, workers)
            traced = _both_planes(planned, logical, traced, below)
    return replace(traced, notes=(*traced.notes, *retraced(workers.retraced)))


def retraced(count: int) -> Iterator[Note]:
    """Say that workers died, where others traced what they had: so many batches."""
    if count:
        text = (
            "1 batch of traces was traced again by another worker, as the one that had it died"
            if count == 1
            else f"{count:,} batches of traces were traced again by other workers, as those that "
            "had them died"
        )
        yield Note(code="worker-died", text=text)


def _both_planes(planned: Planned, logical: Tracing, alone: Traced, below: "_Below") -> Traced:
    """Return both planes, compared; `alone` is what the logical plane says by itself."""
    datapath, sent = below.tracing, below.sent
    verdicts = merged(alone.verdicts, below.verdicts)
    drift = drifted(planned.matrix, verdicts, logical, datapath)
    return Traced(
        verdicts=verdicts,
        count=alone.count + datapath.count,
        checks={
            **alone.checks,
            "datapath": {
                "traces": datapath.count,
                "verify": datapath.checks()["verify"],
                "place": below.running.location or None,
            },
            "drift": drift.fields(),
            "packets": sent.fields() if sent is not None else None,
        },
        findings=(
            *alone.findings,
            *datapath.findings(),
            *drift.findings(),
            *(of_disagreements(FindingKind.PACKETS, sent.disagreements) if sent else ()),
        ),
        incomplete=alone.incomplete or _incomplete(datapath, below.verdicts),
        notes=(
            *alone.notes,
            *datapath.notes(),
            *below.running.notes,
            *unheard(alone.verdicts, below.verdicts),
        ),
    )


def _one_plane(logical: Tracing) -> Traced:
    verdicts = logical.cells()
    return Traced(
        verdicts=verdicts,
        count=logical.count,
        checks={**logical.checks(), "datapath": None, "drift": None, "packets": None},
        findings=logical.findings(),
        incomplete=_incomplete(logical, verdicts),
        notes=logical.notes(),
    )


def _incomplete(traced: Tracing, verdicts: CellVerdicts) -> bool:
    """Say whether a cell, or a reply, is untraced because the run did not do what it set out to."""
    operational = [REASON_CODE[reason] for reason in OPERATIONAL]
    return bool(among(verdicts.reason, operational).any()) or bool(traced.lost_replies())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Below:
    """The datapath plane, and what became of real packets if any were sent."""

    tracing: Tracing
    verdicts: CellVerdicts
    running: Running
    sent: Verified | None = None


def _datapath(
    options: Options,
    planned: Planned,
    journal: Journal,
    progress: Progress,
    start: Start,
    workers: Fanout,
) -> "_Below":
    """Trace the datapath plane, through switches that run for as long as it takes.

    Agents, if they are the `workers`, have their own.
    """
    with ExitStack() as stack:
        at_agents = workers if isinstance(workers, AgentFanout) else None
        late = time.monotonic() >= journal.until
        if late:
            running = idle(planned)
        elif at_agents is not None:
            running = idle(planned, OWN)
        else:
            running = start(planned, progress, stack)
        plane = planes.datapath(planned, running.chassis, _sending(running, journal))
        traced = Tracing(options, planned, plane, journal, progress)
        timeout_s = options.trace_timeout_s
        if at_agents is not None:
            at_agents.turn(agents.switch_workers(planned, running.chassis, timeout_s))
            traced.run(at_agents)
        else:
            make = running.tracers(planned, timeout_s)
            traced.run(stack.enter_context(_inline(options, planned, make, journal.until)))
        verdicts = traced.cells()
        if not options.verify_packets or time.monotonic() >= journal.until:
            return _Below(tracing=traced, verdicts=verdicts, running=running)
        progress.phase("sending packets", 0)
        left_s = min(journal.until - time.monotonic(), PACKETS_TIMEOUT_S)
        count = options.verify_packets
        sent = packets.verify(planned, running, verdicts, count, timeout_s=left_s)
    return _Below(tracing=traced, verdicts=verdicts, running=running, sent=sent)


def _sending(running: Running, journal: Journal) -> planes.Send | None:
    """Return what sends packets: through switches that are replayed, never a cluster's own."""
    if running.location == OWN or running.reach is not None or not running.switches:
        return None

    def send(tasks: Sequence[TraceTask]) -> Mapping[str, bool]:
        left_s = min(journal.until - time.monotonic(), PACKETS_TIMEOUT_S)
        return packets.arrivals(tasks, running.switches, timeout_s=left_s)

    return send


def logical_worker(planned: Planned, timeout_s: float) -> Callable[[], LogicalTracer]:
    """Return what makes a tracer, here or in another process; of pods, here only."""
    if planned.pods is not None:
        return functools.partial(
            LogicalTracer, transport=planned.pods, daemons=DAEMONS, timeout_s=timeout_s
        )
    zones = planned.state.zones.values()
    copies = Copies(
        programs=planned.engine,
        serve=functools.partial(databases.serve, planned.engine, copy=lean.copy),
        databases={zone.name: zone.southbound for zone in zones},
        divide=parts.divide,
    )
    largest = max((path.stat().st_size for path in copies.databases.values()), default=0)
    return functools.partial(
        LogicalTracer,
        transport=copies,
        zones=max(OPEN_BYTES // max(largest, 1), 1),
        timeout_s=timeout_s,
    )


OPEN_BYTES = 8 << 20
"""Southbound databases that a worker has open at a time, if not a single one: a server and two
daemons each, of some ten times its size."""
PACKETS_TIMEOUT_S = 600.0
"""How long packets are sent; of cells whose packets are not sent by then that is said."""
PODS_AT_ONCE = 8
"""Pods that trace at a time, one stream and a thread that waits for it each."""
WORTH_RAY = 10_000
"""Requests from which Ray's start, some six seconds, is won back: what threads of one process do
besides the daemons, they do one after the other."""


def in_processes(options: Options, *, requests: int) -> bool:
    """Say whether so many requests on copies are traced by Ray's processes."""
    if options.workers is None:
        return requests >= WORTH_RAY and options.worker_count > 1
    return options.workers is Workers.RAY


def _fanout(options: Options, planned: Planned, until: float) -> AbstractContextManager[Fanout]:
    if options.workers is Workers.AGENTS:
        return AgentFanout(
            agents.workers(options.trace_timeout_s),
            zones={task.zone for task in planned.cover.tasks},
            listen=options.agents_listen,
            wait_s=options.agents_wait_s,
            address=os.environ.get("RAY_ADDRESS", ""),
            until=until,
        )
    make = logical_worker(planned, options.trace_timeout_s)
    if planned.pods is None and in_processes(options, requests=len(planned.cover.tasks)):
        return RayFanout(make, workers=options.worker_count, until=until)
    return _inline(options, planned, make, until)


def _inline(options: Options, planned: Planned, make: MakeWorker, until: float) -> InlineFanout:
    """Return what traces with threads of this process: in pods one in each, in a few at a time."""
    if planned.pods is not None:
        return InlineFanout(make, workers=PODS_AT_ONCE, until=until, alone=True)
    return InlineFanout(make, workers=options.worker_count, until=until)
