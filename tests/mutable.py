"""A snapshot that can be edited: its objects, its databases' rows, and the pods that are asked.

Databases are changed as rows of a standalone file, whose second record is everything in it, and
written whole: an ovsdb-server reads them as it reads any other. Files that were not changed are
those of the recorded cluster (hard links).
"""

import json
import os
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.model.packets import Family
from bench.ovsdb import record

SELECTED = "mutation.test/asked"
"""The label of the pods that a run is about. No policy looks at it."""

_TAKEN = "k8s.ovn.org/primary-user-defined-network"
_PORT = re.compile(r"\b(tcp|udp|sctp)\.dst\s*==\s*(\d+)")
_ANNOTATION = "k8s.ovn.org/pod-networks"
_DEFAULT = "default"

NO_ROW = "00000000-0000-0000-0000-000000000000"

Rows = dict[str, dict[str, Any]]
"""Rows of a table by uuid, columns as OVSDB's JSON."""


def members(value: Any) -> list[Any]:
    """Return what is in an OVSDB set, which of one member may be written as the member."""
    if isinstance(value, list) and value and value[0] == "set":
        return list(value[1])
    return [value]


def pairs(value: Any) -> dict[str, Any]:
    """Return what is in an OVSDB map."""
    return dict(value[1])


def a_set(items: Sequence[Any]) -> list[Any]:
    return ["set", list(items)]


def a_map(items: dict[str, Any]) -> list[Any]:
    return ["map", [[key, value] for key, value in items.items()]]


