"""A live cluster → a snapshot directory: everything one run needs, read once.

Lists come from the API server, databases from their servers: `ovsdb-client backup` in the pod gives
a database as of one transaction, standalone also where it is clustered, on its standard output.
Nothing is written in a pod, and what runs there ends with its stream.

The Lists are read before the databases and again after them. When something changed meanwhile the
databases are read once more; what changes still is said, and pods that it concerns are `untraced`.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit import __version__
from audit.errors import AuditError, ClusterError
from audit.facts import sums
from audit.facts.live import execs, ovn_pods
from audit.facts.live.access import Access
from audit.facts.live.api import ForbiddenError, NoSuchKindError, Server
from audit.facts.live.resources import LISTED, Listed
from audit.model.facts import Note

ZoneName = Callable[[Path], str]
"""A northbound database → the name of its zone, empty when it has none; DatabaseError if bad."""

_ZONE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DESCRIPTION = "snapshot.json"
_WATCHED = ("pods", "namespaces")
"""Besides policies: what is compared before and after the databases are read."""
_IMPLICIT = "kubectl.kubernetes.io/last-applied-configuration"
_POD_NETWORKS = "k8s.ovn.org/pod-networks"

Object = Mapping[str, Any]
Lists = dict[str, list[Object]]


@dataclass(slots=True, kw_only=True)
class Capture:
    """One reading of a cluster into `target`, a new directory."""

    access: Access
    target: Path
    zone_name: ZoneName
    notes: list[Note] = field(default_factory=list)
    unread_policies: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    markers: dict[str, str] = field(default_factory=dict)
    """The resourceVersion of each List when it was last read, and `first` when it first was."""
    first: dict[str, str] = field(default_factory=dict)
    zones: dict[str, str] = field(default_factory=dict)
    """Where each zone was read: the name of its place."""
    source: str = ""

    def take(self, *, databases: bool = True) -> Path:
        """Read everything; `databases` unless the objects are all that is wanted.

        ClusterError when pods, nodes or namespaces, or every zone, cannot be read.
        """
        started = _now()
        mode = ""
        with Server(self.access) as server:
            self.source = f"cluster {server.host}"
            lists = self._lists(server)
            self.first = dict(self.markers)
            if databases:
                located = ovn_pods.find(lists["pods"], self.access.namespace)
                mode = str(located.mode)
                self._notice_silent(located)
                self._read_zones(located.zones)
                lists = self._settle(server, lists, located)
        self._write(lists)
        self._describe(started, mode)
        sums.write(self.target)
        return self.target

    def _lists(self, server: Server) -> Lists:
        """List every kind there is; what may not be listed is noted with its consequence."""
        lists: Lists = {}
        for listed in LISTED:
            try:
                self.markers[listed.resource], lists[listed.resource] = server.items(listed)
            except NoSuchKindError:
                if listed.required:
                    raise
            except ForbiddenError as error:
                self._forbidden(listed, error)
        return lists

    def _forbidden(self, listed: Listed, error: ForbiddenError) -> None:
        if listed.required:
            raise ClusterError(
                f"{error}; grant list on {listed.resource} (`audit doctor` says what else is "
                "missing)"
            ) from error
        if listed.policy:
            self.unread_policies.append(listed.resource)
        group = f".{listed.group}" if listed.group else ""
        text = f"{listed.resource}{group} may not be listed: {listed.consequence}"
        self.notes.append(Note(code="list-forbidden", text=text, subjects=(listed.resource,)))

    def _notice_silent(self, located: ovn_pods.Databases) -> None:
        for node in located.silent:
            text = f"the pod with the databases of node {node} does not run"
            self.notes.append(Note(code="zone-unreadable", text=text, subjects=(node,)))

    def _read_zones(self, wanted: Iterable[ovn_pods.ZoneDatabases]) -> None:
        """Read databases, several nodes at once; a zone that cannot be read becomes a note."""
        wanted = tuple(wanted)
        with ThreadPoolExecutor(max_workers=execs.AT_ONCE) as pool:
            errors = list(pool.map(self._read_zone, wanted))
        failed = [error for error in errors if error is not None]
        if len(failed) == len(wanted):
            raise ClusterError(f"no zone could be read: {failed[0]}")
        for pair, error in zip(wanted, errors, strict=True):
            if error is not None:
                text = f"zone {pair.name} could not be read: {error}"
                self.notes.append(Note(code="zone-unreadable", text=text, subjects=(pair.name,)))

    def _read_zone(self, pair: ovn_pods.ZoneDatabases) -> AuditError | None:
        """Read one pair of databases, from the first member that gives it."""
        unfinished = self.target / "unfinished" / pair.name
        unfinished.mkdir(parents=True, exist_ok=True)
        last: AuditError | None = None
        for north, south in pair.members:
            try:
                self._backup(north, "OVN_Northbound", unfinished / "nb.db")
                self._backup(south, "OVN_Southbound", unfinished / "sb.db")
                self._keep(unfinished, pair.name)
            except AuditError as error:
                last = error
            else:
                return None
        return last

    def _backup(self, where: execs.Container, schema: str, target: Path) -> None:
        argv = ("ovsdb-client", "--no-leader-only", "backup", ovn_pods.SOCKETS[schema], schema)
        execs.run(self.access, where, argv, target, timeout_s=self.access.exec_timeout_s)

    def _keep(self, unfinished: Path, name: str) -> None:
        """Move a pair of databases to the zone that it says it is."""
        stated = self.zone_name(unfinished / "nb.db")
        zone = stated if _ZONE_NAME.fullmatch(stated) else name
        self.zones[zone] = name
        kept = self.target / "ovn" / zone
        kept.mkdir(parents=True, exist_ok=True)
        for file in ("sb.db", "nb.db"):
            (unfinished / file).replace(kept / file)

    def _settle(self, server: Server, before: Lists, located: ovn_pods.Databases) -> Lists:
        """List again what may have changed; read once more the zones of what did."""
        after = self._again(server, before)
        changed = _changes(before, after)
        if not changed:
            return after
        self._read_zones(located.zones)  # what changed may be in address sets of every zone
        last = self._again(server, after)
        self.changed = sorted(concerned(after, last))
        if self.changed:
            text = (
                f"{len(self.changed)} pods, or policies that may concern them, changed while the "
                "databases were read, twice: their cells are untraced"
            )
            self.notes.append(
                Note(code="changed-meanwhile", text=text, subjects=tuple(self.changed))
            )
        return last

    def _again(self, server: Server, before: Lists) -> Lists:
        versions, after = watched(server, before)
        self.markers |= versions
        return after

    def _write(self, lists: Lists) -> None:
        directory = self.target / "kube"
        directory.mkdir(parents=True, exist_ok=True)
        for resource, items in lists.items():
            whole = {"apiVersion": "v1", "kind": "List", "items": [_needed(i) for i in items]}
            text = json.dumps(whole, ensure_ascii=False)
            (directory / f"{resource}.json").write_text(text, encoding="utf-8")
        for leftover in (self.target / "unfinished").rglob("*.db"):
            leftover.unlink()

    def _describe(self, started: str, mode: str) -> None:
        description = {
            "made_by": f"audit {__version__}",
            "source": self.source,
            "started": started,
            "finished": _now(),
            "deployment": mode,
            "zones": self.zones,
            "first_resource_versions": self.first,
            "resource_versions": self.markers,
            "unread_policies": self.unread_policies,
            "changed": self.changed,
            "notes": [
                {"code": n.code, "text": n.text, "subjects": list(n.subjects)} for n in self.notes
            ],
        }
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (self.target / _DESCRIPTION).write_text(text, encoding="utf-8")


def watched(server: Server, before: Lists) -> tuple[dict[str, str], Lists]:
    """List again what may have changed; return its resourceVersions, and all Lists as of now."""
    versions, again = {}, {}
    for listed in LISTED:
        if (listed.policy or listed.resource in _WATCHED) and listed.resource in before:
            versions[listed.resource], again[listed.resource] = server.items(listed)
    return versions, {**before, **again}


def concerned(before: Lists, after: Lists) -> set[str]:
    """Return the pods (`namespace/name`) that changed, or whose policies or namespaces did."""
    return _pods_of(_changes(before, after), after)


def _needed(item: Object) -> Object:
    """Return an object without what is long and never read."""
    metadata = dict(item.get("metadata") or {})
    metadata.pop("managedFields", None)
    annotations = dict(metadata.get("annotations") or {})
    if annotations.pop(_IMPLICIT, None) is not None:
        metadata["annotations"] = annotations
    return {**item, "metadata": metadata}


_Changes = dict[str, list[Object]]
"""Objects by resource, as they were or as they are now."""


def _changes(before: Lists, after: Lists) -> _Changes:
    """Return the objects that came, went, or are not what they were."""
    changes: _Changes = {}
    for resource, items in after.items():
        if items is before[resource]:
            continue
        old = {_identity(entry): (_print(resource, entry), entry) for entry in before[resource]}
        new = {_identity(entry): (_print(resource, entry), entry) for entry in items}
        different = [
            (new.get(name) or old[name])[1]
            for name in old.keys() | new.keys()
            if old.get(name, ("",))[0] != new.get(name, ("",))[0]
        ]
        if different:
            changes[resource] = different
    return changes


def _identity(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _print(resource: str, item: Object) -> str:
    """Return what of an object concerns OVN: of a pod not each of its probes' results."""
    metadata = item["metadata"]
    seen: list[Any] = [metadata.get("uid"), metadata.get("labels")]
    if resource == "pods":
        status, spec = item.get("status") or {}, item.get("spec") or {}
        networks = (metadata.get("annotations") or {}).get(_POD_NETWORKS)
        seen += [spec.get("nodeName"), status.get("phase"), status.get("podIPs"), networks]
    elif resource != "namespaces":
        seen.append(item.get("spec"))
    return json.dumps(seen, sort_keys=True)


def _pods_of(changes: _Changes, lists: Lists) -> set[str]:
    """Return the pods that changes concern: themselves, or their namespace's."""
    names = {"/".join(_identity(pod)) for pod in changes.get("pods", ())}
    spaces, everywhere = set(), False
    for resource, items in changes.items():
        if resource == "pods":
            continue
        for item in items:
            space, name = _identity(item)
            everywhere |= not space and resource != "namespaces"
            spaces.add(space or name)
    for pod in lists["pods"]:
        space, _ = _identity(pod)
        if everywhere or space in spaces:
            names.add("/".join(_identity(pod)))
    return names


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
