"""Kubernetes objects and zones joined into a ClusterState; what does not join becomes a note.

What Kubernetes and OVN disagree about is said in a sentence and never guessed over.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from audit.facts import (
    archive,
    contradictions,
    kube,
    machines,
    policylists,
    slices,
    snapshot,
)
from audit.facts import partial as dump
from audit.facts import zones as databases
from audit.facts.inventory import pods as ports
from audit.facts.inventory.cluster import Cluster, Name, name_of, plain
from audit.facts.inventory.compare import compare
from audit.facts.inventory.services import Declared, declared
from audit.facts.topology import Topology
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, in_order
from audit.model.engine import DatabaseReader
from audit.model.facts import Acl, ClusterState, Note, Service, Zone
from audit.model.inventory import Difference
from audit.model.networks import Network, Role
from audit.model.verdicts import Reason


def load(
    path: Path, workdir: Path, reader: DatabaseReader, *, most: int = archive.LARGEST
) -> ClusterState:
    """Read a snapshot, of which `most` bytes may be unpacked.

    SnapshotError or DatabaseError when it cannot be used at all.
    A zone whose databases cannot be read is left out with a note, and everything that needs it
    is `untraced`; when no zone can be read, that is the error.
    """
    opened = snapshot.open_snapshot(path, workdir, most=most)
    with ThreadPoolExecutor(1) as aside:
        inputs = aside.submit(snapshot.hash_inputs, opened)  # computed beside everything else
        pod_facts = snapshot.required(opened, "pods", kube.pod)
        node_facts = snapshot.required(opened, "nodes", kube.node)
        namespaces = dict(snapshot.required(opened, "namespaces", kube.namespace))
        services, balanced, service_notes = _services(opened)
        listed = policylists.policies(opened)
        policies = tuple(sorted(listed.policies, key=lambda policy: policy.ref))
        read = databases.Source(
            opened=opened,
            workdir=workdir,
            reader=reader,
            endpoint_addresses=_addresses(pod_facts, node_facts),
        )
        zones, zone_notes = databases.read(read)
    topology = Topology.of(zones, node_facts)
    nodes = {node.name: _node_endpoint(node, topology) for node in node_facts}
    described = snapshot.describe(opened)
    changed = frozenset(map(_name, described.changed))
    differing = ports.differing((pod for pod in pod_facts if name_of(pod) not in changed), topology)
    hosts = {node.name: node.host_addresses for node in node_facts}
    joined = _Join(topology=topology, nodes=nodes, hosts=hosts, differing=differing.keys())
    pods, pod_notes = _pods(pod_facts, joined)
    cluster = Cluster(
        pods=pod_facts,
        nodes=node_facts,
        namespaces=namespaces,
        policies=tuple(p for p in policies if p.ref.kind != _OF_SECONDARY),
        kinds=frozenset(listed.kinds) - {*described.unread_policies, _OF_SECONDARY},
        zones=zones,
        topology=topology,
        differing=changed.union(differing),
    )
    return ClusterState(
        source=described.source or opened.source,
        pods=unsettled(pods, described.changed),
        nodes=tuple(nodes[name] for name in sorted(nodes)),
        services=services,
        namespaces=MappingProxyType(namespaces),
        policies=policies,
        zones=MappingProxyType(zones),
        notes=(
            *(*described.notes, *zone_notes, *service_notes, *_policy_notes(listed)),
            *(*_node_notes(nodes), *pod_notes),
            *dump.notes(pod_facts, topology, dump.missing(pod_facts, topology)),
        ),
        resource_versions=MappingProxyType(dict(described.resource_versions)),
        unread_policies=(*described.unread_policies, *listed.unread, *_unlisted(zones, listed)),
        attached=MappingProxyType(dict(sorted(topology.attached.items()))),
        joined=_joined(zones),
        differences=_differences(cluster, balanced, tuple(differing.values())),
        inputs=inputs.result(),
        gateways=MappingProxyType(topology.gateways(node_facts)),
        ways_in=topology.ways_in(node_facts),
        cluster=snapshot.cluster(opened),
    )


_OF_SECONDARY = "MultiNetworkPolicy"
"""The kind that has its rows on secondary networks, which the inventory does not compare."""
_JOINING = frozenset({"ClusterNetworkConnect", "AdvertisedNetwork"})
"""Owner types of ACLs between networks that are joined (OVN-Kubernetes, db_object_types.go)."""


def _acls(zones: Mapping[str, Zone]) -> Iterator[Acl]:
    for zone in zones.values():
        for acls in zone.acls.values():
            yield from acls


def _unlisted(zones: Mapping[str, Zone], listed: policylists.Listed) -> tuple[str, ...]:
    """Return the kind of policies of which OVN has ACLs and the snapshot no list: a CRD's."""
    if _OF_SECONDARY in listed.read:
        return ()
    in_force = any(acl.policy and acl.policy.kind == _OF_SECONDARY for acl in _acls(zones))
    return (policylists.RESOURCE_OF[_OF_SECONDARY],) if in_force else ()


