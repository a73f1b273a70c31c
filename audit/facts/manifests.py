"""YAML manifests, as a repository has them → the objects in them; a workload stands for its pods.

A policy that an API server would not accept is refused: what it means is not known. Everything
that is no pod, workload, namespace, node, policy or network, and leads nothing from outside to
pods, is passed over, and said to be. Nothing here was seen by an API server, so its defaults are
applied: the namespace `default`, the label `kubernetes.io/metadata.name`. What a cluster has and
manifests have not, such as the labels of a namespace that they only mention, is not guessed: who
asks may say it (Surroundings).
"""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from audit.errors import ManifestError
from audit.facts import (
    apis,
    ingress,
    kube,
    kustomize,
    networks,
    policyobjects,
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
from audit.facts.kustomize import NO_ORIGINS, Origins, origin_line
from audit.facts.networks import Described, Placed
from audit.facts.passedover import PassedOver, several
from audit.model.facts import (
    AddressRanges,
    Controller,
    Ingress,
    Input,
    Note,
    Policy,
    SourceLine,
)
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
    controller: Controller | None = None
    """The pods whose packets come by Ingress objects."""


NOTHING_MORE = Surroundings()


@dataclass(slots=True, kw_only=True)
class Manifests:
    """What the manifests hold."""

    source: str
    namespaces: dict[str, dict[str, str]]
    pods: list[kube.PodFacts]
    nodes: list[kube.NodeFacts]
    policies: list[Policy]
    notes: list[Note]
    inputs: tuple[Input, ...]
    networks: list[Described] = field(default_factory=list)
    joined: bool = False
    """Whether objects join networks that are apart otherwise."""
    ranges: AddressRanges = field(default_factory=AddressRanges)
    ingresses: list[Ingress] = field(default_factory=list)
    controller: Controller | None = None
    source_lines: dict[str, SourceLine] = field(default_factory=dict)
    """Where objects and rules are written, by their names in findings."""

    @property
    def written_namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """Those with an object of their own, and its labels; others are only mentioned."""
        return {n: labels for n, labels in self.namespaces.items() if UNSAID not in labels}

    def places(self) -> Mapping[str, Placed]:
        """Return which network the pods of each namespace are on."""
        return {
            name: networks.of_namespace(name, labels, self.networks, joined=self.joined)
            for name, labels in self.namespaces.items()
        }


def read(source: str, around: Surroundings = NOTHING_MORE) -> Manifests:
    """Read a directory, a file, or `-` for standard input; ManifestError says what is wrong."""
    reader, inputs = _reader(source, around)
    return reader.finish(inputs)


def read_policies(source: str) -> Manifests:
    """Read the policies and namespaces of a directory, a file or `-`, for a cluster that is there.

    Errors are as `read` has them, and where there is neither.
    """
    reader, inputs = _reader(source, NOTHING_MORE)
    return reader.finish_policies(inputs)


def build(directory: str, around: Surroundings = NOTHING_MORE) -> Manifests:
    """Read what a kustomization makes; ManifestError or SnapshotError says what is wrong."""
    path = Path(directory)
    reader, inputs = _text_reader(directory, kustomize.build(path), around, kustomize.origins(path))
    return reader.finish(inputs)


def _reader(source: str, around: Surroundings) -> tuple["_Reader", tuple[Input, ...]]:
    """Return what has read every file of a directory, a file or `-`, and these files."""
    if source == "-":
        return _text_reader(source, trees.standard_input(), around)
    tree = trees.of(source)
    reader, inputs = _Reader(source, tree, around), []
    for file in tree.files:
        data = trees.contents(file)
        inputs.append(_input(tree.shown(file), data))
        if file.resolve() in tree.patches:
            reader.pass_over("patches of a kustomization")
        else:
            reader.read(tree.shown(file), data, file)
    return reader, tuple(inputs)


def _text_reader(
    name: str, data: bytes, around: Surroundings, origins: Origins = NO_ORIGINS
) -> tuple["_Reader", tuple[Input, ...]]:
    reader = _Reader(name, trees.Tree(files=()), around, origins)
    reader.read(name, data)
    return reader, (_input(name, data),)


def _input(name: str, data: bytes) -> Input:
    return Input(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class _Location:
    """Where an object is. The line is looked for when somebody asks."""

    file: str
    document: Document
    path: FieldPath = ()

    def below(self, path: FieldPath) -> "_Location":
        """Return the location of a field of the object."""
        return _Location(self.file, self.document, (*self.path, *path))

    def of(self, error: FieldError) -> "_Location":
        """Return the location of the field that an error begins with, if it begins with one."""
        words = str(error).partition(" ")[0].rstrip(":")
        steps = (step or int(index) for step, index in _STEP.findall(words))
        return self.below(tuple(steps))

    def __str__(self) -> str:
        return f"{self.file}, line {self.document.line(self.path)}"


_T = TypeVar("_T")
_Key = tuple[str, str, str]
"""Kind, namespace and name."""


class _Reader:
    """Collects objects; each is named once."""

    def __init__(
        self,
        source: str,
        tree: trees.Tree,
        around: Surroundings,
        origins: Origins = NO_ORIGINS,
    ) -> None:
        self._manifests = Manifests(
            source=source, namespaces={}, pods=[], nodes=[], policies=[], notes=[], inputs=()
        )
        self._tree, self._origins = tree, origins
        self._around = around
        self._workloads: list[tuple[_Location, Mapping[str, Any]]] = []
        self._templates: dict[tuple[str, str, str], Field] = {}
        self._finished: list[str] = []
        self._seen: dict[_Key, tuple[_Location, Mapping[str, Any]]] = {}
        self._leading: dict[_Key, tuple[_Location, Mapping[str, Any]]] = {}
        """What leads from outside to pods, and the Services that it may name."""
        self._unclear: set[_Key] = set()
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
        location, objects = _Location(name, document), False
        try:
            for path, item in items(document.value, ()):
                location = _Location(name, document, path)
                objects |= self._add(location, item)
        except FieldError as error:
            raise ManifestError(f"{location.of(error)}: {error}") from error
        twice = document.repeated() if objects else None
        if twice is not None:
            keys, line = twice
            fault_text = "is there twice; leave one of them"
            fault = validity.Fault(path=keys, text=fault_text if keys else f"a key {fault_text}")
            raise ManifestError(f"{name}, line {line}: {fault}")
        if document.value is not None and not is_object(document.value):
            what = described(document.value)
            self.pass_over(what, f"{location}: {_REASONS.get(what, 'it says no kind')}")

    def _add(self, location: _Location, item: Mapping[str, Any]) -> bool:
        """Take an object, and return whether it is one that is read."""
        root = Field(item)
        kind, version = root["kind"].required(), root["apiVersion"].text()
        is_read = apis.is_read(kind, version)
        if not is_read and not workloads.makes_pods(item):
            if apis.is_processed(kind, version):
                self._passed.templates.append(location.file)
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
        leads = is_read and kind in ingress.KINDS
        seen = self._leading if leads else self._seen
        before = seen.setdefault(key, (location, named))
        if before[1] == named:
            if before[1] is not named:
                self._passed.repeated.append(shown)
            return True
        variants = [before, (location, named)]
        chosen = profiles.choose([variant[1] for variant in variants])
        if chosen is None and leads:
            self._unclear.add(key)  # only what it leads to is not known
            return True
        if chosen is None:
            raise FieldError(
                f"{shown} is also in {before[0]}, and not the same; {self._how_to_choose()}"
            )
        seen[key] = variants[chosen]
        self._passed.profiles.append(f"{shown} ({variants[1 - chosen][0]})")
        return True

    def _take_all(self) -> None:
        """Take every object, when it is known of which there are several variants."""
        for key, located in self._seen.items():
            self._taken(key, located, self._take)

    def _taken(
        self,
        key: _Key,
        located: tuple[_Location, Mapping[str, Any]],
        take: Callable[[_Location, _Key, Mapping[str, Any]], _T],
    ) -> _T:
        """Return what `take` reads of an object that an API server would accept."""
        (kind, space, name), (location, item) = key, located
        shown = f"{kind} {space}/{name}" if space else f"{kind} {name}"
        try:
            self._check(shown, location, kind, item)
            version = Field(item)["apiVersion"].text()
            if version in apis.GONE:
                self._passed.old_versions.append(f"{shown} ({version})")
            self._locate(key, location, item)
            return take(location, key, item)
        except FieldError as error:
            raise ManifestError(f"{location.of(error)}: {shown}: {error}") from error
        except _RefusedError as error:
            raise ManifestError(f"{location.below(error.fault.path)}: {error}") from error

    def _locate(self, key: _Key, location: _Location, item: Mapping[str, Any]) -> None:
        """Remember where an object is written, and where its rules are if it is a policy."""
        kind, space, name = key
        lines = self._manifests.source_lines
        subject = f"{kind.lower()} {space}/{name}" if space else f"{kind.lower()} {name}"
        file = self._tree.path(location.file)
        if file is None:
            if key in self._origins:
                lines[subject] = origin_line(self._origins[key], kind, name)
            return
        shown = trees.in_repository(file)

        def line(*path: str | int) -> SourceLine:
            below = location.below(path)
            return SourceLine(file=shown, line=below.document.quick_line(below.path))

        lines[subject] = line()
        for direction in ("ingress", "egress") if kind in _POLICIES else ():
            for index, _ in enumerate(Field(item)["spec"][direction].each()):
                lines[f"{subject} {direction}[{index}]"] = line("spec", direction, index)
        if kind == "Pod" or workloads.makes_pods(item):
            # Where it has no object of its own, what is found of a namespace is shown there.
            lines.setdefault(f"namespace {space}", lines[subject])

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

    def _check(self, shown: str, location: _Location, kind: str, item: Mapping[str, Any]) -> None:
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
            published = apis.is_published(kind, Field(item)["apiVersion"].text())
            for fault in validity.unknown_fields(item, kind) if published else ():
                where = location.below(fault.path)
                self._passed.unknown_fields.append((f"{fault.field} of {shown}", where.__str__))
        if faults:
            raise _RefusedError(shown, faults)

    def _take(self, location: _Location, key: _Key, item: Mapping[str, Any]) -> None:
        manifests, (kind, space, _) = self._manifests, key
        if space:
            manifests.namespaces.setdefault(space, {_NAME_LABEL: space, UNSAID: UNSAID})
        if kind == "Namespace":
            name, labels = kube.namespace(item)
            manifests.namespaces[name] = {**dict(labels), _NAME_LABEL: name}
        elif kind == "Node":
            manifests.nodes.append(kube.node(item))
        elif kind == "Pod":
            pod = kube.pod(item)
            if pod.phase in kube.FINISHED:
                self._finished.append(f"{pod.namespace}/{pod.name}")
            else:
                manifests.pods.append(pod)
        elif kind in _POLICIES:
            manifests.policies.append(policyobjects.policy(item, kind))
        elif kind in networks.KINDS:
            manifests.networks += networks.read(item)
        elif kind in networks.JOINING:
            manifests.joined = True
        else:
            self._workloads.append((location, item))
            template = workloads.template_of(item)
            if template is not None:
                self._templates[kind, space, Field(item)["metadata"]["name"].required()] = template

    def _make_pods(self) -> None:
        """Make the pods of all workloads, when what one refers to of another has been read."""
        none, cut, unknown = [], [], []
        have_pods = self._owners_of_pods()
        for location, item in self._workloads:
            try:
                if workloads.key_of(item) in have_pods or workloads.owner_of(item) in self._seen:
                    continue  # a dump of a cluster has what controllers made, too
                made = workloads.workload(item, self._templates)
            except FieldError as error:
                raise ManifestError(f"{location.of(error)}: {_name(item)}: {error}") from error
            self._manifests.pods += made.pods
            if not made.pods:
                none.append(_name(item))
            if made.replicas > workloads.MOST_TOLD_APART == len(made.pods):
                cut.append(_name(item))
            if not workloads.is_known(item):
                unknown.append(_name(item))
        self._manifests.notes += unsaid.about_workloads(none, cut, unknown, self._finished)

    def _owners_of_pods(self) -> frozenset[workloads.Key]:
        """Return the workloads of which the manifests have pods, and whose workloads these are."""
        owners = {key: workloads.owner_of(item) for key, (_, item) in self._seen.items()}
        with_pods = set[workloads.Key]()
        for owner in (owner for key, owner in owners.items() if key[0] == "Pod"):
            above = owner
            while above is not None and above not in with_pods:
                with_pods.add(above)
                above = owners.get(above)
        return frozenset(with_pods)

    def _follow(self) -> None:
        """Find what leads from outside to pods, when all pods are there."""
        manifests = self._manifests
        grants = [*self._read_all(("ReferenceGrant",), ingress.grant)]
        leading = [
            candidate
            for candidate in self._read_all(ingress.LEADING, ingress.read)
            if candidate is not None
        ]
        resolver = ingress.Resolver(manifests.pods, grants, functools.cache(self._service))
        manifests.ingresses = [*map(resolver.follow, leading)]
        unclear = [
            (f"{kind} {space}/{name}", _VARIANTS)
            for kind, space, name in sorted(self._unclear)
            if kind in ingress.LEADING
        ]
        manifests.notes += unsaid.about_ingress(
            manifests.ingresses,
            [*resolver.nowhere, *unclear],
            manifests.policies,
            manifests.controller,
        )

    def _read_all(
        self, kinds: Collection[str], read: Callable[[Mapping[str, Any]], _T]
    ) -> Iterator[_T]:
        """Yield what objects of some kinds say, but for those with several variants."""
        for key, located in self._leading.items():
            if key[0] in kinds and key not in self._unclear:
                yield self._taken(key, located, lambda _location, _key, item: read(item))

    def _service(self, space: str, name: str) -> ingress.Service | str | None:
        """Return a Service that something leads to; why not, or None where it is not there.

        Others are not looked at.
        """
        key = ("Service", space, name)
        if key in self._unclear:
            return _VARIANTS
        located = self._leading.get(key)
        if located is None:
            return None
        return self._taken(key, located, lambda _location, _key, item: ingress.service(item))

    def _add_surroundings(self) -> None:
        """Add what was said about the cluster to what the manifests have."""
        manifests = self._manifests
        manifests.ranges = self._around.ranges
        manifests.controller = self._around.controller
        if manifests.controller is not None:
            space = manifests.controller.namespace
            manifests.namespaces.setdefault(space, {_NAME_LABEL: space, UNSAID: UNSAID})
        for name, labels in self._around.namespaces.items():
            if name in manifests.written_namespaces:
                location, _ = self._seen["Namespace", "", name]
                raise ManifestError(
                    f"{location} has the namespace {name}, and its labels; leave out "
                    f"--namespace-labels {name}:…"
                )
            manifests.namespaces[name] = {**labels, _NAME_LABEL: name}

    def finish(self, inputs: tuple[Input, ...]) -> Manifests:
        """Return everything, with what was passed over."""
        manifests = self._manifests
        self._take_all()
        self._make_pods()
        self._add_surroundings()
        if not manifests.pods:
            reasons = "; ".join(note.text for note in manifests.notes)
            raise ManifestError(
                f"{manifests.source} has no Pod and no workload; without one there is nobody to "
                f"ask about{': ' if reasons else ''}{reasons}{self._instead()}{self._valid()}"
            )
        manifests.inputs = inputs
        self._follow()
        manifests.notes += self._passed.notes()
        manifests.notes += unsaid.about_cluster(
            manifests.namespaces,
            manifests.pods,
            manifests.policies,
            manifests.places(),
            manifests.ranges,
        )
        return manifests

    def finish_policies(self, inputs: tuple[Input, ...]) -> Manifests:
        """Return the policies and namespaces, with what was passed over: everything else, too."""
        manifests = self._manifests
        self._take_all()
        if not manifests.policies and not manifests.written_namespaces:
            raise ManifestError(
                f"{manifests.source} has no policy and no Namespace, so there is nothing to apply"
                f"{self._instead()}"
            )
        manifests.inputs = inputs
        objects = (*self._seen, *self._leading)
        others = (kind for kind, _, _ in objects if kind not in {*_POLICIES, "Namespace"})
        self._passed.kinds.update(others)
        manifests.notes += self._passed.notes()
        return manifests

    def _valid(self) -> str:
        count = len(self._manifests.policies)
        if not count:
            return ""
        return f"; {'its policy is' if count == 1 else f'its {count} policies are'} valid"

    def _instead(self) -> str:
        if self._tree.kustomizations:
            return f"; {self._how_to_choose()}"
        return f"; {self._why}" if self._why else ""


_REASONS = {"lists": "it is a list, not an object"}
_VARIANTS = "is there in several variants"


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
