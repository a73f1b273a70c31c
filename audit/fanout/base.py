"""The seam between what is to be traced and where it runs."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from audit.fanout.backlog import Backlog
from audit.model.traces import TraceBatch, TraceOutcome

Traces = Generator[TraceOutcome, None, None]
"""Outcomes as they are known; who closes it asks for no more."""


class Worker(Protocol):
    """Runs batches one after another, and never raises."""

    def run(self, batch: TraceBatch) -> Traces:
        """Trace a batch: yield one outcome per task as it is known, in whatever order."""
        ...


MakeWorker = Callable[[], AbstractContextManager[Worker]]
"""Makes a worker where it is to run. Picklable, as it may be another machine."""

Finished = tuple[TraceBatch, tuple[TraceOutcome, ...]]
"""A batch with its outcomes, one per task, in order."""


def finished(batch: TraceBatch, outcomes: Iterable[TraceOutcome]) -> Finished:
    """Return what was traced of a batch."""
    by_key = {outcome.key: outcome for outcome in outcomes}
    tasks = tuple(task for task in batch.tasks if task.key in by_key)
    return replace(batch, tasks=tasks), tuple(by_key[task.key] for task in tasks)


class Fanout(Protocol):
    """Works off a backlog somewhere and yields batches with their outcomes, as they finish."""

    retraced: int
    """Batches so far that were traced again, as the worker that had them first died."""

    def run(self, backlog: Backlog) -> Iterator[Finished]:
        """Yield every batch exactly once. A batch whose worker died comes back as failures.

        Whoever iterates may add to the backlog meanwhile; it ends when nothing is left, or when
        the time is up: what was not traced by then does not come back.
        """
        ...
