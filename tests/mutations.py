"""Random edits of a recorded cluster, each in words: `EDITS`, by kind.

What they are made of is drawn from the cluster itself: its flows, its ACLs, the pods and ports that
are asked. An edit of northbound rows names the zones whose southbound is to be made again.
"""

import ipaddress
import json
import re
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audit.model.packets import Family
from tests.mutable import Cluster, Database, Pod, a_map, a_set, members, pairs

Edit = Callable[[Cluster], str]

_ANNOTATION = "k8s.ovn.org/pod-networks"
_NETWORK = "k8s.ovn.org/network"
_ROUTER_PORT = re.compile(r"(.*_)?(rto|trto|GR|cr-)")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


def _uuid(cluster: Cluster) -> str:
    return str(uuids.UUID(int=cluster.rng.getrandbits(128), version=4))


def _bits(cluster: Cluster) -> str:
    return "32" if cluster.family is Family.IP4 else "128"


def _ip(cluster: Cluster) -> str:
    return "ip4" if cluster.family is Family.IP4 else "ip6"


def term(cluster: Cluster) -> str:
    """Return a condition that some of the packets asked fulfil."""
    protocol, _, number = cluster.a_port().partition("/")
    ip = _ip(cluster)
    pod, other = cluster.a_pod(), cluster.a_pod()
    address = pod.address(cluster.family)
    if cluster.vips and cluster.rng.random() < 0.5:
        vip = cluster.rng.choice(cluster.vips)
        return cluster.rng.choice(
            (
                f"{ip}.dst == {vip}",
                f"{ip}.dst == {_ending(vip)}",
                f"{ip}.src == {address} && {ip}.dst == {vip}",
                f"{protocol}.dst == {number} && {ip}.dst == {vip}",
            )
        )
    return cluster.rng.choice(
        (
            f"{ip}.src == {address}",
            f"{ip}.dst == {address}",
            f"{ip}.dst == {_ending(address)}",
            f"{ip}.src == {{{address}, {other.address(cluster.family)}}}",
            f"{ip}.src == {address} && {ip}.dst == {other.address(cluster.family)}",
            f"{protocol}.dst == {number}",
            f"{protocol}.dst == {number} && {ip}.dst == {address}",
            protocol,
            f'inport == "{pod.port}"',
            f'outport == "{pod.port}"',
            f"eth.src == {pod.mac}",
            f"eth.dst == {pod.mac}",
        )
    )


def _ending(address: str) -> str:
    """Return an address and a mask that compares its last bits."""
    last = int(ipaddress.ip_address(address)) & 0xF
    version = type(ipaddress.ip_address(address))
    return f"{version(last)}/{version(0xF)}"


def _opposite(cluster: Cluster, condition: str) -> str:
    """Return a condition or its opposite; names and protocols have none in OVN's language."""
    negated = cluster.rng.random() < 0.5
    nominal = condition.startswith(("inport", "outport")) or "." not in condition
    return f"!({condition})" if negated and not nominal else condition


def _stage(flow: Mapping[str, Any]) -> str:
    return str(pairs(flow["external_ids"]).get("stage-name", flow["table_id"]))


def _flow(cluster: Cluster, database: Database) -> tuple[str, dict[str, Any]]:
    """Draw a flow: a stage first, so that every one comes up; often one of a Service asked."""
    if cluster.vips and cluster.rng.random() < 0.5:
        named = [
            (key, row)
            for key, row in sorted(database.rows("Logical_Flow").items())
            if any(vip in row["match"] for vip in cluster.vips)
        ]
        if named:
            return cluster.rng.choice(named)
    stages: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for key, row in database.rows("Logical_Flow").items():
        stages.setdefault(_stage(row), []).append((key, row))
    return cluster.rng.choice(stages[cluster.rng.choice(sorted(stages))])


def _told(zone: str, row: Mapping[str, Any]) -> str:
    return (
        f"{zone}: {_stage(row)} {row['priority']} `{str(row['match'])[:160]}` "
        f"{{{str(row['actions'])[:80]}}}"
    )


