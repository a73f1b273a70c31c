"""Endpoints as policies tell them apart: classes, and what selectors and CIDRs choose of them.

Two endpoints are of one class when no policy in force can tell them apart, so everything is
decided for classes and then looked up by index. What a policy sees of an endpoint is its kind,
its namespace, the labels whose keys some selector names, the ports whose names some rule uses,
and where its addresses lie between the CIDRs that occur. A set of classes is a sorted array of
their numbers.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, NamedPort
from audit.model.packets import Family
from audit.model.policies import (
    BlockPeer,
    Direction,
    NamePeer,
    NodePeer,
    Peer,
    PodPeer,
    PolicySpec,
    PortMatch,
)
from audit.model.selectors import EVERYTHING, Requirement, Selector

Hosted = frozenset[tuple[str, str, tuple[tuple[str, str], ...]]]
"""Pods in the host network, as far as selectors tell them apart: node, namespace, labels."""

Classes = NDArray[np.intp]
Labels = Mapping[str, str]

HOST_NAMESPACES = frozenset({"ovn-host-network", "openshift-host-network"})
"""The namespace in which OVN-Kubernetes keeps the nodes' own addresses: a NetworkPolicy peer that
selects it, and all its pods, means the nodes (`--host-network-namespace`)."""

_NO_ADDRESS = -1
_NONE: Classes = np.empty(0, dtype=np.intp)


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


class _Line:
    """Addresses of a family in order, cut at the edges of CIDRs: what lies between is one atom."""

    def __init__(self, cidrs: Iterable[str], family: Family) -> None:
        self._width = 4 if family is Family.IP4 else 16
        edges = set[bytes]()
        for cidr in cidrs:
            if Family.of(cidr) is family:
                edges.update(self._ends(cidr))
        self._edges = np.array(sorted(edges), dtype=f"S{self._width}")

    def _ends(self, cidr: str) -> tuple[bytes, ...]:
        """Return where a CIDR begins and, unless it reaches the end of all, where it has ended."""
        network = ipaddress.ip_network(cidr, strict=False)
        after = int(network.broadcast_address) + 1
        first = network.network_address.packed
        if after.bit_length() > self._width * 8:
            return (first,)
        return (first, after.to_bytes(self._width, "big"))

    def atoms(self, addresses: Sequence[str | None]) -> NDArray[np.int32]:
        """Return each address' atom; _NO_ADDRESS for None."""
        packed = [b"" if a is None else ipaddress.ip_address(a).packed for a in addresses]
        found = np.searchsorted(
            self._edges, np.array(packed, dtype=f"S{self._width}"), side="right"
        ).astype(np.int32)
        found[[a is None for a in addresses]] = _NO_ADDRESS
        return found

    def span(self, cidr: str) -> tuple[int, int]:
        """Return the atoms of a CIDR: from the first up to, and without, the second."""
        ends = np.searchsorted(
            self._edges, np.array(self._ends(cidr), dtype=f"S{self._width}"), side="right"
        )
        return int(ends[0]), int(ends[1]) if len(ends) > 1 else len(self._edges) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Classes that a peer surely is, and those of which it cannot be known."""

    surely: Classes
    perhaps: Classes


class Population:
    """Endpoints and their classes, for one address family.

    `of[e]` is the class of endpoint e, `samples[c]` an endpoint of class c, and classes are
    sorted by namespace.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        namespaces: Mapping[str, tuple[tuple[str, str], ...]],
        nodes: Mapping[str, Labels],
        words: Vocabulary,
        family: Family,
        hosted: Hosted = frozenset(),
    ) -> None:
        """Sort endpoints into classes. Namespaces and nodes come with their labels."""
        self._hosted = hosted
        self._words = words
        self._family = family
        self._line = _Line(words.cidrs, family)
        self._nodes = nodes
        sent = self._line.atoms([_sent(e, family) for e in endpoints])
        received = self._line.atoms([e.address(family) for e in endpoints])
        self.of, self.samples = self._sort(endpoints, sent, received)
        self._sent = sent[[*self._firsts]]
        self._received = received[[*self._firsts]]
        self._spaces = {name: dict(labels) for name, labels in namespaces.items()}
        self._count_classes()
        self._chosen: dict[object, Classes] = {}
        self._tables: dict[Requirement, NDArray[np.bool_]] = {}
        self._columns = {key: self._column(key) for key in sorted(words.keys)}

    def __len__(self) -> int:
        return len(self.samples)

    def _sort(
        self,
        endpoints: Sequence[Endpoint],
        sent: NDArray[np.int32],
        received: NDArray[np.int32],
    ) -> tuple[NDArray[np.int32], tuple[Endpoint, ...]]:
        seen: dict[tuple[object, ...], int] = {}
        first: list[int] = []
        kept: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}
        raw = np.empty(len(endpoints), dtype=np.int64)
        ends = zip(sent.tolist(), received.tolist(), strict=True)
        for index, (endpoint, atoms) in enumerate(zip(endpoints, ends, strict=True)):
            labels = kept.get(endpoint.labels)
            if labels is None:
                labels = tuple(pair for pair in endpoint.labels if pair[0] in self._words.keys)
                kept[endpoint.labels] = labels
            key = (
                endpoint.namespace,
                endpoint.kind,
                endpoint.host_network,
                # A host is told apart by its node: it reaches its own pods, and has node labels.
                endpoint.node if endpoint.host_network else "",
                labels,
                self.named(endpoint),
                *atoms,
            )
            if key not in seen:
                seen[key] = len(first)
                first.append(index)
            raw[index] = seen[key]
        order = sorted(range(len(first)), key=lambda c: (endpoints[first[c]].namespace, c))
        place = np.empty(len(first), dtype=np.int32)
        place[order] = np.arange(len(first), dtype=np.int32)
        self._firsts = tuple(first[c] for c in order)
        return place[raw], tuple(endpoints[i] for i in self._firsts)

    def named(self, endpoint: Endpoint) -> tuple[NamedPort, ...]:
        """Return the named ports of a pod that some rule asks for by name.

        A pod in the host network is its node to policies, and a node has none.
        """
        if not _on_pod_network(endpoint) or not self._words.names:
            return ()
        return tuple(own for own in endpoint.declared if own.name in self._words.names)

    def _count_classes(self) -> None:
        self.pod_network: NDArray[np.bool_] = np.array(
            [_on_pod_network(e) for e in self.samples], np.bool_
        )
        """Classes of pods on the pod network: what policies select."""
        self.host: NDArray[np.bool_] = np.array([e.host_network for e in self.samples], np.bool_)
        """Classes of nodes and of pods at their node's address."""
        self._outside = np.array(
            [e.kind is EndpointKind.EXTERNAL for e in self.samples], dtype=np.bool_
        )
        members: dict[str, list[int]] = {}
        for number, endpoint in enumerate(self.samples):
            if self.pod_network[number]:
                members.setdefault(endpoint.namespace, []).append(number)
        self._members = {name: np.array(found, np.intp) for name, found in members.items()}
        self._all_pods = np.flatnonzero(self.pod_network)
        self.everyone: Classes = np.arange(len(self.samples))

    def _column(self, key: str) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Return a label's values, and which of them each class has; -1 for none."""
        places: dict[str, int] = {}
        codes = np.full(len(self.samples), -1, dtype=np.int32)
        for number, endpoint in enumerate(self.samples):
            for own, value in endpoint.labels:
                if own == key:
                    codes[number] = places.setdefault(value, len(places))
        return tuple(places), codes

    def _meeting(self, requirement: Requirement, among: Classes) -> NDArray[np.bool_]:
        values, codes = self._columns[requirement.key]
        table = self._tables.get(requirement)
        if table is None:
            has = [requirement.matches({requirement.key: value}) for value in values]
            # The last entry is that of code -1: an object without the label.
            table = np.array([*has, requirement.matches({})], dtype=np.bool_)
            self._tables[requirement] = table
        met: NDArray[np.bool_] = table[codes[among]]
        return met

    def pods(self, peer: PodPeer, namespace: str) -> Classes:
        """Return the pods on the pod network that a peer, or a subject, selects."""
        where: object = namespace if peer.namespaces is None else peer.namespaces
        key = (where, peer.pods)
        found = self._chosen.get(key)
        if found is None:
            found = self._space(peer.namespaces, namespace)
            for requirement in peer.pods.requirements:
                found = found[self._meeting(requirement, found)]
            self._chosen[key] = found
        return found

    def _space(self, selector: Selector | None, namespace: str) -> Classes:
        """Return the pods of one namespace, or of those selected."""
        if selector is None:
            return self._members.get(namespace, _NONE)
        if selector == EVERYTHING:
            return self._all_pods
        found = self._chosen.get(selector)
        if found is None:
            parts = [
                members
                for name, members in self._members.items()
                if selector.matches(self._spaces.get(name, {}))
            ]
            found = np.sort(np.concatenate(parts)) if parts else _NONE
            self._chosen[selector] = found
        return found

    def peers(self, peer: Peer, namespace: str, direction: Direction) -> Chosen:
        """Return the classes a rule's peer means, as the other end in `direction`."""
        match peer:
            case PodPeer():
                surely = self.pods(peer, namespace)
                if direction is Direction.INGRESS and namespace and self._means_hosts(peer):
                    surely = np.union1d(surely, np.flatnonzero(self.host))
                if direction is Direction.EGRESS and namespace and not peer.whole:
                    surely = np.union1d(surely, self._hosting(peer, namespace))
                return Chosen(surely=surely, perhaps=_NONE)
            case BlockPeer():
                return self._block(peer, direction)
            case NodePeer():
                return Chosen(surely=self._hosts(peer.nodes), perhaps=_NONE)
            case NamePeer():
                # Names are looked up by OVN-Kubernetes, and a lookup is in no object.
                return Chosen(surely=_NONE, perhaps=np.flatnonzero(self._outside | self.host))

    def _means_hosts(self, peer: PodPeer) -> bool:
        """Tell whether a NetworkPolicy's peer selects the namespace that stands for the nodes."""
        selector = peer.namespaces
        if selector is None or not peer.whole:
            return False
        return any(
            selector.matches(self._spaces[name]) for name in HOST_NAMESPACES & self._spaces.keys()
        )

    def _hosting(self, peer: PodPeer, namespace: str) -> Classes:
        """Return the hosts at whose address a NetworkPolicy's peer selects a pod.

        Its address set has the pod's address, which is the node's and so that of everything there.
        """
        where: object = namespace if peer.namespaces is None else peer.namespaces
        key = ("hosting", where, peer.pods)
        found = self._chosen.get(key)
        if found is None:
            nodes = {
                node
                for node, space, labels in self._hosted
                if self._is_of(space, peer.namespaces, namespace)
                and peer.pods.matches(dict(labels))
            }
            hosts = np.flatnonzero(self.host)
            found = hosts[[self.samples[c].node in nodes for c in hosts]] if nodes else _NONE
            self._chosen[key] = found
        return found

    def _is_of(self, space: str, selector: Selector | None, namespace: str) -> bool:
        if selector is None:
            return space == namespace
        return selector.matches(self._spaces.get(space, {}))

    def _block(self, peer: BlockPeer, direction: Direction) -> Chosen:
        if Family.of(peer.cidr) is not self._family:
            return Chosen(surely=_NONE, perhaps=_NONE)
        # A source is what it sends from, a destination what it is sent to.
        atoms = self._sent if direction is Direction.INGRESS else self._received
        first, last = self._line.span(peer.cidr)
        inside = (atoms >= first) & (atoms < last)
        for excluded in peer.excluded:
            if Family.of(excluded) is not self._family:
                continue
            low, high = self._line.span(excluded)
            inside &= (atoms < low) | (atoms >= high)
        unknown = np.flatnonzero((atoms == _NO_ADDRESS) & self.pod_network)
        if not peer.excluded and ipaddress.ip_network(peer.cidr).prefixlen == 0:
            return Chosen(surely=np.union1d(np.flatnonzero(inside), unknown), perhaps=_NONE)
        return Chosen(surely=np.flatnonzero(inside), perhaps=unknown)

    def _hosts(self, selector: Selector) -> Classes:
        chosen = {name for name, labels in self._nodes.items() if selector.matches(labels)}
        hosts = np.flatnonzero(self.host)
        return hosts[[self.samples[c].node in chosen for c in hosts]]

    def used_ports(self) -> Iterator[NamedPort]:
        """Yield the named ports that rules ask for, of all classes."""
        for endpoint in self.samples:
            yield from self.named(endpoint)


def _on_pod_network(endpoint: Endpoint) -> bool:
    return endpoint.kind is EndpointKind.POD and not endpoint.host_network


def _sent(endpoint: Endpoint, family: Family) -> str | None:
    """Return the address an endpoint sends with."""
    sends = endpoint.attachment.addresses if endpoint.attachment else endpoint.addresses
    return next((a for a in sends if Family.of(a) is family), None)
