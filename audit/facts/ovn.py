"""One zone's northbound and southbound databases → Zone.

Ports, switches, MACs and router MACs are what the databases say; no name is composed here. Only
the tables and columns below are read, and logical flows by `audit.facts.flows`.
"""

import functools
import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from audit.errors import DatabaseError
from audit.facts import content, flows, identity
from audit.facts.addresses import network
from audit.facts.inventory import stock
from audit.facts.rows import as_tuple, by_prefix
from audit.flows.literals import sets_named
from audit.model.engine import DatabaseReader, Tables
from audit.model.facts import (
    Acl,
    LoadBalancer,
    LogicalPort,
    PortGroup,
    Zone,
)
from audit.model.inventory import Stock
from audit.model.networks import DEFAULT, Network, Role
from audit.model.packets import Protocol

Row = Mapping[str, Any]

_ALIKE = 1 << 15
"""Things that zones have alike and that are kept once."""
_HAS_PORTS = ('"ports"',)
"""With interconnect every zone has every policy's port group, most of them without a port here:
their ACLs are in force nowhere in the zone, and are most of what a large database holds."""

_NB_ADDRESSES = {
    "Logical_Router_Static_Route": ("ip_prefix", "nexthop"),
    "Logical_Router_Port": ("networks",),
    "NAT": ("external_ip", "logical_ip"),
}
_NB_BESIDES = {"Logical_Router_Static_Route": ("policy",)}
_SB_ADDRESSES = {
    "MAC_Binding": ("ip",),
    "Static_MAC_Binding": ("ip",),
    "Learned_Route": ("ip_prefix", "nexthop"),
}
"""Where northd finds the addresses in routers' logical flows, load balancers and policies apart
(northd.c, OVN 25.03; `Learned_Route` is as new)."""


def read_zone(
    reader: DatabaseReader,
    name: str,
    northbound: Path,
    southbound: Path,
    *,
    endpoint_addresses: Collection[str] = (),
) -> Zone:
    """Read a zone from two staged databases. DatabaseError when one cannot be read.

    `endpoint_addresses` are those of the cluster's pods and nodes: logical flows for packets to
    other addresses of load balancers are not kept.
    """
    try:
        return _zone(reader, name, northbound, southbound, endpoint_addresses)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DatabaseError(
            f"zone {name} holds what OVN does not write: {type(error).__name__}: {error}; copy its "
            "databases again"
        ) from error


def _zone(
    reader: DatabaseReader,
    name: str,
    northbound: Path,
    southbound: Path,
    endpoint_addresses: Collection[str],
) -> Zone:
    nb = _northbound(reader.tables(northbound, "OVN_Northbound"))
    rows, balancers = nb.rows, nb.balancers
    south = reader.tables(southbound, "OVN_Southbound")
    sb = _southbound(south)
    routed = _routed(rows, sb)
    met = flows.logical_flows(south, flows.ServiceSieve(balancers, {*endpoint_addresses, *routed}))
    used = set(sets_named(flow.match for some in met.flows.values() for flow in some))
    options = _first(sb["SB_Global"]).get("options", {})
    ports = _ports(sb["Port_Binding"], sb["Datapath_Binding"])
    sequence = (_first(rows["NB_Global"]).get("nb_cfg"), _first(sb["SB_Global"]).get("nb_cfg"))
    return Zone(
        name=name,
        northbound=northbound,
        southbound=southbound,
        northd_version=options.get("northd_internal_version", ""),
        content=content.southbound(south),
        sequence="/".join(str(number) for number in sequence),
        markers=MappingProxyType(
            markers(rows["NB_Global"], sb["SB_Global"], sb["Chassis_Private"])
        ),
        chassis=frozenset(row["name"] for row in sb["Chassis_Private"]),
        switches=MappingProxyType(_switches(rows["Logical_Switch"])),
        ports=MappingProxyType(ports),
        by_tunnel_key=MappingProxyType(
            {(port.datapath, port.tunnel_key): port for port in ports.values()}
        ),
        acls=MappingProxyType(nb.acls),
        port_groups=_port_groups(rows["Port_Group"], rows["Logical_Switch_Port"], nb.primary),
        flow_hints=met.hints,
        load_balancers=balancers,
        stock=replace(nb.stock, bound=stock.bound(south)),
        address_sets=MappingProxyType(
            {row["name"]: _shared(as_tuple(row["addresses"])) for row in rows["Address_Set"]}
        ),
        switch_acls=MappingProxyType(_switch_acls(rows["Logical_Switch"])),
        flows=met.flows,
        service_flows=met.to_services,
        installed_sets=flows.installed_sets(south, used),
        installed_groups=flows.installed_groups(south),
        source_routes=tuple(_source_routes(rows["Logical_Router_Static_Route"])),
        networks=MappingProxyType(_networks((*rows["Logical_Switch"], *rows["Logical_Router"]))),
    )


