"""What packets meet in a zone besides ACLs' rows: its southbound's logical flows. Pure.

`ovn-trace` and every node work from the southbound alone, so what the southbound holds decides,
whatever feature of the northbound it came from, and also where it came from none. Beside the flows
stand the rows that actions look up (port security, known neighbours, learned MACs): they are
written as flows of a stage that is called after their table.

Most flows of a large zone translate Services' addresses. A packet between endpoints, whose
destination is none of those, meets none of them, so they are not kept: of what packets to a Service
meet on a switch there is a digest.
"""

import functools
import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from audit.facts.rows import by_prefix
from audit.model.engine import Tables
from audit.model.facts import FlowHint, LoadBalancer, LogicalFlow

Row = Mapping[str, Any]

ACL_STAGES = (
    *("ls_in_acl", "ls_in_acl_after_lb", "ls_out_acl"),
    *("ls_in_acl_eval", "ls_in_acl_after_lb_eval", "ls_out_acl_eval"),
)
"""Stages whose logical flows are made from ACLs, up to OVN 23.03 and from 23.06 on."""

_LOOKED_UP = {
    "Port_Binding": ("logical_port", "type", "mac", "port_security"),
    "MAC_Binding": ("logical_port", "ip", "mac"),
    "Static_MAC_Binding": ("logical_port", "ip", "mac"),
    "FDB": ("mac", "port_key"),
}
"""Columns of the tables that logical flows' actions look packets up in (ovn-sb(5): get_arp,
lookup_fdb, check_in_port_sec, …)."""

_CONJUNCTION = re.compile(rb'"match":"([^"|(\\]*)"')
"""The match of a row where it is a plain conjunction; `||` and `!(` may ask for less."""
_ONE_ADDRESS = re.compile(rb"(?:ip[46]\.dst|x*reg[0-9]) == ([0-9a-f.:]+)(?= |$)")
_NAME = re.compile(rb'"name":"([^"\\]*)"')
_ON_SWITCH = re.compile(rb'"stage-name","ls_in_')
_TEXT = rb'"((?:[^"\\]|\\.)*)"'
_SAYS = (
    re.compile(rb'"stage-name",' + _TEXT),
    re.compile(rb'"priority":([0-9]+)'),
    re.compile(rb'"match":' + _TEXT),
    re.compile(rb'"actions":' + _TEXT),
)
"""What a logical flow is, whatever its uuids: the texts of columns."""
_OF_DATAPATHS = re.compile(rb'"logical_(?:dp_group|datapath)":\["uuid","([0-9a-f-]{36})"\]')
"""The datapath or the group of datapaths that a row is of."""
_GROUP_OF_DATAPATH = re.compile(r"\d+_")
"""What northd puts before a port group's name: its switch's tunnel key (northd.c)."""


