"""Inline: one worker, made when it is needed, kept between calls, closed at the end."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from audit.fanout.inline import InlineFanout
from audit.model.traces import Hop, HopEnd, LogicalTrace, TraceBatch, TraceOutcome
from tests.verdict import made


class Echo:
    """Answers every task with its own key."""

    def run(self, batch: TraceBatch) -> tuple[TraceOutcome, ...]:
        return tuple(
            LogicalTrace(key=task.key, hop=Hop(end=HopEnd.OUTPUT), output="")
            for task in batch.tasks
        )


class Factory:
    """Makes workers, and knows what became of them."""

    def __init__(self) -> None:
        self.made = self.closed = 0

    def __call__(self) -> AbstractContextManager[Echo]:
        @contextmanager
        def worker() -> Iterator[Echo]:
            self.made += 1
            yield Echo()
            self.closed += 1

        return worker()


def batches(count: int) -> list[TraceBatch]:
    return [
        TraceBatch(zone="worker", tasks=(made.task(select=2 * i), made.task(select=2 * i + 1)))
        for i in range(count)
    ]


def test_every_batch_comes_back_in_order_with_its_outcomes() -> None:
    factory = Factory()
    with InlineFanout(factory) as fanout:
        assert not factory.made
        for _ in range(2):
            done = list(fanout.run(batches(3)))
            assert [batch for batch, _ in done] == batches(3)
            assert all(
                [outcome.key for outcome in outcomes] == [task.key for task in batch.tasks]
                for batch, outcomes in done
            )
        assert (factory.made, factory.closed) == (1, 0)
    assert (factory.made, factory.closed) == (1, 1)


def test_the_next_batch_is_not_begun_before_it_is_asked_for() -> None:
    asked = []

    def lazily() -> Iterator[TraceBatch]:
        for batch in batches(2):
            asked.append(batch)
            yield batch

    with InlineFanout(Factory()) as fanout:
        running = fanout.run(lazily())
        next(running)
        assert len(asked) == 1


def test_a_worker_that_was_never_needed_is_never_made() -> None:
    factory = Factory()
    with InlineFanout(factory):
        pass
    assert not factory.made


def test_what_cannot_be_started_is_an_error() -> None:
    def broken() -> AbstractContextManager[Echo]:
        raise OSError("no engine")

    with InlineFanout(broken) as fanout, pytest.raises(OSError, match="no engine"):
        list(fanout.run(batches(1)))
