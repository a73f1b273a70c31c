"""`audit diff` never ends clean where it compared nothing, in any of its formats.

The runs are of policy objects alone, so that none takes an OVN.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Inside

Runs = Callable[..., Path]
POD = (
    "{apiVersion: v1, kind: Pod, metadata: {name: NAME, namespace: a}, "
    "spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}}"
)
OBJECTS = "\n---\n".join(POD.replace("NAME", name) for name in ("web", "db"))


@pytest.fixture
def runs(inside: Inside, tmp_path: Path) -> Runs:
    """Return what makes a run, and says where it is."""
    place = tmp_path / "manifests"
    place.mkdir()
    (place / "all.yaml").write_text(OBJECTS)

    def made(*flags: str | Path) -> Path:
        source = () if "--snapshot" in flags else ("--manifests", place)
        done = inside("run", *source, "--planes", "intent", "-q", "--out", "runs", *flags)
        assert done.code == 0, done.err
        return Path(done.out.splitlines()[-1]).parent

    return made


@pytest.mark.parametrize("output", ["text", "markdown", "json", "html"])
def test_of_runs_that_share_no_cell_every_format_says_so(
    inside: Inside, runs: Runs, output: str
) -> None:
    before, after = runs("--port", "tcp/80"), runs("--port", "tcp/81")
    done = inside("diff", before, after, "-q", "-o", output)
    assert done.code == 3
    told = (after / "report.html").read_text() if output == "html" else done.out
    if output == "json":
        told = " ".join(json.loads(done.out)["limits"])
    assert "Nothing was compared." in told
    assert "different scopes (ports tcp/80, then tcp/81)" in told
    assert inside("diff", before, after, "-q", "-o", output, "--exit-zero").code == 0
    assert inside("diff", before, before, "-q", "-o", output).code == 0


def test_pods_out_of_the_other_runs_scope_are_not_gone(
    inside: Inside, runs: Runs, example_snapshot: Path
) -> None:
    flags = ("--snapshot", example_snapshot, "--port", "tcp/80")
    whole, part = runs(*flags), runs(*flags, "-n", "shop")
    for ends in ((whole, part), (part, whole)):
        done = inside("diff", *ends, "-q", "-o", "json")
        found = json.loads(done.out)
        assert (done.code, found["appeared"], found["vanished"]) == (3, [], [])
        assert found["compared"] > 0
        assert sum(found["out_of_scope"]) > 0
    manifest = json.loads((whole / "run.json").read_text())
    assert manifest["cluster"] == "fabf36fc-9f76-48b1-b8b2-ba12ea91c6fb"  # kube-system's uid


def test_manifests_that_share_no_cell_say_so(inside: Inside, tmp_path: Path) -> None:
    for name, space in (("one", "a"), ("two", "b")):
        (tmp_path / f"{name}.yaml").write_text(
            OBJECTS.replace("namespace: a", f"namespace: {space}")
        )
    for output in ("text", "markdown", "json"):
        done = inside("diff", "one.yaml", "two.yaml", "-q", "-o", output)
        assert done.code == 3
        assert "no cell in common" in done.out
    absent = inside("diff", "one.yaml", "two.yaml", "-q", "-n", "b")
    assert (absent.code, "one.yaml: namespace 'b' does not exist" in absent.err) == (2, True)


def test_what_manifests_open_is_at_the_line_of_the_rule_that_opens_it(
    inside: Inside, tmp_path: Path
) -> None:
    policy = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: a}
spec:
  podSelector: {}
  ingress:
    - from: [{podSelector: {matchLabels: {app: nobody}}}]
"""
    for name in ("main", "branch", "bare"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pods.yaml").write_text(OBJECTS)
    (tmp_path / "main" / "policy.yaml").write_text(policy)
    (tmp_path / "branch" / "policy.yaml").write_text(policy + "    - from: [{podSelector: {}}]\n")

    done = inside("diff", "main", "branch", "-q", "-o", "sarif")
    assert done.code == 1
    [log] = json.loads(done.out)["runs"]
    assert {result["ruleId"] for result in log["results"]} == {"path-opened"}
    assert {result["level"] for result in log["results"]} == {"error"}
    places = [result["locations"][0]["physicalLocation"] for result in log["results"]]
    lines = {
        (p["artifactLocation"]["uri"].rpartition("/")[2], p["region"]["startLine"]) for p in places
    }
    assert lines == {("policy.yaml", 9)}
    assert all("/branch/" in f"/{p['artifactLocation']['uri']}" for p in places)

    closed = json.loads(inside("diff", "bare", "main", "-q", "-o", "sarif").out)["runs"][0]
    assert {result["ruleId"] for result in closed["results"]} == {"path-closed"}
    again = json.loads(inside("diff", "main", "branch", "-q", "-o", "sarif").out)["runs"][0]
    prints = [[r["partialFingerprints"] for r in each["results"]] for each in (log, again)]
    assert prints[0] == prints[1]
    removed = json.loads(inside("diff", "main", "bare", "-q", "-o", "sarif").out)["runs"][0]
    places = [result["locations"][0]["physicalLocation"] for result in removed["results"]]
    assert {p["artifactLocation"]["uri"].rpartition("main/")[2] for p in places} == {"policy.yaml"}
