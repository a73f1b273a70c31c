"""A dump of one namespace says that it is one, and calls no pod gone that it cannot know of."""

import json
from pathlib import Path

import pytest

from audit.facts import assemble
from audit.model.findings import FindingKind
from audit.replay.databases import OvsdbTool


def kept_of(cluster: Path, namespaces: set[str]) -> None:
    for resource in ("pods", "services", "endpointslices", "networkpolicies"):
        file = cluster / "kube" / f"{resource}.json"
        said = json.loads(file.read_text())
        said["items"] = [i for i in said["items"] if i["metadata"]["namespace"] in namespaces]
        file.write_text(json.dumps(said))


@pytest.mark.ovn
def test_a_dump_of_one_namespace(cluster: Path, reader: OvsdbTool, tmp_path: Path) -> None:
    whole = assemble.load(cluster, tmp_path / "whole", reader)
    assert "namespaces-missing" not in {note.code for note in whole.notes}
    kept_of(cluster, {"shop"})
    state = assemble.load(cluster, tmp_path / "part", reader)
    [note] = [note for note in state.notes if note.code == "namespaces-missing"]
    assert "pods of namespace shop only" in note.text
    assert {"default", "prod"} <= set(note.subjects)
    assert "shop" not in note.subjects
    kinds = {difference.kind for difference in state.differences}
    assert FindingKind.PORT_WITHOUT_POD not in kinds


@pytest.mark.ovn
def test_a_namespace_without_a_pod_is_no_dump(
    cluster: Path, reader: OvsdbTool, tmp_path: Path
) -> None:
    spaces = json.loads((cluster / "kube" / "namespaces.json").read_text())["items"]
    kept_of(cluster, {item["metadata"]["name"] for item in spaces} - {"prod"})
    state = assemble.load(cluster, tmp_path / "work", reader)
    assert "namespaces-missing" not in {note.code for note in state.notes}
    assert FindingKind.PORT_WITHOUT_POD in {difference.kind for difference in state.differences}
