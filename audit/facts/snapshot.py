"""A snapshot on disk → raw Lists and database files.

A snapshot is a directory, or a `.tar.gz` of one: `kube/<resource>.json`, `ovn/<zone>/nb.db` and
`sb.db`. An archive is untrusted input: only members with these names are unpacked, as plain files
(`audit.facts.archive`); or those of a must-gather, which is made a snapshot first.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from audit.errors import SnapshotError
from audit.facts import archive, mustgather, sums
from audit.facts.documents import json_document, listed
from audit.facts.fields import Field, FieldError
from audit.model.facts import Input, Note

_DESCRIPTION = "snapshot.json"
_LIST = r"kube/[a-z0-9.-]+\.json"
_DATABASE = r"ovn/[A-Za-z0-9][A-Za-z0-9._-]*/(?:nb|sb)\.db"
_MEMBER = re.compile(rf"{_LIST}|{_DATABASE}|{re.escape(_DESCRIPTION)}|{sums.NAME}")
_MAGIC = b"OVSDB"
"""How a database file begins (`man 5 ovsdb`)."""
_MOST_LOOKED_AT = 100_000
KINDS: Mapping[str, str] = {
    "namespaces": "Namespace",
    "pods": "Pod",
    "nodes": "Node",
    "services": "Service",
    "endpointslices": "EndpointSlice",
    "networkpolicies": "NetworkPolicy",
    "multi-networkpolicies": "MultiNetworkPolicy",
    "network-attachment-definitions": "NetworkAttachmentDefinition",
    "adminnetworkpolicies": "AdminNetworkPolicy",
    "baselineadminnetworkpolicies": "BaselineAdminNetworkPolicy",
    "clusternetworkpolicies": "ClusterNetworkPolicy",
    "egressfirewalls": "EgressFirewall",
}
"""What each file lists, where its items say it at all: those of a typed List do not."""
_CLUSTER_SCOPED = frozenset(
    {
        "namespaces",
        "nodes",
        "adminnetworkpolicies",
        "baselineadminnetworkpolicies",
        "clusternetworkpolicies",
    }
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a snapshot's files are. `zones` maps each zone to its (northbound, southbound).

    `source` is what the user named; `root` is where the files are, which for an archive is a
    directory the user never sees. `shown_root` stands for it in messages.
    """

    source: str
    root: Path
    shown_root: str
    lists: Mapping[str, Path]
    zones: Mapping[str, tuple[Path, Path]]
    incomplete_zones: tuple[str, ...]

    def shown(self, path: Path) -> str:
        """Return a file's name as the user knows it: `cluster.tar.gz/kube/pods.json`."""
        return f"{self.shown_root}/{path.relative_to(self.root).as_posix()}"


def open_snapshot(
    path: Path, workdir: Path, *, databases: bool = True, most: int = archive.LARGEST
) -> Snapshot:
    """Find a snapshot's files; an archive is unpacked below `workdir`, to `most` bytes.

    SnapshotError when there is none, or it lacks what nothing can be said without: `databases`,
    unless they are not wanted.
    """
    try:
        opened = _open_snapshot(path, workdir, archive.Limit(most), databases=databases)
        return opened if databases else replace(opened, zones={}, incomplete_zones=())
    except OSError as error:
        raise SnapshotError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def _open_snapshot(path: Path, workdir: Path, limit: archive.Limit, *, databases: bool) -> Snapshot:
    if not path.exists():
        raise SnapshotError(
            f"{path} does not exist; --snapshot takes a directory or a .tar.gz with kube/ and ovn/"
        )
    unpacked = not path.is_dir()
    root = _descend(_unpack(path, workdir / "snapshot", limit) if unpacked else path)
    shown = str(path if unpacked else root)
    if not (root / "kube").is_dir() and (gathered := mustgather.find(root, shown)) is not None:
        root = mustgather.convert(gathered, workdir / "converted", limit, databases=databases)
        shown = str(path)
    lists = {f.stem: f for f in sorted((root / "kube").glob("*.json")) if f.is_file()}
    zones, incomplete = _zones(root / "ovn")
    if not lists:
        raise SnapshotError(
            f"{shown} has no kube/*.json; it is not a snapshot{_databases_in(root)}"
        )
    if databases and not zones:
        raise SnapshotError(f"{shown} has no zone with both ovn/<zone>/nb.db and ovn/<zone>/sb.db")
    return Snapshot(
        source=str(path),
        root=root,
        shown_root=shown,
        lists=lists,
        zones=zones,
        incomplete_zones=tuple(incomplete),
    )


