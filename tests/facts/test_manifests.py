"""Manifests as repositories have them: what stands for what, and what is refused."""

import csv
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.errors import ExitCode, ManifestError, SnapshotError
from audit.facts import manifests, objects
from audit.model.facts import Note
from tests.archives import extract

DATA = Path(__file__).resolve().parent.parent / "data"
POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}"
NETWORK_POLICY = "apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}"
BROKEN = f"{{{NETWORK_POLICY}, spec: {{ingress: 3}}}}"


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
        ({"a": "a: [{{ x"}, "render templates first"),
        (
            {"a": POD, "b": POD.replace("spec", "status: {}, spec")},
            "b.yaml, line 1: Pod default/p is also in a.yaml, line 1, and not the same; name the",
        ),
        ({"a": "- x"}, "a.yaml, line 1: it is a list, not an object"),
        ({"a": f"- {POD}"}, "a.yaml, line 1: this is a list of objects; make it the items of"),
        ({"a": "{kind: Pod}"}, "metadata.name is missing"),
        ({"a": "{apiVersion: v1, metadata: {name: p}}"}, "a.yaml, line 1: kind is missing"),
        ({"a": "kind: pod\nmetadata: {name: p}"}, "kind is pod, which is written Pod"),
        (
            {"a": f"{POD}\n---\nkind: x\na: b: c"},
            "a.yaml is not YAML: mapping values are not allowed in this context at line 4, column",
        ),
        (
            {"a": "{kind: NetworkPolicy, metadata: {name: p}}"},
            "apiVersion is missing; of a NetworkPolicy it is networking.k8s.io/v1",
        ),
        (
            {"a": f"{{{NETWORK_POLICY}}}".replace("io/v1", "io/v2")},
            "apiVersion is networking.k8s.io/v2, not networking.k8s.io/v1",
        ),
        (
            {"a": f"{{{NETWORK_POLICY}}}".replace("networking.k8s.io/v1", "v1")},
            "apiVersion is v1, not networking.k8s.io/v1",
        ),
        (
            {"a": workload("Deployment", "w").replace("{", '{"apiVersion": "v1", ', 1)},
            "apiVersion is v1, not apps/v1",
        ),
        (
            {"a": f"kind: List\nitems:\n- {POD}\n- kind: Pod\n  metadata:\n    name: P\n"},
            "a.yaml, line 6: Pod default/P: metadata.name is 'P', not a DNS subdomain; an API",
        ),
        (
            {"a": "kind: Pod\nmetadata:\n  name: p\n  labels:\n    a: b\n    a: c\n"},
            "a.yaml, line 6: metadata.labels.a is there twice; leave one of them",
        ),
        ({"a": "{kind: Secret, metadata: {name: s}}"}, "has no Pod and no workload"),
        ({}, "has no file that ends in .yaml, .yml or .json"),
        (
            {"a": f"{POD}\n---\n{BROKEN}"},
            "a.yaml, line 3: NetworkPolicy default/n: spec.ingress is 3, not a list; an API server",
        ),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(SnapshotError) as caught:
        manifests.read(write(tmp_path, **files))
    assert said in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("manifests")
    with tarfile.open(DATA / "manifests" / "refused-and-shapes.tar.xz") as archive:
        extract(archive, place)
    return place


def rows() -> Iterator[tuple[str, str]]:
    with tarfile.open(DATA / "manifests" / "refused-and-shapes.tar.xz") as archive:
        content = archive.extractfile("right.csv")
        assert content is not None
        for row in csv.DictReader(io.TextIOWrapper(content)):
            yield row["file"], row["right"]


@pytest.mark.parametrize(("file", "right"), [*rows()])
def test_what_no_server_accepts_is_refused_and_what_is_anothers_is_noted(
    cases: Path, file: str, right: str
) -> None:
    """A misspelt key, `warn`, is refused as kubectl refuses it: no note could mend the verdict."""
    if "note" in right:
        [note] = manifests.read(str(cases / file)).notes
        assert note.code == "kinds-passed-over"
        assert "NetworkPolicy" in note.text
        return
    with pytest.raises(ManifestError, match=rf"{file}, line \d+: \w+ .*; an API server refuses it"):
        manifests.read(str(cases / file))


