"""What a kustomization makes is read; the programs are the real kubectl, and stand-ins for it."""

import os
import sys
from pathlib import Path

import pytest

from audit.errors import ExitCode, ManifestError, SnapshotError
from audit.facts import kustomize, manifests

POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}"
LABELLED = '[{"op": "add", "path": "/metadata/labels", "value": {"app": "web"}}]'


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "pod.yaml").write_text(POD)
    (tmp_path / "base" / "kustomization.yaml").write_text("resources: [pod.yaml]")
    place = tmp_path / "overlay"
    place.mkdir()
    (place / "kustomization.yaml").write_text(
        "resources: [../base]\nnamespace: prod\n"
        f"patches: [{{target: {{kind: Pod}}, patch: '{LABELLED}'}}]"
    )
    return place


def program(directory: Path, name: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)


def test_a_kustomization_is_built_by_kubectl(
    overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    found = manifests.build(str(overlay))
    [pod] = found.pods
    assert (pod.namespace, pod.name, dict(pod.labels)) == ("prod", "p", {"app": "web"})
    assert [one.path for one in found.inputs] == [str(overlay)]


@pytest.mark.parametrize("name", ["kubectl", "oc", "kustomize"])
def test_any_program_that_can_will_do(
    overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program(tmp_path / "bin", name, 'echo "{kind: Pod, metadata: {name: $1}}"; test -d "$2"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    [pod] = manifests.build(str(overlay)).pods
    assert pod.name == ("build" if name == "kustomize" else "kustomize")


def test_a_machine_without_any_is_told_what_to_do(
    overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SnapshotError, match="kubectl kustomize DIR") as caught:
        kustomize.build(overlay)
    assert caught.value.exit_code is ExitCode.COULD_NOT_RUN


def test_what_cannot_be_built_is_said_in_the_programs_words(
    overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "kubectl", "echo 'Error: no such\nbase' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ManifestError) as caught:
        kustomize.build(overlay)
    assert str(caught.value) == (
        f"{overlay} cannot be built: `kubectl kustomize {overlay}` says: Error: no such base"
    )


def test_what_does_not_end_is_ended(
    overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "kubectl", "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SnapshotError, match=r"did not end within 0\.2 s"):
        kustomize.build(overlay, timeout_s=0.2)


@pytest.mark.parametrize(
    ("place", "said"), [("none", "is no directory"), (".", "has no kustomization.yaml")]
)
def test_a_place_without_a_kustomization_is_refused(tmp_path: Path, place: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        kustomize.build(tmp_path / place)
