"""A trace per cell by the audit's own tracer: what an ovn-trace daemon takes for one."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from audit.model.packets import REQUEST_SOURCE_PORT, ConntrackState, Microflow, Protocol
from audit.model.tasks import keyed
from audit.model.traces import LogicalTrace, TraceBatch, TraceTask
from audit.replay import databases
from audit.replay.toolchain import Toolchain
from audit.trace.local import Copies
from audit.trace.tracer import LogicalTracer
from bench import pairs
from bench.pairs import PORT, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How fast a daemon answers, and how many of its answers a cell takes."""

    start_s: float
    """Per zone: serving the database, starting the daemon, its first answer."""
    trace_s: float
    hops_per_cell: float

    @property
    def cells_per_s(self) -> float:
        """Cells that daemons on one core decide in a second."""
        return 1 / (self.trace_s * self.hops_per_cell)


def measure(sampled: Sequence[Pair], snapshot: Path, programs: Toolchain) -> Measured:
    """Trace the first hop of every pair, zone by zone."""
    zones: dict[str, list[TraceTask]] = defaultdict(list)
    for pair in sampled:
        zones[pair.src.node.name].append(_task(pair))
    files = {zone: snapshot / "ovn" / zone / "sb.db" for zone in zones}
    start = running = 0.0
    serve = partial(databases.serve, programs)
    copies = Copies(programs=programs, serve=serve, databases=files)
    with LogicalTracer(transport=copies) as tracer:
        for zone, tasks in zones.items():
            began = time.monotonic()
            _trace(tracer, zone, tasks[:1])
            warm = time.monotonic()
            _trace(tracer, zone, tasks)
            start += warm - began
            running += time.monotonic() - warm
    return Measured(
        start_s=start / len(zones),
        trace_s=running / len(sampled),
        hops_per_cell=1 + sum(not pair.same_node for pair in sampled) / len(sampled),
    )


def _trace(tracer: LogicalTracer, zone: str, tasks: Sequence[TraceTask]) -> None:
    for outcome in tracer.run(TraceBatch(zone=zone, tasks=tuple(tasks))):
        if not isinstance(outcome, LogicalTrace):
            raise RuntimeError(f"a trace failed: {outcome}")  # noqa: TRY004 - not a wrong type


def _task(pair: Pair) -> TraceTask:
    """Return the first trace of a new connection."""
    router = pairs.mac(pair.dst) if pair.same_node else pairs.router_mac(pair.src.node)
    flow = Microflow(
        inport=pair.src.port,
        eth_src=pairs.mac(pair.src),
        eth_dst=router,
        ip_src=pair.src.addresses[0],
        ip_dst=pair.dst.addresses[0],
        protocol=Protocol.TCP,
        src_port=REQUEST_SOURCE_PORT,
        dst_port=PORT,
    )
    return keyed(
        TraceTask(
            key="",
            zone=pair.src.node.name,
            state=ConntrackState.REQUEST,
            microflow=flow,
            target=pair.dst.port,
        )
    )
