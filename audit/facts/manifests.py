"""YAML manifests, as a repository has them → the objects in them; a workload stands for its pods.

Everything that is no pod, workload, namespace, node or policy is passed over, and said to be.
Nothing here was seen by an API server, so its defaults are applied: the namespace `default`, the
label `kubernetes.io/metadata.name`. A workload of several replicas is two pods, so that what they
may do with each other shows too.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import SnapshotError
from audit.facts import kube
from audit.facts.documents import DocumentError, documents
from audit.facts.fields import Field, FieldError
from audit.model.facts import Input, Note, Policy

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_NAME_LABEL = "kubernetes.io/metadata.name"
_KINDS = {kind: resource for resource, kind in kube.POLICY_RESOURCES.items()}
_CLUSTER_SCOPED = frozenset(
    {"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"}
)
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where each workload has its pods' template."""
_MOST_PODS = 2


@dataclass(slots=True, kw_only=True)
class Manifests:
    """What was found in them."""

    source: str
    namespaces: dict[str, dict[str, str]]
    pods: list[kube.PodFacts]
    nodes: list[kube.NodeFacts]
    policies: list[Policy]
    notes: list[Note]
    inputs: tuple[Input, ...]


def read(place: str) -> Manifests:
    """Read a directory, a file, or `-` for standard input; SnapshotError says what is wrong."""
    found = _Reader(place)
    inputs = []
    for name, text in _texts(place):
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        inputs.append(Input(path=name, size=len(data), sha256=digest))
        found.read(name, text)
    return found.finish(tuple(inputs))


def _texts(place: str) -> Iterator[tuple[str, str]]:
    """Yield each file's name and text."""
    if place == "-":
        yield "-", sys.stdin.read()
        return
    path = Path(place)
    if not path.exists():
        raise SnapshotError(f"{place} does not exist; --manifests takes a directory, a file or -")
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in _SUFFIXES and f.is_file())
    if not files:
        raise SnapshotError(f"{place} has no file that ends in .yaml, .yml or .json")
    for file in files:
        try:
            yield str(file.relative_to(path) if path.is_dir() else file), file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SnapshotError(f"{file} cannot be read: {error}") from error


class _Reader:
    """Collects objects; each is named once."""

    def __init__(self, place: str) -> None:
        self._found = Manifests(
            source=place, namespaces={}, pods=[], nodes=[], policies=[], notes=[], inputs=()
        )
        self._files: dict[tuple[str, str, str], str] = {}
        self._passed_over: Counter[str] = Counter()

    def read(self, name: str, text: str) -> None:
        """Read every document of a file, and every item of a List."""
        try:
            found = documents(text)
        except DocumentError as error:
            raise SnapshotError(f"{name} is not YAML: {error}; render templates first") from error
        for number, document in enumerate(found, start=1):
            try:
                for item in _items(document):
                    self._add(name, item)
            except FieldError as error:
                raise SnapshotError(f"{name}, document {number}: {error}") from error

    def _add(self, file: str, item: Mapping[str, Any]) -> None:
        kind = Field(item)["kind"].required()
        metadata = dict(Field(item)["metadata"].mapping())
        name = Field(item)["metadata"]["name"].required()
        if kind in {*_TEMPLATES, "Pod", "NetworkPolicy", "EgressFirewall"}:
            metadata["namespace"] = Field(item)["metadata"]["namespace"].text("default")
        elif kind not in _CLUSTER_SCOPED | {"Namespace", "Node"}:
            self._passed_over[kind] += 1
            return
        else:
            metadata.pop("namespace", None)
        space = str(metadata.get("namespace", ""))
        before = self._files.get((kind, space, name))
        if before is not None:
            raise FieldError(f"{kind} {space}/{name} is there twice, first in {before}")
        self._files[kind, space, name] = file
        self._take(kind, space, {**item, "metadata": metadata})

    def _take(self, kind: str, space: str, item: Mapping[str, Any]) -> None:
        found = self._found
        if space:
            found.namespaces.setdefault(space, {_NAME_LABEL: space})
        if kind == "Namespace":
            name, labels = kube.namespace(item)
            found.namespaces[name] = {_NAME_LABEL: name, **dict(labels)}
        elif kind == "Node":
            found.nodes.append(kube.node(item))
        elif kind == "Pod":
            found.pods.append(kube.pod(item))
        elif kind in _KINDS:
            found.policies.append(kube.policy(item, kind))
        else:
            found.pods += _pods_of(kind, item)

    def finish(self, inputs: tuple[Input, ...]) -> Manifests:
        """Return everything, with what was passed over."""
        found = self._found
        if not found.pods:
            raise SnapshotError(
                f"{found.source} has no Pod and no workload; without one there is nobody to ask "
                "about"
            )
        found.inputs = inputs
        if self._passed_over:
            kinds = ", ".join(f"{kind} ({n})" for kind, n in sorted(self._passed_over.items()))
            text = f"objects of other kinds were passed over: {kinds}"
            found.notes.append(Note(code="kinds-passed-over", text=text))
        return found


def _items(document: object) -> Iterator[Mapping[str, Any]]:
    if document is None:
        return
    root = Field(document)
    if root["kind"].text().endswith("List") and root["items"].value is not None:
        for item in root["items"].each():
            yield item.mapping()
        return
    yield root.mapping()


def _pods_of(kind: str, item: Mapping[str, Any]) -> Iterator[kube.PodFacts]:
    """Yield the pods of a workload as its template describes them."""
    root = Field(item)
    name, space = root["metadata"]["name"].required(), root["metadata"]["namespace"].required()
    template = root
    for step in _TEMPLATES[kind]:
        template = template[step]
    metadata = template["metadata"]
    several = kind == "DaemonSet" or (
        isinstance(root["spec"]["replicas"].value, int) and root["spec"]["replicas"].number() > 1
    )
    for index in range(_MOST_PODS if several else 1):
        pod_name = f"{name}-{index}"
        labels = dict(metadata["labels"].texts())
        if kind == "StatefulSet":
            labels["statefulset.kubernetes.io/pod-name"] = pod_name
        yield kube.pod(
            {
                "metadata": {
                    "namespace": space,
                    "name": pod_name,
                    "labels": labels,
                    "annotations": dict(metadata["annotations"].texts()),
                    "ownerReferences": [{"controller": True, "kind": kind, "name": name}],
                },
                "spec": dict(template["spec"].mapping()),
            }
        )
