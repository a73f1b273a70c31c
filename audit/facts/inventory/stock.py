"""A zone's rows that belong to Kubernetes objects → Stock.

Rows of the default network only: on user-defined networks the same objects have rows of their own,
and nothing of those networks is audited. Policies are the exception: a NetworkPolicy of a namespace
with a primary user-defined network has its rows there.
"""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from audit.facts.rows import as_tuple
from audit.model.engine import Tables
from audit.model.facts import LoadBalancer
from audit.model.inventory import Balancer, OwnedGroup, OwnedSet, Stock

Row = Mapping[str, Any]

_ID = "k8s.ovn.org/id"
_TYPE = "k8s.ovn.org/owner-type"
_NAME = "k8s.ovn.org/name"
_CONTROLLER = "k8s.ovn.org/owner-controller"
_NETWORK = "k8s.ovn.org/network"
_OWNER = "k8s.ovn.org/owner"
_DEFAULT = "default-network-controller"
_SUFFIX = "-network-controller"
ABSENT_SETS = "Address_Set that is not there"
"""Among the rows that were read: the names of sets that are used and have no row."""
ADMIN_TYPES = frozenset({"AdminNetworkPolicy", "BaselineAdminNetworkPolicy"})
POLICY_TYPES = ADMIN_TYPES | {"NetworkPolicy"}
_DEFAULT_DENY = {"_ingressDefaultDeny": "ingress", "_egressDefaultDeny": "egress"}
_ALIKE = 1 << 6


def read(
    northbound: Tables,
    rows: Mapping[str, Sequence[Row]],
    balancers: Sequence[LoadBalancer],
    primary: Collection[str],
) -> Stock:
    """Return what a zone holds, but for what is bound.

    `rows` are the northbound's that were read already, `balancers` what was made of those of
    `Load_Balancer`, and `primary` the user-defined networks that are the primary one of their pods.
    """
    ids = northbound.external_ids("Port_Group", _ID)
    names = frozenset() if ids else northbound.external_ids("Port_Group", "name")
    return Stock(
        policies=_policies(ids, names, frozenset(primary)),
        groups=tuple(_groups(rows["Port_Group"], rows["Logical_Switch_Port"])),
        sets=tuple(_sets(rows["Address_Set"])),
        absent_sets=tuple(sorted(row["name"] for row in rows[ABSENT_SETS])),
        balancers=tuple(_in_force(northbound, rows["Load_Balancer"], balancers)),
        variables=MappingProxyType(_variables(northbound)),
    )


@functools.lru_cache(maxsize=_ALIKE)
def _policies(
    ids: frozenset[str], names: frozenset[str], primary: frozenset[str]
) -> frozenset[str]:
    """Return `type:name` of each policy; before April 2024 groups were named otherwise.

    Nearly always all zones have the same: they are read once, and are one object then.
    """
    policies = set()
    for text in ids:
        controller, _, rest = text.partition(":")
        owner_type, _, name = rest.partition(":")
        network = controller.removesuffix(_SUFFIX)
        if owner_type in POLICY_TYPES and (controller == _DEFAULT or network in primary):
            policies.add(f"{owner_type}:{name}")
    for text in names:
        namespace, _, name = text.partition("_")
        if name and not text.endswith(tuple(_DEFAULT_DENY)):
            policies.add(f"NetworkPolicy:{namespace}:{name}")
    return frozenset(policies)


