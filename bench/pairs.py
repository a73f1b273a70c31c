"""Pairs of pods of a generated cluster, and what a packet between them is."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench import addresses
from bench.cluster import Cluster, Node, Pod

PORT = 8080
"""The port that pairs are tried on, over TCP."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and a destination, both with a network of their own."""

    src: Pod
    dst: Pod

    @property
    def same_node(self) -> bool:
        """Whether no packet between them leaves the node."""
        return self.src.node is self.dst.node

    def back(self) -> "Pair":
        """Return the pair the other way."""
        return Pair(self.dst, self.src)


def sample(cluster: Cluster, count: int, *, zones: int = 0) -> Iterator[Pair]:
    """Yield pairs drawn at random, the same for a cluster; from few source `zones` if so asked."""
    pods = [pod for pod in cluster.population.pods if pod.networked]
    sources = pods
    if zones:
        chosen = cluster.population.nodes[:zones]
        sources = [pod for pod in pods if pod.node in chosen]
    drawn = random.Random(cluster.size.seed)  # noqa: S311 - not for secrets
    for _ in range(count):
        src = drawn.choice(sources)
        yield Pair(src, drawn.choice([pod for pod in pods if pod is not src]))


def router_mac(node: Node) -> str:
    """Return the MAC of a node's subnet's gateway."""
    return addresses.mac_of(addresses.at(node.networks[0], 1))


def transit_mac(node: Node) -> str:
    """Return the MAC of a node's router on the transit switch."""
    return addresses.mac_of(addresses.at(addresses.TRANSIT[0], node.number))


def mac(pod: Pod) -> str:
    """Return a pod's MAC."""
    return addresses.mac_of(pod.addresses[0])
