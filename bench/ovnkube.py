"""What ovnkube-trace runs for a pair of pods, as it runs it: a process per question.

For each pod it asks the southbound database for two routers' MACs and the gateway's bridge; then
it traces there and back, at the source and at the destination. Left out, and so not held against
it: the Kubernetes API, the way into a pod (`exec`), ovs-vsctl, ofproto/trace and ovn-detrace, for
which there is no datapath here.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from audit.replay import databases
from audit.replay.toolchain import Toolchain
from bench import pairs
from bench.pairs import PORT, Pair

CELLS_PER_CALL = 2
"""A call answers for its pair there and, on the same port, back: at best, as the first failure
ends it."""
_QUIET = ("--bare", "--no-heading")


def seconds_of(pair: Pair, snapshot: Path, programs: Toolchain) -> float:
    """Run every command for a pair; return the seconds they took, without the servers' start."""
    with ExitStack() as stack:
        sockets = {}
        for node in {pair.src.node, pair.dst.node}:
            run = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
            database = snapshot / "ovn" / node.name / "sb.db"
            sockets[node.name] = stack.enter_context(databases.serve(programs, database, run))
        started = time.monotonic()
        for argv in _commands(pair, sockets):
            _run(programs, *argv)
        return time.monotonic() - started


def _commands(pair: Pair, sockets: Mapping[str, Path]) -> Iterator[tuple[str, ...]]:
    for pod in (pair.src, pair.dst):
        database = f"--db=unix:{sockets[pod.node.name]}"
        ask = ("ovn-sbctl", database, "--no-leader-only", *_QUIET)
        for port in (f"rtos-{pod.node.name}", f"rtots-{pod.node.name}"):
            yield (*ask, "--column=mac", "list", "Port_Binding", port)
        yield (*ask, "--column=logical_port", "find", "Port_Binding", _PHYSICAL)
    for way in (pair, pair.back()):
        yield from _traces(way, sockets)


_PHYSICAL = "options:network_name=physnet"


def _traces(pair: Pair, sockets: Mapping[str, Path]) -> Iterator[tuple[str, ...]]:
    src, dst = pair.src.node.name, pair.dst.node.name
    here = ("ovn-trace", f"--db=unix:{sockets[src]}", "--no-leader-only")
    yield (*here, src, _packet(pair, pair.src.port, pairs.router_mac(pair.src.node)))
    if not pair.same_node:
        there = ("ovn-trace", f"--db=unix:{sockets[dst]}", "--no-leader-only")
        yield (*there, _packet(pair, f"tstor-{src}", pairs.transit_mac(pair.dst.node)))


def _packet(pair: Pair, inport: str, gateway: str) -> str:
    return (
        f'inport=="{inport}" && eth.src=={pairs.mac(pair.src)} && eth.dst=={gateway} && '
        f"ip4.src=={pair.src.addresses[0]} && ip4.dst=={pair.dst.addresses[0]} && "
        f"ip.ttl==64 && tcp.dst=={PORT} && tcp.src==52888"
    )


def _run(programs: Toolchain, program: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - argv made of our own words and paths
        programs.argv(program, *arguments), capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{program} failed: {done.stderr or 'it said nothing'}")
