"""Kubernetes' side of the inventory: which pods and addresses OVN's rows should have. Pure.

Of some pods it is sure that their address is in every set that selects them; of others it depends
on the version and the moment (host network, being deleted, pending, in a user-defined network), so
neither their absence nor their presence says anything.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from audit.facts.addresses import network, networks
from audit.facts.kube import FINISHED, NodeFacts, PodFacts
from audit.facts.topology import Topology
from audit.model.facts import Policy, Zone
from audit.model.policies import PodPeer
from audit.model.selectors import Selector

Name = tuple[str, str]
"""A pod's namespace and name."""

MOST_ZONES = 3
"""Zones that a sentence names; it counts all."""
_HOST_PLACES = 4
"""The first addresses of a node's subnet are the router's, the host's and hybrid overlay's."""


@lru_cache(maxsize=1 << 16)
def plain(address: str) -> str:
    """Return an address, or a network, in its canonical form; a network of one is an address."""
    parsed = network(address)
    if parsed is None:
        return address
    return str(parsed.network_address if parsed.num_addresses == 1 else parsed)


def family_of(address: str) -> str:
    """Return the `ip-family` of an address or network."""
    return "v6" if ":" in address else "v4"


def in_zones(zones: Collection[str]) -> str:
    """Return `in zone a`, or `in 12 zones (a, b, c and 9 more)`."""
    if len(zones) == 1:
        return f"in zone {next(iter(zones))}"
    return f"in {len(zones)} zones ({listed(sorted(zones))})"


