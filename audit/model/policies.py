"""Policies as values: what the objects say, in one shape for every kind.

A NetworkPolicy, a MultiNetworkPolicy, an AdminNetworkPolicy, the baseline one, a
ClusterNetworkPolicy and an EgressFirewall all come to the same: a subject, and rules in their
order, each with an action, peers and ports. What they differ in is the tier they are evaluated in,
and what happens where no rule matches. Sources: networking.k8s.io/v1, k8s.cni.cncf.io/v1beta1,
policy.networking.k8s.io/v1alpha1 and /v1alpha2, and k8s.ovn.org/v1 (EgressFirewall).
"""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from audit.model.endpoints import MAX_PORT
from audit.model.packets import Protocol
from audit.model.selectors import EVERYTHING, Selector


class Direction(StrEnum):
    """A side of a policy, as its author sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Tier(StrEnum):
    """What is evaluated before what: the first tier with a decision ends it."""

    ADMIN = "admin"
    NETWORK_POLICY = "network-policy"
    BASELINE = "baseline"
    FIREWALL = "firewall"
    """EgressFirewall: no tier of the three, but a second gate that egress passes besides."""


class Action(StrEnum):
    """What a rule does with what it matches; `Accept` of ClusterNetworkPolicy is ALLOW."""

    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105 - an action, no password


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMatch:
    """Ports of a rule: numbers `first` to `last` of a protocol, or those a name stands for.

    `protocol` is None only with a name (AdminNetworkPolicy), which then is of any protocol. A
    protocol without a number is all its ports. Only pods have named ports.
    """

    protocol: Protocol | None
    first: int = 0
    last: int = MAX_PORT
    name: str = ""

    def __post_init__(self) -> None:
        if self.protocol is None and not self.name:
            raise ValueError("a port without a name needs a protocol")
        if not 0 <= self.first <= self.last <= MAX_PORT:
            raise ValueError(f"{self.first}-{self.last} is no range of ports")

    @property
    def whole(self) -> bool:
        """Whether this is every port of a protocol."""
        return not self.name and (self.first, self.last) == (0, MAX_PORT)

    def __str__(self) -> str:
        protocol = f"{self.protocol}/" if self.protocol else ""
        if self.name:
            return f"{protocol}{self.name}"
        if self.whole:
            return str(self.protocol)
        return f"{protocol}{self.first}" + (f"-{self.last}" if self.last != self.first else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPeer:
    """Pods on the pod network, of the namespaces selected; None is the policy's own namespace.

    `whole` is a NetworkPolicy's peer that selects namespaces and says nothing of pods: one with a
    pod selector, an empty one too, is another thing to OVN-Kubernetes where hosts are concerned.
    """

    namespaces: Selector | None = None
    pods: Selector = EVERYTHING
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPeer:
    """Addresses of a CIDR, without those of `excluded`; also pods', where they lie in it."""

    cidr: str
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for cidr in (self.cidr, *self.excluded):
            ipaddress.ip_network(cidr, strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePeer:
    """The addresses of the nodes selected."""

    nodes: Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePeer:
    """Whatever DNS names resolve to: no policy object says which addresses these are."""

    names: tuple[str, ...]


Peer = PodPeer | BlockPeer | NodePeer | NamePeer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `peers` None is everyone and `ports` None every port; an empty tuple is no one.

    `index` is its place in `spec.ingress` or `spec.egress`.
    """

    direction: Direction
    index: int
    action: Action
    peers: tuple[Peer, ...] | None = None
    ports: tuple[PortMatch, ...] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """What a policy object means. `namespace` is empty for cluster-scoped kinds.

    `isolates` are the directions in which a NetworkPolicy denies its subject what no rule of any
    policy allows; other kinds isolate nothing. A lower `priority` goes first in its tier.
    `attachments` are the network attachment definitions that a MultiNetworkPolicy is for, as
    `namespace/name`: it concerns their secondary networks only. None is every other kind, which
    concerns a pod's primary network.
    """

    tier: Tier
    namespace: str = ""
    priority: int = 0
    subject: PodPeer
    rules: tuple[Rule, ...] = ()
    isolates: frozenset[Direction] = frozenset()
    attachments: frozenset[str] | None = None
    types_implied: bool = False
    """Whether the object leaves it to its rules which directions it isolates."""

    def facing(self, direction: Direction) -> tuple[Rule, ...]:
        """Return the rules of a direction, in their order."""
        return tuple(rule for rule in self.rules if rule.direction is direction)
