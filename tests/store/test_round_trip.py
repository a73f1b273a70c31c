"""What is written is what is read: matrices, verdicts, facts and traces."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.owners import words
from audit.model.packets import WITH_PORTS, Protocol
from audit.model.run import Run
from audit.model.verdicts import NO_VERDICT, REASONS, VERDICTS, Blame, PolicyRef, Verdict
from audit.store.reader import open_recorded, open_run
from audit.store.writer import RunWriter

if TYPE_CHECKING:
    from tests.store.conftest import Example

names = st.text(min_size=1, max_size=6)
ports = st.builds(
    Port, protocol=st.sampled_from(WITH_PORTS), number=st.integers(1, 65535)
) | st.just(Port(protocol=Protocol.ICMP, number=0))
endpoints = st.builds(
    Endpoint,
    kind=st.sampled_from(EndpointKind),
    namespace=st.sampled_from(["", "a", "b"]),
    name=names,
    node=st.sampled_from(["", "n1", "n2"]),
    network=st.sampled_from(["", "a_blue"]),
).map(lambda e: e if e.kind is EndpointKind.POD else replace(e, network=""))
policies = st.builds(
    PolicyRef,
    kind=st.sampled_from(["NetworkPolicy", "AdminNetworkPolicy"]),
    namespace=st.sampled_from(["", "a"]),
    name=names,
)
blames = st.builds(
    Blame,
    action=st.just("drop"),
    direction=st.sampled_from(["", "ingress", "egress"]),
    policy=st.none() | policies,
    rule=st.integers(-1, 3),
    owner=st.sampled_from(["", "an owner"]),
)
trace_keys = st.lists(names, min_size=1, max_size=5, unique=True)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    listed = draw(
        st.lists(
            endpoints,
            min_size=1,
            max_size=5,
            unique_by=lambda e: (e.kind, e.namespace, e.name, e.network_name),
        )
    )
    used = draw(st.lists(ports, min_size=1, max_size=4, unique=True))
    cell = st.tuples(
        st.integers(0, len(listed) - 1),
        st.integers(0, len(listed) - 1),
        st.integers(0, len(FAMILIES) - 1),
        st.integers(0, len(used) - 1),
    )
    cells = np.array(sorted(draw(st.sets(cell, max_size=40))), np.int16).reshape(-1, 4)
    return Matrix(
        endpoints=tuple(listed),
        ports=tuple(used),
        src=cells[:, 0],
        dst=cells[:, 1],
        family=cells[:, 2].astype(np.int8),
        port=cells[:, 3],
    )


@st.composite
def verdicts_for(draw: st.DrawFn, count: int) -> CellVerdicts:
    blamed = draw(st.lists(blames, max_size=4))
    keys = draw(trace_keys)

    def column(values: st.SearchStrategy[int], kind: type[np.generic]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype=kind)

    verdict = st.integers(0, len(VERDICTS) - 1)
    return CellVerdicts(
        verdict=column(verdict, np.uint8),
        reply=column(verdict | st.just(NO_VERDICT), np.uint8),
        reason=column(st.integers(0, len(REASONS) - 1), np.uint8),
        blame=column(st.integers(-1, len(blamed) - 1), np.int32),
        trace=column(st.integers(-1, len(keys) - 1), np.int32),
        blames=blamed,
        trace_keys=keys,
    )


def blame_columns(verdicts: CellVerdicts) -> list[object]:
    """Return what the columns hold of each cell's blame."""

    def held(blame: Blame) -> object:
        return blame.policy or str(blame), blame.direction, blame.rule

    return [held(verdicts.blames[code]) if code >= 0 else None for code in verdicts.blame]


def traces_of(verdicts: CellVerdicts) -> list[str | None]:
    return [verdicts.trace_keys[code] if code >= 0 else None for code in verdicts.trace]


def write(root: Path, matrix: Matrix, verdicts: CellVerdicts, chunk: int = 7) -> Run:
    writer = RunWriter(root, "run")
    writer.write_endpoints(matrix.endpoints)
    writer.write_policies(())
    writer.write_cells(matrix, verdicts, chunk=chunk)
    writer.finish({})
    return open_run(writer.path)


@given(st.data(), matrices(), st.sampled_from([1, 7, 100]))
@settings(max_examples=60, deadline=None)
def test_cells_come_back_as_they_went(data: st.DataObject, matrix: Matrix, chunk: int) -> None:
    verdicts = data.draw(verdicts_for(len(matrix)))
    with TemporaryDirectory() as directory:
        run = write(Path(directory), matrix, verdicts, chunk)

    assert run.matrix.endpoints == matrix.endpoints
    assert run.matrix.ports == matrix.ports
    for name in ("src", "dst", "family", "port"):
        assert_array_equal(getattr(run.matrix, name), getattr(matrix, name), strict=True)
    for name in ("verdict", "reply", "reason"):
        assert_array_equal(getattr(run.verdicts, name), getattr(verdicts, name), strict=True)
    assert traces_of(run.verdicts) == traces_of(verdicts)
    assert run.verdicts.blame.dtype == run.verdicts.trace.dtype == np.int32
    assert blame_columns(run.verdicts) == blame_columns(verdicts)