@pytest.mark.parametrize(
    ("shape", "pods", "noted"),
    [
        ("kustomization", {"cli-0", "srv-0"}, {"files-passed-over", "kustomizations-not-built"}),
        ("values", {"cli-0", "srv-0"}, {"files-passed-over"}),
        ("patch", {"cli-0", "srv-0"}, {"files-passed-over"}),
        ("packagejson", {"cli-0", "srv-0"}, {"files-passed-over"}),
        ("wf", {"cli-0", "srv-0"}, {"files-passed-over"}),
        ("typedlist", {"cli-0", "srv-0"}, set()),
        ("equals", {"cli-0", "srv-0"}, {"kinds-passed-over"}),
        ("jsonl", {"cli-0", "srv-0", "p", "q"}, set()),
        ("nested", {"cli-0", "srv-0", "p"}, set()),
    ],
)
def test_what_people_have_in_a_directory_is_read(
    cases: Path, shape: str, pods: set[str], noted: set[str]
) -> None:
    found = manifests.read(str(cases / "shapes" / shape))
    assert {pod.name for pod in found.pods} == pods
    assert {note.code for note in found.notes} == noted


def notes(directory: Path, **files: str) -> list[Note]:
    return manifests.read(write(directory, p=POD, **files)).notes


def test_typed_lists_give_their_items_a_kind(tmp_path: Path) -> None:
    listed = "{kind: NamespaceList, apiVersion: v1, items: [{metadata: {name: x, labels: {a: b}}}]}"
    found = manifests.read(write(tmp_path, a=POD, b=listed))
    assert found.namespaces["x"] == {"kubernetes.io/metadata.name": "x", "a": "b"}


def test_what_is_no_object_is_counted_by_kind(tmp_path: Path) -> None:
    files = {"a": "x: 1", "b": "x: !Ref y", "c": "- op: add", "d": "# of some kind\n{{ template }}"}
    [note] = notes(tmp_path, **files)
    assert note.text == (
        "what is no object was passed over: documents without a kind (2), files that are no YAML "
        "(1), lists (1)"
    )


def test_a_file_that_is_no_yaml_and_may_hold_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a\.yaml is not YAML"):
        notes(tmp_path, a="kind: NetworkPolicy\nspec: {{ .Values.x }}")


def test_the_same_object_twice_is_one(tmp_path: Path) -> None:
    found = manifests.read(write(tmp_path, a=POD, b=POD))
    assert [pod.name for pod in found.pods] == ["p"]
    assert [note.text for note in found.notes] == [
        "objects that are there twice were taken once: Pod default/p"
    ]


def test_variants_of_an_object_are_not_chosen_from(tmp_path: Path) -> None:
    variant = POD.replace("containers", "hostNetwork: true, containers")
    with pytest.raises(ManifestError, match="name the directory or the file of one of them"):
        manifests.read(write(tmp_path, base=POD, overlay=variant))
    (tmp_path / "kustomization.yaml").write_text("resources: [base.yaml]")
    with pytest.raises(ManifestError, match=f"build a kustomization with audit run -k: {tmp_path}"):
        manifests.read(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "version", "meant"),
    [
        ("NetworkPolcy", "networking.k8s.io/v1", "NetworkPolicy"),
        ("NetworkPolicies", "networking.k8s.io/v1", "NetworkPolicy"),
        ("Deploymnet", "apps/v1", "Deployment"),
        ("AdminNetworkPolice", "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
        ("Pods", "v1", "Pod"),
    ],
)
def test_a_misspelt_kind_is_refused(tmp_path: Path, kind: str, version: str, meant: str) -> None:
    text = f"{{kind: {kind}, apiVersion: {version}, metadata: {{name: n}}}}"
    with pytest.raises(ManifestError, match=f"has no kind {kind}; did you mean {meant}?"):
        manifests.read(write(tmp_path, p=POD, a=text))
    other = text.replace(version, "example.org/v1")
    [note] = notes(tmp_path, a=other)
    assert kind in note.text


