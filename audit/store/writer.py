"""Writes a run directory, so that what stands there is always whole.

Every file is written beside its place and renamed into it: a reader never sees half of one, and a
batch that is traced again replaces its file instead of doubling its rows. `run.json` comes last
and lists all the others with size and hash; a directory without it is not a run. With `plan.json`,
which comes first, it is one that can be gone on with. The same input gives the same bytes: nothing
here asks for the time.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.errors import OutputError
from audit.model.blocks import Blocks
from audit.model.endpoints import Endpoint
from audit.model.facts import Policy
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.run import TraceRecord
from audit.store import by_class, encode, plain, schema
from audit.store.files import PARTIAL, replacing, sync_directory, writing
from audit.store.layout import MANIFEST, PLAN, digest, manifest_text

CELLS_PER_FILE = 1_000_000
"""One file is one row group is one chunk in memory: about 200 MB while it is made."""
TRACES_PER_ROW_GROUP = 64
"""Small, because a reader that wants one trace, or merges batches, holds a whole row group of
raw text."""
DICTIONARY_BYTES = 64 << 20
"""Above this a column falls back from its dictionary to plain text. Parquet's own limit, 1 MB, is
less than the names of a large cluster's traces."""


_BEGUN = ".????????T??????Z-????.partial"
"""A run's directory until its plan is in it."""


class RunWriter:
    """One run directory being written: `write_*` in any order, then `finish` or `leave`.

    Every method raises OutputError, with the path and the cause, when the directory cannot be
    written or the disk is full.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        """Raise OutputError when something is in `root/run_id`, or it cannot be made.

        It is made with its plan: a writer that is killed before leaves nothing below `root`.
        """
        self.path = root / _file_name(run_id)
        self._made_root = not root.exists()
        with writing(self.path):
            occupied = self.path.is_dir() and any(self.path.iterdir())
            if not occupied:
                self._begun.mkdir(parents=True)
                self._begun.rmdir()
        if occupied:
            raise OutputError(f"cannot write {self.path}: it is not empty; give the run another id")

    @property
    def _begun(self) -> Path:
        return self.path.with_name(f".{self.path.name}.partial")

    @classmethod
    def again(cls, path: Path) -> Self:
        """Return the writer of an unfinished run that goes on; its traces stay as they are.

        What is made anew at the end, and what a writer that was killed has left, is removed.
        RunReadError when it holds what no writer makes, as links, which would lead elsewhere.
        """
        plain.require_all(path)
        tidy(path)
        self = cls.__new__(cls)
        self.path, self._made_root = path, False
        with writing(path):
            for directory in (schema.CELLS.directory, schema.BLOCKS.directory):
                if (path / directory).exists():
                    shutil.rmtree(path / directory)
            for table in schema.BY_CLASS:
                if not table.directory:
                    (path / table.pattern).unlink(missing_ok=True)
        return self

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Make the directory, with what is going to be done, by which the run can be resumed."""
        with writing(self.path):
            self._begun.mkdir()
        self._write_json(self._begun / PLAN, {**plan, "schema_version": schema.SCHEMA_VERSION})
        with writing(self.path):
            self._begun.rename(self.path)
            sync_directory(self.path.parent)

    def write_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """Write the endpoints; their order must be that of `Matrix.endpoints`."""
        self._write(schema.ENDPOINTS.pattern, encode.endpoints(endpoints))

    def write_policies(self, policies: Sequence[Policy]) -> None:
        """Write the policies."""
        self._write(schema.POLICIES.pattern, encode.policies(policies))

    def write_traces(self, batch_name: str, records: Sequence[TraceRecord]) -> None:
        """Write one batch as one file; the same name again replaces it."""
        name = f"{schema.TRACES.directory}/{_file_name(batch_name)}.parquet"
        self._write(name, encode.traces(records), row_group=TRACES_PER_ROW_GROUP)

    def write_cells(
        self,
        matrix: Matrix,
        verdicts: CellVerdicts,
        predicted: NDArray[np.uint8] | None = None,
        *,
        chunk: int = CELLS_PER_FILE,
    ) -> None:
        """Write every cell, `chunk` of them per file and in memory at a time.

        `predicted` are codes of what the planner foresaw. Where no plane has verdicts of its own,
        `verdict` is what the logical one said.
        """
        if verdicts.intent is verdicts.logical is verdicts.datapath is None:
            verdicts = replace(verdicts, logical=verdicts.verdict)
        for part, table in enumerate(encode.cells(matrix, verdicts, predicted, chunk=chunk)):
            self._write(f"{schema.CELLS.directory}/part-{part:05}.parquet", table)

    def write_blocks(self, blocks: Blocks) -> None:
        """Write every cell by class."""
        for name, table in by_class.tables(blocks):
            self._write(name, table)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Make the directory a run: write `manifest` and the list of files as `run.json`."""
        with writing(self.path):
            traced = any(self.path.glob(schema.TRACES.pattern))
        if not traced:
            self.write_traces("none", ())  # so that SQL finds the table, without rows
        with writing(self.path):
            outputs = list(self._outputs())
        whole = {**manifest, "schema_version": schema.SCHEMA_VERSION, "outputs": outputs}
        with replacing(self.path / MANIFEST) as file:
            file.write(manifest_text(whole))

    def leave(self) -> bool:
        """End without a run: say whether traces are kept, by which it can be resumed.

        The directory is removed when there are none. Never raises: an error brought us here.
        """
        if not (self.path / PLAN).exists() or not any(self.path.glob(schema.TRACES.pattern)):
            self.abandon()
            return False
        return True

    def abandon(self) -> None:
        """Remove the directory, unless it became a run. Never raises: an error brought us here."""
        if (self.path / MANIFEST).exists():
            return
        for directory in (self.path, self._begun):
            shutil.rmtree(directory, ignore_errors=True)
        if self._made_root:
            with suppress(OSError):
                self.path.parent.rmdir()  # fails, rightly, when another run is in it

    def _write(self, name: str, table: pa.Table, *, row_group: int | None = None) -> None:
        """Write `table` to `name` in the run directory; one row group unless told otherwise."""
        path = self.path / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                row_group_size=row_group or max(table.num_rows, 1),
                dictionary_pagesize_limit=DICTIONARY_BYTES,
            )

    @staticmethod
    def _write_json(path: Path, value: Mapping[str, Any]) -> None:
        with replacing(path) as file:
            text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
            # A file's name may be no Unicode, and is to be found by it again: JSON escapes that so.
            file.write(text.encode("utf-8", "backslashreplace"))

    def _outputs(self) -> Iterator[dict[str, str | int]]:
        """Yield every file of the run, sorted: its path in the run, size and SHA-256."""
        for name, _ in plain.entries(self.path):
            if name != MANIFEST:
                yield {"path": name, **digest(self.path, name)}


def tidy(path: Path) -> None:
    """Remove what a writer that was killed has left half-written in a run."""
    with writing(path):
        for partial in path.rglob(PARTIAL):
            partial.unlink()


def sweep(root: Path) -> None:
    """Remove what writers that were killed as they made their directory have left below `root`."""
    for begun in root.glob(_BEGUN):
        if not begun.is_symlink():
            with suppress(OSError):  # it holds something else: no writer made it
                for name in (PLAN, f".{PLAN}.partial"):
                    (begun / name).unlink(missing_ok=True)
                begun.rmdir()


def _file_name(name: str) -> str:
    """Return `name` if it names one file or directory here, and not a place elsewhere."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"{name!r} cannot be the name of a file in a run")
    return name