def listed(names: Sequence[str]) -> str:
    """Return the first of some names and how many more there are."""
    shown = ", ".join(names[:MOST_ZONES])
    more = len(names) - MOST_ZONES
    return f"{shown} and {more} more" if more > 0 else shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Pods that a selector chooses: those that must be there, and those that may be."""

    sure: tuple[PodFacts, ...]
    maybe: tuple[PodFacts, ...]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Everything Kubernetes says that OVN's rows are compared with."""

    pods: Sequence[PodFacts]
    nodes: Sequence[NodeFacts]
    namespaces: Mapping[str, tuple[tuple[str, str], ...]]
    policies: Sequence[Policy]
    kinds: frozenset[str]
    """Policy kinds that were listed: of others nothing is known."""
    zones: Mapping[str, Zone]
    topology: Topology
    differing: frozenset[Name] = frozenset()
    """Pods whose port differs, or that changed while they were read: sets may have what was."""
    _chosen: dict[object, Selected] = field(default_factory=dict)

    @cached_property
    def present(self) -> Sequence[PodFacts]:
        """Pods that have a network, or may have one."""
        return [pod for pod in self.pods if pod.phase not in FINISHED]

    @cached_property
    def by_namespace(self) -> Mapping[str, Sequence[PodFacts]]:
        """The same by namespace."""
        pods: dict[str, list[PodFacts]] = defaultdict(list)
        for pod in self.present:
            pods[pod.namespace].append(pod)
        return pods

    @cached_property
    def owners(self) -> Mapping[str, tuple[PodFacts, ...]]:
        """Who has an address, or had it and is completed; those that have it first."""
        owners: dict[str, list[PodFacts]] = defaultdict(list)
        for pod in sorted(self.pods, key=lambda pod: pod.phase in FINISHED):
            for address in dict.fromkeys((*pod.addresses, *pod.assigned)):
                if not pod.host_network:
                    owners[plain(address)].append(pod)
        return {address: tuple(pods) for address, pods in owners.items()}

    @cached_property
    def hosts(self) -> frozenset[str]:
        """Addresses of hosts: sets that mean the nodes have them too."""
        addresses = {
            plain(a) for node in self.nodes for a in (*node.addresses, *node.host_addresses)
        }
        for node in self.nodes:
            for subnet in networks(node.subnets):
                places = range(min(_HOST_PLACES, subnet.num_addresses))
                addresses.update(str(subnet[index]) for index in places)
        return frozenset(addresses)

    @cached_property
    def _subnets(self) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return networks(subnet for node in self.nodes for subnet in node.subnets)

    def on_pod_network(self, address: str) -> bool:
        """Whether an address is one of a node's subnet, which only pods have."""
        parsed = network(address)
        return parsed is not None and any(
            parsed.network_address in subnet
            for subnet in self._subnets
            if subnet.version == parsed.version
        )

    @cached_property
    def unlisted(self) -> frozenset[str]:
        """Namespaces whose ports are in OVN and of which no object was listed: a part of a dump."""
        with_objects = {pod.namespace for pod in self.pods} | {
            p.ref.namespace for p in self.policies
        }
        return frozenset(namespace for namespace, _ in self.topology.pod_ports) - with_objects

    def sure(self, pod: PodFacts) -> bool:
        """Whether a pod must be in what selects it."""
        return (
            settled(pod)
            and bool(pod.addresses)
            and name_of(pod) not in self.differing
            and name_of(pod) in self.topology.pod_ports
            and not self.moving(pod)
        )

    def moving(self, pod: PodFacts) -> bool:
        """Whether another pod has its address too, as where a virtual machine is migrated."""
        return any(
            other is not pod and other.phase not in FINISHED
            for address in pod.addresses
            for other in self.owners.get(plain(address), ())
        )

    @cached_property
    def doubtful(self) -> frozenset[str]:
        """Addresses that OVN gives to pods which Kubernetes says are elsewhere, or does not have.

        A port that a pod left behind is a difference of its own.
        """
        gone = self.topology.pod_ports.keys() - set(map(name_of, self.pods))
        ports = (self.topology.pod_ports.get(name, ()) for name in self.differing | gone)
        return frozenset(
            plain(a) for pod_ports in ports for _, port in pod_ports for a in port.addresses
        )

    def peer(self, peer: PodPeer, namespace: str) -> Selected:
        """Return the pods that a subject or a peer selects."""
        return self.select(peer.namespaces, namespace, peer.pods)

    def select(self, spaces: Selector | None, namespace: str, pods: Selector) -> Selected:
        """Return pods of one namespace, or of those selected."""
        key = (namespace if spaces is None else spaces, pods)
        selected = self._chosen.get(key)
        if selected is None:
            selected = self._chosen[key] = self._select(spaces, namespace, pods)
        return selected

    def _select(self, spaces: Selector | None, namespace: str, pods: Selector) -> Selected:
        chosen = (
            [namespace]
            if spaces is None
            else [name for name, labels in self.namespaces.items() if spaces.matches(dict(labels))]
        )
        matches: dict[tuple[tuple[str, str], ...], bool] = {}
        sure: list[PodFacts] = []
        maybe: list[PodFacts] = []
        for name in chosen:
            for pod in self.by_namespace.get(name, ()):
                met = matches.get(pod.labels)
                if met is None:
                    met = matches[pod.labels] = pods.matches(dict(pod.labels))
                if met:
                    (sure if self.sure(pod) else maybe).append(pod)
        return Selected(sure=tuple(sure), maybe=tuple(maybe))

    @cached_property
    def zone_of(self) -> Mapping[Name, str]:
        """The zone of each pod's port."""
        return {name: ports[0][0] for name, ports in self.topology.pod_ports.items()}

    @cached_property
    def pods_of_ports(self) -> Mapping[tuple[str, str], Name]:
        """(zone, port) → the pod it is of."""
        return {
            (zone, port.name): name
            for name, ports in self.topology.pod_ports.items()
            for zone, port in ports
        }

    def nodes_of(self, zones: Iterable[str]) -> tuple[str, ...]:
        """Return the nodes of zones."""
        wanted = set(zones)
        places = self.topology.switch_of_node.items()
        return tuple(sorted(node for node, (zone, _) in places if zone in wanted))


def settled(pod: PodFacts) -> bool:
    """Whether a pod runs on the default network, and will."""
    leaving = pod.terminating or pod.host_network or bool(pod.primary_network)
    return pod.phase == "Running" and not leaving


def key_of(name: Name) -> str:
    """Return a pod's key as an endpoint."""
    return f"pod {name[0]}/{name[1]}"


def name_of(pod: PodFacts) -> Name:
    """Return a pod's namespace and name."""
    return pod.namespace, pod.name
