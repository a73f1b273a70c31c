"""The node's side: an agent that joins a run, and the tracer that is made where it is."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.errors import EngineError
from audit.fanout import agents
from audit.replay import own, toolchain
from audit.trace.local import Copies
from audit.trace.tracer import LogicalTracer

_ZONE = "AUDIT_AGENT_ZONE"
_SOUTHBOUND = "AUDIT_AGENT_SOUTHBOUND"
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
    zone: str = ""
    workers: int = 1
    wait_s: float = 300.0
    ovn_prefix: Path | None = None


def serve(options: AgentOptions) -> None:
    """Offer this node's databases to the run that heads `options.address`; does not return.

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
    if engine.prefix is not None:
        os.environ[_PREFIX] = str(engine.prefix)
    agents.join(
        options.address,
        node=options.node,
        zone=zone,
        workers=options.workers,
        wait_s=options.wait_s,
    )


def worker(timeout_s: float) -> Callable[[], LogicalTracer]:
    """Return what makes a tracer at an agent, of the zone whose databases are there."""
    return functools.partial(_tracer, timeout_s=timeout_s)


def _tracer(*, timeout_s: float) -> LogicalTracer:
    prefix = os.environ.get(_PREFIX)
    engine = toolchain.find(Path(prefix) if prefix else None)[0]
    copies = Copies(
        programs=engine,
        serve=functools.partial(own.serve, engine),
        databases={os.environ[_ZONE]: Path(os.environ[_SOUTHBOUND])},
    )
    return LogicalTracer(transport=copies, timeout_s=timeout_s)