class Database:
    """A standalone database of two records: its schema, and all rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filled: set[str] = set()
        content = path.read_bytes()
        first, rest = _split(content)
        second, more = _split(rest)
        if more:
            raise ValueError(f"{path} is no file of two records")
        self._schema = first.decode().rstrip("\n")
        self.tables: dict[str, Any] = json.loads(second)

    def rows(self, table: str) -> Rows:
        """Return a table's rows with all their columns, to be changed in place.

        A file that was compacted leaves out what has its default.
        """
        rows: Rows = self.tables.setdefault(table, {})
        if table not in self._filled:
            self._filled.add(table)
            columns = json.loads(self._schema)["tables"][table]["columns"]
            defaults = {name: _default(one["type"]) for name, one in columns.items()}
            for row in rows.values():
                for name, value in defaults.items():
                    row.setdefault(name, value)
        return rows

    def drop(self, table: str, uuid: str) -> None:
        """Delete a row and every reference to it."""
        del self.rows(table)[uuid]
        reference = ["uuid", uuid]
        for rows in self.tables.values():
            for row in rows.values() if isinstance(rows, dict) else ():
                for column, value in row.items():
                    if value == reference:
                        row[column] = a_set([])
                    elif isinstance(value, list) and value[:1] == ["set"] and reference in value[1]:
                        row[column] = a_set([one for one in value[1] if one != reference])

    def write(self) -> None:
        """Replace the file."""
        self.path.unlink()
        tables = {"_date": 0, **{t: rows for t, rows in self.tables.items() if rows}}
        tables["_date"] = 0
        self.path.write_bytes(
            record(self._schema) + record(json.dumps(tables, separators=(",", ":")))
        )


def _default(kind: Any) -> Any:
    """Return what a column of an OVSDB type holds where a row does not say (RFC 7047, 5.2.1)."""
    if isinstance(kind, dict):
        if "value" in kind:
            return a_map({})
        if kind.get("min", 1) == 0 or kind.get("max", 1) != 1:
            return a_set([])
        kind = kind["key"] if isinstance(kind["key"], str) else kind["key"]["type"]
    return {"string": "", "boolean": False, "uuid": ["uuid", NO_ROW]}.get(kind, 0)


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Return a file's first record and what follows it."""
    start = content.index(b"\n") + 1
    end = start + int(content[:start].split()[2])
    return content[start:end], content[end:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A running pod on one of its networks."""

    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...]
    mac: str
    attachment: str = _DEFAULT
    """The network's NetworkAttachmentDefinition, as the pod's annotation names it."""

    @property
    def port(self) -> str:
        """Its logical switch port."""
        port = f"{self.namespace}_{self.name}"
        if self.attachment == _DEFAULT:
            return port
        return f"{self.attachment.replace('/', '.').replace('-', '.')}_{port}"

    def address(self, family: Family) -> str:
        """Return its address of a family, or any."""
        fit = [a for a in self.addresses if Family.of(a) is family]
        return (fit or list(self.addresses))[0]


@dataclass(slots=True, kw_only=True)
class Cluster:
    """A copy of a snapshot, the pods and ports a run asks about, and the draw of what to change."""

    root: Path
    rng: random.Random
    pods: list[Pod] = field(default_factory=list)
    """Those the run is about."""
    everyone: list[Pod] = field(default_factory=list)
    vips: list[str] = field(default_factory=list)
    """Addresses of the Services that are asked, in the family."""
    ports: list[str] = field(default_factory=list)
    """As `--port` takes them."""
    family: Family = Family.IP4
    recompile: set[str] = field(default_factory=set)
    """Zones whose southbound database is to be made again."""
    _databases: dict[Path, Database] = field(default_factory=dict)
    _lists: dict[str, Any] = field(default_factory=dict)

    @property
    def zones(self) -> list[str]:
        """The zones that have databases."""
        return sorted(p.name for p in (self.root / "ovn").iterdir() if (p / "sb.db").is_file())

    def zone_of(self, pod: Pod) -> str:
        """Return the zone a pod is in."""
        zones = self.zones
        return pod.node if pod.node in zones else zones[0]

    def a_zone(self) -> str:
        """Draw a zone that pods are in."""
        return self.zone_of(self.rng.choice(self.pods))

    def database(self, zone: str, kind: str) -> Database:
        """Return a zone's database, to be changed."""
        path = self.root / "ovn" / zone / f"{kind}.db"
        if path not in self._databases:
            self._databases[path] = Database(path)
        return self._databases[path]

    def objects(self, resource: str) -> list[Any]:
        """Return a List's items, to be changed in place."""
        if resource not in self._lists:
            path = self.root / "kube" / f"{resource}.json"
            self._lists[resource] = json.loads(path.read_text()) if path.is_file() else {}
        return self._lists[resource].get("items") or []

    def keep(self, resource: str, items: list[Any]) -> None:
        """Put other items in a List."""
        self._lists[resource]["items"] = items

    def version(self, zone: str) -> str:
        """Return which ovn-northd made a zone's southbound database."""
        (row,) = self.database(zone, "nb").rows("NB_Global").values()
        return str(pairs(row["options"]).get("northd_internal_version", ""))

    def recompiled(self) -> None:
        """Read databases again: ovn-northd has written them."""
        self.recompile.clear()
        self._databases.clear()

    def policy_ports(self) -> list[str]:
        """Return ports that ACLs name, and some that none does."""
        found = {"tcp/80", "tcp/8080", "udp/53", "tcp/9"}
        for row in self.database(self.zones[0], "nb").rows("ACL").values():
            for protocol, number in _PORT.findall(str(row["match"])):
                found.add(f"{protocol}/{number}")
        return sorted(found)

    def write(self) -> None:
        """Write everything that was opened."""
        for database in self._databases.values():
            database.write()
        for resource, content in self._lists.items():
            path = self.root / "kube" / f"{resource}.json"
            if content:
                path.unlink()
                path.write_text(json.dumps(content))

    def choose(self, *, most: int) -> None:
        """Draw the pods a run is about, and label them."""
        spaces = [one["metadata"] for one in self.objects("namespaces")]
        having = {one["name"] for one in spaces if _TAKEN in one.get("labels", {})}
        names = {one["name"] for one in spaces}
        items = [(on, item) for item in self.objects("pods") if (on := _attachments(item))]
        self.everyone = [pod for on, _ in items for pod in on]
        having |= {pod.namespace for pod in self.everyone if pod.attachment != _DEFAULT}
        # Pods of few namespaces: many of them alike to policies, which legs are to make use of.
        # Where there are networks, most are of namespaces that have one.
        drawn = self.rng.sample(sorted(names), len(names))
        if having and self.rng.random() < 0.7:
            drawn.sort(key=lambda name: name not in having)
        order = {space: place // 2 for place, space in enumerate(drawn)}
        mixed = self.rng.sample(items, len(items))
        chosen = sorted(mixed, key=lambda one: order[one[0][0].namespace])[:most]
        for on, item in chosen:
            item["metadata"].setdefault("labels", {})[SELECTED] = "yes"
            self.pods += on

    def a_pod(self) -> Pod:
        """Draw a pod on a network, mostly one of those asked, with an address of the family."""
        among = self.pods if self.rng.random() < 0.85 else self.everyone
        fit = [pod for pod in among if self.family in map(Family.of, pod.addresses)]
        return self.rng.choice(fit or among)

    def an_address(self) -> str:
        return self.a_pod().address(self.family)

    def a_port(self) -> str:
        """Draw `tcp 8080`, mostly of what is asked."""
        if self.rng.random() < 0.8:
            return self.rng.choice(self.ports)
        return self.rng.choice(("tcp/80", "udp/53", "tcp/443", "sctp/80", "tcp/8080"))


def _attachments(item: Any) -> list[Pod]:
    """Return a running pod on each of its networks that gives it an address."""
    meta, status = item["metadata"], item["status"]
    annotation = meta.get("annotations", {}).get(_ANNOTATION)
    if item["spec"].get("hostNetwork") or status.get("phase") != "Running" or not annotation:
        return []
    networks = json.loads(annotation)
    return [
        Pod(
            namespace=meta["namespace"],
            name=meta["name"],
            node=item["spec"].get("nodeName", ""),
            addresses=tuple(address.split("/")[0] for address in addresses),
            mac=networks[name]["mac_address"],
            attachment=name,
        )
        for name in sorted(networks, key=lambda name: (name != _DEFAULT, name))
        if (addresses := networks[name].get("ip_addresses") or [networks[name].get("ip_address")])
        and addresses[0]
    ]


def copied(source: Path, target: Path) -> Path:
    """Copy a snapshot by hard links."""
    shutil.copytree(source, target, copy_function=os.link)
    return target