@pytest.mark.parametrize(
    ("policy", "line", "fault"),
    [
        (
            (
                "kind: EgressFirewall\napiVersion: k8s.ovn.org/v1\nmetadata: {name: default}\n"
                "spec:\n"
                "  egress:\n  - type: Deny\n    to:\n      cidrSelector: nonsense"
            ),
            8,
            "EgressFirewall default/default: spec.egress[0].to.cidrSelector is 'nonsense'",
        ),
        (
            "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n  name: 12",
            4,
            "metadata.name is a number",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_the_line_of_the_field(
    tmp_path: Path, policy: str, line: int, fault: str
) -> None:
    with pytest.raises(ManifestError, match=re.escape(f"a.yaml, line {line}: {fault}")):
        manifests.read(write(tmp_path, a=policy, p=POD))


@pytest.mark.parametrize(
    "template",
    ["{{ if .Values.x }}\nkind: Pod\n{{ end }}", POD.replace("name: p", "name: '{{ x }}'")],
)
def test_a_template_of_a_chart_is_refused_with_what_renders_it(
    tmp_path: Path, template: str
) -> None:
    chart = tmp_path / "charts" / "shop"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: shop")
    (chart / "templates" / "plain.yaml").write_text(POD)
    assert [pod.name for pod in manifests.read(str(tmp_path)).pods] == ["p"]
    (chart / "templates" / "web.yaml").write_text(template)
    with pytest.raises(ManifestError, match=rf"render it: helm template {chart} \| audit run"):
        manifests.read(str(tmp_path))


def test_templates_of_openshift_are_noted_with_what_processes_them(tmp_path: Path) -> None:
    text = (
        "{kind: Template, apiVersion: template.openshift.io/v1, metadata: {name: t}, objects: []}"
    )
    told = {note.code: note for note in notes(tmp_path, a=text)}
    assert told["templates-not-processed"].subjects == ("a.yaml",)
    assert "oc process -f FILE" in told["templates-not-processed"].text


def test_a_service_of_knative_makes_pods(tmp_path: Path) -> None:
    text = (
        "{kind: Service, apiVersion: serving.knative.dev/v1, metadata: {name: k}, "
        "spec: {template: {spec: {containers: [{image: i}]}}}}"
    )
    found = manifests.read(write(tmp_path, a=text))
    assert [pod.name for pod in found.pods] == ["k-0"]
    assert [note.code for note in found.notes] == ["workload-unknown"]


def of_profile(number: int, *profiles: str) -> str:
    named = ", ".join(f"include.release.openshift.io/{profile}: 'true'" for profile in profiles)
    return (
        f"{{apiVersion: v1, kind: Pod, metadata: {{name: p, annotations: {{{named}}}}}, "
        f"spec: {{hostNetwork: {number == 1}, containers: [{{name: c, image: i}}]}}}}"
    )


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_variants_for_cluster_profiles_the_default_ones_is_read(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    texts = {
        1: of_profile(1, "self-managed-high-availability", "single-node-developer"),
        2: of_profile(2, "ibm-cloud-managed"),
    }
    read = manifests.read(
        write(tmp_path, **dict(zip("ab", (texts[n] for n in order), strict=True)))
    )
    assert [pod.host_network for pod in read.pods] == [True]
    [note] = [note for note in read.notes if note.code == "other-profile"]
    assert note.subjects == (f"Pod default/p ({'ab'[order.index(2)]}.yaml, line 1)",)


@pytest.mark.parametrize("profiles", [(), ("self-managed-high-availability",), ("x",)])
def test_variants_that_no_profile_tells_apart_are_refused(
    tmp_path: Path, profiles: tuple[str, ...]
) -> None:
    first = of_profile(
        1, *(profiles if profiles == ("x",) else ("self-managed-high-availability",))
    )
    with pytest.raises(ManifestError, match="and not the same"):
        manifests.read(write(tmp_path, a=first, b=of_profile(2, *profiles)))


@pytest.mark.parametrize(
    "patches",
    [
        "patches: [{path: patch.yaml}]",
        "patchesStrategicMerge: [patch.yaml]",
        "patchesJson6902: [{path: patch.yaml, target: {kind: Pod, name: p}}]",
    ],
)
def test_a_patch_of_a_kustomization_is_no_object(tmp_path: Path, patches: str) -> None:
    files = {"kustomization": f"resources: [p.yaml]\n{patches}", "patch": POD[:-2] + ", x: 1}}"}
    found = notes(tmp_path, **files)
    assert "patches of a kustomization (1)" in found[0].text
    assert found[1].text == (
        "kustomizations were not built; audit run -k DIR builds one: kustomization.yaml"
    )


def test_generated_names_are_as_many_as_there_are_objects(tmp_path: Path) -> None:
    generated = POD.replace("name: p", "generateName: job-")
    found = manifests.read(write(tmp_path, a=f"{generated}\n---\n{generated}"))
    assert [pod.name for pod in found.pods] == ["job-0", "job-1"]


def test_another_apis_kinds_are_not_taken_for_kubernetes_own(tmp_path: Path) -> None:
    others = {
        "a": "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: n}}",
        "b": "{apiVersion: batch.volcano.sh/v1alpha1, kind: Job, metadata: {name: n}}",
        "c": "{apiVersion: management.cattle.io/v3, kind: Node, metadata: {name: n}}",
    }
    found = manifests.read(write(tmp_path, p=POD, **others))
    assert (found.policies, found.nodes, len(found.pods)) == ([], [], 1)
    assert [note.text for note in found.notes] == [
        (
            "objects of other kinds were passed over: Job of batch.volcano.sh/v1alpha1 (1), "
            "NetworkPolicy of projectcalico.org/v3 (1), Node of management.cattle.io/v3 (1)"
        )
    ]


def test_a_version_that_no_server_has_any_more_is_read_and_noted(tmp_path: Path) -> None:
    old = f"{{{NETWORK_POLICY}}}".replace("networking.k8s.io/v1", "extensions/v1beta1")
    found = manifests.read(write(tmp_path, p=POD, old=old))
    assert [policy.ref.name for policy in found.policies] == ["n"]
    assert [note.code for note in found.notes] == ["api-version-gone"]


def test_fields_that_kubernetes_does_not_have_are_noted_with_their_place(tmp_path: Path) -> None:
    [note] = notes(tmp_path, a=workload("Deployment", "w", replica=3))
    assert note.text == (
        "fields that Kubernetes does not have were passed over: spec.replica of Deployment "
        "default/w (a.yaml, line 1)"
    )


def test_a_helm_chart_is_to_be_rendered(tmp_path: Path) -> None:
    templates = tmp_path / "chart" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("{apiVersion: v2, name: x, version: 1.0.0}")
    (templates / "web.yaml").write_text("kind: Pod\nmetadata: {name: {{ .Release.Name }}}\n")
    with pytest.raises(ManifestError) as caught:
        manifests.read(str(tmp_path))
    assert str(caught.value) == (
        "chart/templates/web.yaml is a template of a Helm chart; render it: "
        f"helm template {tmp_path / 'chart'} | audit run --manifests -"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_are_read_in_the_encodings_of_other_systems(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.yaml").write_bytes(POD.encode(encoding))
    assert [pod.name for pod in manifests.read(str(tmp_path)).pods] == ["p"]


def test_policies_alone_are_said_to_be_valid(tmp_path: Path) -> None:
    policy = "{{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {{name: {}}}}}"
    with pytest.raises(ManifestError, match=r"nobody to ask about; its policy is valid$"):
        manifests.read(write(tmp_path, a=policy.format("a")))
    with pytest.raises(ManifestError, match=r"nobody to ask about; its 2 policies are valid$"):
        manifests.read(write(tmp_path, b=policy.format("b")))
