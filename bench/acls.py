"""Policy objects → port groups, address sets and ACLs, as OVN-Kubernetes writes them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import addresses, selectors
from bench.cluster import Cluster, Object, Pod
from bench.identities import EGRESS, INGRESS, AddressSet, PortGroup, acl, marks, name_of
from bench.ovsdb import Row
from bench.selectors import Selector
from bench.workloads import HOST_NAMESPACE

_ALLOW, _DENY = 1001, 1000
_FIREWALL = 10000
_ADMIN, _ADMIN_STEP, _BASELINE = 30000, 100, 1750
_ADMIN_TIER, _BASELINE_TIER = 1, 3
_ACTIONS = {"Allow": "allow-related", "Deny": "drop", "Pass": "pass"}
_PEERS = {INGRESS: "from", EGRESS: "to"}


@dataclass(frozen=True, slots=True)
class _Side:
    """How a direction is written: the policy's pods are behind `port`, its peers in `field`."""

    direction: str
    port: str
    field: str


_SIDES = {INGRESS: _Side(INGRESS, "outport", "src"), EGRESS: _Side(EGRESS, "inport", "dst")}


class PolicyRows:
    """The rows of every policy of a cluster, made once for all zones."""

    def __init__(self, cluster: Cluster) -> None:
        """Translate every policy."""
        self._cluster = cluster
        self._families = cluster.size.families
        self._fields = ("ip4", "ip6")[: self._families]
        self._selected: dict[tuple[str, str], AddressSet] = {}
        self._isolated: dict[tuple[str, str], set[Pod]] = defaultdict(set)
        self._namespace_sets = dict(self._namespaces())
        self.groups = list(self._namespace_groups())
        self._admin_sets: list[AddressSet] = []
        for policy in cluster.policies.network:
            self.groups.append(self._network_policy(policy))
        self.groups += self._default_denies()
        for policy in cluster.policies.admin:
            self.groups.append(self._admin(policy, "AdminNetworkPolicy", _ADMIN_TIER))
        for policy in cluster.policies.baseline:
            self.groups.append(self._admin(policy, "BaselineAdminNetworkPolicy", _BASELINE_TIER))

    def shared(self) -> Iterator[Row]:
        """Yield the rows that are the same in every zone: address sets and ACLs."""
        sets = (*self._namespace_sets.values(), *self._selected.values(), *self._admin_sets)
        for found in sets:
            yield from found.rows()
        for group in self.groups:
            yield from group.acls

    def _namespaces(self) -> Iterator[tuple[str, AddressSet]]:
        """Yield the address set of each namespace; one stands for the nodes."""
        for name, pods in self._cluster.pods_of.items():
            found = AddressSet(self._families, "Namespace", name)
            found.add(address for pod in pods if pod.networked for address in pod.addresses)
            yield name, found
            if name == HOST_NAMESPACE:
                for node in self._cluster.population.nodes:
                    found.add(node.management)
                    found.add(addresses.each(addresses.JOIN, node.number, self._families))

    def _namespace_groups(self) -> Iterator[PortGroup]:
        firewalls = {item["metadata"]["namespace"]: item for item in self._firewalls()}
        for name, pods in self._cluster.pods_of.items():
            external_ids = marks("Namespace", name)
            acls = self._firewall(firewalls.get(name), name_of(external_ids))
            yield PortGroup(external_ids, _ports(pods), acls)

    def _firewalls(self) -> list[Object]:
        return self._cluster.policies.firewalls

    def _firewall(self, item: Object | None, group: str) -> list[Row]:
        """Return the ACLs of an EgressFirewall; the cluster's own networks are left out."""
        acls = []
        for index, rule in enumerate(item["spec"]["egress"] if item else ()):
            namespace = item["metadata"]["namespace"] if item else ""
            cidr = rule["to"]["cidrSelector"]
            match = f"({_outside(cidr)}) && inport == @{group}"
            if "ports" in rule:
                match += f" && ({' || '.join(_firewall_ports(rule['ports']))})"
            found = acl(
                marks("EgressFirewall", namespace, rule_index=str(index)),
                match,
                direction=INGRESS,
                action="allow" if rule["type"] == "Allow" else "drop",
                priority=_FIREWALL - index,
                name=f"EF:{namespace}:{index}",
            )
            acls.append(found)
        return acls

    def _network_policy(self, item: Object) -> PortGroup:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        spec = item["spec"]
        pods = [
            pod
            for pod in self._cluster.pods_of[namespace]
            if pod.networked and selectors.matches(spec["podSelector"], pod.labels)
        ]
        for direction in spec["policyTypes"]:
            self._isolated[namespace, direction].update(pods)
        for direction in _SIDES:
            self._isolated.setdefault((namespace, direction), set())
        external_ids = marks("NetworkPolicy", f"{namespace}:{name}")
        acls = [
            found
            for direction in spec["policyTypes"]
            for index, rule in enumerate(spec.get(direction.lower(), ()))
            for found in self._rule(item, direction, index, rule, name_of(external_ids))
        ]
        return PortGroup(external_ids, _ports(pods), acls)

    def _rule(
        self, item: Object, direction: str, index: int, rule: Object, group: str
    ) -> Iterator[Row]:
        """Yield a rule's ACLs: for each protocol, one for the selectors and one per block."""
        side = _SIDES[direction]
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        for protocol, ports in _by_protocol(rule.get("ports", ())).items():
            for block, source in self._sources(namespace, rule.get(_PEERS[direction]), side):
                external_ids = marks(
                    "NetworkPolicy",
                    f"{namespace}:{name}",
                    direction=direction,
                    gress_index=str(index),
                    port_policy_protocol=protocol,
                    ip_block_index=str(block),
                )
                yield acl(
                    external_ids,
                    " && ".join([source, *ports, f"{side.port} == @{group}"]),
                    direction=direction,
                    action="allow-related",
                    priority=_ALLOW,
                    name=f"NP:{namespace}:{name}:{direction}:{index}",
                )

    def _sources(
        self, namespace: str, peers: Sequence[Object] | None, side: _Side
    ) -> Iterator[tuple[int, str]]:
        """Yield (index of the ipBlock or -1, match) of a rule's peers."""
        if not peers:
            yield -1, "(ip4 || ip6)" if self._families > 1 else "ip4"
            return
        chosen = [
            found
            for peer in peers
            if "ipBlock" not in peer
            for found in self._peer_sets(namespace, peer)
        ]
        if chosen:
            sets = [sorted({found.names[f] for found in chosen}) for f in range(self._families)]
            matches = [
                f"{field}.{side.field} == {{{', '.join(f'${name}' for name in names)}}}"
                for field, names in zip(self._fields, sets, strict=True)
            ]
            yield -1, f"({' || '.join(matches)})" if len(matches) > 1 else matches[0]
        blocks = (peer["ipBlock"] for peer in peers if "ipBlock" in peer)
        for index, block in enumerate(blocks):
            field = "ip6" if ":" in block["cidr"] else "ip4"
            match = f"{field}.{side.field} == {block['cidr']}"
            if block.get("except"):
                match += f" && {field}.{side.field} != {{{', '.join(block['except'])}}}"
            yield index, match

    def _peer_sets(self, namespace: str, peer: Object) -> list[AddressSet]:
        """Return the address sets of a peer: namespaces' own, or one of selected pods."""
        spaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
        if pods is None:
            return [self._namespace_sets[name] for name in self._matching(spaces or {})]
        where = namespace if spaces is None else selectors.text(spaces)
        key = (where, selectors.text(pods))
        if key not in self._selected:
            names = [namespace] if spaces is None else self._matching(spaces)
            found = AddressSet(self._families, "PodSelector", "_".join(key))
            for pod in self._select(names, pods):
                found.add(pod.addresses)
            self._selected[key] = found
        return [self._selected[key]]

    def _matching(self, selector: Selector) -> list[str]:
        labelled = self._cluster.population.namespaces.items()
        return [name for name, labels in labelled if selectors.matches(selector, labels)]

    def _select(self, namespaces: Iterable[str], selector: Selector) -> Iterator[Pod]:
        for name in namespaces:
            for pod in self._cluster.pods_of[name]:
                if selectors.matches(selector, pod.labels):
                    yield pod

    def _default_denies(self) -> Iterator[PortGroup]:
        for (namespace, direction), pods in self._isolated.items():
            external_ids = marks("NetpolNamespace", namespace, direction=direction)
            port = f"{_SIDES[direction].port} == @{name_of(external_ids)}"
            acls = [
                acl(
                    marks("NetpolNamespace", namespace, direction=direction, type=kind),
                    match,
                    direction=direction,
                    action=action,
                    priority=priority,
                    name=f"NP:{namespace}:{direction}",
                )
                for kind, match, action, priority in (
                    ("defaultDeny", port, "drop", _DENY),
                    ("arpAllow", f"{port} && (arp || nd)", "allow", _ALLOW),
                )
            ]
            yield PortGroup(external_ids, _ports(sorted(pods, key=lambda p: p.port)), acls)

    def _admin(self, item: Object, kind: str, tier: int) -> PortGroup:
        """Translate an AdminNetworkPolicy, or the baseline one."""
        name, spec = item["metadata"]["name"], item["spec"]
        external_ids = marks(kind, name)
        acls = []
        for side in _SIDES.values():
            for index, rule in enumerate(spec.get(side.direction.lower(), ())):
                keys = {"direction": side.direction, "gress_index": str(index)}
                found = AddressSet(self._families, kind, name, **keys)
                for peer in rule[_PEERS[side.direction]]:
                    found.add(self._admin_peer(peer))
                self._admin_sets.append(found)
                first = _BASELINE if tier == _BASELINE_TIER else _ADMIN
                priority = first - _ADMIN_STEP * spec.get("priority", 0) - index
                for protocol, ports in _admin_ports(rule.get("ports", ())).items():
                    acls.append(
                        acl(
                            marks(kind, name, **keys, port_policy_protocol=protocol),
                            self._admin_match(side, name_of(external_ids), found, ports),
                            direction=side.direction,
                            action=_ACTIONS[rule["action"]],
                            priority=priority,
                            tier=tier,
                            name=f"{_SHORT[kind]}:{name}:{side.direction}:{index}",
                        )
                    )
        subjects = self._subjects(spec["subject"])
        return PortGroup(external_ids, _ports(subjects), acls)

    def _admin_match(self, side: _Side, group: str, found: AddressSet, ports: Sequence[str]) -> str:
        sources = " || ".join(
            f"{field}.{side.field} == ${name}"
            for field, name in zip(self._fields, found.names, strict=True)
        )
        return " && ".join([f"{side.port} == @{group}", f"(({sources}))", *ports])

    def _subjects(self, subject: Object) -> list[Pod]:
        """Return the pods with a network of their own that a subject or peer selects."""
        pods = subject.get("pods")
        spaces = pods["namespaceSelector"] if pods else subject["namespaces"]
        chosen = self._select(self._matching(spaces), pods["podSelector"] if pods else {})
        return [pod for pod in chosen if pod.networked]

    def _admin_peer(self, peer: Object) -> Iterable[str]:
        if "networks" in peer:
            found: list[str] = peer["networks"]
            return found
        if "nodes" in peer:
            return [address for node in self._cluster.population.nodes for address in node.hosts]
        return [address for pod in self._subjects(peer) for address in pod.addresses]


