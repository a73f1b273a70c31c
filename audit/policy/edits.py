"""What would have to change: the smallest edits of policy objects that open a blocked cell.

Every edit is tried: the edited set is evaluated, only what opens the cell is returned, and what
else it opens among the cells that were asked about comes with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Policy
from audit.model.networks import Role
from audit.model.packets import Family
from audit.model.policies import (
    Action,
    BlockPeer,
    Direction,
    Peer,
    PodPeer,
    PolicySpec,
    PortMatch,
    Rule,
    Tier,
)
from audit.model.selectors import UNSAID, Selector
from audit.policy.cluster import HOST_NAMESPACES, Cluster
from audit.policy.intent import Intent
from audit.policy.tables import PASSES, STOPS

MOST_EDITS = 5
_NAME = "kubernetes.io/metadata.name"
UNSTABLE = frozenset(
    {
        *("pod-template-hash", "controller-revision-hash", "pod-template-generation"),
        *("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"),
        *("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index"),
        "controller-uid",
    }
)
"""Labels that a rollout changes, or that tell one pod of a workload from the next: no selector
should name them (kubernetes.io/docs, "Well-Known Labels, Annotations and Taints")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change to one policy: in words, and the policy as it would be."""

    text: str
    index: int
    spec: PolicySpec
    cost: int
    """Smaller is less of a change: an entry of a rule, then a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Edits, one a side that stops the packet, that open a cell when made together."""

    edits: tuple[Edit, ...]
    also: tuple[tuple[int, int, int], ...]
    """Other cells that pass then and did not: (src, dst, port), the first few."""
    count: int
    """How many they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A blocked cell: indices into `endpoints` and `ports`, which are what is compared besides."""

    policies: Sequence[Policy]
    endpoints: Sequence[Endpoint]
    cluster: Cluster
    ports: Sequence[Port]
    family: Family
    src: int
    dst: int
    port: int

    def intent(self, policies: Sequence[Policy], *, narrow: bool) -> Intent:
        """Evaluate policies over everything, or over the two ends alone."""
        ends = [self.endpoints[self.src], self.endpoints[self.dst]]
        return Intent(
            policies,
            ends if narrow else self.endpoints,
            self.cluster,
            [self.ports[self.port]] if narrow else self.ports,
            self.family,
            blame=False,
        )


MOST_ALSO = 500
"""Cells that an edit opens besides that are named; all are counted."""
MOST_COMPARED = 2_000
"""Endpoints up to which it is counted what else an edit opens: 4 million pairs per port."""


def openings(question: Question, *, count: bool = True) -> tuple[Opening, ...]:
    """Return the smallest edits that open a cell, each verified; none when nothing known does.

    Without `count` it is not counted what else they open, and their order is the same.
    """
    policies = [policy for policy in question.policies if policy.spec is not None]
    before = question.intent(policies, narrow=True)
    decided = before.decide(*(before.index(i) for i in (0, 1, 0)))
    if int(decided.outcome[0]) != STOPS:
        return ()
    options = [gate.opening() for gate in _gates(question, policies) if not gate.passes()]
    combined = sorted(product(*options), key=_cost)
    opened: list[Opening] = []
    whole = question.intent(policies, narrow=False) if count and _few(question) else None
    for edits in combined:
        if len(opened) == MOST_EDITS:
            break
        edited = _edited(policies, edits)
        after = question.intent(edited, narrow=True)
        if int(after.decide(*(after.index(i) for i in (0, 1, 0))).outcome[0]) == PASSES:
            also, more = _also(question, whole, edited) if whole is not None else ((), -1)
            opened.append(Opening(edits=edits, also=also, count=more))
    return tuple(opened)


def _cost(edits: Sequence[Edit]) -> int:
    return sum(map(_cost_of, edits))


def _cost_of(edit: Edit) -> int:
    return edit.cost


def _few(question: Question) -> bool:
    return len(question.endpoints) <= MOST_COMPARED


def _edited(policies: Sequence[Policy], edits: Sequence[Edit]) -> list[Policy]:
    changed = list(policies)
    for edit in edits:
        before = changed[edit.index].spec
        spec = edit.spec
        # Two edits of one policy are of its two directions: each keeps the other's rules.
        original = policies[edit.index].spec
        if before is not original and before is not None:
            kept = {rule.direction for rule in edit.spec.rules if rule not in _rules(original)}
            spec = replace(
                spec,
                rules=(
                    *(rule for rule in before.rules if rule.direction not in kept),
                    *(rule for rule in edit.spec.rules if rule.direction in kept),
                ),
            )
        changed[edit.index] = replace(changed[edit.index], spec=spec)
    return changed


def _rules(spec: PolicySpec | None) -> tuple[Rule, ...]:
    return spec.rules if spec is not None else ()


def _also(
    question: Question, before: Intent, policies: Sequence[Policy]
) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """Return which other cells an edited set opens, and how many they are."""
    after = question.intent(policies, narrow=False)
    everyone = np.arange(len(question.endpoints), dtype=np.int32)
    has = [
        e.kind is not EndpointKind.INGRESS
        and (e.address(question.family) is not None or not e.addresses)
        for e in question.endpoints
    ]
    exists = np.array(has, dtype=np.bool_)
    meeting = _meeting(question.endpoints)
    few: list[tuple[int, int, int]] = []
    count = 0
    for port in range(len(question.ports)):
        ports = np.full(len(everyone), port, np.int32)
        for src in range(len(everyone)):
            sources = np.full(len(everyone), src, np.int32)
            was = before.decide(sources, everyone, ports).outcome
            new = after.decide(sources, everyone, ports).outcome
            meets = exists & exists[src] & meeting[src]
            opened = np.flatnonzero((was != PASSES) & (new == PASSES) & meets)
            mine = [(src, int(dst), port) for dst in opened if dst != src]
            mine = [cell for cell in mine if cell != (question.src, question.dst, question.port)]
            count += len(mine)
            few += mine[: MOST_ALSO - len(few)]
    return tuple(few), count


def _meeting(endpoints: Sequence[Endpoint]) -> NDArray[np.bool_]:
    """Tell, N by N, which endpoints share a network, or meet outside: elsewhere edits open nothing.

    Nor do they at locked ports, of which no policy speaks.
    """
    networks = np.unique([e.network for e in endpoints], return_inverse=True)[1]
    locked = np.array([e.role is Role.LOCKED for e in endpoints], np.bool_)
    leaving = np.array([e.role is not Role.SECONDARY for e in endpoints], np.bool_)
    outside = np.array([e.kind is EndpointKind.EXTERNAL for e in endpoints], np.bool_)
    meeting: NDArray[np.bool_] = networks[:, None] == networks
    meeting |= (outside[:, None] & leaving) | (leaving[:, None] & outside)
    return meeting & ~locked[:, None] & ~locked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gate:
    """What a packet must pass, whatever the others say: a side's tiers, or the egress firewall."""

    question: Question
    policies: Sequence[Policy]
    direction: Direction
    firewall: bool

    def _intent(self, edit: Edit | None = None) -> Intent:
        policies = [
            policy
            if policy.spec and (policy.spec.tier is Tier.FIREWALL) is self.firewall
            else replace(policy, spec=_silent(policy.spec))
            for policy in (self.policies if edit is None else _edited(self.policies, [edit]))
        ]
        return self.question.intent(policies, narrow=True)

    def opening(self) -> list[Edit]:
        """Return the few smallest edits that open this gate, each tried."""
        opening = (edit for edit in sorted(self.edits(), key=_cost_of) if self.passes(edit))
        return list(islice(opening, MOST_EDITS))

    def passes(self, edit: Edit | None = None) -> bool:
        """Tell whether this alone lets the packet through, with an edit made or none."""
        intent = self._intent(edit)
        decided = intent.decide(*(intent.index(i) for i in (0, 1, 0)))
        bits = decided.left if self.direction is Direction.EGRESS else decided.entered
        return int(bits[0]) == PASSES

    def edits(self) -> Iterator[Edit]:
        """Yield edits that may open it; whether they do is found out by trying."""
        question, leaving = self.question, self.direction is Direction.EGRESS
        subject, other = (question.src, question.dst) if leaving else (question.dst, question.src)
        intent = self._intent()
        subject_class = int(intent.people.of[0 if leaving else 1])
        selected = intent.sides[self.direction].selected()[subject_class]
        ends = (question.endpoints[subject], question.endpoints[other])
        peer = _peer_of(*ends, question, local=True)
        for index in selected.network:
            yield from _network_edits(index, self.policies[index], self.direction, peer, question)
        peer = _peer_of(*ends, question, local=False)
        for index in (*selected.admin, *selected.baseline, *selected.firewall):
            yield from _ordered_edits(index, self.policies[index], self.direction, peer, question)


