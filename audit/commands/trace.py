"""`audit trace`: one pair, by every tool ovnkube-trace runs, and to the end.

A pair on a port is a plan of one cell. It is traced in the logical plane, and then through the
switches of those nodes that have a part in it.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from audit.cover import requests
from audit.cover.headless import headless
from audit.errors import ClusterError, EngineError
from audit.facts.archive import LARGEST
from audit.facts.live.access import Access
from audit.fanout.base import MakeWorker
from audit.fanout.inline import InlineFanout
from audit.model.datapath import Chassis, Switch
from audit.model.facts import Note
from audit.model.inventory import Difference
from audit.model.policies import Direction
from audit.model.stages import Answer, Ends, Leg, PairTrace, Stage, Tool, strongest
from audit.model.traces import DatapathTask, LogicalTrace, TraceTask
from audit.scope import pair
from audit.trace import typed
from audit.tracing import own_switches, planes, switches
from audit.tracing.detraces import Detraces
from audit.tracing.every_plane import logical_worker
from audit.tracing.options import Progress
from audit.tracing.pair import Destination, TracedPair
from audit.tracing.plan import Planned, read
from audit.tracing.stages import Teller, in_order

MOST_NODES = 24
"""Nodes replayed for one pair: a Service may have a backend on every node there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """What `audit trace` is asked for; `raw` when the tools' own output will be shown."""

    snapshot: Path
    most_unpacked: int = LARGEST
    """Bytes that a packed snapshot may unpack to."""
    names: pair.Names | pair.Words
    ovn_prefix: Path | None = None
    cluster: Access | None = None
    """The live cluster whose pods trace; None: copies of their databases are traced here."""
    detrace: bool = True
    raw: bool = False
    trace_timeout_s: float = 30.0


def trace(options: TraceOptions, progress: Progress) -> tuple[PairTrace, ...]:
    """Trace one pair from a snapshot, on each port meant, in every plane that can be had."""
    with ExitStack() as stack:
        state, engine, pods = read(
            options.snapshot,
            options.ovn_prefix,
            progress,
            stack,
            cluster=options.cluster,
            most_unpacked=options.most_unpacked,
        )
        owners = state.owners()
        services = headless(state, owners)

        def traced(ends: pair.Pair) -> PairTrace:
            matrix = ends.matrix()
            planned = Planned(
                state=state,
                engine=engine,
                matrix=matrix,
                cover=requests.exhaustive(matrix, services),
                legs=(),
                owners=owners,
                notes=state.notes,
                pods=pods,
            )
            progress.phase("tracing", 0)
            run = _PairTrace(options=options, pair=ends, planned=planned, progress=progress)
            return run.trace()

        return tuple(traced(ends) for ends in pair.resolve(state, options.names))


@dataclass(slots=True, kw_only=True)
class _PairTrace:
    """One pair of a cluster, traced plane by plane."""

    options: TraceOptions
    pair: pair.Pair
    planned: Planned
    progress: Progress
    notes: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)

    def trace(self) -> PairTrace:
        """Trace the pair in every plane that can be had."""
        logical, answer = self._logical()
        datapath, other = self._datapath(logical) if logical.key else (None, None)
        decisive = strongest(other, answer)
        assert decisive is not None  # noqa: S101 - the logical plane has an answer
        return PairTrace(
            src=self.pair.src,
            dst=self.pair.dst,
            port=self.pair.port,
            family=self.pair.family,
            answer=decisive,
            logical=answer,
            datapath=other,
            legs=_legs(logical, datapath),
            stages=in_order(self.stages),
            notes=(
                *_of_the_cluster(self.planned.notes),
                *_of_the_pair(self.planned.state.differences, self.pair),
                *self.notes,
            ),
            chosen=self.pair.notes,
        )

    def _run(self, plane: planes.Plane, make: MakeWorker) -> tuple[TracedPair, Answer]:
        """Trace the pair in a plane; of two workers each keeps one end's zone open."""
        in_pods = self.planned.pods is not None
        with InlineFanout(make, workers=2, alone=in_pods) as workers:
            traced = TracedPair(
                pair=self.pair,
                owners=self.planned.owners,
                plane=plane,
                workers=workers,
                progress=self.progress,
            )
            return traced, traced.run()

    def _logical(self) -> tuple[TracedPair, Answer]:
        """Trace the pair through OVN's logical flows."""
        make = logical_worker(self.planned, self.options.trace_timeout_s)
        traced, answer = self._run(planes.logical(self.planned), make)
        teller = Teller(tool=Tool.OVN_TRACE, traced=traced, command=typed.ovn_trace)
        self.stages += teller.stages()
        return traced, answer

    def _datapath(self, logical: TracedPair) -> tuple[TracedPair | None, Answer | None]:
        """Trace the pair through the switches of its nodes; say why when that cannot be."""
        try:
            with ExitStack() as stack:
                chassis = switches.chassis_of(self.planned)
                nodes = _concerned(logical, planes.EntryNodes(self.planned.state, chassis))
                if len(nodes) > MOST_NODES:
                    self.notes.append(
                        f"{len(nodes)} nodes have a part in it, and the switches of "
                        f"{MOST_NODES} were asked"
                    )
                wanted = [each for each in chassis if each.node in nodes[:MOST_NODES]]
                running = self._switches(chassis, wanted, stack)
                plane = planes.datapath(self.planned, running.chassis)
                make = running.tracers(self.planned, self.options.trace_timeout_s)
                traced, answer = self._run(plane, make)
        except (ClusterError, EngineError) as error:
            self.notes.append(f"skipped ofproto/trace and ovn-detrace: {error}")
            return None, None
        command = functools.partial(_command, running.switches)
        teller = Teller(tool=Tool.OFPROTO_TRACE, traced=traced, command=command)
        stages = list(teller.stages())
        self.stages += stages
        if self.options.detrace:
            detraces = Detraces(
                planned=self.planned,
                zone_of={node: switch.chassis.zone for node, switch in running.switches.items()},
                raw=self.options.raw,
            )
            self.stages += detraces.stages(stages)
            self.notes += detraces.notes
        return traced, answer

    def _switches(
        self, chassis: Sequence[Chassis], wanted: Sequence[Chassis], stack: ExitStack
    ) -> switches.Running:
        """Return these switches: where pods trace the cluster's own, else made again here."""
        if self.options.cluster is not None:
            self.progress.phase("asking the nodes' switches", 0)
            running = own_switches.ask(self.options.cluster, chassis, wanted)
        else:
            switches.require(self.planned)
            self.progress.phase("starting the nodes' switches", 0)
            running = switches.started(self.planned, chassis, wanted, stack)
        self.notes += [note.text for note in running.notes]
        return running