_SHORT = {"AdminNetworkPolicy": "ANP", "BaselineAdminNetworkPolicy": "BANP"}


def _ports(pods: Iterable[Pod]) -> Iterator[tuple[str, str]]:
    return ((pod.node.name, pod.port) for pod in pods if pod.networked)


def _outside(cidr: str) -> str:
    """Match a firewall's destination; what holds the cluster's pods leaves them out."""
    six = ":" in cidr
    field, cluster = ("ip6", "ip4")[not six], addresses.CLUSTER[six]
    whole = cidr in ("0.0.0.0/0", "::/0")
    return f"{field}.dst == {cidr}" + (f" && {field}.dst != {cluster}" if whole else "")


def _firewall_ports(ports: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for port in ports:
        protocol = port["protocol"].lower()
        yield f"({protocol} && ( {protocol}.dst == {port['port']} ))"


def _by_protocol(ports: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Map each protocol of a rule's ports to its clauses; `None` where there are no ports."""
    return _clauses(
        (port["protocol"].lower(), port["port"], port.get("endPort", port["port"]))
        for port in ports
    )


def _admin_ports(ports: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    def read() -> Iterator[tuple[str, int, int]]:
        for port in ports:
            if "portRange" in port:
                found = port["portRange"]
                yield found["protocol"].lower(), found["start"], found["end"]
            else:
                found = port["portNumber"]
                yield found["protocol"].lower(), found["port"], found["port"]

    return _clauses(read())


def _clauses(ports: Iterable[tuple[str, int, int]]) -> dict[str, list[str]]:
    """Write (protocol, first, last) as OVN-Kubernetes does: a set of numbers, then ranges."""
    grouped: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for protocol, first, last in ports:
        grouped[protocol].append((first, last))
    return {name: [name, _numbers(name, found)] for name, found in grouped.items()} or {"None": []}


def _numbers(protocol: str, ports: Sequence[tuple[int, int]]) -> str:
    field = f"{protocol}.dst"
    single = [str(first) for first, last in ports if first == last]
    terms = [f"{first}<={field}<={last}" for first, last in ports if first != last]
    if single:
        joined = f"{{{','.join(single)}}}" if len(single) > 1 else single[0]
        terms.insert(0, f"{field}=={joined}")
    return f"({' || '.join(terms)})" if len(terms) > 1 else terms[0]