NB_MARKERS = ("nb_cfg", "sb_cfg", "hv_cfg")
SB_MARKERS = ("nb_cfg",)
CHASSIS_MARKERS = ("name", "nb_cfg")
"""Columns of NB_Global, SB_Global and Chassis_Private that say how far each part has come
(ovn-nb(5), ovn-sb(5))."""


def markers(
    northbound: Sequence[Row], southbound: Sequence[Row], chassis: Sequence[Row]
) -> dict[str, int]:
    """Return these tables' counters: what is wanted, and how far northd and each chassis are."""
    counters = {name: _first(northbound).get(name, 0) for name in NB_MARKERS}
    counters |= {f"southbound {name}": _first(southbound).get(name, 0) for name in SB_MARKERS}
    return counters | {f"chassis {row['name']}": row["nb_cfg"] for row in chassis}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Northbound:
    """What is read of a northbound database, which then need not be kept: it may be half a GB."""

    rows: Mapping[str, Sequence[Row]]
    acls: Mapping[str, tuple[Acl, ...]]
    balancers: tuple[LoadBalancer, ...]
    stock: Stock
    primary: frozenset[str]
    """The user-defined networks that are the primary one of their pods."""


def _northbound(tables: Tables) -> _Northbound:
    """Read what is in force: of ACLs those of a switch or of a port group that has ports."""
    groups = tables.rows(
        "Port_Group", ("name", "ports", "acls", "external_ids"), mentioning=_HAS_PORTS
    )
    switches = tables.rows("Logical_Switch", ("name", "other_config", "external_ids", "acls"))
    policies = tables.rows("Logical_Router_Policy", ("match", "action", "priority"))
    primary = primary_networks(switches)
    groups_in_force = [group for group in groups if group["ports"]]
    holders = (*groups_in_force, *switches)
    uuids = {uuid for row in holders for uuid in as_tuple(row.get("acls", ()))}
    acls = _acls(tables, uuids, primary)
    in_force = (acl.match for some in acls.values() for acl in some)
    used = set(sets_named(itertools.chain(in_force, (row["match"] for row in policies))))
    balancer = ("_uuid", "vips", "protocol", "options", "external_ids", "name")
    rows = {
        "NB_Global": tables.rows("NB_Global", ("name", "options", *NB_MARKERS)),
        "Logical_Switch": switches,
        "Logical_Switch_Port": tables.rows("Logical_Switch_Port", ("_uuid", "name")),
        "Port_Group": groups_in_force,
        "Logical_Router_Policy": policies,
        "Load_Balancer": tables.rows("Load_Balancer", balancer),
        "Logical_Router": tables.rows("Logical_Router", ("name", "external_ids")),
        **{
            table: tables.rows(table, (*columns, *_NB_BESIDES.get(table, ())))
            for table, columns in _NB_ADDRESSES.items()
        },
        **_address_sets(tables, used),
    }
    balancers = tuple(_load_balancers(rows["Load_Balancer"]))
    return _Northbound(
        rows=rows,
        acls=acls,
        balancers=balancers,
        stock=stock.read(tables, rows, balancers, primary),
        primary=primary,
    )


def _address_sets(tables: Tables, used: Collection[str]) -> Mapping[str, Sequence[Row]]:
    """Read the sets that matches name, and say which of those are not there."""
    uuids = {row["name"]: row["_uuid"] for row in tables.rows("Address_Set", ("_uuid", "name"))}
    in_use = [uuid for name, uuid in uuids.items() if name in used]
    columns = ("name", "addresses", "external_ids")
    return {
        "Address_Set": [*tables.pick("Address_Set", columns, in_use)],
        stock.ABSENT_SETS: [{"name": name} for name in used if name not in uuids],
    }


