"""Load balancers as OVN-Kubernetes makes them of services."""

from collections.abc import Iterable, Sequence

from bench.cluster import Cluster, ContainerPort, Node, Service
from bench.ovsdb import Key, Row

_HAIRPIN = ("169.254.169.5", "fd69::5")
_LOCAL_HOST = ("169.254.169.2", "fd69::2")
"""What stands for the node's own host, as a backend, on its gateway router."""
API_SERVER = ("172.30.0.1", 443, 6443)


_OnHosts = tuple[str, str, dict[str, tuple[tuple[str, int], ...]]]
"""A service whose backends are hosts: namespace, name, and the backends of each VIP."""


class Balancers:
    """The load balancers of a cluster: those of every zone, and those of one node."""

    def __init__(self, cluster: Cluster) -> None:
        """Make what every zone has."""
        self._cluster = cluster
        self._families = cluster.size.families
        services = cluster.population.services
        self._pod_services = [s for s in services if not s.workload.host_network]
        self._host_services = [s for s in services if s.workload.host_network]
        self._shared = [row for s in self._pod_services for row in self._cluster_wide(s)]

    def shared(self) -> list[Row]:
        """Return the rows that are the same in every zone."""
        keys = [row.key for row in self._shared]
        group = {"clusterLBGroup": keys, "clusterSwitchLBGroup": [], "clusterRouterLBGroup": []}
        groups = [
            Row.of("Load_Balancer_Group", name, {"name": name}, load_balancer=members)
            for name, members in group.items()
        ]
        return [*self._shared, *groups]

    def of_node(self, node: Node) -> tuple[list[Row], dict[str, Sequence[Key]]]:
        """Return a node's own rows, and which are its switch's and which its gateway router's."""
        both, switch, router = self._node_ports(node), list[Row](), list[Row]()
        first = self._cluster.population.nodes[0]
        vip, port, target = API_SERVER
        api: _OnHosts = ("default", "kubernetes", {f"{vip}:{port}": ((first.hosts[0], target),)})
        for owner, name, vips in (api, *map(self._on_hosts, self._host_services)):
            plain = {key: _join(backends) for key, backends in vips.items()}
            masked = {key: _join(_masked(node, found)) for key, found in vips.items()}
            if plain == masked:
                scope = f"node_router+switch_{node.name}"
                both.append(self._row(owner, name, "TCP", scope, plain))
                continue
            switch.append(self._row(owner, name, "TCP", f"node_switch_{node.name}", plain))
            router.append(self._row(owner, name, "TCP", f"node_router_{node.name}", masked))
        keys: dict[str, Sequence[Key]] = {
            "switch": [row.key for row in (*both, *switch)],
            "router": [row.key for row in (*both, *router)],
        }
        return [*both, *switch, *router], keys

    def _on_hosts(self, service: Service) -> _OnHosts:
        vips = {
            _end(ip, number): tuple(
                (pod.addresses[family], port.number) for pod in service.backends
            )
            for family, ip in enumerate(service.ips(self._families))
            for number, port in service.ports
        }
        return service.workload.namespace, service.name, vips

    def _cluster_wide(self, service: Service) -> Iterable[Row]:
        for protocol in sorted({port.protocol for _, port in service.ports}):
            vips = {
                _end(ip, number): self._backends(service, port, family)
                for family, ip in enumerate(service.ips(self._families))
                for number, port in service.ports
                if port.protocol == protocol
            }
            namespace = service.workload.namespace
            yield self._row(namespace, service.name, protocol, "cluster", vips)

    def _node_ports(self, node: Node) -> list[Row]:
        """Return the node's load balancers of services with a node port: of their first port."""
        rows = []
        for service in self._pod_services:
            if service.node_port:
                port = service.ports[0][1]
                vips = {
                    _end(host, service.node_port): self._backends(service, port, family)
                    for family, host in enumerate(node.hosts)
                }
                owner, scope = service.workload.namespace, f"node_router+switch_{node.name}"
                rows.append(self._row(owner, service.name, port.protocol, scope, vips))
        return rows

    def _backends(self, service: Service, port: ContainerPort, family: int) -> str:
        return ",".join(_end(pod.addresses[family], port.number) for pod in service.backends)

    def _row(
        self, namespace: str, service: str, protocol: str, scope: str, vips: dict[str, str]
    ) -> Row:
        name = f"Service_{namespace}/{service}_{protocol}_{scope}"
        options = {
            "event": "false",
            "hairpin_snat_ip": " ".join(_HAIRPIN[: self._families]),
            "neighbor_responder": "none",
            "reject": "true",
            "skip_snat": "false",
        }
        owner = {
            "k8s.ovn.org/kind": "Service",
            "k8s.ovn.org/owner": f"{namespace}/{service}",
        }
        columns = {
            "name": name,
            "external_ids": owner,
            "options": options,
            "protocol": protocol.lower(),
            "vips": vips,
        }
        return Row.of("Load_Balancer", name, columns)


def _masked(node: Node, backends: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return backends as the node's gateway router sees them: the own host masqueraded."""
    own = dict(zip(node.hosts, _LOCAL_HOST, strict=False))
    return [(own.get(address, address), port) for address, port in backends]


def _join(backends: Iterable[tuple[str, int]]) -> str:
    return ",".join(_end(address, port) for address, port in backends)


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
