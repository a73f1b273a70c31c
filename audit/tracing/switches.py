"""plan → the nodes' Open vSwitches, running, and what traces through them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from audit import scratch
from audit.errors import EngineError
from audit.facts import openflow
from audit.model.datapath import Chassis, Pipelines, Switch
from audit.model.facts import Note
from audit.replay import databases, datapath
from audit.trace.datapath import DatapathTracer, Reach, Sockets
from audit.tracing.options import Progress
from audit.tracing.plan import Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The switches by node, and what is known of them.

    `southbound` maps the zones of a replay to sockets. `reach` is how the switches are asked if
    not here. `missing` says of nodes why their switch is not there, and so do `notes`. `location`
    tells a reader where they are.
    """

    chassis: tuple[Chassis, ...]
    switches: Mapping[str, Switch]
    southbound: Mapping[str, Path]
    reach: Reach | None = None
    missing: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[Note, ...] = ()
    location: str = "replayed here"

    def tracers(self, planned: Planned, timeout_s: float) -> Callable[[], DatapathTracer]:
        """Return what makes a tracer through them."""
        zones = planned.state.zones
        names = {switch.chassis.zone for switch in self.switches.values()}
        return functools.partial(
            DatapathTracer,
            reach=self.reach or Sockets(programs=planned.engine, switches=self.switches),
            switches=self.switches,
            zones=zones,
            pipelines={name: pipelines(planned, name) for name in names},
            timeout_s=timeout_s,
            missing=self.missing,
        )


OWN = "the nodes' own"
"""The place of switches that carry a cluster's packets."""

PROGRAMS = (
    *("ovsdb-tool", "ovsdb-server", "ovsdb-client", "ovs-vswitchd", "ovn-controller"),
    *("ovs-appctl", "ovs-ofctl"),
)
"""What a replay runs; a machine may have OVN's central half only."""


def require(planned: Planned) -> None:
    """Raise EngineError, with what to install, when a program of a replay is not there."""
    for program in PROGRAMS:
        planned.engine.argv(program)


Start = Callable[[Planned, Progress, ExitStack], Running]
"""Makes the switches of a cluster run, as long as the stack lasts."""


def chassis_of(planned: Planned) -> tuple[Chassis, ...]:
    """Read the chassis of every zone that can be run."""
    reader = databases.OvsdbTool(programs=planned.engine)
    chassis = [
        each
        for name, zone in planned.state.zones.items()
        for each in openflow.read_chassis(reader, name, zone.southbound)
    ]
    return tuple(_able(chassis))


def replayed(planned: Planned, progress: Progress, stack: ExitStack) -> Running:
    """Make every node's switch again from its zone's database."""
    progress.phase("starting the nodes' switches", 0)
    chassis = chassis_of(planned)
    running = started(planned, chassis, chassis, stack)
    there = {each.node for each in chassis}
    why = "the southbound database of its zone has no chassis of it with a tunnel address"
    absent = {
        node.name: why
        for node in planned.state.nodes
        if node.attachment is not None and not node.obstacle and node.name not in there
    }
    missing = {**running.missing, **absent}
    return replace(
        running,
        missing=missing,
        notes=Note.of_each("node-untraceable", _NOT_MADE, missing),
    )


_NOT_MADE = "the switch of node {} could not be made again"


def idle(planned: Planned, location: str = "") -> Running:
    """Return what is known of the switches when they are not made to run here."""
    return Running(chassis=chassis_of(planned), switches={}, southbound={}, location=location)


def started(
    planned: Planned, chassis: Sequence[Chassis], wanted: Sequence[Chassis], stack: ExitStack
) -> Running:
    """Make the switches of those that are wanted among all `chassis`."""
    rundir = stack.enter_context(scratch.directory("dp"))
    southbound: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for number, name in enumerate(dict.fromkeys(each.zone for each in wanted)):
        directory = rundir / f"z{number}"
        directory.mkdir()
        served = databases.serve(planned.engine, planned.state.zones[name].southbound, directory)
        try:
            southbound[name] = stack.enter_context(served)
        except EngineError as error:
            missing |= {each.node: str(error) for each in wanted if each.zone == name}
    possible = [each for each in wanted if each.zone in southbound]
    running = stack.enter_context(
        datapath.replay(planned.engine, possible, southbound, rundir / "dp")
    )
    missing |= running.failures
    return Running(
        chassis=tuple(chassis),
        switches=running.switches,
        southbound=southbound,
        missing=missing,
        notes=Note.of_each("node-untraceable", _NOT_MADE, missing),
    )


def _able(chassis: Sequence[Chassis]) -> list[Chassis]:
    """Return one chassis per node that has a tunnel address, without which none can be.

    A node that got a new name for its chassis leaves the row of the old one, which binds nothing.
    """
    by_node: dict[str, Chassis] = {}
    for each in chassis:
        rival = by_node.get(each.node)
        if each.address and (rival is None or len(each.vifs) > len(rival.vifs)):
            by_node[each.node] = each
    return list(by_node.values())


def pipelines(planned: Planned, zone: str) -> Pipelines:
    """Read what numbers in the OpenFlow of a zone's chassis stand for."""
    reader = databases.OvsdbTool(programs=planned.engine)
    return openflow.read_pipelines(reader, planned.state.zones[zone].southbound)
