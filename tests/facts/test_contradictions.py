"""Objects that contradict themselves: of such a pod nothing is proven, and a note says why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.facts import assemble, objects
from audit.model.endpoints import Endpoint
from audit.model.facts import ClusterState
from audit.model.verdicts import Reason
from audit.replay.databases import OvsdbTool

WEB = ("default", "web-0")

Edit = Callable[[dict[str, Any]], None]


def without_phase(pod: dict[str, Any]) -> None:
    del pod["status"]["phase"]


def without_status(pod: dict[str, Any]) -> None:
    del pod["status"]


def lost(pod: dict[str, Any]) -> None:
    pod["status"]["phase"] = "Unknown"


def unheard_of(pod: dict[str, Any]) -> None:
    pod["status"]["phase"] = "Sleeping\n\x1b[2J"


def on_no_node(pod: dict[str, Any]) -> None:
    del pod["spec"]["nodeName"]


def in_the_host_network(pod: dict[str, Any]) -> None:
    pod["spec"]["hostNetwork"] = True


def edited(cluster: Path, edit: Edit) -> None:
    file = cluster / "kube" / "pods.json"
    said = json.loads(file.read_text())
    [web] = [p for p in said["items"] if (p["metadata"]["namespace"], p["metadata"]["name"]) == WEB]
    edit(web)
    file.write_text(json.dumps(said))


def web_of(state: ClusterState) -> Endpoint:
    [web] = [pod for pod in state.pods if (pod.namespace, pod.name) == WEB]
    return web


@pytest.mark.ovn
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (without_phase, "without a phase"),
        (without_status, "without a phase"),
        (lost, "in phase 'Unknown'"),
        (unheard_of, r"in phase 'Sleeping\n\x1b[2J'"),
        (on_no_node, "on no node"),
        (in_the_host_network, "in the host network and with"),
    ],
)
def test_nothing_is_traced_of_it(
    cluster: Path, reader: OvsdbTool, tmp_path: Path, edit: Edit, said: str
) -> None:
    known = assemble.load(cluster, tmp_path / "before", reader)
    assert not web_of(known).obstacle
    assert not [note for note in known.notes if note.code == Reason.OBJECT_CONTRADICTS]
    edited(cluster, edit)
    for state in (
        assemble.load(cluster, tmp_path / "a", reader),
        objects.load_snapshot(cluster, tmp_path / "b"),
    ):
        assert web_of(state).obstacle == Reason.OBJECT_CONTRADICTS
        [note] = [note for note in state.notes if note.code == Reason.OBJECT_CONTRADICTS]
        assert said in note.text
        assert note.subjects == ("default/web-0",)


def test_an_address_that_is_another_nodes(cluster: Path, tmp_path: Path) -> None:
    def moved(pod: dict[str, Any]) -> None:
        pod["spec"]["hostNetwork"] = True
        pod["status"]["podIPs"] = [{"ip": "192.0.2.1"}]

    edited(cluster, moved)
    state = objects.load_snapshot(cluster, tmp_path)
    assert web_of(state).obstacle == Reason.OBJECT_CONTRADICTS
