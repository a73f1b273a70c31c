"""A zone's southbound database, as far as packets meet it. Pure: rows come from `Tables`.

Flows of a datapath group are each datapath's. What OVN ignores is left out here too: a flow that
names an address set or a port group that is not there, or compares a field with a wider address.
"""

import contextlib
import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit.flows.constants import Pattern, constant
from audit.model.engine import Tables

INGRESS, EGRESS = 0, 1
PIPELINES = {"ingress": INGRESS, "egress": EGRESS}


class Flow(NamedTuple):
    """A row of `Logical_Flow`."""

    uuid: str
    pipeline: int
    table: int
    stage: str
    priority: int
    match: str
    actions: str


class Sender(NamedTuple):
    """What a port's security lets it send as, or be sent as: a MAC, and addresses if any."""

    mac: int
    ip4: tuple[int, ...]
    ip6: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Port:
    """A row of `Port_Binding`; `number` counts them, `peer` and `distributed` are of others."""

    number: int
    name: str
    kind: str
    datapath: int
    key: int
    security: tuple[Sender, ...]
    peer: "Port | None" = None
    distributed: "Port | None" = None


@dataclass(slots=True, kw_only=True)
class Group:
    """A row of `Multicast_Group`: its ports in the order of their names."""

    name: str
    key: int
    ports: tuple[Port, ...]


@dataclass(slots=True, kw_only=True)
class Datapath:
    """A switch or a router: its flows by pipeline and table, and what its actions look up."""

    number: int
    name: str
    key: int
    flows: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    """Numbers of its flows."""
    ports: dict[int, Port] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    macs: dict[tuple[int, int], int] = field(default_factory=dict)
    """MACs of neighbours by port key and address, IPv4's mapped into IPv6."""
    learnt: dict[int, int] = field(default_factory=dict)
    """Port keys by MAC."""
    is_gateway: bool = False
    """It has a port of type `l3gateway`."""

    def port_key(self, ports: Mapping[str, Port], name: str) -> int | None:
        """Return the number that a name stands for here, as `ovn-trace` does; None where none."""
        if name in ("", "none"):
            return 0
        port = ports.get(name)
        if port is not None:
            return port.key if port.datapath == self.number else None
        keys = [group.key for group in self.groups.values() if group.name == name]
        return keys[0] if keys else None


@dataclass(slots=True, kw_only=True)
class Southbound:
    """One zone's."""

    flows: list[Flow]
    datapaths: list[Datapath]
    ports: dict[str, Port]
    by_number: list[Port]
    sets: dict[str, tuple[Pattern, ...]]
    """Address sets; where a mask is -1, the whole address is compared."""
    widest: dict[str, int]
    """How many bits the widest address of a set takes."""
    port_groups: dict[str, tuple[str, ...]]
    vips: dict[int, tuple[int, ...]]
    """Ports of load balancers by address, IPv4's mapped into IPv6."""
    templates: dict[str, tuple[int, ...]]
    """What chassis have for a template variable, as far as it is an address or a number."""


MAPPED = 0xFFFF << 32
"""What an IPv4 address begins with as an IPv6 address (RFC 4291, 2.5.5.2)."""


def read(tables: Tables) -> Southbound:
    """Read all that packets can meet."""
    numbers: dict[str, int] = {}
    datapaths: list[Datapath] = []
    rows = tables.rows("Datapath_Binding", ("_uuid", "tunnel_key", "external_ids"))
    for row in sorted(rows, key=lambda row: int(row["tunnel_key"])):
        numbers[row["_uuid"]] = len(datapaths)
        name = row["external_ids"].get("name", row["_uuid"])
        datapaths.append(Datapath(number=len(datapaths), name=name, key=row["tunnel_key"]))
    ports, uuids = _ports(tables, numbers, datapaths)
    for row in tables.rows("Multicast_Group", ("name", "tunnel_key", "datapath", "ports")):
        number = numbers.get(str(row["datapath"]))
        if number is None:
            continue
        members = [uuids[u] for u in _many(row["ports"]) if u in uuids]
        members = [port for port in members if port.datapath == number]
        datapaths[number].groups[row["tunnel_key"]] = Group(
            name=row["name"],
            key=row["tunnel_key"],
            ports=tuple(sorted(members, key=lambda port: port.name.encode())),
        )
    _neighbours(tables, ports, datapaths)
    sets, widest = _address_sets(tables)
    groups = tables.rows("Port_Group", ("name", "ports"))
    return Southbound(
        flows=_flows(tables, numbers, datapaths),
        datapaths=datapaths,
        ports=ports,
        by_number=list(ports.values()),
        sets=sets,
        widest=widest,
        port_groups={row["name"]: tuple(sorted(_many(row["ports"]))) for row in groups},
        vips=_vips(tables),
        templates=_templates(tables),
    )


def _flows(tables: Tables, numbers: Mapping[str, int], datapaths: Sequence[Datapath]) -> list[Flow]:
    groups = {
        row["_uuid"]: _many(row["datapaths"])
        for row in tables.rows("Logical_DP_Group", ("_uuid", "datapaths"))
    }
    columns = ("logical_datapath", "logical_dp_group", "pipeline", "table_id", "priority")
    flows: list[Flow] = []
    for row in tables.rows("Logical_Flow", ("_uuid", "external_ids", "match", "actions", *columns)):
        uuids = [*_many(row["logical_datapath"])]
        for group in _many(row.get("logical_dp_group", ())):
            uuids += groups.get(group, ())
        flow = Flow(
            uuid=row["_uuid"],
            pipeline=PIPELINES[row["pipeline"]],
            table=row["table_id"],
            stage=row["external_ids"].get("stage-name", ""),
            priority=row["priority"],
            match=row["match"],
            actions=row["actions"],
        )
        for uuid in dict.fromkeys(uuids):
            if uuid in numbers:
                datapath = datapaths[numbers[uuid]]
                datapath.flows[flow.pipeline, flow.table].append(len(flows))
        flows.append(flow)
    return flows


