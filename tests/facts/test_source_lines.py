"""Objects and rules are said to be where their text is: a mark on the line says where that is."""

import json
import os
import sys
from pathlib import Path

import pytest

from audit.facts import manifests, trees
from audit.model.facts import SourceLine

POD = """\
apiVersion: v1  # pod other/cli
kind: Pod
metadata: {name: cli, namespace: other, labels: {app: cli}}
spec: {containers: [{name: c, image: x}]}
"""
SEVERAL = f"""\
# A file begins with words.
---
{POD}---

# Words before an object are not the object.
apiVersion: networking.k8s.io/v1  # networkpolicy shop/web-in
kind: NetworkPolicy
metadata: {{name: web-in, namespace: shop}}
spec:
  podSelector: {{}}
  ingress:
  - from:  # networkpolicy shop/web-in ingress[0]
    - podSelector: {{}}
  -   # the dash alone
    ports: [{{port: 80}}]  # networkpolicy shop/web-in ingress[1]
  egress: [{{}},
    {{to: []}}]  # networkpolicy shop/web-in egress[1]
---
kind: List
apiVersion: v1
items:
- apiVersion: v1
  kind: List
  items:
  - apiVersion: networking.k8s.io/v1  # networkpolicy shop/nested
    kind: NetworkPolicy
    metadata: {{name: nested, namespace: shop}}
    spec:
      podSelector: {{}}
      ingress:
      - {{}}  # networkpolicy shop/nested ingress[0]
- kind: Deployment  # deployment shop/web
  apiVersion: apps/v1
  metadata: {{name: web, namespace: shop}}
  spec:
    selector: {{matchLabels: {{app: web}}}}
    template:
      metadata: {{labels: {{app: web}}}}
      spec: {{containers: [{{name: c, image: x}}]}}
---
kind: NetworkPolicyList
apiVersion: networking.k8s.io/v1
items:
- metadata: {{name: typed, namespace: shop}}  # networkpolicy shop/typed
  spec: {{podSelector: {{}}}}
"""


def marked(text: str) -> dict[str, int]:
    lines = enumerate(text.splitlines(), start=1)
    kinds = ("pod ", "networkpolicy ", "deployment ")
    marks = ((line.partition("# ")[2], number) for number, line in lines)
    return {mark: number for mark, number in marks if mark.startswith(kinds)}


def lines_of(read: manifests.Manifests, file: str) -> dict[str, int]:
    assert {source.file for source in read.source_lines.values()} == {file}
    return {name: source.line for name, source in read.source_lines.items()}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("depth", ["", "deploy/prod"])
def test_several_documents_and_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, depth: str
) -> None:
    """The file is named from the top of the repository, wherever the command runs."""
    (tmp_path / ".git").mkdir()
    directory = tmp_path / depth
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "all.yaml").write_bytes(SEVERAL.replace("\n", end).encode())
    monkeypatch.chdir(directory)
    for source in (".", "all.yaml", str(directory)):
        lines = lines_of(manifests.read(source), f"{depth}/all.yaml".removeprefix("/"))
        expected = marked(SEVERAL)
        assert expected.items() <= lines.items()
        assert lines["namespace shop"] == expected["deployment shop/web"]
        assert lines["namespace other"] == expected["pod other/cli"]
        assert lines.keys() - expected.keys() == {
            "namespace shop",
            "namespace other",
            "networkpolicy shop/web-in egress[0]",
        }


def test_json_beside_yaml_and_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}
    listed = {"kind": "List", "items": [pod, {**pod, "metadata": {"name": "b"}}]}
    text = json.dumps(listed, indent=1)
    (tmp_path / "pods.json").write_text(f"{text}\n")
    monkeypatch.chdir(tmp_path)
    lines = lines_of(manifests.read("pods.json"), "pods.json")
    starts = [n for n, line in enumerate(text.splitlines(), start=1) if line == "  {"]
    assert [lines["pod default/a"], lines["pod default/b"]] == starts
    monkeypatch.chdir("/")
    elsewhere = manifests.read(str(tmp_path / "pods.json")).source_lines["pod default/a"]
    assert elsewhere.file == str((tmp_path / "pods.json").relative_to("/"))


def test_what_is_piped_in_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "standard_input", POD.encode)
    assert not manifests.read("-").source_lines


def test_of_a_large_text_in_json_the_file_alone_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {f"l{number}": "x" * 60 for number in range(6000)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}
    big = {**pod, "metadata": {"name": "b", "annotations": labels}}
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": [pod, big]}))
    monkeypatch.chdir(tmp_path)
    assert manifests.read("pods.json").source_lines["pod default/a"] == SourceLine(file="pods.json")


def test_a_kustomization_leads_to_what_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed objects are found where one alone can be it; else the file is all that is said."""
    monkeypatch.setenv("PATH", f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / ".git").mkdir()
    base, overlay = tmp_path / "base", tmp_path / "overlays" / "prod"
    base.mkdir()
    overlay.mkdir(parents=True)
    policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: NAME}\n"
    policy += "spec: {podSelector: {}}\n"
    texts = [policy.replace("NAME", name) for name in ("web", "web-in", "db")]
    (base / "all.yaml").write_text("---\n".join([POD, *texts]))
    (base / "kustomization.yaml").write_text("resources: [all.yaml]")
    (overlay / "kustomization.yaml").write_text(
        "namespace: prod\nnamePrefix: p-\nresources: [../../base]\n"
    )
    lines = manifests.build(str(overlay)).source_lines
    text = (base / "all.yaml").read_text().splitlines()
    db = text.index("metadata: {name: db}") + 1 - 2
    assert lines["networkpolicy prod/p-db"] == SourceLine(file="base/all.yaml", line=db)
    assert lines["pod prod/p-cli"] == SourceLine(file="base/all.yaml", line=1)
    assert lines["networkpolicy prod/p-web-in"] == SourceLine(file="base/all.yaml")
