"""AdminNetworkPolicy ingress rules with a named port, as OVN-Kubernetes compiles them.

The ACL lists addresses and ports instead of naming the subject's port group: those of the subject
and, which is the deviation, those of the rule's peers that declare the name. It has no `outport`.
So it is in force on every switch that holds a pod of the subject, for every pod listed: on the
destination's switch it comes among the rules in their order, and on the source's, on the way to
the router, it can stop what is not even meant for there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import ClusterState, Policy
from audit.model.matrix import FAMILIES, Matrix
from audit.model.packets import Family
from audit.model.policies import Action, Direction, PodPeer, PolicySpec, PortMatch, Rule, Tier
from audit.policy import ports as porting
from audit.policy.cluster import Cluster
from audit.policy.intent import Decided, Intent
from audit.policy.tables import PASSES

Flags = NDArray[np.bool_]
_UNDECIDED, _ALLOWED, _DENIED, _ONWARD = range(4)
_CODES = {Action.ALLOW: _ALLOWED, Action.DENY: _DENIED, Action.PASS: _ONWARD}


def leaks(policy: Policy) -> list[Rule]:
    """Return the rules of a policy that are compiled without the subject's port group."""
    spec = policy.spec
    if spec is None or spec.tier not in (Tier.ADMIN, Tier.BASELINE):
        return []
    return [rule for rule in spec.facing(Direction.INGRESS) if _names(rule)]


def _names(rule: Rule) -> tuple[PortMatch, ...]:
    return tuple(match for match in rule.ports or () if match.name)


def evaluate_leaking(
    matrix: Matrix, state: ClusterState, policies: Sequence[Policy]
) -> NDArray[np.bool_]:
    """Return which cells pass when these rules hit what they list; cells of Services do not."""
    passes = np.zeros(len(matrix), dtype=np.bool_)
    services = np.array([e.kind is EndpointKind.SERVICE for e in matrix.endpoints], np.bool_)
    for family in np.unique(matrix.family).tolist():
        cells = np.flatnonzero((matrix.family == family) & ~services[matrix.dst])
        view = _View(matrix, state, policies, FAMILIES[family])
        passes[cells] = view.passes(matrix.src[cells], matrix.dst[cells], matrix.port[cells])
    return passes


@dataclass(frozen=True, slots=True)
class _Cells:
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    port: NDArray[np.int32]


