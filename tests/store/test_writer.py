"""A run directory is whole or is not a run."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow.parquet as pq
import pytest

from audit.errors import ExitCode, OutputError, RunReadError
from audit.store import files
from audit.store.reader import open_run
from audit.store.schema import SCHEMA_VERSION
from audit.store.writer import RunWriter, sweep

if TYPE_CHECKING:
    from tests.store.conftest import Example

LARGE = """
import resource, sys, numpy as np
from pathlib import Path
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.packets import Protocol
from audit.store.reader import open_run
from audit.store.writer import RunWriter

count, side = 3_000_000, 1_733
cells = np.arange(count, dtype=np.int32)
endpoints = tuple(
    Endpoint(kind=EndpointKind.POD, namespace=f"ns-{i // 10}", name=f"pod-{i}") for i in range(side)
)
matrix = Matrix(
    endpoints=endpoints,
    ports=(Port(protocol=Protocol.TCP, number=80),),
    src=cells // side, dst=cells % side,
    family=np.zeros(count, np.int8), port=np.zeros(count, np.int32),
)
verdicts = CellVerdicts(
    verdict=(cells % 3).astype(np.uint8), reply=np.full(count, 255, np.uint8),
    reason=(cells % 5).astype(np.uint8), blame=np.full(count, -1, np.int32),
    trace=cells % 10_000, blames=(), trace_keys=[f"trace-{i}" for i in range(10_000)],
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
writer = RunWriter(Path(sys.argv[1]), "run")
writer.write_endpoints(endpoints)
writer.write_policies(())
writer.write_cells(matrix, verdicts, chunk=int(sys.argv[2]))
wrote = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
writer.finish({})
read = open_run(writer.path)
assert np.array_equal(read.matrix.src, matrix.src)
assert np.array_equal(read.matrix.dst, matrix.dst)
assert np.array_equal(read.verdicts.verdict, verdicts.verdict)
print((wrote - before) // 1024)
"""


def contents(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


def test_run_json_lists_every_other_file_with_its_size_and_hash(run_path: Path) -> None:
    manifest = json.loads((run_path / "run.json").read_text())
    files = contents(run_path)
    del files["run.json"]

    assert manifest["schema_version"] == SCHEMA_VERSION
    assert {output["path"] for output in manifest["outputs"]} == set(files)
    for output in manifest["outputs"]:
        content = files[output["path"]]
        assert output["size"] == len(content)
        assert output["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_same_input_gives_the_same_bytes(example: "Example", tmp_path: Path) -> None:
    runs = [example.write(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        run.finish({"scope": {}})

    assert contents(runs[0].path) == contents(runs[1].path)


def test_the_order_traces_came_in_leaves_no_trace(example: "Example", tmp_path: Path) -> None:
    records = [record for batch in example.batches.values() for record in batch]
    first, second = RunWriter(tmp_path, "a"), RunWriter(tmp_path, "b")
    first.write_traces("batch", records)
    second.write_traces("batch", records[::-1])

    assert contents(first.path) == contents(second.path)


def test_cells_are_cut_into_parts_of_the_chunk(run_path: Path) -> None:
    parts = sorted((run_path / "cells").iterdir())

    assert [part.name for part in parts] == [f"part-0000{i}.parquet" for i in range(3)]
    assert [pq.read_metadata(part).num_rows for part in parts] == [2, 2, 1]


def test_a_batch_that_is_written_again_replaces_its_file(
    example: "Example", tmp_path: Path
) -> None:
    writer = example.write(tmp_path)
    for name, records in example.batches.items():
        writer.write_traces(name, records)
    writer.finish({})

    assert len(list(open_run(writer.path).traces.all())) == 5


def test_a_run_without_traces_still_has_the_table(example: "Example", tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "run")
    writer.write_endpoints(example.endpoints)
    writer.write_policies(())
    writer.write_cells(example.matrix, example.verdicts)
    writer.finish({})

    assert list(open_run(writer.path).traces.all()) == []


def test_without_finish_it_is_not_a_run(example: "Example", tmp_path: Path) -> None:
    writer = example.write(tmp_path)

    with pytest.raises(RunReadError, match="unfinished run"):
        open_run(writer.path)


def test_abandon_leaves_nothing(example: "Example", tmp_path: Path) -> None:
    example.write(tmp_path / "runs").abandon()

    assert list(tmp_path.iterdir()) == []


def test_abandon_leaves_other_runs_alone(example: "Example", tmp_path: Path) -> None:
    example.write(tmp_path, "first").finish({})
    example.write(tmp_path, "second").abandon()

    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_abandon_does_not_touch_a_finished_run(example: "Example", tmp_path: Path) -> None:
    writer = example.write(tmp_path)
    writer.finish({})
    writer.abandon()

    assert len(open_run(writer.path).matrix) == len(example.matrix)


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")

    with pytest.raises(OutputError, match="not empty"):
        RunWriter(tmp_path, "run")
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"


def test_until_its_plan_is_written_nothing_is_there(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "run")
    assert not any(tmp_path.iterdir())
    writer.write_plan({"scope": {}})
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "plan.json"]


def test_what_a_writer_that_was_killed_had_begun_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for moment in ("replace", "rename"):
        writer = RunWriter(tmp_path, "20261125T081220Z-be65")
        with monkeypatch.context() as patched:
            patched.setattr(Path, moment, killed)
            with pytest.raises(KeyboardInterrupt):
                writer.write_plan({})
        assert len(list(tmp_path.iterdir())) == 1
        sweep(tmp_path)
        assert not any(tmp_path.iterdir())

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "plan.json").touch()
    (tmp_path / ".20261125T081220Z-be66.partial").symlink_to("elsewhere")
    for name in (".20261125T081220Z-be67.partial", ".mine.partial", "20261125T081220Z-be68"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("run_id", ["../elsewhere", "a/b", "", ".", ".."])
def test_a_run_id_is_one_name(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        RunWriter(tmp_path, run_id)


def test_a_root_that_cannot_be_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "runs"

    with pytest.raises(OutputError) as caught:
        RunWriter(root, "run")
    assert str(caught.value) == f"cannot write {root / 'run'}: Not a directory"
    assert caught.value.exit_code is ExitCode.COULD_NOT_RUN


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> BinaryIO:
        path.touch()
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(files, "_fresh", full)


def test_a_full_disk_is_one_clear_sentence_and_leaves_no_half_file(
    example: "Example", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RunWriter(tmp_path, "run")
    fill_the_disk(monkeypatch)

    with pytest.raises(OutputError) as caught:
        writer.write_endpoints(example.endpoints * 10_000)
    path = writer.path / "endpoints.parquet"
    assert str(caught.value) == f"cannot write {path}: No space left on device"
    assert list(writer.path.iterdir()) == []


def test_a_disk_that_is_full_at_the_end_leaves_no_run(
    example: "Example", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = example.write(tmp_path)
    fill_the_disk(monkeypatch)

    with pytest.raises(OutputError, match="No space left on device"):
        writer.finish({})
    with pytest.raises(RunReadError, match="unfinished run"):
        open_run(writer.path)


def test_a_rename_that_fails_leaves_what_was_there(
    example: "Example", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RunWriter(tmp_path, "run")
    writer.write_policies(example.policies)
    before = contents(writer.path)

    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        writer.write_policies(example.policies[:1])
    assert contents(writer.path) == before


def test_three_million_cells_are_written_in_the_memory_of_a_chunk(tmp_path: Path) -> None:
    """Whole, the columns take about 300 MB; a chunk's share of them a tenth of that."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path), "250000"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )

    assert int(done.stdout) < 150
