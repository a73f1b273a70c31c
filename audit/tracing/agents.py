"""The node's side: an agent that joins a run, and the tracers that are made where it is."""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audit.errors import EngineError
from audit.fanout import agents
from audit.fanout.base import MakeWorker
from audit.model.datapath import Chassis, Pipelines
from audit.model.facts import Zone
from audit.model.options import OVS_RUNDIR
from audit.replay import own, toolchain
from audit.trace.datapath import DatapathTracer, Sockets
from audit.trace.local import Copies
from audit.trace.tracer import LogicalTracer
from audit.tracing import switches
from audit.tracing.plan import Planned

_ZONE = "AUDIT_AGENT_ZONE"
_SOUTHBOUND = "AUDIT_AGENT_SOUTHBOUND"
_SWITCH = "AUDIT_AGENT_SWITCH"
_PREFIX = "AUDIT_AGENT_PREFIX"
"""How an agent tells the actors that Ray starts below it what is at hand: they get nothing of
what only one node knows from the run."""

_SOUTHBOUND_SOCKET = "ovnsb_db.sock"
_NORTHBOUND_SOCKET = "ovnnb_db.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What `audit agent` is asked for. `zone` is read from the northbound database if empty."""

    address: str
    node: str
    ovn_rundir: Path
    ovs_rundir: Path = OVS_RUNDIR
    zone: str = ""
    workers: int = 1
    wait_s: float = 300.0
    ovn_prefix: Path | None = None


def serve(options: AgentOptions) -> None:
    """Offer this node's databases to the run that heads `options.address`, until that ends.

    EngineError when there is no socket, no OVN that can trace what the node's northd wrote, or no
    run within `wait_s`.
    """
    agents.require_token()
    southbound = options.ovn_rundir / _SOUTHBOUND_SOCKET
    if not southbound.is_socket():
        raise EngineError(
            f"{southbound} is no socket: mount the node's OVN run directory there, or name it "
            "with --ovn-rundir"
        )
    candidates = toolchain.find(options.ovn_prefix)
    if not candidates:
        raise EngineError(f"OVN is not installed here; run `{toolchain.INSTALL_COMMAND}`")
    northbound = options.ovn_rundir / _NORTHBOUND_SOCKET
    zone = options.zone or own.zone(candidates[0], northbound)
    engine = toolchain.choose(candidates, {zone: own.northd_version(candidates[0], southbound)})
    os.environ |= {_ZONE: zone, _SOUTHBOUND: str(southbound.absolute())}
    os.environ[_SWITCH] = str(options.ovs_rundir.absolute())
    if engine.prefix is not None:
        os.environ[_PREFIX] = str(engine.prefix)
    agents.join(
        options.address,
        node=options.node,
        zone=zone,
        workers=options.workers,
        wait_s=options.wait_s,
    )


def workers(timeout_s: float) -> Callable[[str], MakeWorker]:
    """Return what makes a tracer at an agent, of the zone whose databases are there."""
    return lambda _: functools.partial(_tracer, timeout_s=timeout_s)


def switch_workers(
    planned: Planned, chassis: Sequence[Chassis], timeout_s: float
) -> Callable[[str], MakeWorker]:
    """Return what makes a tracer at the agent of a node, through the node's own switch."""
    by_node = {each.node: each for each in chassis}
    pipelines = functools.cache(functools.partial(switches.pipelines, planned))

    def make(node: str) -> MakeWorker:
        if node not in by_node:
            return functools.partial(_switchless, f"no chassis of node {node} is in the databases")
        zone = planned.state.zones[by_node[node].zone]
        return functools.partial(
            _switch_tracer,
            chassis=by_node[node],
            # It crosses the network: no more than what OpenFlow refers to.
            zone=replace(zone, acls={}, port_groups=(), flow_hints={}, load_balancers=()),
            pipelines=pipelines(zone.name),
            timeout_s=timeout_s,
        )

    return make


def _engine() -> toolchain.Toolchain:
    prefix = os.environ.get(_PREFIX)
    return toolchain.find(Path(prefix) if prefix else None)[0]


def _switch_tracer(
    *, chassis: Chassis, zone: Zone, pipelines: Pipelines, timeout_s: float
) -> DatapathTracer:
    engine = _engine()
    try:
        rundir = Path(os.environ.get(_SWITCH) or OVS_RUNDIR)
        running = {chassis.node: own.switch(engine, chassis, rundir)}
    except EngineError as error:
        return _switchless(str(error))
    return DatapathTracer(
        reach=Sockets(programs=engine, switches=running),
        switches=running,
        zones={zone.name: zone},
        pipelines={zone.name: pipelines},
        timeout_s=timeout_s,
    )


def _switchless(why: str) -> DatapathTracer:
    reach = Sockets(programs=_engine(), switches={})
    return DatapathTracer(reach=reach, switches={}, zones={}, pipelines={}, why=why)


def _tracer(*, timeout_s: float) -> LogicalTracer:
    engine = _engine()
    copies = Copies(
        programs=engine,
        serve=functools.partial(own.serve, engine),
        databases={os.environ[_ZONE]: Path(os.environ[_SOUTHBOUND])},
    )
    return LogicalTracer(transport=copies, timeout_s=timeout_s)
