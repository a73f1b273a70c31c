"""Where OVN-Kubernetes does not do what a policy says, recognised by its cause.

Read in OVN-Kubernetes release-1.1 and master of 2026-08, and seen on recorded clusters, where
these account for every difference between the objects and `ovn-trace`. A cell in which intent and
OVN disagree is evaluated again with each deviation in force; the first that makes them agree is
its cause. What none explains is drift.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import EndpointKind
from audit.model.facts import ClusterState, Policy
from audit.model.matrix import Matrix
from audit.model.networks import Role
from audit.model.policies import PolicySpec, PortMatch, Rule, Tier
from audit.policy.intent import evaluate
from audit.policy.leaks import evaluate_leaking, leaks


class Deviation(StrEnum):
    """A way in which OVN-Kubernetes enforces something else than the object says."""

    NAMED_PORT = "named-port-opens-protocol"
    MIXED_PORTS = "number-hides-protocol"
    ADMIN_NAMED_PORT = "admin-named-port-leaks"
    NOT_IMPLEMENTED = "cluster-network-policy-not-implemented"
    PRIORITY = "admin-priority-not-accepted"
    TYPES_IMPLIED = "multi-without-types-not-isolating"


MEANINGS: dict[Deviation, str] = {
    Deviation.NAMED_PORT: "a named port of a NetworkPolicy opens every port of its protocol",
    Deviation.MIXED_PORTS: "OVN-Kubernetes ignores a named port, or a whole protocol, in a rule of "
    "a NetworkPolicy that also has a port number of that protocol",
    Deviation.ADMIN_NAMED_PORT: "an ingress rule of an AdminNetworkPolicy, or of the baseline one, "
    "with a named port also applies to the pods that it names as peers",
    Deviation.NOT_IMPLEMENTED: "OVN-Kubernetes does not implement ClusterNetworkPolicy",
    Deviation.TYPES_IMPLIED: "a MultiNetworkPolicy without policyTypes isolates nothing",
    Deviation.PRIORITY: "OVN-Kubernetes does not accept an AdminNetworkPolicy of priority above 99",
}

MOST_PRIORITY = 99
"""`ovnkube` refuses higher ones: their ACLs' priorities would leave the range it has for them."""

REMEDIES: dict[Deviation, str] = {
    Deviation.NAMED_PORT: "write the port's number",
    Deviation.MIXED_PORTS: "give the named port, or the whole protocol, a rule of its own",
    Deviation.ADMIN_NAMED_PORT: "write the port's number",
    Deviation.NOT_IMPLEMENTED: "write an AdminNetworkPolicy instead",
    Deviation.TYPES_IMPLIED: "write policyTypes",
    Deviation.PRIORITY: f"give it a priority of {MOST_PRIORITY} or less",
}
"""How to write a policy so that what it says is enforced."""

DROPPING = frozenset({Deviation.NOT_IMPLEMENTED, Deviation.PRIORITY})
"""Deviations by which OVN-Kubernetes leaves a policy out as a whole."""


def present(policies: Sequence[Policy]) -> tuple[Deviation, ...]:
    """Return the deviations that can matter with these policies."""
    return tuple(d for d in Deviation if any(_concerns(d, policy) for policy in policies))


