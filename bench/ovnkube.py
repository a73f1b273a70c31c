"""What ovnkube-trace runs for a pair of pods, as it runs it: a process per question.

For each pod it asks the southbound database for two routers' MACs and the gateway's bridge; then
it traces there and back: with ovn-trace at the source and at the destination, with ofproto/trace
at the source, and has ovn-detrace read the latter. Left out, and so not held against it: the
Kubernetes API, the way into a pod (`exec`), ovs-vsctl.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from audit.facts import openflow
from audit.model.datapath import Switch
from audit.model.packets import Microflow, Protocol
from audit.replay import databases, datapath
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from audit.trace import detrace, ofproto
from bench import pairs
from bench.pairs import PORT, Pair

CELLS_PER_CALL = 2
"""A call answers for its pair there and, on the same port, back: at best, as the first failure
ends it."""
_QUIET = ("--bare", "--no-heading")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nodes:
    """Where the databases of a pair's nodes are served, and the switches that run on them."""

    northbound: Mapping[str, Path]
    southbound: Mapping[str, Path]
    switches: Mapping[str, Switch]


def seconds_of(pair: Pair, snapshot: Path, programs: Toolchain) -> float:
    """Run every command for a pair; return the seconds they took, without what they ask."""
    with ExitStack() as stack:
        nodes = _served(pair, snapshot, programs, stack)
        started = time.monotonic()
        for argv in _commands(pair, nodes.southbound):
            _run(programs.argv(*argv))
        for way in (pair, pair.back()):
            _datapath(way, nodes, programs)
        return time.monotonic() - started


def _served(pair: Pair, snapshot: Path, programs: Toolchain, stack: ExitStack) -> _Nodes:
    served: dict[str, dict[str, Path]] = {"nb.db": {}, "sb.db": {}}
    chassis = []
    for node in {pair.src.node.name, pair.dst.node.name}:
        for name, sockets in served.items():
            run = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
            database = snapshot / "ovn" / node / name
            sockets[node] = stack.enter_context(databases.serve(programs, database, run))
        found = openflow.read_chassis(
            OvsdbTool(programs=programs), node, snapshot / "ovn" / node / "sb.db"
        )
        chassis += [one for one in found if one.node == node]
    place = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
    replayed = datapath.replay(programs, chassis, served["sb.db"], place)
    return _Nodes(
        northbound=served["nb.db"],
        southbound=served["sb.db"],
        switches=stack.enter_context(replayed).switches,
    )


def _datapath(pair: Pair, nodes: _Nodes, programs: Toolchain) -> None:
    """Trace through the source's switch, and have the trace explained."""
    node = pair.src.node.name
    switch = nodes.switches[node]
    packet = Microflow(
        inport=pair.src.port,
        eth_src=pairs.mac(pair.src),
        eth_dst=pairs.router_mac(pair.src.node),
        ip_src=pair.src.addresses[0],
        ip_dst=pair.dst.addresses[0],
        protocol=Protocol.TCP,
        src_port=12345,
        dst_port=PORT,
    )
    flow = ofproto.flow(packet, switch.vifs[pair.src.port].name)
    ask = ("ovs-appctl", "-t", str(switch.vswitchd), "ofproto/trace")
    trace = _run(programs.argv(*ask, *ofproto.arguments(flow, None)))
    _run(detrace.command(programs, nodes.northbound[node], nodes.southbound[node]), trace)


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


def _run(argv: tuple[str, ...], given: str = "") -> str:
    done = subprocess.run(  # noqa: S603 - argv made of our own words and paths
        argv, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"{argv[0]} failed: {done.stderr or 'it said nothing'}")
    return done.stdout