def _southbound(tables: Tables) -> Mapping[str, Sequence[Row]]:
    """Read ports and datapaths, and where routers find addresses."""
    binding = ("logical_port", "type", "datapath", "tunnel_key", "mac", "options", "external_ids")
    return {
        "SB_Global": tables.rows("SB_Global", ("options", *SB_MARKERS)),
        "Chassis_Private": tables.rows("Chassis_Private", CHASSIS_MARKERS),
        "Datapath_Binding": tables.rows("Datapath_Binding", ("_uuid", "external_ids")),
        "Port_Binding": tables.rows("Port_Binding", binding),
        **{table: tables.rows(table, columns) for table, columns in _SB_ADDRESSES.items()},
    }


def _first(rows: Sequence[Row]) -> Row:
    """Return the only row of a singleton table; an empty one when the table is empty."""
    return rows[0] if rows else {}


_NETWORK = "k8s.ovn.org/network"
_ROLE = "k8s.ovn.org/role"
_TOPOLOGY = "k8s.ovn.org/topology"
_NAD = "k8s.ovn.org/nad"
"""The network attachment definition that a pod's port on another network was made of."""


def primary_networks(switches: Sequence[Row]) -> frozenset[str]:
    """Return the user-defined networks that are the primary one of their pods."""
    return frozenset(
        ids[_NETWORK]
        for row in switches
        if (ids := row["external_ids"]).get(_ROLE) == "primary" and _NETWORK in ids
    )


def _is_user_defined(row: Row) -> bool:
    """Say whether a switch or a router is of another network than the default one."""
    return bool(row["external_ids"].get(_NETWORK, DEFAULT) != DEFAULT)


def _networks(rows: Sequence[Row]) -> dict[str, Network]:
    """Map each switch and router of another network than the default one to its network.

    Not every row says what the network is to its pods; before there were roles none did.
    """
    described: dict[str, Network] = {}
    of_rows = {row["name"]: row["external_ids"] for row in rows if _is_user_defined(row)}
    for ids in of_rows.values():
        so_far = described.get(ids[_NETWORK], Network(name=ids[_NETWORK]))
        described[ids[_NETWORK]] = Network(
            name=ids[_NETWORK],
            topology=ids.get(_TOPOLOGY, so_far.topology),
            role=Role(ids[_ROLE]) if ids.get(_ROLE) in set(Role) else so_far.role,
        )
    return {name: described[ids[_NETWORK]] for name, ids in of_rows.items()}


def _switch_acls(rows: Sequence[Row]) -> dict[str, frozenset[str]]:
    """Map each switch that has ACLs of its own to their uuids."""
    acls = {row["name"]: frozenset(as_tuple(row.get("acls", ()))) for row in rows}
    return {name: uuids for name, uuids in acls.items() if uuids}


