"""What is to be said about the policies themselves, on this cluster as it is.

Those that select nobody, rules that never decide, namespaces that are open; and where OVN does
something else than the objects say.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import MAX_PORT, PING, Endpoint, EndpointKind, Port
from audit.model.facts import ClusterState, Policy
from audit.model.findings import Finding, FindingKind
from audit.model.inventory import Difference
from audit.model.matrix import Matrix
from audit.model.networks import Role
from audit.model.packets import WITH_PORTS, Family
from audit.model.policies import Direction, PodPeer, Tier
from audit.model.verdicts import CODE, Verdict
from audit.policy.cluster import Cluster, Vocabulary
from audit.policy.deviations import DROPPING, MEANINGS, Causes, Deviation, concerned
from audit.policy.intent import Intent, IntentVerdicts

MOST_NAMED = 20
MOST_TOLD = 3
"""Paths in a sentence; all are among what the finding is about."""
_OPEN = {
    Direction.INGRESS: "everyone may connect to them",
    Direction.EGRESS: "they may connect to everyone",
}


def about_policies(state: ClusterState, outside: Sequence[Endpoint] = ()) -> tuple[Finding, ...]:
    """Return the findings about policies, in the order of their kinds.

    A rule is without effect when no pod, peer and port is decided by it. Peers are the cluster's
    pods and nodes and the endpoints `outside`; a rule about addresses none of them has is not
    judged.
    """
    policies = [policy for policy in state.policies if policy.spec is not None]
    if not policies or not state.pods:
        return tuple(_open_namespaces(state, policies))
    views = [
        _View(state, policies, family, outside)
        for family in Family
        if any(pod.address(family) or not pod.addresses for pod in state.pods)
    ]
    return (
        *_not_implemented(policies),
        *_selecting_nothing(policies, views),
        *_without_effect(policies, views),
        *_open_namespaces(state, policies),
        *_same_priority(policies),
    )


class _View:
    """The policies applied to the whole cluster, on a port of every kind that rules tell apart."""

    def __init__(
        self,
        state: ClusterState,
        policies: Sequence[Policy],
        family: Family,
        outside: Sequence[Endpoint],
    ) -> None:
        endpoints = (*state.pods, *state.nodes, *outside)
        words = Vocabulary.of(policy.spec for policy in policies if policy.spec)
        named = [
            declared.port
            for e in endpoints
            for declared in e.declared
            if declared.name in words.names
        ]
        ports = sorted({*_edges(words), *named})
        self.intent = Intent(policies, endpoints, Cluster.of(state), ports, family, blame=False)
        self.hit = (
            self.intent.sides[Direction.INGRESS].hit | self.intent.sides[Direction.EGRESS].hit
        )

    def selects(self, index: int) -> bool:
        """Tell whether a policy's subject is anybody: a controller that is not there is not."""
        spec = self.intent.deciders.specs[index]
        people = self.intent.people
        chosen = people.subjects(spec)
        classes = (*chosen.surely.tolist(), *chosen.perhaps.tolist())
        return any(people.samples[number].kind is EndpointKind.POD for number in classes)

    def has_peers(self, number: int) -> bool:
        """Tell whether a rule's peers are anybody."""
        index, rule = self.intent.deciders.rules[number]
        namespace = self.intent.deciders.specs[index].namespace
        return rule.peers is None or bool(self.intent.people.others(rule, namespace))


def _edges(words: Vocabulary) -> Iterator[Port]:
    """Yield a port on each side of every boundary that rules draw."""
    yield PING
    for protocol in WITH_PORTS:
        numbers = {1}
        for match in words.ports:
            if match.protocol is protocol and not match.name:
                numbers |= {match.first, match.last + 1}
        for number in numbers:
            if number <= MAX_PORT:
                yield Port(protocol=protocol, number=number)


def _not_implemented(policies: Sequence[Policy]) -> Iterator[Finding]:
    for deviation in sorted(DROPPING):
        names = _names(concerned(deviation, policies))
        if names:
            text = (
                f"{MEANINGS[deviation]}: {_count(names, 'policy is', 'policies are')} part of what "
                "is meant and not of what is enforced"
            )
            yield Finding(kind=FindingKind.NOT_IMPLEMENTED, text=text, subjects=names)


def about_enforcement(policies: Sequence[Policy]) -> tuple[Finding, ...]:
    """Return a finding for each way in which policies will be enforced otherwise than they say.

    For who asks the objects alone: beside OVN it shows where it does, as drift.
    """
    return tuple(
        Finding(
            kind=FindingKind.ENFORCED_OTHERWISE,
            text=(
                f"OVN-Kubernetes does not enforce {_count(names, 'policy', 'policies')} as "
                f"written: {MEANINGS[deviation]}"
            ),
            subjects=names,
        )
        for deviation in Deviation
        if deviation not in DROPPING and (names := _names(concerned(deviation, policies)))
    )


