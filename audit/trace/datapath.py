"""Batch → outcomes, through running Open vSwitches: one `ofproto/trace` per task.

The switches are asked by unixctl, which is where both time and text go: a trace costs the switch
about a millisecond, and is 20 kB. How one gets there is its reach's business: to sockets here, or
into the nodes' pods (`audit.trace.pods`).
"""

import subprocess
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol, Self

from audit.errors import EngineError
from audit.model.blindness import Spot
from audit.model.datapath import Pipelines, Switch
from audit.model.engine import Programs
from audit.model.facts import Zone
from audit.model.packets import ConntrackState, Microflow
from audit.model.traces import (
    DatapathTask,
    DatapathTrace,
    Hop,
    HopEnd,
    TraceBatch,
    TraceFailure,
    TraceOutcome,
    TraceTask,
    Tunnel,
)
from audit.model.verdicts import Reason
from audit.trace import ofproto, ofproto_tree, ofproto_walk
from audit.trace.odp_actions import Encapsulated
from audit.trace.unixctl import RefusedError, Unixctl, UnixctlError, UnixctlTimeoutError

KEPT_OUTPUT = 256 << 10
_ATTEMPTS = 2
"""How often a packet is traced whose connection breaks."""
_MOST_DRAWS = 64
"""Hashes tried until a group draws the bucket that is asked for."""


class Connected(NamedTuple):
    """A connection to a switch, and how it is left."""

    connection: Unixctl
    end: Callable[[], None]


class Reach(Protocol):
    """How the switches of nodes are asked."""

    def connect(self, node: str, timeout_s: float) -> Connected:
        """Connect to a node's; EngineError or UnixctlError when that cannot be."""
        ...

    def groups(self, node: str, timeout_s: float) -> ofproto_walk.Groups:
        """Return the group table of a node's; EngineError when it cannot be had."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Switches whose sockets are here."""

    programs: Programs
    switches: Mapping[str, Switch]

    def connect(self, node: str, timeout_s: float) -> Connected:
        """Connect to a socket; UnixctlError when nobody listens."""
        connection = Unixctl(self.switches[node].vswitchd, timeout_s=timeout_s)
        return Connected(connection, connection.close)

    def groups(self, node: str, timeout_s: float) -> ofproto_walk.Groups:
        """Ask with `ovs-ofctl`; EngineError when it does not answer."""
        socket = self.switches[node].vswitchd.with_name(f"{ofproto.BRIDGE}.mgmt")
        argv = self.programs.argv(*ofproto.dump_groups(f"unix:{socket}"))
        try:
            done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
                argv, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"{socket}: {error}") from error
        if done.returncode:
            raise EngineError(f"{socket}: {done.stderr.strip()}")
        return ofproto.groups(done.stdout)