def _joined(zones: Mapping[str, Zone]) -> bool:
    """Say whether networks are joined: by what ACLs between them say, or by ports that lead on."""
    return any(acl.owner_type in _JOINING for acl in _acls(zones)) or any(
        len({*map(zone.network_at, datapaths)}) > 1
        for zone in zones.values()
        for datapaths in set(zone.joined(tuple(zone.networks)).values())
    )


def _name(key: str) -> Name:
    namespace, _, name = key.partition("/")
    return namespace, name


def _addresses(pods: Iterable[kube.PodFacts], nodes: Iterable[kube.NodeFacts]) -> frozenset[str]:
    of_pods = frozenset(address for pod in pods for address in pod.addresses)
    return of_pods.union(*(node.addresses for node in nodes))


def unsettled(pods: Iterable[Endpoint], changed: Collection[str]) -> tuple[Endpoint, ...]:
    """Return pods; those that changed while they were read have an obstacle."""
    return tuple(
        replace(pod, obstacle=Reason.CHANGED_MEANWHILE)
        if f"{pod.namespace}/{pod.name}" in changed
        else pod
        for pod in pods
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Balanced:
    """Services as load balancers are made of them; `sliced` if their endpoints are known."""

    services: tuple[Declared, ...]
    sliced: bool


def _services(
    opened: snapshot.Snapshot,
) -> tuple[tuple[Service, ...], _Balanced, list[Note]]:
    """Read the services with their endpoints, and say what is missing for that."""
    listed = slices.by_service(opened)
    sliced = listed or {}

    def both(item: kube.Object) -> tuple[Service, Declared | None]:
        service = kube.service(item, sliced)
        return service, declared(item, sliced.get((service.namespace, service.name), ()))

    read = snapshot.read_objects(opened, "services", both)
    if read is None:
        unknown = _Balanced(services=(), sliced=False)
        return (), unknown, [_missing("services", "services cannot be audited")]
    services = sorted((service for service, _ in read), key=lambda s: (s.namespace, s.name))
    balanced = _Balanced(
        services=tuple(declaration for _, declaration in read if declaration is not None),
        # A list that is there and empty is one that was not asked for: every Service has a slice.
        sliced=bool(sliced),
    )
    headless = tuple(sorted(f"{s.namespace}/{s.name}" for s in services if s.headless))
    notes = []
    if listed is None and headless:
        notes.append(_missing("endpointslices", "headless services have no known endpoints"))
    return tuple(services), balanced, notes


def _differences(
    cluster: Cluster, balanced: _Balanced, differing: Sequence[Difference]
) -> tuple[Difference, ...]:
    return compare(cluster, balanced.services, differing=differing, sliced=balanced.sliced)


def _policy_notes(listed: policylists.Listed) -> list[Note]:
    """Say what is missing, and what is wrong with policies.

    Only of NetworkPolicy every cluster has a list: the rest are CRDs.
    """
    consequence = (
        "policies are named but their text is not shown, and a default deny names the namespace "
        "only"
    )
    absent = "NetworkPolicy" not in listed.read
    return [*([_missing("networkpolicies", consequence)] if absent else []), *listed.notes]


def _missing(resource: str, consequence: str) -> Note:
    text = f"kube/{resource}.json is not in the snapshot: {consequence}"
    return Note(code="list-missing", text=text, subjects=(resource,))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Join:
    """What a pod is joined with: the databases, and the nodes as endpoints."""

    topology: Topology
    nodes: Mapping[str, Endpoint]
    hosts: Mapping[str, tuple[str, ...]]
    """Every address of each node's host."""
    differing: Collection[Name]
    """Pods whose port is not as Kubernetes says."""


def _node_endpoint(node: kube.NodeFacts, topology: Topology) -> Endpoint:
    """Return a node as an endpoint: its host, attached by its management port."""
    attached = topology.host_attachment(node)
    obstacle = ""
    if attached is None:
        has_switch = node.name in topology.switch_of_node
        absent = Reason.HYBRID_OVERLAY if node.hybrid else Reason.ZONE_MISSING
        obstacle = Reason.NO_LOGICAL_PORT if has_switch else absent
    elif not node.addresses:
        obstacle = Reason.NO_ADDRESS
    return Endpoint(
        kind=EndpointKind.NODE,
        name=node.name,
        node=node.name,
        addresses=node.addresses,
        labels=node.labels,
        host_network=True,
        attachment=attached,
        obstacle=obstacle,
    )


def _node_notes(nodes: Mapping[str, Endpoint]) -> list[Note]:
    """Say which nodes cannot be traced, and why."""
    groups: dict[str, list[str]] = defaultdict(list)
    for node in nodes.values():
        groups[node.obstacle].append(node.name)
    return _notes(_NODE_NOTES, groups, "node")


def _pods(pods: Sequence[kube.PodFacts], joined: _Join) -> tuple[tuple[Endpoint, ...], list[Note]]:
    """Return the pods that can be rows and columns, and a note for each kind that cannot."""
    groups: dict[str, list[str]] = defaultdict(list)
    contradictory: dict[str, list[str]] = defaultdict(list)
    endpoints = []
    idle = machines.idle(pods)
    for pod in pods:
        has_port = (pod.namespace, pod.name) in joined.topology.pod_ports
        name = f"{pod.namespace}/{pod.name}"
        host = joined.hosts.get(pod.node, ())
        if wrong := contradictions.of_pod(pod, host=host, has_port=has_port):
            contradictory[wrong].append(name)
            contradicting = replace(_pod_endpoint(pod, joined), obstacle=Reason.OBJECT_CONTRADICTS)
            endpoints.append(contradicting)
            continue
        if pod.phase in kube.FINISHED:
            groups["pod-finished"].append(name)
            continue
        if not pod.node or pod.phase == "Pending":
            groups["pod-pending-with-port" if has_port else "pod-pending"].append(name)
            continue
        if name_of(pod) in idle:
            groups["pod-machine-elsewhere"].append(name)
            continue
        for endpoint in _attachments(pod, joined):
            endpoints.append(endpoint)
            if endpoint.obstacle:
                groups[endpoint.obstacle].append(endpoint.key.removeprefix("pod "))
        if pod.terminating and not endpoints[-1].obstacle:
            groups["pod-terminating"].append(name)
        if pod.foreign:
            groups["interfaces-of-others"].append(f"{name} ({', '.join(pod.foreign)})")
    notes = [*_notes(_POD_NOTES, groups, "pod"), *contradictions.notes(contradictory)]
    return tuple(sorted(endpoints, key=in_order)), notes


def _notes(texts: Mapping[str, str], groups: Mapping[str, Sequence[str]], word: str) -> list[Note]:
    """Return a note for each code that has subjects, in the order of `texts`."""
    return [
        Note(
            code=code,
            text=text.format(
                n=f"{len(names)} {word}{'' if len(names) == 1 else 's'}",
                **(_ONE if len(names) == 1 else _SEVERAL),
            ),
            subjects=tuple(sorted(names)),
        )
        for code, text in texts.items()
        if (names := groups.get(code, ()))
    ]


_ONE = {"them": "it", "their": "its", "they_are": "it is"}
_SEVERAL = {"them": "them", "their": "their", "they_are": "they are"}
"""The words for what a note counts."""

_NODE_NOTES: Mapping[str, str] = {
    Reason.HYBRID_OVERLAY: "{n} of the hybrid overlay, where no OVN runs: untraced, as are "
    "the pods there",
    Reason.ZONE_MISSING: "{n} with a zone that is not in the snapshot: untraced, as are all cells "
    "that need it",
    Reason.NO_LOGICAL_PORT: "{n} without a management port in OVN: untraced, with host-network "
    "pods there",
    Reason.NO_ADDRESS: "{n} without an InternalIP: untraced",
}

_POD_NOTES: Mapping[str, str] = {
    "pod-finished": "{n} completed: without a network, and not audited",
    "pod-pending": "{n} pending: without a network yet, and not audited",
    "pod-pending-with-port": "{n} pending with a logical port already: not audited, though "
    "policies may select {them}",
    "pod-machine-elsewhere": "{n} whose virtual machine is being migrated and runs in another pod, "
    "which is audited for it",
    "pod-terminating": "{n} being deleted and still in OVN: audited as {they_are}",
    Reason.NO_LOGICAL_PORT: "{n} running without a logical port: {their} cells are untraced",
    Reason.HYBRID_OVERLAY: "{n} on nodes of the hybrid overlay, where no OVN runs: {their} cells "
    "are untraced",
    Reason.ZONE_MISSING: "{n} on nodes whose zone is not in the snapshot: {their} cells "
    "are untraced",
    Reason.NO_ADDRESS: "{n} without an address: {their} cells are untraced",
    "interfaces-of-others": "{n} with interfaces that OVN-Kubernetes did not make: these are not "
    "audited",
}


def _pod_endpoint(pod: kube.PodFacts, joined: _Join) -> Endpoint:
    """Return a running pod as an endpoint, with the obstacle that keeps it from being traced."""
    if pod.host_network:
        addresses, attachment, obstacle = _host_network(pod, joined.nodes)
    else:
        addresses, attachment, obstacle = _pod_network(pod, joined)
    if (pod.namespace, pod.name) in joined.differing:
        addresses, obstacle = pod.addresses or addresses, Reason.POD_DIFFERS
    if not obstacle and not addresses:
        obstacle = Reason.NO_ADDRESS
    return pod.endpoint(addresses, attachment, obstacle)


def _attachments(pod: kube.PodFacts, joined: _Join) -> tuple[Endpoint, ...]:
    """Return a running pod once for each network that it is on.

    One of these is its primary network: its own, or else the default one.
    """
    others = list(_on_other_networks(pod, joined))
    primary = next((other for other in others if other.role is Role.PRIMARY), None)
    on_default = _pod_endpoint(pod, joined)
    return (
        replace(on_default, role=Role.LOCKED, opened=pod.opened)
        if primary or (pod.primary_network and not pod.host_network)
        else on_default,
        *(other if other is primary else replace(other, role=Role.SECONDARY) for other in others),
    )


def _on_other_networks(pod: kube.PodFacts, joined: _Join) -> Iterator[Endpoint]:
    """Yield a running pod once for each user-defined network that it is on.

    Its annotation says which these are, and the databases which ports it has there.
    """
    if pod.host_network:
        return
    topology = joined.topology
    ports = topology.other_ports.get((pod.namespace, pod.name), ())
    interfaces = {interface.nad: interface for interface in pod.interfaces}
    for _, port in ports:
        interfaces.setdefault(port.nad, kube.Interface(nad=port.nad, role=Role.SECONDARY))
    for nad, interface in sorted(interfaces.items()):
        zone_and_port = topology.port_on(pod.namespace, pod.name, nad)
        attachment = topology.attachment(*zone_and_port) if zone_and_port else None
        addresses = attachment.addresses if attachment else interface.addresses
        obstacle = "" if attachment else _absent(pod, joined)
        if attachment and set(map(plain, addresses)) != set(map(plain, interface.addresses)):
            obstacle = Reason.POD_DIFFERS if interface.addresses else obstacle
        network = topology.attached.get(nad, Network(name=nad, role=interface.role))
        obstacle = obstacle or ("" if addresses else Reason.NO_ADDRESS)
        yield replace(
            pod.endpoint(addresses, attachment, obstacle),
            network=network.name,
            role=interface.role if pod.primary_network else network.role,
        )


_Joined = tuple[tuple[str, ...], Attachment | None, str]
"""(addresses, attachment, obstacle) of a pod."""


def _host_network(pod: kube.PodFacts, nodes: Mapping[str, Endpoint]) -> _Joined:
    """Join a pod with its host: its packets enter OVN, if at all, by the management port."""
    node = nodes.get(pod.node)
    if node is None:
        return pod.addresses, None, Reason.ZONE_MISSING
    # A node without an InternalIP still has the address its pods report.
    obstacle = "" if node.attachment else node.obstacle
    return node.addresses or pod.addresses, node.attachment, obstacle


def _pod_network(pod: kube.PodFacts, joined: _Join) -> _Joined:
    """Join a pod with its logical port."""
    topology = joined.topology
    zone_and_port = topology.pod_port(pod.namespace, pod.name, pod.node)
    if zone_and_port is None:
        return pod.addresses, None, _absent(pod, joined)
    attachment = topology.attachment(*zone_and_port)
    if attachment is None:
        return pod.addresses, None, Reason.NO_LOGICAL_PORT
    return attachment.addresses, attachment, ""


def _absent(pod: kube.PodFacts, joined: _Join) -> Reason:
    """Say why a pod has no logical port."""
    if pod.node in joined.topology.switch_of_node:
        return Reason.NO_LOGICAL_PORT
    node = joined.nodes.get(pod.node)
    hybrid = node is not None and node.obstacle == Reason.HYBRID_OVERLAY
    return Reason.HYBRID_OVERLAY if hybrid else Reason.ZONE_MISSING
