"""A must-gather, or what `oc adm inspect` wrote → a snapshot: Lists, and databases by node.

The layout is that of openshift/must-gather (`gather_network_logs_basics`) and `oc adm inspect`. It
holds objects only of the namespaces that were inspected: what policies mean is never known whole.
Where several images gathered, each has a directory: the objects are taken of all of them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from audit.errors import SnapshotError
from audit.facts import archive
from audit.facts.documents import DocumentError, documents
from audit.facts.fields import Field, FieldError
from audit.facts.live.resources import LISTED

_GROUPS: Mapping[str, str] = {listed.resource: listed.group or "core" for listed in LISTED}
"""Where `oc adm inspect` puts what a live cluster would be asked for."""
_ALWAYS = frozenset(listed.resource for listed in LISTED if not listed.policy)
_OBJECTS = ("cluster-scoped-resources", "namespaces")
_LOGS = "network_logs"
_STORE = "ovnk_database_store"
_SIDES = {"_nbdb": "nb.db", "_sbdb": "sb.db"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MEMBER = re.compile(
    rf"(?:[\w.-]+/)*(?:(?:{'|'.join(_OBJECTS)})/[\w./-]+\.yaml"
    rf"|{_LOGS}/(?:{_STORE}\.tar\.gz|{_STORE}/[\w.-]+_[ns]bdb|leader_[ns]bdb\.gz))",
    re.ASCII,
)
_DEEPEST = 2
"""Directories between the one that is named and those that `oc adm inspect` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Where the images' files are, those with databases first, and what the user named."""

    shown: str
    roots: Sequence[Path]


def member(name: str) -> str | None:
    """Return where a file of a packed must-gather is unpacked; None for one that is not read."""
    path = PurePosixPath(name)
    wanted = ".." not in path.parts and _MEMBER.fullmatch(str(path))
    return str(path) if wanted else None


def find(path: Path, shown: str) -> Gathered | None:
    """Return what was gathered in a directory or a little below it, None where nothing was."""
    below = [
        p for depth in range(1, _DEEPEST + 1) for p in sorted(path.glob("/".join("*" * depth)))
    ]
    candidates = [p for p in (path, *below) if any((p / name).is_dir() for name in _OBJECTS)]
    outermost = [p for p in candidates if not any(other in p.parents for other in candidates)]
    roots = sorted(outermost, key=lambda root: not (root / _LOGS).is_dir())
    return Gathered(shown=shown, roots=roots) if roots else None


def convert(
    gathered: Gathered, target: Path, limit: archive.Limit, *, databases: bool = True
) -> Path:
    """Make a snapshot in `target`, with databases if they are wanted.

    SnapshotError if it is damaged or lacks them.
    """
    lists = {resource: list(_objects(gathered.roots, resource)) for resource in _GROUPS}
    (target / "kube").mkdir(parents=True)
    for resource, items in lists.items():
        if items or resource in _ALWAYS:
            whole = {"apiVersion": "v1", "kind": "List", "items": items}
            text = _json(whole, gathered.shown, resource)
            (target / "kube" / f"{resource}.json").write_text(text, encoding="utf-8")
    try:
        spaces = sorted(Field(n)["metadata"]["name"].text() for n in lists["namespaces"])
        nodes = {Field(p)["metadata"]["name"].text(): _node_of(p) for p in lists["pods"]}
    except FieldError as error:
        text = f"an object of {gathered.shown} cannot be read: {error}; gather it again"
        raise SnapshotError(text) from error
    if databases:
        _unpack(gathered, target, nodes, limit)
        if not (target / "ovn").is_dir():
            raise SnapshotError(_without_databases(gathered.shown, spaces))
    description = {
        "source": f"must-gather {gathered.shown}",
        "unread_policies": ["networkpolicies"],
        "notes": [
            {
                "code": "must-gather",
                "text": "a must-gather holds objects only of the namespaces that were inspected: "
                "other pods are not audited, and the intent plane is inconclusive",
                "subjects": spaces,
            }
        ],
    }
    (target / "snapshot.json").write_text(json.dumps(description), encoding="utf-8")
    return target


