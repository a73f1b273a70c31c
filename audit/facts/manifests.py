"""YAML manifests, as a repository has them → the objects in them; a workload stands for its pods.

Everything that is no pod, workload, namespace, node, policy or network is passed over, and said to
be. Nothing here was seen by an API server, so its defaults are applied: the namespace `default`,
the label `kubernetes.io/metadata.name`. What a cluster has and manifests have not, such as the
labels of a namespace that they only mention, is not guessed: who asks may say it (Surroundings).
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.errors import SnapshotError
from audit.facts import kube, networks, unsaid, workloads
from audit.facts.documents import DocumentError, documents
from audit.facts.fields import Field, FieldError
from audit.facts.networks import Placed, PrimaryNetwork
from audit.model.facts import AddressRanges, Input, Note, Policy
from audit.model.selectors import UNSAID

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_NAME_LABEL = "kubernetes.io/metadata.name"
_KINDS = {kind: resource for resource, kind in kube.POLICY_RESOURCES.items()}
_CLUSTER_SCOPED = frozenset(
    {
        *("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"),
        *("ClusterUserDefinedNetwork", *networks.JOINING),
    }
)
_NAMESPACED = frozenset(
    {"Pod", "NetworkPolicy", "EgressFirewall"} | networks.KINDS - {"ClusterUserDefinedNetwork"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What whoever asks says about the cluster that is in no manifest."""

    ranges: AddressRanges = field(default_factory=AddressRanges)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Namespaces that are there, and all their labels but the one of their name."""


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
    networks: list[PrimaryNetwork] = field(default_factory=list)
    joined: bool = False
    """Whether objects join networks that are apart otherwise."""
    ranges: AddressRanges = field(default_factory=AddressRanges)

    def places(self) -> Mapping[str, Placed]:
        """Return which network the pods of each namespace are on."""
        serving = tuple(self.networks)
        return {
            name: networks.place(name, labels, serving, joined=self.joined)
            for name, labels in self.namespaces.items()
        }


def read(place: str, around: Surroundings | None = None) -> Manifests:
    """Read a directory, a file, or `-` for standard input; SnapshotError says what is wrong."""
    found = _Reader(place, around or Surroundings())
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

    def __init__(self, place: str, around: Surroundings) -> None:
        self._found = Manifests(
            source=place, namespaces={}, pods=[], nodes=[], policies=[], notes=[], inputs=()
        )
        self._around = around
        self._workloads: list[tuple[str, Mapping[str, Any]]] = []
        self._templates: dict[tuple[str, str, str], Field] = {}
        self._finished: list[str] = []
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
        if kind in _NAMESPACED or workloads.makes_pods(item):
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
        self._take(file, kind, space, {**item, "metadata": metadata})

    def _take(self, file: str, kind: str, space: str, item: Mapping[str, Any]) -> None:
        found = self._found
        if space:
            found.namespaces.setdefault(space, {_NAME_LABEL: space, UNSAID: UNSAID})
        if kind == "Namespace":
            name, labels = kube.namespace(item)
            found.namespaces[name] = {**dict(labels), _NAME_LABEL: name}
        elif kind == "Node":
            found.nodes.append(kube.node(item))
        elif kind == "Pod":
            pod = kube.pod(item)
            if pod.phase in kube.FINISHED:
                self._finished.append(f"{pod.namespace}/{pod.name}")
            else:
                found.pods.append(pod)
        elif kind in _KINDS:
            found.policies.append(kube.policy(item, kind))
        elif kind in networks.KINDS:
            found.networks += networks.primary(item)
        elif kind in networks.JOINING:
            found.joined = True
        else:
            self._workloads.append((file, item))
            template = workloads.template_of(item)
            if template is not None:
                self._templates[kind, space, Field(item)["metadata"]["name"].required()] = template

    def _make_pods(self) -> None:
        """Make the pods of all workloads, when what one refers to of another has been read."""
        none, cut, unknown = [], [], []
        for file, item in self._workloads:
            try:
                made = workloads.workload(item, self._templates)
            except FieldError as error:
                raise SnapshotError(f"{file}: {_name(item)}: {error}") from error
            self._found.pods += made.pods
            if not made.pods:
                none.append(_name(item))
            if made.replicas > workloads.MOST_TOLD_APART == len(made.pods):
                cut.append(_name(item))
            if not workloads.is_known(item):
                unknown.append(_name(item))
        self._found.notes += unsaid.about_workloads(none, cut, unknown, self._finished)

    def _add_surroundings(self) -> None:
        """Add what was said about the cluster to what the manifests have."""
        found = self._found
        found.ranges = self._around.ranges
        for name, labels in self._around.namespaces.items():
            if UNSAID not in found.namespaces.get(name, {UNSAID: UNSAID}):
                raise SnapshotError(
                    f"{self._files['Namespace', '', name]} has the namespace {name}, and its "
                    f"labels; leave out --namespace-labels {name}:…"
                )
            found.namespaces[name] = {**labels, _NAME_LABEL: name}

    def finish(self, inputs: tuple[Input, ...]) -> Manifests:
        """Return everything, with what was passed over."""
        found = self._found
        self._make_pods()
        self._add_surroundings()
        if not found.pods:
            others = "; ".join(note.text for note in found.notes)
            raise SnapshotError(
                f"{found.source} has no Pod and no workload; without one there is nobody to ask "
                f"about{': ' if others else ''}{others}"
            )
        found.inputs = inputs
        if self._passed_over:
            kinds = ", ".join(f"{kind} ({n})" for kind, n in sorted(self._passed_over.items()))
            text = f"objects of other kinds were passed over: {kinds}"
            found.notes.append(Note(code="kinds-passed-over", text=text))
        found.notes += unsaid.about_cluster(
            found.namespaces, found.pods, found.policies, found.places(), found.ranges
        )
        return found


def _name(item: Mapping[str, Any]) -> str:
    root = Field(item)
    space = root["metadata"]["namespace"].text()
    return f"{root['kind'].required()} {space}/{root['metadata']['name'].required()}"


def _items(document: object) -> Iterator[Mapping[str, Any]]:
    if document is None:
        return
    root = Field(document)
    if root["kind"].text().endswith("List") and root["items"].value is not None:
        for item in root["items"].each():
            yield item.mapping()
        return
    yield root.mapping()
