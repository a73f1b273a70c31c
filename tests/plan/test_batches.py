"""The batches partition the traces: none is lost, none is run twice."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import TraceTask
from audit.plan import batches

FLOW = Microflow(
    inport="a",
    eth_src="02:00:00:00:00:01",
    eth_dst="02:00:00:00:00:02",
    ip_src="10.0.0.1",
    ip_dst="10.0.0.2",
    protocol=Protocol.TCP,
    src_port=1,
    dst_port=2,
)


@st.composite
def tasks(draw: st.DrawFn) -> list[TraceTask]:
    kinds = st.tuples(st.sampled_from("abc"), st.sampled_from(ConntrackState), st.integers(0, 2))
    return [
        TraceTask(key=str(i), zone=zone, state=state, microflow=FLOW, target="", select=select)
        for i, (zone, state, select) in enumerate(draw(st.lists(kinds, max_size=40)))
    ]


@given(tasks(), st.integers(1, 7))
def test_every_trace_is_in_one_batch_with_its_like(some: list[TraceTask], size: int) -> None:
    cut = list(batches.cut(some, size=size))
    assert sorted(t.key for batch in cut for t in batch.tasks) == sorted(t.key for t in some)
    for batch in cut:
        assert 1 <= len(batch.tasks) <= size
        assert {(t.zone, t.state, t.select) for t in batch.tasks} == {
            (batch.zone, batch.tasks[0].state, batch.tasks[0].select)
        }
        order = [int(t.key) for t in batch.tasks]
        assert order == sorted(order)
    # A zone's database is served in one go, and no batch is smaller than it has to be.
    zones = [batch.zone for batch in cut]
    assert zones == sorted(zones)
    assert len({b.tasks[0].key for b in cut}) == len(cut)
    for one, two in pairwise(cut):
        alike = (one.zone, one.tasks[0].state, one.tasks[0].select) == (
            two.zone,
            two.tasks[0].state,
            two.tasks[0].select,
        )
        assert len(one.tasks) == size or not alike
    assert cut == list(batches.cut(some, size=size))
