"""Generate the snapshot of a big cluster: `python -m bench.generate big.tar.gz --pods 1000`.

The Kubernetes objects are made up from a seed; the northbound databases are written as
OVN-Kubernetes writes them; the southbound ones are made by the real ovn-northd. The same arguments
give the same objects and northbound rows; what ovn-northd numbers and names is its own.
"""

import argparse
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from audit.errors import EngineError
from audit.replay import toolchain
from audit.replay.toolchain import Toolchain
from bench import manifests, policies, topology, workloads
from bench.acls import PolicyRows
from bench.balancers import Balancers
from bench.cluster import Cluster, Node, Size
from bench.networks import NetworkRows, Networks, isolation, served_sets
from bench.ovsdb import Row, compile_zone, write

_NETWORKS_VERSION = "26.03.0"
"""The OVN of user-defined networks' rows: a layer 2 one's router is in all zones."""
PARALLEL = 2
"""Zones that ovn-northd compiles at once."""
_SUFFIXES = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was generated, and what it took."""

    cluster: Cluster
    northbound_bytes: int
    southbound_bytes: int
    seconds: float


def cluster_of(size: Size) -> Cluster:
    """Return a cluster of a size: the same for the same seed."""
    population = workloads.populate(size)
    return Cluster(population=population, policies=policies.write(population))


def generate(target: Path, size: Size, programs: Toolchain) -> Made:
    """Write a snapshot: to a directory, or to a `.tar.gz`."""
    if str(target).endswith(_SUFFIXES):
        with tempfile.TemporaryDirectory(prefix="bench-") as work:
            made = generate(Path(work) / "snapshot", size, programs)
            with tarfile.open(target, "w:gz", compresslevel=1) as archive:
                for name in ("kube", "ovn"):
                    archive.add(Path(work) / "snapshot" / name, name)
        return made
    started = time.monotonic()
    cluster = cluster_of(size)
    (target / "kube").mkdir(parents=True)
    networks = Networks(cluster)
    for resource, listed in manifests.lists(cluster, networks):
        (target / "kube" / f"{resource}.json").write_text(json.dumps(listed), encoding="utf-8")
    zones = _Zones(cluster, networks, programs, target / "ovn")
    with ThreadPoolExecutor(PARALLEL) as pool:
        for _ in pool.map(zones.make, cluster.population.nodes):
            pass  # the first that failed raises here
    return Made(
        cluster=cluster,
        northbound_bytes=_total(target, "nb.db"),
        southbound_bytes=_total(target, "sb.db"),
        seconds=time.monotonic() - started,
    )


def _total(target: Path, name: str) -> int:
    return sum(file.stat().st_size for file in target.glob(f"ovn/*/{name}"))


class _Zones:
    """Makes the databases of one zone after the other; what they share is made once."""

    def __init__(
        self, whole: Cluster, networks: Networks, programs: Toolchain, target: Path
    ) -> None:
        self._networks = networks
        self._network_rows = [NetworkRows(networks, one) for one in networks.of.values()]
        self._cluster = cluster = networks.default if networks.of else whole
        self._programs = programs
        self._target = target
        self._balancers = Balancers(cluster)
        rows = PolicyRows(cluster)
        self._groups = [*topology.cluster_groups(cluster), *rows.groups]
        hairpins = [acl for group in topology.cluster_groups(cluster) for acl in group.acls]
        self._shared = [*self._balancers.shared(), *rows.shared(), *hairpins]

    def make(self, node: Node) -> None:
        """Write the databases of a node's zone. In a short directory: sockets are in it."""
        with tempfile.TemporaryDirectory(prefix="bench-") as work:
            place = Path(work)
            schema = self._programs.schema
            write(place / "nb.db", schema("ovn-nb.ovsschema"), node.name, self._rows(node))
            chassis = topology.chassis_rows(self._cluster, node)
            write(place / "sb.db", schema("ovn-sb.ovsschema"), node.name, chassis)
            compile_zone(self._programs, place, list(topology.bindings(self._cluster, node)))
            zone = self._target / node.name
            zone.mkdir(parents=True)
            for name in ("nb.db", "sb.db"):
                shutil.move(place / name, zone / name)

    def _rows(self, node: Node) -> list[Row]:
        own, keys = self._balancers.of_node(node)
        base = topology.ZoneTopology(self._cluster, node, keys).rows()
        groups = (group.row(node.name) for group in self._groups)
        rows = [*base, *own, *self._shared, *groups]
        if self._network_rows:
            rows += isolation(self._networks, node)
            rows += served_sets(self._cluster.population.nodes)
            rows += (row for network in self._network_rows for row in network.rows(node))
        return rows


def newest(version: str = "25.03.0") -> Toolchain:
    """Return the OVN that clusters are made and measured with: of 25.03, as far as it is there."""
    try:
        return toolchain.choose(toolchain.find(), {"z": version})
    except EngineError as error:
        raise SystemExit(str(error)) from error


def size_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how big a cluster is."""
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--namespaces", type=int, default=60)
    parser.add_argument("--policies", type=int, default=400)
    parser.add_argument("--networks", type=int, default=0, help="namespaces with a primary one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--families", choices=("ip4", "both"), default="ip4")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench.generate", description=(__doc__ or "")[:78])
    parser.add_argument("target", type=Path, help="a new directory, or a .tar.gz")
    size_flags(parser)
    given = parser.parse_args(argv)
    size = Size(
        pods=given.pods,
        nodes=given.nodes,
        namespaces=given.namespaces,
        policies=given.policies,
        seed=given.seed,
        families=2 if given.families == "both" else 1,
        networks=given.networks,
    )
    try:
        made = generate(
            given.target, size, newest(_NETWORKS_VERSION if size.networks else "25.03.0")
        )
    except (ValueError, FileExistsError) as error:
        raise SystemExit(str(error)) from error
    print(
        f"{given.target}: {len(made.cluster.population.pods)} pods, {size.nodes} zones, "
        f"{made.northbound_bytes / 1e6:.1f} MB northbound, "
        f"{made.southbound_bytes / 1e6:.1f} MB southbound, {made.seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
