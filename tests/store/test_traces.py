"""Traces come back one at a time and in order, however they were cut into batches."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from audit.model.run import TraceRecord
from audit.store import writer as writers
from audit.store.writer import RunWriter
from tests.store.files import open_traces

texts = st.text(max_size=8)
records = st.builds(
    TraceRecord,
    key=st.text(min_size=1, max_size=4),
    policies=st.lists(texts, max_size=2).map(tuple),
    next_keys=st.lists(texts, max_size=2).map(tuple),
    reply_of=st.lists(texts, max_size=2, unique=True).map(tuple),
    policy_rule=st.integers(-1, 5),
    **{
        name: texts
        for name in TraceRecord.__dataclass_fields__
        if name not in {"key", "policies", "next_keys", "policy_rule", "reply_of", "read"}
    },
)
batches = st.lists(st.lists(records, max_size=5), max_size=4).filter(
    lambda cut: len({r.key for batch in cut for r in batch}) == sum(map(len, cut))
)


@given(batches)
@settings(max_examples=60, deadline=None)
def test_all_of_them_in_order_and_each_by_its_key(cut: list[list[TraceRecord]]) -> None:
    everything = sorted((r for batch in cut for r in batch), key=lambda r: r.key)
    with TemporaryDirectory() as directory:
        writer = RunWriter(Path(directory), "run")
        for number, batch in enumerate(cut):
            writer.write_traces(f"batch-{number}", batch)
        traces = open_traces(writer.path)

        assert list(traces.all()) == everything
        assert [traces.get(r.key) for r in everything] == everything
        for request in {key for r in everything for key in r.reply_of}:
            assert traces.reply_to(request) == next(r for r in everything if request in r.reply_of)


def test_a_batch_of_many_row_groups(tmp_path: Path) -> None:
    empty: dict[str, object] = dict.fromkeys(TraceRecord.__dataclass_fields__, "")
    others: dict[str, object] = {"policies": (), "next_keys": (), "policy_rule": -1, "reply_of": ()}
    template = TraceRecord(**(empty | others | {"read": None}))  # type: ignore[arg-type]
    count = 3 * writers.TRACES_PER_ROW_GROUP + 1
    ordered = [replace(template, key=f"{i:04}", output=f"raw {i}") for i in range(count)]
    writer = RunWriter(tmp_path, "run")
    writer.write_traces("even", ordered[::2])
    writer.write_traces("odd", ordered[1::2])
    writer.write_traces("again", ordered[:3])
    traces = open_traces(writer.path)

    assert list(traces.all()) == ordered
    assert [traces.get(f"{i:04}") for i in (0, 63, 128, 192)] == [
        ordered[i] for i in (0, 63, 128, 192)
    ]
