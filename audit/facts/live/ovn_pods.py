"""Where the databases of OVN are in a cluster: by containers, never by annotations.

Node annotations such as `k8s.ovn.org/zone-name` are not written any more (since OVN-Kubernetes of
August 2026), and process arguments cannot be read without a shell. What a pod is made of can.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from audit.errors import ClusterError
from audit.facts.live.execs import Container
from audit.facts.live.resources import LISTED

Object = Mapping[str, Any]

NAMESPACES = ("ovn-kubernetes", "openshift-ovn-kubernetes")
"""Upstream (kind and helm), and OpenShift."""
NORTHBOUND = ("nb-ovsdb", "nbdb")
"""Containers with the northbound server: upstream's name, and OpenShift's."""
SOUTHBOUND = ("sb-ovsdb", "sbdb")
CONTROLLER = ("ovn-controller",)
"""The container with the sockets of its node's Open vSwitch, in every deployment."""
OVS_RUNDIR = "/var/run/openvswitch"
"""Where they are there."""

PODS = next(listed for listed in LISTED if listed.resource == "pods")
"""What the databases are found by."""

SOCKETS = {
    "OVN_Northbound": "unix:/var/run/ovn/ovnnb_db.sock",
    "OVN_Southbound": "unix:/var/run/ovn/ovnsb_db.sock",
}
"""Both servers listen here in their own container, also where others use TLS to get to them."""

_CENTRAL = frozenset({"ovnkube-master", "ovnkube-db", "ovnkube-db-raft"})
"""Workloads whose pods are members of the one pair of databases: `app` or `name` labels."""
_ZONE_CONTROLLER = "ovnkube-zone-controller"
_RUNNING = "Running"


class Mode(StrEnum):
    """How OVN-Kubernetes is deployed."""

    PER_NODE = "interconnect, a zone per node"
    ZONES = "interconnect, zones of several nodes"
    CENTRAL = "central"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneDatabases:
    """A pair of databases: where it can be read. `name` is what the zone is called for now."""

    name: str
    members: tuple[tuple[Container, Container], ...]
    """(northbound, southbound) containers; of several members any will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """All databases of a cluster."""

    namespace: str
    mode: Mode
    zones: tuple[ZoneDatabases, ...]
    silent: tuple[str, ...]
    """Nodes whose pod does not run, so that their databases cannot be read."""


def find(pods: Iterable[Object], namespace: str = "") -> Databases:
    """Find the databases; ClusterError when there are none, or two namespaces might hold them."""
    candidates = _candidates(pods)
    chosen = _namespace(candidates, namespace)
    members, central, silent = [], [], []
    for pod in sorted(candidates[chosen], key=lambda pod: str(pod["metadata"]["name"])):
        if not _runs(pod):
            silent.append(_node(pod))
        elif _workload(pod) & _CENTRAL:
            central.append(pod)
        else:
            members.append(pod)
    zones = [ZoneDatabases(name=_node(pod), members=(_containers(pod),)) for pod in members]
    if central:
        zones.append(ZoneDatabases(name="global", members=tuple(map(_containers, central))))
    if not zones:
        raise ClusterError(
            f"no pod with OVN's databases runs in namespace {chosen}: "
            f"kubectl -n {chosen} get pods -o wide says why"
        )
    alive = {pair.name for pair in zones}
    return Databases(
        namespace=chosen,
        mode=_mode(members, central),
        zones=tuple(zones),
        silent=() if central else tuple(sorted(set(silent) - alive)),
    )


def _candidates(pods: Iterable[Object]) -> Mapping[str, Sequence[Object]]:
    """Return the pods with containers of both databases, by namespace."""
    candidates: dict[str, list[Object]] = defaultdict(list)
    for pod in pods:
        if _container(pod, NORTHBOUND) and _container(pod, SOUTHBOUND):
            candidates[pod["metadata"]["namespace"]].append(pod)
    return candidates


def switches(pods: Iterable[Object], namespace: str) -> dict[str, Container]:
    """Return where the switch of each node is: in a namespace, the containers that run for it."""
    return {
        _node(pod): Container(namespace=namespace, pod=pod["metadata"]["name"], name=name)
        for pod in pods
        if pod["metadata"]["namespace"] == namespace and _runs(pod)
        if (name := _container(pod, CONTROLLER))
    }


def by_zone(
    located: Databases, snapshot: Path
) -> dict[str, tuple[tuple[Container, Container], ...]]:
    """Return where the databases of each zone of a snapshot are now: of each member, both.

    Pods may have come and gone since. ClusterError when the snapshot does not say where they were.
    """
    try:
        where = json.loads((snapshot / "snapshot.json").read_text(encoding="utf-8"))["zones"]
    except (OSError, ValueError, LookupError) as error:
        raise ClusterError(
            f"{snapshot} does not say in which pods its databases were read: {error}"
        ) from error
    members = {pair.name: pair.members for pair in located.zones}
    return {zone: members[name] for zone, name in where.items() if name in members}


def _namespace(candidates: Mapping[str, Sequence[Object]], wanted: str) -> str:
    """Choose a namespace: a command is run in its pods, so what is unclear is not guessed."""
    if wanted:
        if wanted not in candidates:
            raise ClusterError(
                f"no pod of namespace {wanted} has containers "
                f"{' or '.join(NORTHBOUND)} and {' or '.join(SOUTHBOUND)}"
            )
        return wanted
    usual = [name for name in NAMESPACES if name in candidates]
    if len(usual) == 1:
        return usual[0]
    if not candidates:
        raise ClusterError(
            "no pod has containers with OVN's databases "
            f"({' or '.join(NORTHBOUND)}, {' or '.join(SOUTHBOUND)}); is this an OVN-Kubernetes "
            "cluster?"
        )
    raise ClusterError(
        f"OVN's databases may be in namespaces {', '.join(sorted(candidates))}; name the one of "
        "OVN-Kubernetes with --ovn-config-namespace"
    )


def _mode(members: Sequence[Object], central: Sequence[Object]) -> Mode:
    if central:
        return Mode.CENTRAL
    several = any(_ZONE_CONTROLLER in _workload(pod) for pod in members)
    return Mode.ZONES if several else Mode.PER_NODE


def _workload(pod: Object) -> set[str]:
    labels = pod["metadata"].get("labels") or {}
    return {labels.get("app", ""), labels.get("name", "")}


def _runs(pod: Object) -> bool:
    running = (pod.get("status") or {}).get("phase") == _RUNNING
    return running and not pod["metadata"].get("deletionTimestamp")


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName") or pod["metadata"]["name"])


def _container(pod: Object, names: Sequence[str]) -> str:
    """Return the first container with one of these names; empty when there is none."""
    containers = [c["name"] for c in (pod.get("spec") or {}).get("containers") or ()]
    return next((str(name) for name in containers if name in names), "")


def _containers(pod: Object) -> tuple[Container, Container]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    north, south = _container(pod, NORTHBOUND), _container(pod, SOUTHBOUND)
    return (
        Container(namespace=namespace, pod=name, name=north),
        Container(namespace=namespace, pod=name, name=south),
    )
