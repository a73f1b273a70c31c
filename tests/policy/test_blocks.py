"""Cells decided by class are the cells decided one by one, on clusters made to tell them apart."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audit.facts import policyobjects
from audit.model.blocks import Blocks
from audit.model.endpoints import Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import ClusterState, Policy, Service, ServiceEndpoint
from audit.model.matrix import Cells, Counted, Matrix
from audit.model.networks import Network, Role
from audit.model.packets import Family, Protocol
from audit.model.verdicts import Reason
from audit.policy import blocks as by_class
from audit.policy.intent import evaluate
from audit.scope.matrix import Block, Path, build, outline
from audit.verdict.exposure import openness, openness_of

SPACES = ("a", "b", "c")
APPS = ("web", "db", "x")
WEB = Port(protocol=Protocol.TCP, number=80)
ALT = Port(protocol=Protocol.TCP, number=8080)
DNS = Port(protocol=Protocol.UDP, number=53)
CIDRS = ("10.0.0.0/16", "10.0.1.0/24", "203.0.113.0/24", "0.0.0.0/0", "fd00:1::/64", "::/0")


class Made:
    """A cluster and a scope of it, drawn by a seed; large enough that classes have members."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.networks = {"a/net": Network(name="blue"), "b/lan": Network(name="lan")}
        pods = [self.pod(number) for number in range(self.random.randrange(6, 22))]
        several = seed % 3 == 0
        if several:
            pods = [each for pod in pods for each in self.attached(pod)]
        nodes = [self.node(name) for name in ("n1", "n2", "n3")]
        services = [self.service(number, pods) for number in range(4)]
        outside = [
            Endpoint(kind=EndpointKind.EXTERNAL, name=name, addresses=(name,), node=node)
            for name in ("203.0.113.7", "198.51.100.1", "2001:db8::7")
            for node in (("", "n1") if seed % 2 else ("",))
        ]
        ends = [*pods, *nodes, *outside, *map(self.as_endpoint, services)]
        comes_in = Endpoint(
            kind=EndpointKind.INGRESS,
            name="ingress/a/in",
            declared=(NamedPort(name="", port=WEB),),
            obstacle="",
        )
        ends.append(comes_in)
        self.ends = sorted(ends, key=lambda e: (e.kind, e.namespace, e.name, e.node, e.network))
        policies = tuple(self.policy(number) for number in range(self.random.randrange(0, 9)))
        self.state = ClusterState(
            source="drawn",
            pods=tuple(pods),
            nodes=tuple(nodes),
            services=tuple(services),
            policies=policies,
            namespaces={
                name: (("env", name), ("kubernetes.io/metadata.name", name)) for name in SPACES
            },
            zones={},
            complete=seed % 4 != 1,
            attached=self.networks if several else {},
            unread_policies=self.random.choice(((), (), ("multi-networkpolicies x",))),
        )

    def pod(self, number: int) -> Endpoint:
        node = self.random.choice(("n1", "n1", "n2", ""))
        host = self.random.random() < 0.2
        return Endpoint(
            kind=EndpointKind.POD,
            namespace=self.random.choice(SPACES),
            name=f"pod-{number}",
            node=node,
            addresses=(f"10.0.{number % 3}.{number + 3}", f"fd00:{number % 3}::{number + 3:x}")[
                : self.random.choice((1, 2, 2))
            ],
            labels=(("app", self.random.choice(APPS)),),
            host_network=host,
            declared=(NamedPort(name="http", port=self.random.choice((WEB, ALT))),),
            obstacle=self.random.choice(
                ("", "", "", "", "", Reason.CHANGED_MEANWHILE, Reason.NO_ADDRESS)
            ),
        )

    def attached(self, pod: Endpoint) -> Sequence[Endpoint]:
        """Return a pod on its networks: locked on the default one, or with a secondary one."""
        if pod.host_network:
            return (pod,)
        if pod.namespace == "a":
            opened = self.random.choice(((), (WEB,)))
            locked = replace(pod, role=Role.LOCKED, opened=opened)
            return (locked, replace(pod, network="blue", role=Role.PRIMARY))
        if pod.namespace == "b" and self.random.random() < 0.5:
            return (pod, replace(pod, network="lan", role=Role.SECONDARY))
        return (pod,)

    def node(self, name: str) -> Endpoint:
        number = name[1:]
        return Endpoint(
            kind=EndpointKind.NODE,
            name=name,
            node=name,
            addresses=(f"172.18.0.{number}", f"fd01::{number}"),
            host_network=True,
        )

    def service(self, number: int, pods: Sequence[Endpoint]) -> Service:
        behind = self.random.sample(pods, self.random.randrange(0, 4))
        return Service(
            namespace=self.random.choice(SPACES),
            name=f"svc-{number}",
            cluster_ips=(f"10.96.0.{number + 1}", f"fd96::{number + 1}"),
            labels=(),
            ports=(NamedPort(name="", port=WEB),),
            headless=number == 3,
            endpoints=tuple(
                ServiceEndpoint(address=address, port=WEB, target=self.random.choice((80, 8080)))
                for pod in behind
                for address in pod.addresses
            ),
        )

    def as_endpoint(self, service: Service) -> Endpoint:
        return Endpoint(
            kind=EndpointKind.SERVICE,
            namespace=service.namespace,
            name=service.name,
            addresses=service.cluster_ips,
        )

    def policy(self, number: int) -> Policy:
        chosen = self.random.choice
        space = chosen(SPACES)
        spec: dict[str, Any] = {
            "podSelector": chosen(({}, {"matchLabels": {"app": chosen(APPS)}})),
            "policyTypes": chosen((["Ingress"], ["Egress"], ["Ingress", "Egress"])),
        }
        for key, end in (("ingress", "from"), ("egress", "to")):
            if key.capitalize() in spec["policyTypes"]:
                spec[key] = [self.rule(end) for _ in range(self.random.randrange(0, 3))]
        return policyobjects.policy(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": f"policy-{number}", "namespace": space},
                "spec": spec,
            },
            "NetworkPolicy",
        )

    def rule(self, end: str) -> dict[str, Any]:
        chosen = self.random.choice
        peers = [
            {"podSelector": {"matchLabels": {"app": chosen(APPS)}}},
            {"namespaceSelector": {"matchLabels": {"env": chosen(SPACES)}}},
            {"namespaceSelector": {}},
            {"ipBlock": {"cidr": chosen(CIDRS)}},
        ]
        ports = [
            {"port": 80},
            {"port": "http"},
            {"protocol": "UDP", "port": 53},
            {"port": 1, "endPort": 90},
        ]
        rule: dict[str, Any] = {}
        if chosen((True, True, False)):
            rule[end] = self.random.sample(peers, self.random.randrange(1, 3))
        if chosen((True, False)):
            rule["ports"] = self.random.sample(ports, 1)
        return rule

    def scope(self) -> tuple[Any, ...]:
        """Return what a matrix is made of: blocks that overlap, ports of each, and paths."""
        kinds = [e.kind for e in self.ends]
        sources = [i for i, kind in enumerate(kinds) if kind not in ("service", "ingress")]
        columns = [i for i, e in enumerate(self.ends) if e.kind != "ingress"]
        columns = [i for i in columns if not (kinds[i] == "external" and self.ends[i].node)]
        some = self.random.sample(sources, len(sources) * 2 // 3)
        blocks = [
            Block(sources=array(some), destinations=array(columns)),
            Block(sources=array(sources), destinations=array(columns[::2])),
        ]
        lists = ((WEB,), (DNS, WEB, ALT), (ALT,), ())
        ports = [self.random.choice(lists) for _ in self.ends]
        reached = self.random.sample([i for i in columns if kinds[i] == "pod"], 3)
        paths = [
            Path(source=kinds.index(EndpointKind.INGRESS), destination=i, ports=(WEB,))
            for i in reached
        ]
        return self.ends, blocks, ports, tuple(Family), paths


def array(numbers: Sequence[int]) -> Any:
    return np.array(sorted(numbers), np.int32)


@pytest.mark.parametrize("seed", range(120))
def test_cells_by_class_are_the_cells_one_by_one(seed: int) -> None:
    made = Made(seed)
    scope = made.scope()
    matrix, layout = build(*scope).matrix, outline(*scope).matrix
    blocks = by_class.evaluate(layout, made.state)
    one_by_one = evaluate(matrix, made.state)
    cells = Cells.joined(list(blocks.parts()))
    laid_out = layout.matrix()
    for name in ("src", "dst", "family", "port"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(matrix, name))
        np.testing.assert_array_equal(getattr(laid_out, name), getattr(matrix, name))
    assert tuple(blocks.blames) == one_by_one.blames
    for name in ("verdict", "reason", "blame"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(one_by_one, name))
    assert len(layout) == len(blocks) == len(matrix)
    _same_counts(blocks, cells, matrix)


def _same_counts(blocks: Blocks, cells: Cells, matrix: Matrix) -> None:
    """Compare what is counted by class with what is counted of the cells."""
    counted = Counted.of(cells.verdict, cells.reason)
    for name in ("verdict", "reason", "cells"):
        np.testing.assert_array_equal(getattr(blocks.counted, name), getattr(counted, name))
    size = len(blocks.endpoints)
    np.testing.assert_array_equal(blocks.margins[0], np.bincount(cells.src, minlength=size))
    into = np.bincount(blocks.dst, blocks.margins[1], size)
    np.testing.assert_array_equal(into, np.bincount(cells.dst, minlength=size))
    assert openness_of(blocks) == openness(matrix, cells)  # type: ignore[arg-type]


def test_most_cells_are_in_few_blocks() -> None:
    """That what is alike is decided once: a cluster of many pods has few classes."""
    pods = [
        Endpoint(
            kind=EndpointKind.POD, namespace=f"n{i % 3}", name=f"p{i}", addresses=(f"10.0.0.{i}",)
        )
        for i in range(60)
    ]
    every = array(range(60))
    block = Block(sources=every, destinations=every)
    layout = outline(pods, [block], [(WEB, ALT)] * 60, (Family.IP4,)).matrix
    state = ClusterState(
        source="made",
        pods=tuple(pods),
        nodes=(),
        services=(),
        namespaces={},
        policies=(),
        zones={},
    )
    blocks = by_class.evaluate(layout, state)
    assert len(blocks) == 60 * 59 * 2
    assert blocks.codes.size == 1
    assert len(blocks.exceptions) == 60 * 2
