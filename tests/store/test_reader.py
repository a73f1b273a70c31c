"""What is not a whole run of this version is refused, with what to do about it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from audit.errors import RunReadError
from audit.store.layout import manifest_text
from audit.store.reader import open_run
from tests.store.files import open_traces

if TYPE_CHECKING:
    from tests.store.conftest import Example


def change(run: Path, **values: Any) -> None:
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_bytes(manifest_text(manifest | values))


def test_a_path_that_is_not_there_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunReadError, match="is not a run: there is no such directory"):
        open_run(tmp_path / "nothing")


def test_any_other_directory_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunReadError, match=r"is not a run: it has no run\.json"):
        open_run(tmp_path)


def test_a_run_that_was_never_finished_says_so(run_path: Path) -> None:
    (run_path / "run.json").unlink()

    with pytest.raises(RunReadError, match=r"unfinished run.*or run again"):
        open_run(run_path)


def test_another_schema_version_is_refused(run_path: Path) -> None:
    change(run_path, schema_version=99)

    with pytest.raises(RunReadError, match=r"version 99 and this audit reads 2.*run again"):
        open_run(run_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\xff"])
def test_a_damaged_manifest_is_refused(run_path: Path, text: str) -> None:
    (run_path / "run.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(RunReadError):
        open_run(run_path)


@pytest.mark.parametrize("outputs", [[], [{"path": "x"}], 7, [1]])
def test_a_manifest_that_lists_no_files_is_refused(run_path: Path, outputs: object) -> None:
    change(run_path, outputs=outputs)

    with pytest.raises(RunReadError, match="run again"):
        open_run(run_path)


def test_a_lost_part_is_refused_and_not_taken_for_fewer_cells(run_path: Path) -> None:
    (run_path / "cells" / "part-00001.parquet").unlink()

    with pytest.raises(RunReadError, match=r"part-00001\.parquet is missing"):
        open_run(run_path)


def test_a_part_cut_short_is_refused(run_path: Path) -> None:
    part = run_path / "cells" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-1])

    with pytest.raises(RunReadError, match="not as the audit wrote it"):
        open_run(run_path)


@pytest.mark.parametrize("name", ["cells/part-00001", "endpoints", "policies", "traces/b-0"])
def test_a_part_with_other_bytes_is_refused(run_path: Path, name: str) -> None:
    part = run_path / f"{name}.parquet"
    part.write_bytes(b"x" * part.stat().st_size)

    with pytest.raises(RunReadError, match=r"cannot be read.*run again"):
        open_run(run_path)


def test_cells_of_other_endpoints_are_refused(example: "Example", tmp_path: Path) -> None:
    writer = example.write(tmp_path)
    writer.write_endpoints(example.endpoints[1:])
    writer.finish({})

    with pytest.raises(RunReadError, match=r"unknown word|does not have"):
        open_run(writer.path)


def test_a_file_that_was_added_later_is_not_read(example: "Example", run_path: Path) -> None:
    part = run_path / "cells" / "part-00000.parquet"
    (run_path / "cells" / "part-00009.parquet").write_bytes(part.read_bytes())

    assert len(open_run(run_path).matrix) == len(example.matrix)


def test_a_report_rendered_again_does_not_spoil_the_run(run_path: Path) -> None:
    (run_path / "report.html").write_text("rendered again")

    assert len(open_run(run_path).matrix) == 5


def test_traces_can_be_read_while_the_run_is_written(example: "Example", tmp_path: Path) -> None:
    writer = example.write(tmp_path)

    assert open_traces(writer.path).get("t-near") is not None
