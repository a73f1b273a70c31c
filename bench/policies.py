"""The policies of a generated cluster, of the kinds people write, as the API prints them.

Named ports are left out, and a whole protocol beside one of its ports: there OVN-Kubernetes does
something else than the object says, and what a cluster's cells should be could not be told.
"""

from collections.abc import Callable, Iterator

from bench import addresses
from bench.cluster import Object, Policies, Population
from bench.workloads import APPS, DNS_NAMESPACE, ENVIRONMENTS, MONITORING, SYSTEM_NAMESPACES

_FIREWALL_OF = 20
_FULL_DENIAL = 0.2
"""Of the namespaces that deny by default, those that deny egress too."""
_DENYING = 0.8
_ADMIN_API = "policy.networking.k8s.io/v1alpha1"

_DNS_PORTS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
_DNS_PEER = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": DNS_NAMESPACE}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


def write(population: Population) -> Policies:
    """Return as many policies as the population's size asks for."""
    policies = Policies()
    tenants = [name for name in population.namespaces if name not in SYSTEM_NAMESPACES]
    writer = _Writer(population)
    for index in range(population.size.policies):
        namespace = tenants[index % len(tenants)]
        policies.network.append(writer.policy(namespace, index // len(tenants)))
    if population.size.policies:
        policies.admin += [_object("AdminNetworkPolicy", *named) for named in _admin()]
        policies.baseline.append(_object("BaselineAdminNetworkPolicy", "default", _baseline()))
    for namespace in tenants[:: max(1, min(_FIREWALL_OF, len(tenants) // 2))]:
        spec = {"egress": list(_firewall(population.size.families))}
        policies.firewalls.append(_object("EgressFirewall", "default", spec, namespace))
    return policies


def _object(kind: str, name: str, spec: Object, namespace: str = "") -> Object:
    versions = {
        "NetworkPolicy": "networking.k8s.io/v1",
        "EgressFirewall": "k8s.ovn.org/v1",
    }
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    metadata["uid"] = addresses.uuid_of(kind, namespace, name)
    return {
        "apiVersion": versions.get(kind, _ADMIN_API),
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def _ports(*numbers: int, protocol: str = "TCP") -> list[Object]:
    return [{"port": number, "protocol": protocol} for number in numbers]


def _app(name: str) -> Object:
    return {"matchLabels": {"app": name}}


class _Writer:
    """Writes NetworkPolicies: a default deny first, then what opens it again."""

    def __init__(self, population: Population) -> None:
        self._random = population.random
        self._networks = [node.networks for node in population.nodes]
        self._families = population.size.families
        self._kinds: tuple[Callable[[], tuple[str, Object]], ...] = (
            self._between_apps,
            self._between_apps,
            self._to_app,
            self._dns,
            self._same_namespace,
            self._from_namespaces,
            self._from_selected,
            self._from_anywhere,
            self._blocks,
            self._outward,
            self._two_rules,
        )

    def policy(self, namespace: str, position: int) -> Object:
        """Return the next policy of a namespace."""
        if position == 0 and self._random.random() < _DENYING:
            both = self._random.random() < _FULL_DENIAL
            types = ["Ingress", "Egress"] if both else ["Ingress"]
            name, spec = "default-deny", {"podSelector": {}, "policyTypes": types}
        else:
            name, spec = self._random.choice(self._kinds)()
            name = f"{name}-{position}"
        return _object("NetworkPolicy", name, spec, namespace)

    def _choose(self) -> tuple[str, tuple[Object, ...]]:
        """Return an application and its ports as a policy lists them."""
        app = self._random.choice(tuple(APPS))
        return app, tuple({"port": p.number, "protocol": p.protocol} for p in APPS[app][1])

    def _ingress(self, app: str, *rules: Object) -> Object:
        return {"ingress": list(rules), "podSelector": _app(app), "policyTypes": ["Ingress"]}

    def _between_apps(self) -> tuple[str, Object]:
        (app, ports), (peer, _) = self._choose(), self._choose()
        rule = {"from": [{"podSelector": _app(peer)}], "ports": list(ports)}
        return f"allow-{peer}-to-{app}", self._ingress(app, rule)

    def _to_app(self) -> tuple[str, Object]:
        (app, ports), (peer, _) = self._choose(), self._choose()
        rule = {"to": [{"podSelector": _app(app)}, _DNS_PEER], "ports": [*ports]}
        spec = {"egress": [rule], "podSelector": _app(peer), "policyTypes": ["Egress"]}
        return f"allow-egress-{peer}-to-{app}", spec

    def _dns(self) -> tuple[str, Object]:
        rule: Object = {"to": [_DNS_PEER], "ports": _DNS_PORTS}
        return "allow-dns", {"egress": [rule], "podSelector": {}, "policyTypes": ["Egress"]}

    def _same_namespace(self) -> tuple[str, Object]:
        rule: Object = {"from": [{"podSelector": {}}]}
        spec = {"ingress": [rule], "podSelector": {}, "policyTypes": ["Ingress"]}
        return "allow-same-namespace", spec

    def _from_namespaces(self) -> tuple[str, Object]:
        app, ports = self._choose()
        environment = self._random.choice(ENVIRONMENTS)
        rule = {
            "from": [
                {"namespaceSelector": {"matchLabels": {"env": environment}}},
                {"podSelector": {"matchLabels": {"tier": "frontend"}}},
            ],
            "ports": list(ports),
        }
        return f"allow-{environment}-to-{app}", self._ingress(app, rule)

    def _from_selected(self) -> tuple[str, Object]:
        app, _ = self._choose()
        team = f"t{self._random.randrange(12)}"
        spaces = {
            "matchExpressions": [
                {"key": "env", "operator": "In", "values": ["staging", "prod"]},
                {"key": "team", "operator": "NotIn", "values": [team]},
            ]
        }
        pods = {
            "matchLabels": {"version": "v1"},
            "matchExpressions": [
                {"key": "app", "operator": "Exists"},
                {"key": "tier", "operator": "NotIn", "values": ["db", "cache"]},
            ],
        }
        rule = {"from": [{"namespaceSelector": spaces, "podSelector": pods}]}
        return f"allow-others-to-{app}", self._ingress(app, rule)

    def _from_anywhere(self) -> tuple[str, Object]:
        app, ports = self._choose()
        everyone: list[Object] = [{"namespaceSelector": {}}]
        peers = self._random.choice((everyone, None))
        rule: Object = {"ports": list(ports)} | ({"from": peers} if peers else {})
        return f"allow-all-to-{app}", self._ingress(app, rule)

    def _blocks(self) -> tuple[str, Object]:
        """Return a policy by addresses: the pods' network without that of some nodes."""
        app, _ = self._choose()
        excluded = self._random.sample(self._networks, min(2, len(self._networks) - 1))
        peers = [
            {"ipBlock": {"cidr": str(network), "except": [str(e[family]) for e in excluded]}}
            for family, network in enumerate(addresses.CLUSTER[: self._families])
        ]
        ports = [*_ports(8080), {"port": 9000, "endPort": 9199, "protocol": "TCP"}]
        return f"allow-nodes-to-{app}", self._ingress(app, {"from": peers, "ports": ports})

    def _outward(self) -> tuple[str, Object]:
        app, _ = self._choose()
        cidr = str(addresses.CLUSTER[0])
        outside: Object = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [cidr]}}
        block: Object = {"ipBlock": {"cidr": "203.0.113.0/24"}}
        rules: list[Object] = [
            {"to": [outside, block], "ports": _ports(443, 8443)},
            {"to": [_DNS_PEER], "ports": _DNS_PORTS},
            {"to": [{"namespaceSelector": {"matchLabels": {"env": "prod"}}}]},
        ]
        spec = {"egress": rules, "podSelector": _app(app), "policyTypes": ["Egress"]}
        return f"allow-outward-{app}", spec

    def _two_rules(self) -> tuple[str, Object]:
        (app, ports), (peer, _) = self._choose(), self._choose()
        wide = {"port": 5000, "endPort": 5999, "protocol": "TCP"}
        return f"allow-several-to-{app}", self._ingress(
            app,
            {"from": [{"podSelector": _app(peer)}, {"podSelector": {}}], "ports": [wide]},
            {"from": [_monitoring()], "ports": [*ports, *_ports(9999)]},
        )


def _monitoring() -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MONITORING}}}


def _number(port: int, protocol: str = "TCP") -> Object:
    return {"portNumber": {"port": port, "protocol": protocol}}


def _env(*names: str) -> Object:
    return {"matchExpressions": [{"key": "env", "operator": "In", "values": list(names)}]}


def _admin() -> Iterator[tuple[str, Object]]:
    """Yield the AdminNetworkPolicies: their names and specs."""
    peer = {"namespaces": _monitoring()["namespaceSelector"]}
    scrape = {"action": "Allow", "name": "scrape", "from": [peer], "ports": [_number(9100)]}
    yield "monitoring", {"priority": 10, "subject": {"namespaces": {}}, "ingress": [scrape]}
    dns = {"pods": dict(_DNS_PEER)}
    ranged = {"portRange": {"start": 5300, "end": 5400, "protocol": "UDP"}}
    yield (
        "tenants",
        {
            "priority": 20,
            "subject": {"namespaces": {"matchLabels": {"tenant": "yes"}}},
            "egress": [
                {"action": "Allow", "to": [dns], "ports": [_number(53, "UDP"), ranged]},
                {
                    "action": "Deny",
                    "to": [{"namespaces": _env("prod")}],
                    "ports": [_number(8080), _number(8443)],
                },
                {"action": "Deny", "to": [{"networks": ["203.0.113.0/24"]}]},
                {"action": "Pass", "to": [{"nodes": {}}]},
            ],
        },
    )
    pods = {"namespaceSelector": _env("prod"), "podSelector": {"matchLabels": {"tier": "db"}}}
    workers = {"namespaceSelector": _env("dev", "prod"), "podSelector": _app("worker")}
    yield (
        "databases",
        {
            "priority": 30,
            "subject": {"pods": pods},
            "ingress": [
                {"action": "Pass", "from": [{"pods": workers}]},
                {"action": "Deny", "from": [{"namespaces": _env("dev")}]},
                {"action": "Deny", "from": [{"namespaces": {}}], "ports": [_number(5432)]},
            ],
        },
    )


def _baseline() -> Object:
    """Return the spec of the BaselineAdminNetworkPolicy."""
    return {
        "subject": {"namespaces": _env("prod")},
        "ingress": [
            {
                "action": "Allow",
                "from": [{"namespaces": _env("prod")}],
                "ports": [_number(8080), _number(6379)],
            },
            {"action": "Deny", "from": [{"namespaces": {}}]},
        ],
        "egress": [
            {
                "action": "Deny",
                "to": [{"namespaces": _env("dev")}],
                "ports": [_number(8080)],
            }
        ],
    }


def _firewall(families: int) -> Iterator[Object]:
    """Yield the rules of an EgressFirewall: two ways out, and no other."""
    https = [{"port": 443, "protocol": "TCP"}]
    yield {"type": "Allow", "ports": https, "to": {"cidrSelector": "198.51.100.0/24"}}
    yield {"type": "Allow", "to": {"cidrSelector": "203.0.113.7/32"}}
    for everything in ("0.0.0.0/0", "::/0")[:families]:
        yield {"type": "Deny", "to": {"cidrSelector": everything}}
