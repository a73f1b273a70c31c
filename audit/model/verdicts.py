"""Verdicts, reasons and blame: what a run says about a cell, and why.

`docs/verdicts.md` is the page for readers; a test keeps it and this module the same.
"""

from dataclasses import dataclass
from enum import StrEnum

from audit.model.owners import words


class Verdict(StrEnum):
    """What is known about a cell. The order is the code in every columnar array."""

    REACHABLE = "reachable"
    EXITS = "exits"
    BLOCKED = "blocked"
    UNROUTABLE = "unroutable"
    INCONCLUSIVE = "inconclusive"
    UNTRACED = "untraced"


VERDICTS: tuple[Verdict, ...] = tuple(Verdict)
CODE: dict[Verdict, int] = {verdict: code for code, verdict in enumerate(VERDICTS)}
NO_VERDICT = 255
"""The code of "not asked": a null in Parquet."""

PASSES = frozenset({Verdict.REACHABLE, Verdict.EXITS})
STOPPED = frozenset({Verdict.BLOCKED, Verdict.UNROUTABLE})
UNPROVEN = frozenset({Verdict.INCONCLUSIVE, Verdict.UNTRACED})
"""The three sets partition Verdict. The last is never counted as either of the others."""
KEPT_FIRST = (
    *(Verdict.UNTRACED, Verdict.INCONCLUSIVE),
    *(Verdict.EXITS, Verdict.REACHABLE),
    *(Verdict.BLOCKED, Verdict.UNROUTABLE),
)
"""Of alternatives that agree, or are not all proven, the one that is kept: by its verdict."""


class Reason(StrEnum):
    """A stable code for why a cell has its verdict. The order is the code in columnar arrays."""

    # reachable, exits
    DELIVERED = "delivered"
    ALLOWED_BY_ACL = "allowed-by-acl"
    ALL_BACKENDS = "all-backends-reachable"
    LEFT_BY_GATEWAY = "left-by-gateway"
    LEFT_BY_HOST = "left-by-host"
    ALLOWED_BY_POLICY = "allowed-by-policy"
    NO_POLICY = "no-policy"
    OWN_NODE = "own-node"
    # blocked
    ACL_DROP = "acl-drop"
    ACL_REJECT = "acl-reject"
    DEFAULT_DENY = "default-deny"
    POLICY_DENY = "policy-deny"
    NETWORK_ISOLATED = "network-isolated"
    # unroutable
    NO_ROUTE = "no-route"
    ROUTER_POLICY = "router-policy"
    PORT_SECURITY = "port-security"
    UNKNOWN_MAC = "unknown-mac"
    SERVICE_WITHOUT_ENDPOINTS = "service-without-endpoints"
    SERVICE_NOT_PROGRAMMED = "service-not-programmed"
    PIPELINE_DROP = "pipeline-drop"
    PORT_NOT_BOUND = "port-not-bound"
    FLOW_MISSING = "flow-missing"
    TUNNEL_ASTRAY = "tunnel-astray"
    OTHER_NETWORK = "other-network"
    ADDRESS_OF_ANOTHER = "address-of-another"
    REMOTE_PORT_MISSING = "remote-port-missing"
    # inconclusive
    BACKENDS_DIFFER = "backends-differ"
    GATEWAYS_DIFFER = "gateways-differ"
    UNEXPECTED_OUTPUT = "unexpected-output"
    NAT_NOT_TRACED = "nat-not-traced"
    TEMPLATE_LOAD_BALANCER = "template-load-balancer"
    HAIRPIN_NOT_DRAWN = "hairpin-not-drawn"
    HAIRPIN_NOT_TRANSLATED = "hairpin-not-translated"
    ACTION_NOT_TRACED = "action-not-traced"
    ACLS_CONTRADICT = "acls-contradict"
    HOST_TO_SERVICE = "host-to-service"
    NEXT_HOP_UNRESOLVED = "next-hop-unresolved"
    WAY_IN_UNKNOWN = "way-in-unknown"
    LEFT_NETWORK = "left-network"
    SOURCE_TRANSLATED = "source-translated"
    TOO_MANY_HOPS = "too-many-hops"
    TRACE_ENDS = "trace-ends"
    LEGS_DISAGREE = "legs-disagree"
    POLICY_UNKNOWN = "policy-unknown"
    NETWORK_UNKNOWN = "network-unknown"
    # untraced
    HOST_TO_HOST = "host-to-host"
    USER_DEFINED_NETWORK = "user-defined-network"
    NO_LOGICAL_PORT = "no-logical-port"
    NO_ADDRESS = "no-address"
    POD_DIFFERS = "pod-differs"
    OBJECT_CONTRADICTS = "object-contradicts"
    ENDPOINTS_UNKNOWN = "endpoints-unknown"
    OWN_ENDPOINT = "own-endpoint"
    ZONE_MISSING = "zone-missing"
    HYBRID_OVERLAY = "hybrid-overlay"
    NODE_MISSING = "node-missing"
    CHANGED_MEANWHILE = "changed-meanwhile"
    ENGINE_LOST = "engine-lost"
    ENGINE_TIMEOUT = "engine-timeout"
    ENGINE_REFUSED = "engine-refused"
    UNPARSABLE = "unparsable"
    WORKER_LOST = "worker-lost"
    INTERRUPTED = "interrupted"
    LEG_NOT_SHOWN = "leg-not-shown"
    PORTS_NOT_TOLD_APART = "ports-not-told-apart"
    ONLY_PREDICTED = "only-predicted"


REASONS: tuple[Reason, ...] = tuple(Reason)
REASON_CODE: dict[Reason, int] = {reason: code for code, reason in enumerate(REASONS)}

OPERATIONAL = frozenset(
    {
        Reason.ZONE_MISSING,
        Reason.NODE_MISSING,
        Reason.CHANGED_MEANWHILE,
        Reason.ENGINE_LOST,
        Reason.ENGINE_TIMEOUT,
        Reason.ENGINE_REFUSED,
        Reason.UNPARSABLE,
        Reason.WORKER_LOST,
        Reason.INTERRUPTED,
        Reason.LEG_NOT_SHOWN,
    }
)
"""Reasons that mean the run did not do what it set out to do: it ends with exit code 3."""

BEYOND_OVN = frozenset(
    {Reason.HOST_TO_HOST, Reason.OWN_ENDPOINT, Reason.HYBRID_OVERLAY, Reason.LEFT_NETWORK}
)
"""Reasons that hold for every run of the cluster: such packets never pass OVN."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PolicyRef:
    """A Kubernetes object that decides packets; `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.lower()} {where}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """What decided a hop: the logical flow, the ACL, and the Kubernetes object behind it.

    `policy` is the object named in the cell; `policies` is every one that shares the decision (for
    a default deny: all that select the pod in that direction). `rule` is the index in
    `spec.ingress` / `spec.egress`, -1 when no single rule decided. `direction` is `ingress` or
    `egress`, as the policy's author wrote it, or empty. `owner` is OVN-Kubernetes' own id, of
    which people are told what it stands for.
    """

    action: str
    direction: str = ""
    policy: PolicyRef | None = None
    policies: tuple[PolicyRef, ...] = ()
    rule: int = -1
    owner: str = ""
    acl: str = ""
    acl_match: str = ""
    logical_flow: str = ""
    stage: str = ""
    zone: str = ""

    def __str__(self) -> str:
        if self.policy is None:
            return words(self.owner) or (f"ACL {self.acl}" if self.acl else self.stage)
        rule = f"[{self.rule}]" if self.rule >= 0 else ""
        return f"{self.policy} {self.direction}{rule}".rstrip()