def about_ingress(matrix: Matrix, verdicts: IntentVerdicts) -> tuple[Finding, ...]:
    """Return a finding for what leads from outside to pods that policies do not let it reach.

    A workload counts where on some port none of its pods is reached, and that is known.
    """
    rows = [index for index, e in enumerate(matrix.endpoints) if e.kind is EndpointKind.INGRESS]
    cells = np.flatnonzero(np.isin(matrix.src, rows)) if rows else np.empty(0, np.int64)
    blocked = verdicts.verdict[cells] == CODE[Verdict.BLOCKED]
    cells = cells[np.isin(matrix.src[cells], matrix.src[cells[blocked]])]
    stopped: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    others = set[tuple[str, str, str]]()
    for cell in cells.tolist():
        src, dst = (matrix.endpoints[end[cell]] for end in (matrix.src, matrix.dst))
        key = (src.key, dst.belongs_to, str(matrix.ports[matrix.port[cell]]))
        if verdicts.verdict[cell] == CODE[Verdict.BLOCKED]:
            stopped[key].append(cell)
        else:
            others.add(key)
    kept = {
        key: blocked_cells for key, blocked_cells in sorted(stopped.items()) if key not in others
    }
    if not kept:
        return ()
    objects = {row for row, _, _ in kept}
    paths = [
        f"{row} to {to} on {port}{_by(verdicts, blocked_cells[0])}"
        for (row, to, port), blocked_cells in kept.items()
    ]
    more = f" and {len(paths) - MOST_TOLD} more" if len(paths) > MOST_TOLD else ""
    text = (
        f"{_count(objects, 'object leads', 'objects lead')} from outside to pods that policies do "
        f"not let {'it' if len(objects) == 1 else 'them'} reach: {'; '.join(paths[:MOST_TOLD])}"
    )
    return (
        Finding(
            kind=FindingKind.INGRESS_BLOCKED,
            text=text + more,
            subjects=tuple(sorted(objects)),
            cells=sum(map(len, kept.values())),
            about=tuple(f"{row} to {to} on {port}" for row, to, port in kept),
        ),
    )


def _by(verdicts: IntentVerdicts, cell: int) -> str:
    """Name who stops a cell."""
    index = int(verdicts.blame[cell])
    return f" ({verdicts.blames[index]})" if index >= 0 else ""


def _count(of: Collection[object], singular: str, plural: str) -> str:
    return f"{len(of)} {singular if len(of) == 1 else plural}"


def _names(policies: Iterator[Policy] | Sequence[Policy]) -> tuple[str, ...]:
    return tuple(str(policy.ref) for policy in policies)


def _selecting_nothing(policies: Sequence[Policy], views: Sequence[_View]) -> Iterator[Finding]:
    names = _names(
        policy
        for index, policy in enumerate(policies)
        if not any(view.selects(index) for view in views)
    )
    if names:
        text = f"{_count(names, 'policy selects', 'policies select')} no pod that is there"
        yield Finding(kind=FindingKind.SELECTS_NOTHING, text=text, subjects=names)


def _without_effect(policies: Sequence[Policy], views: Sequence[_View]) -> Iterator[Finding]:
    """Say which rules decide nothing, and which policies none of whose rules decide anything."""
    shadowed, empty = [], []
    idle: Counter[int] = Counter()
    for number, (index, rule) in enumerate(views[0].intent.deciders.rules):
        if not any(view.selects(index) for view in views) or _unjudged(rule.peers):
            continue
        if any(number in view.hit for view in views):
            continue
        idle[index] += 1
        name = f"{policies[index].ref} {rule.direction}[{rule.index}]"
        if any(view.has_peers(number) for view in views):
            shadowed.append(name)
        else:
            empty.append(name)
    if shadowed:
        text = (
            f"{_count(shadowed, 'rule decides', 'rules decide')} nothing: other rules decide all "
            "that is matched, or no pod has the port that is named"
        )
        yield Finding(kind=FindingKind.RULE_WITHOUT_EFFECT, text=text, subjects=tuple(shadowed))
    if empty:
        text = (
            f"{_count(empty, 'rule matches', 'rules match')} nobody: "
            f"{'its' if len(empty) == 1 else 'their'} peers select no pod or node"
        )
        yield Finding(kind=FindingKind.RULE_WITHOUT_EFFECT, text=text, subjects=tuple(empty))
    names = _names(
        policy
        for index, policy in enumerate(policies)
        if policy.spec
        and not policy.spec.isolates
        and policy.spec.rules
        and idle[index] == len(policy.spec.rules)
    )
    if names:
        text = (
            f"{_count(names, 'policy changes', 'policies change')} nothing on this cluster: none "
            "of its rules decides anything"
        )
        yield Finding(kind=FindingKind.POLICY_WITHOUT_EFFECT, text=text, subjects=names)


