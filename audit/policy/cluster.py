"""What policies refer to besides endpoints: namespaces and nodes, and the words of policies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from audit.model.endpoints import Endpoint
from audit.model.facts import AddressRanges, ClusterState
from audit.model.policies import BlockPeer, PodPeer, PolicySpec, PortMatch
from audit.model.selectors import Selector

Labels = Mapping[str, str]

Hosted = frozenset[tuple[str, str, tuple[tuple[str, str], ...]]]
"""Pods in the host network, as far as selectors tell them apart: node, namespace, labels."""

HOST_NAMESPACES = frozenset({"ovn-host-network", "openshift-host-network"})
"""The namespace in which OVN-Kubernetes keeps the nodes' own addresses: a NetworkPolicy peer that
selects it, and all its pods, means the nodes (`--host-network-namespace`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controllers:
    """In which namespace the pods are whose packets come by Ingress objects and their like.

    It is `namespace`, or where that is empty any but those that `away` has for a row, by its name.
    """

    namespace: str = ""
    away: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: ClusterState) -> "Controllers":
        """Take it from a cluster's facts: they are not among the applications that they serve.

        But the pods of a Gateway may be in its namespace, beside the applications.
        """
        if state.controller is not None:
            return cls(namespace=state.controller.namespace)
        return cls(
            away={
                ingress.row: frozenset(
                    {ingress.namespace, *(lead.namespace for lead in ingress.leads)}
                )
                - {*ingress.gateways}
                for ingress in state.ingresses
            }
        )

    def may_be_in(self, namespace: str, row: str) -> bool:
        """Tell whether those of a row may be in a namespace; surely where `namespace` names it."""
        if self.namespace:
            return namespace == self.namespace
        return namespace not in self.away.get(row, frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What policies refer to besides endpoints, and what is known where an object says nothing."""

    namespaces: Mapping[str, tuple[tuple[str, str], ...]]
    nodes: Mapping[str, Labels]
    hosted: Hosted = frozenset()
    complete: bool = True
    """Whether every namespace and node there is is among these."""
    ranges: AddressRanges = field(default_factory=AddressRanges)
    controllers: Controllers = field(default_factory=Controllers)
    attached: Mapping[str, str] = field(default_factory=dict)
    """The name of the network that each network attachment definition leads to."""

    @classmethod
    def of(cls, state: ClusterState) -> "Cluster":
        """Take it from a cluster's facts."""
        return cls(
            namespaces=state.namespaces,
            nodes={node.name: dict(node.labels) for node in state.nodes},
            hosted=hosted(state.pods),
            complete=state.complete,
            ranges=state.ranges,
            controllers=Controllers.of(state),
            attached={nad: network.name for nad, network in state.attached.items()},
        )


def hosted(pods: Iterable[Endpoint]) -> Hosted:
    """Return the pods in the host network as selectors see them."""
    return frozenset((p.node, p.namespace, p.labels) for p in pods if p.host_network)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What policies can ask about an endpoint: label keys, port names, ports and CIDRs."""

    keys: frozenset[str]
    names: frozenset[str]
    ports: frozenset[PortMatch]
    cidrs: frozenset[str]

    @classmethod
    def of(cls, specs: Iterable[PolicySpec]) -> "Vocabulary":
        """Collect it from policies."""
        keys, ports, cidrs = set[str](), set[PortMatch](), set[str]()
        selectors = set[Selector]()
        for spec in specs:
            selectors.add(spec.subject.pods)
            for rule in spec.rules:
                ports.update(rule.ports or ())
                for peer in rule.peers or ():
                    if isinstance(peer, PodPeer):
                        selectors.add(peer.pods)
                    elif isinstance(peer, BlockPeer):
                        cidrs.update((peer.cidr, *peer.excluded))
        for selector in selectors:
            keys.update(requirement.key for requirement in selector.requirements)
        names = frozenset(match.name for match in ports if match.name)
        return cls(
            keys=frozenset(keys), names=names, ports=frozenset(ports), cidrs=frozenset(cidrs)
        )
