"""A cluster from its Kubernetes objects alone: what the intent plane needs, and no OVN.

From a snapshot's `kube/`, or from manifests as they lie in a repository. Pods that do not run yet
have no address; where a policy asks for one, the answer is not known and is said to be so.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from audit.facts import (
    archive,
    contradictions,
    kube,
    machines,
    networks,
    policylists,
    slices,
    snapshot,
)
from audit.facts.manifests import Manifests
from audit.facts.networks import DEFAULT, Placed
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, in_order
from audit.model.facts import ClusterState, Note, Service
from audit.model.networks import Network, Role
from audit.model.verdicts import Reason

_OUTSIDE = MappingProxyType({"": Endpoint(kind=EndpointKind.EXTERNAL, name="outside")})
"""Where no gateway is known, a packet from outside has one way in."""


def load_snapshot(path: Path, workdir: Path, *, most: int = archive.LARGEST) -> ClusterState:
    """Read a snapshot's objects; its databases need not be there. SnapshotError as usual."""
    opened = snapshot.open_snapshot(path, workdir, databases=False, most=most)
    listed_pods = snapshot.required(opened, "pods", kube.pod)
    nodes = snapshot.required(opened, "nodes", kube.node)
    namespaces = dict(snapshot.required(opened, "namespaces", kube.namespace))
    services, service_notes = _services(opened)
    policies = policylists.policies(opened)
    described = snapshot.describe(opened)
    hosts = {node.name: _node(node) for node in nodes}
    listed = snapshot.read_objects(opened, "network-attachment-definitions", _described)
    attached = networks.attached(
        chain.from_iterable(listed or ()), {name: dict(pairs) for name, pairs in namespaces.items()}
    )
    pods, pod_notes = _pods(listed_pods, nodes, hosts, attached)
    return _sorted(
        ClusterState(
            source=described.source or opened.source,
            pods=tuple(pods),
            nodes=tuple(hosts.values()),
            services=tuple(services),
            namespaces=MappingProxyType(namespaces),
            policies=tuple(policies.policies),
            zones=MappingProxyType({}),
            notes=(*described.notes, *service_notes, *policies.notes, *pod_notes),
            unread_policies=(
                *(*described.unread_policies, *policies.unread),
                *_unlisted(policies, pods),
            ),
            attached=MappingProxyType(attached),
            inputs=snapshot.hash_inputs(opened),
            gateways=_OUTSIDE,
            cluster=snapshot.cluster(opened),
        )
    )


