"""The Helm chart: linted and rendered by Helm's own engine, and the same as the overlays."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from helm_python.chart import Chart, lint

from audit import __version__
from tests.jobs.test_manifests import JOBS, Manifest, build

CHART = JOBS / "chart"
OPENSHIFT = {"openshift": True}
AGENTS = {"nightly": {"traces": "agents"}}
EXEC = {"nightly": {"traces": "exec"}}
STORE = {"runs": {"objectStore": True}}
PREUPGRADE = {"nightly": {"enabled": False}, "preupgrade": {"enabled": True}}
KUBERAY = {"nightly": {"enabled": False}, "kuberay": {"enabled": True}}
VIEWER = {"viewer": {"enabled": True}}
PROBE = {"probe": {"enabled": True}}
OVERLAYS: dict[str, dict[str, Any]] = {
    "upstream": {},
    "openshift": OPENSHIFT,
    "upstream-agents": AGENTS,
    "openshift-agents": AGENTS | OPENSHIFT,
    "upstream-agents-datapath": {"nightly": {"traces": "agents", "datapath": True}},
    "upstream-exec": EXEC,
    "openshift-exec": EXEC | OPENSHIFT,
    "upstream-store": STORE,
    "openshift-store": STORE | OPENSHIFT,
    "upstream-preupgrade": PREUPGRADE,
    "openshift-preupgrade": PREUPGRADE | OPENSHIFT,
    "upstream-kuberay": KUBERAY,
    "upstream-viewer": VIEWER,
    "upstream-probe": PROBE,
    "openshift-probe": PROBE | OPENSHIFT,
    "openshift-kuberay": KUBERAY | OPENSHIFT,
}


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


def rendered(chart: Chart, values: dict[str, Any], namespace: str = "ovn-audit") -> list[Manifest]:
    texts = chart.render(values=values, name="any", namespace=namespace)
    parts = [text for name, text in texts.items() if not name.endswith(".txt")]
    return [each for part in parts for each in yaml.safe_load_all(part) if each]


def comparable(value: Any) -> Any:
    """Return a manifest without what only Helm has, its lists of named things by name."""
    if isinstance(value, dict):
        kept = {k: comparable(v) for k, v in value.items() if k != "imagePullPolicy"}
        for key in ("env", "volumes", "volumeMounts"):
            if key in kept:
                kept[key] = sorted(kept[key], key=lambda named: str(named["name"]))
        return kept
    return [comparable(each) for each in value] if isinstance(value, list) else value


def named(manifests: list[Manifest]) -> dict[tuple[str, str, str], Any]:
    by_name = {}
    for manifest in manifests:
        metadata = manifest["metadata"]
        metadata.pop("annotations", None)
        key = (manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in by_name
        by_name[key] = comparable(manifest)
    return by_name


def test_helm_has_nothing_to_say_about_it() -> None:
    report = lint(CHART, strict=True)
    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


def test_there_is_a_set_of_values_for_each_overlay() -> None:
    overlays = {path.name for path in (JOBS / "overlays").iterdir()}
    assert OVERLAYS.keys() == overlays


@pytest.mark.parametrize("name", OVERLAYS)
def test_it_makes_what_the_overlay_makes(chart: Chart, name: str) -> None:
    """But for the release's own namespace, which Helm makes (`--create-namespace`)."""
    overlay = named(build(f"overlays/{name}"))
    del overlay["Namespace", "", "ovn-audit"]
    image = {"image": {"registry": "registry.example"}}
    assert named(rendered(chart, OVERLAYS[name] | image)) == overlay


def test_nothing_is_tied_to_one_namespace(chart: Chart) -> None:
    for values in (AGENTS | STORE, KUBERAY, PREUPGRADE, VIEWER, PROBE):
        spaces = {
            manifest["metadata"].get("namespace", "")
            for manifest in rendered(chart, values, namespace="audits")
        }
        allowed = {"", "audits", "audits-agents", "audits-ray", "ovn-kubernetes", "default"}
        assert "audits" in spaces <= allowed
        text = json.dumps(rendered(chart, values, namespace="audits"))
        assert '"ovn-audit.' not in text
        assert "ovn-audit-agents" not in text


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, f"ovn-audit:{__version__}"),
        ({"registry": "r.example:5000"}, f"r.example:5000/ovn-audit:{__version__}"),
        ({"repository": "a/b", "tag": "7"}, "a/b:7"),
        ({"tag": "7", "digest": "sha256:" + "0" * 64}, "ovn-audit@sha256:" + "0" * 64),
    ],
)
def test_the_image_names_a_registry_only_where_one_is_given(
    chart: Chart, image: dict[str, str], expected: str
) -> None:
    text = json.dumps(rendered(chart, {"image": image} | AGENTS | {"kuberay": {"enabled": True}}))
    images = {part.partition('"')[0] for part in text.split('"image": "')[1:]}
    assert images == {expected}


