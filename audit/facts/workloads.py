"""Workloads → the pods that their controllers make of them, as far as the object says. Pure.

A controller gives its pods labels that are in no manifest, and policies select by them. Where the
value is made up when the pod is, such as a hash or a uid, it is written with `UNSAID` at its end.
Of replicas that no label tells apart two stand for all: so that what they may do with each other
shows too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.facts import kube
from audit.facts.fields import Field, FieldError
from audit.model.selectors import UNSAID

MOST_TOLD_APART = 1_000
"""Replicas with labels of their own that are made of one workload: more are a note."""
_REPRESENTATIVES = 2

Labels = dict[str, str]
Templates = Mapping[tuple[str, str, str], Field]
"""Pod templates of workloads by kind, namespace and name, for those that refer to another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Pods of one workload: how many its controller makes, and how many of them stand for all."""

    pods: tuple[kube.PodFacts, ...]
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a controller makes: so many pods from a template, numbered from `first`."""

    template: Field
    count: int
    labels: Callable[[int], Labels] = field(default=lambda _number: {})
    """The labels it adds to a replica, by its number."""
    told_apart: bool = False
    """Whether these labels are another replica's."""
    first: int = 0
    name: str = ""


def template_of(item: kube.Object) -> Field | None:
    """Return the template that other workloads may refer to; None for what has none there."""
    template = Field(item)["spec"]["template"]
    return template if isinstance(template.value, dict) else None


Key = tuple[str, str, str]
"""What an object is called: its kind, namespace and name."""


def key_of(item: kube.Object) -> Key:
    """Return what a workload is called."""
    root = Field(item)
    metadata = root["metadata"]
    return root["kind"].required(), metadata["namespace"].text(), metadata["name"].required()


def owner_of(item: kube.Object) -> Key | None:
    """Return the object whose controller made this one, as a cluster says it; None for none."""
    metadata = Field(item)["metadata"]
    for reference in metadata["ownerReferences"].each():
        if reference["controller"].flag():
            name = reference["name"].required()
            return reference["kind"].required(), metadata["namespace"].text(), name
    return None


def makes_pods(item: kube.Object) -> bool:
    """Tell whether an object is a workload: of a kind known here, or one that holds a template."""
    return is_known(item) or any(_templates(Field(item)["spec"]))


def is_known(item: kube.Object) -> bool:
    """Tell whether it is known how the controller of a workload names and labels its pods.

    Other API groups have kinds of the same names, with other controllers.
    """
    root = Field(item)
    group, slash, _ = root["apiVersion"].text().rpartition("/")
    kind = root["kind"].text()
    return kind in _CONTROLLERS and (not slash or group in _GROUPS[kind])


def workload(item: kube.Object, templates: Templates) -> Workload:
    """Return the pods of a workload; FieldError where it is not what its kind should be."""
    root = Field(item)
    makers = _CONTROLLERS[root["kind"].required()] if is_known(item) else _unknown_kind
    pods, replicas = list[kube.PodFacts](), 0
    for made in makers(root, templates):
        replicas += made.count
        most = min(made.count, MOST_TOLD_APART if made.told_apart else _REPRESENTATIVES)
        pods += [_pod(root, made, made.first + number) for number in range(most)]
    return Workload(pods=tuple(pods), replicas=replicas)


def _pod(root: Field, made: _Made, number: int) -> kube.PodFacts:
    metadata, name = made.template["metadata"], root["metadata"]["name"].required()
    owner = {"controller": True, "kind": root["kind"].required(), "name": name}
    return kube.pod(
        {
            "metadata": {
                "namespace": root["metadata"]["namespace"].required(),
                "name": f"{made.name or name}-{number}",
                "labels": {**metadata["labels"].texts(), **made.labels(number)},
                "annotations": dict(metadata["annotations"].texts()),
                "ownerReferences": [owner],
            },
            "spec": _pod_spec(made.template["spec"]),
        }
    )


def _pod_spec(spec: Field) -> dict[str, Any]:
    """Return a template's spec as a pod's; a virtual machine's ports are those of its interfaces.

    KubeVirt gives the launcher's container the ports that the interfaces list.
    """
    if spec["domain"].value is None:
        return dict(spec.mapping())
    ports = [
        {**port.mapping(), "containerPort": port["port"].value}
        for interface in spec["domain"]["devices"]["interfaces"].each()
        for port in interface["ports"].each()
    ]
    return {"containers": [{"name": "compute", "ports": ports}]}


def _replicas(spec: Field, key: str = "replicas") -> int:
    return _count(spec[key], 1)