def _services(opened: snapshot.Snapshot) -> tuple[Sequence[Service], list[Note]]:
    """Return the services with their endpoints, and a note for each list that is missing."""
    sliced = slices.by_service(opened)
    read_service = partial(kube.service, slices=sliced or {})
    services = snapshot.read_objects(opened, "services", read_service)
    notes = [
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
    return services or (), notes


def _pods(
    pods: Sequence[kube.PodFacts],
    nodes: Sequence[kube.NodeFacts],
    hosts: Mapping[str, Endpoint],
    attached: Mapping[str, Network],
) -> tuple[list[Endpoint], list[Note]]:
    """Return the pods that can be rows and columns, and notes on the others."""
    host_addresses = {node.name: node.host_addresses for node in nodes}
    contradictory: dict[str, list[str]] = defaultdict(list)
    endpoints = []
    left_out: dict[str, list[str]] = {"completed or pending": [], _ELSEWHERE: []}
    idle = machines.idle(pods)
    for pod in pods:
        name = f"{pod.namespace}/{pod.name}"
        if wrong := contradictions.of_pod(pod, host=host_addresses.get(pod.node, ())):
            contradictory[wrong].append(name)
            endpoints.append(replace(_pod(pod, hosts), obstacle=Reason.OBJECT_CONTRADICTS))
        elif pod.phase in kube.FINISHED or pod.phase == "Pending" or not pod.node:
            left_out["completed or pending"].append(name)
        elif (pod.namespace, pod.name) in idle:
            left_out[_ELSEWHERE].append(name)
        else:
            endpoints += _attachments(pod, hosts, attached)
    return endpoints, [*_left_out(left_out), *contradictions.notes(contradictory)]


def _described(item: kube.Object) -> list[networks.Described]:
    return [*networks.read({**item, "kind": "NetworkAttachmentDefinition"})]


def _unlisted(listed: policylists.Listed, pods: Iterable[Endpoint]) -> tuple[str, ...]:
    """Return the kind of policies that may concern some of the pods and has no list."""
    if "MultiNetworkPolicy" in listed.read or all(e.role is not Role.SECONDARY for e in pods):
        return ()
    return (policylists.RESOURCE_OF["MultiNetworkPolicy"],)


def _attachments(
    pod: kube.PodFacts, hosts: Mapping[str, Endpoint], attached: Mapping[str, Network]
) -> Iterator[Endpoint]:
    """Yield a running pod once for each network that OVN-Kubernetes' annotation says it is on."""
    on_default = _pod(pod, hosts)
    if pod.host_network:
        yield on_default
        return
    if pod.primary_network:
        on_default = replace(on_default, role=Role.LOCKED, opened=pod.opened)
    yield on_default
    for interface in pod.interfaces:
        yield replace(
            on_default,
            addresses=interface.addresses,
            obstacle="" if interface.addresses else Reason.NO_ADDRESS,
            network=attached[interface.nad].name if interface.nad in attached else interface.nad,
            role=interface.role,
            opened=(),
        )


def load_manifests(read: Manifests) -> ClusterState:
    """Take manifests for a cluster: workloads stand for their pods, names for namespaces."""
    hosts = {node.name: _node(node) for node in read.nodes}
    spaces = {name: tuple(sorted(labels.items())) for name, labels in read.namespaces.items()}
    places = read.places()
    attached = networks.attached(read.networks, read.namespaces)
    return _sorted(
        ClusterState(
            source=read.source,
            pods=tuple(
                endpoint
                for pod in read.pods
                for endpoint in _placed(pod, _pod(pod, hosts), places[pod.namespace], attached)
            ),
            nodes=tuple(hosts.values()),
            services=(),
            namespaces=MappingProxyType(spaces),
            policies=tuple(read.policies),
            zones=MappingProxyType({}),
            notes=tuple(read.notes),
            inputs=read.inputs,
            gateways=_OUTSIDE,
            attached=MappingProxyType(attached),
            joined=read.joined,
            complete=False,
            ranges=read.ranges,
            ingresses=tuple(sorted(read.ingresses, key=lambda ingress: ingress.row)),
            controller=read.controller,
            source_lines=MappingProxyType(read.source_lines),
        )
    )


def _placed(
    pod: kube.PodFacts, endpoint: Endpoint, where: Placed, attached: Mapping[str, Network]
) -> Iterator[Endpoint]:
    """Yield a pod on its namespace's network, and on those it asks for, at unknown addresses.

    Its locked port is beside it only where ports are open there: else nothing but isolation and its
    own node is to be said of it, and neither is in manifests.
    """
    if pod.host_network:
        yield endpoint
        return
    elsewhere = replace(endpoint, addresses=(), obstacle=Reason.NO_ADDRESS)
    if where == DEFAULT:
        yield endpoint
    else:
        obstacle = Reason.NETWORK_UNKNOWN if where.doubt else Reason.NO_ADDRESS
        yield replace(elsewhere, network=where.name, obstacle=obstacle)
        if pod.opened and where.name:
            yield replace(endpoint, role=Role.LOCKED, opened=pod.opened)
    for nad in pod.requested:
        network = attached.get(nad)
        if network is not None and network.role is Role.SECONDARY:
            yield replace(elsewhere, network=network.name, role=Role.SECONDARY)


def _sorted(state: ClusterState) -> ClusterState:
    """Return a cluster with everything in its order."""
    return replace(
        state,
        pods=tuple(sorted(state.pods, key=in_order)),
        nodes=tuple(sorted(state.nodes, key=lambda e: e.name)),
        services=tuple(sorted(state.services, key=lambda s: (s.namespace, s.name))),
        policies=tuple(sorted(state.policies, key=lambda policy: policy.ref)),
    )


_ELSEWHERE = "with a virtual machine that is being migrated and runs in another pod"


def _left_out(pods: Mapping[str, Sequence[str]]) -> Iterator[Note]:
    for why, names in pods.items():
        if names:
            text = f"{len(names)} {'pod' if len(names) == 1 else 'pods'} {why}: not audited"
            yield Note(code="pod-not-running", text=text, subjects=tuple(sorted(names)))


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
    return pod.endpoint(addresses, host.attachment if host else None, obstacle)