def _ports(
    tables: Tables, numbers: Mapping[str, int], datapaths: Sequence[Datapath]
) -> tuple[dict[str, Port], dict[str, Port]]:
    """Return ports by name and by uuid, and let datapaths have theirs."""
    columns = ("_uuid", "logical_port", "type", "datapath", "tunnel_key", "options")
    rows = tables.rows("Port_Binding", (*columns, "port_security"))
    ports: dict[str, Port] = {}
    uuids: dict[str, Port] = {}
    for row in sorted(rows, key=lambda row: str(row["logical_port"])):
        number = numbers.get(str(row["datapath"]))
        if number is None or row["logical_port"] in ports:
            continue
        datapath = datapaths[number]
        port = Port(
            number=len(ports),
            name=row["logical_port"],
            kind=row["type"],
            datapath=datapath.number,
            key=row["tunnel_key"],
            security=tuple(filter(None, map(_sender, _many(row["port_security"])))),
        )
        ports[port.name] = uuids[row["_uuid"]] = datapath.ports[port.key] = port
        datapath.is_gateway |= port.kind == "l3gateway"
    for row in rows:
        if row["_uuid"] not in uuids:
            continue
        port, options = uuids[row["_uuid"]], row["options"]
        if port.kind in ("patch", "l3gateway") and (peer := ports.get(options.get("peer", ""))):
            port.peer, peer.peer = peer, port
        if port.kind == "chassisredirect":
            distributed = ports.get(options.get("distributed-port", ""))
            if distributed is not None and distributed.datapath == port.datapath:
                port.distributed = distributed
    return ports, uuids


_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


def _sender(text: str) -> Sender | None:
    """Read a member of `port_security`: a MAC and addresses (ovn-nb(5))."""
    words = text.split()
    if not words or not _MAC.fullmatch(words[0]):
        return None
    addresses: dict[int, list[int]] = {4: [], 6: []}
    for word in words[1:]:
        try:
            address = ipaddress.ip_interface(word)
        except ValueError:
            break  # OVN reads no further either
        addresses[address.version].append(int(address.ip))
    return Sender(mac_of(words[0]), tuple(addresses[4]), tuple(addresses[6]))


def mac_of(text: str) -> int:
    """Return a MAC as a number."""
    return int(text.replace(":", ""), 16)


def mapped(address: str) -> int:
    """Return an address as a number, IPv4's mapped into IPv6; ValueError where it is none."""
    parsed = ipaddress.ip_address(address)
    return int(parsed) | (MAPPED if isinstance(parsed, ipaddress.IPv4Address) else 0)


def _neighbours(tables: Tables, ports: Mapping[str, Port], datapaths: Sequence[Datapath]) -> None:
    for row in tables.rows("MAC_Binding", ("logical_port", "ip", "mac")):
        port = ports.get(row["logical_port"])
        if port is None or not _MAC.fullmatch(row["mac"]):
            continue
        with contextlib.suppress(ValueError):  # what is no address is nobody's
            datapaths[port.datapath].macs[port.key, mapped(row["ip"])] = mac_of(row["mac"])
    by_key = {datapath.key: datapath for datapath in datapaths}
    for row in tables.rows("FDB", ("mac", "dp_key", "port_key")):
        if row["dp_key"] in by_key and _MAC.fullmatch(row["mac"]):
            by_key[row["dp_key"]].learnt[mac_of(row["mac"])] = row["port_key"]


def _address_sets(
    tables: Tables,
) -> tuple[dict[str, tuple[Pattern, ...]], dict[str, int]]:
    sets: dict[str, tuple[Pattern, ...]] = {}
    widest: dict[str, int] = {}
    for row in tables.rows("Address_Set", ("name", "addresses")):
        read = [c for a in sorted(_many(row["addresses"])) if (c := constant(a)) is not None]
        sets[row["name"]] = tuple((v, -1 if mask is None else mask) for v, mask, _ in read)
        widest[row["name"]] = max((bits for _, _, bits in read), default=0)
    return sets, widest


def _vips(tables: Tables) -> dict[int, tuple[int, ...]]:
    ports: dict[int, set[int]] = defaultdict(set)
    for row in tables.rows("Load_Balancer", ("vips",)):
        for vip in row["vips"]:
            address, _, port = vip.rpartition(":") if _has_port(vip) else (vip, "", "0")
            try:
                ports[mapped(address.strip("[]"))].add(int(port))
            except ValueError:
                continue  # a variable of each chassis
    return {address: tuple(sorted(of)) for address, of in ports.items()}


def _templates(tables: Tables) -> dict[str, tuple[int, ...]]:
    values: dict[str, set[int]] = defaultdict(set)
    for row in tables.rows("Chassis_Template_Var", ("variables",)):
        for name, text in row["variables"].items():
            if (read := constant(text)) is not None:
                values[name].add(read[0])
    return {name: tuple(sorted(of)) for name, of in values.items()}


def _has_port(vip: str) -> bool:
    return vip.startswith("[") or vip.count(":") == 1


def _many(value: Any) -> Iterable[str]:  # noqa: ANN401 - an OVSDB set: its only member, or a list
    return value if isinstance(value, (list, tuple)) else (value,)
