"""Manifests as repositories have them: what stands for what, and what is refused."""

import io
import json
from pathlib import Path

import pytest

from audit.errors import SnapshotError
from audit.facts import manifests, objects

POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}"

BROKEN = "{kind: NetworkPolicy, metadata: {name: n}, spec: {ingress: 3}}"


def write(directory: Path, **files: str) -> str:
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    return str(directory)


def workload(kind: str, name: str, **spec: object) -> str:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": []}}
    whole = {"spec": {**spec, "template": template}}
    body = {"jobTemplate": whole} if kind == "CronJob" else whole["spec"]
    return json.dumps({"kind": kind, "metadata": {"name": name}, "spec": body})


@pytest.mark.parametrize(
    ("kind", "spec", "pods"),
    [
        ("Deployment", {"replicas": 3}, ["w-0", "w-1"]),
        ("Deployment", {"replicas": 1}, ["w-0"]),
        ("Deployment", {}, ["w-0"]),
        ("StatefulSet", {"replicas": 2}, ["w-0", "w-1"]),
        ("DaemonSet", {}, ["w-0", "w-1"]),
        ("Job", {"parallelism": 4}, ["w-0", "w-1"]),
        ("Job", {}, ["w-0"]),
        ("CronJob", {}, ["w-0"]),
        ("ReplicaSet", {}, ["w-0"]),
    ],
)
def test_a_workload_stands_for_its_pods(
    tmp_path: Path, kind: str, spec: dict[str, object], pods: list[str]
) -> None:
    state = objects.load_manifests(manifests.read(write(tmp_path, w=workload(kind, "w", **spec))))
    assert [pod.name for pod in state.pods] == pods
    assert {pod.workload for pod in state.pods} == {f"{kind}/w"}
    assert {pod.namespace for pod in state.pods} == {"default"}
    assert {dict(pod.labels)["app"] for pod in state.pods} == {"w"}


def test_namespaces_have_the_label_the_server_gives_them(tmp_path: Path) -> None:
    named = "{kind: Namespace, metadata: {name: shop, labels: {team: web}}}"
    state = objects.load_manifests(manifests.read(write(tmp_path, a=POD, b=named)))
    assert dict(state.namespaces) == {
        # Nothing says which other labels it has.
        "default": (("?", "?"), ("kubernetes.io/metadata.name", "default")),
        "shop": (("kubernetes.io/metadata.name", "shop"), ("team", "web")),
    }


def test_lists_several_documents_and_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    other = POD.replace("name: p", "name: q")
    passed_over = "{kind: Secret, metadata: {name: s}}"
    text = f"---\n{{kind: List, items: [{POD}, {other}]}}\n---\n---\n{passed_over}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    read = manifests.read("-")
    assert [pod.name for pod in read.pods] == ["p", "q"]
    assert [note.text for note in read.notes] == [
        "objects of other kinds were passed over: Secret (1)"
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a": "{{ .Values.x }}"}, "a.yaml is not YAML: "),
        ({"a": "a: ["}, "render templates first"),
        ({"a": POD, "b": POD}, "b.yaml, document 1: Pod default/p is there twice, first in a.yaml"),
        ({"a": "- x"}, "it is a list, not an object"),
        ({"a": "{kind: Pod}"}, "metadata.name is missing"),
        ({"a": "{kind: Secret, metadata: {name: s}}"}, "has no Pod and no workload"),
        ({}, "has no file that ends in .yaml, .yml or .json"),
        (
            {"a": f"{POD}\n---\n{BROKEN}"},
            "a.yaml, document 2: spec.ingress is a number, not a list",
        ),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(SnapshotError) as caught:
        manifests.read(write(tmp_path, **files))
    assert said in str(caught.value)
