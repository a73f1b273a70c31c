"""Differences → findings: one of each kind, with what to do about it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from audit.facts.inventory.cluster import listed
from audit.model.findings import Finding, FindingKind
from audit.model.inventory import Difference

MOST_TEXTS = 5
"""Differences written out in a finding's sentence; its subjects are all."""

_RESTART = "restart ovnkube-controller on the nodes of {zones}"
_TEXTS: dict[FindingKind, tuple[str, str, str]] = {
    FindingKind.POLICY_ONLY_IN_OVN: (
        "policy, or rule of one, is in force in OVN and no longer in Kubernetes",
        "policies, or rules of them, are in force in OVN and no longer in Kubernetes",
        _RESTART,
    ),
    FindingKind.POLICY_NOT_IN_OVN: (
        "policy, or rule of one, selects pods and is not in OVN",
        "policies, or rules of them, select pods and are not in OVN",
        _RESTART,
    ),
    FindingKind.ADDRESS_SET_DIFFERS: (
        "address is missing in or too much for an address set in force",
        "addresses are missing in or too much for address sets in force",
        _RESTART,
    ),
    FindingKind.PORT_GROUP_DIFFERS: (
        "pod is missing in or too much for a port group in force",
        "pods are missing in or too much for port groups in force",
        _RESTART,
    ),
    FindingKind.LOAD_BALANCER_DIFFERS: (
        "address of a Service has other backends in OVN than its EndpointSlices say, or none",
        "addresses of Services have other backends in OVN than their EndpointSlices say, or none",
        _RESTART,
    ),
    FindingKind.POD_DIFFERS: (
        "pod has another address, MAC or node in OVN than in Kubernetes: its cells are untraced",
        "pods have another address, MAC or node in OVN than in Kubernetes; their cells: untraced",
        "delete the pods, whose controllers make them anew, or " + _RESTART,
    ),
    FindingKind.PORT_NOT_BOUND: (
        "running pod has a port that is not bound to its node's chassis",
        "running pods have ports that are not bound to their nodes' chassis",
        "look at ovn-controller and the pods' interfaces on the nodes of {zones}",
    ),
    FindingKind.SOUTHBOUND_DIFFERS: (
        "row of a southbound, which is what packets meet, is not what its northbound asks for",
        "rows of southbounds, which are what packets meet, are not what the northbounds ask for",
        "look whether ovn-northd of {zones} runs, and is not paused; restart it",
    ),
    FindingKind.POLICY_LEFT_OVER: (
        "policy is in OVN and no longer in Kubernetes, and holds no pod",
        "policies are in OVN and no longer in Kubernetes, and hold no pod",
        _RESTART,
    ),
    FindingKind.POLICY_AWAITED: (
        "policy is not in OVN where it selects no pod yet",
        "policies are not in OVN where they select no pod yet",
        _RESTART,
    ),
    FindingKind.PORT_WITHOUT_POD: (
        "port is in OVN and its pod gone or completed: it is not audited",
        "ports are in OVN and their pods gone or completed: they are not audited",
        _RESTART,
    ),
}
"""By kind: the words for one difference, for several, and what to do about them."""


def findings(differences: Iterable[Difference]) -> tuple[Finding, ...]:
    """Return one finding for each kind of difference there is."""
    groups: dict[FindingKind, list[Difference]] = defaultdict(list)
    for difference in differences:
        groups[difference.kind].append(difference)
    return tuple(_finding(kind, groups[kind]) for kind in _TEXTS if kind in groups)


def _finding(kind: FindingKind, differences: Sequence[Difference]) -> Finding:
    singular, plural, advice = _TEXTS[kind]
    zones = sorted({zone for difference in differences for zone in difference.zones})
    named = f"zone {zones[0]}" if len(zones) == 1 else f"{len(zones)} zones ({listed(zones)})"
    texts = [difference.text for difference in differences]
    more = len(texts) - MOST_TEXTS
    return Finding(
        kind=kind,
        text=f"{len(texts):,} {singular if len(texts) == 1 else plural}: "
        + "; ".join(texts[:MOST_TEXTS])
        + (f"; and {more:,} more" if more > 0 else "")
        + f". {advice[0].upper()}{advice[1:].format(zones=named)}",
        subjects=tuple(texts),
        about=(str(kind),),
    )