def _source_routes(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield the routes that look at the packet's source: prefix and next hop."""
    for row in rows:
        if row.get("policy") == "src-ip":
            yield row["ip_prefix"], row["nexthop"]


def _switches(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Map each switch to its subnets: `other_config:subnet` and `ipv6_prefix` (a /64).

    Switches of user-defined networks get none: those may use the default network's very subnets.
    """
    switches = {}
    for row in rows:
        config = row.get("other_config", {})
        if _is_user_defined(row):
            config = {}
        subnets = [config["subnet"]] if "subnet" in config else []
        if "ipv6_prefix" in config:
            subnets.append(f"{config['ipv6_prefix'].removesuffix('/64')}/64")
        switches[row["name"]] = tuple(subnets)
    return switches


def _ports(bindings: Sequence[Row], datapaths: Sequence[Row]) -> dict[str, LogicalPort]:
    """Map each logical port to its row, with the datapath by name."""
    names = {row["_uuid"]: row["external_ids"].get("name", "") for row in datapaths}
    return {row["logical_port"]: _port(row, names.get(row["datapath"], "")) for row in bindings}


def _port(row: Row, datapath: str) -> LogicalPort:
    """Read a Port_Binding; its `mac` is `MAC IP…`, `router`, `unknown`, or empty."""
    words = [word for entry in as_tuple(row["mac"]) for word in entry.split()]
    ids = row["external_ids"]
    return LogicalPort(
        name=row["logical_port"],
        kind=row["type"],
        datapath=datapath,
        tunnel_key=row["tunnel_key"],
        mac=words[0] if words and words[0].count(":") == _MAC_COLONS else "",
        addresses=tuple(words[1:]),
        peer=row["options"].get("peer", ""),
        namespace=ids.get("namespace", ""),
        is_pod=ids.get("pod") == "true",
        nad=ids.get(_NAD, ""),
        chassis=row["options"].get("requested-chassis", "") if row["type"] == "remote" else "",
    )


_MAC_COLONS = 5


def _acls(
    tables: Tables, uuids: Iterable[str], primary: Collection[str]
) -> dict[str, tuple[Acl, ...]]:
    """Map uuid prefixes to these ACLs, each with its owner."""
    columns = ("_uuid", "direction", "action", "priority", "tier", "match", "name", "options")
    rows = tables.pick("ACL", (*columns, "external_ids"), sorted(uuids))
    return by_prefix((row["_uuid"], _acl(row, primary)) for row in rows)


def _acl(row: Row, primary: Collection[str]) -> Acl:
    name = row["name"] if isinstance(row["name"], str) else ""
    owner = identity.identify(
        row["external_ids"], name=name, priority=row["priority"], primary_networks=primary
    )
    return Acl(
        uuid=row["_uuid"],
        direction=row["direction"],
        action=row["action"],
        priority=row["priority"],
        tier=row.get("tier", 0),
        match=sys.intern(row["match"]),
        owner_type=owner.owner_type,
        owner=owner.owner,
        policy=owner.policy,
        policy_direction=owner.direction,
        rule=owner.rule,
        namespace_default=owner.namespace_default,
        after_lb=row.get("options", {}).get("apply-after-lb") == "true",
    )


def _port_groups(
    rows: Sequence[Row], ports: Sequence[Row], primary: Collection[str]
) -> tuple[PortGroup, ...]:
    """Read port groups; those owned by a policy hold the pods it selects."""
    names = {row["_uuid"]: row["name"] for row in ports}
    return tuple(
        PortGroup(
            name=row["name"],
            ports=frozenset(names[uuid] for uuid in as_tuple(row["ports"]) if uuid in names),
            policy=identity.identify(row["external_ids"], primary_networks=primary).policy,
            acls=frozenset(as_tuple(row.get("acls", ()))),
        )
        for row in rows
    )


def _routed(nb: Mapping[str, Sequence[Row]], sb: Mapping[str, Sequence[Row]]) -> frozenset[str]:
    """Return the addresses and networks routers know, whatever for."""
    sources = ((nb, _NB_ADDRESSES), (sb, _SB_ADDRESSES))
    return frozenset(
        sys.intern(text)
        for tables, addresses in sources
        for table, columns in addresses.items()
        for row in tables[table]
        for column in columns
        for text in as_tuple(row.get(column, ()))
        if network(text)  # a next hop may also be `discard`
    )


def _load_balancers(rows: Sequence[Row]) -> Iterable[LoadBalancer]:
    """Read load balancers; a VIP's key is `IP:port` or `[IPv6]:port`."""
    for row in rows:
        yield _load_balancer(
            owner=row["external_ids"].get("k8s.ovn.org/owner", row["name"]),
            network=row["external_ids"].get(_NETWORK, ""),
            protocol=row["protocol"] if isinstance(row["protocol"], str) else Protocol.TCP,
            vips=tuple(row["vips"].items()),
            template=row.get("options", {}).get("template") == "true",
        )


@functools.lru_cache(maxsize=_ALIKE)
def _load_balancer(
    *, owner: str, network: str, protocol: str, vips: tuple[tuple[str, str], ...], template: bool
) -> LoadBalancer:
    """Return a load balancer; most are the same in every zone, and are one object then."""
    parsed = (_vip(key, value) for key, value in vips)
    return LoadBalancer(
        owner=owner,
        network="" if network == DEFAULT else network,
        protocol=Protocol(protocol),
        vips=tuple(vip for vip in parsed if vip is not None),
        template=template,
    )


@functools.lru_cache(maxsize=_ALIKE)
def _shared(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return one object for all zones' sets of the same addresses."""
    return addresses


def _vip(key: str, value: str) -> tuple[str, int, tuple[str, ...]] | None:
    """Split `[fd02::1]:80` → `a,b`; None for a VIP without a port, such as `fd02::1`."""
    address, _, port = key.rpartition(":")
    bare_ip6 = ":" in address and not address.startswith("[")
    if not address or bare_ip6 or not port.isdigit():
        return None
    backends = tuple(backend for backend in value.split(",") if backend)
    return address.strip("[]"), int(port), backends
