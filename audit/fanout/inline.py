"""Batches in this process, on a thread per worker: what laptops, tests and small runs use.

Tracing is mostly waiting for `ovn-trace`, a process of its own, so a second thread keeps a second
CPU busy without the seconds Ray takes to start.
"""

import math
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Self

from audit.fanout.backlog import Backlog
from audit.fanout.base import Finished, MakeWorker, Worker, finished
from audit.model.traces import TraceBatch, TraceOutcome


@dataclass(slots=True)
class _Member:
    """A worker and the zone it has open."""

    worker: Worker
    zone: str = ""


@dataclass(slots=True)
class InlineFanout:
    """Runs batches on `workers` threads, whose workers it keeps between calls. Use as a context.

    From `until` on, by the monotonic clock, no trace is begun any more. `alone`: a zone has one
    worker at a time.
    """

    make_worker: MakeWorker
    workers: int = 1
    until: float = math.inf
    alone: bool = False
    retraced: int = 0
    """None ever: a worker is a thread of this process."""
    _idle: list[_Member] = field(default_factory=list)
    _made: int = 0
    _open: ExitStack = field(default_factory=ExitStack)
    _leaving: threading.Event = field(default_factory=threading.Event)

    def run(self, backlog: Backlog) -> Iterator[Finished]:
        """Yield every batch with its outcomes, as they finish.

        Whoever interrupts, or has no more time, waits for no more than the trace at hand, and gets
        what was traced of the batches at hand.
        """
        running: dict[Future[Finished], tuple[_Member, TraceBatch]] = {}
        self._leaving.clear()
        with ThreadPoolExecutor(self.workers) as threads:
            try:
                self._fill(threads, backlog, running)
                while running:
                    for future in self._ended(running):
                        member, _ = running.pop(future)
                        self._idle.append(member)
                        traced = future.result()
                        self._fill(threads, backlog, running)
                        yield traced
                    self._fill(threads, backlog, running)
            except KeyboardInterrupt:
                self._leaving.set()
                for future in running:
                    yield future.result()
                raise
            finally:
                self._leaving.set()

    def _ended(self, running: Collection[Future[Finished]]) -> Collection[Future[Finished]]:
        """Wait for a batch, or when the time is up for each as far as it has come."""
        left = None if math.isinf(self.until) else max(self.until - time.monotonic(), 0)
        ended, _ = wait(running, timeout=left, return_when=FIRST_COMPLETED)
        if not ended:
            self._leaving.set()
            ended, _ = wait(running)
        return ended

    def _trace(self, worker: Worker, batch: TraceBatch) -> Finished:
        """Run a batch, which can be left after each trace."""
        outcomes: list[TraceOutcome] = []
        with closing(worker.run(batch)) as traces:
            while not self._leaving.is_set():  # else nobody will ask for more
                outcome = next(traces, None)
                if outcome is None:
                    break
                outcomes.append(outcome)
        return finished(batch, outcomes)

    def _fill(
        self,
        threads: ThreadPoolExecutor,
        backlog: Backlog,
        running: dict[Future[Finished], tuple[_Member, TraceBatch]],
    ) -> None:
        """Give each worker that has nothing to do a batch, while there are any."""
        while len(running) < self.workers and time.monotonic() < self.until:
            zone = self._idle[0].zone if self._idle else ""
            busy = {member.zone for member, _ in running.values()}
            batch = backlog.take(zone, busy, alone=self.alone)
            if batch is None:
                return
            member = self._member(batch.zone)
            member.zone = batch.zone
            running[threads.submit(self._trace, member.worker, batch)] = (member, batch)

    def _member(self, zone: str) -> _Member:
        """Return an idle worker, of those one that has the zone open if any has; else a new one."""
        idle = sorted(self._idle, key=lambda member: member.zone != zone)
        if idle and (idle[0].zone == zone or self._made == self.workers):
            self._idle.remove(idle[0])
            return idle[0]
        self._made += 1
        return _Member(self._open.enter_context(self.make_worker()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