def _groups(rows: Sequence[Row], ports: Sequence[Row]) -> Iterator[OwnedGroup]:
    """Yield the port groups with ports, as far as they say whose they are."""
    names = {row["_uuid"]: row["name"] for row in ports}
    for row in rows:
        ids = row["external_ids"]
        members = frozenset(names[uuid] for uuid in as_tuple(row["ports"]) if uuid in names)
        if ids.get(_TYPE):
            if ids.get(_CONTROLLER, _DEFAULT) == _DEFAULT:
                yield OwnedGroup(
                    group=row["name"],
                    owner_type=ids[_TYPE],
                    name=ids.get(_NAME, ""),
                    direction=ids.get("direction", "").lower(),
                    ports=members,
                )
            continue
        old = ids.get("name", "")
        deny = next((end for end in _DEFAULT_DENY if old.endswith(end)), "")
        if deny:
            yield OwnedGroup(
                group=row["name"],
                owner_type="NetpolNamespace",
                name=old.removesuffix(deny),  # the hash of the namespace's name
                direction=_DEFAULT_DENY[deny],
                ports=members,
            )
        elif "_" in old:
            yield OwnedGroup(
                group=row["name"],
                owner_type="NetworkPolicy",
                name=old.replace("_", ":", 1),
                direction="",
                ports=members,
            )


def _sets(rows: Sequence[Row]) -> Iterator[OwnedSet]:
    for row in rows:
        ids = row["external_ids"]
        if ids.get(_CONTROLLER) != _DEFAULT:
            continue
        index = ids.get("gress-index", "")
        yield OwnedSet(
            set=row["name"],
            owner_type=ids.get(_TYPE, ""),
            name=ids.get(_NAME, ""),
            direction=ids.get("direction", "").lower(),
            rule=int(index) if index.isdigit() else -1,
            family=ids.get("ip-family", ""),
            addresses=frozenset(as_tuple(row["addresses"])),
        )


def _in_force(
    northbound: Tables, rows: Sequence[Row], balancers: Sequence[LoadBalancer]
) -> Iterator[Balancer]:
    """Yield the default network's load balancers that a switch or a router has."""
    columns = ("load_balancer", "load_balancer_group")
    grouped = {
        row["_uuid"]: as_tuple(row["load_balancer"])
        for row in northbound.rows("Load_Balancer_Group", ("_uuid", "load_balancer"))
    }

    def used(table: str) -> frozenset[str]:
        rows = northbound.rows(table, columns)
        direct = {uuid for row in rows for uuid in as_tuple(row.get("load_balancer", ()))}
        groups = {group for row in rows for group in as_tuple(row.get("load_balancer_group", ()))}
        return frozenset(direct.union(*(grouped.get(group, ()) for group in groups)))

    on_switch, on_router = used("Logical_Switch"), used("Logical_Router")
    for row, balancer in zip(rows, balancers, strict=True):
        switch, router = row["_uuid"] in on_switch, row["_uuid"] in on_router
        network = row["external_ids"].get(_NETWORK, "default")
        if network == "default" and _OWNER in row["external_ids"] and (switch or router):
            yield Balancer(
                owner=balancer.owner,
                protocol=balancer.protocol,
                vips=balancer.vips,
                on_switch=switch,
                on_router=router,
            )


def _variables(northbound: Tables) -> dict[str, tuple[str, ...]]:
    variables: dict[str, set[str]] = {}
    for row in northbound.rows("Chassis_Template_Var", ("chassis", "variables")):
        for name, value in row.get("variables", {}).items():
            variables.setdefault(name, set()).add(value)
    return {name: tuple(sorted(values)) for name, values in variables.items()}


def bound(southbound: Tables) -> Mapping[str, str]:
    """Map each pod's port to the name of its chassis."""
    chassis = {row["_uuid"]: row["name"] for row in southbound.rows("Chassis", ("_uuid", "name"))}
    columns = ("logical_port", "type", "chassis", "external_ids")
    return {
        row["logical_port"]: chassis.get("".join(as_tuple(row["chassis"])), "")
        for row in southbound.rows("Port_Binding", columns, mentioning=('"pod"',))
        if not row["type"] and row["external_ids"].get("pod") == "true"
    }


def hash_of(text: str) -> str:
    """Return the name that OVN-Kubernetes gives a row: FNV-1a of its id (util.HashForOVN)."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"a{value}"
