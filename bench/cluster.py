"""The things in a generated cluster, before they are Kubernetes objects or OVN rows."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from bench import addresses

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a cluster is asked for. `pods` are those with a network of their own."""

    pods: int
    nodes: int
    namespaces: int
    policies: int
    seed: int = 1
    families: int = 1
    """1: IPv4; 2: IPv4 and IPv6."""
    networks: int = 0
    """How many namespaces have a primary user-defined network of their own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A node, which is also a zone and a chassis. `number` is its id in every address plan."""

    name: str
    index: int
    families: int

    @property
    def number(self) -> int:
        """The node's id: 1 is the cluster router's in the join network."""
        return self.index + 2

    @property
    def chassis(self) -> str:
        """The chassis' name: its system id."""
        return addresses.uuid_of("chassis", self.name)

    @property
    def networks(self) -> tuple[addresses.Network, ...]:
        """The pods' subnets."""
        return addresses.node_networks(self.index, self.families)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses of the host itself."""
        return addresses.each(addresses.HOSTS, self.number, self.families)

    @property
    def mac(self) -> str:
        """The MAC of the gateway bridge."""
        return f"02:42:ac:12:{self.number >> 8:02x}:{self.number & 255:02x}"

    @property
    def management(self) -> tuple[str, ...]:
        """The addresses of the management port: the second of each subnet."""
        return tuple(addresses.at(network, 2) for network in self.networks)

    @property
    def management_mac(self) -> str:
        """The MAC of the management port."""
        return f"0a:58:0a:80:{self.number >> 8:02x}:{self.number & 255:02x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """A port a container declares."""

    name: str
    number: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """What owns pods, and the service before them."""

    kind: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    ports: tuple[ContainerPort, ...]
    host_network: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pod:
    """A pod. One that has finished keeps its address and has no port."""

    workload: Workload
    name: str
    node: Node
    addresses: tuple[str, ...]
    phase: str = "Running"
    prefix: str = ""
    """What its port's name begins with on a user-defined network."""

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return self.workload.namespace

    @property
    def labels(self) -> Mapping[str, str]:
        """The pod's labels."""
        return self.workload.labels

    @property
    def networked(self) -> bool:
        """Whether the pod has a logical port."""
        return self.phase == "Running" and not self.workload.host_network

    @property
    def port(self) -> str:
        """The name of its logical port."""
        return f"{self.prefix}{self.namespace}_{self.name}"

    @property
    def uid(self) -> str:
        """The object's uid."""
        return addresses.uuid_of("pod", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """A service before a workload's pods; `port` 53 and 80 are the usual ones."""

    name: str
    workload: Workload
    number: int
    backends: tuple[Pod, ...]
    ports: tuple[tuple[int, ContainerPort], ...]
    node_port: int = 0

    def ips(self, families: int) -> tuple[str, ...]:
        """Return its cluster addresses."""
        return addresses.each(addresses.SERVICES, self.number, families)


@dataclass(slots=True, kw_only=True)
class Policies:
    """The policy objects, as the API prints them."""

    network: list[Object] = field(default_factory=list)
    admin: list[Object] = field(default_factory=list)
    baseline: list[Object] = field(default_factory=list)
    firewalls: list[Object] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Population:
    """Everything but the policies. Filled by `bench.workloads`."""

    size: Size
    random: random.Random
    nodes: tuple[Node, ...]
    namespaces: dict[str, dict[str, str]]
    pods: list[Pod] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)

    @classmethod
    def empty(cls, size: Size) -> Self:
        """Return the nodes alone."""
        width = len(str(size.nodes))
        nodes = tuple(
            Node(name=f"worker-{i + 1:0{width}}", index=i, families=size.families)
            for i in range(size.nodes)
        )
        # Not for secrets: the same seed gives the same cluster.
        source = random.Random(size.seed)  # noqa: S311
        return cls(size=size, random=source, nodes=nodes, namespaces={})


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A whole cluster."""

    population: Population
    policies: Policies

    @property
    def size(self) -> Size:
        """What was asked for."""
        return self.population.size

    @cached_property
    def pods_of(self) -> Mapping[str, tuple[Pod, ...]]:
        """The running pods of each namespace, those of the host's network too."""
        found: dict[str, list[Pod]] = {name: [] for name in self.population.namespaces}
        for pod in self.population.pods:
            if pod.phase == "Running":
                found[pod.namespace].append(pod)
        return {name: tuple(pods) for name, pods in found.items()}
