"""One trace's outcome → what it decides, and which hops take over where it does not. Pure.

`docs/verdicts.md` has this page's rules for readers. Silence proves nothing: whatever is not
recognised here is `inconclusive` with the stage it ended in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import LogicalPort, WayIn
from audit.model.networks import DEFAULT
from audit.model.packets import with_port
from audit.model.run import ENDPOINTS
from audit.model.traces import (
    AclMatch,
    DatapathTask,
    DatapathTrace,
    Hop,
    HopEnd,
    LogicalTrace,
    TraceFailure,
    TraceOutcome,
    TraceTask,
)
from audit.model.verdicts import STOPPED, Blame, Reason, Verdict
from audit.verdict.blame import Allowed, Blamer
from audit.verdict.blindness import Blindness
from audit.verdict.hops import NextHops
from audit.verdict.tunnels import Tunnels
from audit.verdict.underlay import is_pod, taken_in, untranslated

DEEPEST = 5
"""Hops after the first: a service's backend in another zone that leaves by a third is three, and
more where a trace is taken up again behind a patch port."""

_ALLOWS = frozenset({"allow"})
_DENIES = {"drop": Reason.ACL_DROP, "reject": Reason.ACL_REJECT}

_UNROUTABLE_STAGES: Mapping[str, Reason] = {
    "lr_in_ip_routing": Reason.NO_ROUTE,
    "lr_in_ip_routing_ecmp": Reason.NO_ROUTE,
    "lr_in_policy": Reason.ROUTER_POLICY,
    "lr_in_policy_ecmp": Reason.ROUTER_POLICY,
    "ls_in_check_port_sec": Reason.PORT_SECURITY,
    "ls_in_apply_port_sec": Reason.PORT_SECURITY,
    "ls_in_port_sec_l2": Reason.PORT_SECURITY,
    "ls_in_port_sec_ip": Reason.PORT_SECURITY,
    "ls_out_check_port_sec": Reason.PORT_SECURITY,
    "ls_out_apply_port_sec": Reason.PORT_SECURITY,
    "ls_in_l2_lkup": Reason.UNKNOWN_MAC,
    "ls_in_l2_unknown": Reason.UNKNOWN_MAC,
    "ls_in_lb": Reason.SERVICE_WITHOUT_ENDPOINTS,
    "lr_in_dnat": Reason.SERVICE_WITHOUT_ENDPOINTS,
}
"""Stages in which a packet ends without an ACL's doing (ovn-northd(8), stage names)."""


class Combine(StrEnum):
    """How the verdicts of the next hops make this one's."""

    FOLLOW = "follow"
    BACKENDS = "backends"
    GATEWAYS = "gateways"
    SOURCES = "sources"
    """Of the packet with the source a gateway gave it, and with its own."""


ONWARD = frozenset({Combine.FOLLOW, Combine.SOURCES})
"""The packet got through this hop, and what comes after decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one trace decides. Without `verdict`, `next_hops` do, combined as `combine` says.

    `translated` is the source address the packet ended with, empty when it kept its own.
    `redirected` says that it was no longer for the address it was sent to. `zone` is where it was
    traced, `datapath` and `stage` are where the packet ended, `entered` the port by which it came
    into that and `outport` the one it was to leave it by, a pod's or a host's where `to_workload`;
    `allows` are the ACLs that let it through on the way.
    """

    verdict: Verdict | None
    reason: Reason
    blame: Blame | None = None
    next_hops: tuple[TraceTask, ...] = ()
    combine: Combine = Combine.FOLLOW
    translated: str = ""
    redirected: bool = False
    detail: str = ""
    zone: str = ""
    datapath: str = ""
    stage: str = ""
    entered: str = ""
    outport: str = ""
    to_workload: bool = False
    allows: tuple[Allowed, ...] = ()


