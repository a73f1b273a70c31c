"""A must-gather, unpacked → a snapshot: its YAML as Lists, its databases by node.

The layout is that of openshift/must-gather (`gather_network_logs_basics`) and `oc adm inspect`. It
holds objects only of the namespaces that were inspected: what policies mean is never known whole.
"""

import gzip
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from audit.errors import SnapshotError
from audit.facts.documents import DocumentError, documents
from audit.facts.fields import Field, FieldError
from audit.facts.live.resources import LISTED

_GROUPS: Mapping[str, str] = {listed.resource: listed.group or "core" for listed in LISTED}
"""Where `oc adm inspect` puts what a live cluster would be asked for."""
_ALWAYS = frozenset(listed.resource for listed in LISTED if not listed.policy)
_STORE = "ovnk_database_store"
_SIDES = {"_nbdb": "nb.db", "_sbdb": "sb.db"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def find(path: Path) -> Path | None:
    """Return the directory of a must-gather that has the objects, None when `path` is none."""
    places = [path, *sorted(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else []
    return next((p for p in places if (p / "cluster-scoped-resources").is_dir()), None)


def convert(root: Path, target: Path) -> Path:
    """Make a snapshot in `target` of the must-gather at `root`; SnapshotError if damaged."""
    lists = {resource: list(_objects(root, resource)) for resource in _GROUPS}
    (target / "kube").mkdir(parents=True)
    for resource, items in lists.items():
        if items or resource in _ALWAYS:
            whole = {"apiVersion": "v1", "kind": "List", "items": items}
            (target / "kube" / f"{resource}.json").write_text(_json(whole, root, resource))
    try:
        nodes = {p["metadata"]["name"]: _node_of(p) for p in lists["pods"]}
        for name, content in _databases(root / "network_logs"):
            pod = next((name.removesuffix(s) for s in _SIDES if name.endswith(s)), name)
            called = nodes.get(pod) or pod
            if not _NAME.fullmatch(called):
                raise SnapshotError(f"{root}: {called!r} cannot be the name of a node")
            zone = target / "ovn" / called
            zone.mkdir(parents=True, exist_ok=True)
            side = next(file for suffix, file in _SIDES.items() if name.endswith(suffix))
            with content, (zone / side).open("wb") as sink:
                shutil.copyfileobj(content, sink)
    except FieldError as error:
        raise SnapshotError(f"a pod of {root} cannot be read: {error}; gather it again") from error
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise SnapshotError(f"the databases of {root} cannot be unpacked: {error}") from error
    said = {
        "source": f"must-gather {root}",
        "unread_policies": ["networkpolicies"],
        "notes": [
            {
                "code": "must-gather",
                "text": "a must-gather holds objects only of the namespaces that were inspected: "
                "other pods are not audited, and the intent plane is inconclusive",
                "subjects": sorted(n["metadata"]["name"] for n in lists["namespaces"]),
            }
        ],
    }
    (target / "snapshot.json").write_text(json.dumps(said))
    return target


def _json(value: object, root: Path, resource: str) -> str:
    """Write what YAML said as JSON, times as text; YAML can say more than that."""
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise SnapshotError(
            f"the {resource} of {root} are no Kubernetes objects: {error}; gather them again"
        ) from error


def _node_of(pod: Mapping[str, Any]) -> str:
    return Field(pod)["spec"]["nodeName"].text()


def _objects(root: Path, resource: str) -> Iterator[Mapping[str, Any]]:
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
    for file in (file for pattern in globs for file in sorted(root.glob(pattern))):
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


def _databases(logs: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the databases: a pair per node, or the leader's."""
    archive = logs / f"{_STORE}.tar.gz"
    if archive.is_file():
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None and name.endswith(tuple(_SIDES)):
                    yield name, content
    for file in sorted((logs / _STORE).glob("*_[ns]bdb")):
        yield file.name, file.open("rb")
    for side in _SIDES:
        leader = logs / f"leader{side}.gz"
        if leader.is_file():
            # Whoever takes it closes it, as the others.
            yield f"global{side}", cast("IO[bytes]", gzip.open(leader))  # noqa: SIM115
