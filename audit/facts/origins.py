"""A zone's databases → what the cookies of its OpenFlow flows stand for: ovn-detrace in memory.

`ovn-detrace` answers the same question in a second per trace, by downloading both databases, and
leaves the Kubernetes object out. Here the rows behind a set of cookies are read at once, in its
words where it has some, with the object that `external_ids` name.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from audit.facts import identity
from audit.facts.ovn import primary_networks
from audit.facts.rows import as_tuple
from audit.model.engine import DatabaseReader, Tables
from audit.model.origins import PREFIX, Origin, Origins, Source, prefix_of
from audit.model.owners import words
from audit.model.verdicts import Blame

Row = Mapping[str, Any]

_SOUTHBOUND: Mapping[str, Sequence[str]] = {
    "Logical_Flow": (
        *("_uuid", "logical_datapath", "logical_dp_group", "pipeline", "table_id", "priority"),
        *("match", "actions", "external_ids"),
    ),
    "Port_Binding": ("_uuid", "datapath", "logical_port", "tunnel_key"),
    "MAC_Binding": ("_uuid", "datapath", "logical_port", "ip", "mac"),
    "Multicast_Group": ("_uuid", "datapath", "name", "tunnel_key"),
    "Chassis": ("_uuid", "name", "hostname"),
    "Load_Balancer": ("_uuid", "name", "protocol"),
}
"""The tables ovn-detrace looks a cookie up in, in its order (ovn_detrace.py, 22.03 to 25.03)."""

_NORTHBOUND: Mapping[str, Sequence[str]] = {
    "ACL": ("_uuid", "direction", "priority", "match", "action", "name", "log", "external_ids"),
    "DHCP_Options": ("_uuid", "cidr", "external_ids"),
    "Forwarding_Group": ("_uuid", "name", "vip", "external_ids"),
    "Logical_Switch_Port": ("_uuid", "name", "type", "external_ids"),
    "Logical_Router_Port": ("_uuid", "name", "mac", "external_ids"),
    "Logical_Router_Policy": ("_uuid", "priority", "match", "action", "external_ids"),
    "Load_Balancer": ("_uuid", "name", "protocol", "external_ids"),
    "NAT": ("_uuid", "external_ip", "logical_ip", "type", "external_ids"),
    "Logical_Router_Static_Route": ("_uuid", "ip_prefix", "nexthop", "external_ids"),
    "QoS": ("_uuid", "priority", "direction", "match", "external_ids"),
}
"""The tables ovn-detrace looks a stage hint up in, in its order."""


def read_origins(
    reader: DatabaseReader, northbound: Path, southbound: Path, cookies: Collection[int]
) -> Origins:
    """Read what these cookies stand for, from two staged databases.

    DatabaseError when one of them cannot be read.
    """
    wanted = frozenset(prefix_of(cookie) for cookie in cookies)
    if not wanted:
        return Origins(rows=MappingProxyType({}))
    tables = reader.tables(southbound, "OVN_Southbound")
    by_table = {table: _named(tables, table, _SOUTHBOUND[table], wanted) for table in _SOUTHBOUND}
    hints = frozenset(hint for row in by_table["Logical_Flow"] if (hint := _hint(row)))
    sources = _read_sources(reader, northbound, hints) if hints else {}
    datapaths = _Datapaths(tables)
    rows: dict[str, list[Origin]] = defaultdict(list)
    for table, listed in by_table.items():
        for row in listed:
            rows[_prefix(row)].append(_origin(table, row, datapaths, sources))
    return Origins(rows=MappingProxyType({key: tuple(value) for key, value in rows.items()}))


def _named(
    tables: Tables, table: str, columns: Sequence[str], prefixes: Collection[str]
) -> list[dict[str, Any]]:
    """Return the rows of a table whose uuids begin so, sorted by uuid."""
    rows = (row for row in tables.rows(table, columns) if _prefix(row) in prefixes)
    return sorted(rows, key=lambda row: str(row["_uuid"]))


def _prefix(row: Row) -> str:
    return str(row["_uuid"])[:PREFIX]


def _hint(row: Row) -> str:
    return str(row["external_ids"].get("stage-hint", ""))


class _Datapaths:
    """Names of the logical datapaths a southbound row is in."""

    def __init__(self, tables: Tables) -> None:
        bindings = tables.rows("Datapath_Binding", ("_uuid", "external_ids"))
        groups = tables.rows("Logical_DP_Group", ("_uuid", "datapaths"))
        self._names = {row["_uuid"]: row["external_ids"].get("name", "") for row in bindings}
        self._groups = {row["_uuid"]: as_tuple(row["datapaths"]) for row in groups}

    def of(self, row: Row) -> tuple[str, ...]:
        """Return them sorted; a logical flow is in one, or in all of a group."""
        uuids = [
            *as_tuple(row.get("datapath", ())),
            *as_tuple(row.get("logical_datapath", ())),
            *(
                uuid
                for group in as_tuple(row.get("logical_dp_group", ()))
                for uuid in self._groups.get(group, ())
            ),
        ]
        return tuple(sorted(self._names.get(uuid, uuid) for uuid in uuids))


def _origin(
    table: str, row: Row, datapaths: _Datapaths, sources: Mapping[str, tuple[Source, ...]]
) -> Origin:
    is_flow = table == "Logical_Flow"
    return Origin(
        table=table,
        uuid=row["_uuid"],
        text=_WORDS_SOUTH[table](row),
        datapaths=datapaths.of(row),
        stage=row["external_ids"].get("stage-name", "") if is_flow else "",
        sources=sources.get(_hint(row), ()) if is_flow else (),
    )


def _read_sources(
    reader: DatabaseReader, northbound: Path, hints: Collection[str]
) -> dict[str, tuple[Source, ...]]:
    """Map stage hints to every northbound row they may mean."""
    tables = reader.tables(northbound, "OVN_Northbound")
    primary = primary_networks(tables.rows("Logical_Switch", ("external_ids",)))
    sources: dict[str, list[Source]] = defaultdict(list)
    for table, columns in _NORTHBOUND.items():
        for row in _named(tables, table, columns, hints):
            sources[_prefix(row)].append(_source(table, row, primary))
    return {hint: tuple(rows) for hint, rows in sources.items()}


def _source(table: str, row: Row, primary: Collection[str]) -> Source:
    owner = identity.identify(
        row["external_ids"],
        name=_text(row.get("name", "")),
        priority=row.get("priority", 0) if table == "ACL" else 0,
        primary_networks=primary,
    )
    return Source(
        table=table,
        uuid=row["_uuid"],
        text=_WORDS_NORTH[table](row),
        owner=_OWNERS.get(table, _nobody)(row) or _owner(owner, table),
        policy=owner.policy if table == "ACL" else None,
    )


def _owner(owner: identity.Identity, table: str) -> str:
    """Name the object an ACL or route belongs to, as blame does."""
    if owner.namespace_default:
        return f"default deny of namespace {owner.namespace_default}, {owner.direction}"
    if owner.policy is not None:
        return str(
            Blame(action="", policy=owner.policy, direction=owner.direction, rule=owner.rule)
        )
    return words(owner.owner) if owner.owner_type or table == "ACL" else ""


def _nobody(_row: Row) -> str:
    return ""


def _service(row: Row) -> str:
    """Name the Service of a load balancer."""
    ids = row["external_ids"]
    owner = str(ids.get("k8s.ovn.org/owner", ""))
    return f"{ids.get('k8s.ovn.org/kind', 'Service').lower()} {owner}" if owner else ""


def _pod(row: Row) -> str:
    """Name the pod of a logical switch port, whose name is `namespace_pod`."""
    ids = row["external_ids"]
    if ids.get("pod") != "true" or "namespace" not in ids:
        return ""
    name = str(row["name"]).removeprefix(f"{ids['namespace']}_")
    return f"pod {ids['namespace']}/{name}"


_EGRESS_IP = "EgressIP"


def _egress_ip(row: Row) -> str:
    """Name the EgressIP of a NAT or a router policy: its row is called `<name>_<namespace>/<pod>`.

    Rows that serve all of them (`EIP-No-Reroute-…`) belong to none.
    """
    ids = row["external_ids"]
    name, underscore, _ = str(ids.get("k8s.ovn.org/name", "")).partition("_")
    mine = ids.get("k8s.ovn.org/owner-type") == _EGRESS_IP and bool(underscore)
    return f"egressip {name}" if mine else ""


_OWNERS: Mapping[str, Callable[[Row], str]] = {
    "Load_Balancer": _service,
    "Logical_Switch_Port": _pod,
    "NAT": _egress_ip,
    "Logical_Router_Policy": _egress_ip,
}
"""Tables whose rows name their object in a way of their own."""


def _text(value: object) -> str:
    """Return an optional column as text; one without a value is an empty set."""
    return "" if isinstance(value, list) else str(value)


def _log(row: Row) -> str:
    return " (log)" if row.get("log") else ""


_WORDS_SOUTH: Mapping[str, Callable[[Row], str]] = {
    "Logical_Flow": lambda row: (
        f"Logical flow: table={row['table_id']} ({row['external_ids'].get('stage-name')}), "
        f"priority={row['priority']}, match=({row['match']}), actions=({row['actions']})"
    ),
    "Port_Binding": lambda row: (
        f'Port Binding: logical_port "{row["logical_port"]}", tunnel_key {row["tunnel_key"]}'
    ),
    "MAC_Binding": lambda row: (
        f'MAC Binding: ip "{row["ip"]}", logical_port "{row["logical_port"]}", mac "{row["mac"]}"'
    ),
    "Multicast_Group": lambda row: (
        f'Multicast Group: name "{row["name"]}", tunnel_key {row["tunnel_key"]}'
    ),
    "Chassis": lambda row: f'Chassis: name "{row["name"]}", hostname "{row["hostname"]}"',
    "Load_Balancer": lambda row: (
        f"Load Balancer: {row['name']} protocol {_text(row['protocol']) or 'tcp'}"
    ),
}

_WORDS_NORTH: Mapping[str, Callable[[Row], str]] = {
    "ACL": lambda row: (
        f"ACL: {row['direction']}, priority={row['priority']}, match=({row['match']}), "
        f"{row['action']}{_log(row)}"
    ),
    "DHCP_Options": lambda row: f"DHCP Options: cidr {row['cidr']}",
    "Forwarding_Group": lambda row: f"Forwarding Group: name {row['name']} vip {row['vip']}",
    "Logical_Switch_Port": lambda row: f"Logical Switch Port: {row['name']} type {row['type']}",
    "Logical_Router_Port": lambda row: f"Logical Router Port: {row['name']} mac {row['mac']}",
    "Logical_Router_Policy": lambda row: (
        f"Logical Router Policy: priority {row['priority']} match {row['match']} "
        f"action {row['action']}"
    ),
    "Load_Balancer": lambda row: (
        f"Load Balancer: {row['name']} protocol {_text(row['protocol']) or 'tcp'}"
    ),
    "NAT": lambda row: (
        f"NAT: external IP {row['external_ip']} logical_ip {row['logical_ip']} type {row['type']}"
    ),
    "Logical_Router_Static_Route": lambda row: f"Route: {row['ip_prefix']} via {row['nexthop']}",
    "QoS": lambda row: (
        f"QoS: priority {row['priority']} direction {row['direction']} match {row['match']}"
    ),
}
