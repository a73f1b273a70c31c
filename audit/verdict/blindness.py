"""Whether a trace met what its engine is blind to, so that it proves nothing. Pure.

What the engine's own words show of it is in `Hop.unseen`; the rest is looked up in the databases.
The table is `audit.model.blindness`.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from audit.model.blindness import BLINDNESS, DATAPATH_ENGINE, LOGICAL_ENGINE, Spot
from audit.model.endpoints import EndpointKind
from audit.model.facts import Acl, Owners, Zone
from audit.model.packets import Protocol
from audit.model.traces import AclMatch, DatapathTask, Hop, HopEnd, TraceTask, Unseen
from audit.model.verdicts import Reason
from audit.verdict.hops import DRAWS_PER_BACKEND

Rivals = Callable[[TraceTask, AclMatch], tuple[Acl, ...]]
"""Finds the ACLs that match a packet where another one decided, with the same right to decide and
otherwise."""

_REASONS = {row.spot: row.reason for row in BLINDNESS}
_BEFORE_BALANCING = (
    *("ls_in_check_port_sec", "ls_in_apply_port_sec", "ls_in_port_sec_l2", "ls_in_port_sec_ip"),
    *("ls_in_acl", "ls_in_acl_eval", "ls_in_acl_sample", "ls_in_acl_action"),
)
"""Stages that a packet meets before a load balancer."""
_CLASS = "ip.dscp"
"""A packet's service class, where a match looks at it (ovn-sb(5), Logical_Flow)."""
_AFTER_BALANCING = ("ls_in_acl_after_lb",)
"""What the stages begin with that it meets after one, and before a hairpin's translation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a trace proves nothing, and where on the way it ceased to."""

    reason: Reason
    detail: str
    datapath: str
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """Looks for what the engines are blind to; `owners` says whose an address is."""

    zones: Mapping[str, Zone]
    owners: Owners
    rivals: Rivals | None = None
    _vips: dict[str, frozenset[tuple[str, Protocol, int]]] = field(
        default_factory=dict, compare=False
    )
    _classes: dict[str, bool] = field(default_factory=dict, compare=False)
    """By zone, whether a flow of it looks at packets' service classes."""

    def doubt(self, task: TraceTask, hop: Hop) -> Doubt | None:
        """Return why `hop` is no evidence of what becomes of the packet of `task`, if it is not."""
        return (
            self._unseen(task, hop)
            or self._hairpin(task, hop)
            or self._host(task, hop)
            or self._templated(task, hop)
            or self._contradicted(task, hop)
        )

    def _unseen(self, task: TraceTask, hop: Hop) -> Doubt | None:
        engine = DATAPATH_ENGINE if isinstance(task, DatapathTask) else LOGICAL_ENGINE
        for unseen in hop.unseen:
            reason = _REASONS[Spot(unseen.spot)] or Reason.ACTION_NOT_TRACED
            what = f"{engine} does not follow {unseen.what} in {unseen.stage} of {unseen.datapath}"
            if unseen.spot == Spot.RESIDENCE:
                if self._resident(task.zone, unseen):
                    continue
                what = f"{engine} takes {unseen.what} to be wherever the packet is"
            if unseen.spot == Spot.CONNECTION and not self._balances(task):
                continue
            if unseen.spot == Spot.SERVICE_CLASS and not self._class_matters():
                continue
            return Doubt(reason=reason, detail=what, datapath=unseen.datapath, stage=unseen.stage)
        return None

    def _class_matters(self) -> bool:
        """Say whether a flow of any zone, where the packet may go on, looks at service classes."""
        for name, zone in self.zones.items():
            if name not in self._classes:
                flows = itertools.chain.from_iterable(zone.flows.values())
                self._classes[name] = any(_CLASS in flow.match for flow in flows)
        return any(self._classes.values())

    def _resident(self, zone_name: str, unseen: Unseen) -> bool:
        """Say whether a port is where the packet is: in a zone of one node, or on its own switch.

        A port of type `chassisredirect` is named after the one that it stands for.
        """
        zone = self.zones[zone_name]
        port = zone.ports.get(unseen.what.removeprefix("cr-")) or zone.ports.get(unseen.what)
        if port is None or port.kind == "remote":
            return False
        peer = zone.ports.get(port.peer)
        beside = (port.datapath, peer.datapath if peer is not None else "")
        return len(zone.chassis) < 2 or unseen.datapath in beside  # noqa: PLR2004 - more than one

    def _balances(self, task: TraceTask) -> bool:
        """Say whether a load balancer of the zone has the packet's destination.

        A template's address is a variable: only its port is compared.
        """
        zone = self.zones[task.zone]
        if task.zone not in self._vips:
            self._vips[task.zone] = frozenset(
                ("" if balancer.template else address, balancer.protocol, port)
                for balancer in zone.load_balancers
                for address, port, _ in balancer.vips
            )
        flow = task.microflow
        vips = self._vips[task.zone]
        return any((ip, flow.protocol, flow.dst_port) in vips for ip in (flow.ip_dst, ""))

    def _hairpin(self, task: TraceTask, hop: Hop) -> Doubt | None:
        """Doubt a pod's way to itself by a service, where it is past the ACLs of its own side.

        There OVN translates its source, and what comes after looks at that.
        """
        if not task.draws:
            return None
        if _drew_another(task, hop):
            # A packet that is sent decides on the datapath, and has to know which it stands for.
            sent = isinstance(task, DatapathTask)
            return Doubt(
                reason=Reason.HAIRPIN_NOT_DRAWN if sent else Reason.HAIRPIN_NOT_TRANSLATED,
                detail=f"not drawn in {task.draws} traces of the service",
                datapath=hop.datapath,
                stage=hop.stage,
            )
        at_home = hop.datapath == self._switch(task)
        if at_home and hop.stage.startswith(_AFTER_BALANCING):
            return None
        return Doubt(
            reason=Reason.HAIRPIN_NOT_TRANSLATED,
            detail="no trace translates the source of what a pod sends to itself by a service",
            datapath=hop.datapath,
            stage=hop.stage,
        )

    def _switch(self, task: TraceTask) -> str:
        port = self.zones[task.zone].ports.get(task.microflow.inport)
        return port.datapath if port is not None else ""

    def _host(self, task: TraceTask, hop: Hop) -> Doubt | None:
        """Doubt what a host sends to a service's address by its management port.

        In a cluster such a packet goes over the node's bridge to its gateway router, and comes to
        a backend from there with another source.
        """
        port = self.zones[task.zone].ports.get(task.microflow.inport)
        host = port is not None and port.kind == "" and not port.is_pod
        if not host or not (task.to_service or hop.end is HopEnd.BALANCED):
            return None
        return Doubt(
            reason=Reason.HOST_TO_SERVICE,
            detail="a host reaches a service's address by its bridge and gateway router, with an "
            "address of the join network as source, and that way is not traced",
            datapath=hop.datapath,
            stage=hop.stage,
        )

    def _templated(self, task: TraceTask, hop: Hop) -> Doubt | None:
        """Doubt what a template load balancer may have taken, of which ovn-trace has no flow.

        Templates stand for node addresses with NodePorts (`^NODEIP_IPv4_0:30080`).
        """
        owner = self.owners.get(task.microflow.ip_dst)
        if isinstance(task, DatapathTask) or owner is None or owner.kind is not EndpointKind.NODE:
            return None
        if hop.stage in _BEFORE_BALANCING or hop.end is HopEnd.BALANCED:
            return None
        if not self._has_template(task):
            return None
        return Doubt(
            reason=Reason.TEMPLATE_LOAD_BALANCER,
            detail="a template load balancer has this port, which ovn-trace cannot read",
            datapath=hop.datapath,
            stage=hop.stage,
        )

    def _has_template(self, task: TraceTask) -> bool:
        """Say whether a template load balancer of the zone has the packet's destination port."""
        flow = task.microflow
        return any(
            balancer.template and balancer.protocol is flow.protocol and port == flow.dst_port
            for balancer in self.zones[task.zone].load_balancers
            for _, port, _ in balancer.vips
        )

    def _contradicted(self, task: TraceTask, hop: Hop) -> Doubt | None:
        """Doubt a packet that an ACL decided on, where another could as well, and otherwise.

        Each engine takes whichever comes first. What was let through, and is stopped elsewhere, is
        stopped in any case.
        """
        if self.rivals is None:
            return None
        stopped = hop.end in (HopEnd.DROPPED, HopEnd.REJECTED)
        for match in (*hop.passes, *hop.acls):
            others = () if stopped and match.action == "allow" else self.rivals(task, match)
            if not others:
                continue
            names = sorted(
                {f"{acl.policy or acl.owner or acl.uuid} ({acl.action})" for acl in others}
            )
            return Doubt(
                reason=Reason.ACLS_CONTRADICT,
                detail="ACLs of one tier and priority contradict each other, and each engine takes "
                f"another: {', '.join(names)}",
                datapath=match.datapath,
                stage=match.stage,
            )
        return None


def _drew_another(task: TraceTask, hop: Hop) -> bool:
    """Say whether a pod's way to itself by a service was not seen, but another backend's may be.

    What is not on its way out to the pod may have been drawn for another; only a service's sole
    backend is certain to be drawn.
    """
    return task.draws > DRAWS_PER_BACKEND and task.target not in (hop.outport, hop.port)