@given(st.data(), matrices())
@settings(max_examples=15, deadline=None)
def test_in_what_order_traces_and_blames_came_to_be_known_changes_no_byte(
    data: st.DataObject, matrix: Matrix
) -> None:
    verdicts = data.draw(verdicts_for(len(matrix)))
    turned = replace(
        verdicts,
        blames=verdicts.blames[::-1],
        blame=np.where(verdicts.blame < 0, -1, len(verdicts.blames) - 1 - verdicts.blame),
        trace_keys=verdicts.trace_keys[::-1],
        trace=np.where(verdicts.trace < 0, -1, len(verdicts.trace_keys) - 1 - verdicts.trace),
    )
    with TemporaryDirectory() as directory:
        first = write(Path(directory) / "a", matrix, verdicts)
        second = write(Path(directory) / "b", matrix, turned)
        files, others = (
            [file.read_bytes() for file in sorted(Path(run.path).glob("cells/*.parquet"))]
            for run in (first, second)
        )
        assert files == others


def test_every_reason_and_verdict_has_its_word(tmp_path: Path) -> None:
    count = len(REASONS)
    index = np.arange(count, dtype=np.int32)
    endpoint = Endpoint(kind=EndpointKind.NODE, name="n")
    matrix = Matrix(
        endpoints=(endpoint,),
        ports=tuple(Port(protocol=Protocol.TCP, number=int(i) + 1) for i in index),
        src=np.zeros(count, np.int32),
        dst=np.zeros(count, np.int32),
        family=np.zeros(count, np.int8),
        port=index,
    )
    verdicts = CellVerdicts(
        verdict=(index % len(VERDICTS)).astype(np.uint8),
        reply=np.full(count, NO_VERDICT, np.uint8),
        reason=index.astype(np.uint8),
        blame=np.full(count, -1, np.int32),
        trace=np.full(count, -1, np.int32),
        blames=(),
        trace_keys=(),
    )
    run = write(tmp_path, matrix, verdicts)
    table = pq.read_table(Path(run.path) / "cells")

    assert table["reason"].to_pylist() == [str(reason) for reason in REASONS]
    assert_array_equal(run.verdicts.reason, verdicts.reason)
    assert_array_equal(run.verdicts.verdict, verdicts.verdict)


def test_what_was_not_asked_is_null(run_path: Path) -> None:
    table = pq.read_table(run_path / "cells")

    for name in ("predicted", "intent", "datapath", "drift"):
        assert table[name].null_count == len(table), name
    assert table["logical"].to_pylist() == table["verdict"].to_pylist()
    assert table["reply"].to_pylist() == ["reachable", None, None, None, "reachable"]
    assert table["blame_rule"].to_pylist() == [0, None, None, None, None]
    assert table["blame_kind"].to_pylist() == ["NetworkPolicy", "NetworkPolicy", None, None, None]
    assert table["trace_id"].to_pylist()[3] is None


def test_planes_that_were_asked_are_written(example: "Example", tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "run")
    intent = np.array([0, 2, NO_VERDICT, 5, 1], np.uint8)
    drift = np.array([0, 1, NO_VERDICT, NO_VERDICT, 0], np.uint8)
    planes = replace(example.verdicts, intent=intent, drift=drift)
    writer.write_cells(example.matrix, planes, chunk=2)
    table = pq.read_table(writer.path / "cells")

    assert table["intent"].to_pylist() == ["reachable", "blocked", None, "untraced", "exits"]
    assert table["drift"].to_pylist() == [False, True, None, None, False]


def test_cells_of_one_plane_are_what_it_said(example: "Example", tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "run")
    writer.write_endpoints(example.endpoints)
    writer.write_policies(example.policies)
    intent = np.array([0, 0, NO_VERDICT, 5, 1], np.uint8)
    writer.write_cells(example.matrix, replace(example.verdicts, intent=intent))
    writer.finish({"scope": {}, "counts": {"cells": 5}})
    [strongest] = open_recorded(writer.path).cells
    [said] = open_recorded(writer.path, "intent").cells

    assert strongest.verdict.tolist() == example.verdicts.verdict.tolist()
    assert [VERDICTS[code] for code in said.verdict] == [
        Verdict.REACHABLE,
        Verdict.REACHABLE,
        Verdict.UNTRACED,
        Verdict.UNTRACED,
        Verdict.EXITS,
    ]
    # Who decided is known where the plane says what was decided.
    assert (said.blame >= 0).tolist() == [True, False, False, False, False]
    assert (said.reply == NO_VERDICT).all()


def test_facts_come_back_as_they_went(example: "Example", run_path: Path) -> None:
    run = open_run(run_path)

    assert run.matrix.endpoints == example.endpoints
    assert run.policies == example.policies
    assert run.manifest["scope"] == {"namespaces": []}
    assert run.path == str(run_path)


def test_blame_gets_its_flow_and_acl_back_from_the_traces(
    example: "Example",
    run_path: Path,
) -> None:
    read, written = open_run(run_path).verdicts, example.verdicts

    for cell, code in enumerate(written.blame):
        if code >= 0:
            # Of an owner without a policy the store keeps what people are told.
            blame = written.blames[code]
            owner = blame.owner if blame.policy else words(blame.owner)
            assert read.blames[read.blame[cell]] == replace(blame, owner=owner)
        else:
            assert read.blame[cell] == -1


def test_traces_come_back_in_order_of_their_keys(example: "Example", run_path: Path) -> None:
    written = sorted(
        (record for batch in example.batches.values() for record in batch), key=lambda r: r.key
    )
    traces = open_run(run_path).traces

    assert list(traces.all()) == written
    assert [traces.get(record.key) for record in written] == written
    assert traces.get("no such trace") is None


def test_a_reply_is_found_by_its_request(run_path: Path) -> None:
    traces = open_run(run_path).traces
    reply = traces.reply_to("t-allow")

    assert reply is not None
    assert reply.key == "t-allow-reply"
    assert traces.reply_to("t-far") is None
    assert traces.reply_to("") is None