@pytest.mark.parametrize(
    "values",
    [
        {"nightli": {}},
        {"nightly": {"traces": "agent"}},
        {"nightly": {"timeLimit": "soon"}},
        {"nightly": {"datapath": True}},
        {"image": {"digest": "sha256:12"}},
        {"image": {"registry": "r.example/path"}},
        {"runs": {"storage": "much"}},
        {"kuberay": {"workers": 0}},
        PREUPGRADE | STORE,
        VIEWER | STORE,
        PROBE | STORE,
        {"probe": {"enabled": True, "namespaces": []}},
        {"probe": {"sample": 1001}},
        {"viewer": {"login": {"digest": "sha256:12"}}},
        {"viewer": {"ingressNamespace": "a b"}},
    ],
)
def test_wrong_values_are_refused(chart: Chart, values: dict[str, Any]) -> None:
    chart.validate_schema({})
    with pytest.raises(helm_python.HelmValuesError):
        chart.validate_schema(values)
    with pytest.raises(helm_python.HelmError):
        rendered(chart, values)


def test_monitoring_is_what_kustomize_makes_of_it(chart: Chart) -> None:
    labels = {"release": "prometheus"}
    values = {"monitoring": {"rules": True, "dashboard": True, "labels": labels}}
    base = named(rendered(chart, {}))
    added = {key: value for key, value in named(rendered(chart, values)).items() if key not in base}
    expected = named(build("monitoring"))
    for manifest in expected.values():
        manifest["metadata"]["labels"] = manifest["metadata"].get("labels", {}) | labels
    board = ("ConfigMap", "ovn-audit", "ovn-audit-dashboard")
    texts = [made[board]["data"].pop("ovn-audit.json") for made in (added, expected)]
    assert json.loads(texts[0]) == json.loads(texts[1])
    assert added == expected


def test_metrics_are_put_where_the_component_puts_them(chart: Chart, tmp_path: Path) -> None:
    overlay = tmp_path / "jobs" / "overlays" / "metrics"
    shutil.copytree(JOBS, tmp_path / "jobs")
    overlay.mkdir()
    text = "resources: [../upstream]\ncomponents: [../../pushgateway]\n"
    (overlay / "kustomization.yaml").write_text(text)
    expected = named(build("overlays/metrics", tmp_path / "jobs"))
    del expected["Namespace", "", "ovn-audit"]
    url = "http://pushgateway.monitoring.svc:9091/metrics/job/ovn-audit/instance/this-cluster"
    values = {"image": {"registry": "registry.example"}, "monitoring": {"pushgateway": url}}
    assert named(rendered(chart, values)) == expected
    for url, port in (("https://p.example/metrics/job/a", 443), ("http://p.example/m", 80)):
        made = named(rendered(chart, {"monitoring": {"pushgateway": url}}))
        policy = made["NetworkPolicy", "ovn-audit", "pushgateway"]
        assert policy["spec"]["egress"] == [{"ports": [{"protocol": "TCP", "port": port}]}]


def test_probes_are_granted_in_the_namespaces_that_are_named_alone(chart: Chart) -> None:
    assert "probe" not in json.dumps(rendered(chart, {}))
    probe = {"enabled": True, "namespaces": ["shop", "bank"], "image": "busybox:1.37"}
    made = named(rendered(chart, {"probe": probe}, namespace="audits"))
    bound = {
        key[1:]
        for key, manifest in made.items()
        if key[0] in ("RoleBinding", "ClusterRoleBinding")
        if manifest["subjects"][0]["name"] == "ovn-audit-probe"
    }
    roles = ("ovn-audit-probe", "ovn-audit-probe-image")
    assert bound == {(namespace, role) for namespace in ("shop", "bank") for role in roles}
    job = made["CronJob", "audits", "probe"]["spec"]["jobTemplate"]["spec"]
    words = job["template"]["spec"]["containers"][0]["args"]
    assert words[-6:] == ["-n", "shop", "-n", "bank", "--image", "busybox:1.37"]


def test_the_nightly_job_checks_the_packs_that_are_named(chart: Chart) -> None:
    """As docs/monitoring.md has it: alerts about expectations have data then."""
    arguments = ["--pack", "cis-kubernetes"]
    made = named(rendered(chart, {"nightly": {"args": arguments}}, namespace="audits"))
    job = made["CronJob", "audits", "nightly"]["spec"]["jobTemplate"]["spec"]
    words = job["template"]["spec"]["containers"][0]["args"]
    assert (words[0], words[-2:]) == ("run", arguments)


def test_the_viewer_is_reached_from_the_namespace_that_is_named_alone(chart: Chart) -> None:
    digest = "sha256:" + "0" * 64
    viewer = {"enabled": True, "ingressNamespace": "ingress-nginx", "login": {"digest": digest}}
    made = named(rendered(chart, {"viewer": viewer} | OPENSHIFT, namespace="audits"))
    policy = made["NetworkPolicy", "audits", "viewer"]
    label = {"kubernetes.io/metadata.name": "ingress-nginx"}
    assert policy["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {"matchLabels": label}}]
    pod = made["Deployment", "audits", "viewer"]["spec"]["template"]["spec"]
    assert pod["containers"][1]["image"].endswith(f"oauth2-proxy@{digest}")
    assert "runAsUser" not in pod["securityContext"]
    assert made["PersistentVolumeClaim", "audits", "runs"]["spec"]["accessModes"] == [
        "ReadWriteMany"
    ]


def test_it_is_of_this_version(chart: Chart) -> None:
    assert chart.metadata["appVersion"] == __version__
    overlay = yaml.safe_load((JOBS / "overlays/upstream/kustomization.yaml").read_text())
    assert overlay["images"][0]["newTag"] == __version__