def _unjudged(peers: Sequence[object] | None) -> bool:
    """Tell whether a rule is about addresses, which may be those of anything outside."""
    return peers is not None and any(not isinstance(peer, PodPeer) for peer in peers)


def _open_namespaces(state: ClusterState, policies: Sequence[Policy]) -> Iterator[Finding]:
    """Say in which namespaces some pod is isolated by no NetworkPolicy, a direction each."""
    pods: dict[str, list[dict[str, str]]] = defaultdict(list)
    for pod in state.pods:
        if not pod.host_network and pod.role is Role.PRIMARY:
            pods[pod.namespace].append(dict(pod.labels))
    for direction in Direction:
        chosen = defaultdict(list)
        for policy in policies:
            spec = policy.spec
            if spec is not None and spec.attachments is None and direction in spec.isolates:
                chosen[spec.namespace].append(spec.subject.pods)
        names = tuple(
            name
            for name in sorted(pods)
            if not all(
                any(s.judge(labels) is not False for s in chosen[name]) for labels in pods[name]
            )
        )
        if names:
            those = f"{len(names)} of {len(pods)} namespaces have"
            if len(names) == 1:
                those = f"namespace {names[0]} has"
            text = (
                f"{those} pods that no NetworkPolicy selects for {direction}: as far as "
                f"NetworkPolicies go, {_OPEN[direction]}"
            )
            yield Finding(kind=FindingKind.NO_DEFAULT_DENY, text=text, subjects=names)


def _same_priority(policies: Sequence[Policy]) -> Iterator[Finding]:
    """Say which cluster policies have one priority: nobody knows which goes first."""
    groups: dict[tuple[Tier, int], list[Policy]] = defaultdict(list)
    for policy in policies:
        if policy.spec is not None and policy.spec.tier is Tier.ADMIN:
            groups[policy.spec.tier, policy.spec.priority].append(policy)
    for (_, priority), group in sorted(groups.items()):
        if len(group) > 1:
            text = (
                f"{len(group)} policies of the admin tier have priority {priority}: which goes "
                "first is not defined, and what they contradict each other about is inconclusive"
            )
            yield Finding(kind=FindingKind.SAME_PRIORITY, text=text, subjects=_names(group))


def about_drift(
    matrix: Matrix,
    causes: Causes,
    passes: NDArray[np.bool_],
    blamed: Sequence[str],
    explained: Sequence[Difference | None],
) -> tuple[Finding, ...]:
    """Return a finding for each cause and policy of disagreement, and one for what has no cause.

    `passes[i]` is what OVN does with `causes.cells[i]`, `blamed[i]` the policy that the objects
    name for it, and `explained[i]` what of OVN's databases is otherwise than the objects and is
    why, where no deviation is.
    """
    groups: dict[_Drift, list[int]] = defaultdict(list)
    why: dict[_Drift, list[Difference]] = defaultdict(list)
    disagreements = zip(
        causes.cells.tolist(), causes.cause.tolist(), passes, blamed, explained, strict=True
    )
    for cell, cause, passing, policy, difference in disagreements:
        key = (cause, policy, bool(passing), difference.kind if difference else "")
        groups[key].append(cell)
        if difference is not None and difference not in why[key]:
            why[key].append(difference)
    return tuple(
        _difference(matrix, causes, key, cells, why[key]) for key, cells in sorted(groups.items())
    )


_Drift = tuple[int, str, bool, str]
"""Deviations, policy, what OVN does, and the kind of difference that explains it, if one does."""


def _difference(
    matrix: Matrix,
    causes: Causes,
    key: _Drift,
    cells: Sequence[int],
    why: Sequence[Difference],
) -> Finding:
    cause, policy, passing, kind = key
    does = "lets through what the objects stop" if passing else "stops what the objects allow"
    done, meant = ("allows", "block") if passing else ("blocks", "allow")
    text = f"OVN {done} traffic that {policy or 'the policies'} should {meant}, in "
    text += _count(cells, "cell", "cells")
    if cause >= 0:
        deviations = causes.causes[cause]
        text += ": " + "; ".join(MEANINGS[deviation] for deviation in deviations)
    elif why:
        more = f"; and {len(why) - 1} more like it" if len(why) > 1 else ""
        text += f": {why[0].text}{more}"
    return Finding(
        kind=FindingKind.DRIFT if cause < 0 else FindingKind.NOT_ENFORCED,
        text=text,
        subjects=tuple(matrix.describe(cell) for cell in cells[:MOST_NAMED]),
        cells=len(cells),
        cause=kind if cause < 0 else "+".join(causes.causes[cause]),
        about=(does, policy, *(() if cause >= 0 else _workloads(matrix, cells))),
    )


def _workloads(matrix: Matrix, cells: Sequence[int]) -> Sequence[str]:
    """Return the pairs of workloads that have these cells."""
    return sorted({f"{src} to {dst} on {port}" for src, dst, port in map(matrix.about, cells)})
