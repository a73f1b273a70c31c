"""Pods beside their logical ports: address, MAC, node, chassis; and ports of pods that are gone."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from audit.facts import partial
from audit.facts.inventory.cluster import (
    Cluster,
    Name,
    family_of,
    key_of,
    name_of,
    plain,
    settled,
)
from audit.facts.kube import FINISHED, PodFacts
from audit.facts.topology import Topology
from audit.model.facts import LogicalPort
from audit.model.findings import FindingKind
from audit.model.inventory import Difference


def differing(pods: Iterable[PodFacts], topology: Topology) -> dict[Name, Difference]:
    """Return what differs, of the running pods whose port is not as Kubernetes says.

    What others send to is `status.podIPs`, so that is what a port must have; the annotation is
    asked where there is none, and of the MAC. Of a pod in a user-defined network the port on the
    default one is no way to it.
    """
    differences = {}
    for pod in pods:
        if pod.host_network or pod.primary_network or pod.phase in FINISHED or not pod.node:
            continue
        there = topology.pod_port(pod.namespace, pod.name, pod.node)
        if there is None or pod.phase == "Pending":
            continue
        text = "; ".join(_differences(pod, *there, topology))
        if text:
            differences[name_of(pod)] = Difference(
                kind=FindingKind.POD_DIFFERS,
                text=f"pod {pod.namespace}/{pod.name}: {text} (port {there[1].name} in zone "
                f"{there[0]})",
                zones=(there[0],),
                about=frozenset({key_of(name_of(pod))}),
            )
    return differences


def _differences(pod: PodFacts, zone: str, port: LogicalPort, topology: Topology) -> Iterator[str]:
    """Say what differs, both sides of it."""
    wanted = _by_family(pod.addresses or pod.assigned)
    has = _by_family(port.addresses)
    for family, addresses in wanted.items():
        if addresses != has.get(family, ()):
            actual = ", ".join(has.get(family, ())) or f"no IP{family} address"
            yield f"Kubernetes says {', '.join(addresses)}, OVN {actual}"
    if pod.assigned_mac and port.mac and pod.assigned_mac != port.mac.lower():
        yield f"Kubernetes says MAC {pod.assigned_mac}, OVN {port.mac}"
    home = topology.switch_of_node.get(pod.node)
    if home is not None and (zone, port.datapath) != home:
        yield f"Kubernetes says node {pod.node}, OVN has it on switch {port.datapath}"


def _by_family(addresses: Iterable[str]) -> dict[str, tuple[str, ...]]:
    by_family: dict[str, list[str]] = defaultdict(list)
    for address in addresses:
        by_family[family_of(address)].append(plain(address))
    return {family: tuple(sorted(members)) for family, members in by_family.items()}


def unbound(cluster: Cluster) -> Iterator[Difference]:
    """Yield the running pods whose port is bound to no chassis, or to another node's."""
    chassis = {node.name: node.chassis for node in cluster.nodes}
    names = {node.chassis: node.name for node in cluster.nodes}
    for pod, zone, port in _settled_ports(cluster):
        wanted = chassis.get(pod.node, "")
        actual = cluster.zones[zone].stock.bound.get(port.name, wanted)
        if actual == wanted or (actual and not wanted):
            continue
        bound = f"to the chassis of node {names.get(actual, actual)}" if actual else "to no chassis"
        yield Difference(
            kind=FindingKind.PORT_NOT_BOUND,
            text=f"port {port.name} in zone {zone} is bound {bound}; its pod runs on node "
            f"{pod.node}",
            zones=(zone,),
            about=frozenset({key_of(name_of(pod))}),
        )


def _settled_ports(cluster: Cluster) -> Iterator[tuple[PodFacts, str, LogicalPort]]:
    """Yield the running pods whose port is as Kubernetes says, each with its zone and port."""
    for pod in cluster.present:
        if not settled(pod) or cluster.moving(pod) or name_of(pod) in cluster.differing:
            continue
        there = cluster.topology.pod_port(pod.namespace, pod.name, pod.node)
        if there is not None:
            yield pod, *there


def left_behind(pods: Iterable[PodFacts], topology: Topology) -> Iterator[Difference]:
    """Yield the ports of pods that are gone, or completed, and second ports of others."""
    pods = tuple(pods)
    by_name = {name_of(pod): pod for pod in pods}
    unknown = partial.missing(pods, topology)
    for name, ports in sorted(topology.pod_ports.items()):
        if name[0] in unknown:
            continue  # nobody knows whether they are gone
        pod = by_name.get(name)
        in_use = None
        if pod is None or pod.phase in FINISHED:
            why = "is not in Kubernetes" if pod is None else "is completed"
        elif len(ports) > 1:
            in_use = topology.pod_port(*name, pod.node)
            why = f"has another one, and runs on node {pod.node}"
        else:
            continue
        for zone, port in ports:
            if in_use == (zone, port):
                continue
            yield Difference(
                kind=FindingKind.PORT_WITHOUT_POD,
                text=f"port {port.name} in zone {zone}: pod {'/'.join(name)} {why}",
                zones=(zone,),
            )
