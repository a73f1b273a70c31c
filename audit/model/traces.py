"""Traces: what is asked of an engine, and what came back.

A trace answers for one *hop*: the part of a path one zone decides in one go. Where a hop ends at
a remote port or a load balancer, further traces take over (`next_hops`).
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from audit.model.packets import ConntrackState, Microflow
from audit.model.verdicts import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTask:
    """One trace to run: `key` is made of its content, so a rerun has the same one.

    `target` is the logical port the packet is meant for, empty when any way out will do.
    `select` is the ECMP member to take; 0 stops reading where a choice is made. `draws` 0 stops
    reading where a load balancer draws a backend; n reads on, and traces up to n times until the
    packet reaches `target` (the engine draws at random and cannot be told what). `to_service`
    says that the packet is for a Service's address, which a load balancer must take. `depth`
    counts the hops before this one. `network` is the one that the sender is on, empty for the
    default network.
    """

    key: str
    zone: str
    state: ConntrackState
    microflow: Microflow
    target: str
    select: int = 0
    draws: int = 0
    to_service: bool = False
    depth: int = 0
    network: str = ""

    @property
    def location(self) -> str:
        """The zone it is run in: traces of one location are run together."""
        return self.zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """A packet's tunnel: its ends' addresses, and what its header says of the packet.

    `key` is the logical datapath's tunnel key, `metadata` the logical ingress port (bits 16 to
    30) and egress port (bits 0 to 15), as Geneve carries them (ovn-architecture(7)).
    """

    local: str
    remote: str
    key: int
    metadata: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathTask(TraceTask):
    """A trace through one node's Open vSwitch.

    `zone` is the node's. The packet enters by the interface of the logical port that the
    microflow names; one that comes out of a tunnel, by the tunnel from `tunnel.local`.
    """

    node: str
    tunnel: Tunnel | None = None

    @property
    def location(self) -> str:
        """The node it is run on, or its zone where the node is not known."""
        return self.node or self.zone


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceBatch:
    """Tasks of one location and one conntrack state, traced in order by one engine.

    `zone` is the location: a zone, or on the datapath a node.
    """

    zone: str
    tasks: tuple[TraceTask, ...]


class HopEnd(StrEnum):
    """How a packet's way through one zone ended, before anyone judges it.

    `resolving`: the packet waits for its next hop's MAC, which a router asks for at `port`.
    `patched`: it goes on from the peer of patch port `port`, where the engine would go on wrongly.
    `ended` is the honest rest: the trace stops without output and without a drop.

    On a node's Open vSwitch there are three more. `tunnelled`: it left for another chassis.
    `unbound`: no flow takes it in at its port, or delivers it at the one it is for, because no
    interface of the node is bound to that. `missed`: a pipeline's table has no flow for it, where
    OVN always has one.
    """

    OUTPUT = "output"
    BALANCED = "balanced"
    SELECTED = "selected"
    DROPPED = "dropped"
    REJECTED = "rejected"
    SPREAD = "spread"
    RESOLVING = "resolving"
    PATCHED = "patched"
    ENDED = "ended"
    TUNNELLED = "tunnelled"
    UNBOUND = "unbound"
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AclMatch:
    """An ACL stage that gave a verdict: `action` is `allow`, `drop`, `reject` or `pass`.

    `logical_flow` is the uuid prefix of the flow that set the verdict. `inport` and `outport` are
    the packet's there, as far as they were known.
    """

    stage: str
    datapath: str
    action: str
    logical_flow: str
    priority: int
    inport: str = field(default="", compare=False)
    outport: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What a packet met that its engine is blind to: `what` is the action or function, as printed.

    `spot` is the row's name in `audit.model.blindness`.
    """

    spot: str
    what: str
    datapath: str
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What one trace says the packet did.

    `port` and `port_type` are where it was output; `entered` and `outport` the ports by which it
    entered and was to leave the last datapath. `acls` are the ACL stages with a verdict, in
    order; `passes` those that left it to a later tier; `backends` the load balancer's whole list,
    `choices` the ECMP members; `stage`, `logical_flow` and `text` the last logical flow and its
    last action. `spread` means output to several ports. `ip_src` and `ip_dst` are the packet's as
    it left, empty where unchanged. `unseen` is what the engine passed over on the way: where there
    is anything, what came after it proves nothing.
    """

    end: HopEnd
    port: str = ""
    port_type: str = ""
    entered: str = ""
    outport: str = ""
    datapath: str = ""
    acls: tuple[AclMatch, ...] = ()
    passes: tuple[AclMatch, ...] = ()
    backends: tuple[str, ...] = ()
    choices: tuple[int, ...] = ()
    stage: str = ""
    logical_flow: str = ""
    text: str = ""
    ip_src: str = ""
    ip_dst: str = ""
    unseen: tuple[Unseen, ...] = ()

    def translated(self, microflow: Microflow) -> Microflow:
        """Return a packet with the addresses that it left with."""
        source, destination = self.ip_src or microflow.ip_src, self.ip_dst or microflow.ip_dst
        return replace(microflow, ip_src=source, ip_dst=destination)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalTrace:
    """A trace that ran: the hop read from it, and the engine's own words."""

    key: str
    hop: Hop
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathTrace(LogicalTrace):
    """A trace of `ofproto/trace` that ran.

    `flow` is the packet as the switch was given it. For one that left by a tunnel, `tunnel` is
    the header and `packet` what is inside, as it left (`inport` is empty: where it enters next is
    for the receiver to say).
    """

    flow: str = ""
    tunnel: Tunnel | None = None
    packet: Microflow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFailure:
    """A trace that did not run or could not be read; the run goes on."""

    key: str
    reason: Reason
    message: str
    output: str = ""


TraceOutcome = LogicalTrace | TraceFailure
