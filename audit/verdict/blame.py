"""Logical flow → ACL → Kubernetes policy and rule. Pure.

A trace prints eight digits of a logical flow's uuid, and the flow's `stage-hint` is eight digits
of the ACL's: each step is one to many, and told apart by what else is known (the stage, the
match the flow carries). A namespace's default deny belongs to every policy that selects the pod
in that direction, so all of them are named.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audit.model.facts import Acl, FlowHint, Policy, PortGroup, Zone
from audit.model.traces import AclMatch, Hop
from audit.model.verdicts import Blame, PolicyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """An ACL that let a packet through in a datapath, which it had `entered` by a port."""

    datapath: str
    entered: str
    blame: Blame


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamer:
    """Finds the object behind an ACL stage's verdict."""

    zones: Mapping[str, Zone]
    policies: Mapping[PolicyRef, Policy]
    groups: Mapping[tuple[str, str], tuple[PortGroup, ...]]
    """By zone and namespace: the port groups that hold the pods a NetworkPolicy there selects."""

    @classmethod
    def of(cls, zones: Mapping[str, Zone], policies: Iterable[Policy]) -> "Blamer":
        """Index the policies by what they are called, and their port groups by namespace."""
        groups: dict[tuple[str, str], tuple[PortGroup, ...]] = defaultdict(tuple)
        for name, zone in zones.items():
            for group in zone.port_groups:
                if group.policy is not None and group.policy.kind == "NetworkPolicy":
                    groups[name, group.policy.namespace] += (group,)
        return cls(
            zones=zones, policies={policy.ref: policy for policy in policies}, groups=dict(groups)
        )

    def blame(self, zone_name: str, hop: Hop, match: AclMatch, inport: str) -> Blame | None:
        """Return who decided at `match`; None when it was no ACL but the pipeline's own flow.

        `inport` is where the traced packet entered: the pod an egress policy selects.
        """
        acl = _acl_of(self.zones[zone_name], match)
        if acl is None:
            return None
        policies: tuple[PolicyRef, ...] = ()
        policy = acl.policy
        if policy is None and acl.namespace_default:
            port = hop.outport if acl.policy_direction == "ingress" else inport
            policies = self._selecting(zone_name, port, acl)
            # Of policies whose text is unknown nobody knows which isolate: none is singled out.
            policy = next((ref for ref in policies if ref in self.policies), None)
        return Blame(
            action=match.action,
            direction=acl.policy_direction,
            policy=policy,
            policies=policies,
            rule=acl.rule,
            owner=acl.owner,
            acl=acl.uuid,
            acl_match=acl.match,
            logical_flow=match.logical_flow,
            stage=match.stage,
            zone=zone_name,
        )

    def last(self, zone_name: str, hop: Hop, inport: str, actions: frozenset[str]) -> Blame | None:
        """Return who decided last among the ACL verdicts of these kinds."""
        for match in reversed(hop.acls):
            if match.action in actions:
                blame = self.blame(zone_name, hop, match, inport)
                if blame is not None:
                    return blame
        return None

    def allows(self, zone_name: str, hop: Hop, inport: str) -> tuple[Allowed, ...]:
        """Return the ACLs that let the packet through, in order."""
        allowing = (
            (match, self.blame(zone_name, hop, match, inport))
            for match in hop.acls
            if match.action == "allow"
        )
        return tuple(
            Allowed(datapath=match.datapath, entered=match.inport, blame=blame)
            for match, blame in allowing
            if blame is not None
        )

    def _selecting(self, zone: str, port: str, acl: Acl) -> tuple[PolicyRef, ...]:
        """Return the namespace's policies that isolate `port` in the ACL's direction.

        Those without a rule in that direction come first: they are the plain default denies.
        A policy that the port groups know and the objects do not is kept, last.
        """
        groups = self.groups.get((zone, acl.namespace_default), ())
        refs = {
            group.policy for group in groups if group.policy is not None and port in group.ports
        }
        selecting = [ref for ref in refs if self._acts(ref, acl.policy_direction)]
        return tuple(sorted(selecting, key=lambda ref: (self._rank(ref, acl), ref.name)))

    def _acts(self, ref: PolicyRef, direction: str) -> bool:
        policy = self.policies.get(ref)
        return policy is None or direction in policy.directions

    def _rank(self, ref: PolicyRef, acl: Acl) -> int:
        policy = self.policies.get(ref)
        if policy is None:
            return 2
        return int(policy.rules[0 if acl.policy_direction == "ingress" else 1] > 0)


def _acl_of(zone: Zone, match: AclMatch) -> Acl | None:
    """Return the ACL a logical flow was made from; None where it may have been one of several."""
    candidates = _candidates(zone, match)
    # One object's ACLs, a rule's for tcp and udp say, name the same culprit.
    culprits = {
        (acl.owner or acl.uuid, acl.policy, acl.policy_direction, acl.rule) for acl in candidates
    }
    return candidates[0] if len(culprits) == 1 else None


def _candidates(zone: Zone, match: AclMatch) -> list[Acl]:
    """Return the ACLs that a logical flow can have been made from.

    northd keeps the hint of a flow when an equal ACL takes the place of the one that it was made
    for, so where the hint names none that fits, the match, the priority and the verdict do.
    """
    flow_hints = zone.flow_hints.get(match.logical_flow, ())
    hints = [hint for hint in flow_hints if hint.stage == match.stage]
    hinted = [
        acl for hint in hints for acl in zone.acls.get(hint.hint, ()) if _made(acl, hint, match)
    ]
    return hinted or [
        acl
        for hint in hints
        for acl in itertools.chain.from_iterable(zone.acls.values())
        if _made(acl, hint, match)
    ]


def _fits(acl: Acl, match: AclMatch) -> bool:
    """Say whether an ACL's direction can be evaluated in a stage (ovn-nb(5), ACL)."""
    ingress = match.stage.startswith("ls_in_")
    return acl.direction == ("from-lport" if ingress else "to-lport")


def _made(acl: Acl, hint: FlowHint, match: AclMatch) -> bool:
    """Say whether a flow of this stage, match, verdict and priority can be made from an ACL."""
    return (
        _fits(acl, match)
        and acl.flow_priority == match.priority
        and _is(acl.match, hint.match)
        and acl.action.startswith(match.action)
    )


def _is(match: str, of_flow: str) -> bool:
    """Say whether a flow's match is an ACL's between northd's own conditions, and no more."""
    return of_flow == match or of_flow.endswith((f"({match})", f"&& {match}"))
