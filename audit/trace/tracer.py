"""Batch → outcomes, one per task, whatever happens: the worker's whole job.

A tracer has a zone's database open as long as it traces there, and longer where there is room for
several, each with a daemon per conntrack state and ECMP choice; where that is, its transport knows.
It is made of picklable parts, so that it can be shipped to where it runs.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from audit import scratch
from audit.errors import EngineError
from audit.model.packets import ConntrackState
from audit.model.traces import (
    HopEnd,
    LogicalTrace,
    TraceBatch,
    TraceFailure,
    TraceOutcome,
    TraceTask,
)
from audit.model.verdicts import Reason
from audit.trace import microflow, tree, walk
from audit.trace.daemon import (
    STATES_AT_START,
    Division,
    EngineLostError,
    EngineTimeoutError,
    Launch,
    Part,
    TraceDaemon,
    Transport,
    Unparsed,
)
from audit.trace.unixctl import RefusedError

KEPT_OUTPUT = 256 << 10
"""Characters of a trace that are kept: beyond, a flood repeats itself."""
PARTS = 3
"""Parts of a database that a trace runs in before it runs in the whole."""
LITTLE_MORE = 1.5
"""How many times as many flows a part may have as a batch needs, if it has them for others."""
_SHOWN = 200
"""Characters of the engine's complaint that make a failure's message."""


@dataclass(slots=True)
class _OpenZone:
    """A zone's database that is open, or a part of it, and its daemons by state and choice."""

    launch: Launch
    opened: ExitStack
    printed: Callable[[str], str]
    """What a daemon says → what one of the zone's whole database does."""
    daemons: dict[tuple[ConntrackState, int], TraceDaemon] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    """All that was printed for the trace at hand."""

    @classmethod
    def of(
        cls,
        making_ready: AbstractContextManager[Launch],
        printed: Callable[[str], str] = lambda output: output,
    ) -> "_OpenZone":
        """Open a database."""
        with ExitStack() as opening:
            launch = opening.enter_context(making_ready)
            return cls(launch, opening.pop_all(), printed)

    def close(self) -> None:
        """Stop the daemons, then close the database."""
        with self.opened:
            for daemon in self.daemons.values():
                self.opened.callback(daemon.stop)
            self.daemons.clear()


class _OpenPart(NamedTuple):
    """A part of a zone's database that is open, and what it was made for."""

    name: str
    kept: frozenset[str]
    part: Part
    zone: _OpenZone


