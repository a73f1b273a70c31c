"""What an Open vSwitch's database says at the start: bridges, interfaces, and who the chassis is.

OVSDB operations (RFC 7047, 5.2), as `ovs-vsctl` would make them. Interfaces are numbered: what a
cluster calls its ports and networks says nothing of them, and is longer than a name may be.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audit.model.datapath import Chassis, Vif

BRIDGE = "br-int"

Json = dict[str, Any]

_AT_A_TIME = 100
"""Interfaces that one transaction adds: programs take one as an argument, which Linux bounds at
128 KiB (execve(2)), and an interface is some 600 bytes."""


def transactions(chassis: Chassis, southbound: Path, rundir: Path) -> Iterator[Sequence[Json]]:
    """Yield the transactions that fill an empty switch database.

    Every bridge to a physical network has an interface that stands for the network.
    """
    outside = sorted({bridge for _, bridge in chassis.bridges} - {BRIDGE})
    bridges = (BRIDGE, *outside)
    names = (name for n in itertools.count() if (name := f"if{n}") not in bridges)
    yield _switch(chassis, southbound, bridges)
    members = [(BRIDGE, _vif(vif, next(names), rundir)) for vif in chassis.vifs]
    members += [(bridge, _captured(next(names), {}, rundir)) for bridge in outside]
    for start in range(0, len(members), _AT_A_TIME):
        some = members[start : start + _AT_A_TIME]
        yield [operation for bridge, member in some for operation in _added(bridge, member)]


def _switch(chassis: Chassis, southbound: Path, bridges: Sequence[str]) -> list[Json]:
    """Return the operations that make the switch with its bridges."""
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
    root: Json = {
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
    return [*(operation for n, name in enumerate(bridges) for operation in _bridge(name, n)), root]


def _bridge(name: str, number: int) -> list[Json]:
    """Return the operations that insert a bridge with its own port."""
    row: Json = {"name": name, "datapath_type": "system"}
    row["ports"] = ["named-uuid", f"port{number}"]
    if name == BRIDGE:
        row["fail_mode"] = "secure"
    member = _Member(name, {}, {})
    return [*_port(member, str(number), kind="internal"), _insert("Bridge", f"bridge{number}", row)]


class _Member(NamedTuple):
    """An interface of a bridge."""

    name: str
    ids: Mapping[str, str]
    options: Mapping[str, str]


def _vif(vif: Vif, name: str, rundir: Path) -> _Member:
    """Return the interface of a logical port: by its `iface-id` ovn-controller binds it."""
    ids = {"iface-id": vif.port} | ({"iface-id-ver": vif.version} if vif.version else {})
    return _captured(name, ids, rundir)


def _captured(name: str, ids: Mapping[str, str], rundir: Path) -> _Member:
    """Return an interface; what leaves by it is written to a file."""
    return _Member(name, ids, {"tx_pcap": str(rundir / f"{name}.pcap")})


def _added(bridge: str, member: _Member) -> list[Json]:
    """Return the operations that add an interface to a bridge."""
    mutation = ["ports", "insert", _set([["named-uuid", f"port_{member.name}"]])]
    return [
        *_port(member, f"_{member.name}", kind="system"),
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", bridge]],
            "mutations": [mutation],
        },
    ]


def _port(member: _Member, mark: str, *, kind: str) -> list[Json]:
    """Return the operations that insert an interface and its port, `port<mark>`."""
    row: Json = {"name": member.name, "type": kind, "external_ids": _pairs(member.ids)}
    row["options"] = _pairs(member.options)
    port: Json = {"name": member.name, "interfaces": ["named-uuid", f"interface{mark}"]}
    return [
        _insert("Interface", f"interface{mark}", row),
        _insert("Port", f"port{mark}", port),
    ]


def _insert(table: str, name: str, row: Json) -> Json:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _set(values: Any) -> list[Any]:  # noqa: ANN401 - an OVSDB <set> as JSON
    return ["set", list(values)]


def _pairs(values: Mapping[str, str]) -> list[Any]:
    return ["map", [list(pair) for pair in values.items()]]
