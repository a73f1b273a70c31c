"""What actions do to packets in columns, as utilities/ovn-trace.c of OVN does it to one. Pure.

A list of actions is executed to its end. Where one lets the packet go on in another table and is
the last, the packet itself goes on; where others follow it, as behind `clone`, a copy does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.flows import security
from audit.flows.actions import (
    Action,
    Balance,
    Decrement,
    Forget,
    GetFdb,
    GetMac,
    Hairpin,
    Load,
    LookUp,
    Mirror,
    Move,
    Nested,
    Next,
    Nothing,
    Output,
    PortSecurity,
    Push,
    SaveState,
    Select,
    Track,
    Translate,
    Unknown,
)
from audit.flows.batch import ETHER_TYPES, Queue, Rows, Stop
from audit.flows.fields import CONNTRACK, FIELDS, KEPT, Needs, Slice, Words, has, limbs, read, write
from audit.flows.log import Kind, Log, Numbers
from audit.flows.made import MADE, rejected
from audit.flows.southbound import EGRESS, INGRESS, PIPELINES, Datapath, Group, Port, Southbound

Mask = NDArray[np.bool_]

_TRACKED, _SOURCE_CHANGED, _DESTINATION_CHANGED = 0x20, 0x40, 0x80
"""Bits of `ct_state`."""
_SAVED = 0xFF
_LOOPBACK = 1


@dataclass(slots=True)
class _Flood:
    """Packets that go to all ports of a group, to one after the other, in one branch each.

    As in `ovn-trace`, where what the egress pipeline left in registers for one port is there for
    the next; nodes clear them.
    """

    stop: Stop
    ports: tuple[Port, ...]
    loops: Mask
    """Which packets may go back to where they come from."""


@dataclass(slots=True)
class Execution:
    """A batch on its way: where it writes down what it meets, and what goes on."""

    southbound: Southbound
    log: Log
    queue: Queue
    state: int
    """What conntrack says at every step."""
    branches: Numbers
    """How many branches each packet has."""
    stop: Stop = field(default_factory=lambda: Stop(0, INGRESS, 0, 0))
    """Of the flow whose actions are executed."""
    numbers: Words = field(default_factory=lambda: np.empty((0, 0), np.uint32))
    """What its flows set fields to: by number, word and packet."""
    _floods: list[_Flood] = field(default_factory=list)

    @property
    def datapath(self) -> Datapath:
        """Where the packets are."""
        return self.southbound.datapaths[self.stop.datapath]

    def begin(self, rows: Rows, kind: Kind) -> Rows:
        """Return copies of packets that are branches of their own."""
        branch = self.log.begin(rows.branch, kind)
        np.add.at(self.branches, rows.packet, 1)
        made = Rows(rows.words.copy(), branch, rows.packet)
        if kind is Kind.COPY:
            made.word("flood")[:] = 0
        return made

    def ended(self, rows: Rows) -> None:
        """Let what is flooded, and has met all that it meets as it is, go to the next port."""
        flood = rows.word("flood").copy()
        rows.word("flood")[:] = 0
        for number in np.unique(flood[flood > 0]).tolist():
            some = rows.some(flood == number)
            some.word("flood")[:] = number
            at = some.word("flood.port").copy()
            for port in np.unique(at).tolist():
                self._to_next(self._floods[number - 1], port + 1, some.some(at == port))

    def _to_next(self, flood: _Flood, at: int, rows: Rows) -> None:
        """Let flooded packets come to the egress pipeline for a port, if there is another."""
        while at < len(flood.ports) and len(rows):
            port = flood.ports[at]
            packet = rows.word("flood.packet").astype(np.intp)
            rows.word("outport")[:] = port.key
            rows.word("flood.port")[:] = at
            turned = (rows.word("inport") == port.key) & ~flood.loops[packet]
            self.log.add(rows.branch[turned], Kind.TURNED)
            self.queue.put(flood.stop, rows.some(~turned))
            rows, at = rows.some(turned), at + 1

    def run(self, stop: Stop, steps: Sequence[Action], rows: Rows, numbers: Words) -> None:
        """Execute a flow's actions; `rows` are the execution's own from then on."""
        self.stop, self.numbers = stop, numbers
        self._steps(steps, rows, np.arange(len(rows)))

    def _steps(self, steps: Sequence[Action], rows: Rows, which: NDArray[np.intp]) -> None:
        """Execute actions; `which` says which of the flow's packets these are."""
        stack: list[Words] = []
        for index, step in enumerate(steps):
            last = index == len(steps) - 1
            match step:
                case Load(to=to, slot=slot):
                    _assign(rows, to, self.numbers[slot][:, which])
                case Push(of=of, pop=pop):
                    _stack(stack, rows, of, pop=pop)
                case Hairpin(to=to, reply=reply):
                    rows, which = self._hairpin(rows, which, to, reply=reply)
                case Nested():
                    self._nested(step, self._leaving(rows, last=last), which)
                case Next() if last:
                    self._onward(step, rows)
                    return
                case Next() | Unknown():
                    what = step.text if isinstance(step, Unknown) else "something behind next"
                    self.log.refuse(rows.branch, f"an action is not understood: {what}")
                    return
                case _ if (inside := _INSIDE.get(type(step))) is not None:
                    inside(self, step, rows)
                case _:
                    self._onward(step, self._leaving(rows, last=last))
        if not steps or not isinstance(steps[-1], _LEAVING):
            self.ended(rows)

    def _leaving(self, rows: Rows, *, last: bool) -> Rows:
        """Return what goes on elsewhere: a copy, or the packets where nothing follows."""
        if not last:
            return self.begin(rows, Kind.COPY)
        flooded = rows.word("flood") > 0
        if flooded.any():
            staying = rows.some(flooded)
            rows.branch = rows.branch.copy()
            rows.branch[flooded] = self.begin(staying, Kind.COPY).branch
            rows.word("flood")[:] = 0
            self.ended(staying)
        return rows

    def _onward(self, step: Action, rows: Rows) -> None:
        """Execute an action that lets packets go on elsewhere; `rows` are all its own."""
        match step:
            case Next(table=table, pipeline=pipeline):
                self._go_on(rows, table, PIPELINES[pipeline] if pipeline else None)
            case Output():
                self._output(rows)
            case Track(fresh=fresh, once=once):
                self._track(rows, fresh=fresh, once=once)
                self._go_on(rows)
            case Translate():
                self._translate(step, rows)
            case Balance():
                self._balance(step, rows)
            case Select(to=to, numbers=numbers):
                for number in numbers:
                    some = self.begin(rows, Kind.CHOICE)
                    write(some.words, to, _constant(number, to, len(some)))
                    self._go_on(some)
            case Mirror(port=name):
                self._mirror(name, rows)
            case _:
                self.log.refuse(rows.branch, f"an action is not executed: {step}")

    def _go_on(self, rows: Rows, table: int | None = None, pipeline: int | None = None) -> None:
        here = self.stop
        to = here.pipeline if pipeline is None else pipeline
        at = here.table + 1 if table is None else table
        back = (to, at) <= (here.pipeline, here.table)
        self.queue.put(Stop(here.hop + back, to, at, here.datapath), rows)

    def _track(self, rows: Rows, *, fresh: bool, once: bool) -> None:
        """Let conntrack say what it knows; with `once` of those of which it has not been asked."""
        state = rows.word("ct_state")
        answer = np.uint32(self.state)
        if fresh:
            self._remember(rows)
            state[:] = answer
            return
        due = (state & _TRACKED) == 0 if once else np.ones(len(rows), np.bool_)
        self._remember(rows)
        state |= np.where(due, answer, 0).astype(np.uint32)

    def _remember(self, rows: Rows) -> None:
        """Keep where the packet was sent to, for what comes to its translation."""
        for kind, name in ((ETHER_TYPES[4], "ip4.dst"), (ETHER_TYPES[6], "ip6.dst")):
            here = rows.word("eth.type") == kind
            write(rows.words, KEPT[f"ct.{name}"], read(rows.words, KEPT[name]), here)
        write(rows.words, KEPT["ct.l4.dst"], read(rows.words, KEPT["l4.dst"]))

    def _translate(self, step: Translate, rows: Rows) -> None:
        if not step.to_destination and not step.address and self.datapath.is_gateway:
            return  # ovn-trace stops here: it cannot know what there is to translate back
        before = rows.copy()
        if step.address:
            family = "ip6" if ":" in step.address else "ip4"
            to = FIELDS[f"{family}.{'dst' if step.to_destination else 'src'}"]
            write(rows.words, to, _constant(_number(step.address), to, len(rows)))
            changed = _DESTINATION_CHANGED if step.to_destination else _SOURCE_CHANGED
            rows.word("ct_state")[:] |= np.uint32(changed)
        self._track(rows, fresh=False, once=True)
        self._remembered(rows, before)
        self._go_on(rows)

    def _remembered(self, rows: Rows, before: Rows) -> None:
        """Keep what conntrack's own fields are of a packet as it was before."""
        self._remember(before)
        for name in ("ct.ip4.dst", "ct.ip6.dst", "ct.l4.dst"):
            for word in KEPT[name].words:
                rows.words[word] = before.words[word]

    def _balance(self, step: Balance, rows: Rows) -> None:
        """Let each backend of the packet's family be chosen."""
        for version, kind in ETHER_TYPES.items():
            some = rows.some(rows.word("eth.type") == kind)
            backends = [b for b in step.backends if (":" in b.address) == (version == 6)]  # noqa: PLR2004
            for backend in backends:
                chosen = some if len(backends) == 1 else self.begin(some, Kind.CHOICE)
                before = chosen.copy()
                to = KEPT[f"ip{version}.dst"]
                write(chosen.words, to, _constant(_number(backend.address), to, len(chosen)))
                if backend.port:
                    chosen.word("l4.dst")[:] = backend.port
                chosen.word("ct_state")[:] |= np.uint32(_DESTINATION_CHANGED)
                self._balanced(chosen, before)
            if not backends:
                self._balanced(some, some.copy())
        self._go_on(rows.some(~np.isin(rows.word("eth.type"), list(ETHER_TYPES.values()))))

    def _balanced(self, rows: Rows, before: Rows) -> None:
        rows.word("ct_state")[:] |= np.uint32(self.state)
        self._remembered(rows, before)
        self._go_on(rows)

    def _mirror(self, name: str, rows: Rows) -> None:
        port = self.southbound.ports.get(name)
        if port is None or port.datapath != self.stop.datapath:
            return
        rows.word("inport")[:] = 0
        rows.word("outport")[:] = port.key
        self.queue.put(Stop(self.stop.hop + 1, EGRESS, 0, port.datapath), rows)

    def _nested(self, step: Nested, rows: Rows, which: NDArray[np.intp]) -> None:
        """Execute actions on packets made of these."""
        kinds = {step.kind: np.ones(len(rows), np.bool_)}
        if step.kind == "reject":
            kinds = rejected(rows.words)
        for kind, here in kinds.items():
            made = rows.some(here)
            kept = MADE[kind](made.words, back=step.kind == "reject")
            if len(made):
                self._steps(step.actions, made.some(kept), which[here][kept])

    def _output(self, rows: Rows) -> None:
        """Let packets out of their ports, or into the egress pipeline."""
        keys = rows.word("outport")
        for key in np.unique(keys).tolist():
            some = rows.some(keys == key)
            port, group = self.datapath.ports.get(key), self.datapath.groups.get(key)
            if not key:
                self.log.add(some.branch, Kind.NOWHERE)
            elif self.stop.pipeline == EGRESS:
                self._out(some, port)
            elif group is not None:
                self._flood(some, group)
            elif port is None:
                self.log.refuse(some.branch, f"output to port {key}, which is not there")
            elif port.kind == "chassisredirect" and port.distributed is None:
                self.log.add(some.branch, Kind.NOWHERE)
            else:
                redirected = port.distributed if port.kind == "chassisredirect" else port
                self._egress(some, redirected or port)

    def _out(self, rows: Rows, port: Port | None) -> None:
        """Let packets leave by a port; behind a patch port they come in again."""
        if port is None:
            self.log.refuse(rows.branch, "output to a port that is not there")
            return
        self.log.add(rows.branch, Kind.OUTPUT, port.number)
        if port.peer is not None:
            rows.word("inport")[:] = port.peer.key
            rows.word("outport")[:] = 0
            self.queue.put(Stop(self.stop.hop + 1, INGRESS, 0, port.peer.datapath), rows)

    def _flood(self, rows: Rows, group: Group) -> None:
        loops = (rows.word("flags") & _LOOPBACK) != 0
        stop = Stop(self.stop.hop, EGRESS, 0, self.stop.datapath)
        flood = _Flood(stop, group.ports, loops)
        self._floods.append(flood)
        self._clear(rows)
        rows.word("flood")[:] = len(self._floods)
        rows.word("flood.packet")[:] = np.arange(len(rows))
        self._to_next(flood, 0, rows)

    def _clear(self, rows: Rows) -> None:
        """Clear what does not come to the egress pipeline."""
        for name in ("flags", *(f"reg{number}" for number in range(10))):
            rows.word(name)[:] = 0

    def _egress(self, rows: Rows, port: Port) -> None:
        """Let packets come to the egress pipeline, without registers."""
        loops = (rows.word("flags") & _LOOPBACK) != 0
        turned = (rows.word("inport") == port.key) & ~loops
        self.log.add(rows.branch[turned], Kind.TURNED)
        rows = rows.some(~turned)
        rows.word("outport")[:] = port.key
        self._clear(rows)
        self.queue.put(Stop(self.stop.hop, EGRESS, 0, self.stop.datapath), rows)

    def _hairpin(
        self, rows: Rows, which: NDArray[np.intp], to: Slice, *, reply: bool
    ) -> tuple[Rows, NDArray[np.intp]]:
        """Say of packets whether a load balancer sent them back to where they come from."""
        certain, possible = self._sent_back(rows, reply=reply)
        open_ = possible & ~certain
        self.log.refuse(rows.branch[open_], "a load balancer has the address on several ports")
        write(rows.words, to, certain.astype(np.uint32)[np.newaxis])
        return rows.some(~open_), which[~open_]

    def _sent_back(self, rows: Rows, *, reply: bool) -> tuple[Mask, Mask]:
        """Return of which packets that is certain, and of which it may be.

        `ovn-trace` compares the port with that of the first VIP of the address, whichever that is.
        """
        changed = (rows.word("ct_state") & _DESTINATION_CHANGED) != 0
        certain = np.zeros(len(rows), np.bool_)
        possible = certain.copy()
        for version, kind in ETHER_TYPES.items():
            source, to = (read(rows.words, KEPT[f"ip{version}.{end}"]) for end in ("src", "dst"))
            here = changed & (rows.word("eth.type") == kind) & (source == to).all(axis=0)
            for index in np.flatnonzero(here).tolist():
                sent = read(rows.words[:, index : index + 1], KEPT[f"ct.ip{version}.dst"])
                ports = self.southbound.vips.get(_whole(sent[:, 0], version), ())
                port = int(rows.word("l4.dst" if reply else "ct.l4.dst")[index])
                possible[index] = port in ports
                certain[index] = ports == (port,)
        return certain, possible