class _View:
    """One family's cells, rule by rule over all of them."""

    def __init__(
        self, matrix: Matrix, state: ClusterState, policies: Sequence[Policy], family: Family
    ) -> None:
        self._matrix = matrix
        # Pods that are in no cell still put a policy's ACLs on their switch.
        self._endpoints = (*matrix.endpoints, *state.pods)
        cluster = Cluster.of(state)
        self._all = Intent(policies, self._endpoints, cluster, matrix.ports, family)
        network = [p for p in policies if p.spec and p.spec.tier is Tier.NETWORK_POLICY]
        self._network = Intent(network, self._endpoints, cluster, matrix.ports, family)
        self._policies = sorted(
            (p for p in policies if p.spec is not None),
            key=lambda p: (p.spec.priority if p.spec else 0, p.ref.kind, p.ref.name),
        )
        self._switch = _numbered([_switch(e) for e in self._endpoints])
        self._zone = _numbered([_zone(e) for e in self._endpoints])
        self._networked = self._all.people.pod_network[self._all.people.of]

    def passes(
        self, src: NDArray[np.int32], dst: NDArray[np.int32], port: NDArray[np.int32]
    ) -> Flags:
        """Return which cells pass both sides and the way between."""
        cells = _Cells(src, dst, port)
        network = self._network.decide(src, dst, port)
        egress = self._all.decide(src, dst, port).left == PASSES
        passing: Flags = egress & self._transit(cells) & self._ingress(cells, network)
        return passing

    def _ingress(self, cells: _Cells, network: Decided) -> Flags:
        """Decide the destination's side: the tiers with what leaks into them."""
        admin = self._tier(Tier.ADMIN, cells, here=cells.dst, subject_too=True)
        baseline = self._tier(Tier.BASELINE, cells, here=cells.dst, subject_too=True)
        isolated = self._isolated()[cells.dst]
        after = np.where(isolated, network.entered == PASSES, baseline != _DENIED)
        passing: Flags = (admin == _ALLOWED) | ((admin != _DENIED) & (after | network.exempt))
        return passing

    def _isolated(self) -> Flags:
        isolated = np.zeros(len(self._endpoints), dtype=np.bool_)
        for policy in self._policies:
            spec = policy.spec
            if spec is not None and Direction.INGRESS in spec.isolates:
                isolated |= self._subjects(spec)
        return isolated

    def _transit(self, cells: _Cells) -> Flags:
        """Decide the source's switch, for what leaves it by the router."""
        crossing = self._networked[cells.src] & (self._switch[cells.src] != self._switch[cells.dst])
        admin = self._tier(Tier.ADMIN, cells, here=cells.src, subject_too=False)
        baseline = self._tier(Tier.BASELINE, cells, here=cells.src, subject_too=False)
        stopped = (admin == _DENIED) | ((admin != _ALLOWED) & (baseline == _DENIED))
        open_: Flags = ~(crossing & stopped)
        return open_

    def _tier(
        self, tier: Tier, cells: _Cells, *, here: NDArray[np.int32], subject_too: bool
    ) -> NDArray[np.int8]:
        """Return the first match of each cell among a tier's rules, on the switch of `here`."""
        result = np.full(len(cells.src), _UNDECIDED, dtype=np.int8)
        for spec, rule in self._rules(tier):
            subject = self._subjects(spec)
            peers = self._union(rule, spec)
            hit = np.zeros(len(result), dtype=np.bool_)
            if subject_too:
                hit = subject[cells.dst] & self._on_port(rule.ports, cells)
            if names := _names(rule):
                holding = np.isin(self._switch, np.unique(self._switch[subject]))
                # A zone lists its own pods of the subject, and the peers of the whole cluster.
                in_zone = subject[cells.dst] & (self._zone[cells.dst] == self._zone[here])
                listed = (in_zone | peers[cells.dst]) & self._on_port(names, cells)
                hit = hit | (listed & holding[here])
            hit &= peers[cells.src] & (result == _UNDECIDED)
            result[hit] = _CODES[rule.action]
        return result

    def _rules(self, tier: Tier) -> Iterator[tuple[PolicySpec, Rule]]:
        for policy in self._policies:
            if policy.spec is not None and policy.spec.tier is tier:
                for rule in policy.spec.facing(Direction.INGRESS):
                    yield policy.spec, rule

    def _on_port(self, ports: Iterable[PortMatch] | None, cells: _Cells) -> Flags:
        if ports is None:
            return np.ones(len(cells.src), dtype=np.bool_)
        wanted = tuple(ports)
        pairs = np.stack([cells.dst, cells.port], axis=1)
        keys, group = np.unique(pairs, axis=0, return_inverse=True)
        matching = [
            porting.matches(wanted, self._matrix.ports[port], self._endpoints[dst].declared)
            for dst, port in keys.tolist()
        ]
        flags: Flags = np.array(matching, dtype=np.bool_)[group.reshape(-1)]
        return flags

    def _subjects(self, spec: PolicySpec) -> Flags:
        people = self._all.people
        flags: Flags = np.isin(people.of, people.subjects(spec).surely)
        return flags

    def _selected(self, peer: PodPeer, spec: PolicySpec) -> Flags:
        people = self._all.people
        flags: Flags = np.isin(people.of, people.pods(peer, spec.namespace).surely)
        return flags

    def _union(self, rule: Rule, spec: PolicySpec) -> Flags:
        """Return the peers of a rule; everyone, where it has none."""
        peers = np.full(len(self._endpoints), rule.peers is None, dtype=np.bool_)
        for peer in rule.peers or ():
            if isinstance(peer, PodPeer):
                peers |= self._selected(peer, spec)
        return peers


def _numbered(names: Sequence[str]) -> NDArray[np.int32]:
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int32)


def _zone(endpoint: Endpoint) -> str:
    return endpoint.attachment.zone if endpoint.attachment else ""


def _switch(endpoint: Endpoint) -> str:
    return endpoint.attachment.switch if endpoint.attachment else endpoint.node
