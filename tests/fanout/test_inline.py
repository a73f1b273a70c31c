"""Inline: workers are made when they are needed, kept between calls, closed at the end."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from audit.fanout.backlog import Backlog
from audit.fanout.base import Traces
from audit.fanout.inline import InlineFanout
from audit.model.traces import Hop, HopEnd, LogicalTrace, TraceBatch
from tests.verdict import made


class Echo:
    """Answers every task with its own key."""

    def run(self, batch: TraceBatch) -> Traces:
        for task in batch.tasks:
            yield LogicalTrace(key=task.key, hop=Hop(end=HopEnd.OUTPUT), output="")


class Factory:
    """Makes workers, and knows what became of them."""

    def __init__(self, kind: type[Echo] = Echo) -> None:
        self._kind = kind
        self.made = self.closed = 0

    def __call__(self) -> AbstractContextManager[Echo]:
        @contextmanager
        def worker() -> Iterator[Echo]:
            self.made += 1
            yield self._kind()
            self.closed += 1

        return worker()


def backlog(batches: int) -> Backlog:
    """Return what is cut into so many batches, each a task of its own."""
    return Backlog(made.task(select=number) for number in range(batches))


def test_every_batch_comes_back_with_its_outcomes() -> None:
    factory = Factory()
    expected = {made.task(select=number).key for number in range(3)}
    with InlineFanout(factory) as fanout:
        assert not factory.made
        for _ in range(2):
            done = list(fanout.run(backlog(3)))
            assert {task.key for batch, _ in done for task in batch.tasks} == expected
            assert all(
                [outcome.key for outcome in outcomes] == [task.key for task in batch.tasks]
                for batch, outcomes in done
            )
        assert (factory.made, factory.closed) == (1, 0)
    assert (factory.made, factory.closed) == (1, 1)


class Backwards(Echo):
    """Answers the last task first."""

    def run(self, batch: TraceBatch) -> Traces:
        yield from reversed([*super().run(batch)])


def test_outcomes_come_back_in_the_order_of_their_tasks() -> None:
    work = Backlog((made.task(target=str(number)) for number in range(20)), size=7)
    with InlineFanout(Factory(Backwards), workers=2) as fanout:
        for batch, outcomes in fanout.run(work):
            assert [outcome.key for outcome in outcomes] == [task.key for task in batch.tasks]


def test_what_outcomes_lead_to_is_traced_too() -> None:
    work = backlog(1)
    with InlineFanout(Factory(), workers=2) as fanout:
        seen = list[int]()
        for batch, _ in fanout.run(work):
            seen.append(batch.tasks[0].select)
            if seen[-1] < 4:
                work.add([made.task(select=seen[-1] + 1)])
    assert seen == [0, 1, 2, 3, 4]


class Meeting:
    """Answers once another worker is at work as well, and knows who had which zones."""

    def __init__(self, together: threading.Barrier, zones: list[list[str]]) -> None:
        self._together = together
        self._zones: list[str] = []
        zones.append(self._zones)

    def run(self, batch: TraceBatch) -> Traces:
        for outcome in Echo().run(batch):
            self._zones.append(batch.zone)
            self._together.wait(timeout=20)
            yield outcome


def test_two_workers_are_at_work_at_once_each_on_a_zone_of_its_own() -> None:
    together, zones = threading.Barrier(2), list[list[str]]()

    @contextmanager
    def worker() -> Iterator[Meeting]:
        yield Meeting(together, zones)

    tasks = [made.task(zone=zone, select=number) for zone in ("a", "b") for number in range(3)]
    with InlineFanout(worker, workers=2) as fanout:
        found = {outcomes[0].key for _, outcomes in fanout.run(Backlog(tasks))}
    assert found == {task.key for task in tasks}
    assert sorted(zones) == [["a"] * 3, ["b"] * 3]


def test_leaving_early_waits_for_the_trace_at_hand_and_begins_no_more() -> None:
    begun, at_hand, going_on = list[str](), threading.Event(), threading.Event()

    class Slow(Echo):
        def run(self, batch: TraceBatch) -> Traces:
            for outcome in super().run(batch):
                begun.append(outcome.key)
                if len(begun) == 51:
                    at_hand.set()
                    going_on.wait(timeout=20)
                yield outcome

    factory = Factory(Slow)
    first = [made.task(target=f"shop_{number}", select=1) for number in range(50)]
    many = [made.task(target=f"shop_{number}") for number in range(40)]
    with InlineFanout(factory) as fanout:
        running = fanout.run(Backlog([*first, *many], size=200))
        assert isinstance(running, Generator)
        next(running)
        assert at_hand.wait(timeout=20)
        threading.Timer(0.2, going_on.set).start()
        running.close()
        assert len(begun) == 51
    assert (factory.made, factory.closed) == (1, 1)


def test_a_worker_that_was_never_needed_is_never_made() -> None:
    factory = Factory()
    with InlineFanout(factory):
        pass
    assert not factory.made


def test_what_cannot_be_started_is_an_error() -> None:
    def broken() -> AbstractContextManager[Echo]:
        raise OSError("no engine")

    with InlineFanout(broken) as fanout, pytest.raises(OSError, match="no engine"):
        list(fanout.run(backlog(1)))


class Leisurely(Echo):
    """Takes its time for a trace, and counts those it began."""

    began = 0

    def run(self, batch: TraceBatch) -> Traces:
        for outcome in super().run(batch):
            type(self).began += 1
            time.sleep(0.02)
            yield outcome


def test_when_the_time_is_up_what_was_traced_of_a_batch_comes_back() -> None:
    work = Backlog((made.task(target=str(number)) for number in range(200)), size=100)
    with InlineFanout(Factory(Leisurely), until=time.monotonic() + 0.3) as fanout:
        [(batch, outcomes)] = fanout.run(work)
        assert not list(fanout.run(work))
    assert 0 < len(outcomes) < 100
    assert [outcome.key for outcome in outcomes] == [task.key for task in batch.tasks]
    assert Leisurely.began == len(outcomes)
