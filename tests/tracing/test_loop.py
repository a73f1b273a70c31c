"""Every trace that another leads to is run or recalled, and none twice."""

from collections.abc import Iterator, Mapping

from hypothesis import given
from hypothesis import strategies as st

from audit.cli.progress import Silent
from audit.fanout.backlog import Backlog
from audit.fanout.base import Finished
from audit.model.packets import ConntrackState
from audit.model.traces import TraceFailure, TraceOutcome, TraceTask
from audit.model.verdicts import Reason
from audit.tracing.loop import TraceLoop
from audit.verdict.judge import Judgement
from tests.verdict import made

TRACES = 12
Graph = Mapping[int, set[int]]
NUMBERS = st.integers(0, TRACES - 1)
GRAPHS = st.dictionaries(NUMBERS, st.sets(NUMBERS, max_size=3))
"""Which traces each leads to; circles are among them."""


def task(number: int) -> TraceTask:
    return TraceTask(
        key=str(number),
        zone=f"zone-{number % 3}",
        state=ConntrackState.REQUEST,
        microflow=made.FLOW,
        target="",
    )


def outcome(key: str) -> TraceOutcome:
    return TraceFailure(key=key, reason=Reason.INTERRUPTED, message="")


class Worker:
    """Traces by twos, and remembers what."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.retraced = 0

    def run(self, backlog: Backlog) -> Iterator[Finished]:
        while (batch := backlog.take("", ())) is not None:
            self.ran += [each.key for each in batch.tasks]
            yield batch, tuple(outcome(each.key) for each in batch.tasks)


class Notebook:
    """Recalls some traces, and counts what it is given to keep."""

    def __init__(self, earlier: set[int]) -> None:
        self.earlier = {str(number) for number in earlier}
        self.kept: list[str] = []

    def recall(self, task: TraceTask) -> TraceOutcome | None:
        return outcome(task.key) if task.key in self.earlier else None

    def keep(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> None:
        assert task.key == outcome.key
        assert judgement.detail == task.key
        self.kept.append(task.key)


class Steps(Silent):
    """Counts steps announced and done."""

    def __init__(self) -> None:
        self.left = 0

    def expect(self, steps: int) -> None:
        self.left += steps

    def advance(self, steps: int) -> None:
        self.left -= steps


def reached(graph: Graph, first: list[int]) -> set[str]:
    """Return the keys of all that a first few lead to."""
    known, open_ends = set(first), list(first)
    while open_ends:
        fresh = graph.get(open_ends.pop(), set()) - known
        known |= fresh
        open_ends += fresh
    return {str(number) for number in known}


@given(GRAPHS, st.sets(NUMBERS), st.lists(st.lists(NUMBERS, max_size=5), max_size=3))
def test_every_trace_is_judged_once(
    graph: Graph, earlier: set[int], calls: list[list[int]]
) -> None:
    worker, notebook, steps = Worker(), Notebook(earlier), Steps()
    loop = TraceLoop(
        judge=lambda asked, _: Judgement(
            verdict=None,
            reason=Reason.DELIVERED,
            next_hops=tuple(task(n) for n in sorted(graph.get(int(asked.key), ()))),
            detail=asked.key,
        ),
        keeper=notebook,
        progress=steps,
    )
    for first in calls:
        steps.expect(len(first))
        loop.run([task(number) for number in first], worker)
        assert steps.left == 0
    wanted = reached(graph, [number for first in calls for number in first])
    assert sorted(worker.ran) == sorted(wanted - notebook.earlier)
    assert sorted(notebook.kept) == sorted(wanted) == sorted(loop.judgements)
