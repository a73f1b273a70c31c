"""Endpoints as policies tell them apart: classes, and what selectors and CIDRs choose of them.

Two endpoints are of one class when no policy in force can tell them apart, so everything is
decided for classes and then looked up by index. What a policy sees of an endpoint is its kind,
its namespace, the labels whose keys some selector names, the ports whose names some rule uses,
and where its addresses lie between the CIDRs that occur. A set of classes is a sorted array of
their numbers.

Not all of that is known of every endpoint: manifests have no addresses, and mention namespaces
whose labels they do not have. So who is chosen comes in two sets, those that surely are and those
that perhaps are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import LIKE_PODS, Endpoint, EndpointKind, NamedPort
from audit.model.networks import Role
from audit.model.packets import Family
from audit.model.policies import (
    BlockPeer,
    Direction,
    NamePeer,
    NodePeer,
    Peer,
    PodPeer,
    PolicySpec,
    Rule,
    Tier,
)
from audit.model.selectors import (
    EVERYTHING,
    EXISTENCE,
    SETS,
    UNSAID,
    Operator,
    Requirement,
    Selector,
)
from audit.policy.addresses import NO_ADDRESS, Line, Somewhere
from audit.policy.cluster import HOST_NAMESPACES, Cluster, Vocabulary
from audit.policy.labels import GRADES, NO, PERHAPS, UNKNOWN_LABELS, YES, Column

Classes = NDArray[np.intp]
_NAME_LABEL = "kubernetes.io/metadata.name"
_NONE: Classes = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Classes that are surely chosen, and others of which it cannot be known."""

    surely: Classes = field(default_factory=lambda: _NONE)
    perhaps: Classes = field(default_factory=lambda: _NONE)

    def __bool__(self) -> bool:
        """Tell whether anybody is, or may be, chosen."""
        return bool(self.surely.size or self.perhaps.size)


def union(chosen: Sequence[Chosen]) -> Chosen:
    """Return who is chosen by any of several."""
    if len(chosen) == 1:
        return chosen[0]
    surely = np.unique(np.concatenate([_NONE, *(part.surely for part in chosen)]))
    perhaps = np.unique(np.concatenate([_NONE, *(part.perhaps for part in chosen)]))
    return Chosen(surely=surely, perhaps=np.setdiff1d(perhaps, surely, assume_unique=True))


