"""A cluster from its Kubernetes objects alone: what the intent plane needs, and no OVN.

From a snapshot's `kube/`, or from manifests as they lie in a repository. Pods that do not run yet
have no address; where a policy asks for one, the answer is not known and is said to be so.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from audit.facts import archive, contradictions, kube, policylists, snapshot
from audit.facts.manifests import Manifests
from audit.facts.networks import DEFAULT, Placed
from audit.model.endpoints import Attachment, Endpoint, EndpointKind
from audit.model.facts import ClusterState, Note
from audit.model.verdicts import Reason

_OUTSIDE = MappingProxyType({"": Endpoint(kind=EndpointKind.EXTERNAL, name="outside")})
"""Where no gateway is known, a packet from outside has one way in."""


def load_snapshot(path: Path, workdir: Path, *, most: int = archive.LARGEST) -> ClusterState:
    """Read a snapshot's objects; its databases need not be there. SnapshotError as usual."""
    found = snapshot.open_snapshot(path, workdir, databases=False, most=most)
    pods = snapshot.required(found, "pods", kube.pod)
    nodes = snapshot.required(found, "nodes", kube.node)
    namespaces = dict(snapshot.required(found, "namespaces", kube.namespace))
    slices: dict[tuple[str, str], list[kube.Object]] = defaultdict(list)
    sliced = snapshot.read_objects(found, "endpointslices", lambda i: (kube.slice_service(i), i))
    for owner, item in sliced or ():
        if owner is not None:
            slices[owner].append(item)
    services = snapshot.read_objects(found, "services", partial(kube.service, slices=slices))
    policies = policylists.policies(found)
    described = snapshot.describe(found)
    missing = [
        Note(
            code="list-missing",
            text=f"kube/{resource}.json is not in the snapshot: {consequence}",
            subjects=(resource,),
        )
        for resource, consequence, read in (
            ("services", "services cannot be audited", services),
            ("endpointslices", "services have no known endpoints", sliced),
        )
        if read is None
    ]
    hosts = {node.name: _node(node) for node in nodes}
    host_addresses = {node.name: node.host_addresses for node in nodes}
    contradictory: dict[str, list[str]] = defaultdict(list)
    for pod in pods:
        if wrong := contradictions.of_pod(pod, host=host_addresses.get(pod.node, ())):
            contradictory[wrong].append(f"{pod.namespace}/{pod.name}")
    unknown = frozenset(name for names in contradictory.values() for name in names)
    audited = [
        pod
        for pod in pods
        if f"{pod.namespace}/{pod.name}" in unknown
        or (pod.phase not in kube.FINISHED and pod.node and pod.phase != "Pending")
    ]
    left_out = [f"{p.namespace}/{p.name}" for p in pods if p not in audited]
    return _sorted(
        ClusterState(
            source=described.source or found.source,
            pods=tuple(
                replace(_pod(pod, hosts), obstacle=Reason.OBJECT_CONTRADICTS)
                if f"{pod.namespace}/{pod.name}" in unknown
                else _pod(pod, hosts)
                for pod in audited
            ),
            nodes=tuple(hosts.values()),
            services=tuple(services or ()),
            namespaces=MappingProxyType(namespaces),
            policies=tuple(policies.policies),
            zones=MappingProxyType({}),
            notes=(
                *described.notes,
                *missing,
                *policies.notes,
                *_left_out(left_out),
                *contradictions.notes(contradictory),
            ),
            unread_policies=(*described.unread_policies, *policies.unread),
            inputs=snapshot.hash_inputs(found),
            gateways=_OUTSIDE,
            cluster=snapshot.cluster(found),
        )
    )


def load_manifests(read: Manifests) -> ClusterState:
    """Take manifests for a cluster: workloads stand for their pods, names for namespaces."""
    hosts = {node.name: _node(node) for node in read.nodes}
    spaces = {name: tuple(sorted(labels.items())) for name, labels in read.namespaces.items()}
    places = read.places()
    return _sorted(
        ClusterState(
            source=read.source,
            pods=tuple(_placed(pod, _pod(pod, hosts), places[pod.namespace]) for pod in read.pods),
            nodes=tuple(hosts.values()),
            services=(),
            namespaces=MappingProxyType(spaces),
            policies=tuple(read.policies),
            zones=MappingProxyType({}),
            notes=tuple(read.notes),
            inputs=read.inputs,
            gateways=_OUTSIDE,
            complete=False,
            ranges=read.ranges,
            ingresses=tuple(sorted(read.ingresses, key=lambda one: one.row)),
            controller=read.controller,
        )
    )


def _placed(pod: kube.PodFacts, endpoint: Endpoint, where: Placed) -> Endpoint:
    """Return a pod on its namespace's network, at an address there that no object states."""
    if pod.host_network or where == DEFAULT:
        return endpoint
    doubtful = where.doubt or pod.opened
    return replace(
        endpoint,
        addresses=(),
        network=where.name,
        obstacle=Reason.NETWORK_UNKNOWN if doubtful else Reason.NO_ADDRESS,
    )


def _sorted(state: ClusterState) -> ClusterState:
    """Return a cluster with everything in its order."""
    return replace(
        state,
        pods=tuple(sorted(state.pods, key=lambda e: (e.namespace, e.name))),
        nodes=tuple(sorted(state.nodes, key=lambda e: e.name)),
        services=tuple(sorted(state.services, key=lambda s: (s.namespace, s.name))),
        policies=tuple(sorted(state.policies, key=lambda policy: policy.ref)),
    )


def _left_out(names: Sequence[str]) -> list[Note]:
    text = f"{len(names)} {'pod' if len(names) == 1 else 'pods'} completed or pending: not audited"
    return [Note(code="pod-not-running", text=text, subjects=tuple(sorted(names)))] if names else []


def _node(node: kube.NodeFacts) -> Endpoint:
    """Return a node: it sends from its management port, the second address of its subnets."""
    sends = tuple(str(ipaddress.ip_network(s, strict=False)[2]) for s in node.subnets)
    attached = Attachment(
        zone="", switch=node.name, port="", mac="", gateway_mac="", addresses=sends
    )
    return Endpoint(
        kind=EndpointKind.NODE,
        name=node.name,
        node=node.name,
        addresses=node.addresses,
        labels=node.labels,
        host_network=True,
        attachment=attached if sends else None,
        obstacle="" if node.addresses else Reason.NO_ADDRESS,
    )


def _pod(pod: kube.PodFacts, hosts: Mapping[str, Endpoint]) -> Endpoint:
    host = hosts.get(pod.node) if pod.host_network else None
    addresses = host.addresses or pod.addresses if host else pod.addresses
    obstacle = "" if addresses else Reason.NO_ADDRESS
    if pod.primary_network and not pod.host_network:
        obstacle = Reason.USER_DEFINED_NETWORK
    return Endpoint(
        kind=EndpointKind.POD,
        namespace=pod.namespace,
        name=pod.name,
        node=pod.node,
        addresses=addresses,
        labels=pod.labels,
        workload=pod.workload,
        host_network=pod.host_network,
        declared=pod.declared,
        attachment=host.attachment if host else None,
        obstacle=obstacle,
    )