class ServiceSieve:
    """Says of a `Logical_Flow`'s text that no packet between endpoints meets it.

    Of those that packets to Services meet on switches it keeps a digest: by what the row is of, a
    datapath or a group of them, and by the Service's address. Alike digests are alike flows, in
    every zone.
    """

    def __init__(self, balancers: Iterable[LoadBalancer], addresses: Collection[str]) -> None:
        """`addresses` are those that endpoints or routers have: a NodePort is at a node's."""
        vips = {address for balancer in balancers for address, _, _ in balancer.vips}
        self._vips = {address.encode(): address for address in vips - set(addresses)}
        self.digests: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def __call__(self, text: bytes) -> bool:
        """Say whether only packets to Services meet this row, and take note of it then."""
        match = _CONJUNCTION.search(text)
        # An ACL's flow is kept in any case: a packet to a Service may be denied by it.
        if match is None or b"_acl" in text:
            return False
        named = self._vips.keys() & _ONE_ADDRESS.findall(match[1])
        if named:
            self._note(text, named)
        return bool(named)

    def _note(self, text: bytes, named: Iterable[bytes]) -> None:
        if _ON_SWITCH.search(text) is None:
            return
        says = b"\0".join(field[1] if (field := at.search(text)) else b"" for at in _SAYS)
        digest = int.from_bytes(hashlib.blake2b(says, digest_size=16).digest())
        for of in _OF_DATAPATHS.findall(text):
            for address in named:
                # A sum, as rows come in any order, and the same one may come twice.
                self.digests[of.decode()][self._vips[address]] += digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What packets can meet: flows by datapath.

    `to_services` are digests of what is not kept, as `Zone.service_flows` has them, and `hints` are
    `Zone.flow_hints`.
    """

    flows: Mapping[str, Sequence[LogicalFlow]]
    hints: Mapping[str, tuple[FlowHint, ...]]
    to_services: Mapping[str, tuple[Mapping[str, int], ...]]


def logical_flows(tables: Tables, services: ServiceSieve) -> Met:
    """Return what packets can meet."""
    names = {
        row["_uuid"]: row["external_ids"].get("name", "")
        for row in tables.rows("Datapath_Binding", ("_uuid", "external_ids"))
    }
    groups = {
        row["_uuid"]: _uuids(row["datapaths"])
        for row in tables.rows("Logical_DP_Group", ("_uuid", "datapaths"))
    }
    columns = ("logical_datapath", "logical_dp_group", "priority", "match", "actions")
    by_datapath: dict[str, list[LogicalFlow]] = defaultdict(list)
    hints: list[tuple[str, FlowHint]] = []
    for row in tables.each("Logical_Flow", ("_uuid", "external_ids", *columns), services):
        flow = LogicalFlow(
            stage=row["external_ids"].get("stage-name", ""),
            priority=row["priority"],
            match=sys.intern(row["match"]),
            actions=sys.intern(row["actions"]),
        )
        if flow.stage in ACL_STAGES and "stage-hint" in row["external_ids"]:
            acl = row["external_ids"]["stage-hint"]
            hint = FlowHint(uuid=row["_uuid"], stage=flow.stage, hint=acl, match=flow.match)
            hints.append((hint.uuid, hint))
        uuids = [*_uuids(row.get("logical_datapath", ()))]
        for group in _uuids(row.get("logical_dp_group", ())):
            uuids += groups.get(group, ())
        for uuid in dict.fromkeys(uuids):
            by_datapath[names.get(uuid, "")].append(flow)
    for table, looked_up in _LOOKED_UP.items():
        for row in tables.rows(table, ("datapath", "dp_key", *looked_up)):
            by_datapath[names.get(str(row.get("datapath", "")), "")].append(
                LogicalFlow(stage=table, priority=0, match=_listed(row, looked_up), actions="")
            )
    kept = {name: tuple(sorted(flows)) for name, flows in sorted(by_datapath.items())}
    to_services: dict[str, list[Mapping[str, int]]] = defaultdict(list)
    for of, digests in services.digests.items():
        for uuid in groups.get(of, (of,)):
            to_services[names.get(uuid, "")].append(digests)
    return Met(
        flows=MappingProxyType(kept),
        hints=MappingProxyType(by_prefix(hints)),
        to_services=MappingProxyType({name: tuple(some) for name, some in to_services.items()}),
    )


def installed_sets(tables: Tables, used: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the southbound's address sets of these names."""
    wanted = {name.encode() for name in used}

    def unused(text: bytes) -> bool:
        name = _NAME.search(text)
        return name is not None and name[1] not in wanted

    rows = tables.each("Address_Set", ("name", "addresses"), unused)
    return MappingProxyType(
        {row["name"]: _shared(tuple(sorted(_uuids(row["addresses"])))) for row in rows}
    )


@functools.lru_cache(maxsize=1 << 15)
def _shared(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return one object for all zones' sets of the same addresses."""
    return addresses


def installed_groups(tables: Tables) -> Mapping[str, frozenset[str]]:
    """Return the southbound's port groups, each whole: there is a row per switch there."""
    ports: dict[str, set[str]] = defaultdict(set)
    for row in tables.rows("Port_Group", ("name", "ports")):
        ports[_GROUP_OF_DATAPATH.sub("", row["name"], count=1)] |= set(_uuids(row["ports"]))
    return MappingProxyType({name: frozenset(members) for name, members in ports.items()})


def _listed(row: Row, columns: Sequence[str]) -> str:
    """Return columns as text in which every word is one thing, names in quotes as flows do."""
    words = []
    for column in columns:
        values = [str(value) for value in _uuids(row.get(column, ()))]
        quoted = column in ("logical_port", "type")
        words += [f'"{value}"' if quoted else value for value in sorted(values)]
    return f"{row['dp_key']} {' '.join(words)}" if "dp_key" in row else " ".join(words)


def _uuids(value: Any) -> Sequence[str]:  # noqa: ANN401 - an OVSDB set: its only member, or a list
    return value if isinstance(value, (list, tuple)) else (value,)