def _count(field: Field, default: int) -> int:
    """Return a number of pods, or of one; FieldError where it is none."""
    if field.value is None:
        return default
    number = field.number()
    if number < 0:
        raise FieldError(f"{field.path} is {number}, less than 0")
    return number


def _same(labels: Mapping[str, str]) -> Callable[[int], Labels]:
    return lambda _number: dict(labels)


def _from_template(*labels: str) -> Callable[[Field, Templates], Iterator[_Made]]:
    """Return how a kind makes pods of `spec.template` and adds these labels, of unknown values."""

    def made(root: Field, _templates: Templates) -> Iterator[_Made]:
        spec = root["spec"]
        added = _same(dict.fromkeys(labels, UNSAID))
        yield _Made(template=spec["template"], count=_replicas(spec), labels=added)

    return made


def _daemon_set(root: Field, _templates: Templates) -> Iterator[_Made]:
    added = dict.fromkeys(("controller-revision-hash", "pod-template-generation"), UNSAID)
    # One a node, and how many nodes there are no manifest says.
    yield _Made(template=root["spec"]["template"], count=_REPRESENTATIVES, labels=_same(added))


def _stateful_set(root: Field, _templates: Templates) -> Iterator[_Made]:
    spec, name = root["spec"], root["metadata"]["name"].required()

    def labels(number: int) -> Labels:
        return {
            "statefulset.kubernetes.io/pod-name": f"{name}-{number}",
            "apps.kubernetes.io/pod-index": str(number),
            "controller-revision-hash": UNSAID,
        }

    yield _Made(
        template=spec["template"],
        count=_replicas(spec),
        labels=labels,
        told_apart=True,
        first=_count(spec["ordinals"]["start"], 0),
    )


def _job(root: Field, _templates: Templates) -> Iterator[_Made]:
    yield _made_by_job(root["spec"], root["metadata"]["name"].required())


def _cron_job(root: Field, _templates: Templates) -> Iterator[_Made]:
    # Each run is a Job of its own, named for its time.
    job = root["spec"]["jobTemplate"]["spec"]
    suspended = root["spec"]["suspend"].flag()
    yield _made_by_job(job, f"{root['metadata']['name'].required()}-{UNSAID}", none=suspended)


def _made_by_job(spec: Field, name: str, *, none: bool = False) -> _Made:
    """Return what a Job makes: `none` where nobody starts it."""
    parallel = _replicas(spec, "parallelism")
    indexed = spec["completionMode"].text() == "Indexed"
    completions = _replicas(spec, "completions") if spec["completions"].value is not None else None
    count = parallel if completions is None else min(parallel, completions)
    if indexed and parallel and completions is not None:
        count = completions
    added: Labels = {}
    if not spec["manualSelector"].flag():
        for prefix in ("batch.kubernetes.io/", ""):
            added |= {f"{prefix}job-name": name, f"{prefix}controller-uid": UNSAID}

    def labels(number: int) -> Labels:
        index = {"batch.kubernetes.io/job-completion-index": str(number)} if indexed else {}
        return {**added, **index}

    return _Made(
        template=spec["template"],
        count=0 if none or spec["suspend"].flag() else count,
        labels=labels,
        told_apart=indexed,
    )


def _deployment_config(root: Field, _templates: Templates) -> Iterator[_Made]:
    spec, name = root["spec"], root["metadata"]["name"].required()
    added = {"deploymentconfig": name, "deployment": f"{name}-{UNSAID}"}
    yield _Made(template=spec["template"], count=_replicas(spec), labels=_same(added))


def _rollout(root: Field, templates: Templates) -> Iterator[_Made]:
    """Yield what an Argo Rollout makes, of its own template or of the workload it refers to."""
    spec, reference = root["spec"], root["spec"]["workloadRef"]
    template: Field | None = spec["template"]
    if reference.value is not None:
        kind, name = reference["kind"].required(), reference["name"].required()
        template = templates.get((kind, root["metadata"]["namespace"].required(), name))
    added = _same({"rollouts-pod-template-hash": UNSAID})
    if template is not None:
        yield _Made(template=template, count=_replicas(spec), labels=added)


def _pod_template(root: Field, _templates: Templates) -> Iterator[_Made]:
    yield _Made(template=root["template"], count=1)


def _launcher(name: str) -> Labels:
    """Return the labels of the pod that runs a virtual machine."""
    return {
        "kubevirt.io": "virt-launcher",
        "kubevirt.io/created-by": UNSAID,
        "vm.kubevirt.io/name": name,
    }


