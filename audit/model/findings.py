"""Findings: what a run has to say about policies, beyond the verdict of each cell."""

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """The kinds of finding; those in FAILING make a run end with exit code 1."""

    DRIFT = "drift"
    NOT_ENFORCED = "not-enforced-as-written"
    NOT_IMPLEMENTED = "not-implemented"
    SELECTS_NOTHING = "selects-nothing"
    RULE_WITHOUT_EFFECT = "rule-without-effect"
    POLICY_WITHOUT_EFFECT = "policy-without-effect"
    NO_DEFAULT_DENY = "no-default-deny"
    SAME_PRIORITY = "same-priority"
    # OVN's inventory beside Kubernetes'
    POLICY_ONLY_IN_OVN = "policy-only-in-ovn"
    POLICY_NOT_IN_OVN = "policy-not-in-ovn"
    ADDRESS_SET_DIFFERS = "address-set-differs"
    PORT_GROUP_DIFFERS = "port-group-differs"
    LOAD_BALANCER_DIFFERS = "load-balancer-differs"
    POD_DIFFERS = "pod-differs"
    PORT_NOT_BOUND = "port-not-bound"
    POLICY_LEFT_OVER = "policy-left-over"
    POLICY_AWAITED = "policy-awaited"
    PORT_WITHOUT_POD = "port-without-pod"


INVENTORY = frozenset(
    {
        *(FindingKind.POLICY_ONLY_IN_OVN, FindingKind.POLICY_NOT_IN_OVN),
        *(FindingKind.ADDRESS_SET_DIFFERS, FindingKind.PORT_GROUP_DIFFERS),
        *(FindingKind.LOAD_BALANCER_DIFFERS, FindingKind.POD_DIFFERS),
        *(FindingKind.PORT_NOT_BOUND,),
    }
)
"""Differences between OVN's databases and the objects that are in force: packets meet them."""

FAILING = frozenset({FindingKind.DRIFT, FindingKind.NOT_ENFORCED, *INVENTORY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Two answers about one thing, in a sentence.

    `about` is what makes it the same in another run: workloads, a port and the answers, but no
    pods' names, addresses or traces.
    """

    text: str
    about: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence, what it is about, and the number of cells it explains, if it is about cells.

    `cause` is the deviation of OVN-Kubernetes it comes from, or the kind of the finding about OVN's
    inventory that explains it; empty when it comes from none.
    `about` is what makes a finding about cells the same in another run, as a Disagreement's.
    """

    kind: FindingKind
    text: str
    subjects: tuple[str, ...] = ()
    cells: int = 0
    cause: str = ""
    about: tuple[str, ...] = ()
