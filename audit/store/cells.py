"""A run's cells read a file at a time, for what looks at all of them and keeps few.

Files are in the order of the cells and hold about a million each; which sources a file has is read
from its two `src` columns once. A few files are kept decoded, since who compares two runs goes
through both in nearly the same order.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.model.cells import Cells
from audit.model.endpoints import Endpoint, Port
from audit.model.matrix import index_type
from audit.model.recorded import Recorded
from audit.model.verdicts import CODE, NO_VERDICT, Blame, PolicyRef, Verdict
from audit.store import decode, schema
from audit.store.decode import ENDPOINT_KEY, CellCodes, EndpointIndex, distinct
from audit.store.layout import read_manifest, reading, table_files

_BLAME = ["blame_kind", "blame_namespace", "blame_name", "blame_direction", "blame_rule"]
_COLUMNS = [
    *(f"{side}_{name}" for side in ("src", "dst") for name in ENDPOINT_KEY),
    *("family", "protocol", "port", "port_end", "verdict", "reply", "reason", "drift"),
    *_BLAME,
]
_KEPT = 3
"""Decoded files that are kept: about 20 MB each."""


def open_recorded(path: Path | str, plane: str = "") -> Recorded:
    """Return the run in directory `path` without reading its cells.

    With `plane`, a cell's verdict is that plane's, `untraced` where it has none; its
    reply is none, and its blame too where the plane is not the one that decided.
    Raises RunReadError when it is no run, unfinished, damaged or another version's; also later,
    when a file of cells turns out to be damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    (endpoints_file,) = table_files(path, manifest, schema.ENDPOINTS)
    (policies_file,) = table_files(path, manifest, schema.POLICIES)
    files = table_files(path, manifest, schema.CELLS)
    ports = decode.ports_of(files)
    endpoints = decode.endpoints(endpoints_file)
    return Recorded(
        path=str(path),
        manifest=manifest,
        endpoints=endpoints,
        ports=ports,
        policies=decode.policies(policies_file),
        cells=CellFiles(files, endpoints, ports, plane),
    )


class CellFiles:
    """The cells in `files`, as `audit.model.recorded.CellReader` promises them."""

    def __init__(
        self,
        files: Sequence[Path],
        endpoints: Sequence[Endpoint],
        ports: Sequence[Port],
        plane: str = "",
    ) -> None:
        self._files = tuple(files)
        self._plane = plane
        self._count = len(endpoints)
        self._types: dict[str, np.dtype[Any] | type] = {
            **dict.fromkeys(("src", "dst"), index_type(len(endpoints))),
            **dict.fromkeys(("verdict", "reply", "reason", "drift"), np.uint8),
            "family": np.int8,
            "port": index_type(len(ports)),
        }
        self._endpoints = EndpointIndex(endpoints)
        self._codes = CellCodes(endpoints, ports)
        self._blames: dict[Blame, int] = {}
        self._file = lru_cache(maxsize=_KEPT)(self._read)

    @property
    def blames(self) -> Sequence[Blame]:
        """Who decided, in the order in which it was met."""
        return tuple(self._blames)

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
            yield self._file(number)

    @cached_property
    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first and the last source of each file; of an empty one none."""
        spans = np.full((2, len(self._files)), -1, np.int64)
        spans[0] = self._count
        for number, file in enumerate(self._files):
            with reading(file):
                table = pq.read_table(
                    file, columns=[f"src_{name}" for name in ENDPOINT_KEY], partitioning=None
                )
                if len(table):
                    ends = table.take([0, len(table) - 1])
                    spans[:, number] = self._endpoints.places(ends, "src")
        return spans[0], spans[1]

    def _read(self, number: int) -> Cells:
        """Return one file, decoded."""
        file = self._files[number]
        with reading(file):
            columns = [*_COLUMNS, *([self._plane] if self._plane else [])]
            table = pq.read_table(file, columns=columns, partitioning=None)
            codes = dict(self._codes.of(table))
            blame = self._blame(table.select(_BLAME))
            if self._plane:
                decided, verdict = codes["verdict"], codes[self._plane]
                verdict = np.where(verdict == NO_VERDICT, CODE[Verdict.UNTRACED], verdict)
                codes |= {"verdict": verdict, "reply": np.full(len(table), NO_VERDICT)}
                blame = np.where(verdict == decided, blame, np.int32(-1))
            return Cells(
                **{name: codes[name].astype(kind) for name, kind in self._types.items()},
                blame=blame,
            )

    def _blame(self, table: pa.Table) -> NDArray[np.int32]:
        """Return the index in `blames` of who decided each row, -1 for nobody."""
        blamed = table["blame_name"].is_valid()
        some = table.filter(blamed)
        codes, firsts = distinct(some)
        met = [_blame_of(**row) for row in some.take(firsts).to_pylist()]
        numbers = [self._blames.setdefault(blame, len(self._blames)) for blame in met]
        indices = np.full(len(table), -1, np.int32)
        indices[blamed.to_numpy()] = np.array(numbers, np.int32)[codes]
        return indices


def _blame_of(
    *,
    blame_kind: str | None,
    blame_namespace: str | None,
    blame_name: str,
    blame_direction: str | None,
    blame_rule: int | None,
) -> Blame:
    """Return what a cell itself says of who decided; the ACL and the flow are in its trace."""
    policy = (
        PolicyRef(kind=blame_kind, namespace=blame_namespace or "", name=blame_name)
        if blame_kind
        else None
    )
    return Blame(
        action="",
        direction=blame_direction or "",
        policy=policy,
        rule=-1 if blame_rule is None else blame_rule,
        owner="" if policy else blame_name,
    )
