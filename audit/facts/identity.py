"""Which Kubernetes object owns a row of the northbound database. Pure.

Since April 2023 OVN-Kubernetes writes `k8s.ovn.org/owner-type` and the type's own keys in
`external_ids`; before, a handful of free keys and the ACL's name said the same. Both are tables
here: a new owner type is a new line. A type without a line keeps its id and names no policy.
The separate keys are read, never `k8s.ovn.org/id` split: IPv6 addresses hold its separator.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from audit.model.verdicts import PolicyRef

_OWNER_TYPE = "k8s.ovn.org/owner-type"
_OWNER_ID = "k8s.ovn.org/id"
_NAME = "k8s.ovn.org/name"
_CONTROLLER = "k8s.ovn.org/owner-controller"
_CONTROLLER_SUFFIX = "-network-controller"
_DEFAULT_NETWORK = "default"
_EGRESS_FIREWALL_FIRST_PRIORITY = 10000
"""Rule 0 of an EgressFirewall has this ACL priority, each later one less (OVN-Kubernetes)."""

_DIRECTIONS = {"Ingress": "ingress", "Egress": "egress"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who made a row. `namespace_default` is set where a whole namespace's policies share it."""

    owner_type: str
    owner: str
    policy: PolicyRef | None = None
    direction: str = ""
    rule: int = -1
    namespace_default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnerType:
    """How the rows of one owner type name their object.

    `namespaced` names are `namespace:name`; `fixed_name` is for kinds with one object per
    namespace or cluster, whose key holds the namespace (or nothing). `rule_key` is the external
    id with the rule's index. `direction` is set where the type has only one.
    """

    kind: str
    namespaced: bool = False
    fixed_name: str = ""
    rule_key: str = "gress-index"
    direction: str = ""


OWNER_TYPES: Mapping[str, _OwnerType] = {
    "NetworkPolicy": _OwnerType(kind="NetworkPolicy", namespaced=True),
    "AdminNetworkPolicy": _OwnerType(kind="AdminNetworkPolicy"),
    "BaselineAdminNetworkPolicy": _OwnerType(kind="BaselineAdminNetworkPolicy"),
    "EgressFirewall": _OwnerType(
        kind="EgressFirewall", fixed_name="default", rule_key="rule-index", direction="egress"
    ),
    "ClusterNetworkConnect": _OwnerType(kind="ClusterNetworkConnect"),
}
"""Owner types whose rows belong to one Kubernetes object (OVN-Kubernetes, db_object_types.go)."""

NAMESPACE_DEFAULTS = frozenset({"NetpolNamespace"})
"""Owner types that isolate a namespace's selected pods on behalf of all their policies."""


def identify(
    external_ids: Mapping[str, str],
    *,
    name: str = "",
    priority: int = 0,
    primary_networks: Collection[str] = (),
) -> Identity:
    """Return who made a row, from its `external_ids` (and, for old rows, name and priority).

    On a user-defined network a NetworkPolicy and a MultiNetworkPolicy leave the same rows. A
    NetworkPolicy is in force in primary networks only and a MultiNetworkPolicy in the others, so
    the network's role tells; before networks had roles, all but the default one were secondary.
    """
    owner_type = external_ids.get(_OWNER_TYPE, "")
    if not owner_type:
        return _identify_before_2023(external_ids, name=name, priority=priority)
    owner = external_ids.get(_OWNER_ID, owner_type)
    direction = _DIRECTIONS.get(external_ids.get("direction", ""), "")
    named = external_ids.get(_NAME, "")
    if owner_type in NAMESPACE_DEFAULTS:
        isolates = external_ids.get("type", "defaultDeny") == "defaultDeny"
        return Identity(
            owner_type=owner_type,
            owner=owner,
            direction=direction,
            namespace_default=named if isolates else "",
        )
    layout = OWNER_TYPES.get(owner_type)
    if layout is None or not named:
        return Identity(owner_type=owner_type, owner=owner, direction=direction)
    network = external_ids.get(_CONTROLLER, _DEFAULT_NETWORK).removesuffix(_CONTROLLER_SUFFIX)
    secondary = network != _DEFAULT_NETWORK and network not in primary_networks
    return Identity(
        owner_type=owner_type,
        owner=owner,
        policy=_policy(layout, named, secondary=secondary),
        direction=layout.direction or direction,
        rule=_index(external_ids.get(layout.rule_key, "")),
    )


def _policy(layout: _OwnerType, named: str, *, secondary: bool) -> PolicyRef | None:
    """Return the object `named` in a row; on a secondary network a NetworkPolicy is a Multi one."""
    kind = "MultiNetworkPolicy" if secondary and layout.kind == "NetworkPolicy" else layout.kind
    if layout.fixed_name:
        return PolicyRef(kind=kind, namespace=named, name=layout.fixed_name)
    if layout.namespaced:
        namespace, _, name = named.partition(":")
        return PolicyRef(kind=kind, namespace=namespace, name=name) if name else None
    return PolicyRef(kind=kind, namespace="", name=named)


def _identify_before_2023(external_ids: Mapping[str, str], *, name: str, priority: int) -> Identity:
    """Read the identity rows had before owner types.

    NetworkPolicy ACLs: `namespace`, `policy`, `policy_type`, `<policy_type>_num`. Default denies:
    `default-deny-policy-type` and the name `<namespace>_…`. EgressFirewall: `egressFirewall`.
    Port groups: `name` = `<namespace>_<policy>`.
    """
    if "policy" in external_ids and "namespace" in external_ids:
        policy_type = external_ids.get("policy_type", "")
        ref = PolicyRef(
            kind="NetworkPolicy", namespace=external_ids["namespace"], name=external_ids["policy"]
        )
        return Identity(
            owner_type="NetworkPolicy",
            owner=name or str(ref),
            policy=ref,
            direction=_DIRECTIONS.get(policy_type, ""),
            rule=_index(external_ids.get(f"{policy_type}_num", "")),
        )
    if "default-deny-policy-type" in external_ids:
        multicast = priority in _MULTICAST_PRIORITIES
        return Identity(
            owner_type="MulticastNS" if multicast else "NetpolNamespace",
            owner=name,
            direction=_DIRECTIONS.get(external_ids["default-deny-policy-type"], ""),
            namespace_default="" if multicast else name.split("_", maxsplit=1)[0],
        )
    if "egressFirewall" in external_ids:
        namespace = external_ids["egressFirewall"]
        return Identity(
            owner_type="EgressFirewall",
            owner=f"egressFirewall={namespace}",
            policy=PolicyRef(kind="EgressFirewall", namespace=namespace, name="default"),
            direction="egress",
            rule=_EGRESS_FIREWALL_FIRST_PRIORITY - priority if priority else -1,
        )
    old_name = external_ids.get("name", "")
    if "_" in old_name and not old_name.endswith(_DEFAULT_DENY_GROUPS):
        namespace, _, policy = old_name.partition("_")
        ref = PolicyRef(kind="NetworkPolicy", namespace=namespace, name=policy)
        return Identity(owner_type="NetworkPolicy", owner=old_name, policy=ref)
    return Identity(owner_type="", owner=name)


_DEFAULT_DENY_GROUPS = ("_ingressDefaultDeny", "_egressDefaultDeny")

_MULTICAST_PRIORITIES = frozenset({1011, 1012})
"""Old multicast ACLs carry the default-deny key too; only their priority tells them apart."""


def _index(text: str) -> int:
    """Return a rule's index; -1 when the row names none."""
    return int(text) if text.isascii() and text.isdigit() else -1