def flow_deleted(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    database = cluster.database(zone, "sb")
    key, row = _flow(cluster, database)
    database.drop("Logical_Flow", key)
    return f"deleted {_told(zone, row)}"


def flow_changed(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    _, row = _flow(cluster, cluster.database(zone, "sb"))
    before = _told(zone, row)
    row["actions"] = cluster.rng.choice(("drop;", "next;"))
    return f"now {row['actions']}: {before}"


def flow_narrowed(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    _, row = _flow(cluster, cluster.database(zone, "sb"))
    before = _told(zone, row)
    more = _opposite(cluster, term(cluster))
    row["match"] = f"({row['match']}) && {more}"
    return f"only with `{more}`: {before}"


def flow_priority(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    _, row = _flow(cluster, cluster.database(zone, "sb"))
    before = _told(zone, row)
    row["priority"] = cluster.rng.choice((0, 1, row["priority"] + 1, 65000, 65535))
    return f"priority {row['priority']}: {before}"


def flow_doubled(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    database = cluster.database(zone, "sb")
    _, row = _flow(cluster, database)
    action = cluster.rng.choice(("drop;", "drop;", "next;", row["actions"]))
    more = term(cluster)
    made = row | {
        "priority": min(65535, row["priority"] + cluster.rng.choice((1, 1, 100))),
        "actions": action,
        "match": f"({row['match']}) && {more}",
    }
    database.rows("Logical_Flow")[_uuid(cluster)] = made
    return f"added above with `{more}` {{{action[:60]}}}: {_told(zone, row)}"


def flow_stray(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    database = cluster.database(zone, "sb")
    _, row = _flow(cluster, database)
    match = term(cluster)
    made = row | {
        # Its own, too: then OVN takes either where both are true.
        "priority": cluster.rng.choice((50, 1001, 2000, 30000, 65535, row["priority"])),
        "actions": "drop;",
        "match": match,
    }
    database.rows("Logical_Flow")[_uuid(cluster)] = made
    return f"{zone}: stray {_stage(row)} {made['priority']} `{match}` {{drop;}}"


def flow_outward(cluster: Cluster) -> str:
    """Drop what one pod sends where it leaves its switch for the router."""
    return _flow_at_router(cluster, "egress", ("outport", "inport"), "src")


def flow_inward(cluster: Cluster) -> str:
    """Drop what is for one pod where it comes into its switch from the router."""
    return _flow_at_router(cluster, "ingress", ("inport", "outport"), "dst")


def _flow_at_router(cluster: Cluster, pipeline: str, ports: tuple[str, str], side: str) -> str:
    """Drop one pod's packets, or everybody's, at its switch's port to the router, or all others.

    The first of `ports` is the likelier; where packets come from or go to is said by the port, or
    by the router's MAC.
    """
    pod = cluster.a_pod()
    zone = cluster.zone_of(pod)
    database = cluster.database(zone, "sb")
    bindings = list(database.rows("Port_Binding").values())
    datapath = next((row["datapath"] for row in bindings if row["logical_port"] == pod.port), None)
    routers = [
        row["logical_port"]
        for row in bindings
        if row["datapath"] == datapath and row["type"] == "patch"
    ]
    flows = [
        row
        for row in database.rows("Logical_Flow").values()
        if row["logical_datapath"] == datapath and row["pipeline"] == pipeline
    ]
    if not flows or not routers:
        return flow_stray(cluster)
    router = cluster.rng.choice(sorted(routers))
    by_name = {row["logical_port"]: row for row in bindings}
    peer = by_name.get(dict(pairs(by_name[router]["options"])).get("peer", ""), {})
    mac = next(iter(members(peer.get("mac", ""))), "").partition(" ")[0]
    where = [f'{port} == "{router}"' for port in (ports[0], *ports)]
    if _MAC.fullmatch(mac):
        where += [
            f"eth.{end} {relation} {mac}" for end in ("src", "dst") for relation in ("==", "!=")
        ]
    whose = cluster.rng.choice(
        (f" && {_ip(cluster)}.{side} == {pod.address(cluster.family)}", f" && {_ip(cluster)}", "")
    )
    made = cluster.rng.choice(flows) | {
        "priority": 65535,
        "actions": "drop;",
        "match": f"{cluster.rng.choice(where)}{whose}",
    }
    database.rows("Logical_Flow")[_uuid(cluster)] = made
    return f"{zone}: stray {_stage(made)} 65535 `{made['match']}` {{drop;}}"


def sb_set(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    return f"{zone}: southbound {_set(cluster, cluster.database(zone, 'sb'))}"


def _set(cluster: Cluster, database: Database) -> str:
    """Take an address out of a set, or put one in; mostly one of a pod that is asked."""
    rows = database.rows("Address_Set")
    pod = cluster.a_pod()
    own = set(pod.addresses)
    having = [r for r in rows.values() if own & set(members(r["addresses"]))]
    if having and cluster.rng.random() < 0.6:
        row = cluster.rng.choice(having)
        row["addresses"] = a_set([a for a in members(row["addresses"]) if a not in own])
        return f"address set {row['name']} without {pod.port}"
    if cluster.rng.random() < 0.15:
        key = cluster.rng.choice(sorted(rows))
        row = rows[key]
        row["addresses"] = a_set([])
        return f"address set {row['name']} emptied"
    row = cluster.rng.choice([rows[k] for k in sorted(rows)])
    present = members(row["addresses"])
    version6 = any(":" in a for a in present) or row["name"].endswith("_ip6")
    fit = [a for a in pod.addresses if (":" in a) == version6]
    row["addresses"] = a_set(sorted({*present, *fit}))
    return f"address set {row['name']} with {pod.port}"


def sb_group(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    pod = cluster.a_pod()
    rows = cluster.database(zone, "sb").rows("Port_Group")
    having = [r for _, r in sorted(rows.items()) if pod.port in members(r["ports"])]
    if having and cluster.rng.random() < 0.6:
        row = cluster.rng.choice(having)
        row["ports"] = a_set([p for p in members(row["ports"]) if p != pod.port])
        return f"{zone}: southbound port group {row['name']} without {pod.port}"
    row = cluster.rng.choice([r for _, r in sorted(rows.items())])
    row["ports"] = a_set(sorted({*members(row["ports"]), pod.port}))
    return f"{zone}: southbound port group {row['name']} with {pod.port}"


def _is_of(row: Mapping[str, Any], vips: Sequence[str]) -> bool:
    """Say whether a load balancer is of one of these addresses."""
    return any(vip in listed for listed in pairs(row["vips"]) for vip in vips)


def _balancer(cluster: Cluster, database: Database) -> str:
    rows = database.rows("Load_Balancer")
    row = cluster.rng.choice([r for _, r in sorted(rows.items()) if pairs(r["vips"])])
    asked = [r for _, r in sorted(rows.items()) if _is_of(r, cluster.vips)]
    if asked and cluster.rng.random() < 0.7:
        row = cluster.rng.choice(asked)
    vips = pairs(row["vips"])
    vip = cluster.rng.choice(sorted(vips))
    pod = cluster.a_pod()
    protocol, _, number = cluster.a_port().partition("/")
    address = pod.address(cluster.family)
    shown = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
    match cluster.rng.randrange(5):
        case 0:
            del vips[vip]
            what = f"without {vip}"
        case 1:
            vips[vip] = ""
            what = f"{vip} without backends"
        case 2:
            vips[vip] = shown
            what = f"{vip} to {shown}"
        case 3:
            vips[shown] = vips[vip]
            row["protocol"] = protocol
            what = f"with {protocol} {shown}, a pod's own"
        case _:
            vips[shown] = ""
            row["protocol"] = protocol
            what = f"with {protocol} {shown}, a pod's own, without backends"
    row["vips"] = a_map(vips)
    return f"load balancer {row['name']} {what}"


def sb_balancer(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    return f"{zone}: southbound {_balancer(cluster, cluster.database(zone, 'sb'))}"


def sb_port(cluster: Cluster) -> str:
    pod = cluster.a_pod()
    zone = cluster.zone_of(pod) if cluster.rng.random() < 0.7 else cluster.a_zone()
    database = cluster.database(zone, "sb")
    rows = database.rows("Port_Binding")
    own = [(k, r) for k, r in sorted(rows.items()) if r["logical_port"] == pod.port]
    if not own or cluster.rng.random() < 0.35:
        own = sorted(rows.items())
    key, row = cluster.rng.choice(own)
    name = row["logical_port"]
    other = cluster.a_pod()
    match cluster.rng.randrange(6):
        case 0:
            database.drop("Port_Binding", key)
            return f"{zone}: port binding {name} deleted"
        case 1:
            chassis = sorted(database.rows("Chassis"))
            row["chassis"] = ["uuid", cluster.rng.choice(chassis)]
            return f"{zone}: port binding {name} on chassis {row['chassis'][1][:8]}"
        case 2:
            row["chassis"] = a_set([])
            return f"{zone}: port binding {name} on no chassis"
        case 3:
            row["mac"] = " ".join((other.mac, *pod.addresses))
            return f"{zone}: port binding {name} with {row['mac']}"
        case 4:
            row["mac"] = " ".join((pod.mac, *other.addresses))
            row["port_security"] = row["mac"]
            return f"{zone}: port binding {name} with {row['mac']}, port security too"
        case _:
            row["type"] = cluster.rng.choice(("", "remote", "virtual", "external", "localport"))
            return f"{zone}: port binding {name} of type {row['type']!r}"


def sb_mac_binding(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    database = cluster.database(zone, "sb")
    pod, other = cluster.a_pod(), cluster.a_pod()
    bindings = [
        r
        for _, r in sorted(database.rows("Port_Binding").items())
        if _ROUTER_PORT.match(r["logical_port"])
    ]
    if not bindings:
        return sb_port(cluster)
    at = cluster.rng.choice(bindings)
    table = cluster.rng.choice(("MAC_Binding", "Static_MAC_Binding"))
    row = {
        "datapath": at["datapath"],
        "ip": pod.address(cluster.family),
        "logical_port": at["logical_port"],
        "mac": other.mac,
    }
    if table == "Static_MAC_Binding":
        row["override_dynamic_mac"] = True
    database.rows(table)[_uuid(cluster)] = row
    return f"{zone}: {table} {row['ip']} is {other.mac} at {row['logical_port']}"


def sb_datapath(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    database = cluster.database(zone, "sb")
    key, row = cluster.rng.choice(sorted(database.rows("Datapath_Binding").items()))
    name = pairs(row["external_ids"]).get("name", key[:8])
    row["tunnel_key"] = cluster.rng.choice((row["tunnel_key"] + 100, 77))
    return f"{zone}: datapath {name} with tunnel key {row['tunnel_key']}"


def sb_datapath_group(cluster: Cluster) -> str:
    zone = cluster.a_zone()
    database = cluster.database(zone, "sb")
    key, row = cluster.rng.choice(sorted(database.rows("Logical_DP_Group").items()))
    among = members(row["datapaths"])
    if len(among) > 1 and cluster.rng.random() < 0.7:
        gone = cluster.rng.choice(among)
        row["datapaths"] = a_set([d for d in among if d != gone])
        return f"{zone}: datapath group {key[:8]} without {gone[1][:8]}"
    added = cluster.rng.choice(sorted(database.rows("Datapath_Binding")))
    row["datapaths"] = a_set([*[d for d in among if d[1] != added], ["uuid", added]])
    return f"{zone}: datapath group {key[:8]} with {added[:8]}"


# Northbound rows; ovn-northd makes the southbound of them.


def _nb(cluster: Cluster, *, everywhere: float = 0.5) -> list[tuple[str, Database]]:
    """Return the zones to change alike: each has rows of its own for one Kubernetes object."""
    zones = cluster.zones
    if cluster.rng.random() >= everywhere:
        zones = [cluster.a_zone()]
    cluster.recompile.update(zones)
    return [(zone, cluster.database(zone, "nb")) for zone in zones]


def _where(changed: list[tuple[str, Database]]) -> str:
    return ", ".join(zone for zone, _ in changed)


def _same(
    rows: Mapping[str, Any], wanted: Mapping[str, Any], columns: tuple[str, ...]
) -> list[str]:
    return [
        key
        for key, row in sorted(rows.items())
        if all(row.get(c) == wanted.get(c) for c in columns)
    ]


def nb_acl(cluster: Cluster) -> str:
    places = _nb(cluster)
    rows = places[0][1].rows("ACL")
    chosen = dict(rows[cluster.rng.choice(sorted(rows))])
    match = str(chosen["match"])
    change: dict[str, Any] | None
    more = _opposite(cluster, term(cluster))
    side = chosen["direction"]
    match cluster.rng.randrange(6):
        case 0:
            change = None
            what = "deleted"
        case 1:
            change = {"match": f"({match}) && {more}"}
            what = f"only with `{more}`"
        case 2:
            change = {"match": f"({match}) || ({more})"}
            what = f"also with `{more}`"
        case 3:
            change = {
                "action": cluster.rng.choice(
                    ("drop", "reject", "allow", "allow-related", "allow-stateless", "pass")
                )
            }
            what = str(change["action"])
        case 4:
            change = {"priority": cluster.rng.choice((1, 900, 1005, 2000, 29000, 32000))}
            what = f"priority {change['priority']}"
        case _:
            strange = cluster.rng.choice(
                ("reg0[5] == 1", "ip.ttl == 64", "ct.new", "flags.loopback == 0", "tcp.flags == 2")
            )
            change = {"match": f"({match}) && {strange}"}
            what = f"only with `{strange}`"
    for _, database in places:
        same = _same(database.rows("ACL"), chosen, ("match", "priority", "direction", "action"))
        for key in same:
            if change is None:
                database.drop("ACL", key)
            else:
                database.rows("ACL")[key].update(change)
    return (
        f"{_where(places)}: ACL {side} {chosen['priority']} `{str(chosen['match'])[:140]}` "
        f"{chosen['action']}: {what}"
    )


def nb_acl_added(cluster: Cluster) -> str:
    places = _nb(cluster)
    match = term(cluster)
    direction = cluster.rng.choice(("to-lport", "from-lport"))
    action = cluster.rng.choice(("drop", "drop", "reject", "allow-related", "allow"))
    priority = cluster.rng.choice((1, 1001, 1500, 20000, 32000))
    of = cluster.rng.choice(("Port_Group", "Logical_Switch"))
    names = sorted({r["name"] for r in places[0][1].rows(of).values()})
    name = cluster.rng.choice(names)
    for _, database in places:
        for row in database.rows(of).values():
            if row["name"] == name:
                key = _uuid(cluster)
                database.rows("ACL")[key] = {
                    "match": match,
                    "direction": direction,
                    "action": action,
                    "priority": priority,
                    "log": False,
                    "external_ids": a_map({}),
                }
                row["acls"] = a_set([*members(row["acls"]), ["uuid", key]])
    return f"{_where(places)}: new ACL of {name}: {direction} {priority} `{match}` {action}"


def nb_set(cluster: Cluster) -> str:
    ((zone, database),) = _nb(cluster, everywhere=0)
    return f"{zone}: northbound {_set(cluster, database)}"


def nb_group(cluster: Cluster) -> str:
    ((zone, database),) = _nb(cluster, everywhere=0)
    pod = cluster.a_pod()
    ports = {r["name"]: k for k, r in database.rows("Logical_Switch_Port").items()}
    if pod.port not in ports:
        pod = cluster.rng.choice([p for p in cluster.everyone if p.port in ports])
    reference = ["uuid", ports[pod.port]]
    rows = [r for _, r in sorted(database.rows("Port_Group").items())]
    having = [r for r in rows if reference in members(r["ports"])]
    if having and cluster.rng.random() < 0.6:
        row = cluster.rng.choice(having)
        row["ports"] = a_set([p for p in members(row["ports"]) if p != reference])
        return f"{zone}: northbound port group {row['name']} without {pod.port}"
    row = cluster.rng.choice(rows)
    row["ports"] = a_set([*[p for p in members(row["ports"]) if p != reference], reference])
    return f"{zone}: northbound port group {row['name']} with {pod.port}"


def _router(cluster: Cluster, database: Database) -> dict[str, Any]:
    return dict.__getitem__(
        database.rows("Logical_Router"), cluster.rng.choice(sorted(database.rows("Logical_Router")))
    )


def _router_of(database: Database, pod: Pod) -> dict[str, Any]:
    """Return the router between the nodes of a pod's network, of those that it has."""
    rows = database.rows("Logical_Switch_Port").items()
    port = next((["uuid", key] for key, row in rows if row["name"] == pod.port), None)
    switches = database.rows("Logical_Switch").values()
    switch = next((one for one in switches if port in members(one["ports"])), None)
    network = pairs(switch["external_ids"]).get(_NETWORK) if switch else None
    routers = sorted(database.rows("Logical_Router").values(), key=lambda one: str(one["name"]))
    fit = [one for one in routers if pairs(one["external_ids"]).get(_NETWORK) == network]
    return next((one for one in fit if not _gateway(one)), (fit or routers)[0])


def _gateway(router: Mapping[str, Any]) -> bool:
    return "chassis" in pairs(router["options"])


def nb_network(cluster: Cluster) -> str:
    """Have a switch or a router say something else of its network."""
    ((zone, database),) = _nb(cluster, everywhere=0)
    table = cluster.rng.choice(("Logical_Switch", "Logical_Router"))
    rows = database.rows(table)
    keys = [key for key, row in sorted(rows.items()) if _NETWORK in pairs(row["external_ids"])]
    if not keys:
        return nb_route(cluster)
    row = rows[cluster.rng.choice(keys)]
    ids = pairs(row["external_ids"])
    column = cluster.rng.choice(sorted(key for key in ids if key.startswith("k8s.ovn.org/")))
    others = sorted({pairs(r["external_ids"]).get(column, "") for r in rows.values()} - {""})
    if cluster.rng.random() < 0.5:
        del ids[column]
    else:
        ids[column] = cluster.rng.choice([*others, "edited"])
    row["external_ids"] = a_map(ids)
    return f"{zone}: {row['name']}: {column} is {ids.get(column)}"


def nb_joined(cluster: Cluster) -> str:
    """Join two routers by a pair of ports, and send some of one's packets to the other."""
    pod, other = cluster.a_pod(), cluster.a_pod()
    zone = cluster.zone_of(pod)
    cluster.recompile.add(zone)
    database = cluster.database(zone, "nb")
    first, second = _router_of(database, pod), _router_of(database, other)
    if first is second:
        second = _router(cluster, database)
    if first is second:
        return nb_route(cluster)
    version6 = cluster.family is Family.IP6
    hops = ("fd77::1", "fd77::2") if version6 else ("100.77.0.1", "100.77.0.2")
    mark = _uuid(cluster)[:8]
    names = (f"joined-{mark}-1", f"joined-{mark}-2")
    for router, name, peer, hop in zip((first, second), names, reversed(names), hops, strict=True):
        key = _uuid(cluster)
        database.rows("Logical_Router_Port")[key] = {
            "name": name,
            "peer": peer,
            "mac": f"0a:58:64:4d:00:{hop[-1].zfill(2)}",
            "networks": f"{hop}/{'64' if version6 else '24'}",
            "external_ids": a_map({}),
        }
        router["ports"] = a_set([*members(router["ports"]), ["uuid", key]])
    made = {
        "ip_prefix": f"{other.address(cluster.family)}/{_bits(cluster)}",
        "nexthop": hops[1],
        "external_ids": a_map({}),
    }
    new = _uuid(cluster)
    database.rows("Logical_Router_Static_Route")[new] = made
    first["static_routes"] = a_set([*members(first["static_routes"]), ["uuid", new]])
    return f"{zone}: {first['name']} sends {made['ip_prefix']} to {second['name']}"


def nb_route(cluster: Cluster) -> str:
    ((zone, database),) = _nb(cluster, everywhere=0)
    rows = database.rows("Logical_Router_Static_Route")
    key = cluster.rng.choice(sorted(rows))
    row = rows[key]
    before = f"{row['ip_prefix']} via {row['nexthop']}"
    match cluster.rng.randrange(4):
        case 0:
            database.drop("Logical_Router_Static_Route", key)
            return f"{zone}: route {before} deleted"
        case 1:
            others = [
                r["nexthop"]
                for r in rows.values()
                if (":" in r["nexthop"]) == (":" in row["nexthop"])
            ]
            row["nexthop"] = cluster.rng.choice([*others, "100.88.0.99", "discard"])
            return f"{zone}: route {before} now via {row['nexthop']}"
        case _:
            router = _router(cluster, database)
            address = cluster.an_address()
            hop = cluster.rng.choice(
                [r["nexthop"] for r in rows.values() if (":" in r["nexthop"]) == (":" in address)]
                + ["discard"]
            )
            made = {
                "ip_prefix": f"{address}/{_bits(cluster)}",
                "nexthop": hop,
                "external_ids": a_map({}),
            }
            if cluster.rng.random() < 0.3:
                made["policy"] = "src-ip"
            new = _uuid(cluster)
            rows[new] = made
            router["static_routes"] = a_set([*members(router["static_routes"]), ["uuid", new]])
            return (
                f"{zone}: {router['name']} has a stray route {made['ip_prefix']} via {hop}"
                f" {made.get('policy', '')}"
            )


def nb_router_policy(cluster: Cluster) -> str:
    ((zone, database),) = _nb(cluster, everywhere=0)
    rows = database.rows("Logical_Router_Policy")
    if rows and cluster.rng.random() < 0.4:
        key = cluster.rng.choice(sorted(rows))
        row = rows[key]
        told = f"router policy {row['priority']} `{row['match']}`"
        if cluster.rng.random() < 0.5:
            database.drop("Logical_Router_Policy", key)
            return f"{zone}: {told} deleted"
        row["match"] = term(cluster)
        return f"{zone}: {told} now `{row['match']}` {row['action']}"
    routers = [r for r in database.rows("Logical_Router").values() if members(r["ports"])]
    router = cluster.rng.choice(sorted(routers, key=lambda r: str(r["name"])))
    action = cluster.rng.choice(("drop", "drop", "allow", "reroute"))
    match = term(cluster)
    made = {
        "priority": cluster.rng.choice((1, 99, 1500, 32000)),
        "match": match,
        "action": action,
        "external_ids": a_map({}),
    }
    if action == "reroute":
        made["nexthops"] = cluster.an_address()
    new = _uuid(cluster)
    rows[new] = made
    router["policies"] = a_set([*members(router["policies"]), ["uuid", new]])
    return f"{zone}: {router['name']} has a policy {made['priority']} `{match}` {action}"


def nb_detour(cluster: Cluster) -> str:
    """Send what is for a whole network to one of the pods in it."""
    pod = cluster.a_pod()
    zone = cluster.zone_of(pod)
    database = cluster.database(zone, "nb")
    cluster.recompile.add(zone)
    hop = pod.address(cluster.family)
    longest = 32 if cluster.family is Family.IP4 else 128
    size = longest - cluster.rng.choice((7, 8, 16))
    network = ipaddress.ip_network(f"{hop}/{size}", strict=False)
    router = _router_of(database, pod)
    made: dict[str, Any] = {"external_ids": a_map({})}
    if cluster.rng.random() < 0.5:
        match = f"{_ip(cluster)}.dst == {network}"
        made |= {"priority": 1500, "match": match, "action": "reroute", "nexthops": hop}
        table, column = "Logical_Router_Policy", "policies"
    else:
        halves = network.subnets() if cluster.rng.random() < 0.5 else [network]
        network = next(one for one in halves if ipaddress.ip_address(hop) in one)
        made |= {"ip_prefix": str(network), "nexthop": hop}
        table, column = "Logical_Router_Static_Route", "static_routes"
    new = _uuid(cluster)
    database.rows(table)[new] = made
    router[column] = a_set([*members(router[column]), ["uuid", new]])
    return f"{zone}: {router['name']} sends {network} to {pod.port} by its {column}"


def nb_nat(cluster: Cluster) -> str:
    ((zone, database),) = _nb(cluster, everywhere=0)
    rows = database.rows("NAT")
    if rows and cluster.rng.random() < 0.3:
        key = cluster.rng.choice(sorted(rows))
        row = rows[key]
        database.drop("NAT", key)
        return f"{zone}: NAT {row['type']} {row['logical_ip']} to {row['external_ip']} deleted"
    router = _router(cluster, database)
    kind = cluster.rng.choice(("snat", "dnat", "dnat_and_snat"))
    inside, outside = cluster.an_address(), cluster.an_address()
    if kind == "snat" and cluster.rng.random() < 0.5:
        outside = "198.51.100.9" if cluster.family is Family.IP4 else "2001:db8::9"
    made = {
        "type": kind,
        "logical_ip": inside,
        "external_ip": outside,
        "external_ids": a_map({}),
    }
    new = _uuid(cluster)
    rows[new] = made
    router["nat"] = a_set([*members(router["nat"]), ["uuid", new]])
    return f"{zone}: {router['name']} has {kind} of {inside} to {outside}"


def nb_balancer(cluster: Cluster) -> str:
    ((zone, database),) = _nb(cluster, everywhere=0)
    return f"{zone}: northbound {_balancer(cluster, database)}"


def nb_port(cluster: Cluster) -> str:
    pod, other = cluster.a_pod(), cluster.a_pod()
    zone = cluster.zone_of(pod)
    cluster.recompile.add(zone)
    database = cluster.database(zone, "nb")
    rows = database.rows("Logical_Switch_Port")
    ((key, row),) = [(k, r) for k, r in rows.items() if r["name"] == pod.port]
    secured = [] if members(row["port_security"]) == [] else ["port_security"]
    match cluster.rng.randrange(7):
        case 0:
            database.drop("Logical_Switch_Port", key)
            return f"{zone}: port {pod.port} deleted"
        case 1:
            mac = other.mac if other != pod else "0a:58:00:00:00:99"
            for column in ("addresses", *secured):
                row[column] = " ".join((mac, *pod.addresses))
            return f"{zone}: port {pod.port} has MAC {mac}"
        case 2:
            for column in ("addresses", *secured):
                row[column] = " ".join((pod.mac, *other.addresses))
            return f"{zone}: port {pod.port} has the addresses of {other.port}"
        case 3:
            row["addresses"] = "unknown"
            return f"{zone}: port {pod.port} with unknown addresses"
        case 4:
            row["port_security"] = f"{other.mac} {other.address(cluster.family)}"
            return f"{zone}: port {pod.port} secured as {other.port}"
        case 5:
            row["enabled"] = False
            return f"{zone}: port {pod.port} disabled"
        case _:
            switches = database.rows("Logical_Switch")
            reference = ["uuid", key]
            target = cluster.rng.choice(sorted(switches))
            for switch in switches.values():
                switch["ports"] = a_set([p for p in members(switch["ports"]) if p != reference])
            switches[target]["ports"] = a_set([*members(switches[target]["ports"]), reference])
            return f"{zone}: port {pod.port} on switch {switches[target]['name']}"


# Kubernetes objects.


def _object(cluster: Cluster, resource: str, namespace: str, name: str) -> Any:
    return next(
        one
        for one in cluster.objects(resource)
        if one["metadata"].get("namespace", "") == namespace and one["metadata"]["name"] == name
    )


def object_pod(cluster: Cluster) -> str:
    pod, other = cluster.a_pod(), cluster.a_pod()
    item = _object(cluster, "pods", pod.namespace, pod.name)
    match cluster.rng.randrange(4):
        case 0:
            labels = item["metadata"].get("labels", {})
            key = cluster.rng.choice(sorted(labels) or ["app"])
            labels[key] = "edited" if not key.startswith("mutation") else labels[key]
            return f"pod {pod.port}: label {key} is {labels[key]}"
        case 1:
            _place_pod(item, pod, other.addresses)
            return f"pod {pod.port} says it has the addresses of {other.port}"
        case 2:
            free = tuple(_free(address) for address in pod.addresses)
            _place_pod(item, pod, free)
            return f"pod {pod.port} says it has {', '.join(free)}"
        case _:
            nodes = sorted(one["metadata"]["name"] for one in cluster.objects("nodes"))
            item["spec"]["nodeName"] = cluster.rng.choice(nodes)
            return f"pod {pod.port} says it is on {item['spec']['nodeName']}"


def _free(address: str) -> str:
    return re.sub(r"[0-9a-f]+$", "fa" if ":" in address else "250", address)


def _place_pod(item: Any, pod: Pod, after: tuple[str, ...]) -> None:
    """Have a pod say that it has other addresses on one of its networks."""
    if pod.addresses[0] == item["status"]["podIP"]:
        item["status"]["podIPs"] = [{"ip": address} for address in after]
        item["status"]["podIP"] = after[0]
    networks = _networks(item)
    text = json.dumps(networks.get(pod.attachment, {}))
    for old, new in zip(pod.addresses, after, strict=False):
        text = text.replace(f'"{old}/', f'"{new}/')
    _attach(item, networks | {pod.attachment: json.loads(text)})


def _networks(item: Any) -> dict[str, Any]:
    return dict(json.loads(item["metadata"]["annotations"][_ANNOTATION]))


def _attach(item: Any, networks: Mapping[str, Any]) -> None:
    item["metadata"]["annotations"][_ANNOTATION] = json.dumps(networks)


def object_attachment(cluster: Cluster) -> str:
    """Have a pod say something else of one of its networks, also of one it no longer names."""
    pod, other = cluster.a_pod(), cluster.a_pod()
    item = _object(cluster, "pods", pod.namespace, pod.name)
    networks = _networks(item)
    match cluster.rng.randrange(4):
        case 0:
            networks.pop(pod.attachment, None)
            what = "is not there"
        case 1:
            role = cluster.rng.choice(("primary", "secondary", "infrastructure-locked"))
            networks.setdefault(pod.attachment, {})["role"] = role
            what = f"is {role}"
        case 2:
            networks.setdefault(pod.attachment, {})["mac_address"] = other.mac
            what = f"with MAC {other.mac}"
        case _:
            networks[other.attachment] = networks.pop(pod.attachment, {})
            what = f"is {other.attachment}"
    _attach(item, networks)
    return f"pod {pod.namespace}/{pod.name}: network {pod.attachment} {what}"


def object_policy(cluster: Cluster) -> str:
    items = cluster.objects("networkpolicies")
    if not items:  # an edit before this one may have taken the only one
        return object_namespace(cluster)
    item = cluster.rng.choice(items)
    name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
    if cluster.rng.random() < 0.5:
        cluster.keep("networkpolicies", [one for one in items if one is not item])
        return f"NetworkPolicy {name} deleted"
    item["spec"]["podSelector"] = {}
    return f"NetworkPolicy {name} selects every pod"


def object_namespace(cluster: Cluster) -> str:
    item = cluster.rng.choice(cluster.objects("namespaces"))
    labels = item["metadata"].setdefault("labels", {})
    key = cluster.rng.choice(sorted(labels) or ["team"])
    if cluster.rng.random() < 0.5:
        labels[key] = "edited"
    else:
        labels.pop(key, None)
    return f"namespace {item['metadata']['name']}: label {key} is {labels.get(key)}"


def object_service(cluster: Cluster) -> str:
    items = [s for s in cluster.objects("services") if s["spec"].get("ports")]
    item = cluster.rng.choice(items)
    name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
    port = cluster.rng.choice(item["spec"]["ports"])
    port["port"] = int(cluster.a_port().partition("/")[2])
    ports = {json.dumps([p.get("protocol", "TCP"), p["port"]]): p for p in item["spec"]["ports"]}
    item["spec"]["ports"] = list(ports.values())
    return f"service {name}: a port is {port['port']}"


def object_slice(cluster: Cluster) -> str:
    items = [s for s in cluster.objects("endpointslices") if s.get("endpoints")]
    if not items:
        return object_service(cluster)
    item = cluster.rng.choice(items)
    name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
    if cluster.rng.random() < 0.5:
        item["endpoints"].pop(cluster.rng.randrange(len(item["endpoints"])))
        return f"EndpointSlice {name}: an endpoint less"
    version6 = item["addressType"] == "IPv6"
    fit = [a for a in cluster.a_pod().addresses if (":" in a) == version6]
    if fit:
        cluster.rng.choice(item["endpoints"])["addresses"] = fit[:1]
    return f"EndpointSlice {name}: an endpoint is {fit}"


EDITS: Mapping[str, Edit] = {
    "southbound-flow-deleted": flow_deleted,
    "southbound-flow-changed": flow_changed,
    "southbound-flow-narrowed": flow_narrowed,
    "southbound-flow-priority": flow_priority,
    "southbound-flow-doubled": flow_doubled,
    "southbound-flow-stray": flow_stray,
    "southbound-flow-inward": flow_inward,
    "southbound-flow-outward": flow_outward,
    "southbound-set": sb_set,
    "southbound-group": sb_group,
    "southbound-balancer": sb_balancer,
    "southbound-port": sb_port,
    "southbound-mac-binding": sb_mac_binding,
    "southbound-datapath": sb_datapath,
    "southbound-datapath-group": sb_datapath_group,
    "northbound-acl": nb_acl,
    "northbound-acl-added": nb_acl_added,
    "northbound-set": nb_set,
    "northbound-group": nb_group,
    "northbound-route": nb_route,
    "northbound-router-policy": nb_router_policy,
    "northbound-detour": nb_detour,
    "northbound-nat": nb_nat,
    "northbound-balancer": nb_balancer,
    "northbound-port": nb_port,
    "northbound-network": nb_network,
    "northbound-joined": nb_joined,
    "object-pod": object_pod,
    "object-attachment": object_attachment,
    "object-policy": object_policy,
    "object-namespace": object_namespace,
    "object-service": object_service,
    "object-slice": object_slice,
}
