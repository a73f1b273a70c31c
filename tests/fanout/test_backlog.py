"""Batches partition the traces, whatever is added: none is lost, none is run twice."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from audit.fanout.backlog import Backlog
from audit.model.packets import ConntrackState
from audit.model.traces import TraceBatch, TraceTask
from tests.verdict import made


@st.composite
def tasks(draw: st.DrawFn) -> list[TraceTask]:
    kinds = st.tuples(st.sampled_from("abc"), st.sampled_from(ConntrackState), st.integers(0, 2))
    drawn = draw(st.lists(kinds, max_size=40))
    return [
        TraceTask(key=str(i), zone=zone, state=state, microflow=made.FLOW, target="", select=select)
        for i, (zone, state, select) in enumerate(drawn)
    ]


def work_off(backlog: Backlog, late: list[TraceTask]) -> list[TraceBatch]:
    """Take all batches, one worker that stays where it is; each time one more task comes in."""
    found, zone = list[TraceBatch](), ""
    while (batch := backlog.take(zone, set())) is not None:
        found.append(batch)
        zone = batch.zone
        backlog.add([late.pop()] if late else [])
    return found


@given(tasks(), st.integers(1, 7), st.integers(0, 40))
def test_every_trace_is_in_one_batch_with_its_like(
    some: list[TraceTask], size: int, late: int
) -> None:
    at_once, later = some[late:], some[:late]
    found = work_off(Backlog(at_once, size=size), list(later))
    if not at_once:
        assert found == []
        return
    handed_out = [task.key for batch in found for task in batch.tasks]
    assert len(handed_out) == len(set(handed_out))
    assert {task.key for task in at_once} <= set(handed_out) <= {task.key for task in some}
    for batch in found:
        assert 1 <= len(batch.tasks) <= size
        assert {(t.zone, t.state, t.select) for t in batch.tasks} == {
            (batch.zone, batch.tasks[0].state, batch.tasks[0].select)
        }


@given(tasks(), st.integers(1, 7))
def test_a_worker_opens_a_zone_once_and_no_batch_is_smaller_than_it_has_to_be(
    some: list[TraceTask], size: int
) -> None:
    found = work_off(Backlog(some, size=size), [])
    zones = [batch.zone for batch in found]
    changes = sum(one != two for one, two in pairwise(zones))
    assert changes == max(len(set(zones)) - 1, 0)
    full = {(b.zone, b.tasks[0].state, b.tasks[0].select) for b in found}
    assert sum(len(b.tasks) < size for b in found) <= len(full)
    assert found == work_off(Backlog(some, size=size), [])


def waiting(zone: str, count: int) -> list[TraceTask]:
    return [made.task(zone=zone, select=number) for number in range(count)]


def zone_of(batch: TraceBatch | None) -> str:
    return "" if batch is None else batch.zone


def test_the_fullest_zone_nobody_works_on_comes_first() -> None:
    backlog = Backlog([*waiting("a", 3), *waiting("b", 9), *waiting("c", 4)])
    taken = [zone_of(backlog.take("x", {"b"})) for _ in range(16)]
    assert taken[:2] == ["c", "a"]  # each is the fuller one by then
    assert taken.count("b") == 9
    assert taken[-9:] == ["b"] * 9
    assert backlog.take("b", set()) is None


def test_what_is_put_back_is_handed_out_next() -> None:
    backlog = Backlog([*waiting("a", 1), *waiting("b", 2)])
    first = backlog.take("a", ())
    assert first is not None
    backlog.put_back(first)
    assert backlog.take("b", ()) is first


def test_zones_that_were_left_wait_until_every_other_was_begun() -> None:
    backlog = Backlog([*waiting("a", 3), *waiting("b", 2), *waiting("c", 1)], size=3)
    begun = [zone_of(backlog.take("", set()))]
    backlog.add(waiting("a", 9))  # what others lead to
    begun += [zone_of(backlog.take("none", set())) for _ in "bca"]
    assert begun == ["a", "b", "c", "a"]


@given(tasks(), st.integers(1, 7))
def test_replies_of_a_zone_come_before_its_requests(some: list[TraceTask], size: int) -> None:
    for zone in {task.zone for task in some}:
        found = work_off(Backlog([task for task in some if task.zone == zone], size=size), [])
        states = [batch.tasks[0].state for batch in found]
        assert states == sorted(states, key=lambda state: state is not ConntrackState.REPLY)
