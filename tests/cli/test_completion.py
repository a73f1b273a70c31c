"""What a shell completes: words of the newest run, each once, and only where they may stand."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from audit.cli.main import audit

KUBECTL = Path(sys.prefix) / "bin" / "kubectl"


def completed(*words: str) -> list[str]:
    """Return what may follow `words`, of which the last is begun."""
    *typed, begun = words
    shell = ShellComplete(audit, {}, "audit", "_AUDIT_COMPLETE")
    return [item.value for item in shell.get_completions(typed, begun)]


@pytest.fixture
def newest(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the newest run of those that are kept."""
    monkeypatch.setenv("AUDIT_RUN_OUT", str(small_run.parent))
    return small_run


@pytest.mark.ovn
@pytest.mark.usefixtures("newest")
def test_a_pod_is_offered_once() -> None:
    pods = [f"prod/prod-client-{number}" for number in range(4)]
    assert completed("can", "prod/") == pods
    assert completed("who", "--from", "prod/") == pods
    assert completed("can", "ns/") == ["ns/default", "ns/prod"]


@pytest.mark.ovn
@pytest.mark.parametrize(
    "words",
    [
        ("can", "prod/prod-client-0", "default/web-0"),
        ("who", "default/web-0"),
        ("who", "default/web-0", "-p"),
        ("explain", "prod/prod-client-0", "default/web-0"),
        ("explain", "latest", "prod/prod-client-0", "default/web-0"),
        ("trace", "prod/prod-client-0", "default/web-0"),
        ("run", "--port"),
    ],
)
@pytest.mark.usefixtures("newest")
def test_where_a_port_stands_ports_are_offered(words: tuple[str, ...]) -> None:
    assert completed(*words, "tcp/") == ["tcp/80"]
    assert completed(*words, "prod/") == []


@pytest.mark.ovn
def test_explain_offers_runs_in_front_only(newest: Path) -> None:
    assert "latest" in completed("explain", "l")
    assert newest.name in completed("explain", newest.name[:8])
    assert completed("explain", "latest", "prod/prod-client-0", "default/web-0")[0] == (
        "default/web-0"
    )
    assert "latest" not in completed("explain", "latest", "")
    assert "latest" not in completed("explain", "--run", "latest", "")


@pytest.mark.ovn
@pytest.mark.usefixtures("newest")
def test_options_offer_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("check", "--pack", "c") == ["cis-kubernetes"]
    assert completed("report", "--pack", "pci") == ["pci-dss"]
    policies = completed("run", "--apply-delete", "networkpolicy/default/")
    assert "networkpolicy/default/deny-by-default" in policies
    assert completed("run", "--to-service", "prod/") == ["prod/*"]
    (tmp_path / "config").write_text("contexts: [{name: prod}, {name: test}]\n")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'nowhere'}:{tmp_path / 'config'}")
    assert completed("run", "--context", "") == ["prod", "test"]
    (tmp_path / "other").write_text("contexts: [{name: other}]\n")
    assert completed("run", "--kubeconfig", str(tmp_path / "other"), "--context", "") == ["other"]
    (tmp_path / "config").write_text("contexts: {")
    assert completed("run", "--context", "") == []


@pytest.mark.ovn
@pytest.mark.usefixtures("newest")
def test_kubectl_completes_its_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (
        ("kubectl_complete-ovn_audit", "from audit.cli.kubectl import main"),
        ("kubectl-ovn_audit", "from audit.__main__ import main"),
    ):
        script = tmp_path / name
        script.write_text(f"#!{sys.executable}\n{code}\nmain()\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def completing(*words: str) -> list[str]:
        command = [str(KUBECTL), "__complete", "ovn-audit", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.split()

    assert completing("can", "prod/prod-client-0", "default/web-") == [
        *("default/web-0", "default/web-1", "default/web-2"),
        ":4",
    ]
    assert completing("report", "latest", "--out", "")[-1] == ":16"
