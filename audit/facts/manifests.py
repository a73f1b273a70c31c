"""YAML manifests, as a repository has them → the objects in them; a workload stands for its pods.

A policy that an API server would not accept is refused: what it means is not known. Everything
that is no pod, workload, namespace, node, policy or network is passed over, and said to be. Nothing
here was seen by an API server, so its defaults are applied: the namespace `default`, the label
`kubernetes.io/metadata.name`. What a cluster has and manifests have not, such as the labels of a
namespace that they only mention, is not guessed: who asks may say it (Surroundings).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.errors import ManifestError
from audit.facts import (
    apis,
    kube,
    kustomize,
    networks,
    profiles,
    trees,
    unsaid,
    validity,
    workloads,
)
from audit.facts.documents import Document, DocumentError
from audit.facts.documents import Path as FieldPath
from audit.facts.documents import read as read_documents
from audit.facts.fields import Field, FieldError
from audit.facts.items import described, is_object, items
from audit.facts.networks import Placed, PrimaryNetwork
from audit.facts.passedover import PassedOver, several
from audit.model.facts import AddressRanges, Input, Note, Policy
from audit.model.selectors import UNSAID

_NAME_LABEL = "kubernetes.io/metadata.name"
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
"""A step of a path as errors write it: spec.ingress[0].from."""
_POLICIES = frozenset(kube.POLICY_RESOURCES.values())
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where each of Kubernetes' own workloads has its pods' template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What whoever asks says about the cluster that is in no manifest."""

    ranges: AddressRanges = field(default_factory=AddressRanges)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Namespaces that are there, and all their labels but the one of their name."""


NOTHING_MORE = Surroundings()


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
            name: networks.of_namespace(name, labels, serving, joined=self.joined)
            for name, labels in self.namespaces.items()
        }


def read(place: str, around: Surroundings = NOTHING_MORE) -> Manifests:
    """Read a directory, a file, or `-` for standard input; ManifestError says what is wrong."""
    if place == "-":
        return _read_text(place, trees.standard_input(), around)
    tree = trees.of(place)
    reader, inputs = _Reader(place, tree, around), []
    for file in tree.files:
        data = trees.contents(file)
        inputs.append(_input(tree.shown(file), data))
        if file.resolve() in tree.patches:
            reader.pass_over("patches of a kustomization")
        else:
            reader.read(tree.shown(file), data, file)
    return reader.finish(tuple(inputs))


def build(directory: str, around: Surroundings = NOTHING_MORE) -> Manifests:
    """Read what a kustomization makes; ManifestError or SnapshotError says what is wrong."""
    return _read_text(directory, kustomize.build(Path(directory)), around)


def _read_text(name: str, data: bytes, around: Surroundings) -> Manifests:
    reader = _Reader(name, trees.Tree(files=()), around)
    reader.read(name, data)
    return reader.finish((_input(name, data),))


def _input(name: str, data: bytes) -> Input:
    return Input(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an object is. The line is looked for when somebody asks."""

    file: str
    document: Document
    path: FieldPath = ()

    def below(self, path: FieldPath) -> "_Place":
        """Return the place of a field of the object."""
        return _Place(self.file, self.document, (*self.path, *path))

    def of(self, error: FieldError) -> "_Place":
        """Return the place of the field that an error begins with, if it does with one."""
        words = str(error).partition(" ")[0].rstrip(":")
        steps = (step or int(index) for step, index in _STEP.findall(words))
        return self.below(tuple(steps))

    def __str__(self) -> str:
        return f"{self.file}, line {self.document.line(self.path)}"


