"""Real packets: injected into a replayed switch, conntrack included, and seen where they leave.

`netdev-dummy/receive` hands a packet to an interface as if it had come over the wire. What then
leaves by which interface is in the captures that the replay keeps of each. Nothing here knows
what OpenFlow says: it is the last word on what a trace claims.

    results = inject(tasks, running.switches)
    results[0].delivered     # the logical ports it came out at: {"shop_web-0"}, or none
    results[0].unknown       # why nothing can be said, empty where something can
    results[0].draws[0].left[0].packet.ip_src   # its source as it left: a hairpin's is translated
    results[0].draws[0].backend                 # what the load balancer chose: "10.0.0.5:8080"

The requests are those of the cover, `cover.request_for(…)`, as they are or as tasks of a node.
"""

import functools
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from audit.model.datapath import Switch
from audit.model.packets import ConntrackState, Microflow, Protocol, with_port
from audit.model.traces import DatapathTask, TraceTask
from audit.trace import frames
from audit.trace.frames import SENT_PROTOCOLS
from audit.trace.unixctl import RefusedError, Unixctl, UnixctlError

DRAWS_PER_BACKEND = 12
"""Packets sent per backend that has come up, each from a source port of its own: one of them is
missed once in e^12 times."""
MOST_DRAWS = 600
TIMEOUT_S = 600.0