_CLUSTER_NOTES = frozenset(
    {
        *("list-missing", "list-forbidden", "changed-meanwhile"),
        *("zone-incomplete", "zone-unreadable", "zone-torn"),
    }
)


def _of_the_cluster(notes: Iterable[Note]) -> Iterator[str]:
    """Yield what is missing of the snapshot; what is said of single pods concerns others."""
    return (note.text for note in notes if note.code in _CLUSTER_NOTES)


def _of_the_pair(differences: Iterable[Difference], ends: pair.Pair) -> Iterator[str]:
    """Yield what OVN and Kubernetes do not agree on about the two ends."""
    for difference in differences:
        if difference.about & {ends.src.key, ends.dst.key} or _met(difference, ends):
            yield difference.text


def _met(difference: Difference, ends: pair.Pair) -> bool:
    """Say whether a difference is about policies on the way between the two ends."""
    for effect in difference.effects:
        subject, peer = ends.src.key, ends.dst.key
        if Direction(effect.direction) is Direction.INGRESS:
            subject, peer = peer, subject
        if subject in effect.pods and (effect.others is None or peer in effect.others):
            return True
    return False


def _concerned(logical: TracedPair, entry: planes.EntryNodes) -> tuple[str, ...]:
    """Return the nodes whose ports a pair's packets enter or leave by, the source's first."""
    ports = [task.microflow.inport for task in logical.tasks.values()]
    traces = (out for out in logical.outcomes.values() if isinstance(out, LogicalTrace))
    ports += [trace.hop.port for trace in traces]
    return tuple(dict.fromkeys(node for port in ports if (node := entry.node(port))))


def _command(running: Mapping[str, Switch], task: TraceTask) -> str:
    """Return what one would type for a trace through a switch."""
    if isinstance(task, DatapathTask) and task.node in running:
        return typed.ofproto_trace(task, running[task.node])
    return repr(task.microflow)


def _legs(logical: TracedPair, datapath: TracedPair | None) -> tuple[Leg, ...]:
    """Return what each plane says of each destination, those only one of them knows included."""
    legs = {to.name: _leg(to, logical=_ends(logical, to)) for to in logical.destinations}
    if datapath is not None:
        for to in datapath.destinations:
            leg = legs.get(to.name) or _leg(to)
            legs[to.name] = replace(leg, datapath=_ends(datapath, to))
    return tuple(legs.values())


def _leg(to: Destination, logical: Ends | None = None) -> Leg:
    return Leg(dst=to.dst, port=to.port, logical=logical, datapath=None)


def _ends(traced: TracedPair, to: Destination) -> Ends:
    return Ends(
        request=traced.answer(to.request.key),
        reply=traced.answer(to.reply.key) if to.reply is not None else None,
        reverse=traced.answer(to.reverse.key) if to.reverse is not None else None,
    )
