"""A must-gather read as a snapshot: a recorded cluster laid out as `oc adm inspect` does."""

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from audit.facts import assemble
from audit.replay.databases import OvsdbTool

GROUPS = {"pods": "core", "services": "core", "networkpolicies": "networking.k8s.io"}


def laid_out(cluster: Path, root: Path) -> Path:
    """Lay a recorded cluster out as a must-gather."""
    image = root / "quay-io-must-gather-sha256-1"
    for resource in ("nodes", "namespaces"):
        for one in json.loads((cluster / "kube" / f"{resource}.json").read_text())["items"]:
            name = one["metadata"]["name"]
            file = image / f"cluster-scoped-resources/core/{resource}/{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(one))
    for resource, group in GROUPS.items():
        spaces: dict[str, list[object]] = {}
        for one in json.loads((cluster / "kube" / f"{resource}.json").read_text())["items"]:
            spaces.setdefault(one["metadata"]["namespace"], []).append(one)
        for space, items in spaces.items():
            file = image / f"namespaces/{space}/{group}/{resource}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump({"kind": "List", "items": items}))
    (image / "network_logs").mkdir()
    with tarfile.open(image / "network_logs/ovnk_database_store.tar.gz", "w:gz") as tar:
        for database in cluster.glob("ovn/*/*.db"):
            pod = f"ovnkube-node-{database.parent.name}"
            tar.add(database, f"ovnk_database_store/{pod}_{database.stem}db")
    return root


@pytest.mark.ovn
def test_a_must_gather_is_the_cluster_it_was_taken_of(
    cluster: Path, reader: OvsdbTool, tmp_path: Path
) -> None:
    gathered = laid_out(cluster, tmp_path / "must-gather")
    found = assemble.load(gathered, tmp_path / "a", reader)
    known = assemble.load(cluster, tmp_path / "b", reader)
    assert found.pods == known.pods
    assert found.nodes == known.nodes
    assert found.zones.keys() == known.zones.keys()
    assert found.services
    assert found.source.startswith("must-gather")
    assert found.unread_policies == ("networkpolicies",)
    assert [note for note in found.notes if note.code == "must-gather"]