def _without_databases(shown: str, spaces: Sequence[str]) -> str:
    of = f" (namespaces: {', '.join(spaces)})" if spaces else ""
    return (
        f"{shown} has objects as `oc adm inspect` writes them{of} and no OVN databases in "
        f"{_LOGS}/; gather them with `oc adm must-gather -- gather_network_logs`, or save the "
        "cluster with `audit snapshot`"
    )


def _unpack(
    gathered: Gathered, target: Path, nodes: Mapping[str, str], limit: archive.Limit
) -> None:
    """Unpack the databases of the first image that has any, each into the zone of its node."""
    for root in gathered.roots:
        try:
            for name, size, blocks in _databases(root / _LOGS, limit):
                suffix = name[-len("_nbdb") :]
                pod = name.removesuffix(suffix)
                called = nodes.get(pod) or pod
                if not _NAME.fullmatch(called):
                    text = f"{gathered.shown}: {called!r} cannot be the name of a node"
                    raise SnapshotError(text)
                archive.keep(blocks, target / "ovn" / called / _SIDES[suffix], size=size)
        except archive.UNREADABLE as error:
            text = f"the databases of {gathered.shown} cannot be unpacked: {error}"
            raise SnapshotError(text) from error
        if (target / "ovn").is_dir():
            return


def _json(value: object, shown: str, resource: str) -> str:
    """Write what YAML said as JSON, times as text; YAML can say more than that."""
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise SnapshotError(
            f"the {resource} of {shown} are no Kubernetes objects: {error}; gather them again"
        ) from error


def _node_of(pod: Mapping[str, Any]) -> str:
    return Field(pod)["spec"]["nodeName"].text()


def _objects(roots: Sequence[Path], resource: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a resource, each once, wherever `oc adm inspect` has put them."""
    group = _GROUPS[resource]
    globs = [
        f"cluster-scoped-resources/{group}/{resource}/*.yaml",
        f"namespaces/*/{group}/{resource}.yaml",
        f"namespaces/*/{group}/{resource}/*.yaml",
    ]
    if resource == "pods":
        globs.append("namespaces/*/pods/*/*.yaml")
    if resource == "namespaces":
        globs.append("namespaces/*/*.yaml")
    seen: set[tuple[str, str]] = set()
    files = (f for root in roots for pattern in globs for f in sorted(root.glob(pattern)))
    for file in files:
        try:
            for item in _items(file):
                metadata = item["metadata"]
                name = metadata["namespace"].text(), metadata["name"].text()
                if name[1] and name not in seen:
                    seen.add(name)
                    yield item.mapping()
        except (OSError, DocumentError, FieldError) as error:
            raise SnapshotError(f"{file} cannot be read: {error}; gather it again") from error


def _items(file: Path) -> Iterator[Field]:
    """Yield the objects in a file: those of a List, or the one that it is."""
    for content in documents(file.read_bytes()):
        root = Field(content)
        if "items" in root.mapping():
            yield from root["items"].each()
        else:
            yield root


def _databases(logs: Path, limit: archive.Limit) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Yield each database's name, its size if that is known, and content.

    They are a pair per node, or the leader's.
    """
    packed = logs / f"{_STORE}.tar.gz"
    if packed.is_file():
        for member, size, content in archive.members(packed, limit):
            name = PurePosixPath(member).name
            if name.endswith(tuple(_SIDES)):
                yield name, size, archive.blocks_of(content)
    leaders = {f"global{side}": logs / f"leader{side}.gz" for side in _SIDES}
    files = {file.name: file for file in sorted((logs / _STORE).glob("*_[ns]bdb"))}
    for name, file in {**files, **leaders}.items():
        if file.is_file():
            with archive.expanded(file, limit) as stream:
                yield name, 0, stream.blocks()
