"""Namespaces, workloads, pods and services: who lives in a generated cluster."""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from bench import addresses
from bench.cluster import ContainerPort, Pod, Population, Service, Size, Workload

HOST_NAMESPACE = "ovn-host-network"
"""The namespace OVN-Kubernetes keeps the nodes' own addresses in."""
DNS_NAMESPACE = "kube-system"
MONITORING = "monitoring"
SYSTEM_NAMESPACES = ("default", DNS_NAMESPACE, HOST_NAMESPACE, MONITORING)

ENVIRONMENTS = ("prod", "staging", "dev")
_TEAMS = 12
_FIRST_POD = 3
"""The first address of a subnet that a pod can have: after the gateway and the host."""
_FINISHED_OF = 100
_NODE_PORT_OF = 25
_FIRST_NODE_PORT = 30000
_FIRST_SERVICE = 16
_DNS_SERVICE = 10

APPS: dict[str, tuple[str, tuple[ContainerPort, ...]]] = {
    "web": ("frontend", (ContainerPort(name="http", number=8080),)),
    "api": (
        "backend",
        (ContainerPort(name="api", number=8443), ContainerPort(name="metrics", number=9100)),
    ),
    "worker": ("backend", (ContainerPort(name="metrics", number=9100),)),
    "cache": ("cache", (ContainerPort(name="redis", number=6379),)),
    "db": ("db", (ContainerPort(name="pg", number=5432),)),
    "queue": (
        "backend",
        (ContainerPort(name="amqp", number=5672), ContainerPort(name="admin", number=8080)),
    ),
    "log": ("infra", (ContainerPort(name="syslog", number=5514, protocol="UDP"),)),
}
"""Applications: label `app`, its tier, its ports."""

_DNS = (
    ContainerPort(name="dns", number=53, protocol="UDP"),
    ContainerPort(name="dns-tcp", number=53),
)


def populate(size: Size) -> Population:
    """Return the population of a cluster of a size; the same for the same seed."""
    if size.namespaces <= len(SYSTEM_NAMESPACES) or size.pods < 2 * size.nodes:
        raise ValueError(
            f"a cluster has more than {len(SYSTEM_NAMESPACES)} namespaces and at least two pods "
            "per node"
        )
    population = Population.empty(size)
    population.namespaces.update(_namespaces(population))
    _Filler(population).fill()
    return population


def _namespaces(population: Population) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each namespace with its labels, the system's first."""
    for name in SYSTEM_NAMESPACES:
        yield name, {"kubernetes.io/metadata.name": name}
    for index in range(population.size.namespaces - len(SYSTEM_NAMESPACES)):
        environment = population.random.choice(ENVIRONMENTS)
        team = f"t{population.random.randrange(_TEAMS)}"
        name = f"{team}-{environment}-{index}"
        labels = {"env": environment, "kubernetes.io/metadata.name": name, "team": team}
        if index % 3 == 0:
            labels["tenant"] = "yes"
        yield name, labels


@dataclass(slots=True)
class _Filler:
    """Adds workloads until there are as many pods as asked for."""

    population: Population

    def fill(self) -> None:
        """Add everything."""
        taken = [_FIRST_POD] * len(self.population.nodes)
        order = list(self.population.nodes)
        self.population.random.shuffle(order)
        turn = cycle(order)
        for workload, replicas in self._workloads():
            pods = []
            for index in range(replicas):
                node = self.population.nodes[index] if workload.host_network else next(turn)
                if workload.host_network:
                    found = node.hosts
                else:
                    number = taken[node.index]
                    taken[node.index] += 1
                    found = tuple(addresses.at(network, number) for network in node.networks)
                name = self._pod_name(workload, index)
                phase = "Succeeded" if workload.kind == "Job" else "Running"
                pods.append(
                    Pod(workload=workload, name=name, node=node, addresses=found, phase=phase)
                )
            self.population.pods += pods
            if workload.kind != "Job":
                self.population.services.append(self._service(workload, tuple(pods)))

    def _workloads(self) -> Iterator[tuple[Workload, int]]:
        """Yield workloads with their numbers of pods: the system's, then the tenants'."""
        size, source = self.population.size, self.population.random
        dns = max(1, size.nodes // 5)
        labels = {"k8s-app": "kube-dns"}
        yield self._workload("Deployment", DNS_NAMESPACE, "dns", labels, _DNS), dns
        exporter = (ContainerPort(name="metrics", number=9100),)
        yield self._workload("DaemonSet", MONITORING, "node-exporter", {}, exporter), size.nodes
        prometheus = (ContainerPort(name="web", number=9090),)
        yield self._workload("StatefulSet", MONITORING, "prometheus", {}, prometheus), 1
        left = size.pods - dns - 1
        tenants = [name for name in self.population.namespaces if name not in SYSTEM_NAMESPACES]
        source.shuffle(tenants)
        for finished in range(max(1, size.pods // _FINISHED_OF)):
            owner = tenants[finished % len(tenants)]
            yield self._workload("Job", owner, f"backup-{finished}", {"app": "backup"}, ()), 1
        turns = [*tenants, *source.choices(tenants, k=size.pods)]
        for index, namespace in enumerate(turns):
            replicas = min(left, source.choice((1, 1, 2, 2, 3, 4, 6)))
            if not replicas:
                return
            left -= replicas
            app = source.choice(tuple(APPS))
            tier, ports = APPS[app]
            labels = {"app": app, "tier": tier, "version": source.choice(("v1", "v2"))}
            kind = "StatefulSet" if app in ("db", "queue") else "Deployment"
            yield self._workload(kind, namespace, f"{app}-{index}", labels, ports), replicas

    def _workload(
        self,
        kind: str,
        namespace: str,
        name: str,
        labels: dict[str, str],
        ports: tuple[ContainerPort, ...],
    ) -> Workload:
        given = {"app": name, **labels}
        if kind == "Deployment":
            given["pod-template-hash"] = self._letters(9)
        return Workload(
            kind=kind,
            namespace=namespace,
            name=name,
            labels=given,
            ports=ports,
            host_network=kind == "DaemonSet",
        )

    def _letters(self, count: int) -> str:
        letters = string.digits[2:] + string.ascii_lowercase[1:]
        return "".join(self.population.random.choices(letters, k=count))

    def _pod_name(self, workload: Workload, index: int) -> str:
        """Return a name as the workload's controller makes it."""
        if workload.kind == "StatefulSet":
            return f"{workload.name}-{index}"
        middle = [workload.labels["pod-template-hash"]] if workload.kind == "Deployment" else []
        return "-".join([workload.name, *middle, self._letters(5)])

    def _service(self, workload: Workload, pods: tuple[Pod, ...]) -> Service:
        position = len(self.population.services)
        dns = workload.namespace == DNS_NAMESPACE
        first = workload.ports[0]
        ports = [(80 if first.number == 8080 else first.number, first)]  # noqa: PLR2004 - http
        ports += [(port.number, port) for port in workload.ports[1:]]
        exposed = position % _NODE_PORT_OF == _NODE_PORT_OF - 1 and not workload.host_network
        return Service(
            name=workload.name,
            workload=workload,
            number=_DNS_SERVICE if dns else _FIRST_SERVICE + position,
            backends=pods,
            ports=tuple(ports),
            node_port=_FIRST_NODE_PORT + position if exposed else 0,
        )
