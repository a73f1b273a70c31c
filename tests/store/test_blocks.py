"""A run whose cells are kept by class reads as the one that has them one by one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import RunReadError
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.run import Run
from audit.model.verdicts import NO_VERDICT
from audit.policy import blocks as by_class
from audit.policy.intent import evaluate
from audit.report.census import census
from audit.report.classes import classes
from audit.report.grid import gather
from audit.scope.matrix import build, outline
from audit.store.layout import read_manifest
from audit.store.query import query
from audit.store.reader import open_recorded, open_run, stream_run
from audit.store.writer import RunWriter
from tests.policy.test_blocks import Made

SEEDS = (0, 1, 2, 3, 9)


class Both:
    """The same cells in a run of each kind."""

    def __init__(self, place: Path, seed: int) -> None:
        made = Made(seed)
        scope = made.scope()
        self.matrix: Matrix = build(*scope).matrix
        said = evaluate(self.matrix, made.state)
        verdicts = CellVerdicts(
            verdict=said.verdict,
            reply=np.full(len(self.matrix), NO_VERDICT, np.uint8),
            reason=said.reason,
            blame=said.blame,
            trace=np.full(len(self.matrix), -1, np.int32),
            blames=said.blames,
            trace_keys=(),
            intent=said.verdict,
        )
        blocks = by_class.evaluate(outline(*scope).matrix, made.state)
        self.by_cell = self._write(
            place / "cells", lambda out: out.write_cells(self.matrix, verdicts)
        )
        self.by_class = self._write(place / "blocks", lambda out: out.write_blocks(blocks))

    def _write(self, root: Path, write: Callable[[RunWriter], None]) -> Path:
        out = RunWriter(root, "run")
        out.write_plan({})
        out.write_endpoints(self.matrix.endpoints)
        out.write_policies(())
        write(out)
        out.finish({"counts": {"cells": len(self.matrix), "traces": 0}})
        return out.path


@pytest.fixture(params=SEEDS)
def both(tmp_path: Path, request: pytest.FixtureRequest) -> Both:
    return Both(tmp_path, request.param)


def _deciders(run: Run) -> list[str]:
    blames = [*map(str, run.verdicts.blames), ""]
    return [blames[index] for index in run.verdicts.blame.tolist()]


def test_cells_are_read_as_they_are_of_the_other_kind(both: Both) -> None:
    ends = (range(len(both.matrix.endpoints)), [3, 5, 8])
    for between in (None, ends):
        first, second = (open_run(path, between) for path in (both.by_cell, both.by_class))
        assert len(first.matrix) > 0
        for name in ("src", "dst", "family", "port"):
            np.testing.assert_array_equal(getattr(first.matrix, name), getattr(second.matrix, name))
        for name in ("verdict", "reply", "reason", "trace"):
            first_, second_ = getattr(first.verdicts, name), getattr(second.verdicts, name)
            np.testing.assert_array_equal(first_, second_)
        assert _deciders(first) == _deciders(second)
        assert first.matrix.ports == second.matrix.ports


@pytest.mark.parametrize("plane", ["", "intent", "logical"])
def test_sources_are_read_one_by_one(both: Both, plane: str) -> None:
    first, second = (open_recorded(path, plane).cells for path in (both.by_cell, both.by_class))
    assert len(first) == len(second) == len(both.matrix)
    for source in range(len(both.matrix.endpoints)):
        cells, same = first.of_source(source), second.of_source(source)
        for name in ("src", "dst", "family", "port", "verdict", "reply", "reason", "drift"):
            np.testing.assert_array_equal(getattr(cells, name), getattr(same, name))
        np.testing.assert_array_equal(cells.blame < 0, same.blame < 0)


def test_sql_finds_the_same_cells_of_the_same_types(both: Both) -> None:
    for sql in ("SELECT * FROM cells ORDER BY ALL", "SELECT typeof(COLUMNS(*)) FROM cells LIMIT 1"):
        (names, rows), (same, others) = (query(path, sql) for path in (both.by_cell, both.by_class))
        assert names == same
        assert list(rows) == list(others)


def test_the_page_counts_and_shows_the_same(both: Both) -> None:
    run = stream_run(both.by_class)
    assert run.blocks is not None
    grids = (gather(stream_run(both.by_cell)), gather(run), gather(replace(run, blocks=None)))
    pages = [
        [
            [grid.states[code - 1]._replace(blame=0) if code else None for code in grid.codes[row]]
            for row in range(len(grid.codes))
        ]
        for grid in grids
    ]
    assert pages[0] == pages[1] == pages[2]
    counts = [census(grid) for grid in grids]
    for counted in counts[1:]:
        for name in ("pairs", "sends", "receives"):
            np.testing.assert_array_equal(getattr(counted, name), getattr(counts[0], name))
    found = classes(grids[1])
    carried = found.base[found.row_class][:, found.column_class]
    rows = np.repeat(np.arange(len(carried)), found.exceptions_of)
    carried[rows, found.columns] = found.codes
    np.testing.assert_array_equal(
        carried, np.stack([*map(grids[1].codes.__getitem__, range(len(carried)))])
    )


@pytest.mark.parametrize(
    ("table", "column", "number"),
    [
        ("blocks/part-00000", "state", 10_000),
        ("blocks/part-00000", "dst_class", -1),
        ("block_exceptions", "destination", 100_000),
        ("block_exceptions", "source", 9_999),
        ("block_sources", "source", 7),
        ("block_destinations", "destination", 7),
        ("block_states", "state", 7),
    ],
)
def test_numbers_that_stand_for_nothing_are_damage(
    tmp_path: Path, table: str, column: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Both(tmp_path, 0).by_class
    file = run / f"{table}.parquet"
    rows = pq.read_table(file, partitioning=None)
    index = rows.schema.get_field_index(column)
    values = rows[column].to_pylist()
    damaged = pa.array([number, *values[1:]], pa.int32())
    pq.write_table(rows.set_column(index, rows.schema.field(column), damaged), file)
    for looked in ("_require_size", "digest"):  # as if run.json had the sum of these very files
        monkeypatch.setattr(f"audit.store.layout.{looked}", _as_listed(run))
    with pytest.raises(RunReadError, match=r"cannot be read"):
        open_recorded(run)


def _as_listed(run: Path) -> Callable[..., dict[str, object]]:
    sums = {each["path"]: each for each in read_manifest(run)["outputs"]}
    return lambda _run, name, *_: sums[name]


def test_a_missing_table_beside_blocks_is_damage(tmp_path: Path) -> None:
    run = Both(tmp_path, 0).by_class
    (run / "block_states.parquet").unlink()
    with pytest.raises(RunReadError, match=r"block_states\.parquet is missing"):
        open_recorded(run)
