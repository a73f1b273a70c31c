"""Workloads → pods, with the names and labels that their controllers give them.

Expected labels are from the controllers' documentation: Kubernetes' well-known labels, OpenShift's
DeploymentConfig, Argo Rollouts, KubeVirt.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.errors import SnapshotError
from audit.facts import manifests
from audit.facts.manifests import Manifests

Object = Mapping[str, Any]
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "w"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
UIDS = {"controller-uid": "?", "batch.kubernetes.io/controller-uid": "?"}


def read(tmp_path: Path, *objects: Object) -> Manifests:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(json.loads(json.dumps(objects))))
    return manifests.read(str(tmp_path))


def made(kind: str, **spec: Any) -> Object:
    return {"kind": kind, "metadata": {"name": "w", "namespace": "a"}, "spec": spec}


def job_names(name: str) -> dict[str, str]:
    return {"job-name": name, "batch.kubernetes.io/job-name": name}


def numbered(number: int) -> dict[str, str]:
    return {
        "statefulset.kubernetes.io/pod-name": f"w-{number}",
        "apps.kubernetes.io/pod-index": str(number),
        "controller-revision-hash": "?",
    }


@pytest.mark.parametrize(
    ("item", "added"),
    [
        (made("Deployment", template=TEMPLATE), {"w-0": {"pod-template-hash": "?"}}),
        (made("ReplicaSet", replicas=2, template=TEMPLATE), {"w-0": {}, "w-1": {}}),
        (made("ReplicationController", replicas=9, template=TEMPLATE), {"w-0": {}, "w-1": {}}),
        (
            made("StatefulSet", replicas=3, template=TEMPLATE),
            {f"w-{n}": numbered(n) for n in range(3)},
        ),
        (
            made("StatefulSet", replicas=2, ordinals={"start": 5}, template=TEMPLATE),
            {"w-5": numbered(5), "w-6": numbered(6)},
        ),
        (made("Job", template=TEMPLATE), {"w-0": {**job_names("w"), **UIDS}}),
        (made("Job", manualSelector=True, template=TEMPLATE), {"w-0": {}}),
        (
            made("Job", completionMode="Indexed", completions=2, template=TEMPLATE),
            {
                f"w-{n}": {
                    **job_names("w"),
                    **UIDS,
                    "batch.kubernetes.io/job-completion-index": str(n),
                }
                for n in range(2)
            },
        ),
        (
            made("CronJob", jobTemplate={"spec": {"template": TEMPLATE}}),
            {"w-0": {**job_names("w-?"), **UIDS}},
        ),
        (
            made("DeploymentConfig", template=TEMPLATE),
            {"w-0": {"deploymentconfig": "w", "deployment": "w-?"}},
        ),
        (made("Rollout", template=TEMPLATE), {"w-0": {"rollouts-pod-template-hash": "?"}}),
        (
            {**made("PodTemplate"), "template": TEMPLATE},
            {"w-0": {}},
        ),
        (
            made("LeaderSet", replicas=2, podTemplate=TEMPLATE),
            {"w-0": {"?": "?"}, "w-1": {"?": "?"}},
        ),
        (
            made("JobSet", jobs=[{"template": {"spec": {"template": TEMPLATE}}}] * 2),
            {"w-0-0": {"?": "?"}, "w-1-0": {"?": "?"}},
        ),
    ],
    ids=lambda value: value.get("kind", ""),
)
def test_names_and_labels(tmp_path: Path, item: Object, added: dict[str, dict[str, str]]) -> None:
    found = read(tmp_path, item)
    assert {pod.name: dict(pod.labels) for pod in found.pods} == {
        name: {"app": "w", **labels} for name, labels in added.items()
    }
    assert {pod.workload for pod in found.pods} == {f"{item['kind']}/w"}


@pytest.mark.parametrize("kind", ["VirtualMachine", "VirtualMachineInstance"])
def test_virtual_machines(tmp_path: Path, kind: str) -> None:
    port = {"name": "ssh", "port": 22}
    spec = {"domain": {"devices": {"interfaces": [{"name": "default", "ports": [port]}]}}}
    labels = {"labels": {"app": "w"}}
    item = dict(made(kind, **spec))
    if kind == "VirtualMachine":
        item["spec"] = {"runStrategy": "Always", "template": {"metadata": labels, "spec": spec}}
    else:
        item["metadata"] = {**item["metadata"], **labels}
    [pod] = read(tmp_path, item).pods
    assert dict(pod.labels) == {
        "app": "w",
        "kubevirt.io": "virt-launcher",
        "kubevirt.io/created-by": "?",
        "vm.kubevirt.io/name": "w",
    }
    assert [(own.name, own.port.number) for own in pod.declared] == [("ssh", 22)]


@pytest.mark.parametrize(
    "item",
    [
        made("Deployment", replicas=0, template=TEMPLATE),
        made("StatefulSet", replicas=0, template=TEMPLATE),
        made("Job", suspend=True, template=TEMPLATE),
        made("CronJob", suspend=True, jobTemplate={"spec": {"template": TEMPLATE}}),
        made("VirtualMachine", running=False, template=TEMPLATE),
        made("VirtualMachine", runStrategy="Halted", template=TEMPLATE),
        made("Rollout", workloadRef={"kind": "Deployment", "name": "elsewhere"}),
    ],
    ids=lambda item: item["kind"],
)
def test_workloads_that_make_no_pod_are_named(tmp_path: Path, item: Object) -> None:
    other = {**made("ReplicaSet", template=TEMPLATE), "metadata": {"name": "o", "namespace": "a"}}
    found = read(tmp_path, item, other)
    assert [pod.name for pod in found.pods] == ["o-0"]
    [note] = found.notes
    assert (note.code, note.subjects) == ("workload-without-pods", (f"{item['kind']} a/w",))
    with pytest.raises(SnapshotError, match="nobody to ask about: 1 workload makes no pod"):
        read(tmp_path, item)


def test_a_rollout_of_another_workloads_template(tmp_path: Path) -> None:
    deployment = {
        **made("Deployment", replicas=0, template=TEMPLATE),
        "metadata": {"name": "d", "namespace": "a"},
    }
    rollout = made("Rollout", replicas=2, workloadRef={"kind": "Deployment", "name": "d"})
    found = read(tmp_path, rollout, deployment)
    assert [pod.name for pod in found.pods] == ["w-0", "w-1"]
    assert dict(found.pods[0].labels)["app"] == "w"


def test_completed_pods_are_left_out(tmp_path: Path) -> None:
    pods = [
        {
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": []},
            "status": {"phase": phase},
        }
        for name, phase in (("one", "Running"), ("two", "Succeeded"), ("three", "Failed"))
    ]
    found = read(tmp_path, *pods)
    assert [pod.name for pod in found.pods] == ["one"]
    [note] = found.notes
    assert (note.code, note.subjects) == ("pod-not-running", ("default/three", "default/two"))


def test_very_many_replicas_are_cut_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, made("StatefulSet", replicas=2_000_000_000, template=TEMPLATE))
    assert len(found.pods) == 1_000
    assert [note.code for note in found.notes] == ["replicas-left-out"]


def test_a_name_stands_for_the_first_port_that_has_it(tmp_path: Path) -> None:
    containers: list[Object] = [
        {"name": "a", "image": "i", "ports": [{"name": "http", "containerPort": 8081}]},
        {"name": "b", "image": "i", "ports": [{"name": "http", "containerPort": 80}]},
    ]
    item = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
    [pod] = read(tmp_path, item).pods
    assert [(own.name, own.port.number) for own in pod.declared] == [("", 80), ("http", 8081)]


def test_what_only_looks_like_a_template_is_no_workload(tmp_path: Path) -> None:
    pattern = made("ClusterPolicy", rules=[{"validate": {"pattern": TEMPLATE}}])
    bare = made("Prometheus", containers=TEMPLATE["spec"]["containers"])
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}
    assert [pod.name for pod in read(tmp_path, pattern, bare, pod).pods] == ["p"]


def test_a_kind_of_another_group_has_another_controller(tmp_path: Path) -> None:
    volcano = {
        **made("Job", tasks=[{"replicas": 2, "template": TEMPLATE}]),
        "apiVersion": "batch.volcano.sh/v1alpha1",
    }
    found = read(tmp_path, volcano)
    assert [(pod.name, dict(pod.labels)) for pod in found.pods] == [
        (f"w-{number}", {"app": "w", "?": "?"}) for number in range(2)
    ]
    assert [note.code for note in found.notes] == ["workload-unknown"]
    ours = {**made("Job", template=TEMPLATE), "apiVersion": "batch/v1"}
    [pod] = read(tmp_path, ours).pods
    assert dict(pod.labels)["job-name"] == "w"


def owned(kind: str, name: str, owner: tuple[str, str], **more: Any) -> dict[str, Any]:
    named = {"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "uid": "1"}
    reference = {**named, "controller": True}
    return {
        "kind": kind,
        "apiVersion": "v1" if kind == "Pod" else "apps/v1",
        "metadata": {"name": name, "namespace": "a", "ownerReferences": [reference]},
        **more,
    }


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_of_a_dump_of_a_cluster_its_pods_are_read_and_none_are_made_up(
    tmp_path: Path, phase: str
) -> None:
    deployment = made("Deployment", template=TEMPLATE)
    replicas = owned("ReplicaSet", "w-7", ("Deployment", "w"), spec={"template": TEMPLATE})
    pod = owned("Pod", "w-7-x", ("ReplicaSet", "w-7"), spec=TEMPLATE["spec"])
    metadata = {"name": "s", "namespace": "a"}
    other = {**made("StatefulSet", template=TEMPLATE), "metadata": metadata}
    found = read(tmp_path, deployment, other, replicas, pod | {"status": {"phase": phase}})
    running = ["w-7-x"] if phase == "Running" else []
    assert sorted(p.name for p in found.pods) == ["s-0", *running]
    without = read(tmp_path, deployment, replicas)
    assert [p.name for p in without.pods] == ["w-0"]


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("spec.replicas", {"replicas": -1}),
        ("spec.ordinals.start", {"ordinals": {"start": -2}}),
    ],
)
def test_a_number_of_pods_is_not_negative(tmp_path: Path, field: str, spec: dict[str, Any]) -> None:
    with pytest.raises(SnapshotError, match=rf"{field} is -\d, less than 0"):
        read(tmp_path, made("StatefulSet", template=TEMPLATE, **spec))