@dataclass(slots=True, kw_only=True)
class DatapathTracer:
    """Traces batches through nodes' Open vSwitches. Use as a context, or `close()` it.

    `switches` maps nodes to theirs, `zones` and `pipelines` zones to what is known of them;
    `missing` says of nodes why theirs is not there, `why` of all others. One node's is connected
    to at a time.
    """

    reach: Reach
    switches: Mapping[str, Switch]
    zones: Mapping[str, Zone]
    pipelines: Mapping[str, Pipelines]
    timeout_s: float = 30.0
    why: str = ""
    missing: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    _node: str = ""
    _opened: Connected | None = None
    _symbols: dict[str, ofproto_walk.Symbols] = field(default_factory=dict)
    _groups: dict[str, ofproto_walk.Groups] = field(default_factory=dict)

    def run(self, batch: TraceBatch) -> Generator[TraceOutcome, None, None]:
        """Yield one outcome per task. Nothing a trace does raises."""
        yield from map(self._run, batch.tasks)

    def _run(self, task: TraceTask) -> TraceOutcome:
        if not isinstance(task, DatapathTask) or task.node not in self.switches:
            node = task.node if isinstance(task, DatapathTask) else "no node"
            why = self.missing.get(node, self.why)
            text = f"no Open vSwitch of {node} is at hand{f': {why}' if why else ''}"
            return _failure(task, Reason.NODE_MISSING, text)
        try:
            return self._traced(task)
        except UnixctlTimeoutError as error:
            self.close()
            return _failure(task, Reason.ENGINE_TIMEOUT, str(error))
        except (UnixctlError, EngineError) as error:
            self.close()
            return _failure(task, Reason.ENGINE_LOST, str(error))
        except RefusedError as error:
            return _failure(task, Reason.ENGINE_REFUSED, str(error))
        except ofproto_tree.OfprotoSyntaxError as error:
            return _failure(task, Reason.UNPARSABLE, str(error))

    def _traced(self, task: DatapathTask) -> TraceOutcome:
        """Trace a packet, again where the connection broke."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._trace(task)
            except UnixctlTimeoutError:
                raise
            except UnixctlError:
                self.close()
        return self._trace(task)

    def _trace(self, task: DatapathTask) -> TraceOutcome:
        """Trace a packet, if there is an interface it can enter by."""
        in_port = entrance(task, self.switches[task.node])
        if in_port is None:
            by = f"tunnel from {task.tunnel.local}" if task.tunnel else task.microflow.inport
            text = f"node {task.node} has no interface for {by}"
            hop = Hop(end=HopEnd.UNBOUND, text=text)
            return DatapathTrace(key=task.key, hop=hop, output=text)
        flow = ofproto.flow(task.microflow, in_port, tunnel=task.tunnel)
        if not task.draws and not task.select:
            return self._ask(task, flow)[0]
        outcome, chosen = self._ask(task, flow)
        for hash_ in range(1, _MOST_DRAWS + 1):
            # A group draws by this hash; without one the trace ends at the group.
            outcome, chosen = self._ask(task, f"dp_hash={hash_:#x}, {flow}")
            arrived = task.target in (outcome.hop.outport, outcome.hop.port)
            if chosen == task.select if task.select else arrived:
                return outcome
        if task.draws:
            return outcome  # the judge sees that it was not drawn
        text = f"no hash of {_MOST_DRAWS} makes the group draw member {task.select}"
        return _failure(task, Reason.ENGINE_REFUSED, text)

    def _ask(self, task: DatapathTask, flow: str) -> tuple[DatapathTrace, int]:
        """Return a trace, and the member of an ECMP choice that it took.

        Where the packet meets a flow that looks at its connection, that is told as well: what
        conntrack will have of it. Before it is in conntrack that must have made no difference.
        """
        output, sections = self._output(task, flow)
        walked = self._walked(task, sections)
        if task.state is ConntrackState.REQUEST and _looks_at_connection(walked.hop):
            with_it = f"{flow}, {ofproto.connection(task.microflow)}"
            again, sections_with_it = self._output(task, with_it)
            if sections_with_it[0].steps == sections[0].steps:
                flow, output, walked = with_it, again, self._walked(task, sections_with_it)
        kept = output if len(output) <= KEPT_OUTPUT else f"{output[:KEPT_OUTPUT]}\n*** cut ***\n"
        outcome = DatapathTrace(
            key=task.key,
            hop=walked.hop,
            output=kept,
            flow=flow,
            tunnel=_tunnel(walked.left, self.switches[task.node]),
            packet=_packet(walked.left, task.microflow),
        )
        return outcome, walked.chosen

    def _output(
        self, task: DatapathTask, flow: str
    ) -> tuple[str, tuple[ofproto_tree.Section, ...]]:
        output = self._connection(task.node).transact(
            "ofproto/trace", *ofproto.arguments(flow, task.state)
        )
        return output, ofproto_tree.parse(output)

    def _walked(
        self, task: DatapathTask, sections: tuple[ofproto_tree.Section, ...]
    ) -> ofproto_walk.Walked:
        return ofproto_walk.read(
            sections,
            self._symbols_of(task),
            target=task.target,
            groups=self._group_table(task.node),
        )

    def _connection(self, node: str) -> Unixctl:
        if self._opened is None or self._node != node:
            self.close()
            self._opened, self._node = self.reach.connect(node, self.timeout_s), node
        return self._opened.connection

    def _symbols_of(self, task: DatapathTask) -> ofproto_walk.Symbols:
        if task.node not in self._symbols:
            self._symbols[task.node] = ofproto_walk.Symbols.of(
                self.switches[task.node], self.zones[task.zone], self.pipelines[task.zone]
            )
        return self._symbols[task.node]

    def _group_table(self, node: str) -> ofproto_walk.Groups:
        if node not in self._groups:
            self._groups[node] = self.reach.groups(node, self.timeout_s)
        return self._groups[node]

    def close(self) -> None:
        """Close the connection; the next trace opens one again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def entrance(task: DatapathTask, switch: Switch) -> str | None:
    """Return the interface by which a task's packet enters `switch`; None when it has none."""
    if task.tunnel is not None:
        remote = task.tunnel.local
        chassis = next((name for name, ip in switch.encaps.items() if ip == remote), None)
        return switch.tunnels[chassis].name if chassis is not None else None
    port = switch.vifs.get(task.microflow.inport) or switch.localnets.get(task.microflow.inport)
    return port.name if port is not None else None


def _looks_at_connection(hop: Hop) -> bool:
    return any(unseen.spot == Spot.CONNECTION for unseen in hop.unseen)


def _tunnel(left: Encapsulated | None, switch: Switch) -> Tunnel | None:
    if left is None:
        return None
    return Tunnel(
        local=switch.chassis.address, remote=left.remote, key=left.key, metadata=left.metadata
    )


def _packet(left: Encapsulated | None, sent: Microflow) -> Microflow | None:
    """Return a packet as it left, by what it was sent as."""
    if left is None:
        return None
    fields = left.fields
    six = "ipv6_src" in fields
    return replace(
        sent,
        inport="",
        eth_src=fields["dl_src"],
        eth_dst=fields["dl_dst"],
        ip_src=fields["ipv6_src" if six else "nw_src"],
        ip_dst=fields["ipv6_dst" if six else "nw_dst"],
        src_port=int(fields.get("tp_src", sent.src_port)),
        dst_port=int(fields.get("tp_dst", sent.dst_port)),
        ttl=int(fields["nw_ttl"]),
    )


def _failure(task: TraceTask, reason: Reason, message: str) -> TraceFailure:
    return TraceFailure(key=task.key, reason=reason, message=message)
