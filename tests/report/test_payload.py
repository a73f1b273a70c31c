"""The page's data is the run's, and never more than a page can hold."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.model.matrix import FAMILIES
from audit.report.grid import deflate, inflate
from audit.report.render import render_html

if TYPE_CHECKING:
    from tests.report.conftest import Made

MEGABYTE = 1_000_000


def grid_of(
    made: "Made", data: dict[str, Any], tables: dict[str, Any], name: str, kind: str
) -> NDArray[Any]:
    text = b"".join(made.unpack(chunk) for chunk in data["blobs"][name])
    return np.frombuffer(text, kind).reshape(len(tables["sources"]), len(tables["columnDst"]))


def tables_of(made: "Made", data: dict[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(made.unpack(data["blobs"]["tables"][0]))
    return tables


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_cell_comes_back(made: "Made", seed: int) -> None:
    run = made.random(seed)
    data = made.data_of(render_html(run))
    tables = tables_of(made, data)
    codes = grid_of(made, data, tables, "cells", f"<u{data['cellBytes']}")
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
        verdict, reply, reason, _, blame = tables["states"][code - 1]
        assert verdict == verdicts.verdict[cell]
        assert reply == verdicts.reply[cell]
        assert reason == verdicts.reason[cell]
        label = tables["blames"][blame]["label"] if blame >= 0 else None
        index = int(verdicts.blame[cell])
        assert label == (str(verdicts.blames[index]) if index >= 0 else None)
    assert tables["families"] == list(FAMILIES)


def test_a_cell_leads_to_its_raw_trace(made: "Made") -> None:
    run = made.shop(2)
    data = made.data_of(render_html(run))
    tables = tables_of(made, data)
    starts = np.cumsum(grid_of(made, data, tables, "starts", "<i4")).tolist()
    hops = [hop for chunk in data["blobs"]["hops"] for hop in json.loads(made.unpack(chunk))]
    texts = [text for chunk in data["blobs"]["raw"] for text in json.loads(made.unpack(chunk))]
    lines = json.loads(made.unpack(data["blobs"]["lines"][0]))
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
    made: "Made", budgets: dict[str, int], left_out: list[str]
) -> None:
    html = render_html(made.shop(1), **budgets)
    data = made.data_of(html)
    assert {"tables", "tallies"} <= set(data["blobs"])
    assert data["leftOut"] == left_out
    assert not set(data["leftOut"]) & set(data["blobs"])
    assert 'data-testid="left-out"' in html
    assert "audit explain runs/20260214-021500 SRC DST PORT" in html


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
    assert inflate(deflate(data)) == data
