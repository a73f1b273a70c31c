"""What an Open vSwitch's database says at the start: bridges, interfaces, and who the chassis is.

OVSDB operations (RFC 7047, 5.2), as `ovs-vsctl` would make them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audit.model.datapath import Chassis, Vif

BRIDGE = "br-int"
MANAGEMENT_PORT = "k8s-"
"""OVN-Kubernetes names a node's management port `k8s-<node>`, its interface `ovn-k8s-mp0`."""

Json = dict[str, Any]


def interface_of(port: str) -> str:
    """Return the name of the interface made for a logical port, as long as one may be."""
    if port.startswith(MANAGEMENT_PORT):
        return "ovn-k8s-mp0"
    return hashlib.blake2b(port.encode(), digest_size=7).hexdigest()


def configuration(chassis: Chassis, southbound: Path, rundir: Path) -> Iterator[Json]:
    """Yield the operations that fill an empty switch database."""
    ids = {
        "system-id": chassis.name,
        "hostname": chassis.node,
        "ovn-remote": f"unix:{southbound}",
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": chassis.address,
        "ovn-monitor-all": "true",
        "ovn-is-interconn": "true" if chassis.interconnect else "false",
        "ovn-bridge-mappings": ",".join(":".join(pair) for pair in chassis.bridges),
    }
    bridges = [_bridge(BRIDGE, 0, [_vif(vif, rundir) for vif in chassis.vifs])]
    outside = sorted({bridge for _, bridge in chassis.bridges})
    bridges += [
        _bridge(name, number, [_Member(f"eth-{name}"[:15], {}, {})])
        for number, name in enumerate(outside, 1)
    ]
    for operations in bridges:
        yield from operations
    yield {
        "op": "insert",
        "table": "Open_vSwitch",
        "row": {
            "bridges": _set(["named-uuid", f"bridge{n}"] for n in range(len(bridges))),
            "external_ids": _pairs(ids),
            "next_cfg": 1,
            # One of each: the default is a thread per CPU, for every node.
            "other_config": _pairs({"n-handler-threads": "1", "n-revalidator-threads": "1"}),
        },
    }


class _Member(NamedTuple):
    """An interface of a bridge."""

    name: str
    ids: Mapping[str, str]
    options: Mapping[str, str]


def _vif(vif: Vif, rundir: Path) -> _Member:
    """Return the interface of a logical port: what makes ovn-controller bind it, and a capture."""
    ids = {"iface-id": vif.port} | ({"iface-id-ver": vif.version} if vif.version else {})
    name = interface_of(vif.port)
    return _Member(name, ids, {"tx_pcap": str(rundir / f"{name}.pcap")})


def _bridge(name: str, number: int, members: Sequence[_Member]) -> list[Json]:
    """Return the operations that insert a bridge with its own port and its members."""
    operations: list[Json] = []
    ports = []
    for place, (interface, ids, options) in enumerate([_Member(name, {}, {}), *members]):
        mark = f"{number}x{place}"
        kind = "internal" if place == 0 else "system"
        row: Json = {"name": interface, "type": kind, "external_ids": _pairs(ids)}
        row["options"] = _pairs(options)
        operations.append(_insert("Interface", f"interface{mark}", row))
        row = {"name": interface, "interfaces": ["named-uuid", f"interface{mark}"]}
        operations.append(_insert("Port", f"port{mark}", row))
        ports.append(["named-uuid", f"port{mark}"])
    bridge = {"name": name, "ports": _set(ports), "datapath_type": "system"}
    if name == BRIDGE:
        bridge["fail_mode"] = "secure"
    return [*operations, _insert("Bridge", f"bridge{number}", bridge)]


def _insert(table: str, name: str, row: Json) -> Json:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _set(values: Any) -> list[Any]:  # noqa: ANN401 - an OVSDB <set> as JSON
    return ["set", list(values)]


def _pairs(values: Mapping[str, str]) -> list[Any]:
    return ["map", [list(pair) for pair in values.items()]]
