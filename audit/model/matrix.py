"""The matrix, its verdicts, and cells as readers hand them on: columnar, for there are N²."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, Port
from audit.model.packets import Family
from audit.model.verdicts import CODE, NO_VERDICT, PASSES, UNPROVEN, Blame

FAMILIES: tuple[Family, ...] = tuple(Family)

PLANES = ("intent", "logical", "datapath", "probe")
"""What a cell's verdict may come from, and the columns that say so."""

Indices = NDArray[np.signedinteger[Any]]
"""Indices into a table: as narrow as the table allows, for there are N² of them."""


_PASSES = [CODE[verdict] for verdict in PASSES]
_UNPROVEN = [*(CODE[verdict] for verdict in UNPROVEN), NO_VERDICT]


def among(codes: NDArray[np.uint8], wanted: Iterable[int]) -> NDArray[np.bool_]:
    """Say which codes are among a few: np.isin takes eight bytes for each of N² of them."""
    some = np.zeros(codes.shape, dtype=np.bool_)
    for code in wanted:
        some |= codes == code
    return some


def passing(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which of these verdicts' codes let a packet pass, as far as OVN goes."""
    return among(codes, _PASSES)


def proven(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which of these verdicts' codes are proven ones."""
    return ~among(codes, _UNPROVEN)


def where_known(certain: NDArray[np.bool_], holds: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return 1 where something holds and 0 where not; NO_VERDICT where that is not certain."""
    return np.where(certain, holds, np.uint8(NO_VERDICT))


def located(wanted: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of these is in `among`, which is sorted; -1 where it is not."""
    if not among.size:
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    return np.where(among[places] == wanted, places, np.int64(-1))


def members_of(classes: NDArray[np.signedinteger[Any]]) -> list[NDArray[np.int64]]:
    """Return the members of each class, those of class -1 left out."""
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes + 1)
    return np.split(order, np.cumsum(counts)[:-1])[1:] if len(counts) else []


def index_type(count: int) -> type[np.signedinteger[Any]]:
    """Return the type of indices into a table of `count` entries."""
    return np.int16 if count <= np.iinfo(np.int16).max else np.int32


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Every cell of a run: five parallel arrays of length N into the tables beside them.

    Sorted by (src, dst, family, port); `family` indexes FAMILIES. No cell is listed twice.
    """

    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    src: Indices
    dst: Indices
    family: NDArray[np.int8]
    port: Indices

    def __len__(self) -> int:
        return len(self.src)

    def describe(self, cell: int) -> str:
        """Return a cell as a sentence begins with it: `pod a/b to pod a/c on tcp/80`.

        Where the pair was asked about in both families, `… on tcp/80 over ip4`.
        """
        src, dst = self.endpoints[self.src[cell]], self.endpoints[self.dst[cell]]
        # A pair's cells stand together, at most two for a port.
        reach = len(FAMILIES) * len(self.ports)
        near = slice(max(0, cell - reach), cell + reach + 1)
        pair = (self.src[near] == self.src[cell]) & (self.dst[near] == self.dst[cell])
        both = len(np.unique(self.family[near][pair])) > 1
        over = f" over {FAMILIES[self.family[cell]]}" if both else ""
        return f"{src.key} to {dst.key} on {self.ports[self.port[cell]]}{over}"

    def about(self, cell: int) -> tuple[str, str, str]:
        """Return what a cell is in any run: the workloads of its ends, and the port."""
        src, dst = self.endpoints[self.src[cell]], self.endpoints[self.dst[cell]]
        return src.belongs_to, dst.belongs_to, str(self.ports[self.port[cell]])


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVerdicts:
    """What is known about each cell of a Matrix: parallel arrays of length N.

    `verdict` and `reply` are codes into VERDICTS (`reply` may be NO_VERDICT: there is no reply
    to trace), `reason` into REASONS, `blame` into `blames` (-1: none), `trace` into `trace_keys`
    (-1: the cell was not traced).

    With several planes, `intent`, `logical`, `datapath` and `probe` are what each says (NO_VERDICT
    where it was not asked, `probe` of most cells), `drift` is 1 where they disagree (NO_VERDICT
    where one proves nothing), and `other_trace` the trace of the plane that `trace` is not of. None
    where only one was asked.
    """

    verdict: NDArray[np.uint8]
    reply: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    blame: NDArray[np.int32]
    trace: NDArray[np.int32]
    blames: Sequence[Blame]
    trace_keys: Sequence[str]
    intent: NDArray[np.uint8] | None = None
    logical: NDArray[np.uint8] | None = None
    datapath: NDArray[np.uint8] | None = None
    probe: NDArray[np.uint8] | None = None
    drift: NDArray[np.uint8] | None = None
    other_trace: NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls, cells: "Cells", blames: Sequence[Blame], trace_keys: Sequence[str]
    ) -> "CellVerdicts":
        """Return what is known about cells that were read with all their columns."""
        names = (field.name for field in fields(cls) if field.name in _COLUMNS)
        columns = {name: getattr(cells, name) for name in names}
        several = any(columns[plane] is not None for plane in PLANES)
        columns["drift"] = cells.drift if several else None
        return cls(**columns, blames=blames, trace_keys=trace_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many cells have each verdict for each reason: parallel arrays, of what occurs.

    Codes are those of CellVerdicts.
    """

    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, verdict: NDArray[np.uint8], reason: NDArray[np.uint8]) -> "Counted":
        """Count cells, given one by one."""
        counts = np.zeros(1 << 16, np.int64)
        for start in range(0, len(verdict), _COUNTED_AT_A_TIME):
            some = slice(start, start + _COUNTED_AT_A_TIME)
            keys = verdict[some].astype(np.uint16) << 8 | reason[some]
            counts += np.bincount(keys, minlength=len(counts))
        return cls.by_key(counts)

    @classmethod
    def by_key(cls, counts: NDArray[np.int64]) -> "Counted":
        """Return what was counted by numbers: a verdict's times 256, and a reason's."""
        keys = np.flatnonzero(counts)
        return cls(
            verdict=(keys >> 8).astype(np.uint8),
            reason=(keys & 0xFF).astype(np.uint8),
            cells=counts[keys],
        )

    def __len__(self) -> int:
        """Return how many cells there are."""
        return int(self.cells.sum())


_COUNTED_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Parallel arrays, sorted by (src, dst, family, port): those of Matrix and CellVerdicts.

    Codes are those of `audit.model.matrix`. `blame` and `trace` index tables of whoever reads the
    cells; -1 is none. `drift` is 1 where planes disagree, NO_VERDICT where they cannot be compared.
    None is a plane that was not asked, or what was not read.
    """

    src: Indices
    dst: Indices
    family: NDArray[np.int8]
    port: Indices
    verdict: NDArray[np.uint8]
    reply: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    drift: NDArray[np.uint8]
    blame: NDArray[np.int32]
    trace: NDArray[np.int32] | None = None
    other_trace: NDArray[np.int32] | None = None
    intent: NDArray[np.uint8] | None = None
    logical: NDArray[np.uint8] | None = None
    datapath: NDArray[np.uint8] | None = None
    probe: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.src)

    def take(self, rows: slice | NDArray[np.int64]) -> "Cells":
        """Return some of these cells; of a slice without copying."""
        return Cells(**{name: of[rows] for name, of in self.arrays()})

    def matrix(self, endpoints: tuple[Endpoint, ...], ports: tuple[Port, ...]) -> Matrix:
        """Return a matrix of these cells, whose indices are of these tables."""
        return Matrix(
            endpoints=endpoints,
            ports=ports,
            src=self.src,
            dst=self.dst,
            family=self.family,
            port=self.port,
        )

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the arrays that there are, by name."""
        for name in _COLUMNS:
            if (column := getattr(self, name)) is not None:
                yield name, column

    @staticmethod
    def joined(parts: Sequence["Cells"]) -> "Cells":
        """Return the cells of all parts, which have the same columns, as one table."""
        names = [name for name, _ in parts[0].arrays()]
        columns = {name: [getattr(part, name) for part in parts] for name in names}
        return Cells(**{name: np.concatenate(arrays) for name, arrays in columns.items()})


_COLUMNS = tuple(field.name for field in fields(Cells))
