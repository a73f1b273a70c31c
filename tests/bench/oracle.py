"""What the policies of a cluster say about pod pairs, from the Kubernetes objects alone.

NetworkPolicy v1, AdminNetworkPolicy and BaselineAdminNetworkPolicy v1alpha1, written for being
obviously right and not for speed. It shares no code with the generator or with the audit.
"""

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    namespace: str
    name: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    host_network: bool
    space: Mapping[str, str]
    """The labels of its namespace."""

    def at(self, family: str) -> str:
        return next(a for a in self.addresses if (":" in a) == (family == "ip6"))


class Oracle:
    """Answers whether one pod may reach another on a port."""

    def __init__(self, snapshot: Path) -> None:
        def items(resource: str) -> list[Object]:
            text = (snapshot / "kube" / f"{resource}.json").read_text()
            found: list[Object] = json.loads(text)["items"]
            return found

        spaces = {n["metadata"]["name"]: n["metadata"]["labels"] for n in items("namespaces")}
        self.pods = {
            (pod.namespace, pod.name): pod
            for item in items("pods")
            if item["status"]["phase"] == "Running"
            for pod in [_pod(item, spaces)]
        }
        self._network = items("networkpolicies")
        admin = items("adminnetworkpolicies")
        self._admin = sorted(admin, key=lambda item: int(item["spec"]["priority"]))
        self._baseline = items("baselineadminnetworkpolicies")

    def reachable(self, src: Pod, dst: Pod, family: str, protocol: str, port: int) -> bool:
        wanted = (protocol, port)
        return self._side("egress", src, dst, family, wanted) and self._side(
            "ingress", dst, src, family, wanted
        )

    def _side(
        self, direction: str, subject: Pod, peer: Pod, family: str, wanted: tuple[str, int]
    ) -> bool:
        action = _first_action(self._admin, direction, subject, peer, family, wanted)
        if action in ("Allow", "Deny"):
            return action == "Allow"
        isolating = [
            policy["spec"]
            for policy in self._network
            if policy["metadata"]["namespace"] == subject.namespace
            and direction.capitalize() in policy["spec"]["policyTypes"]
            and _selected(policy["spec"]["podSelector"], subject.labels)
        ]
        if isolating:
            return any(
                _rule_allows(rule, direction, subject, peer, family, wanted)
                for spec in isolating
                for rule in spec.get(direction, ())
            )
        return _first_action(self._baseline, direction, subject, peer, family, wanted) != "Deny"


def _pod(item: Object, spaces: Mapping[str, Mapping[str, str]]) -> Pod:
    metadata = item["metadata"]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata["labels"],
        addresses=tuple(ip["ip"] for ip in item["status"]["podIPs"]),
        host_network=item["spec"].get("hostNetwork", False),
        space=spaces[metadata["namespace"]],
    )


_TERMS: Mapping[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda found, values: found in values,
    "NotIn": lambda found, values: found not in values,
    "Exists": lambda found, _: found is not None,
    "DoesNotExist": lambda found, _: found is None,
}


def _selected(selector: Object, labels: Mapping[str, str]) -> bool:
    equal = all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())
    terms = selector.get("matchExpressions", ())
    return equal and all(
        _TERMS[t["operator"]](labels.get(t["key"]), t.get("values", [])) for t in terms
    )


def _rule_allows(
    rule: Object, direction: str, subject: Pod, peer: Pod, family: str, wanted: tuple[str, int]
) -> bool:
    ports = [
        (p["protocol"].lower(), p["port"], p.get("endPort", p["port"]))
        for p in rule.get("ports", ())
    ]
    if ports and not _any_port(ports, wanted):
        return False
    peers = rule.get("from" if direction == "ingress" else "to")
    return not peers or any(_peer(p, subject.namespace, peer, peer.at(family)) for p in peers)


def _any_port(ports: list[tuple[str, int, int]], wanted: tuple[str, int]) -> bool:
    return any(p == wanted[0] and first <= wanted[1] <= last for p, first, last in ports)


def _peer(peer: Object, namespace: str, pod: Pod, address: str) -> bool:
    if "ipBlock" in peer:
        block, found = peer["ipBlock"], ipaddress.ip_address(address)
        inside = found in ipaddress.ip_network(block["cidr"])
        return inside and all(found not in ipaddress.ip_network(e) for e in block.get("except", ()))
    if "namespaceSelector" in peer:
        here = _selected(peer["namespaceSelector"], pod.space)
    else:
        here = pod.namespace == namespace
    return here and _selected(peer.get("podSelector", {}), pod.labels)


def _first_action(
    policies: list[Object],
    direction: str,
    subject: Pod,
    peer: Pod,
    family: str,
    wanted: tuple[str, int],
) -> str:
    """Return the action of the first rule that matches, in the order of priority."""
    for rule in _admin_rules(policies, direction, subject):
        ports = [
            (p["protocol"].lower(), p.get("port", p.get("start")), p.get("port", p.get("end")))
            for port in rule.get("ports", ())
            for p in port.values()
        ]
        if ports and not _any_port(ports, wanted):
            continue
        key = "from" if direction == "ingress" else "to"
        if any(_admin_peer(p, peer, peer.at(family)) for p in rule[key]):
            return str(rule["action"])
    return ""


def _admin_rules(policies: list[Object], direction: str, subject: Pod) -> Iterator[Object]:
    for policy in policies:
        if _admin_selected(policy["spec"]["subject"], subject):
            yield from policy["spec"].get(direction, ())


def _admin_selected(chosen: Object, pod: Pod) -> bool:
    if "namespaces" in chosen:
        return _selected(chosen["namespaces"], pod.space)
    pods = chosen["pods"]
    return _selected(pods["namespaceSelector"], pod.space) and _selected(
        pods["podSelector"], pod.labels
    )


def _admin_peer(peer: Object, pod: Pod, address: str) -> bool:
    if "networks" in peer:
        networks = (ipaddress.ip_network(n) for n in peer["networks"])
        return any(ipaddress.ip_address(address) in network for network in networks)
    return "nodes" not in peer and _admin_selected(peer, pod)
