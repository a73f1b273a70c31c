"""What pull requests and plugin managers take: the Action, GitLab's template, krew's manifest."""

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from audit import __version__
from audit.model.options import PACKS
from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "jobs" / "ci" / "audit-manifests"
ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text())
KREW = yaml.safe_load((REPOSITORY / "jobs" / "krew" / "ovn-audit.yaml").read_text())
ASKED = set(re.findall(r"\$\{([A-Z]+):-", SCRIPT.read_text())) - {"HOME"}
"""What the script takes from the environment."""
MANIFESTS = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: tool, namespace: test}
spec: {containers: [{name: c, image: x, ports: [{containerPort: 81}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-in, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:   # the rule
    - namespaceSelector: {}
"""


def audited(repository: Path, **variables: str) -> tuple[int, str]:
    """Run the script at the top of a repository; return its exit code and what it printed."""
    (repository / ".git").mkdir(exist_ok=True)
    (repository / "deploy").mkdir(exist_ok=True)
    (repository / "deploy" / "all.yaml").write_text(MANIFESTS)
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", SCRIPT],
        cwd=repository,
        env={"PATH": path, "HOME": str(repository), "MANIFESTS": "deploy", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_pull_request_gets_the_line_of_the_rule(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    (before / "all.yaml").write_text(MANIFESTS.replace("- namespaceSelector", "- podSelector"))
    code, _ = audited(tmp_path, PACKS="namespace-isolation", BASE="before")
    assert code == 1
    (log,) = json.loads((tmp_path / "audit-results" / "audit.sarif").read_text())["runs"]
    places = [
        (at["artifactLocation"]["uri"], at["region"]["startLine"])
        for result in log["results"]
        if "web-in" in result["message"]["text"]
        for at in [result["locations"][0]["physicalLocation"]]
    ]
    rule = MANIFESTS.splitlines().index("  - from:   # the rule") + 1
    assert places == [("deploy/all.yaml", rule)]
    names = {path.name for path in (tmp_path / "audit-results").iterdir()}
    assert names == {"audit.sarif", "junit.xml", "audit.md", "report.html"}
    summary = (tmp_path / "audit-results" / "audit.md").read_text()
    assert "namespace-isolation" in summary
    assert "1 cell opened" in summary.replace("**", "")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 0),
        ({"PACKS": "no-such-pack"}, 2),
        ({"MANIFESTS": "$(touch mark)"}, 2),
    ],
)
def test_exit_codes_are_kept_and_words_are_no_commands(
    tmp_path: Path, variables: dict[str, str], expected: int
) -> None:
    code, output = audited(tmp_path, **variables)
    assert code == expected, output
    assert not (tmp_path / "mark").exists()


def test_the_action_is_as_github_says() -> None:
    text = (REPOSITORY / "tests" / "data" / "github-action.schema.json.xz").read_bytes()
    schema = json.loads(lzma.decompress(text))
    jsonschema.validate(ACTION, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**ACTION, "runs": {"using": "composite"}}, schema)


def test_every_input_reaches_the_script_and_by_the_environment_alone() -> None:
    steps = ACTION["runs"]["steps"]
    assert not any("${{" in step["run"] for step in steps)
    (step,) = [step for step in steps if "env" in step]
    named = {re.sub(r"^\$\{\{ inputs\.(.+) \}\}$", r"\1", v) for v in step["env"].values()}
    assert named == ACTION["inputs"].keys()
    assert step["env"].keys() == ASKED | {"FAIL"}
    outputs = {re.search(r"outputs\.([\w-]+)", o["value"])[1] for o in ACTION["outputs"].values()}  # type: ignore[index]
    assert outputs == set(re.findall(r'echo "([\w-]+)=', step["run"]))


def test_the_installed_command_of_the_action_runs(tmp_path: Path) -> None:
    """Its launcher, made by its own step, with this environment's Python in place of the venv."""
    launcher = next(
        line for line in ACTION["runs"]["steps"][0]["run"].splitlines() if "printf" in line
    )
    bin_ = tmp_path / "ovn-audit" / "bin"
    bin_.mkdir(parents=True)
    # Not a link: Python finds an environment's packages by where it was called.
    (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_ / "python").chmod(0o755)
    environment = {
        **os.environ,
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_ACTION_PATH": str(REPOSITORY),
    }
    subprocess.run(["bash", "-euc", launcher], env=environment, check=True, timeout=60)
    shown = subprocess.run(
        ["sh", bin_ / "audit", "--version"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert __version__ in shown.stdout


def gitlab() -> tuple[dict[str, Any], dict[str, Any]]:
    header, job = yaml.safe_load_all((REPOSITORY / "jobs/ci/audit.gitlab-ci.yml").read_text())
    return header["spec"]["inputs"], job["audit"]


def test_gitlabs_template_hands_its_inputs_to_the_script() -> None:
    inputs, job = gitlab()
    assert set(job["variables"]) == ASKED | {"FAIL"}
    used = set(re.findall(r"\$\[\[ inputs\.(\w+) \]\]", json.dumps(job)))
    assert used == inputs.keys()
    assert any(line.startswith(f"{SCRIPT.name} ") for line in job["script"])
    assert inputs.keys() == ACTION["inputs"].keys() - {"out"} | {"image", "stage"}
    out = job["variables"]["OUT"]
    assert job["artifacts"]["paths"] == [out]
    assert job["artifacts"]["reports"]["junit"] == f"{out}/junit.xml"
    required = {name for name, field in inputs.items() if "default" not in field}
    assert required == {"image"}, "no registry is named for anybody"


@pytest.mark.parametrize("fail", ["true", "false"])
@pytest.mark.parametrize("code", range(5))
def test_gitlabs_job_ends_as_its_input_says(tmp_path: Path, code: int, fail: str) -> None:
    """Findings (1) and what is incomplete (3) can be let through; a usage error never is."""
    _, job = gitlab()
    script = tmp_path / SCRIPT.name
    script.write_text(f"#!/bin/sh\nexit {code}\n")
    script.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(job["script"])],
        env={"PATH": path, "FAIL": fail}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == (0 if fail == "false" and code in (1, 3) else code)


def test_packs_in_the_examples_are_there() -> None:
    for name in ("action.yml", "jobs/ci/audit.gitlab-ci.yml"):
        text = (REPOSITORY / name).read_text()
        assert set(re.findall(r"\b(?:namespace-isolation|pci-dss)\b", text)) <= set(PACKS)


def test_krews_manifest_keeps_krews_rules() -> None:
    """Those of https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/ and of its linter."""
    assert KREW["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert KREW["kind"] == "Plugin"
    name, spec = KREW["metadata"]["name"], KREW["spec"]
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", name)
    assert spec["version"] == f"v{__version__}"
    assert len(spec["shortDescription"]) <= 50
    assert not spec["shortDescription"].endswith(".")
    for platform in spec["platforms"]:
        assert set(platform) == {"selector", "uri", "sha256", "bin"}
        assert platform["uri"].startswith("https://")
        assert __version__ in platform["uri"]
        assert re.fullmatch(r"[0-9a-f]{64}", platform["sha256"])
        assert platform["bin"] == f"kubectl-{name.replace('-', '_')}"
        assert (REPOSITORY / "jobs" / "krew" / platform["bin"]).stat().st_mode & 0o111


def test_krews_launcher_installs_once_and_hands_over(tmp_path: Path) -> None:
    """A stand-in for Python makes the environment: what it is asked for is looked at."""
    store, bin_ = tmp_path / "store", tmp_path / "bin"
    store.mkdir()
    bin_.mkdir()
    shutil.copy(REPOSITORY / "jobs" / "krew" / "kubectl-ovn_audit", store)
    (store / "ovn_audit-9.9.9-py3-none-any.whl").touch()
    (store / "constraints.txt").touch()
    (bin_ / "kubectl-ovn_audit").symlink_to(store / "kubectl-ovn_audit")
    python = bin_ / "python3"
    python.write_text(
        '#!/bin/sh\necho "$@" >> "$LOG"\n[ "$1" = -m ] || exit 0\nmkdir -p "$3/bin"\n'
        'printf \'#!/bin/sh\\necho pip "$@" >> "$LOG"\\nexit ${PIP:-0}\\n\' > "$3/bin/pip"\n'
        'printf \'#!/bin/sh\\necho ran "$@"\\n\' > "$3/bin/audit"\nchmod +x "$3"/bin/*\n'
    )
    python.chmod(0o755)
    log = tmp_path / "log"

    def plugin(**more: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "LOG": str(log),
            "XDG_DATA_HOME": str(tmp_path / "share"),
            **more,
        }
        return subprocess.run(
            ["sh", bin_ / "kubectl-ovn_audit", "who", "a b"],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert plugin(PIP="1").returncode == 4
    assert not (tmp_path / "share" / "ovn-audit" / "krew-9.9.9").exists(), "nothing half installed"
    for _ in range(2):
        assert plugin().stdout == "ran who a b\n"
    pips = [line for line in log.read_text().splitlines() if line.startswith("pip")]
    assert len(pips) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in pips)


def test_one_host_stands_for_the_publishers() -> None:
    """Whoever publishes has one name to replace, and no name that is somebody's."""
    for name in ("pyproject.toml", "jobs/chart/Chart.yaml", "jobs/krew/ovn-audit.yaml"):
        hosts = set(re.findall(r"https://([^/\"\]\s,]+)", (REPOSITORY / name).read_text()))
        assert hosts == {"ovn-audit.example"}, name
