"""The sections of an `ofproto/trace` → what happened to the packet. Pure.

The result is the same `Hop` that is read from `ovn-trace`, in OVN's words: a cookie is the logical
flow whose stage it was, `metadata` the logical datapath, registers 14 and 15 its logical ports
(ovn-architecture(7), "Life Cycle of a Packet"). So both planes are judged by the same rules.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from audit.model.blindness import Spot
from audit.model.datapath import Pipelines, Switch
from audit.model.facts import LogicalPort, Zone
from audit.model.traces import AclMatch, Hop, HopEnd, Unseen
from audit.trace.odp_actions import Encapsulated, encapsulated
from audit.trace.ofproto_tree import (
    Action,
    Bridge,
    Detail,
    Failure,
    OfprotoSyntaxError,
    Section,
    Step,
    Table,
)
from audit.trace.walk import ACL_STAGE

BRIDGE = "br-int"
TO_TUNNEL = "output to kernel tunnel"

_METADATA = re.compile(r"(?:^|,)metadata=0x([0-9a-f]+)")
_NOW = re.compile(r"(?:OXM_OF_(METADATA)|NXM_NX_(REG1[45]))\[[0-9.]*\] is now (?:0x)?([0-9a-f]+)")
_VERDICTS = {1 << 16: "allow", 1 << 17: "drop", 1 << 18: "reject"}
"""Bits of register 8 in which `*_eval` stages leave a verdict (OVN 23.06 and later, northd.c)."""
_LOWEST_ACL_PRIORITY = 1000
_BACKEND = re.compile(r"nat\(dst=(\[[0-9a-fA-F:]+\]:\d+|[0-9a-fA-F.:]+)")
_REJECTING = frozenset({"ls_in_lb", "lr_in_dnat"})
"""Stages besides the ACLs' that answer with a reset: a load balancer without backends."""
_ASKING = frozenset({"lr_in_arp_request"})
_CHOOSING = ("lr_in_ip_routing", "lr_in_policy")
_OF_THE_CONNECTION = re.compile(r"move:NXM_NX_(CT_(?:TP_DST|NW_PROTO|NW_DST|IPV6_DST))\[")
"""What `ct_tp_dst()` and its like are made of; the tracer knows no connection, and has zeros."""

