"""A plane: the traces that decide the cells, where they are run, and who judges them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from audit.cover import per_node, represent
from audit.cover import requests as cover
from audit.cover.contradictions import Contradictions
from audit.model.datapath import Chassis
from audit.model.facts import ClusterState
from audit.model.legs import LegPlan
from audit.model.options import Covering
from audit.model.services import ServiceCells
from audit.model.tasks import keyed
from audit.model.traces import DatapathTask, TraceTask
from audit.tracing.plan import Planned
from audit.verdict import records
from audit.verdict.blame import Blamer
from audit.verdict.blindness import Blindness
from audit.verdict.hops import NextHops
from audit.verdict.judge import Judge
from audit.verdict.tunnels import Tunnels
from audit.verdict.underlay import Underlay

MOST_CELLS_EACH = 4_000
"""Cells up to which every one is traced on the datapath, in some ten seconds. There a fault can
be of a single address on a single node, which no other packet shows."""


Send = Callable[[Sequence[TraceTask]], Mapping[str, bool]]
"""Sends the packets of requests: says by key which came to their target, and which nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """What `Tracing` runs. `locate` says where a packet's trace is run.

    `send` decides what no trace can, where packets can be sent.
    """

    name: str
    cover: cover.Cover
    legs: tuple[LegPlan, ...]
    judge: Judge
    locate: Callable[[TraceTask], TraceTask]
    send: Send | None = None
    services: tuple[ServiceCells, ...] = ()


def logical(planned: Planned) -> Plane:
    """Return the plane of OVN's logical flows, as it was planned."""
    return Plane(
        name=records.LOGICAL,
        cover=planned.cover,
        legs=planned.legs,
        services=planned.services,
        judge=_judge(planned, ()),
        locate=lambda task: task,
    )


def datapath(planned: Planned, chassis: Sequence[Chassis], send: Send | None = None) -> Plane:
    """Return the plane of the nodes' Open vSwitches, and what sends packets through them, if any.

    Its flows are each node's own: every cell is traced where there are few enough, and where there
    are not, every leg on every node.
    """
    nodes = EntryNodes(planned.state, chassis)
    covered, legs = planned.cover, planned.legs
    composed = np.zeros(len(planned.matrix), dtype=np.bool_)
    for plan in legs:
        composed |= plan.composed
    if legs and planned.cover.name == Covering.LEGS:
        each = int(composed.sum()) <= MOST_CELLS_EACH
        wide = planned.matrix if planned.wide is None else planned.wide
        legs = () if each else tuple(per_node.refined(wide, plan) for plan in legs)
        chosen = [np.flatnonzero(composed)] if each else []
        # A node's flows for a Service are its own too.
        chosen += [some.cells for some in planned.services]
        chosen += [represent.choose(planned.matrix, plan) for plan in legs]
        missing = np.unique(np.concatenate(chosen))
        missing = missing[covered.of(missing) < 0]
        covered = cover.extended(covered, planned.matrix, missing, planned.headless)
    return Plane(
        name=records.DATAPATH,
        cover=cover.placed(covered, nodes),
        legs=legs,
        judge=_judge(planned, chassis),
        locate=nodes,
        send=send,
    )


def _judge(planned: Planned, chassis: Sequence[Chassis]) -> Judge:
    return Judge(
        blamer=Blamer.of(planned.state.zones, planned.state.policies),
        hops=NextHops(
            zones=planned.state.zones,
            owners=planned.owners,
            underlay=Underlay.of(planned.state.ways_in),
        ),
        blindness=Blindness(
            zones=planned.state.zones,
            owners=planned.owners,
            rivals=Contradictions(zones=planned.state.zones),
        ),
        tunnels=Tunnels.of(chassis),
    )


class EntryNodes:
    """Finds the node a packet enters at."""

    def __init__(self, state: ClusterState, chassis: Sequence[Chassis]) -> None:
        self._nodes: dict[str, str] = {}
        for endpoint in (*state.pods, *state.nodes, *state.gateways.values()):
            if endpoint.attachment is not None:
                self._nodes[endpoint.attachment.port] = endpoint.node
        # Where a port is bound is the southbound database's to say; where it should be, else.
        self._nodes |= {vif.port: each.node for each in chassis for vif in each.vifs}

    def node(self, port: str) -> str:
        """Return the node a logical port is at; empty for a port that is at none."""
        return self._nodes.get(port, "")

    def __call__(self, task: TraceTask) -> TraceTask:
        """Return the task as one of a node."""
        if isinstance(task, DatapathTask):
            return task
        values = {field.name: getattr(task, field.name) for field in fields(task)}
        return keyed(DatapathTask(**values, node=self.node(task.microflow.inport)))