@dataclass(slots=True, kw_only=True)
class LogicalTracer:
    """Traces batches through the logical network. Use as a context, or `close()` it.

    At most `daemons` of a zone run at a time: where they are another's guests, few. At most `zones`
    are open at a time, and a part of one, so that memory stays bounded.
    """

    transport: Transport
    daemons: int = 64
    zones: int = 1
    timeout_s: float = 30.0
    states_at_start: int = STATES_AT_START
    _open: dict[str, _OpenZone] = field(default_factory=dict)
    """By name, the one used last at the end."""
    _part: _OpenPart | None = None

    def run(self, batch: TraceBatch) -> Generator[TraceOutcome, None, None]:
        """Yield one outcome per task, whenever it is known. Nothing a trace does raises.

        OutputError where the disk is full: that is the run's trouble, and no trace's.
        """
        if not self.transport.has(batch.zone):
            message = f"there is no database of zone {batch.zone}"
            yield from (_failure(task, Reason.ZONE_MISSING, message) for task in batch.tasks)
            return
        waiting = deque(batch.tasks)
        division = self.transport.division(batch.zone)
        if division is not None:
            yield from self._in_parts(batch.zone, division, waiting)
        while waiting:
            try:
                yield self._served(batch.zone, waiting[0])
            except (EngineError, OSError) as error:
                scratch.require_room(error)
                # No engine, twice in a row: the rest of the batch would wait for it in vain.
                self.close()
                yield from (_failure(t, Reason.ENGINE_LOST, str(error)) for t in waiting)
                return
            waiting.popleft()

    def _in_parts(
        self, zone: str, division: Division, waiting: deque[TraceTask]
    ) -> Iterator[TraceOutcome]:
        """Trace tasks in parts of their zone's database; those that need all of it stay waiting.

        What a trace needs besides is known when it has run: then it runs once more, in another.
        """
        needed: set[str] = set()
        whole: list[TraceTask] = []
        try:
            for _ in range(PARTS):
                opened = self._part_of(zone, division, division.kept(waiting, needed))
                for _ in range(len(waiting)):
                    outcome = self._trace(opened.zone, waiting[0])
                    task = waiting.popleft()
                    missed = [opened.part.missing(output) for output in opened.zone.outputs]
                    if not isinstance(outcome, LogicalTrace) or None in missed:
                        whole.append(task)
                    elif any(missed):
                        needed.update(*filter(None, missed))
                        waiting.append(task)
                    else:
                        yield outcome
                if not waiting:
                    return
        except (EngineError, OSError) as error:
            self._close_part()
            scratch.require_room(error)  # else all of the database will tell
        finally:
            waiting.extend(whole)

    def _part_of(self, zone: str, division: Division, kept: frozenset[str]) -> _OpenPart:
        """Return a part of a zone's database that has what is to be kept.

        That is the open one, if it has all of it. Else one is opened, with what the open one has
        where that is little besides: then a few parts do where many batches have the same ports and
        addresses.
        """
        last = self._part if self._part is not None and self._part.name == zone else None
        if last is not None and kept <= last.kept:
            return last
        part = division.part(kept)
        if last is not None:
            both = division.part(kept | last.kept)
            if both.size <= LITTLE_MORE * part.size:
                kept, part = kept | last.kept, both
        self._close_part()
        opened = _OpenZone.of(self.transport.open(zone, part.copy), part.as_in_whole)
        self._part = _OpenPart(zone, kept, part, opened)
        return self._part

    def _close_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.zone.close()

    def _served(self, zone: str, task: TraceTask) -> TraceOutcome:
        """Trace one task; when no engine starts, do it once more on a fresh database server."""
        try:
            return self._trace(self._turn_to(zone), task)
        except (EngineError, OSError):
            self.close()
        return self._trace(self._turn_to(zone), task)

    def _turn_to(self, zone: str) -> _OpenZone:
        """Open `zone` unless it is; where there are too many, close what was not used longest."""
        if zone in self._open:
            self._open[zone] = self._open.pop(zone)
            return self._open[zone]
        while len(self._open) >= self.zones:
            self._open.pop(next(iter(self._open))).close()
        self._require(zone)
        self._open[zone] = _OpenZone.of(self.transport.open(zone))
        return self._open[zone]

    def _trace(self, zone: _OpenZone, task: TraceTask) -> TraceOutcome:
        """Run one task and read what the packet did."""
        try:
            expression = microflow.expression(task.microflow)
            daemon = self._daemon(zone, task)
            if daemon.unparsed.flows:
                message = f"{daemon.unparsed.flows} logical flows are beyond this ovn-trace"
                return _failure(task, Reason.ENGINE_REFUSED, message)
            zone.outputs = [zone.printed(daemon.trace(expression))]
            outcome = self._read(task, zone.outputs[-1])
            for _ in range(task.draws - 1):
                if isinstance(outcome, LogicalTrace) and _arrived(outcome, task):
                    break
                zone.outputs.append(zone.printed(daemon.trace(expression)))
                outcome = self._read(task, zone.outputs[-1])
        except EngineLostError as error:
            return _failure(task, Reason.ENGINE_LOST, str(error))
        except EngineTimeoutError as error:
            return _failure(task, Reason.ENGINE_TIMEOUT, str(error))
        except (RefusedError, microflow.UnnameableError) as error:
            return _failure(task, Reason.ENGINE_REFUSED, str(error))
        return outcome

    def _read(self, task: TraceTask, output: str) -> TraceOutcome:
        """Parse a trace. `ovn-trace` reports a bad microflow as output, with no logical flow."""
        kept = output if len(output) <= KEPT_OUTPUT else f"{output[:KEPT_OUTPUT]}\n*** cut ***\n"
        try:
            block = tree.parse(output)
        except tree.TraceSyntaxError as error:
            refused = ", priority " not in output
            reason = Reason.ENGINE_REFUSED if refused else Reason.UNPARSABLE
            message = output.strip()[:_SHOWN] if refused else str(error)
            return _failure(task, reason, message or "no answer", kept)
        hop = walk.read(block, target=task.target, select=task.select, draws=task.draws)
        return LogicalTrace(key=task.key, hop=hop, output=kept)

    def _daemon(self, zone: _OpenZone, task: TraceTask) -> TraceDaemon:
        """Return the daemon for a task's state and choice."""
        daemons = zone.daemons
        key = (task.state, task.select)
        reply = (ConntrackState.REPLY, task.select)
        if key not in daemons and reply in daemons and daemons[reply].turn():
            daemons[key] = daemons.pop(reply)
        if key not in daemons:
            while len(daemons) >= self.daemons:
                daemons.pop(next(iter(daemons))).stop()
            daemon = TraceDaemon(
                zone.launch,
                state=task.state,
                select=task.select,
                timeout_s=self.timeout_s,
                states_at_start=self.states_at_start,
                turns=key == reply and (ConntrackState.REQUEST, task.select) not in daemons,
            )
            daemon.start()
            daemons[key] = daemon
        return daemons[key]

    def unparsed(self, zone: str) -> Unparsed:
        """Return what the engine cannot read of a zone's logical flows; EngineError if nothing."""
        self._require(zone)
        return self.transport.unparsed(zone)

    def _require(self, zone: str) -> None:
        if not self.transport.has(zone):
            raise EngineError(f"there is no database of zone {zone}")

    def close(self) -> None:
        """Stop the daemons and close the zones; the next batch starts them again."""
        with ExitStack() as closing:
            closing.callback(self._close_part)
            while self._open:
                closing.callback(self._open.popitem()[1].close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _failure(task: TraceTask, reason: Reason, message: str, output: str = "") -> TraceFailure:
    return TraceFailure(key=task.key, reason=reason, message=message, output=output)


def _arrived(outcome: LogicalTrace, task: TraceTask) -> bool:
    """Say whether a packet got to its target's own pipeline, whatever became of it there."""
    hop = outcome.hop
    return hop.outport == task.target or (hop.end is HopEnd.OUTPUT and hop.port == task.target)