def _zones(ovn: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Return each zone's pair of databases, and the zones that have not both."""
    zones, incomplete = {}, []
    for directory in sorted(p for p in ovn.glob("*") if p.is_dir()):
        pair = (directory / "nb.db", directory / "sb.db")
        if all(file.is_file() for file in pair):
            zones[directory.name] = pair
        else:
            incomplete.append(directory.name)
    return zones, incomplete


def _databases_in(root: Path) -> str:
    """Say what to do where there are databases and no objects: a sosreport, a copied /var/lib."""
    files = islice(root.rglob("*"), _MOST_LOOKED_AT)
    database = min((f for f in files if f.suffix == ".db" and _is_database(f)), default=None)
    if database is None:
        return ""
    return (
        f". There are databases ({database.relative_to(root)}) and no objects: make a directory, "
        "copy the databases of each node to ovn/<node>/nb.db and ovn/<node>/sb.db in it, and save "
        "namespaces, nodes, pods, services, endpointslices and networkpolicies to "
        "kube/<resource>.json with `kubectl get <resource> -A -o json`"
    )


def _is_database(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC


def _descend(root: Path) -> Path:
    """Return the directory that holds `kube/`: `root`, or its only subdirectory."""
    if (root / "kube").is_dir():
        return root
    inner = [p for p in root.iterdir() if p.is_dir()] if root.is_dir() else []
    return inner[0] if len(inner) == 1 and (inner[0] / "kube").is_dir() else root


def _unpack(packed: Path, target: Path, limit: archive.Limit) -> Path:
    """Unpack the members that belong to a snapshot or to a must-gather, and nothing else."""
    tops, gathered = set(), target / "gathered"
    try:
        for name, size, content in archive.members(packed, limit):
            member, other = _snapshot_name(name), mustgather.member(name)
            if member is not None:
                tops.add(member.top)
                archive.keep(archive.blocks_of(content), target / member.name, size=size)
            elif other is not None:
                archive.keep(archive.blocks_of(content), gathered / other, size=size)
    except archive.UNREADABLE as error:
        raise SnapshotError(f"{packed} cannot be unpacked as a .tar.gz: {error}") from error
    if len(tops) > 1:
        named = ", ".join(sorted(top or "." for top in tops))
        raise SnapshotError(
            f"{packed} holds several snapshots ({named}); unpack it and name one of them"
        )
    if tops:
        return target
    if gathered.is_dir():
        return gathered
    raise SnapshotError(
        f"{packed} holds no kube/*.json and no ovn/<zone>/*.db; if they are in it under other "
        "names, unpack it and name the directory"
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A member's place in its snapshot, and the directories it was packed under."""

    top: str
    name: str


def _snapshot_name(name: str) -> _Place | None:
    """Return a member's place in the snapshot, whatever directories it was packed under."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return None
    for start in range(len(path.parts)):
        candidate = "/".join(path.parts[start:])
        if _MEMBER.fullmatch(candidate):
            return _Place("/".join(path.parts[:start]), candidate)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a snapshot says of itself in `snapshot.json`; one made by hand has none."""

    source: str = ""
    notes: tuple[Note, ...] = ()
    resource_versions: Mapping[str, str] = field(default_factory=dict)
    """Of each List, when it was first read."""
    unread_policies: tuple[str, ...] = ()
    """Policy kinds that exist and could not be listed."""
    changed: frozenset[str] = frozenset()
    """Pods (`namespace/name`) that changed while the snapshot was taken."""


def describe(snapshot: Snapshot) -> Description:
    """Read `snapshot.json`. SnapshotError when it is there and says something else."""
    path = snapshot.root / _DESCRIPTION
    if not path.is_file():
        return Description()
    try:
        root = Field(json_document(path.read_text(encoding="utf-8")))
        return Description(
            source=root["source"].text(),
            notes=tuple(
                Note(
                    code=note["code"].text(),
                    text=note["text"].text(),
                    subjects=tuple(subject.text() for subject in note["subjects"].each()),
                )
                for note in root["notes"].each()
            ),
            resource_versions=root["first_resource_versions"].texts(),
            unread_policies=tuple(kind.text() for kind in root["unread_policies"].each()),
            changed=frozenset(key.text() for key in root["changed"].each()),
        )
    except (OSError, ValueError, RecursionError) as error:
        raise SnapshotError(f"{snapshot.shown(path)} cannot be read: {error}") from error


def read_list(snapshot: Snapshot, resource: str) -> Iterator[Mapping[str, Any]] | None:
    """Return the items of `kube/<resource>.json`, None when the snapshot has none.

    SnapshotError when the file is no JSON or no List; of an item that cannot be read, when its turn
    comes.
    """
    path = snapshot.lists.get(resource)
    if path is None:
        return None
    with _readable(snapshot.shown(path)):
        items = listed(path.read_bytes())
    if items is None:
        raise SnapshotError(
            f"{snapshot.shown(path)} is not a List as `kubectl get {resource} -A -o json` prints"
        )
    return _each(items, snapshot.shown(path))


def _each(items: Iterator[Mapping[str, Any]], shown: str) -> Iterator[Mapping[str, Any]]:
    with _readable(shown):
        yield from items


@contextmanager
def _readable(shown: str) -> Iterator[None]:
    """Say of a file that cannot be read which it is, and what to do. SnapshotError."""
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"{shown} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"{shown} is not JSON: {error}; write it again with kubectl") from error


def read_objects(
    snapshot: Snapshot, resource: str, parse: Callable[[Mapping[str, Any]], _T]
) -> list[_T] | None:
    """Return every object of `kube/<resource>.json` parsed, None when the snapshot has no list.

    SnapshotError with the file, the item and what is wrong with it, also when one is there twice.
    """
    items = read_list(snapshot, resource)
    if items is None:
        return None
    parsed, names = [], set[tuple[str, str]]()
    for index, item in enumerate(items):
        try:
            names.add(_check(item, resource, names))
            parsed.append(parse(item))
        except FieldError as error:
            shown = snapshot.shown(snapshot.lists[resource])
            raise SnapshotError(
                f"{shown}: item {index}{_named(item)}: {error}; write the file again with kubectl"
            ) from error
    return parsed


def required(
    snapshot: Snapshot, resource: str, parse: Callable[[Mapping[str, Any]], _T]
) -> list[_T]:
    """Return every object of a list that an audit cannot do without."""
    objects = read_objects(snapshot, resource, parse)
    if objects is None:
        raise SnapshotError(
            f"{snapshot.shown_root} has no kube/{resource}.json; "
            f"save it with `kubectl get {resource} -A -o json`"
        )
    return objects


def cluster(snapshot: Snapshot) -> str:
    """Return the uid of namespace kube-system, which no two clusters share; empty without one."""
    for item in read_list(snapshot, "namespaces") or ():
        metadata = item.get("metadata")
        if isinstance(metadata, Mapping) and metadata.get("name") == "kube-system":
            uid = metadata.get("uid")
            return uid if isinstance(uid, str) else ""
    return ""


def _check(
    item: Mapping[str, Any], resource: str, before: Collection[tuple[str, str]]
) -> tuple[str, str]:
    """Return the namespace and name of an object of `resource` that is not among those `before`."""
    root = Field(item)
    kind, wanted = root["kind"].text(), KINDS.get(resource, "")
    if kind and wanted and kind != wanted:
        raise FieldError(f"kind is {kind}, not {wanted}")
    metadata = root["metadata"]
    cluster_scoped = resource in _CLUSTER_SCOPED
    space = "" if cluster_scoped else metadata["namespace"].required()
    name = (space, metadata["name"].required())
    if name in before:
        raise FieldError("it is listed twice")
    return name


def _named(item: object) -> str:
    """Return ` (namespace/name)` of an item, as far as it has them."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        return ""
    parts = [metadata.get(key) for key in ("namespace", "name")]
    name = "/".join(part for part in parts if isinstance(part, str) and part)
    return f" ({name})" if name else ""


def hash_inputs(snapshot: Snapshot) -> tuple[Input, ...]:
    """Return size and SHA-256 of every file the facts are read from, sorted by path.

    SnapshotError when one is not as the snapshot's own sums say.
    """
    databases = [file for pair in snapshot.zones.values() for file in pair]
    inputs = tuple(_hash(file, snapshot) for file in sorted([*snapshot.lists.values(), *databases]))
    description = snapshot.root / _DESCRIPTION
    described = (_hash(description, snapshot),) if description.is_file() else ()
    wanted = re.compile(
        f"{_LIST}|{re.escape(_DESCRIPTION)}" + (f"|{_DATABASE}" if databases else "")
    )
    sums.check(snapshot.root, snapshot.shown_root, (*inputs, *described), wanted)
    return inputs


def _hash(file: Path, snapshot: Snapshot) -> Input:
    try:
        return sums.of_file(file, file.relative_to(snapshot.root).as_posix())
    except OSError as error:
        raise SnapshotError(f"{snapshot.shown(file)} cannot be read: {error.strerror}") from error