_COMMANDS_IN_A_TURN = 10
"""ovs-vswitchd forwards packets and serves unixctl in turns, and reads at most this many commands
of a connection in one (unixctl.c, run_connection): after one more, it has forwarded."""
_END = r"\(src=([0-9a-fA-F.:]+),dst=([0-9a-fA-F.:]+),sport=(\d+),dport=(\d+)\)"
_TRACKED = re.compile(rf"orig={_END},reply={_END}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A packet as it left: by a logical port's interface, or to a physical network (no `port`)."""

    port: str
    packet: Microflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What became of one packet of a request.

    `src_port` is what tells it from others; `backend` the address and port that a load balancer
    translated its destination to, empty where none did. `answered` are the logical ports that the
    answer to it came out at; None where it came to nobody who could answer, or to several.
    """

    src_port: int
    left: tuple[Departure, ...]
    backend: str = ""
    answered: frozenset[str] | None = None

    @property
    def delivered(self) -> frozenset[str]:
        """The logical ports it came out at."""
        return _ports(self.left)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketResult:
    """What became of a request's packets; `unknown` is why nothing can be said of them.

    A packet that came out nowhere was dropped, or left by a tunnel: a replay has no wire between
    nodes. By a tunnel goes what a load balancer sends to a backend that is not at this node. A
    reset that ovn-controller answers with is another packet, and not counted.
    """

    key: str
    draws: tuple[Draw, ...] = ()
    unknown: str = ""

    @property
    def delivered(self) -> frozenset[str]:
        """The logical ports that any of the packets came out at."""
        return frozenset[str]().union(*(draw.delivered for draw in self.draws))

    @property
    def left(self) -> bool:
        """Say whether any left to a physical network."""
        return any(not departure.port for draw in self.draws for departure in draw.left)


def inject(
    tasks: Sequence[TraceTask],
    switches: Mapping[str, Switch],
    *,
    parallel: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[PacketResult, ...]:
    """Send the packets of requests into replayed switches; return what became of each, in order.

    Requests as the cover makes them: the packet enters by the interface of `microflow.inport`, on
    whichever of `switches` that is. Where a load balancer takes it, more are sent from other
    source ports, until each backend has come up. Of a service with session affinity one does, and
    the first packet to it only teaches the switch: it, and all of its connection, is dropped. Each
    request starts with no connection known. Nodes work in parallel, `parallel` at a time; a
    request of which nothing is known in `timeout_s` says so. Nothing raises.
    """
    deadline = time.monotonic() + timeout_s
    by_node: dict[str, list[TraceTask]] = {}
    results: dict[str, PacketResult] = {}
    for task in {task.key: task for task in tasks}.values():
        node = entered(task.microflow.inport, switches)
        why = _unsendable(task) or ("" if node else f"no switch here has {task.microflow.inport}")
        if why:
            results[task.key] = PacketResult(key=task.key, unknown=why)
        else:
            by_node.setdefault(node, []).append(task)
    send = functools.partial(_inject, switches=switches, deadline=deadline)
    with ThreadPoolExecutor(max_workers=parallel or os.cpu_count() or 1) as pool:
        for sent in pool.map(send, by_node.items()):
            results |= {result.key: result for result in sent}
    return tuple(results[task.key] for task in tasks)


def entered(port: str, switches: Mapping[str, Switch]) -> str:
    """Return the node at which packets can be sent from a logical port; empty where at none."""
    having = (name for name, switch in switches.items() if _interface(port, switch))
    return next(having, "")


def _interface(port: str, switch: Switch) -> str:
    """Return the interface by which packets of a logical port enter; empty where there is none."""
    if port in switch.captures:
        return switch.vifs[port].name
    return switch.wires[port].name if port in switch.wires else ""


def _unsendable(task: TraceTask) -> str:
    if task.microflow.protocol is Protocol.ICMP:
        return "no pings are sent"
    if task.microflow.protocol not in SENT_PROTOCOLS:
        return f"{task.microflow.protocol} is not handled by the userspace datapath's conntrack"
    if task.state is not ConntrackState.REQUEST:
        return "it is a reply, which is sent only after its request"
    if isinstance(task, DatapathTask) and task.tunnel is not None:
        return "it comes out of a tunnel, and a replay has no wire between nodes"
    return ""


def _inject(
    of_node: tuple[str, Sequence[TraceTask]], *, switches: Mapping[str, Switch], deadline: float
) -> list[PacketResult]:
    node, tasks = of_node
    results = []
    with PacketProbe(switches[node]) as probe:
        for task in tasks:
            if time.monotonic() >= deadline:
                results.append(PacketResult(key=task.key, unknown="there was no time for it"))
                continue
            try:
                probe.forget()
                drawn = tuple(probe.draw(task.microflow))
                results.append(PacketResult(key=task.key, draws=drawn))
            except (RefusedError, UnixctlError) as error:
                probe.close()
                why = f"the switch of {node} did not take it: {error}"
                results.append(PacketResult(key=task.key, unknown=why))
    return results


@dataclass(slots=True)
class PacketProbe:
    """Sends packets into one switch, and sees what leaves it. Use as a context.

    UnixctlError or RefusedError when the switch does not take one.
    """

    switch: Switch
    timeout_s: float = 30.0
    _connection: Unixctl | None = None
    _marks: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """A number in each packet, by which it is known again whatever was translated."""

    def forget(self) -> None:
        """Forget every connection that earlier packets made."""
        self._transact("dpctl/flush-conntrack")

    def draw(self, microflow: Microflow) -> Iterator[Draw]:
        """Send a request, from further source ports where a load balancer takes it."""
        chosen: set[str] = set()
        for count in range(MOST_DRAWS):
            sent = replace(microflow, src_port=microflow.src_port + count)
            left = self.send(sent)
            backend = self._backend(sent)
            if backend and not left and not count:
                # It may have taught the switch, which must not go on from its cache.
                self._transact("revalidator/purge")
            answered = _ports(self.reply(left[0])) if len(left) == 1 and left[0].port else None
            yield Draw(src_port=sent.src_port, left=left, backend=backend, answered=answered)
            chosen |= {backend} - {""}
            if count + 1 >= DRAWS_PER_BACKEND * len(chosen):
                return

    def reply(self, departure: Departure) -> tuple[Departure, ...]:
        """Answer a packet as the one it came to would, and return what leaves."""
        came = departure.packet
        answer = replace(
            came,
            inport=departure.port,
            eth_src=came.eth_dst,
            eth_dst=came.eth_src,
            ip_src=came.ip_dst,
            ip_dst=came.ip_src,
            src_port=came.dst_port,
            dst_port=came.src_port,
            ttl=64,
        )
        return self.send(answer, reply=True)

    def send(self, microflow: Microflow, *, reply: bool = False) -> tuple[Departure, ...]:
        """Send one packet from `microflow.inport`; return where it left, and as what.

        One at a time: of several at once, the switch drops some that it passes alone.
        """
        places = self._places()
        read = {path: _size(path) for path in places}
        mark = next(self._marks)
        interface = _interface(microflow.inport, self.switch)
        packet = frames.packet(microflow, mark, reply=reply)
        self._transact("netdev-dummy/receive", interface, packet.hex())
        for _ in range(_COMMANDS_IN_A_TURN + 1):
            self._transact("version")
        return tuple(
            Departure(port=port, packet=captured.packet)
            for path, port in places.items()
            if _size(path) > read[path]
            for captured in frames.captured(path, read[path])
            if captured.mark == mark
        )

    def _places(self) -> dict[Path, str]:
        """Return the captures, and the logical port of each that is one's own."""
        of_ports = {path: port for port, path in self.switch.captures.items()}
        return {wire.capture: "" for wire in self.switch.wires.values()} | of_ports

    def _backend(self, microflow: Microflow) -> str:
        """Return what a load balancer made of a packet's destination."""
        sent = (microflow.ip_src, microflow.ip_dst)
        ports = (str(microflow.src_port), str(microflow.dst_port))
        for tracked in _TRACKED.finditer(self._transact("dpctl/dump-conntrack")):
            src, dst, sport, dport, backend, _, number, _ = tracked.groups()
            original = (src, dst) == sent and (sport, dport) == ports
            if original and (backend, number) != (dst, dport):
                return with_port(backend, number)
        return ""

    def _transact(self, method: str, *arguments: str) -> str:
        if self._connection is None:
            self._connection = Unixctl(self.switch.vswitchd, timeout_s=self.timeout_s)
        return self._connection.transact(method, *arguments)

    def close(self) -> None:
        """Close the connection; the next packet opens one again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ports(left: Iterable[Departure]) -> frozenset[str]:
    return frozenset(departure.port for departure in left if departure.port)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
