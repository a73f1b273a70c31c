"""The loop of all tracing: tasks → outcomes → judgements → next hops, until none is left.

A run and `audit trace` share it. What is kept of a trace besides its judgement differs between
them: that is their `Keeper`'s.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from audit.fanout.backlog import Backlog
from audit.fanout.base import Fanout
from audit.model.traces import TraceOutcome, TraceTask
from audit.tracing.options import Progress
from audit.verdict.judge import Judgement


class Keeper(Protocol):
    """Remembers traces, for whoever asked for them."""

    def recall(self, task: TraceTask) -> TraceOutcome | None:
        """Return the outcome of a trace that ran earlier; None when it is to be run."""
        ...

    def keep(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> None:
        """Keep what came of a trace that ran, or that was recalled."""
        ...


@dataclass(slots=True, kw_only=True)
class TraceLoop:
    """Follows traces to their ends; each is run once, whatever leads to it."""

    judge: Callable[[TraceTask, TraceOutcome], Judgement]
    keeper: Keeper
    progress: Progress
    judgements: dict[str, Judgement] = field(default_factory=dict)
    """Of every trace so far, by its key."""
    _waiting: set[str] = field(default_factory=set, init=False)
    """The traces of the call of `run` at hand."""

    def run(self, tasks: Sequence[TraceTask], workers: Fanout) -> None:
        """Run traces and the hops they lead to, until none is left."""
        distinct = {task.key: task for task in tasks}
        self.progress.advance(len(tasks) - len(distinct))
        self._waiting = set(distinct)
        backlog = Backlog(self._untraced(distinct.values()))
        for batch, outcomes in workers.run(backlog):
            for task, outcome in zip(batch.tasks, outcomes, strict=True):
                backlog.add(self._untraced(self._judged(task, outcome)))
            waiting = len(backlog.zones())
            self.progress.at(batch.zone, left=backlog.waiting(batch.zone), zones=waiting)
            self.progress.advance(len(batch.tasks))

    def _untraced(self, tasks: Iterable[TraceTask]) -> Iterator[TraceTask]:
        """Yield the tasks that are to be traced, and those that recalled ones lead to."""
        queue = deque(tasks)
        while queue:
            task = queue.popleft()
            if task.key in self.judgements:
                self.progress.advance(1)
                continue
            outcome = self.keeper.recall(task)
            if outcome is None:
                yield task
            else:
                queue += self._judged(task, outcome)
                self.progress.advance(1)

    def _judged(self, task: TraceTask, outcome: TraceOutcome) -> list[TraceTask]:
        """Judge a trace; return the hops it leads to that nobody waits for yet."""
        judgement = self.judge(task, outcome)
        self.judgements[task.key] = judgement
        self.keeper.keep(task, outcome, judgement)
        hops = {hop.key: hop for hop in judgement.next_hops}
        # Asked key by key: a difference of sets goes through all that was ever traced.
        fresh = [k for k in hops if k not in self._waiting and k not in self.judgements]
        self._waiting.update(fresh)
        self.progress.expect(len(fresh))
        return [hops[key] for key in fresh]
