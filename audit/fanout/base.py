"""The seam between what is to be traced and where it runs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from audit.fanout.backlog import Backlog
from audit.model.traces import TraceBatch, TraceOutcome


class Worker(Protocol):
    """Runs batches one after another; one outcome per task, in order, and it never raises."""

    def run(self, batch: TraceBatch) -> tuple[TraceOutcome, ...]:
        """Trace a batch."""
        ...


MakeWorker = Callable[[], AbstractContextManager[Worker]]
"""Makes a worker where it is to run. Picklable, as it may be another machine."""

Finished = tuple[TraceBatch, tuple[TraceOutcome, ...]]


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
