"""Measure the audit beside ovnkube-trace: `python -m bench.run --sizes 40,1000`.

For each size one cluster is generated, and three things are timed on it, one after the other on
this machine: ovnkube-trace's own commands for a few pairs of pods, the audit's daemon trace by
trace, and a whole `audit run`. What is printed is what was measured, nothing is kept from before.
"""

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import daemon, ovnkube, pairs, whole
from bench.cluster import Cluster, Size
from bench.generate import cluster_of, generate, newest

KNOWN = {
    40: Size(pods=40, nodes=3, namespaces=14, policies=24),
    1000: Size(pods=1000, nodes=10, namespaces=60, policies=400),
    5413: Size(pods=5413, nodes=100, namespaces=604, policies=13678),
}
"""The sizes that are talked about; the last is that of a cluster in production."""
PORTS = ("tcp/8080", "tcp/443", "udp/53")
_DAEMON_PAIRS = 600
_DAEMON_ZONES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What was measured at one size."""

    pods: int
    ovnkube: float
    daemon: float
    whole: float
    """Cells per second, each."""

    @property
    def ratio(self) -> float:
        """How many times faster a whole run is than ovnkube-trace's commands."""
        return self.whole / self.ovnkube


def size_of(pods: int) -> Size:
    """Return a cluster's size: a known one, or one in the proportions of the middle one."""
    usual = Size(
        pods=pods,
        nodes=max(2, pods // 100),
        namespaces=max(6, pods // 16),
        policies=max(4, pods * 2 // 5),
    )
    return KNOWN.get(pods, usual)


def scope_of(cluster: Cluster, most: int) -> tuple[list[str], str]:
    """Return the flags of a scope of at most `most` cells, and how to call it."""
    ports = [flag for port in PORTS for flag in ("--port", port)]
    every = [pod for pod in cluster.population.pods if pod.phase == "Running"]
    cells = len(every) * (len(every) - 1) * len(PORTS)
    if not most or cells <= most:
        return ports, "every pod to every pod"
    flags, inside = [*ports], 0
    for name, pods in cluster.pods_of.items():
        if not pods or any(pod.workload.host_network for pod in pods):
            continue
        if flags != ports and (inside + len(pods)) ** 2 * len(PORTS) > most:
            continue
        inside += len(pods)
        flags += ["--namespace", name]
    return flags, f"restricted to {(len(flags) - len(ports)) // 2} namespaces ({inside} pods)"


def measure(size: Size, given: argparse.Namespace) -> Line:
    """Measure one size, and say it."""
    programs = newest()
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        snapshot = given.keep / f"{size.pods}-{size.seed}" if given.keep else Path(work) / "cluster"
        cluster = cluster_of(size)
        if not snapshot.exists():
            made = generate(snapshot, size, programs)
            print(f"  generated in {made.seconds:.1f} s", flush=True)
        tried = list(pairs.sample(cluster, given.sample))
        seconds = [ovnkube.seconds_of(pair, snapshot, programs) for pair in tried]
        per_call = sum(seconds) / len(seconds)
        calls = ovnkube.CELLS_PER_CALL / per_call
        print(
            f"  ovnkube-trace's commands: {per_call:.2f} s a call ({len(tried)} calls; without "
            f"exec) = {calls:.2f} cells/s",
            flush=True,
        )
        drawn = list(pairs.sample(cluster, _DAEMON_PAIRS, zones=_DAEMON_ZONES))
        found = daemon.measure(drawn, snapshot, programs)
        print(
            f"  a daemon: start {found.start_s:.2f} s a zone, {found.trace_s * 1000:.2f} ms a "
            f"trace, {found.hops_per_cell:.2f} traces a cell = {found.cells_per_s:.0f} cells/s",
            flush=True,
        )
        run = _whole(cluster, snapshot, Path(work), given)
    return Line(pods=size.pods, ovnkube=calls, daemon=found.cells_per_s, whole=run.cells_per_s)


def _whole(
    cluster: Cluster, snapshot: Path, work: Path, given: argparse.Namespace
) -> whole.Watched:
    """Watch a whole run, and say what it did."""
    flags, named = scope_of(cluster, 0 if given.cover else given.most)
    if given.cover:
        flags += ["--cover", given.cover]
    run = whole.watch(snapshot, work / "runs", [*flags, *given.audit])
    counts = run.counts
    print(
        f"  audit run, {named}, cover {run.cover}: {counts['cells']:,} cells by "
        f"{counts['traces']:,} traces in {run.seconds:.1f} s = {run.cells_per_s:.0f} cells/s; "
        f"{counts['untraced'] + counts['inconclusive']:,} unproven; "
        f"{run.cpu_s:.0f} s of CPU and at most {run.peak_bytes / 2**20:.0f} MiB in all processes"
    )
    spent = "; ".join(f"{name} {seconds:.1f} s" for name, seconds in run.phases)
    print(f"    {spent}", flush=True)
    return run


def summarise(lines: Sequence[Line]) -> None:
    """Print the ratios, and how each figure changes from size to size."""
    print(f"{'pods':>6} {'ovnkube-trace':>14} {'daemon':>10} {'audit run':>10} {'ratio':>9}")
    for line in lines:
        figures = f"{line.ovnkube:>14.3f} {line.daemon:>10.0f} {line.whole:>10.0f}"
        print(f"{line.pods:>6} {figures} {line.ratio:>9.0f}")
    print("cells per second; ratio: audit run to ovnkube-trace's commands")
    for before, after in itertools.pairwise(lines):
        growth = {
            "ovnkube-trace": after.ovnkube / before.ovnkube,
            "daemon": after.daemon / before.daemon,
            "audit run": after.whole / before.whole,
            "ratio": after.ratio / before.ratio,
        }
        told = ", ".join(f"{name} x{factor:.2f}" for name, factor in growth.items())
        print(f"{before.pods} -> {after.pods} pods: {told}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default="40,1000", help="pods, separated by commas")
    parser.add_argument("--sample", type=int, default=5, help="calls of ovnkube-trace to time")
    parser.add_argument(
        "--most",
        type=int,
        default=40_000,
        help="restrict the run to namespaces with fewer cells than this; 0 for no limit. With "
        "--cover there is none",
    )
    parser.add_argument("--cover", default="", help="handed on to audit run")
    parser.add_argument("--keep", type=Path, help="keep generated clusters here, and use them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("audit", nargs="*", help="after --: more flags of audit run")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = _parser().parse_args(argv)
    print(
        f"one machine: {os.cpu_count()} CPUs, Python {sys.version.split()[0]}, {newest().version}"
    )
    lines = []
    for pods in (int(word) for word in given.sizes.split(",")):
        known = size_of(pods)
        size = Size(
            pods=pods,
            nodes=known.nodes,
            namespaces=known.namespaces,
            policies=known.policies,
            seed=given.seed,
        )
        print(
            f"{size.pods} pods, {size.nodes} zones, {size.namespaces} namespaces, "
            f"{size.policies} policies, seed {size.seed}",
            flush=True,
        )
        lines.append(measure(size, given))
    summarise(lines)


if __name__ == "__main__":
    main()
