"""Batches of packets through a zone's logical flows, as `ovn-trace` takes one. Pure.

Packets are columns. What waits at the earliest table is classified together, its actions are
executed for all that do the same at once, and what each packet meets is written to a `Log`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.flows.actions import Action, Forget, Load, LoadPort, Nested
from audit.flows.batch import Packet, Queue, Rows, Stop, columns
from audit.flows.bind import Bound, passes_on
from audit.flows.classify import Table
from audit.flows.execute import Execution
from audit.flows.fields import CONNTRACK, WORD, Words, limbs
from audit.flows.log import Answers, Kind, Log
from audit.flows.southbound import INGRESS, Datapath, Southbound
from audit.model.packets import ConntrackState

MOST_BRANCHES = 500
"""Of a packet; what floods and is answered by floods is refused."""
MOST_HOPS = 100
"""How often a packet may come to an earlier table than before: to a datapath, or to the next tier
of ACLs. A dozen datapaths are half of that; what goes round is refused."""

LONGEST = 128
"""Bits of the widest field."""

_STATES = {ConntrackState.REQUEST: 0x21, ConntrackState.REPLY: 0x2A}
"""What conntrack says at every step: tracked, and new, or established and a reply."""


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """What flows do, but for the numbers that they set fields to."""

    steps: tuple[Action, ...]
    numbers: int
    """How many."""


class _Way(NamedTuple):
    """What becomes of those that meet flows: a program, and its numbers."""

    flows: tuple[int, ...]
    program: _Program
    numbers: tuple[int, ...]
    unread: str


@dataclass(slots=True)
class _Compiled:
    """A table, and the ways of what it is known that packets meet there."""

    table: Table
    passing: int
    """Its only flow, where that goes on to the next table whatever the packet; else -1."""
    ways: dict[int, tuple[_Way, ...]] = field(default_factory=dict)


class Evaluator:
    """Evaluates packets on one zone's southbound, all of one conntrack state."""

    def __init__(self, southbound: Southbound) -> None:
        self.southbound = southbound
        self._tables: dict[tuple[int, int, int], _Compiled | None] = {}
        self._programs: dict[tuple[Action, ...], _Program] = {}
        self.silent: set[int] = set()
        """Numbers of flows that `ovn-trace` does not print where they are met."""

    def run(self, packets: Sequence[Packet], state: ConntrackState) -> Answers:
        """Return what packets meet. KeyError where one enters by a port that is not there."""
        rows = columns(self.southbound, packets)
        log, queue = Log(len(packets)), Queue()
        inports = [self.southbound.ports[packet.inport].datapath for packet in packets]
        for datapath in np.unique(np.array(inports, np.int64)).tolist():
            which = np.flatnonzero(np.array(inports) == datapath)
            queue.put(Stop(0, INGRESS, 0, datapath), rows.some(which))
        branches = np.ones(len(packets), np.int64)
        execution = Execution(self.southbound, log, queue, _STATES[state], branches)
        while (taken := queue.take()) is not None:
            self._visit(execution, *taken)
        return log.answers()

    def _table(self, stop: Stop) -> _Compiled | None:
        key = stop.datapath, stop.pipeline, stop.table
        if key not in self._tables:
            datapath = self.southbound.datapaths[stop.datapath]
            numbers = datapath.flows.get((stop.pipeline, stop.table))
            self._tables[key] = self._compiled(datapath, stop.table, numbers) if numbers else None
        return self._tables[key]

    def _compiled(self, datapath: Datapath, number: int, flows: Sequence[int]) -> _Compiled:
        table = Table(self.southbound, datapath, flows)
        passing = {n for n, bound in table.flows.items() if passes_on(bound, number)}
        self.silent |= passing
        return _Compiled(table, passing.pop() if len(table.flows) == len(passing) == 1 else -1)

    def _visit(self, execution: Execution, stop: Stop, rows: Rows) -> None:
        """Let packets meet a table's flows."""
        log = execution.log
        if stop.hop > MOST_HOPS:
            log.refuse(rows.branch, f"more than {MOST_HOPS} times back")
            return
        many = execution.branches[rows.packet] > MOST_BRANCHES
        if many.any():
            log.refuse(rows.branch[many], f"more than {MOST_BRANCHES} copies")
            rows = rows.some(~many)
        if not len(rows):
            return
        compiled = self._table(stop)
        if compiled is None:
            log.add(rows.branch, Kind.MISSED)
            execution.ended(rows)
            return
        if compiled.passing >= 0:
            log.add(rows.branch, Kind.FLOW, log.flows((compiled.passing,)))
            execution.queue.put(stop._replace(table=stop.table + 1), rows)
            return
        met = compiled.table.met(rows.words)
        missed = met < 0
        if missed.any():
            log.add(rows.branch[missed], Kind.MISSED)
            execution.ended(rows.some(missed))
            rows, met = rows.some(~missed), met[~missed]
        self._apart(execution, stop, compiled, rows, met)

    def _apart(
        self,
        execution: Execution,
        stop: Stop,
        compiled: _Compiled,
        rows: Rows,
        met: NDArray[np.int64],
    ) -> None:
        """Let packets go the ways of what they met, and where there are several all of them."""
        hits, which = np.unique(met, return_inverse=True)
        ways = [self._ways(compiled, hit, stop.datapath) for hit in hits.tolist()]
        plain = np.array([len(of) == 1 for of in ways], np.bool_)[which]
        for index in np.unique(which[~plain]).tolist():
            here = rows.some(which == index)
            untracked = (here.words[CONNTRACK] == 0).all(axis=0)
            for some, of in (
                (here.some(~untracked), ways[index]),
                (here.some(untracked), _alike(ways[index])),
            ):
                for way in of if len(some) else ():
                    chosen = some if len(of) == 1 else execution.begin(some, Kind.CHOICE)
                    self._go(execution, stop, chosen, [way], np.zeros(len(some), np.intp))
        rows = rows if plain.all() else rows.some(plain)
        self._go(execution, stop, rows, [of[0] for of in ways], which[plain])

    def _go(
        self,
        execution: Execution,
        stop: Stop,
        rows: Rows,
        ways: Sequence[_Way],
        which: NDArray[np.intp],
    ) -> None:
        """Let packets go the ways of what they met: all that do the same together."""
        log = execution.log
        met = np.array([log.flows(way.flows) for way in ways], np.int64)
        log.add(rows.branch, Kind.FLOW, met[which])
        programs: dict[_Program | str, int] = {}
        number = [programs.setdefault(way.unread or way.program, len(programs)) for way in ways]
        of = np.array(number, np.int64)[which]
        for program, index in programs.items():
            here = np.flatnonzero(of == index)
            if isinstance(program, str):
                log.refuse(rows.branch[here], f"a match is not understood: {program}")
            elif len(here):
                numbers = _limbs(ways, program)[:, :, which[here]]
                some = rows if len(here) == len(rows) else rows.some(here)
                execution.run(stop, program.steps, some, numbers)

    def _ways(self, compiled: _Compiled, hit: int, datapath: int) -> tuple[_Way, ...]:
        """Return what may become of packets that meet flows of one priority."""
        if hit not in compiled.ways:
            compiled.ways[hit] = tuple(self._made(compiled.table, hit, datapath))
        return compiled.ways[hit]

    def _made(self, table: Table, hit: int, datapath: int) -> Iterator[_Way]:
        alike: dict[tuple[Action, ...], list[Bound]] = {}
        for number in table.hits[hit]:
            bound = table.flows[number]
            alike.setdefault(bound.does.steps, []).append(bound)
        for steps, flows in alike.items():
            numbers: list[int] = []
            fixed = self._without_numbers(steps, self.southbound.datapaths[datapath], numbers)
            program = self._programs.setdefault(fixed, _Program(fixed, len(numbers)))
            unread = next((bound.unread for bound in flows if bound.unread), "")
            met = tuple(bound.number for bound in flows)
            yield _Way(met, program, tuple(numbers), unread)

    def _without_numbers(
        self, steps: tuple[Action, ...], datapath: Datapath, numbers: list[int]
    ) -> tuple[Action, ...]:
        """Return actions whose fields are set to numbers by their place among these."""
        made: list[Action] = []
        for step in steps:
            match step:
                case Load(to=to, value=value):
                    made.append(Load(to, 0, len(numbers)))
                    numbers.append(value)
                case LoadPort(to=to, name=name):
                    made.append(Load(to, 0, len(numbers)))
                    numbers.append(datapath.port_key(self.southbound.ports, name) or 0)
                case Nested(kind=kind, actions=actions):
                    made.append(Nested(kind, self._without_numbers(actions, datapath, numbers)))
                case _:
                    made.append(step)
        return tuple(made)


def _alike(ways: Sequence[_Way]) -> list[_Way]:
    """Join ways that are the same for what conntrack has not seen: there is nothing to forget."""
    joined: dict[tuple[object, ...], _Way] = {}
    for way in ways:
        steps = tuple(step for step in way.program.steps if not isinstance(step, Forget))
        key = steps, way.numbers
        before = joined.get(key)
        joined[key] = (
            way
            if before is None
            else before._replace(
                flows=(*before.flows, *way.flows), unread=before.unread or way.unread
            )
        )
    return list(joined.values())


def _limbs(ways: Sequence[_Way], program: _Program) -> Words:
    """Return what flows that do the same set fields to: by number, word and way."""
    count = program.numbers
    made = [
        [limbs(value, LONGEST) for value in way.numbers]
        if way.program is program
        else [[0] * (LONGEST // WORD)] * count
        for way in ways
    ]
    shape = len(ways), count, LONGEST // WORD
    return np.array(made, np.uint32).reshape(shape).transpose(1, 2, 0)
