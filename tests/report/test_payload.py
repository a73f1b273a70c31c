"""The page's data is the run's, and never more than a page can hold."""

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.model.matrix import FAMILIES
from audit.report.classes import classes
from audit.report.grid import Rows, deflate, gather
from tests.report.parts import render_html, streamed

if TYPE_CHECKING:
    from tests.report.conftest import Made

MEGABYTE = 1_000_000


def codes_of(made: "Made", data: dict[str, Any]) -> NDArray[Any]:
    """Return the grid of codes, put together from its classes and exceptions as the page does."""
    kind = f"<u{data['codeBytes']}"
    parts = [made.unpack(chunk) for chunk in data["blobs"]["cells"]]
    rows, columns, counts = (np.frombuffer(parts[i], "<u4").astype(int) for i in (0, 1, 3))
    base = np.frombuffer(parts[2], kind).reshape(-1, columns.max(initial=-1) + 1)
    codes: NDArray[Any] = base[rows][:, columns]
    steps, exceptions = np.frombuffer(parts[4], "<u4").astype(int), np.frombuffer(parts[5], kind)
    at = 0
    for row, count in enumerate(counts.tolist()):
        codes[row, np.cumsum(steps[at : at + count])] = exceptions[at : at + count]
        at += count
    return codes


def starts_of(made: "Made", data: dict[str, Any], name: str) -> NDArray[Any]:
    chunks = [np.frombuffer(made.unpack(chunk), "<i4") for chunk in data["blobs"][name]]
    return np.concatenate([np.cumsum(chunk) for chunk in chunks])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_cell_comes_back(made: "Made", seed: int) -> None:
    run = made.random(seed)
    data = made.data_of(render_html(run))
    tables = made.tables_of(data)
    codes = codes_of(made, data)
    assert int((codes > 0).sum()) == len(run.matrix)
    keys = [endpoint[0] for endpoint in tables["endpoints"]]
    verdicts = run.verdicts
    for cell in range(len(run.matrix)):
        src = keys.index(run.matrix.endpoints[run.matrix.src[cell]].key)
        dst = keys.index(run.matrix.endpoints[run.matrix.dst[cell]].key)
        at = [int(run.matrix.family[cell]), int(run.matrix.port[cell])]
        slice_ = tables["slices"].index(at)
        pairs = list(zip(tables["columnDst"], tables["columnSlice"], strict=True))
        code = codes[tables["sources"].index(src), pairs.index((dst, slice_))]
        verdict, reply, reason, _, blame = tables["states"][code - 1][:5]
        assert verdict == verdicts.verdict[cell]
        assert reply == min(verdicts.reply[cell], 7)
        assert reason == verdicts.reason[cell]
        label = tables["blames"][blame]["label"] if blame >= 0 else None
        index = int(verdicts.blame[cell])
        assert label == (str(verdicts.blames[index]) if index >= 0 else None)
    assert tables["families"] == list(FAMILIES)


def test_a_cell_leads_to_its_raw_trace(made: "Made") -> None:
    run = made.shop(2)
    data = made.data_of(render_html(run))
    starts = starts_of(made, data, "starts").tolist()
    hops = [hop for chunk in data["blobs"]["hops"] for hop in json.loads(made.unpack(chunk))]
    texts = [text for chunk in data["blobs"]["raw"] for text in json.loads(made.unpack(chunk))]
    lines = [line for part in data["blobs"]["lines"] for line in json.loads(made.unpack(part))]
    assert len(hops) == len(texts) == len(list(run.traces.all()))
    traced = sorted(start for start in starts if start)
    assert len(traced) == int((run.verdicts.trace >= 0).sum())
    assert len(set(traced)) == len(traced)
    raw = {record.output for record in run.traces.all()}
    for number in traced[:40]:
        assert "\n".join(lines[line] for line in texts[number - 1]) in raw
        (after,) = hops[number - 1][11]
        assert hops[after][0] == "worker-b"


def test_forty_pods_are_a_small_page(made: "Made") -> None:
    run = made.shop(3)
    assert len({e.key for e in run.matrix.endpoints}) > 40
    assert len(render_html(run)) < 0.4 * MEGABYTE


