"""A must-gather read as a snapshot: a recorded cluster laid out as `oc adm inspect` does."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from audit.errors import SnapshotError
from audit.facts import assemble, snapshot
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


@pytest.mark.ovn
@pytest.mark.parametrize("packing", [False, True])
def test_another_images_directory_may_come_first(
    cluster: Path, reader: OvsdbTool, tmp_path: Path, *, packing: bool
) -> None:
    gathered = laid_out(cluster, tmp_path / "must-gather.local.1")
    other = gathered / "a-storage-must-gather-sha256-0"
    (other / "cluster-scoped-resources/core/nodes").mkdir(parents=True)
    [first, *_] = gathered.glob("quay*/cluster-scoped-resources/core/nodes/*.yaml")
    shutil.copy(first, other / "cluster-scoped-resources/core/nodes")
    given = gathered
    if packing:
        given = tmp_path / "must-gather.tar.gz"
        with tarfile.open(given, "w:gz") as tar:
            tar.add(gathered, gathered.name)
    found = assemble.load(given, tmp_path / "a", reader)
    known = assemble.load(cluster, tmp_path / "b", reader)
    assert (found.pods, found.nodes) == (known.pods, known.nodes)
    assert found.zones.keys() == known.zones.keys()
    assert found.source == f"must-gather {given}"


def refused(path: Path, workdir: Path) -> str:
    with pytest.raises(SnapshotError) as caught:
        snapshot.open_snapshot(path, workdir)
    return str(caught.value)


def test_without_databases_it_says_how_to_get_them(cluster: Path, tmp_path: Path) -> None:
    gathered = laid_out(cluster, tmp_path / "must-gather")
    [logs] = gathered.glob("*/network_logs")
    shutil.rmtree(logs)
    shutil.rmtree(logs.parent / "cluster-scoped-resources")  # as `oc adm inspect ns/NAME` has none
    said = refused(gathered, tmp_path / "work")
    assert "no OVN databases" in said
    assert "oc adm must-gather -- gather_network_logs" in said


def test_its_databases_are_read_to_the_end(cluster: Path, tmp_path: Path) -> None:
    gathered = laid_out(cluster, tmp_path / "must-gather")
    [packed] = gathered.glob("*/network_logs/*.tar.gz")
    data = bytearray(packed.read_bytes())
    data[-6] ^= 1  # the checksum
    packed.write_bytes(data)
    assert "CRC check failed" in refused(gathered, tmp_path / "work")


BOMB = "\n".join(
    ["x0: &x0 [lol,lol,lol,lol,lol,lol,lol,lol]"]
    + [f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 8)}]" for n in range(1, 12)]
)
MERGED = "\n".join(
    ["x0: &x0 {a: b}"]
    + [f"x{n}: &x{n} {{'<<': [{','.join([f'*x{n - 1}'] * 8)}]}}" for n in range(1, 12)]
)


@pytest.mark.parametrize("text", [BOMB, MERGED, MERGED.replace("'<<'", "<<"), "a: &a [*a]"])
def test_aliases_cannot_fill_the_memory(tmp_path: Path, text: str) -> None:
    file = tmp_path / "must-gather/cluster-scoped-resources/core/namespaces/a.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"kind: Namespace\nmetadata:\n  name: a\n{text}\n")
    said = refused(tmp_path / "must-gather", tmp_path / "work")
    assert "a.yaml cannot be read" in said
    assert "alias" in said
