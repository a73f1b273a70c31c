"""What `tests.conformance` makes of a test in Go: the same objects, changed as the test does."""

from pathlib import Path

import pytest
import yaml

from tests import conformance

GO = """package tests

var Swapped = suite.ConformanceTest{
	ShortName: "Swapped",
	Manifests: []string{"base/policy.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		t.Run("first the deny rule", func(t *testing.T) {
			serverPod := kubernetes.GetPod(t, s.Client, "b", "server-0", s.TimeoutConfig.GetTimeout)
			kubernetes.PokeServer(t, s.ClientSet, &s.KubeConfig, "a", "client-0", "tcp",
				serverPod.Status.PodIP, int32(80), s.TimeoutConfig, false)
			cnp := kubernetes.GetClusterNetworkPolicy(t, s.Client, "p", s.TimeoutConfig.GetTimeout)
			mutate := cnp.DeepCopy()
			first := mutate.Spec.Egress[0]
			mutate.Spec.Egress[0] = mutate.Spec.Egress[1]
			mutate.Spec.Egress[1] = first
			kubernetes.PatchClusterNetworkPolicy(t, s.Client, cnp, mutate, s.TimeoutConfig)
			kubernetes.PokeServer(t, s.ClientSet, &s.KubeConfig, "a", "client-0", "tcp",
				serverPod.Status.PodIP, int32(80), s.TimeoutConfig, EXPECTED)
		})
	},
}
"""


def workload(namespace: str, name: str) -> dict[str, object]:
    pod = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"n": name}}}
        for name in "ab"
    ]
    to_b = [{"namespaces": {"matchLabels": {"n": "b"}}}]
    policy = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "tier": "Admin",
            "priority": 10,
            "subject": {"namespaces": {"matchLabels": {"n": "a"}}},
            "egress": [{"action": "Deny", "to": to_b}, {"action": "Accept", "to": to_b}],
        },
    }
    (tmp_path / "base").mkdir()
    (tmp_path / "tests").mkdir()
    objects = [*spaces, workload("a", "client"), workload("b", "server")]
    (tmp_path / "base" / "manifests.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "base" / "policy.yaml").write_text(yaml.safe_dump(policy))
    return tmp_path


@pytest.mark.parametrize(
    ("expected", "code", "told"), [("true", 0, "2 right"), ("false", 1, "1 wrong")]
)
def test_a_connection_is_compared_after_what_the_test_changes(
    suite: Path, capsys: pytest.CaptureFixture[str], expected: str, code: int, told: str
) -> None:
    (suite / "tests" / "one.go").write_text(GO.replace("EXPECTED", expected))
    assert conformance.main([str(suite)]) == code
    out = capsys.readouterr().out
    assert told in out
    assert out.endswith("0 lines not understood\n")


def test_a_line_that_is_not_understood_is_no_success(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GO.replace("EXPECTED", "true").replace("first := ", "mutate.Spec.Tier = first := ")
    (suite / "tests" / "one.go").write_text(text)
    assert conformance.main([str(suite)]) == 1
    assert "is not understood" in capsys.readouterr().out
