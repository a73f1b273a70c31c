"""ACLs of one tier and priority that contradict each other: which of them match a packet. Pure.

OVN does not say which of two equal logical flows decides, and each engine takes another:
`ovn-trace` by its own order, a node by its table's. So where several match and do not say the same,
no trace is evidence of what the cluster does.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from audit.cover import acls, matches
from audit.cover.matches import MatchError, PortIs, Side, Term
from audit.model.facts import Acl, Zone
from audit.model.packets import ConntrackState
from audit.model.traces import AclMatch, TraceTask

_KINDS = {"drop": "stop", "reject": "stop", "pass": "pass"}


class _Right(NamedTuple):
    """Where an ACL is evaluated; those with the same right exclude each other."""

    direction: str
    after_lb: bool
    tier: int
    flow_priority: int


_Rivals = Mapping[_Right, tuple[Acl, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradictions:
    """Finds them for a packet that was traced; what is in force is read once for each switch."""

    zones: Mapping[str, Zone]
    _switches: dict[tuple[str, str], _Rivals] = field(default_factory=dict, compare=False)
    _groups: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict, compare=False)
    _acls: dict[str, Mapping[str, tuple[Acl, ...]]] = field(default_factory=dict, compare=False)

    def __call__(self, task: TraceTask, match: AclMatch) -> tuple[Acl, ...]:
        """Return all that could have decided at `match`, if they do not say the same; else none."""
        if task.state is ConntrackState.REPLY:
            return ()  # it is let through before any ACL is looked at
        direction = "from-lport" if match.stage.startswith("ls_in_") else "to-lport"
        after_lb = match.stage.startswith("ls_in_acl_after_lb")
        for right, listed in self._in_force(task.zone, match.datapath).items():
            if right[:2] != (direction, after_lb) or right.flow_priority != match.priority:
                continue
            matching = tuple(acl for acl in listed if self._holds(acl, task, match))
            kinds = _kinds(matching)
            if len(kinds) > 1 and _kind(match.action) in kinds:
                return matching
        return ()

    def _in_force(self, zone_name: str, switch: str) -> _Rivals:
        """Return the ACLs of a switch that others with the same right may contradict."""
        if (zone_name, switch) not in self._switches:
            zone = self.zones[zone_name]
            if zone_name not in self._acls:
                self._acls[zone_name] = acls.in_force(zone)
                self._groups[zone_name] = {group.name: group.ports for group in zone.port_groups}
            by_right: dict[_Right, list[Acl]] = defaultdict(list)
            for acl in self._acls[zone_name].get(switch, ()):
                by_right[_Right(acl.direction, acl.after_lb, acl.tier, acl.flow_priority)].append(
                    acl
                )
            self._switches[zone_name, switch] = {
                right: tuple(listed)
                for right, listed in by_right.items()
                if len(_kinds(listed)) > 1
            }
        return self._switches[zone_name, switch]

    def _holds(self, acl: Acl, task: TraceTask, match: AclMatch) -> bool:
        """Say whether an ACL matches the packet; no where nothing is known of its match."""
        zone, groups = self.zones[task.zone], self._groups[task.zone]
        flow = task.microflow
        ports = {Side.SRC: match.inport, Side.DST: match.outport}
        try:
            near = [
                term for term in acls.terms(acl.match) if _at_ports(term, ports, groups)
            ]  # most are of other ports, and need no look at address sets
            return matches.holds(
                near,
                inport=match.inport,
                outport=match.outport,
                ports_in_groups=groups,
                src=flow.ip_src,
                dst=flow.ip_dst,
                address_sets=zone.address_sets,
                protocol=flow.protocol,
                port=flow.dst_port,
            )
        except (MatchError, KeyError):  # OVN ignores a flow that names a set which does not exist
            return False


def _at_ports(term: Term, ports: Mapping[Side, str], groups: Mapping[str, frozenset[str]]) -> bool:
    return all(
        (
            ports[part.side] in part.names
            or any(ports[part.side] in groups.get(name, ()) for name in part.groups)
        )
        != part.negated
        for part in term.literals
        if isinstance(part, PortIs)
    )


def _kinds(acls: Iterable[Acl]) -> set[str]:
    return {_kind(acl.action) for acl in acls}


def _kind(action: str) -> str:
    """Return what an action comes to: packets are stopped, let through, or left to a later tier."""
    return _KINDS.get(action, "allow")