def _virtual_machine(root: Field, _templates: Templates) -> Iterator[_Made]:
    spec, name = root["spec"], root["metadata"]["name"].required()
    halted = spec["runStrategy"].text() == "Halted" or not spec["running"].flag(default=True)
    labels = _same(_launcher(name))
    yield _Made(template=spec["template"], count=0 if halted else 1, labels=labels)


def _machine_instance(root: Field, _templates: Templates) -> Iterator[_Made]:
    yield _Made(
        template=root, count=1, labels=_same(_launcher(root["metadata"]["name"].required()))
    )


def _machine_replicas(*path: str) -> Callable[[Field, Templates], Iterator[_Made]]:
    """Return how a kind makes several virtual machines of the template at `path`."""

    def made(root: Field, _templates: Templates) -> Iterator[_Made]:
        template, name = root["spec"], root["metadata"]["name"].required()
        for step in path:
            template = template[step]
        labels = _same(_launcher(f"{name}{UNSAID}"))
        yield _Made(template=template, count=_replicas(root["spec"]), labels=labels)

    return made


_CONTROLLERS: Mapping[str, Callable[[Field, Templates], Iterator[_Made]]] = {
    "CronJob": _cron_job,
    "DaemonSet": _daemon_set,
    "Deployment": _from_template("pod-template-hash"),
    "DeploymentConfig": _deployment_config,
    "Job": _job,
    "PodTemplate": _pod_template,
    "ReplicaSet": _from_template(),
    "ReplicationController": _from_template(),
    "Rollout": _rollout,
    "StatefulSet": _stateful_set,
    "VirtualMachine": _virtual_machine,
    "VirtualMachineInstance": _machine_instance,
    "VirtualMachineInstanceReplicaSet": _machine_replicas("template"),
    "VirtualMachinePool": _machine_replicas("virtualMachineTemplate", "spec", "template"),
}


_APPS, _KUBEVIRT = frozenset({"apps", "extensions"}), frozenset({"kubevirt.io"})
_GROUPS: Mapping[str, frozenset[str]] = {
    "CronJob": frozenset({"batch"}),
    "DaemonSet": _APPS,
    "Deployment": _APPS,
    "DeploymentConfig": frozenset({"apps.openshift.io"}),
    "Job": frozenset({"batch"}),
    "PodTemplate": frozenset(),
    "ReplicaSet": _APPS,
    "ReplicationController": frozenset(),
    "Rollout": frozenset({"argoproj.io"}),
    "StatefulSet": _APPS,
    "VirtualMachine": _KUBEVIRT,
    "VirtualMachineInstance": _KUBEVIRT,
    "VirtualMachineInstanceReplicaSet": _KUBEVIRT,
    "VirtualMachinePool": frozenset({"pool.kubevirt.io"}),
}
"""The API groups of each kind; the core group has no name."""


def _unknown_kind(root: Field, _known: Templates) -> Iterator[_Made]:
    """Yield a pod for each template in an object of a kind that is not known here.

    What labels its controller adds is not known either.
    """
    templates = [*_templates(root["spec"])]
    name = root["metadata"]["name"].required()
    for number, (template, holder) in enumerate(templates):
        replicas = holder["replicas"].value
        yield _Made(
            template=template,
            count=replicas if isinstance(replicas, int) else 1,
            labels=_same({UNSAID: UNSAID}),
            name=name if len(templates) == 1 else f"{name}-{number}",
        )


def _templates(spec: Field) -> Iterator[tuple[Field, Field]]:
    """Yield every pod template below a field, with what holds it."""
    stack, seen = [spec], set[int]()
    while stack:
        holder = stack.pop()
        # What YAML repeats by an alias is looked at once.
        if id(holder.value) in seen:
            continue
        seen.add(id(holder.value))
        if isinstance(holder.value, list):
            stack += reversed([*holder.each()])
        elif isinstance(holder.value, dict):
            for key in (key for key in holder.value if isinstance(key, str)):
                member = holder[key]
                if key.lower().endswith("template") and _is_template(member):
                    yield member, holder
                else:
                    stack.append(member)


def _is_template(member: Field) -> bool:
    """Tell whether this is a template with containers, each with an image."""
    spec = member.value.get("spec") if isinstance(member.value, dict) else None
    containers = spec.get("containers") if isinstance(spec, dict) else None
    if not isinstance(containers, list) or not containers:
        return False
    # A name is not asked for: some controllers give a lone container one, as Knative's does.
    return all(isinstance(c, dict) and "image" in c for c in containers)
