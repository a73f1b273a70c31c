"""What a switch's own database says of its ports: a replay's, or a node's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit.model.datapath import Ofport, Switch
from audit.replay.configuration import BRIDGE, Json

QUERY: Sequence[Json] = (
    {
        "op": "select",
        "table": "Interface",
        "where": [],
        "columns": ["name", "ofport", "external_ids", "options", "type"],
    },
    {"op": "select", "table": "Port", "where": [], "columns": ["name", "external_ids"]},
)
"""The operations (RFC 7047, 5.2) whose results `with_ports` reads; they change nothing."""


def with_ports(switch: Switch, results: Sequence[Json]) -> Switch:
    """Return `switch` with the ports that the results of `QUERY` tell of.

    ValueError, TypeError, LookupError or AttributeError when they are results of something else.
    """
    rows, port_rows = (result["rows"] for result in results)
    made_for = {row["name"]: _map(row["external_ids"]) for row in port_rows}
    vifs, localnets, tunnels, encaps, captures = {}, {}, {}, {}, {}
    for row in rows:
        if not isinstance(row["ofport"], int) or row["ofport"] < 0:
            continue
        name, ids, options = row["name"], _map(row["external_ids"]), _map(row["options"])
        port, number = made_for.get(name, {}), Ofport(row["name"], row["ofport"])
        if "iface-id" in ids:
            vifs[ids["iface-id"]] = number
            if "tx_pcap" in options:
                captures[ids["iface-id"]] = Path(options["tx_pcap"])
        elif "ovn-chassis-id" in port:
            # The chassis' name, then the addresses of both ends (encaps.c).
            other = port["ovn-chassis-id"].partition("@")[0]
            tunnels[other] = number
            encaps[other] = options.get("remote_ip", "")
        elif "ovn-localnet-port" in port and name.startswith(f"patch-{BRIDGE}-to-"):
            localnets[port["ovn-localnet-port"]] = number
    return replace(
        switch,
        vifs=vifs,
        localnets=localnets,
        tunnels=tunnels,
        encaps=encaps,
        captures=captures,
    )


def _map(value: Any) -> dict[str, str]:  # noqa: ANN401 - an OVSDB <map> as JSON
    return dict(value[1])