@pytest.mark.parametrize(
    ("budgets", "left_out"),
    [
        ({"trace_budget": 10}, ["hops", "raw"]),
        ({"budget": 1}, ["cells", "manifests", "hops", "raw"]),
    ],
)
def test_what_does_not_fit_is_left_out_and_said(
    made: "Made", budgets: dict[str, Any], left_out: list[str]
) -> None:
    html = render_html(made.shop(1), **budgets)
    data = made.data_of(html)
    assert {"tables", "cells" if "cells" not in left_out else "pairs"} <= set(data["blobs"])
    assert data["leftOut"] == left_out
    assert not set(data["leftOut"]) & set(data["blobs"])
    assert 'data-testid="left-out"' in html
    assert "audit explain runs/20260214-021500 SRC DST PORT" in html


def test_where_no_trace_was_run_none_is_said_to_be_too_many(made: "Made") -> None:
    run = made.shop(1)
    nowhere = np.full_like(run.verdicts.trace, -1)
    untraced = replace(run, verdicts=replace(run.verdicts, trace=nowhere, trace_keys=()))
    html = render_html(untraced)
    assert made.data_of(html)["leftOut"] == ["hops", "raw"]
    assert "are too many" not in html
    assert "are too many" in render_html(run, trace_budget=10)


def test_raw_text_is_left_out_before_the_hops(made: "Made") -> None:
    run = made.shop(1)
    data = made.data_of(render_html(run))
    size = {name: sum(map(len, made_)) * 3 // 4 for name, made_ in data["blobs"].items()}
    short = made.data_of(render_html(run, trace_budget=size["starts"] + size["hops"] + 100))
    assert short["leftOut"] == ["raw"]
    assert "hops" in short["blobs"]
    assert "lines" not in short["blobs"]


def test_a_million_cells_are_a_small_page(made: "Made") -> None:
    assert len(render_html(made.large(1000))) < MEGABYTE


def test_the_same_run_gives_the_same_page(made: "Made") -> None:
    assert render_html(made.shop(1)) == render_html(made.shop(1))


@given(st.binary())
def test_deflate_round_trip(data: bytes) -> None:
    assert zlib.decompress(deflate(data), -zlib.MAX_WBITS) == data


def test_rows_that_are_nearly_alike_are_a_class(made: "Made") -> None:
    run = made.large(300)
    found = classes(gather(streamed(run)))
    assert len(found.base) == 5  # four namespaces see themselves only, and all others alike
    assert len(found.codes) == 0
    run.verdicts.verdict[[307, 90_000 - 5]] = 5
    grid = gather(streamed(run))
    found = classes(grid)
    assert found.base.shape[0] == 5
    assert len(found.codes) == 2
    codes = found.base[found.row_class][:, found.column_class]
    assert np.count_nonzero(codes != grid.codes) == 2


def test_parts_of_any_size_make_the_same_grid(made: "Made") -> None:
    run = made.random(5, 9)
    whole = gather(streamed(run))
    pieces = gather(streamed(run, 7))
    assert not isinstance(whole.codes, Rows)
    assert not isinstance(pieces.codes, Rows)
    for one, other in zip(whole.codes.ravel().tolist(), pieces.codes.ravel().tolist(), strict=True):
        assert bool(one) == bool(other)
        if one:
            state, same = whole.states[one - 1], pieces.states[other - 1]
            assert state[:-1] == same[:-1]
            assert state.blame < 0 or whole.blames[state.blame] == pieces.blames[same.blame]
    assert whole.page.column_dst.tolist() == pieces.page.column_dst.tolist()
    assert whole.starts is not None
    assert pieces.starts is not None
    assert (whole.starts == pieces.starts).all()


def test_drift_leads_to_the_traces_of_both_planes(made: "Made") -> None:
    run = made.drifting()
    assert run.verdicts.drift is not None
    data = made.data_of(render_html(run))
    tables = made.tables_of(data)
    hops = [hop for chunk in data["blobs"]["hops"] for hop in json.loads(made.unpack(chunk))]
    codes = codes_of(made, data).reshape(-1)
    drifting = [i for i, code in enumerate(codes) if code and tables["states"][code - 1][9]]
    assert len(drifting) == np.count_nonzero(run.verdicts.drift == 1) == 1
    planes = [
        hops[starts_of(made, data, name)[drifting[0]] - 1][13] for name in ("starts", "others")
    ]
    assert planes == ["datapath", "logical"]