def forked(legs: tuple[TraceTask, ...]) -> Judgement:
    """Return what is known of a request that is no packet of its own: its legs decide it."""
    flows = [leg.microflow for leg in legs]
    ends = (with_port(flow.ip_dst, flow.dst_port) for flow in flows)
    return Judgement(
        verdict=None,
        reason=Reason.ALL_BACKENDS,
        next_hops=legs,
        combine=Combine.BACKENDS,
        detail=f"{ENDPOINTS}{', '.join(ends)}",
    )


NO_TUNNELS = Tunnels.of(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges outcomes against a cluster's facts; `tunnels` are only needed for the datapath's."""

    blamer: Blamer
    hops: NextHops
    blindness: Blindness
    tunnels: Tunnels = NO_TUNNELS

    def judge(self, task: TraceTask, outcome: TraceOutcome) -> Judgement:
        """Return what `outcome` decides about the packet of `task`."""
        match outcome:
            case TraceFailure(reason=reason, message=message):
                return Judgement(verdict=Verdict.UNTRACED, reason=reason, detail=message)
            case LogicalTrace(hop=hop):
                doubt = self.blindness.doubt(task, hop)
                if doubt is not None:
                    return replace(
                        _inconclusive(doubt.reason, doubt.detail),
                        zone=task.zone,
                        datapath=doubt.datapath,
                        stage=doubt.stage,
                        allows=self.blamer.allows(task.zone, hop, task.microflow.inport),
                    )
                if self._came_in(task) and hop.ip_src:
                    judged = _translated(hop)
                elif hop.end is HopEnd.TUNNELLED:
                    judged = self._tunnelled(task, outcome)
                else:
                    judged = self._hop(task, hop)
                return replace(
                    judged,
                    zone=task.zone,
                    datapath=hop.datapath,
                    stage=hop.stage,
                    entered=hop.entered,
                    outport=hop.outport,
                    to_workload=self._to_workload(task, hop),
                    translated=hop.ip_src,
                    redirected=hop.ip_dst not in ("", task.microflow.ip_dst),
                    allows=self.blamer.allows(task.zone, hop, task.microflow.inport),
                )
            case _:
                assert_never(outcome)

    def sent(self, task: TraceTask, trace: LogicalTrace, *, arrived: bool) -> Judgement:
        """Return what a packet that was sent makes of a trace that proves nothing.

        Where it came out nowhere, what the trace says of it is believed if that is why.
        """
        if arrived:
            return Judgement(
                verdict=Verdict.REACHABLE,
                reason=Reason.DELIVERED,
                detail=f"a packet that was sent through the replayed switch came to {task.target}",
                zone=task.zone,
                datapath=trace.hop.datapath,
            )
        doubted = self.judge(task, trace)
        traced = self._hop(task, trace.hop)
        if traced.verdict not in STOPPED or doubted.reason is Reason.HAIRPIN_NOT_DRAWN:
            nowhere = "a packet that was sent through the replayed switch came out nowhere"
            return replace(doubted, detail=f"{nowhere}, and no trace says why")
        at = trace.hop
        return replace(traced, zone=task.zone, datapath=at.datapath, stage=at.stage)

    def _to_workload(self, task: TraceTask, hop: Hop) -> bool:
        zone = self.blamer.zones.get(task.zone)
        port = zone.ports.get(hop.outport) if zone is not None else None
        return port is not None and port.kind == ""

    def _hop(self, task: TraceTask, hop: Hop) -> Judgement:
        match hop.end:
            case HopEnd.OUTPUT | HopEnd.RESOLVING:
                return self._unbalanced(task, hop) or self._output(task, hop)
            case HopEnd.PATCHED:
                return self._patched(task, hop)
            case HopEnd.BALANCED:
                return self._balanced(task, hop)
            case HopEnd.SELECTED:
                return self._selected(task, hop)
            case HopEnd.DROPPED | HopEnd.REJECTED:
                return self._stopped(task, hop)
            case HopEnd.SPREAD:
                return _inconclusive(Reason.UNEXPECTED_OUTPUT, f"output to several: {hop.text}")
            case HopEnd.ENDED | HopEnd.TUNNELLED:
                return _ended(hop)
            case HopEnd.UNBOUND | HopEnd.MISSED:
                return _unserved(task, hop)
            case _:
                assert_never(hop.end)

    def _unbalanced(self, task: TraceTask, hop: Hop) -> Judgement | None:
        """Judge a packet on its way that a load balancer should have taken."""
        if task.to_service and not task.draws:
            port = self.blamer.zones[task.zone].ports.get(hop.port)
            networks = self.hops.networks_of_service(task.microflow)
            left = hop.port_type == "localnet" or _is_host(port)
            if left and networks and task.network not in networks:
                others = " and ".join(network or DEFAULT for network in sorted(networks))
                return _left_network(
                    task, hop, f", and the service's load balancer is on network {others}"
                )
            return Judgement(
                verdict=Verdict.UNROUTABLE,
                reason=Reason.SERVICE_NOT_PROGRAMMED,
                detail=f"no load balancer took the packet; it went to {hop.port}",
            )
        return None

    def _output(self, task: TraceTask, hop: Hop) -> Judgement:
        """Judge a packet that was output: to whom it was sent, out of OVN, or into a zone.

        One that waits for its next hop's MAC at a gateway is as good as out.
        """
        if hop.port_type == "localnet":
            return self._left(task, hop, Reason.LEFT_BY_GATEWAY)
        if hop.end is HopEnd.RESOLVING:
            return _inconclusive(
                Reason.NEXT_HOP_UNRESOLVED, f"the next hop's MAC is asked for at {hop.port}"
            )
        if hop.port_type == "remote":
            return self._remote(task, hop)
        port = self.blamer.zones[task.zone].ports.get(hop.port)
        if hop.port == task.target or (not task.target and port is not None and port.is_pod):
            return self._passed(task, hop, Verdict.REACHABLE, Reason.DELIVERED)
        if _is_host(port):
            return self._left(task, hop, Reason.LEFT_BY_HOST)
        here, meant = map(self.hops.network_of_pod, (hop.port, task.target))
        if here is not None and here != meant:
            detail = f"{hop.port} has that address on the sender's network, and gets the packet"
            return Judgement(
                verdict=Verdict.UNROUTABLE, reason=Reason.ADDRESS_OF_ANOTHER, detail=detail
            )
        return _inconclusive(
            Reason.UNEXPECTED_OUTPUT, f"output to {hop.port}, not to {task.target or 'a gateway'}"
        )

    def _left(self, task: TraceTask, hop: Hop, reason: Reason) -> Judgement:
        """Judge a packet that left OVN: what is for a pod of the cluster has not arrived by that.

        It is sent on at the node that takes in what is for that pod, where the databases say how.
        """
        address = hop.translated(task.microflow).ip_dst
        port = self.blamer.zones[task.zone].ports.get(hop.port)
        at_host = port is not None and address in port.addresses
        to = self.hops.network_of_pod(task.target)
        if not at_host and to is not None and (task.network or to):
            towards = f" towards a pod of network {to or DEFAULT}"
            return _left_network(task, hop, f"{towards}, and no port leads there from it")
        owner, way = self.hops.owners.get(address), self.hops.underlay.way_in(address)
        if at_host or (way is None and not is_pod(owner)):
            return self._passed(task, hop, Verdict.EXITS, reason)
        left = f"left by {hop.port} towards {owner.key if owner is not None else address}"
        if task.depth >= DEEPEST:
            return _inconclusive(Reason.TOO_MANY_HOPS, f"{left}, again")
        unknown = _no_way_in(task, hop, way)
        if unknown or way is None or way.port is None:
            return _inconclusive(Reason.WAY_IN_UNKNOWN, f"{left}, {unknown}")
        return self._over_underlay(task, hop, taken_in(task, hop, way, way.port, owner), owner)

    def _came_in(self, task: TraceTask) -> bool:
        """Say whether a packet left a node before and came in again over the underlay."""
        port = self.blamer.zones[task.zone].ports.get(task.microflow.inport)
        return task.depth > 0 and port is not None and port.kind == "localnet"

    def _over_underlay(
        self, task: TraceTask, hop: Hop, onward: TraceTask, owner: Endpoint | None
    ) -> Judgement:
        """Send the packet on at the node that takes it in.

        One that a gateway gave its own address is, to policies about pods, a node's. Between pods
        OVN-Kubernetes means them to keep theirs, so what the pod's switch does with that counts
        too.
        """
        sender = self.hops.owners.get(onward.microflow.ip_src)
        if not hop.ip_src and sender is not None and sender.kind is EndpointKind.NODE:
            return _translated(replace(hop, ip_src=onward.microflow.ip_src))  # by a hop before
        next_hops: tuple[TraceTask, ...] = (onward,)
        combine = Combine.FOLLOW
        if hop.ip_src:
            to = owner.attachment if owner is not None else None
            kept = untranslated(task, hop, self.hops.zones, to) if to is not None else None
            if kept is None or isinstance(task, DatapathTask):
                return _translated(hop)
            next_hops, combine = (onward, kept), Combine.SOURCES
        return Judgement(
            verdict=None,
            reason=Reason.DELIVERED,
            blame=self.blamer.last(task.zone, hop, task.microflow.inport, _ALLOWS),
            next_hops=next_hops,
            combine=combine,
            detail=f"over the underlay by {hop.port}, in by {onward.microflow.inport}{_snat(hop)}",
        )

    def _from_outside_to_host(self, task: TraceTask) -> bool:
        """Say whether a packet enters by a gateway and is for a node's own address."""
        port = self.blamer.zones[task.zone].ports.get(task.microflow.inport)
        owner = self.hops.owners.get(task.microflow.ip_dst)
        outside = port is not None and port.kind == "localnet"
        return outside and owner is not None and owner.kind is EndpointKind.NODE

    def _passed(self, task: TraceTask, hop: Hop, verdict: Verdict, reason: Reason) -> Judgement:
        blame = self.blamer.last(task.zone, hop, task.microflow.inport, _ALLOWS)
        if blame is not None and verdict is Verdict.REACHABLE:
            reason = Reason.ALLOWED_BY_ACL
        detail = f"output to {hop.port}{_snat(hop)}"
        return Judgement(verdict=verdict, reason=reason, blame=blame, detail=detail)

    def _remote(self, task: TraceTask, hop: Hop) -> Judgement:
        """Send the packet on in the zone behind a remote port."""
        onward = self.hops.beyond(task, hop) if task.depth < DEEPEST else None
        blame = self.blamer.last(task.zone, hop, task.microflow.inport, _ALLOWS)
        lacking = self.hops.lacking(task, hop) if onward is None else ""
        if lacking:
            return Judgement(
                verdict=Verdict.UNROUTABLE,
                reason=Reason.REMOTE_PORT_MISSING,
                blame=blame,
                detail=f"left by {hop.port} to zone {lacking}, which has no such port",
            )
        if onward is None:
            reason = Reason.TOO_MANY_HOPS if task.depth >= DEEPEST else Reason.ZONE_MISSING
            verdict = Verdict.INCONCLUSIVE if reason is Reason.TOO_MANY_HOPS else Verdict.UNTRACED
            return Judgement(
                verdict=verdict, reason=reason, blame=blame, detail=f"left by {hop.port}"
            )
        return Judgement(
            verdict=None,
            reason=Reason.DELIVERED,
            blame=blame,
            next_hops=(onward,),
            detail=f"to zone {onward.zone} by {hop.port}",
        )

    def _patched(self, task: TraceTask, hop: Hop) -> Judgement:
        """Send the packet on from the other side of a patch port."""
        if task.depth >= DEEPEST:
            return _inconclusive(Reason.TOO_MANY_HOPS, f"left by {hop.port}")
        onward = self.hops.across(task, hop)
        if onward is None:
            return _inconclusive(Reason.TRACE_ENDS, f"nothing is known behind {hop.port}")
        return Judgement(
            verdict=None,
            reason=Reason.DELIVERED,
            blame=self.blamer.last(task.zone, hop, task.microflow.inport, _ALLOWS),
            next_hops=(onward,),
            detail=f"to {onward.microflow.inport} by {hop.port}",
        )

    def _tunnelled(self, task: TraceTask, trace: LogicalTrace) -> Judgement:
        """Send the packet on to the node that the tunnel leads to."""
        if (
            not isinstance(task, DatapathTask)
            or not isinstance(trace, DatapathTrace)
            or trace.tunnel is None
        ):
            return _inconclusive(Reason.TRACE_ENDS, "left by a tunnel that could not be read")
        remote = trace.tunnel.remote
        if task.depth >= DEEPEST:
            return _inconclusive(Reason.TOO_MANY_HOPS, f"tunnelled again to {remote}")
        onward = self.tunnels.beyond(task, trace)
        if onward is None:
            return self._nowhere(task, remote)
        return Judgement(
            verdict=None,
            reason=Reason.DELIVERED,
            blame=self.blamer.last(task.zone, trace.hop, task.microflow.inport, _ALLOWS),
            next_hops=(onward,),
            detail=f"by tunnel to {remote}, node {onward.node}",
        )

    def _nowhere(self, task: DatapathTask, remote: str) -> Judgement:
        """Judge a packet tunnelled to an address that no chassis gave itself.

        One that is a node's proves nothing: its zone's databases are not there.
        """
        owner = self.hops.owners.get(remote)
        if owner is not None and owner.kind is EndpointKind.NODE:
            detail = f"sent by tunnel to {remote}, {owner.key}, whose chassis is not there"
            return Judgement(verdict=Verdict.UNTRACED, reason=Reason.NODE_MISSING, detail=detail)
        detail = f"node {task.node} sends it to {remote}, which is no node's tunnel address"
        return Judgement(verdict=Verdict.UNROUTABLE, reason=Reason.TUNNEL_ASTRAY, detail=detail)

    def _balanced(self, task: TraceTask, hop: Hop) -> Judgement:
        """Send the packet to every backend the load balancer may draw."""
        if task.depth >= DEEPEST:
            return _inconclusive(Reason.TOO_MANY_HOPS, f"balanced again in {hop.datapath}")
        legs = self.hops.backends(task, hop)
        if not legs:
            return Judgement(verdict=Verdict.UNROUTABLE, reason=Reason.SERVICE_WITHOUT_ENDPOINTS)
        return Judgement(
            verdict=None,
            reason=Reason.ALL_BACKENDS,
            next_hops=legs,
            combine=Combine.BACKENDS,
            detail=f"backends {', '.join(hop.backends)}",
        )

    def _selected(self, task: TraceTask, hop: Hop) -> Judgement:
        """Send the packet to every next hop the router may choose."""
        if task.depth >= DEEPEST:
            return _inconclusive(Reason.TOO_MANY_HOPS, f"a choice again in {hop.datapath}")
        return Judgement(
            verdict=None,
            reason=Reason.GATEWAYS_DIFFER,
            next_hops=self.hops.members(task, hop),
            combine=Combine.GATEWAYS,
            detail=f"one of {len(hop.choices)} next hops, each traced",
        )

    def _stopped(self, task: TraceTask, hop: Hop) -> Judgement:
        """Attribute a drop or reject: to the ACL that set it, else to the stage it was in."""
        if hop.acls and hop.acls[-1].action in _DENIES and _same_pipeline(hop):
            return self._denied(task, hop, hop.acls[-1])
        if hop.stage.startswith(("ls_in_acl", "ls_out_acl")):
            detail = f"dropped in {hop.stage} by no ACL: the switch's default"
            return Judgement(verdict=Verdict.BLOCKED, reason=Reason.ACL_DROP, detail=detail)
        if hop.stage == "lr_in_arp_resolve" and self._from_outside_to_host(task):
            return _inconclusive(
                Reason.TRACE_ENDS,
                "the gateway bridge hands what is for its own node to the host, before OVN sees it",
            )
        reason = _UNROUTABLE_STAGES.get(hop.stage, Reason.PIPELINE_DROP)
        if reason is Reason.SERVICE_WITHOUT_ENDPOINTS and hop.end is not HopEnd.REJECTED:
            reason = Reason.PIPELINE_DROP
        detail = f"ended in {hop.stage or 'an unnamed stage'} of {hop.datapath}"
        return Judgement(verdict=Verdict.UNROUTABLE, reason=reason, detail=detail)

    def _denied(self, task: TraceTask, hop: Hop, match: AclMatch) -> Judgement:
        blame = self.blamer.blame(task.zone, hop, match, task.microflow.inport)
        default = blame is not None and blame.policies
        reason = Reason.DEFAULT_DENY if default else _DENIES[match.action]
        return Judgement(verdict=Verdict.BLOCKED, reason=reason, blame=blame)


def _same_pipeline(hop: Hop) -> bool:
    """Say whether the packet ended in the ACL stages where the last verdict fell.

    A drop verdict acts in the same pipeline's `*_action` stage (from OVN 23.06), or in the very
    stage (before); a verdict of an earlier pipeline has been acted on already.
    """
    last = hop.acls[-1]
    return hop.datapath == last.datapath and _stages(hop.stage) == _stages(last.stage)


def _stages(stage: str) -> str:
    """Return what the stages that evaluate the same ACLs have in common in their names."""
    return stage.removesuffix("_eval").removesuffix("_sample").removesuffix("_action")


def _is_host(port: LogicalPort | None) -> bool:
    """Say whether a port is a node's own: a VIF that is no pod's."""
    return port is not None and port.kind == "" and not port.is_pod


def _no_way_in(task: TraceTask, hop: Hop, way: WayIn | None) -> str:
    """Say why it is not known how a packet that left comes in; empty where it is."""
    if way is None:
        return "whose address is in no node's subnet"
    if way.port is None:
        return f"and no database says how node {way.node} takes it in"
    if hop.end is HopEnd.RESOLVING:
        return "and waits for its next hop's MAC, before any translation"
    if hop.port == task.microflow.inport:
        return "by which the host sent it, which knows a way of its own"
    return ""


def _ended(hop: Hop) -> Judgement:
    """Say what is unproven when a trace just stops."""
    if hop.stage == "lr_in_unsnat" and hop.text.startswith("ct_snat"):
        return _inconclusive(
            Reason.NAT_NOT_TRACED,
            f"ovn-trace does not follow ct_snat on a gateway router ({hop.datapath})",
        )
    return _inconclusive(
        Reason.TRACE_ENDS, f"ended in {hop.stage or 'an unnamed stage'} after {hop.text!r}"
    )


def _unserved(task: TraceTask, hop: Hop) -> Judgement:
    """Say which of a node's flows is not there."""
    node = f"node {task.node}" if isinstance(task, DatapathTask) else "the node"
    if hop.end is HopEnd.MISSED:
        after = f" after {hop.stage} of {hop.datapath}" if hop.stage else ""
        return Judgement(
            verdict=Verdict.UNROUTABLE,
            reason=Reason.FLOW_MISSING,
            detail=f"{hop.text} of {node} takes it{after}",
        )
    detail = hop.text
    if hop.outport:
        detail = f"{node} has no flow that delivers to {hop.outport} of {hop.datapath}"
    elif not detail:
        detail = f"{node} has no flow that takes it in"
    return Judgement(verdict=Verdict.UNROUTABLE, reason=Reason.PORT_NOT_BOUND, detail=detail)


def _snat(hop: Hop) -> str:
    return f", source address {hop.ip_src}" if hop.ip_src else ""


def _translated(hop: Hop) -> Judgement:
    detail = f"between two nodes its source was made {hop.ip_src}"
    return _inconclusive(Reason.SOURCE_TRANSLATED, detail)


def _left_network(task: TraceTask, hop: Hop, rest: str) -> Judgement:
    left = f"left network {task.network or DEFAULT} by {hop.port}"
    return _inconclusive(Reason.LEFT_NETWORK, left + rest)


def _inconclusive(reason: Reason, detail: str) -> Judgement:
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason, detail=detail)