def _gates(question: Question, policies: Sequence[Policy]) -> Iterator[_Gate]:
    for direction, firewall in (
        (Direction.EGRESS, False),
        (Direction.EGRESS, True),
        (Direction.INGRESS, False),
    ):
        yield _Gate(question=question, policies=policies, direction=direction, firewall=firewall)


def _silent(spec: PolicySpec | None) -> PolicySpec | None:
    """Return a policy that keeps its place and says nothing."""
    return replace(spec, rules=(), isolates=frozenset()) if spec is not None else None


def _network_edits(
    index: int, policy: Policy, direction: Direction, peer: Peer | None, question: Question
) -> Iterator[Edit]:
    spec = policy.spec
    assert spec is not None  # noqa: S101 - only those with one are asked
    port = question.ports[question.port]
    match = PortMatch(protocol=port.protocol, first=port.number, last=port.sample)
    for rule in spec.facing(direction):
        where = f"{policy.ref} {direction}[{rule.index}]"
        if rule.ports is not None:
            added = replace(rule, ports=(*rule.ports, match))
            yield _edit(f"add port {match} to {where}", index, spec, rule, added, 1)
        if peer is not None and rule.peers is not None and len(spec.facing(direction)):
            added = replace(rule, peers=(*rule.peers, peer))
            yield _edit(f"add peer {_peer_text(peer)} to {where}", index, spec, rule, added, 2)
    if peer is None:
        return
    new = Rule(
        direction=direction,
        index=len(spec.facing(direction)),
        action=Action.ALLOW,
        peers=(peer,),
        ports=(match,),
    )
    way = "from" if direction is Direction.INGRESS else "to"
    yield Edit(
        text=f"add a rule to {policy.ref} {direction}: {way} {_peer_text(peer)} on {match}",
        index=index,
        spec=replace(spec, rules=(*spec.rules, new)),
        cost=3,
    )


