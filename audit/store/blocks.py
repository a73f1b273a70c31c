"""Cells by class read back: what a run of the objects alone has in place of cells.

Who reads them is promised the same as of cells in files (`audit.store.cells`). They are read once,
as classes, and made into cells a source at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.model.blocks import NO_CLASS, Blocks, Exceptions
from audit.model.endpoints import Endpoint
from audit.model.matrix import FAMILIES, Cells
from audit.model.probes import Probed
from audit.model.verdicts import CODE, NO_VERDICT, Blame, Verdict
from audit.store import schema
from audit.store.blames import CellBlames
from audit.store.cells import Between
from audit.store.decode import (
    CellCodes,
    EndpointIndex,
    PortIndex,
    Vocabulary,
    ports_of,
    words,
)
from audit.store.layout import reading
from audit.store.probes import Overlay, records


class CellBlocks:
    """Cells by class in files, by table, as `audit.model.recorded.CellReader` promises them.

    What `traced`, `plane` and `probes` are is as of `audit.store.cells.CellFiles`: nothing here was
    traced. RunReadError when a file turns out to be damaged.
    """

    def __init__(
        self,
        files: dict[str, tuple[Path, ...]],
        endpoints: Sequence[Endpoint],
        blames: CellBlames,
        *,
        traced: bool = False,
        plane: str = "",
        probes: pa.Table | None = None,
    ) -> None:
        destinations = files[schema.BLOCK_DESTINATIONS.name]
        self.ports = ports_of(destinations)
        self.trace_keys: tuple[str, ...] = ()
        self._files, self._listed = files, tuple(endpoints)
        self._traced = traced
        self._index = EndpointIndex(endpoints, schema.ENDPOINT_KEY)
        self.blocks = self._read(blames, plane)
        self.overlay: Overlay | None = None
        if probes is not None:
            counts = len(endpoints), len(self.ports)
            with reading(destinations[0].with_name(schema.PROBES.directory)):
                self.overlay = Overlay.of(probes, CellCodes(self._index, self.ports), counts)

    @property
    def blames(self) -> Sequence[Blame]:
        """Who decided."""
        return self.blocks.blames

    def of_source(self, source: int) -> Cells:
        """Return the cells of one source."""
        return self._as_read(self.blocks.of_source(source))

    def __len__(self) -> int:
        """Return how many cells there are, which what run.json says of it does not change."""
        return len(self.blocks)

    def __iter__(self) -> Iterator[Cells]:
        """Yield the cells, about a million at a time."""
        yield from map(self._as_read, self.blocks.parts())

    def whole(self, between: Between | None = None) -> tuple[Cells, tuple[Blame, ...]]:
        """Return all cells, or those between ends named as these endpoints are, as one table."""
        sources = columns = None
        if between is not None:
            names = [{self._listed[i].name for i in ends} for ends in between]
            alike = [np.array([e.name in some for e in self._listed], np.bool_) for some in names]
            sources = np.flatnonzero(alike[0]).tolist()
            columns = alike[1][self.blocks.dst]
        parts = self.blocks.parts(sources, columns)
        cells = Cells.joined([self._as_read(part) for part in (self.blocks.none, *parts)])
        return cells, tuple(self.blocks.blames)

    def probed(self, cells: Cells, probes: pa.Table) -> dict[int, Probed]:
        """Return the last probe of each of some cells that has one."""
        if self.overlay is None:
            return {}
        rows, numbers = self.overlay.places(dict(cells.arrays()))
        last = records(probes, self.overlay.rows[numbers].tolist())
        return dict(zip(rows.tolist(), last, strict=True))

    def _as_read(self, cells: Cells) -> Cells:
        """Return cells with the columns of what was not traced, and of probes."""
        none = np.broadcast_to(np.uint8(NO_VERDICT), len(cells))
        if self._traced:
            cells = replace(cells, trace=np.broadcast_to(np.int32(-1), len(cells)))
        if self.overlay is None:
            return cells
        probed = self.overlay.on(dict(cells.arrays()))
        return replace(
            cells,
            intent=cells.verdict,
            logical=none,
            datapath=none,
            probe=probed["probe"],
            drift=probed["drift"],
        )

    def _tables(self, table: schema.Table) -> Iterator[pa.Table]:
        for file in self._files[table.name]:
            with reading(file):
                yield pq.read_table(file, partitioning=None)

    def _one(self, table: schema.Table) -> pa.Table:
        """Return a table that is in one file."""
        [rows] = self._tables(table)
        return rows

    def _read(self, blames: CellBlames, plane: str) -> Blocks:
        directory = self._files[schema.BLOCK_STATES.name][0].parent
        states, (verdict, reason, blame), blame_table = self._states(blames, plane)
        destinations, sources = (
            self._one(schema.BLOCK_DESTINATIONS),
            self._one(schema.BLOCK_SOURCES),
        )
        exceptions = self._one(schema.BLOCK_EXCEPTIONS)
        with reading(directory):
            columns = self._places(destinations)
            row_class = np.full(len(self._listed), NO_CLASS, np.int32)
            source = self._index.places(sources, "src")
            _require_numbers(sources["source"].to_numpy(), source)
            row_class[source] = sources["src_class"].fill_null(NO_CLASS).to_numpy()
            column_class = destinations["dst_class"].to_numpy().astype(np.int32)
            _require_numbers(destinations["destination"].to_numpy(), np.arange(len(column_class)))
            codes = self._codes(
                int(row_class.max(initial=-1)) + 1, int(column_class.max(initial=-1)) + 1, states
            )
            src, column = (exceptions[name].to_numpy() for name in ("source", "destination"))
            _require_numbers(src, src[np.isin(src, source)])
            _require(column, len(column_class) - 1)
            code = exceptions["state"].fill_null(0).to_numpy()
            _require(code, states)
            return Blocks(
                endpoints=self._listed,
                ports=self.ports,
                **columns,
                row_class=row_class,
                column_class=column_class,
                codes=codes,
                exceptions=Exceptions(
                    src=src.astype(np.int32),
                    column=column.astype(np.int32),
                    code=code.astype(codes.dtype),
                ),
                verdict=verdict,
                reason=reason,
                blame=blame,
                blames=blame_table,
            )

    def _codes(self, rows: int, columns: int, states: int) -> NDArray[Any]:
        """Return the state of each pair of classes."""
        kind = np.uint16 if states <= np.iinfo(np.uint16).max else np.uint32
        codes = np.zeros((rows, columns), kind)
        for table in self._tables(schema.BLOCKS):
            row, column, state = (
                table[name].to_numpy() for name in ("src_class", "dst_class", "state")
            )
            _require(state, states)
            if len(row) and min(row.min(), column.min()) < 0:
                raise ValueError("a block is of no class")
            codes[row, column] = state
        return codes

    def _places(self, table: pa.Table) -> dict[str, NDArray[Any]]:
        """Return the columns that rows of a table are in."""
        family = Vocabulary(FAMILIES).codes(words(table, "family"))
        return {
            "dst": self._index.places(table, "dst").astype(np.int32),
            "family": family.astype(np.int8),
            "port": PortIndex(self.ports).places(table).astype(np.int32),
        }

    def _states(
        self, blames: CellBlames, plane: str
    ) -> tuple[int, tuple[NDArray[Any], NDArray[Any], NDArray[Any]], Sequence[Blame]]:
        """Return how many states there are, what each is, and who decided."""
        table = self._one(schema.BLOCK_STATES)
        with reading(self._files[schema.BLOCK_STATES.name][0]):
            codes = {
                name: Vocabulary(schema.CODED[name]).codes(words(table, name))
                for name in ("verdict", "intent", "reason")
            }
            combinations: dict[tuple[Any, ...], int] = {}
            blame = []
            for row in table.to_pylist():
                key = tuple(row.get(name) for name in blames.columns)
                number = (
                    combinations.setdefault(key, len(combinations))
                    if row["blame_name"] is not None
                    else -1
                )
                blame.append(number)
            if table["state"].to_pylist() != list(range(1, len(table) + 1)):
                raise ValueError("its states are not numbered from 1 on")
        verdict, whose = codes["verdict"], np.array(blame, np.int32)
        if plane:
            of_plane = codes["intent"] if plane == "intent" else np.full(len(table), -1)
            of_plane = np.where(of_plane < 0, CODE[Verdict.UNTRACED], of_plane)
            whose = np.where(of_plane == verdict, whose, -1).astype(np.int32)
            verdict = of_plane
        columns = (
            np.concatenate([[0], verdict]).astype(np.uint8),
            np.concatenate([[0], codes["reason"]]).astype(np.uint8),
            np.concatenate([[-1], whose]).astype(np.int32),
        )
        return len(table), columns, blames.of(list(combinations))


def _require(numbers: NDArray[Any], last: int) -> None:
    """Raise ValueError for a number beyond the last that there is."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() <= last):
        raise ValueError("it has a number that stands for nothing in the run")


def _require_numbers(numbers: NDArray[Any], right: NDArray[Any]) -> None:
    """Raise ValueError unless rows are numbered as they should be."""
    if not np.array_equal(numbers, right):
        raise ValueError("its rows are not numbered as the run's endpoints and columns are")
