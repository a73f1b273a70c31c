"""A southbound database → the chassis of its zone, and what numbers in its OpenFlow stand for."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from audit.facts.rows import PREFIX, as_tuple
from audit.model.datapath import Chassis, Pipelines, Vif
from audit.model.engine import DatabaseReader

_SCHEMA = "OVN_Southbound"


def read_chassis(reader: DatabaseReader, zone: str, southbound: Path) -> tuple[Chassis, ...]:
    """Return the chassis of `zone`, by node; other zones' (`is-remote`) are left out.

    DatabaseError when the staged database cannot be read.
    """
    tables = reader.tables(southbound, _SCHEMA)
    addresses = {row["_uuid"]: row["ip"] for row in tables.rows("Encap", ("_uuid", "ip"))}
    vifs: dict[str, list[Vif]] = defaultdict(list)
    for row in tables.rows("Port_Binding", ("logical_port", "type", "chassis", "options")):
        for chassis in as_tuple(row["chassis"]) if row["type"] == "" else ():
            version = row["options"].get("iface-id-ver", "")
            vifs[chassis].append(Vif(port=row["logical_port"], version=version))
    columns = ("_uuid", "name", "hostname", "encaps", "other_config", "external_ids")
    rows = tables.rows("Chassis", columns)
    listed = (_chassis(row, zone, addresses, vifs[row["_uuid"]]) for row in rows)
    return tuple(sorted((c for c in listed if c is not None), key=lambda c: (c.node, c.name)))


def _chassis(
    row: Mapping[str, Any], zone: str, addresses: Mapping[str, str], vifs: Sequence[Vif]
) -> Chassis | None:
    # Up to OVN 20.12 what is in other_config was in external_ids.
    config = {**row.get("external_ids", {}), **row.get("other_config", {})}
    if config.get("is-remote") == "true":
        return None
    mappings = (pair.partition(":") for pair in config.get("ovn-bridge-mappings", "").split(","))
    return Chassis(
        name=row["name"],
        node=row["hostname"],
        zone=zone,
        address=min((addresses[uuid] for uuid in as_tuple(row["encaps"])), default=""),
        vifs=tuple(sorted(vifs, key=lambda vif: vif.port)),
        bridges=tuple((network, bridge) for network, _, bridge in mappings if bridge),
        interconnect=config.get("is-interconn") == "true",
    )


def read_pipelines(reader: DatabaseReader, southbound: Path) -> Pipelines:
    """Return what cookies and metadata mean in the OpenFlow of a zone's chassis.

    DatabaseError when the staged database cannot be read.
    """
    tables = reader.tables(southbound, _SCHEMA)
    stages: dict[int, tuple[str, ...]] = {}
    alone: dict[str, tuple[str, ...]] = {}  # one tuple per stage, however many flows it has
    for row in tables.rows("Logical_Flow", ("_uuid", "external_ids")):
        name = row["external_ids"].get("stage-name", "")
        cookie = int(row["_uuid"][:PREFIX], 16)
        stage = alone.setdefault(name, (name,))
        names = stages.setdefault(cookie, stage)
        if name not in names:
            stages[cookie] = (*names, name)
    datapaths = tables.rows("Datapath_Binding", ("tunnel_key", "external_ids"))
    return Pipelines(
        stages=MappingProxyType(stages),
        datapaths=MappingProxyType(
            {row["tunnel_key"]: row["external_ids"].get("name", "") for row in datapaths}
        ),
    )