def _edit(text: str, index: int, spec: PolicySpec, old: Rule, new: Rule, cost: int) -> Edit:
    rules = tuple(new if rule is old else rule for rule in spec.rules)
    return Edit(text=text, index=index, spec=replace(spec, rules=rules), cost=cost)


def _ordered_edits(
    index: int, policy: Policy, direction: Direction, peer: Peer | None, question: Question
) -> Iterator[Edit]:
    """Yield an Allow before each rule that denies: where the first that matches decides."""
    spec = policy.spec
    assert spec is not None  # noqa: S101 - only those with one are asked
    port = question.ports[question.port]
    match = PortMatch(protocol=port.protocol, first=port.number, last=port.sample)
    if spec.tier is Tier.FIREWALL:
        address = question.endpoints[question.dst].address(question.family) or ""
        peer = BlockPeer(cidr=_host(address))
    wins = f" (priority {spec.priority}) wins first" if spec.tier is Tier.ADMIN else " decides"
    if peer is None or (direction is Direction.INGRESS and not isinstance(peer, PodPeer)):
        return  # no rule of these can say an address, or a node, as a source
    for rule in spec.facing(direction):
        if rule.action is not Action.DENY:
            continue
        new = replace(rule, action=Action.ALLOW, peers=(peer,), ports=(match,), name="")
        position = spec.rules.index(rule)
        yield Edit(
            text=f"{policy.ref}{wins}: before its {direction}[{rule.index}], allow "
            f"{_peer_text(peer)} on {match}",
            index=index,
            spec=replace(spec, rules=(*spec.rules[:position], new, *spec.rules[position:])),
            cost=3,
        )


def _peer_of(subject: Endpoint, other: Endpoint, question: Question, *, local: bool) -> Peer | None:
    """Return a peer that is the other end, by its labels where it is a pod.

    None for who sends what an Ingress leads in: what would select it is not known. `local` policies
    are of a namespace, and may mean it by naming none.
    """
    if other.kind is EndpointKind.INGRESS:
        return None
    sending = question.endpoints[question.src] is other
    hosts = _host_spaces(question) if other.host_network and sending and local else None
    if hosts is not None:
        return PodPeer(namespaces=hosts, whole=True)
    # A NetworkPolicy's pod selector also means pods in the host network, where packets go to them.
    named = other.kind is EndpointKind.POD and not (other.host_network and (sending or not local))
    if not named:
        sends = other.attachment.addresses if other.attachment else other.addresses
        addresses = sends if sending else other.addresses
        return BlockPeer(
            cidr=_host(next((a for a in addresses if Family.of(a) is question.family), ""))
        )
    pods = Selector.of(
        {
            key: value
            for key, value in other.labels
            if key not in UNSTABLE and not value.endswith(UNSAID)
        }
    )
    return PodPeer(namespaces=_space_of(subject, other, question, local=local), pods=pods)


def _space_of(
    subject: Endpoint, other: Endpoint, question: Question, *, local: bool
) -> Selector | None:
    """Return how to select the other end's namespace: by its name label, or else all labels."""
    labels = dict(question.cluster.namespaces.get(other.namespace, ()))
    same = subject.kind is EndpointKind.POD and subject.namespace == other.namespace
    if local and same and _NAME not in labels:
        return None
    chosen = {_NAME: labels[_NAME]} if _NAME in labels else labels
    chosen.pop(UNSAID, None)
    return Selector.of(chosen)


def _host_spaces(question: Question) -> Selector | None:
    """Return how to select the namespace that stands for the nodes' own addresses, if there is one.

    Nodes come and go: one node's address is no rule for a source in the host network.
    """
    for name in sorted(HOST_NAMESPACES & question.cluster.namespaces.keys()):
        labels = dict(question.cluster.namespaces[name])
        chosen = {_NAME: labels[_NAME]} if _NAME in labels else labels
        if chosen:
            return Selector.of(chosen)
    return None


def _host(address: str) -> str:
    if not address:
        return "0.0.0.0/0"
    return f"{address}/{128 if ':' in address else 32}"


def _peer_text(peer: Peer) -> str:
    match peer:
        case PodPeer(namespaces=spaces, whole=True):
            return f"namespace {spaces} with no pod selector (what the hosts' network sends from)"
        case PodPeer(namespaces=None, pods=pods):
            return f"pods {str(pods) or '(all)'} of its own namespace"
        case PodPeer(namespaces=spaces, pods=pods):
            return f"pods {str(pods) or '(all)'} of namespaces {str(spaces) or '(all)'}"
        case BlockPeer(cidr=cidr):
            return cidr
        case _:
            return str(peer)
