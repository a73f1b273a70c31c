"""The specification of policies, read aloud: one packet at a time, from the objects themselves.

Written from the API documentation of networking.k8s.io/v1, policy.networking.k8s.io/v1alpha1 and
/v1alpha2 and k8s.ovn.org/v1, to be obviously right and not to be fast. It works on plain
dictionaries as YAML gives them and shares no code with the audit.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Party:
    """An end of a packet: `kind` is pod, host-pod, node or outside."""

    kind: str
    name: str
    namespace: str = ""
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    receives: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()
    """(name, protocol in capitals, number)."""


@dataclass(frozen=True, kw_only=True)
class World:
    namespaces: Mapping[str, Mapping[str, str]]
    nodes: Mapping[str, Mapping[str, str]]
    policies: Sequence[Object]
    host_pods: Sequence[Party] = ()


@dataclass(frozen=True, kw_only=True)
class Packet:
    src: Party
    dst: Party
    protocol: str
    port: int
    family: int

    def source_address(self) -> str:
        return next(a for a in self.src.sends if ipaddress.ip_address(a).version == self.family)

    def destination_address(self) -> str:
        return next(a for a in self.dst.receives if ipaddress.ip_address(a).version == self.family)


def allowed(world: World, packet: Packet) -> bool:
    if not _side(world, packet, "egress"):
        return False
    if not _egress_firewall(world, packet):
        return False
    return _side(world, packet, "ingress")


def _side(world: World, packet: Packet, direction: str) -> bool:
    subject = packet.src if direction == "egress" else packet.dst
    if subject.kind != "pod":
        return True  # policies select pods on the pod network, and nothing else
    decision = _cluster_tier(world, packet, direction, "Admin")
    if decision is not None:
        return decision
    # A node may always reach its own pods: the kubelet's probes. That is a rule of
    # OVN-Kubernetes in the tier of NetworkPolicies.
    if (
        direction == "ingress"
        and packet.src.kind in ("node", "host-pod")
        and packet.src.node == subject.node
    ):
        return True
    isolating = []
    for policy in world.policies:
        if policy["kind"] != "NetworkPolicy":
            continue
        if policy["metadata"]["namespace"] != subject.namespace:
            continue
        if not label_match(policy["spec"].get("podSelector") or {}, subject.labels):
            continue
        if direction in _types(policy["spec"]):
            isolating.append(policy)
    if isolating:
        return any(
            _network_rule(world, packet, direction, policy, rule)
            for policy in isolating
            for rule in policy["spec"].get(direction) or []
        )
    decision = _cluster_tier(world, packet, direction, "Baseline")
    return True if decision is None else decision


def _types(spec: Object) -> set[str]:
    if spec.get("policyTypes"):
        return {word.lower() for word in spec["policyTypes"]}
    return {"ingress", "egress"} if spec.get("egress") else {"ingress"}


def label_match(selector: Object, labels: Mapping[str, str]) -> bool:
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        key, operator, values = term["key"], term["operator"], term.get("values") or []
        if operator == "In" and not (key in labels and labels[key] in values):
            return False
        if operator == "NotIn" and key in labels and labels[key] in values:
            return False
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
    return True


def _network_rule(
    world: World, packet: Packet, direction: str, policy: Object, rule: Object
) -> bool:
    peers = rule.get("from" if direction == "ingress" else "to")
    if peers and not any(_network_peer(world, packet, direction, policy, p) for p in peers):
        return False
    ports = rule.get("ports")
    return not ports or any(_network_port(packet, port) for port in ports)


def _network_peer(
    world: World, packet: Packet, direction: str, policy: Object, peer: Object
) -> bool:
    other = packet.src if direction == "ingress" else packet.dst
    if "ipBlock" in peer:
        address = ipaddress.ip_address(
            packet.source_address() if direction == "ingress" else packet.destination_address()
        )
        block = peer["ipBlock"]
        if address not in ipaddress.ip_network(block["cidr"]):
            return False
        return not any(address in ipaddress.ip_network(e) for e in block.get("except") or [])
    if other.kind in ("node", "host-pod"):
        if direction == "ingress":
            # OVN-Kubernetes keeps the addresses that nodes send from in a namespace of their own,
            # which a peer without a pod selector may select.
            return (
                peer.get("namespaceSelector") is not None
                and peer.get("podSelector") is None
                and "ovn-host-network" in world.namespaces
                and label_match(peer["namespaceSelector"], world.namespaces["ovn-host-network"])
            )
        # A pod selector also selects pods in the host network, by their address: the node's.
        return peer.get("podSelector") is not None and any(
            pod.node == other.node and _selects(world, policy, peer, pod) for pod in world.host_pods
        )
    return other.kind == "pod" and _selects(world, policy, peer, other)


def _selects(world: World, policy: Object, peer: Object, pod: Party) -> bool:
    if peer.get("namespaceSelector") is None:
        if pod.namespace != policy["metadata"]["namespace"]:
            return False
    elif not label_match(peer["namespaceSelector"], world.namespaces[pod.namespace]):
        return False
    return label_match(peer.get("podSelector") or {}, pod.labels)


def _network_port(packet: Packet, port: Object) -> bool:
    if port.get("protocol", "TCP") != packet.protocol:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return (
            packet.dst.kind == "pod" and (wanted, packet.protocol, packet.port) in packet.dst.ports
        )
    return bool(wanted <= packet.port <= port.get("endPort", wanted))


def _declares(packet: Packet, name: str) -> bool:
    declared = (name, packet.protocol, packet.port) in packet.dst.ports
    return packet.dst.kind == "pod" and declared


def _cluster_tier(world: World, packet: Packet, direction: str, tier: str) -> bool | None:
    """Allow or deny by the first matching rule of a tier; None where nothing or Pass is said."""
    policies = sorted(
        (p for p in world.policies if _tier(p) == tier),
        key=lambda p: p["spec"].get("priority", 0),
    )
    subject = packet.src if direction == "egress" else packet.dst
    for policy in policies:
        if not _selected(world, policy["spec"]["subject"], subject):
            continue
        for rule in policy["spec"].get(direction) or []:
            if _cluster_rule(world, packet, direction, rule):
                return {"Allow": True, "Accept": True, "Deny": False, "Pass": None}[rule["action"]]
    return None


def _tier(policy: Object) -> str:
    if policy["kind"] == "AdminNetworkPolicy":
        return "Admin"
    if policy["kind"] == "BaselineAdminNetworkPolicy":
        return "Baseline"
    return str(policy["spec"]["tier"]) if policy["kind"] == "ClusterNetworkPolicy" else ""


def _selected(world: World, choice: Object, party: Party) -> bool:
    if party.kind != "pod":
        return False
    if "namespaces" in choice:
        return label_match(choice["namespaces"], world.namespaces[party.namespace])
    pods = choice["pods"]
    return label_match(
        pods.get("namespaceSelector") or {}, world.namespaces[party.namespace]
    ) and label_match(pods.get("podSelector") or {}, party.labels)


def _cluster_rule(world: World, packet: Packet, direction: str, rule: Object) -> bool:
    other = packet.src if direction == "ingress" else packet.dst
    peers = rule["from" if direction == "ingress" else "to"]
    if not any(_cluster_peer(world, packet, other, peer) for peer in peers):
        return False
    ports = [*_cluster_ports(rule)]
    return not ports or any(_hits(packet, *port) for port in ports)


def _cluster_peer(world: World, packet: Packet, other: Party, peer: Object) -> bool:
    if "networks" in peer:
        address = ipaddress.ip_address(packet.destination_address())
        return any(address in ipaddress.ip_network(n) for n in peer["networks"])
    if "nodes" in peer:
        return other.kind in ("node", "host-pod") and label_match(
            peer["nodes"], world.nodes[other.node]
        )
    return _selected(world, peer, other)


def _cluster_ports(rule: Object) -> Iterator[tuple[str, int | str, int]]:
    """Yield (protocol, first or name, last); a name has no protocol."""
    for port in rule.get("ports") or []:
        if "portNumber" in port:
            number = port["portNumber"]
            yield number["protocol"], number["port"], number["port"]
        elif "portRange" in port:
            span = port["portRange"]
            yield span["protocol"], span["start"], span["end"]
        else:
            yield "", port["namedPort"], 0
    for entry in rule.get("protocols") or []:
        if "destinationNamedPort" in entry:
            yield "", entry["destinationNamedPort"], 0
            continue
        ((protocol, details),) = entry.items()
        port = details.get("destinationPort") or {"range": {"start": 1, "end": 65535}}
        if "number" in port:
            yield protocol.upper(), port["number"], port["number"]
        else:
            yield protocol.upper(), port["range"]["start"], port["range"]["end"]


def _hits(packet: Packet, protocol: str, first: int | str, last: int) -> bool:
    if isinstance(first, str):
        return (
            packet.dst.kind == "pod" and (first, packet.protocol, packet.port) in packet.dst.ports
        )
    return protocol == packet.protocol and first <= packet.port <= last


def _egress_firewall(world: World, packet: Packet) -> bool:
    """Apply the namespace's firewall to what leaves the pod network."""
    if packet.src.kind != "pod" or packet.dst.kind == "pod":
        return True
    for policy in world.policies:
        if policy["kind"] != "EgressFirewall":
            continue
        if policy["metadata"]["namespace"] != packet.src.namespace:
            continue
        for rule in policy["spec"]["egress"]:
            if _firewall_rule(world, packet, rule):
                return bool(rule["type"] == "Allow")
    return True


def _firewall_rule(world: World, packet: Packet, rule: Object) -> bool:
    if "cidrSelector" in rule["to"]:
        address = ipaddress.ip_address(packet.destination_address())
        hit = address in ipaddress.ip_network(rule["to"]["cidrSelector"])
    else:
        hit = packet.dst.kind in ("node", "host-pod") and label_match(
            rule["to"]["nodeSelector"], world.nodes[packet.dst.node]
        )
    ports = rule.get("ports")
    return hit and (
        not ports
        or any(p["protocol"] == packet.protocol and p["port"] == packet.port for p in ports)
    )