class _Reader:
    """Collects objects; each is named once."""

    def __init__(self, place: str, tree: trees.Tree, around: Surroundings) -> None:
        self._found = Manifests(
            source=place, namespaces={}, pods=[], nodes=[], policies=[], notes=[], inputs=()
        )
        self._tree = tree
        self._around = around
        self._workloads: list[tuple[_Place, Mapping[str, Any]]] = []
        self._templates: dict[tuple[str, str, str], Field] = {}
        self._finished: list[str] = []
        self._seen: dict[tuple[str, str, str], tuple[_Place, Mapping[str, Any]]] = {}
        self._generated: Counter[str] = Counter()
        self._passed = PassedOver(kustomizations=tuple(map(tree.shown, tree.kustomizations)))
        self._why = ""

    def pass_over(self, what: str, why: str = "") -> None:
        """Count what is no object, and keep the first reason for when nothing else is there."""
        self._passed.others[what] += 1
        self._why = self._why or why

    def read(self, name: str, data: bytes, file: Path | None = None) -> None:
        """Read every document of a file, and every item of a List."""
        chart = self._tree.chart(file) if file is not None and trees.has_actions(data) else None
        if chart is not None:
            raise ManifestError(
                f"{name} is a template of a Helm chart; render it: "
                f"helm template {chart} | audit run --manifests -"
            )
        try:
            contents = read_documents(data)
        except DocumentError as error:
            advice = "; render templates first" if trees.has_actions(data) else ""
            why = f"{name} is not YAML: {error}{advice}"
            if self._tree.root is not None and not trees.has_a_kind(data):
                self.pass_over("files that are no YAML", why)
                return
            raise ManifestError(why) from error
        for document in contents:
            self._read(name, document)

    def _read(self, name: str, document: Document) -> None:
        place, objects = _Place(name, document), False
        try:
            for path, item in items(document.value, ()):
                place = _Place(name, document, path)
                objects |= self._add(place, item)
        except FieldError as error:
            raise ManifestError(f"{place.of(error)}: {error}") from error
        twice = document.repeated() if objects else None
        if twice is not None:
            keys, line = twice
            fault_text = "is there twice; leave one of them"
            fault = validity.Fault(path=keys, text=fault_text if keys else f"a key {fault_text}")
            raise ManifestError(f"{name}, line {line}: {fault}")
        if document.value is not None and not is_object(document.value):
            what = described(document.value)
            self.pass_over(what, f"{place}: {_REASONS.get(what, 'it says no kind')}")

    def _add(self, place: _Place, item: Mapping[str, Any]) -> bool:
        """Take an object, and return whether it is one that is read."""
        root = Field(item)
        kind, version = root["kind"].required(), root["apiVersion"].text()
        if not apis.is_read(kind, version) and not workloads.makes_pods(item):
            if apis.is_processed(kind, version):
                self._passed.templates.append(place.file)
            self._passed.kinds[apis.described(kind, version)] += 1
            return False
        metadata = dict(root["metadata"].mapping())
        metadata["name"] = self._name(root["metadata"])
        if kind in apis.CLUSTER_SCOPED:
            metadata.pop("namespace", None)
        else:
            metadata["namespace"] = root["metadata"]["namespace"].text("default")
        space = str(metadata.get("namespace", ""))
        shown = f"{kind} {space}/{metadata['name']}" if space else f"{kind} {metadata['name']}"
        named = {**item, "metadata": metadata}
        key = (kind, space, metadata["name"])
        before = self._seen.setdefault(key, (place, named))
        if before[1] == named:
            if before[1] is not named:
                self._passed.repeated.append(shown)
            return True
        variants = [before, (place, named)]
        chosen = profiles.choose([variant[1] for variant in variants])
        if chosen is None:
            raise FieldError(
                f"{shown} is also in {before[0]}, and not the same; {self._how_to_choose()}"
            )
        self._seen[key] = variants[chosen]
        self._passed.profiles.append(f"{shown} ({variants[1 - chosen][0]})")
        return True

    def _take_all(self) -> None:
        """Take every object, when it is known of which there are several variants."""
        for (kind, space, name), (place, item) in self._seen.items():
            shown = f"{kind} {space}/{name}" if space else f"{kind} {name}"
            try:
                self._check(shown, place, kind, item)
                version = Field(item)["apiVersion"].text()
                if version in apis.GONE:
                    self._passed.old_versions.append(f"{shown} ({version})")
                self._take(place, kind, space, item)
            except FieldError as error:
                raise ManifestError(f"{place.of(error)}: {shown}: {error}") from error
            except _RefusedError as error:
                raise ManifestError(f"{place.below(error.fault.path)}: {error}") from error

    def _name(self, metadata: Field) -> str:
        """Return an object's name; the server would end a generated one with five characters."""
        generated = metadata["generateName"].text()
        if metadata["name"].value is not None or not generated:
            return metadata["name"].required()
        self._generated[generated] += 1
        return f"{generated}{self._generated[generated] - 1}"

    def _how_to_choose(self) -> str:
        """Say how to name one variant of several."""
        if not self._tree.kustomizations:
            return "name the directory or the file of one of them"
        places = [str(file.parent) for file in self._tree.kustomizations]
        return f"build a kustomization with audit run -k: {several(places)}"

    def _check(self, shown: str, place: _Place, kind: str, item: Mapping[str, Any]) -> None:
        """Refuse what an API server refuses, and remember fields that no one reads."""
        if kind in _POLICIES:
            faults = validity.of_policy(item, kind)
        else:
            faults = validity.of_metadata(item["metadata"], ())
            if kind in _TEMPLATES:
                metadata = Field(item)
                for step in (*_TEMPLATES[kind], "metadata"):
                    metadata = metadata[step]
                faults += validity.of_metadata(metadata.value, _TEMPLATES[kind])
            known = apis.is_published(kind) and apis.is_read(kind, Field(item)["apiVersion"].text())
            for fault in validity.unknown_fields(item, kind) if known else ():
                where = place.below(fault.path)
                self._passed.unknown_fields.append((f"{fault.field} of {shown}", where.__str__))
        if faults:
            raise _RefusedError(shown, faults)

    def _take(self, place: _Place, kind: str, space: str, item: Mapping[str, Any]) -> None:
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
        elif kind in _POLICIES:
            found.policies.append(kube.policy(item, kind))
        elif kind in networks.KINDS:
            found.networks += networks.primary(item)
        elif kind in networks.JOINING:
            found.joined = True
        else:
            self._workloads.append((place, item))
            template = workloads.template_of(item)
            if template is not None:
                self._templates[kind, space, Field(item)["metadata"]["name"].required()] = template

    def _make_pods(self) -> None:
        """Make the pods of all workloads, when what one refers to of another has been read."""
        none, cut, unknown = [], [], []
        have_pods = self._owners_of_pods()
        for place, item in self._workloads:
            try:
                if workloads.key_of(item) in have_pods or workloads.owner_of(item) in self._seen:
                    continue  # a dump of a cluster has what controllers made, too
                made = workloads.workload(item, self._templates)
            except FieldError as error:
                raise ManifestError(f"{place.of(error)}: {_name(item)}: {error}") from error
            self._found.pods += made.pods
            if not made.pods:
                none.append(_name(item))
            if made.replicas > workloads.MOST_TOLD_APART == len(made.pods):
                cut.append(_name(item))
            if not workloads.is_known(item):
                unknown.append(_name(item))
        self._found.notes += unsaid.about_workloads(none, cut, unknown, self._finished)

    def _owners_of_pods(self) -> frozenset[workloads.Key]:
        """Return the workloads of which the manifests have pods, and whose workloads these are."""
        owners = {key: workloads.owner_of(item) for key, (_, item) in self._seen.items()}
        found = set[workloads.Key]()
        for owner in (owner for key, owner in owners.items() if key[0] == "Pod"):
            above = owner
            while above is not None and above not in found:
                found.add(above)
                above = owners.get(above)
        return frozenset(found)

    def _add_surroundings(self) -> None:
        """Add what was said about the cluster to what the manifests have."""
        found = self._found
        found.ranges = self._around.ranges
        for name, labels in self._around.namespaces.items():
            if UNSAID not in found.namespaces.get(name, {UNSAID: UNSAID}):
                place, _ = self._seen["Namespace", "", name]
                raise ManifestError(
                    f"{place} has the namespace {name}, and its labels; leave out "
                    f"--namespace-labels {name}:…"
                )
            found.namespaces[name] = {**labels, _NAME_LABEL: name}

    def finish(self, inputs: tuple[Input, ...]) -> Manifests:
        """Return everything, with what was passed over."""
        found = self._found
        self._take_all()
        self._make_pods()
        self._add_surroundings()
        if not found.pods:
            told = "; ".join(note.text for note in found.notes)
            raise ManifestError(
                f"{found.source} has no Pod and no workload; without one there is nobody to ask "
                f"about{': ' if told else ''}{told}{self._instead()}{self._valid()}"
            )
        found.inputs = inputs
        found.notes += self._passed.notes()
        found.notes += unsaid.about_cluster(
            found.namespaces, found.pods, found.policies, found.places(), found.ranges
        )
        return found

    def _valid(self) -> str:
        count = len(self._found.policies)
        if not count:
            return ""
        return f"; {'its policy is' if count == 1 else f'its {count} policies are'} valid"

    def _instead(self) -> str:
        if self._tree.kustomizations:
            return f"; {self._how_to_choose()}"
        return f"; {self._why}" if self._why else ""


_REASONS = {"lists": "it is a list, not an object"}


class _RefusedError(Exception):
    """An object that an API server would not accept."""

    def __init__(self, shown: str, faults: Sequence[validity.Fault]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        colon = ":" if faults[0].path else ""
        super().__init__(f"{shown}{colon} {faults[0]}{more}; an API server refuses it")
        self.fault = faults[0]


def _name(item: Mapping[str, Any]) -> str:
    root = Field(item)
    space = root["metadata"]["namespace"].text()
    return f"{root['kind'].required()} {space}/{root['metadata']['name'].required()}"
