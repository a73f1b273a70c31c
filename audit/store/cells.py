"""A run's cells read a file at a time, for what looks at all of them and keeps few.

Files are in the order of the cells and hold about a million each; which sources a file has is read
from its two `src` columns once. A few files are kept decoded, since who compares two runs goes
through both in nearly the same order.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint
from audit.model.matrix import PLANES, Cells, index_type
from audit.model.probes import Probed
from audit.model.verdicts import CODE, NO_VERDICT, Blame, Verdict
from audit.store import schema
from audit.store.blames import CellBlames
from audit.store.decode import (
    CellCodes,
    EndpointIndex,
    Vocabulary,
    distinct,
    endpoint_key,
    plain,
    ports_of,
    words,
)
from audit.store.layout import reading
from audit.store.probes import Overlay, records

_COLUMNS = ("family", "protocol", "port", "port_end", "verdict", "reply", "reason", "drift")
"""What is read of all cells, beside the names of their ends."""
_TRACES = {"trace": "trace_id", "other_trace": "other_trace_id"}
_KEPT = 3
"""Decoded files that are kept: about 20 MB each."""
_SETTLED_AT_A_TIME = 1 << 20  # cells: in one go, a second array of all of them

Between = tuple[Collection[int], Collection[int]]
"""Indices of sources and of destinations."""


def _may_have(file: Path, sources: Sequence[Endpoint]) -> bool:
    """Say whether a file may have cells of some sources, by its statistics: no row is read."""
    with reading(file):
        metadata = pq.read_metadata(file)
    wanted = {(source.namespace, source.name) for source in sources}
    columns = [metadata.schema.names.index(f"src_{word}") for word in ("namespace", "name")]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        ranges = [group.column(column).statistics for column in columns]
        if any(each is None or not each.has_min_max for each in ranges):
            return True
        spans = [(each.min, each.max) for each in ranges]
        for named in wanted:
            if all(low <= n <= high for n, (low, high) in zip(named, spans, strict=True)):
                return True
    return False


class CellFiles:
    """The cells in `files`, as `audit.model.recorded.CellReader` promises them.

    `traced` cells have their traces and each plane's verdict too, the probe's of `probes`, of which
    a cell's last counts. With `plane`, a cell's verdict is that plane's. RunReadError when a file
    turns out to be damaged.
    """

    def __init__(
        self,
        files: Sequence[Path],
        endpoints: Sequence[Endpoint],
        blames: CellBlames,
        *,
        traced: bool = False,
        plane: str = "",
        probes: pa.Table | None = None,
    ) -> None:
        self.ports = ports_of(files)
        self._files = tuple(files)
        self._blames = blames
        self._traced, self._plane = traced, plane
        self._listed = tuple(endpoints)
        self._types: dict[str, np.dtype[Any] | type] = {
            **dict.fromkeys(("src", "dst"), index_type(len(endpoints))),
            **dict.fromkeys((n for n in schema.CODED if traced or n in _COLUMNS), np.uint8),
            "drift": np.uint8,
            "family": np.int8,
            "port": index_type(len(self.ports)),
        }
        self._key = endpoint_key(files)
        ends = (f"{side}_{name}" for side in ("src", "dst") for name in self._key)
        added = (*schema.CODED, *_TRACES.values()) if traced else (plane,) if plane else ()
        self._columns = list(dict.fromkeys((*ends, *_COLUMNS, *blames.columns, *added)))
        self._index = EndpointIndex(endpoints, self._key)
        self._codes = CellCodes(self._index, self.ports)
        self.overlay: Overlay | None = None
        if probes is not None:
            counts = len(endpoints), len(self.ports)
            with reading(files[0].parent.with_name(schema.PROBES.directory)):
                self.overlay = Overlay.of(probes, self._codes, counts)
        self._combinations: dict[tuple[Any, ...], int] = {}
        self._traces = Vocabulary(grow=True)
        self._file = lru_cache(maxsize=0 if traced else _KEPT)(self._read)

    @property
    def blames(self) -> Sequence[Blame]:
        """Who decided, in the order in which it was met."""
        return self._blames.of(list(self._combinations))

    @property
    def trace_keys(self) -> tuple[str, ...]:
        """What `trace` and `other_trace` index, in the order in which it was met."""
        return tuple(self._traces.words)

    def of_source(self, source: int) -> Cells:
        """Return the cells of one source."""
        firsts, lasts = self._spans
        parts = []
        for number in np.flatnonzero((firsts <= source) & (source <= lasts)).tolist():
            cells = self._file(number)
            start, end = np.searchsorted(cells.src, [source, source + 1]).tolist()
            parts.append(cells.take(slice(start, end)))
        if not parts:
            return self._file(0).take(slice(0, 0))
        return parts[0] if len(parts) == 1 else Cells.joined(parts)

    def __len__(self) -> int:
        """Return how many cells there are, which what run.json says of it does not change."""
        total = 0
        for file in self._files:
            with reading(file):
                total += pq.read_metadata(file).num_rows
        return total

    def __iter__(self) -> Iterator[Cells]:
        """Yield the cells, a file at a time."""
        for number in range(len(self._files)):
            yield self._without_lone_plane(self._file(number))

    def whole(self, between: Between | None = None) -> tuple[Cells, tuple[Blame, ...]]:
        """Return all cells, or those between ends named as these endpoints are, as one table.

        `blame` indexes what is beside it, in which each is once.
        """
        if between is None:
            parts, count = (self._read(number) for number in range(len(self._files))), len(self)
        else:
            names = [pa.array(sorted({self._listed[i].name for i in ends})) for ends in between]
            sources = [self._listed[i] for i in between[0]]
            numbers = [n for n, file in enumerate(self._files) if _may_have(file, sources)]
            chosen = [self._read(number, names) for number in numbers or [0]]
            parts, count = (part for part in chosen), sum(map(len, chosen))
        arrays: dict[str, NDArray[Any]] = {}
        end = 0
        for part in parts:
            start, end = end, end + len(part)
            for name, column in part.arrays():
                arrays.setdefault(name, np.empty(count, column.dtype))[start:end] = column
        blames: dict[Blame, int] = {}
        codes = [blames.setdefault(blame, len(blames)) for blame in self.blames]
        lookup = np.array([*codes, -1], dtype=np.int32)
        for start in range(0, count, _SETTLED_AT_A_TIME):
            settled = arrays["blame"][start : start + _SETTLED_AT_A_TIME]
            settled[:] = lookup[settled]
        return self._without_lone_plane(Cells(**arrays)), tuple(blames)

    def probed(self, cells: Cells, probes: pa.Table) -> dict[int, Probed]:
        """Return the last probe of each of some cells that has one."""
        if self.overlay is None:
            return {}
        rows, numbers = self.overlay.places(dict(cells.arrays()))
        last = records(probes, self.overlay.rows[numbers].tolist())
        return dict(zip(rows.tolist(), last, strict=True))

    @cached_property
    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first and the last source of each file; of an empty one none."""
        spans = np.full((2, len(self._files)), -1, np.int64)
        spans[0] = len(self._listed)
        for number, file in enumerate(self._files):
            with reading(file):
                table = pq.read_table(
                    file, columns=[f"src_{name}" for name in self._key], partitioning=None
                )
                if len(table):
                    ends = table.take([0, len(table) - 1])
                    spans[:, number] = self._index.places(ends, "src")
        return spans[0], spans[1]

    def _read(self, number: int, names: Sequence[pa.Array] | None = None) -> Cells:
        """Return one file, decoded; with `names`, what of it is between ends of these names."""
        file = self._files[number]
        with reading(file):
            table = pq.read_table(file, columns=self._columns, partitioning=None)
            if names is not None:
                ends = zip(("src_name", "dst_name"), names, strict=True)
                table = table.filter(
                    pc.and_(*(pc.is_in(table[side], value_set=these) for side, these in ends))
                )
            return self._decoded(table)

    def _decoded(self, table: pa.Table) -> Cells:
        codes = {
            name: column.astype(self._types.get(name, np.uint8), copy=False)
            for name, column in self._codes.of(table)
        }
        blame = self._blame(table.select(self._blames.columns))
        if self._plane:
            decided, verdict = codes["verdict"], codes[self._plane]
            verdict = np.where(verdict == NO_VERDICT, np.uint8(CODE[Verdict.UNTRACED]), verdict)
            codes |= {"verdict": verdict, "reply": np.full(len(table), NO_VERDICT, np.uint8)}
            blame = np.where(verdict == decided, blame, np.int32(-1))
        arrays = {name: codes[name] for name in self._types}
        for name, column in _TRACES.items() if self._traced else ():
            arrays[name] = self._traces.codes(words(table, column)).astype(np.int32)
        if self.overlay is not None:
            arrays |= self.overlay.on(arrays)
        return Cells(**arrays, blame=blame)

    def _blame(self, table: pa.Table) -> NDArray[np.int32]:
        """Return the index in `blames` of who decided each row, -1 for nobody."""
        codes, firsts = distinct(table)
        columns = [plain(column).to_pylist() for column in table.take(firsts).columns]
        name = table.column_names.index("blame_name")
        numbers = [
            -1 if row[name] is None else self._combinations.setdefault(row, len(self._combinations))
            for row in zip(*columns, strict=True)
        ]
        return np.array(numbers, np.int32)[codes]

    def _without_lone_plane(self, cells: Cells) -> Cells:
        """Return cells without the planes, where there is only one: it is the cell's verdict.

        Of a run that was probed all parts have the same planes.
        """
        if self.overlay is not None:
            return cells
        planes = [n for n, of in cells.arrays() if n in PLANES and (of != NO_VERDICT).any()]
        kept = set(planes) if len(planes) > 1 else set()
        kept |= {"other_trace"} if "datapath" in kept else set()
        optional = {*PLANES, "other_trace"} - kept
        return Cells(**{name: column for name, column in cells.arrays() if name not in optional})