class Population:
    """Endpoints and their classes, for one address family.

    `of[e]` is the class of endpoint e, `samples[c]` an endpoint of class c, and classes are
    sorted by namespace.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], cluster: Cluster, words: Vocabulary, family: Family
    ) -> None:
        """Sort endpoints into classes."""
        self._cluster = cluster
        self._words = words
        ranges = cluster.ranges
        self._line = Line({*words.cidrs, *ranges.pods, *ranges.nodes, *ranges.services}, family)
        sent = self._line.atoms([self._sent_by(e, family) for e in endpoints])
        received = self._line.atoms([e.address(family) for e in endpoints])
        self.of, self.samples = self._sort(endpoints, sent, received)
        self._atoms = {
            Direction.INGRESS: sent[[*self._firsts]],
            Direction.EGRESS: received[[*self._firsts]],
        }
        """By a rule's direction: where the other end's address lies, a source's being what it sends
        from and a destination's what it is sent to."""
        self._spaces = {name: dict(labels) for name, labels in cluster.namespaces.items()}
        self._count_classes()
        self._somewhere = {d: [*self._unknown(d, family)] for d in Direction}
        self._chosen: dict[object, Chosen] = {}
        self._tables: dict[Requirement, NDArray[np.uint8]] = {}
        self._columns = {key: Column.of(key, self.samples) for key in sorted(words.keys)}

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
                labels = tuple(
                    pair
                    for pair in endpoint.labels
                    if pair[0] in self._words.keys or pair[0] == UNSAID
                )
                kept[endpoint.labels] = labels
            key = (
                self._namespace(endpoint),
                endpoint.kind,
                # Rows whose controllers may be in the same namespaces are alike.
                self._cluster.controllers.away.get(endpoint.name, "")
                if endpoint.kind is EndpointKind.INGRESS
                else "",
                endpoint.host_network,
                # A host is told apart by its node: it reaches its own pods, and has node labels.
                endpoint.node if endpoint.host_network else "",
                labels,
                self.named(endpoint),
                endpoint.network,
                endpoint.role,
                *atoms,
            )
            if key not in seen:
                seen[key] = len(first)
                first.append(index)
            raw[index] = seen[key]
        order = sorted(range(len(first)), key=lambda c: (endpoints[first[c]].namespace, c))
        rank = np.empty(len(first), dtype=np.int32)
        rank[order] = np.arange(len(first), dtype=np.int32)
        self._firsts = tuple(first[c] for c in order)
        return rank[raw], tuple(endpoints[i] for i in self._firsts)

    def _namespace(self, endpoint: Endpoint) -> str:
        """Return the namespace of an endpoint, and of a controller where it is said."""
        if endpoint.kind is EndpointKind.INGRESS:
            return self._cluster.controllers.namespace
        return endpoint.namespace

    def _sent_by(self, endpoint: Endpoint, family: Family) -> str | None:
        """Return the address an endpoint sends with.

        A node sends to pods from its management port, which manifests say nothing of.
        """
        sends = endpoint.attachment.addresses if endpoint.attachment else endpoint.addresses
        if endpoint.host_network and endpoint.attachment is None and not self._cluster.complete:
            sends = ()
        return next((a for a in sends if Family.of(a) is family), None)

    def _unknown(self, direction: Direction, family: Family) -> Iterator[Somewhere]:
        """Yield the classes without a known address, with where it may lie."""
        ranges, everywhere = self._cluster.ranges, tuple(family.everything for family in Family)
        unknown = self._atoms[direction] == NO_ADDRESS
        user_defined = np.array([bool(e.network) for e in self.samples], np.bool_)
        as_pods = (ranges.pods, (*ranges.nodes, *ranges.services))
        as_nodes = (ranges.nodes, (*ranges.pods, *ranges.services))
        for classes, (stated, others) in (
            (self.pod_network & user_defined, ((), ())),
            (self.pod_network & ~user_defined, as_pods),
            (self.host, as_pods if direction is Direction.INGRESS else as_nodes),
        ):
            cidrs = [cidr for cidr in stated if Family.of(cidr) is family]
            possible = self._line.within(cidrs) if cidrs else self._line.within(everywhere, others)
            if (classes & unknown).any():
                yield Somewhere(np.flatnonzero(classes & unknown), possible)

    def named(self, endpoint: Endpoint) -> tuple[NamedPort, ...]:
        """Return the named ports of a pod that some rule asks for by name.

        A pod in the host network is its node to policies, and a node has none.
        """
        if not _on_pod_network(endpoint) or not self._words.names:
            return ()
        return tuple(port for port in endpoint.declared if port.name in self._words.names)

    def _count_classes(self) -> None:
        self._grades_of: dict[object, NDArray[np.uint8]] = {}
        self._several = any(e.network or e.role is not Role.PRIMARY for e in self.samples)
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
        self._strangers: list[int] = []
        """Classes of controllers of which it is not known in which namespace they are."""
        for number, endpoint in enumerate(self.samples):
            namespace = self._namespace(endpoint)
            if endpoint.kind is EndpointKind.INGRESS and not namespace:
                self._strangers.append(number)
            elif self.pod_network[number]:
                members.setdefault(namespace, []).append(number)
        self._members = {name: np.array(numbers, np.intp) for name, numbers in members.items()}
        self._all_pods = np.flatnonzero(self.pod_network)
        self._all_hosts = np.flatnonzero(self.host)
        self.everyone: Classes = np.arange(len(self.samples))

    def _grade(self, requirement: Requirement, among: Classes) -> NDArray[np.uint8]:
        column = self._columns[requirement.key]
        table = self._tables.get(requirement)
        if table is None:
            table = self._tables[requirement] = column.table(requirement)
        grades: NDArray[np.uint8] = table[column.codes[among]]
        return grades

    def subjects(self, spec: PolicySpec) -> Chosen:
        """Return the pods that a policy selects, on the networks that it concerns.

        None at locked ports: isolation is decided before any policy. Whether cluster policies and
        firewalls concern primary user-defined networks depends on OVN-Kubernetes' version.
        """
        chosen = self.pods(spec.subject, spec.namespace)
        if not self._several and spec.attachments is None:
            return chosen
        grades = self._concerned(spec)
        surely, perhaps = grades[chosen.surely], grades[chosen.perhaps]
        return Chosen(
            surely=chosen.surely[surely == YES],
            perhaps=np.union1d(chosen.surely[surely == PERHAPS], chosen.perhaps[perhaps != NO]),
        )

    def _concerned(self, spec: PolicySpec) -> NDArray[np.uint8]:
        """Return which classes are on networks that a policy concerns: the same of most."""
        key = spec.attachments, spec.tier is Tier.NETWORK_POLICY
        grades = self._grades_of.get(key)
        if grades is None:
            nads = spec.attachments or ()
            networks = {self._cluster.attached.get(nad, nad) for nad in nads}
            elsewhere = YES if spec.tier is Tier.NETWORK_POLICY else PERHAPS

            def grade(endpoint: Endpoint) -> int:
                if spec.attachments is not None:
                    here = endpoint.role is Role.SECONDARY and endpoint.network in networks
                    return YES if here else NO
                if endpoint.role is not Role.PRIMARY:
                    return NO
                return elsewhere if endpoint.network else YES

            grades = np.array([grade(endpoint) for endpoint in self.samples], np.uint8)
            self._grades_of[key] = grades
        return grades

    def pods(self, peer: PodPeer, namespace: str) -> Chosen:
        """Return the pods on the pod network that a peer, or a subject, selects."""
        where: object = namespace if peer.namespaces is None else peer.namespaces
        key = (where, peer.pods)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._space(peer.namespaces, namespace)
            for requirement in peer.pods.requirements:
                chosen = self._narrowed(chosen, requirement)
            self._chosen[key] = chosen
        return chosen

    def _narrowed(self, chosen: Chosen, requirement: Requirement) -> Chosen:
        grades = self._grade(requirement, chosen.surely)
        doubtful = chosen.surely[grades == PERHAPS]
        still = chosen.perhaps[self._grade(requirement, chosen.perhaps) != NO]
        return Chosen(
            surely=chosen.surely[grades == YES],
            perhaps=np.union1d(doubtful, still) if doubtful.size else still,
        )

    def _space(self, selector: Selector | None, namespace: str) -> Chosen:
        """Return the pods of one namespace, or of those selected."""
        if selector is None:
            may_be_there = [
                number
                for number in self._strangers
                if self._cluster.controllers.may_be_in(namespace, self.samples[number].name)
            ]
            return Chosen(
                surely=self._members.get(namespace, _NONE),
                perhaps=np.array(may_be_there, np.intp),
            )
        if selector == EVERYTHING:
            return Chosen(surely=self._all_pods)
        chosen = self._chosen.get(selector)
        if chosen is None:
            parts: dict[bool | None, list[Classes]] = {False: [], None: [], True: []}
            for name, members in self._members.items():
                parts[selector.judge(self._spaces.get(name, {}))].append(members)
            for number in self._strangers:
                parts[self._selects_stranger(selector, number)].append(np.array([number], np.intp))
            chosen = Chosen(surely=_sorted(parts[True]), perhaps=_sorted(parts[None]))
            self._chosen[selector] = chosen
        return chosen

    def _selects_stranger(self, selector: Selector, number: int) -> bool | None:
        """Tell whether a selector selects the namespace that controllers are in.

        All that is known of it is which names it has not.
        """
        row, controllers = self.samples[number].name, self._cluster.controllers
        answers = set[bool | None]()
        for wanted in selector.requirements:
            answer = wanted.judge(UNKNOWN_LABELS)
            if wanted.key == _NAME_LABEL and wanted.operator in SETS:
                if not any(controllers.may_be_in(name, row) for name in wanted.values):
                    answer = wanted.operator is Operator.NOT_IN
            elif wanted.key == _NAME_LABEL and wanted.operator in EXISTENCE:
                answer = wanted.operator is Operator.EXISTS
            answers.add(answer)
        if False in answers:
            return False
        return None if None in answers else True

    def others(self, rule: Rule, namespace: str) -> Chosen:
        """Return the classes that a rule's peers mean, as the other end."""
        if rule.peers is None:
            return Chosen(surely=self.everyone)
        blocks = tuple(peer for peer in rule.peers if isinstance(peer, BlockPeer))
        chosen = [
            self._peer(peer, namespace, rule.direction)
            for peer in rule.peers
            if not isinstance(peer, BlockPeer)
        ]
        # Together, as an address that is not known is in one of two halves of everything.
        return union([*chosen, self._blocks(blocks, rule.direction)] if blocks else chosen)

    def _peer(self, peer: Peer, namespace: str, direction: Direction) -> Chosen:
        match peer:
            case PodPeer():
                chosen = [self.pods(peer, namespace)]
                if direction is Direction.INGRESS and namespace and peer.whole:
                    chosen.append(self._hosts_of(peer))
                if direction is Direction.EGRESS and namespace and not peer.whole:
                    chosen.append(self._hosting(peer, namespace))
                return union(chosen)
            case BlockPeer():
                return self._blocks((peer,), direction)
            case NodePeer():
                return self._graded(
                    [
                        peer.nodes.judge(self._cluster.nodes.get(e.node, UNKNOWN_LABELS))
                        for e in map(self.samples.__getitem__, self._all_hosts)
                    ]
                )
            case NamePeer():
                # Names are looked up by OVN-Kubernetes, and a lookup is in no object.
                return Chosen(perhaps=np.flatnonzero(self._outside | self.host))

    def _graded(self, answers: Sequence[bool | None]) -> Chosen:
        """Return hosts by an answer for each."""
        grades = np.array([GRADES[answer] for answer in answers], np.uint8)
        return Chosen(
            surely=self._all_hosts[grades == YES], perhaps=self._all_hosts[grades == PERHAPS]
        )

    def _hosts_of(self, peer: PodPeer) -> Chosen:
        """Return all hosts where a NetworkPolicy's peer selects the namespace that stands for them.

        Where not all namespaces are known, that one may be there with whatever labels.
        """
        if peer.namespaces is None:
            return Chosen()
        answers = {self._stands_for_hosts(peer.namespaces, name) for name in HOST_NAMESPACES}
        if True in answers:
            return Chosen(surely=self._all_hosts)
        return Chosen(perhaps=self._all_hosts) if None in answers else Chosen()

    def _stands_for_hosts(self, selector: Selector, name: str) -> bool | None:
        labels = self._spaces.get(name)
        if labels is not None:
            return selector.judge(labels)
        if self._cluster.complete:
            return False
        return None if selector.judge({_NAME_LABEL: name, UNSAID: UNSAID}) is not False else False

    def _hosting(self, peer: PodPeer, namespace: str) -> Chosen:
        """Return the hosts at whose address a NetworkPolicy's peer selects a pod.

        Its address set has the pod's address, which is the node's and so that of everything there.
        A pod whose node is not known may be at any.
        """
        where: object = namespace if peer.namespaces is None else peer.namespaces
        key = ("hosting", where, peer.pods)
        chosen = self._chosen.get(key)
        if chosen is None:
            nodes: dict[str, bool | None] = {}
            for node, space, labels in self._cluster.hosted:
                if nodes.get(node) is not True:
                    answer = self._selects(peer, namespace, space, labels)
                    nodes[node] = nodes.get(node, False) if answer is False else answer
            may_be_anywhere = any(answer is not False for answer in nodes.values())
            chosen = self._graded(
                [
                    self._hosts_selected(e, peer, namespace, nodes)
                    for e in map(self.samples.__getitem__, self._all_hosts)
                ]
                if may_be_anywhere
                else [False] * len(self._all_hosts)
            )
            self._chosen[key] = chosen
        return chosen

    def _hosts_selected(
        self, host: Endpoint, peer: PodPeer, namespace: str, nodes: Mapping[str, bool | None]
    ) -> bool | None:
        """Tell whether some selected pod is at a host's address, by what is so of each node."""
        if host.node:
            at_node = nodes.get(host.node, False)
            unplaced = nodes.get("", False)
            return at_node if at_node is True or unplaced is False else None
        if host.kind is EndpointKind.POD and self._selects(
            peer, namespace, host.namespace, host.labels
        ):
            return True
        return None

    def _selects(
        self, peer: PodPeer, namespace: str, space: str, labels: tuple[tuple[str, str], ...]
    ) -> bool | None:
        """Tell whether a peer selects a pod of a namespace, by all its labels."""
        if peer.namespaces is None:
            inside: bool | None = space == namespace
        else:
            inside = peer.namespaces.judge(self._spaces.get(space, {}))
        answers = (inside, peer.pods.judge(dict(labels)))
        if False in answers:
            return False
        return None if None in answers else True

    def _blocks(self, peers: tuple[BlockPeer, ...], direction: Direction) -> Chosen:
        """Return whose address is in any of several blocks."""
        key = (peers, direction)
        chosen = self._chosen.get(key)
        if chosen is None:
            inside = np.logical_or.reduce(
                [self._line.within((peer.cidr,), peer.excluded) for peer in peers]
            )
            atoms = self._atoms[direction]
            surely = np.flatnonzero(inside[atoms] & (atoms != NO_ADDRESS))
            sets = [Chosen(surely=surely)]
            for unknown in self._somewhere[direction]:
                answer = unknown.within(inside)
                if answer:
                    sets.append(Chosen(surely=unknown.classes))
                elif answer is None:
                    sets.append(Chosen(perhaps=unknown.classes))
            chosen = self._chosen[key] = union(sets)
        return chosen

    def used_ports(self) -> Iterator[NamedPort]:
        """Yield the named ports that rules ask for, of all classes."""
        for endpoint in self.samples:
            yield from self.named(endpoint)


def _on_pod_network(endpoint: Endpoint) -> bool:
    """Tell whether an endpoint is a pod on the pod network, as controllers are taken to be."""
    return endpoint.kind in LIKE_PODS and not endpoint.host_network


def _sorted(parts: Sequence[Classes]) -> Classes:
    return np.sort(np.concatenate(parts)) if parts else _NONE
