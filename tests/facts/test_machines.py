"""Pods of virtual machines that are migrated: which of the two has the machine."""

from typing import Any

import pytest

from audit.facts import kube, machines

EARLY, LATE = "2026-11-01T10:00:00Z", "2026-11-01T10:05:00Z"


def launcher(name: str, created: str, *, ready: str = "", **fields: Any) -> kube.PodFacts:
    """Return a virt-launcher pod as the API server shows it."""
    annotations = {"kubevirt.io/migration-target-ready-timestamp": ready} if ready else {}
    item: dict[str, Any] = {
        "metadata": {
            "namespace": "vms",
            "name": name,
            "creationTimestamp": created,
            "labels": {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "db"},
            "annotations": annotations,
        },
        "spec": {"nodeName": f"node-of-{name}"},
        "status": {"phase": "Running", "podIP": "10.128.0.7"},
    }
    for part, changed in fields.items():
        item[part] = item[part] | changed
    return kube.pod(item)


@pytest.mark.parametrize(
    ("ready", "idle"), [("", {("vms", "a-target")}), (LATE, {("vms", "z-source")})]
)
def test_a_machine_runs_in_the_older_pod_until_the_newer_has_taken_over(
    ready: str, idle: set[tuple[str, str]]
) -> None:
    pods = [launcher("a-target", LATE, ready=ready), launcher("z-source", EARLY)]
    assert machines.idle(pods) == machines.idle(pods[::-1]) == idle


@pytest.mark.parametrize(
    "other",
    [
        {"status": {"phase": "Succeeded"}},
        {"status": {"phase": "Pending"}},
        {"spec": {"nodeName": ""}},
        {"metadata": {"labels": {"vm.kubevirt.io/name": "web"}}},
        {"metadata": {"labels": {}}},
        {"metadata": {"namespace": "others"}},
    ],
)
def test_only_two_running_pods_of_one_machine_are_one(other: dict[str, Any]) -> None:
    assert machines.idle([launcher("a", EARLY), launcher("b", LATE, **other)]) == frozenset()


def test_of_three_pods_nothing_is_known() -> None:
    pods = [launcher(name, EARLY, ready=LATE) for name in ("a", "b", "c")]
    assert machines.idle(pods) == frozenset()