Groups = Mapping[int, str]
"""The group table of a switch: number → its buckets, as `ovs-ofctl dump-groups` prints them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """The switch that was asked, and what the numbers in its answer stand for."""

    switch: Switch
    zone: Zone
    pipelines: Pipelines
    vif_of: Mapping[int, str]
    """OpenFlow port → logical port, of interfaces."""
    localnet_of: Mapping[int, str]
    """OpenFlow port → logical port, of patch ports to physical networks."""

    @classmethod
    def of(cls, switch: Switch, zone: Zone, pipelines: Pipelines) -> "Symbols":
        """Index a switch's ports by their numbers."""
        return cls(
            switch=switch,
            zone=zone,
            pipelines=pipelines,
            vif_of={port.number: name for name, port in switch.vifs.items()},
            localnet_of={port.number: name for name, port in switch.localnets.items()},
        )

    def port(self, datapath: str, key: int) -> LogicalPort | None:
        """Return the logical port that a register holds the key of."""
        return self.zone.by_tunnel_key.get((datapath, key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What a trace says: the hop, and what left by a tunnel."""

    hop: Hop
    left: Encapsulated | None = None
    chosen: int = 0
    """The member of an ECMP choice that was taken, counted from 1; 0 where there was none."""


@dataclass(slots=True)
class _Walk:
    """Where the packet is, and what has happened to it."""

    symbols: Symbols
    groups: Groups
    metadata: int = 0
    inport: int = 0
    outport: int = 0
    stage: str = ""
    logical_flow: str = ""
    priority: int = -1
    text: str = ""
    table: Table | None = None
    """The last flow that matched, a logical flow's or ovn-controller's own."""
    acls: tuple[AclMatch, ...] = ()
    passes: tuple[AclMatch, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    outputs: dict[str, Hop] = field(default_factory=dict)
    tunnelled: Hop | None = None
    group: Hop | None = None
    failed: str = ""
    controller: bool = False
    connected: bool = False
    """The packet carries what conntrack has of the first of its connection."""
    output: int = 0
    chosen: int = 0
    sent: tuple[str, str] = ("", "")
    """The packet's addresses as it was sent, and as they are now."""
    now: tuple[str, str] = ("", "")

    def hop(self, end: HopEnd, **fields: object) -> Hop:
        """Return the hop that ends here."""
        datapath = self.symbols.pipelines.datapaths.get(self.metadata, "")
        names = (self.symbols.port(datapath, key) for key in (self.inport, self.outport))
        entered, outport = (port.name if port is not None else "" for port in names)
        return replace(
            Hop(
                end=end,
                datapath=datapath,
                entered=entered,
                outport=outport,
                acls=self.acls,
                passes=self.passes,
                stage=self.stage,
                logical_flow=self.logical_flow,
                text=self.text,
                ip_src=self.now[0] if self.now[0] != self.sent[0] else "",
                ip_dst=self.now[1] if self.now[1] != self.sent[1] else "",
                unseen=self.unseen,
            ),
            **fields,  # type: ignore[arg-type]  # fields of Hop, named by the callers below
        )


def read(sections: tuple[Section, ...], symbols: Symbols, *, target: str, groups: Groups) -> Walked:
    """Return how the packet ended: at `target` if it was output there, wherever else it went.

    OfprotoSyntaxError when a number or an address in it is none.
    """
    try:
        return _walked(sections, symbols, target, groups)
    except (ValueError, LookupError, OverflowError) as error:
        raise OfprotoSyntaxError(f"an action or a field cannot be read: {error}") from error


def _walked(sections: tuple[Section, ...], symbols: Symbols, target: str, groups: Groups) -> Walked:
    walk = _Walk(symbols=symbols, groups=groups)
    left: Encapsulated | None = None
    for section in sections:
        _begin(walk, section)
        for step in section.steps:
            _take(walk, step)
        if walk.tunnelled is not None and left is None:
            left = next(iter(encapsulated(section.actions, section.fields)), None)
        walk.failed = walk.failed or section.failed
    hop = _decide(walk, target)
    tunnelled = hop.end is HopEnd.TUNNELLED
    return Walked(hop=hop, left=left if tunnelled else None, chosen=walk.chosen)


def _take(walk: _Walk, step: Step) -> None:
    """Take note of a line of the trace."""
    match step:
        case Table():
            _match(walk, step)
        case Action(_, text):
            if not text.startswith("resubmit("):
                _act(walk, text)
                _look(walk, text)
        case Detail(_, text):
            _note(walk, text)
        case Bridge(_, name):
            _cross(walk, name)
        case Failure(_, text):
            walk.failed = walk.failed or text


def _begin(walk: _Walk, section: Section) -> None:
    """Take the registers of a section's packet."""
    fields = section.fields
    walk.metadata = int(fields.get("metadata", "0"), 16)
    walk.inport = int(fields.get("reg14", "0"), 16)
    walk.outport = int(fields.get("reg15", "0"), 16)
    side = "ipv6" if "ipv6_src" in fields else "nw"
    walk.now = fields.get(f"{side}_src", ""), fields.get(f"{side}_dst", "")
    walk.connected = "ct_nw_proto" in fields
    if not section.recirculation:
        walk.sent = walk.now


def _match(walk: _Walk, table: Table) -> None:
    """Take note of the flow that matched."""
    walk.table = table
    stages = walk.symbols.pipelines.stages.get(table.cookie) if table.priority >= 0 else None
    if not stages:
        return
    metadata = _METADATA.search(table.match)
    if metadata:
        walk.metadata = int(metadata[1], 16)
    walk.stage = stages[0] if len(stages) == 1 else _likeliest(walk, stages)
    walk.logical_flow = f"{table.cookie:08x}"
    walk.priority = table.priority
    walk.text = ""
    walk.controller = False
    acl = ACL_STAGE.fullmatch(walk.stage)
    if acl is None or table.priority < _LOWEST_ACL_PRIORITY:
        return
    if acl["part"] is None:
        # Up to 23.03 the flow itself is the verdict; that it was a drop shows at the end.
        walk.acls += (_acl(walk, "allow"),)
    elif acl["part"] == "_eval":
        walk.passes += (_acl(walk, "pass"),)  # until an action says otherwise


def _likeliest(walk: _Walk, stages: tuple[str, ...]) -> str:
    """Return the stage a shared cookie means here: of the pipeline the packet is in."""
    side = walk.stage.partition("_")[0]
    return next((stage for stage in stages if stage.startswith(f"{side}_")), stages[0])


def _acl(walk: _Walk, action: str) -> AclMatch:
    datapath = walk.symbols.pipelines.datapaths.get(walk.metadata, "")
    ports = (walk.symbols.port(datapath, key) for key in (walk.inport, walk.outport))
    inport, outport = (port.name if port is not None else "" for port in ports)
    return AclMatch(
        stage=walk.stage,
        datapath=datapath,
        action=action,
        logical_flow=walk.logical_flow,
        priority=walk.priority,
        inport=inport,
        outport=outport,
    )


def _act(walk: _Walk, text: str) -> None:
    """Take note of an action."""
    if text.startswith("set_field:"):
        value, _, name = text[len("set_field:") :].rpartition("->")
        if name in {"xreg4", "reg8"}:
            _verdict(walk, value, wide=name == "xreg4")
        elif name in _REGISTERS:
            _remember(walk, name, int(value.partition("/")[0], 16))
        return
    if text.startswith("output:"):
        walk.text = text
        number = text[len("output:") :]
        walk.output = int(number) if number.isdigit() else -1
        _output(walk)
    elif text.startswith("group:"):
        walk.text = text
        walk.group = _grouped(walk, int(text[len("group:") :]))
    elif text.startswith("bucket "):
        walk.group = None  # it drew one, and the trace goes on
        if walk.stage.startswith(_CHOOSING):
            walk.chosen = int(text[len("bucket ") :]) + 1
    elif text.startswith("controller("):
        walk.controller = True
    elif text == "drop":
        walk.text = text


def _look(walk: _Walk, text: str) -> None:
    """Take note of what the tracer has none of: the packet's connection."""
    matched = None if walk.connected else _OF_THE_CONNECTION.match(text)
    if matched is not None:
        datapath = walk.symbols.pipelines.datapaths.get(walk.metadata, "")
        walk.unseen += (
            Unseen(spot=str(Spot.CONNECTION), what=matched[1], datapath=datapath, stage=walk.stage),
        )


_REGISTERS = frozenset({"metadata", "reg14", "reg15"})


def _remember(walk: _Walk, name: str, value: int) -> None:
    if name == "metadata":
        walk.metadata = value
    elif name == "reg14":
        walk.inport = value
    else:
        walk.outport = value


def _verdict(walk: _Walk, value: str, *, wide: bool) -> None:
    """Take note of an ACL's verdict, a bit that is set in register 8 (the upper half of xreg4)."""
    if not walk.stage.endswith("_eval"):
        return
    bits = int(value.partition("/")[0], 16) >> (32 if wide else 0)
    if (action := _VERDICTS.get(bits)) is not None:
        walk.acls += (_acl(walk, action),)
        walk.passes = walk.passes[:-1]


def _note(walk: _Walk, text: str) -> None:
    """Take note of what came of an action."""
    if text == TO_TUNNEL:
        walk.outputs.pop(f"#{walk.output}", None)
        walk.tunnelled = walk.hop(HopEnd.TUNNELLED, port_type="tunnel")
    elif assigned := _NOW.match(text):
        _remember(walk, (assigned[1] or assigned[2]).lower(), int(assigned[3], 16))


def _output(walk: _Walk) -> None:
    """Take note of an output: to a pod's interface, or the host's."""
    vif = walk.symbols.vif_of.get(walk.output)
    localnet = walk.symbols.localnet_of.get(walk.output)
    if vif is not None:
        walk.outputs[vif] = walk.hop(HopEnd.OUTPUT, port=vif)
    elif localnet is not None:
        walk.outputs[localnet] = walk.hop(HopEnd.OUTPUT, port=localnet, port_type="localnet")
    else:
        # A tunnel: the next line says so. What is neither is no port OVN put there.
        name = f"#{walk.output}"
        walk.outputs[name] = walk.hop(HopEnd.OUTPUT, port=f"OpenFlow port {walk.output}")


def _cross(walk: _Walk, name: str) -> None:
    """Take note of a bridge the packet is handed to: whatever it does there, it left OVN's."""
    if name != BRIDGE:
        walk.text = f'bridge("{name}")'


def _grouped(walk: _Walk, number: int) -> Hop:
    """Return the hop of a packet for which a group draws a bucket: a backend, or a next hop."""
    buckets = walk.groups.get(number, "")
    if walk.stage.startswith(_CHOOSING):
        count = buckets.count("bucket=")
        return walk.hop(HopEnd.SELECTED, choices=tuple(range(1, count + 1)))
    return walk.hop(HopEnd.BALANCED, backends=tuple(_BACKEND.findall(buckets)))


def _decide(walk: _Walk, target: str) -> Hop:
    """Choose among the ends of the packet."""
    if walk.failed:
        return walk.hop(HopEnd.ENDED, text=walk.failed)
    if target and target in walk.outputs:
        return walk.outputs[target]
    if walk.group is not None:
        return walk.group
    ways = [*walk.outputs.values(), *([walk.tunnelled] if walk.tunnelled else [])]
    if len(ways) == 1:
        return ways[0]
    if ways:
        reached = ", ".join(sorted(hop.port or "a tunnel" for hop in ways))
        return replace(ways[0], end=HopEnd.SPREAD, port="", port_type="", text=reached)
    return _stopped(walk)


def _stopped(walk: _Walk) -> Hop:
    """Return the hop of a packet that was not output anywhere."""
    if walk.controller:
        return _answered(walk)
    if walk.table is None:
        raise OfprotoSyntaxError("a trace without a table")
    if walk.table.cookie and int(walk.logical_flow or "0", 16) == walk.table.cookie:
        if walk.acls and walk.acls[-1].stage == walk.stage and _is_verdict(walk.stage):
            walk.acls = (*walk.acls[:-1], replace(walk.acls[-1], action="drop"))
        return walk.hop(HopEnd.DROPPED)
    if walk.table.priority < 0:
        return walk.hop(HopEnd.MISSED, text=f"no flow in table {walk.table.number}")
    return walk.hop(HopEnd.UNBOUND)


def _is_verdict(stage: str) -> bool:
    """Say whether the flows of a stage are ACLs' verdicts themselves, as up to 23.03."""
    acl = ACL_STAGE.fullmatch(stage)
    return acl is not None and acl["part"] is None


def _answered(walk: _Walk) -> Hop:
    """Return the hop of a packet that was handed to ovn-controller, which makes another of it."""
    if walk.acls and _is_verdict(walk.stage):
        walk.acls = (*walk.acls[:-1], replace(walk.acls[-1], action="reject"))
    if walk.stage in _REJECTING or ACL_STAGE.fullmatch(walk.stage):
        return walk.hop(HopEnd.REJECTED)
    if walk.stage in _ASKING:
        return _resolving(walk)
    return walk.hop(HopEnd.ENDED, text="handed to ovn-controller")


def _resolving(walk: _Walk) -> Hop:
    """Return the hop of a packet that waits for its next hop's MAC.

    Where the router asks is where its port leads: to a physical network, if its switch has one.
    """
    hop = walk.hop(HopEnd.RESOLVING)
    zone = walk.symbols.zone
    router = zone.ports.get(hop.outport)
    beside = zone.ports.get(router.peer) if router is not None else None
    if beside is None:
        return replace(hop, port=hop.outport)
    for name in walk.symbols.switch.localnets:
        port = zone.ports.get(name)
        if port is not None and port.datapath == beside.datapath:
            return replace(hop, port=name, port_type="localnet")
    return replace(hop, port=hop.outport)
