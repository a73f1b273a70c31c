"""Batch → outcomes, one per task, whatever happens: the worker's whole job.

A tracer serves each zone's database as long as it traces there, with a daemon per conntrack
state and ECMP choice. It is made of picklable parts, so that it can be shipped to where it runs.
"""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from audit.errors import EngineError
from audit.model.engine import Programs
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
    EngineLostError,
    EngineTimeoutError,
    TraceDaemon,
    Unparsed,
)
from audit.trace.unixctl import RefusedError

Serve = Callable[[Path, Path], AbstractContextManager[Path]]
"""(database, run directory) → the socket it is served on, while the context lasts."""

KEPT_OUTPUT = 256 << 10
"""Characters of a trace that are kept: beyond, a flood repeats itself."""
_SHOWN = 200
"""Characters of the engine's complaint that make a failure's message."""


@dataclass(slots=True, kw_only=True)
class LogicalTracer:
    """Traces batches through the logical network. Use as a context, or `close()` it.

    `databases` maps zones to staged southbound databases.
    """

    programs: Programs
    serve: Serve
    databases: Mapping[str, Path]
    timeout_s: float = 30.0
    states_at_start: int = STATES_AT_START
    _zone: str = ""
    _socket: Path | None = None
    _serving: ExitStack = field(default_factory=ExitStack)
    _daemons: dict[tuple[ConntrackState, int], TraceDaemon] = field(default_factory=dict)

    def run(self, batch: TraceBatch) -> tuple[TraceOutcome, ...]:
        """Return one outcome per task, in order. Nothing a trace does raises."""
        if batch.zone not in self.databases:
            message = f"there is no database of zone {batch.zone}"
            return tuple(_failure(task, Reason.ZONE_MISSING, message) for task in batch.tasks)
        outcomes: list[TraceOutcome] = []
        for task in batch.tasks:
            try:
                outcomes.append(self._served(batch.zone, task))
            except (EngineError, OSError) as error:
                # No engine, twice in a row: the rest of the batch would wait for it in vain.
                self.close()
                rest = batch.tasks[len(outcomes) :]
                return (*outcomes, *(_failure(t, Reason.ENGINE_LOST, str(error)) for t in rest))
        return tuple(outcomes)

    def _served(self, zone: str, task: TraceTask) -> TraceOutcome:
        """Trace one task; when no engine starts, do it once more on a fresh database server."""
        try:
            self._turn_to(zone)
            return self._trace(task)
        except (EngineError, OSError):
            self.close()
        self._turn_to(zone)
        return self._trace(task)

    def _turn_to(self, zone: str) -> None:
        """Serve `zone`; a tracer serves one zone at a time, so that memory stays bounded."""
        if self._zone == zone and self._socket is not None:
            return
        self.close()
        if zone not in self.databases:
            raise EngineError(f"there is no database of zone {zone}")
        try:
            rundir = Path(self._serving.enter_context(_rundir()))
            self._socket = self._serving.enter_context(self.serve(self.databases[zone], rundir))
        except BaseException:
            self.close()
            raise
        self._zone = zone

    def _trace(self, task: TraceTask) -> TraceOutcome:
        """Run one task and read what the packet did."""
        try:
            expression = microflow.expression(task.microflow)
            daemon = self._daemon(task)
            if daemon.unparsed.flows:
                message = f"{daemon.unparsed.flows} logical flows are beyond this ovn-trace"
                return _failure(task, Reason.ENGINE_REFUSED, message)
            outcome = self._read(task, daemon.trace(expression))
            for _ in range(task.draws - 1):
                if isinstance(outcome, LogicalTrace) and _arrived(outcome, task):
                    break
                outcome = self._read(task, daemon.trace(expression))
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

    def _daemon(self, task: TraceTask) -> TraceDaemon:
        """Return the daemon for a task's state and choice."""
        assert self._socket is not None  # noqa: S101 - run() turned to the zone
        key = (task.state, task.select)
        if key not in self._daemons:
            daemon = TraceDaemon(
                self.programs,
                self._socket,
                state=task.state,
                select=task.select,
                timeout_s=self.timeout_s,
                states_at_start=self.states_at_start,
            )
            daemon.start()
            self._daemons[key] = daemon
        return self._daemons[key]

    def unparsed(self, zone: str) -> Unparsed:
        """Return what the engine cannot read of a zone's logical flows; EngineError if nothing."""
        self._turn_to(zone)
        assert self._socket is not None  # noqa: S101 - _turn_to() serves
        daemon = TraceDaemon(
            self.programs, self._socket, state=ConntrackState.REQUEST, states_at_start=1
        )
        daemon.start()
        daemon.stop()
        return daemon.unparsed

    def close(self) -> None:
        """Stop the daemons and the database server; the next batch starts them again."""
        self._socket = None
        self._zone = ""
        with self._serving:
            for daemon in self._daemons.values():
                self._serving.callback(daemon.stop)
            self._daemons.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _rundir() -> tempfile.TemporaryDirectory[str]:
    """Make a directory for sockets: short, since a Unix socket's path has at most 107 bytes."""
    return tempfile.TemporaryDirectory(prefix="audit-", ignore_cleanup_errors=True)


def _failure(task: TraceTask, reason: Reason, message: str, output: str = "") -> TraceFailure:
    return TraceFailure(key=task.key, reason=reason, message=message, output=output)


def _arrived(outcome: LogicalTrace, task: TraceTask) -> bool:
    """Say whether a packet got to its target's own pipeline, whatever became of it there."""
    hop = outcome.hop
    return hop.outport == task.target or (hop.end is HopEnd.OUTPUT and hop.port == task.target)
