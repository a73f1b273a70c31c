"""Measure the intent plane: `python -m bench.intent --pods 5413 --namespaces 604 --policies 13678`.

The objects of a cluster are generated, without OVN, and read as a snapshot's are. Timed are the
tables of both sides (the class matrix), and their expansion into a verdict for every pair of pods
and port; memory is this process' own at its highest.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.facts import kube, policyobjects
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Policy
from audit.model.packets import Family, Protocol
from audit.policy.cluster import Cluster
from audit.policy.intent import Intent
from audit.policy.tables import PASSES
from bench import generate, manifests
from bench.cluster import Size
from bench.networks import Networks

PORTS = (
    Port(protocol=Protocol.TCP, number=8080),
    Port(protocol=Protocol.TCP, number=443),
    Port(protocol=Protocol.UDP, number=53),
)


def read(size: Size) -> tuple[list[Endpoint], list[Policy], Cluster]:
    """Generate a cluster's objects, and read them."""
    made = generate.cluster_of(size)
    lists = dict(manifests.lists(made, Networks(made)))
    started = time.monotonic()
    pods = [kube.pod(item) for item in lists["pods"]["items"]]
    endpoints = [
        Endpoint(
            kind=EndpointKind.POD,
            namespace=pod.namespace,
            name=pod.name,
            node=pod.node,
            addresses=pod.addresses,
            labels=pod.labels,
            host_network=pod.host_network,
            declared=pod.declared,
        )
        for pod in pods
        if pod.phase == "Running"
    ]
    policies = [
        policyobjects.policy(item, kind)
        for resource_, kind in kube.POLICY_RESOURCES.items()
        for item in lists.get(resource_, {"items": []})["items"]
    ]
    nodes = [kube.node(item) for item in lists["nodes"]["items"]]
    cluster = Cluster(
        namespaces=dict(kube.namespace(item) for item in lists["namespaces"]["items"]),
        nodes={node.name: dict(node.labels) for node in nodes},
    )
    print(
        f"{len(endpoints)} running pods, {len(cluster.namespaces)} namespaces, "
        f"{len(policies)} policies; read in {time.monotonic() - started:.1f} s",
        flush=True,
    )
    return endpoints, policies, cluster


def expand(intent: Intent, pods: int) -> tuple[int, int]:
    """Decide every ordered pair of pods on every port, a byte each; return (passing, cells)."""
    matrix = np.empty((len(PORTS), pods, pods), dtype=np.uint8)
    everyone = np.arange(pods, dtype=np.int32)
    for port in range(len(PORTS)):
        for src in range(pods):
            matrix[port, src] = _row(intent, src, everyone, port)
    matrix[:, everyone, everyone] = 0  # a pod and itself are no cell
    return int((matrix == PASSES).sum()), matrix.size - len(PORTS) * pods


def _row(intent: Intent, src: int, dst: NDArray[np.int32], port: int) -> NDArray[np.uint8]:
    sources, ports = np.full(len(dst), src, np.int32), np.full(len(dst), port, np.int32)
    return intent.decide(sources, dst, ports).outcome


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="bench.intent", description=(__doc__ or "").split("\n")[0]
    )
    generate.size_flags(parser)
    parser.add_argument("--classes", action="store_true", help="the class matrix only")
    given = parser.parse_args(argv)
    size = Size(
        pods=given.pods,
        nodes=given.nodes,
        namespaces=given.namespaces,
        policies=given.policies,
        seed=given.seed,
    )
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, numpy {np.__version__}")
    endpoints, policies, cluster = read(size)
    started = time.monotonic()
    intent = Intent(policies, endpoints, cluster, PORTS, Family.IP4, blame=False)
    tables = time.monotonic() - started
    classes = len(intent.people)
    vectors = len(intent.egress.outcome) + len(intent.ingress.outcome)
    print(
        f"class matrix: {classes} classes x {classes} x {len(PORTS)} ports, {vectors} distinct "
        f"rows, in {tables:.1f} s"
    )
    if not given.classes:
        passing, cells = expand(intent, len(endpoints))
        total = time.monotonic() - started
        print(f"every pair: {cells:,} cells, {passing:,} pass, in {total:.1f} s with the tables")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"at most {peak:.0f} MiB, the generated objects included")


if __name__ == "__main__":
    main()
