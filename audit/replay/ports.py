"""What a switch's own database says of its ports: a replay's, or a node's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit.model.datapath import Ofport, Switch, Wire
from audit.replay.configuration import BRIDGE, Json

QUERY: Sequence[Json] = (
    {
        "op": "select",
        "table": "Interface",
        "where": [],
        "columns": ["name", "ofport", "external_ids", "options", "type"],
    },
    {"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "name", "external_ids"]},
    {"op": "select", "table": "Bridge", "where": [], "columns": ["name", "ports"]},
)
"""The operations (RFC 7047, 5.2) whose results `with_ports` reads; they change nothing."""


def with_ports(switch: Switch, results: Sequence[Json]) -> Switch:
    """Return `switch` with the ports that the results of `QUERY` tell of.

    ValueError, TypeError, LookupError or AttributeError when they are results of something else.
    """
    rows, port_rows, bridge_rows = (result["rows"] for result in results)
    bridge_of = _bridges(bridge_rows)
    if BRIDGE not in bridge_of.values():
        raise LookupError(f"no bridge {BRIDGE}")
    ports = {row["name"]: row for row in port_rows}
    vifs, localnets, tunnels, encaps, captures = {}, {}, {}, {}, {}
    for row in _numbered(rows, ports, bridge_of):
        name, ids, options = row["name"], _map(row["external_ids"]), _map(row["options"])
        made_for, number = _map(ports[name]["external_ids"]), Ofport(name, row["ofport"])
        if "iface-id" in ids:
            vifs[ids["iface-id"]] = number
            if "tx_pcap" in options:
                captures[ids["iface-id"]] = Path(options["tx_pcap"])
        elif "ovn-chassis-id" in made_for:
            # The chassis' name, then the addresses of both ends (encaps.c).
            other = made_for["ovn-chassis-id"].partition("@")[0]
            tunnels[other] = number
            encaps[other] = options.get("remote_ip", "")
        elif "ovn-localnet-port" in made_for:
            localnets[made_for["ovn-localnet-port"]] = number
    return replace(
        switch,
        vifs=vifs,
        localnets=localnets,
        tunnels=tunnels,
        encaps=encaps,
        captures=captures,
        wires=_wires(rows, ports, bridge_of),
    )


def _bridges(rows: Sequence[Json]) -> dict[str, str]:
    """Map the uuid of each port to the name of its bridge."""
    return {uuid: row["name"] for row in rows for uuid in _uuids(row["ports"])}


def _numbered(
    rows: Sequence[Json], ports: Mapping[str, Json], bridge_of: Mapping[str, str]
) -> Iterator[Json]:
    """Yield the interfaces of `br-int` that have an OpenFlow port number."""
    for row in rows:
        on_bridge = bridge_of.get(_uuid(ports, row["name"])) == BRIDGE
        if on_bridge and isinstance(row["ofport"], int) and row["ofport"] >= 0:
            yield row


def _wires(
    rows: Sequence[Json], ports: Mapping[str, Json], bridge_of: Mapping[str, str]
) -> dict[str, Wire]:
    """Map the logical ports of physical networks to what stands for the network, in a replay.

    ovn-controller joins the bridge of each to `br-int` by a pair of ports, both marked with it.
    """
    wires = {}
    for row in rows:
        options = _map(row["options"])
        bridge = bridge_of.get(_uuid(ports, row["name"]), BRIDGE)
        if bridge != BRIDGE and "tx_pcap" in options:
            wires[bridge] = Wire(row["name"], Path(options["tx_pcap"]))
    marked = {
        made_for["ovn-localnet-port"]: bridge_of.get(row["_uuid"][1], BRIDGE)
        for row in ports.values()
        if "ovn-localnet-port" in (made_for := _map(row["external_ids"]))
        and bridge_of.get(row["_uuid"][1], BRIDGE) != BRIDGE
    }
    return {port: wires[bridge] for port, bridge in marked.items() if bridge in wires}


def _uuid(ports: Mapping[str, Json], name: str) -> str:
    """Return the uuid of the port that an interface is alone in, and named as; else nothing."""
    return str(ports[name]["_uuid"][1]) if name in ports else ""


def _map(value: Any) -> dict[str, str]:  # noqa: ANN401 - an OVSDB <map> as JSON
    return dict(value[1])


def _uuids(value: Any) -> list[str]:  # noqa: ANN401 - an OVSDB <set> of uuids as JSON
    return [value[1]] if value[0] == "uuid" else [uuid for _, uuid in value[1]]