def concerned(deviation: Deviation, policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """Return the policies that a deviation concerns."""
    return tuple(policy for policy in policies if _concerns(deviation, policy))


def _concerns(deviation: Deviation, policy: Policy) -> bool:
    spec = policy.spec
    if spec is None:
        return False
    network = spec.tier is Tier.NETWORK_POLICY
    match deviation:
        case Deviation.NAMED_PORT:
            return network and any(match.name for rule in spec.rules for match in rule.ports or ())
        case Deviation.MIXED_PORTS:
            return network and any(_hidden(rule.ports or ()) for rule in spec.rules)
        case Deviation.ADMIN_NAMED_PORT:
            return bool(leaks(policy))
        case Deviation.TYPES_IMPLIED:
            return spec.attachments is not None and spec.types_implied
        case Deviation.NOT_IMPLEMENTED:
            return policy.ref.kind == "ClusterNetworkPolicy"
        case Deviation.PRIORITY:
            return policy.ref.kind == "AdminNetworkPolicy" and spec.priority > MOST_PRIORITY


def _hidden(ports: Sequence[PortMatch]) -> list[PortMatch]:
    """Return what a number of the same protocol in the same rule leaves out."""
    numbered = {match.protocol for match in ports if not match.name and not match.whole}
    return [m for m in ports if (m.name or m.whole) and m.protocol in numbered]


def as_enforced(policies: Sequence[Policy], deviations: Sequence[Deviation]) -> tuple[Policy, ...]:
    """Return the policies as OVN-Kubernetes understands them, as far as a rewriting can say it.

    ADMIN_NAMED_PORT cannot be said so: see `audit.policy.leaks`.
    """
    dropped = DROPPING & set(deviations)
    return tuple(
        replace(policy, spec=_rewritten(policy.spec, deviations)) if policy.spec else policy
        for policy in policies
        if not any(_concerns(deviation, policy) for deviation in dropped)
    )


def _rewritten(spec: PolicySpec, deviations: Sequence[Deviation]) -> PolicySpec:
    if spec.tier is not Tier.NETWORK_POLICY:
        return spec
    implied = spec.attachments is not None and spec.types_implied
    isolates = not implied or Deviation.TYPES_IMPLIED not in deviations
    return replace(
        spec,
        rules=tuple(_rule(rule, deviations) for rule in spec.rules),
        isolates=spec.isolates if isolates else frozenset(),
    )


def _rule(rule: Rule, deviations: Sequence[Deviation]) -> Rule:
    if not rule.ports:
        return rule
    hidden = _hidden(rule.ports) if Deviation.MIXED_PORTS in deviations else []
    ports = [match for match in rule.ports if match not in hidden]
    if Deviation.NAMED_PORT in deviations:
        ports = [PortMatch(protocol=m.protocol) if m.name else m for m in ports]
    return replace(rule, ports=tuple(ports))


@dataclass(frozen=True, slots=True, kw_only=True)
class Causes:
    """Cells in which intent and OVN disagree, and the cause of each.

    `cause[i]` indexes `causes`, sets of deviations that together explain; -1 is drift.
    """

    cells: NDArray[np.int64]
    cause: NDArray[np.int8]
    causes: tuple[tuple[Deviation, ...], ...]


def explain(
    matrix: Matrix,
    state: ClusterState,
    cells: NDArray[np.int64],
    passes: NDArray[np.bool_],
    among: NDArray[np.bool_] | None = None,
) -> Causes:
    """Find the cause of each disagreement; `passes[i]` is what OVN says of `cells[i]`.

    Only of those `among` them, where that is given: what no object of the cluster decided has
    another cause.
    """
    cause = np.full(len(cells), -1, dtype=np.int8)
    causes = tuple(candidates(present(state.policies))) if cells.size else ()
    for number, deviations in enumerate(causes):
        open_ = np.flatnonzero((cause < 0) if among is None else (cause < 0) & among)
        if Deviation.ADMIN_NAMED_PORT in deviations:
            open_ = open_[~_beyond_leaks(matrix, cells[open_])]
        if not open_.size:
            continue
        some = _part(matrix, cells[open_])
        policies = as_enforced(state.policies, deviations)
        if Deviation.ADMIN_NAMED_PORT in deviations:
            enforced = evaluate_leaking(some, state, policies)
        else:
            enforced = evaluate(some, state, policies, blame=False).passes()
        cause[open_[enforced == passes[open_]]] = number
    return Causes(cells=cells, cause=cause, causes=causes)


def _beyond_leaks(matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which cells are a Service's or a network's: what leaks is worked out for no other."""
    ends = matrix.endpoints
    services = np.array([e.kind is EndpointKind.SERVICE for e in ends], np.bool_)
    networks = np.array([bool(e.network) or e.role is Role.LOCKED for e in ends], np.bool_)
    src, dst = matrix.src[cells], matrix.dst[cells]
    beyond: NDArray[np.bool_] = services[dst] | networks[src] | networks[dst]
    return beyond


def candidates(deviations: Sequence[Deviation]) -> Iterator[tuple[Deviation, ...]]:
    """Yield the sets of deviations, small ones first: what is not needed is no cause."""
    for size in range(1, len(deviations) + 1):
        yield from combinations(deviations, size)


def _part(matrix: Matrix, cells: NDArray[np.int64]) -> Matrix:
    return replace(
        matrix,
        src=matrix.src[cells],
        dst=matrix.dst[cells],
        family=matrix.family[cells],
        port=matrix.port[cells],
    )