def _whole(value: NDArray[np.uint32], version: int) -> int:
    """Return an address in words as a number, IPv4's mapped into IPv6."""
    number = sum(word << 32 * at for at, word in enumerate(value.tolist()))
    return security.mapped(number, version)


def _number(address: str) -> int:
    return security.number(address)


def _constant(number: int, to: Slice, count: int) -> Words:
    words = np.array(limbs(number, to.width), np.uint32)
    return np.broadcast_to(words[:, np.newaxis], (len(words), count))


def _resized(value: Words, to: Slice) -> Words:
    """Return a value in as many words as a field has."""
    count = -(-to.width // 32)
    padded = np.zeros((count, value.shape[1]), np.uint32)
    padded[: len(value)] = value[:count]
    return padded


def _assign(rows: Rows, to: Slice, value: Words) -> None:
    """Set a field of those packets that have it."""
    where = None if to.needs is Needs.NOTHING else has(rows.words, to.needs)
    write(rows.words, to, value, where)


def _stack(stack: list[Words], rows: Rows, of: Slice, *, pop: bool) -> None:
    """Put a field on a stack, or take it from there, if anything is on it."""
    if not pop:
        stack.append(read(rows.words, of))
    elif stack:
        write(rows.words, of, _resized(stack.pop(), of))


def _move(_: Execution, step: Move, rows: Rows) -> None:
    there = has(rows.words, step.to.needs) & has(rows.words, step.source.needs)
    value, other = read(rows.words, step.source), read(rows.words, step.to)
    write(rows.words, step.to, value, there)
    if step.both:
        write(rows.words, step.source, other, there)


def _decrement(_: Execution, __: Decrement, rows: Rows) -> None:
    ttl = rows.word("ip.ttl")
    ttl -= (has(rows.words, Needs.IP) & (ttl > 0)).astype(np.uint32)


def _forget(_: Execution, __: Forget, rows: Rows) -> None:
    rows.words[CONNTRACK] = 0


def _get_mac(execution: Execution, step: GetMac, rows: Rows) -> None:
    mac, _ = security.neighbours(execution.datapath, rows.words, step.port, step.address)
    write(rows.words, KEPT["eth.dst"], mac)


def _look_up(execution: Execution, step: LookUp, rows: Rows) -> None:
    mac, there = security.neighbours(execution.datapath, rows.words, step.port, step.address)
    if step.mac is not None:
        there = there & (read(rows.words, step.mac) == mac).all(axis=0)
    write(rows.words, step.to, there.astype(np.uint32)[np.newaxis])


def _get_fdb(execution: Execution, step: GetFdb, rows: Rows) -> None:
    port = security.learnt(execution.datapath, rows.words, step.mac)
    if step.port is not None:
        due = read(rows.words, step.port)[0]
        port = ((port == due) & (port != 0)).astype(np.uint32)
    write(rows.words, step.to, port[np.newaxis])


def _port_security(execution: Execution, step: PortSecurity, rows: Rows) -> None:
    stopped = security.stops(execution.datapath, rows.words, ingress=step.ingress)
    write(rows.words, step.to, stopped.astype(np.uint32)[np.newaxis])


def _save(_: Execution, step: SaveState, rows: Rows) -> None:
    state = rows.word("ct_state")
    saved = np.where(state & _TRACKED, state & _SAVED, 0).astype(np.uint32)
    write(rows.words, step.to, saved[np.newaxis])


def _nothing(_: Execution, __: Nothing, ___: Rows) -> None:
    """Do nothing."""


_INSIDE: dict[type, Callable[[Execution, Any, Rows], None]] = {
    Move: _move,
    Decrement: _decrement,
    Forget: _forget,
    GetMac: _get_mac,
    LookUp: _look_up,
    GetFdb: _get_fdb,
    PortSecurity: _port_security,
    SaveState: _save,
    Nothing: _nothing,
}
"""Actions that change packets where they are."""

_LEAVING = (Nested, Output, Track, Translate, Balance, Select, Mirror)
"""Actions behind which, where they are the last, nothing more happens to the packet as it was."""
