"""Probes beside a finished run's cells: how they are added to it, and how readers have them.

The cells' files stay as they were written. Each call of `audit probe` adds a file, which `run.json`
lists from then on, with what the probes come to.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.model.matrix import FAMILIES, Matrix
from audit.model.probes import Probe, Probed
from audit.model.verdicts import NO_VERDICT
from audit.store.decode import CellCodes
from audit.store.files import replacing, writing
from audit.store.layout import MANIFEST, digest, manifest_text, read_manifest, reading
from audit.store.schema import PROBES

_COMPRESSION = "zstd"


def write(run: Path, matrix: Matrix, probes: Sequence[Probe], now: dt.datetime) -> str:
    """Write probes of cells of `matrix` into a run; return the file's name, which is not listed."""
    name = f"{PROBES.directory}/{now.astimezone(dt.UTC):%Y%m%dT%H%M%S%fZ}.parquet"
    rows = pa.Table.from_pylist([_row(matrix, probe) for probe in probes], schema=PROBES.schema)
    with writing(run / name):
        (run / PROBES.directory).mkdir(exist_ok=True)
    with replacing(run / name) as file:
        pq.write_table(rows, file, compression=_COMPRESSION)
    return name


def amend(run: Path, name: str, amended: Mapping[str, Any]) -> None:
    """List a file of probes in `run.json`, and replace what that says by the names of `amended`.

    A run that is signed is not for this: its signature is over `run.json`.
    """
    manifest = {**read_manifest(run), **amended}
    outputs = [*manifest["outputs"], {"path": name, **digest(run, name)}]
    manifest["outputs"] = sorted(outputs, key=lambda output: str(output["path"]))
    with replacing(run / MANIFEST) as file:
        file.write(manifest_text(manifest))


def _row(matrix: Matrix, probe: Probe) -> dict[str, Any]:
    cell = probe.cell
    port = matrix.ports[matrix.port[cell]]
    ends = {"src": matrix.endpoints[matrix.src[cell]], "dst": matrix.endpoints[matrix.dst[cell]]}
    named = {
        f"{side}_{name}": str(getattr(end, attribute))
        for side, end in ends.items()
        for name, attribute in (
            *((name, name) for name in ("kind", "namespace", "name", "node")),
            ("network", "network_name"),
        )
    }
    return {
        **named,
        "family": str(FAMILIES[matrix.family[cell]]),
        "protocol": str(port.protocol),
        "port": port.number,
        "port_end": port.sample,
        "response": str(probe.connection.response),
        "expected": str(probe.expected),
        "expected_reply": probe.expected_reply and str(probe.expected_reply),
        "verdict": str(probe.verdict),
        "drift": probe.drift,
        "meaning": probe.meaning,
        "client": probe.connection.client,
        "detail": probe.connection.detail,
        "address": probe.address,
        "probed_port": probe.port,
        "tried_at": probe.at.astimezone(dt.UTC).isoformat(),
    }


def read(files: Iterable[Path]) -> pa.Table | None:
    """Return the rows of all files, the earliest first; None where there is no file."""
    tables = []
    for file in files:
        with reading(file):
            tables.append(pq.read_table(file, partitioning=None))
    return pa.concat_tables(tables, promote_options="default") if tables else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """Probes as columns beside cells, of a cell the last: a verdict for few, and its drift.

    All arrays have length K, sorted by `keys`: one number that names a cell, as cells are sorted.
    `rows` are places in the table that they were read of.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.int64]
    verdict: NDArray[np.uint8]
    drift: NDArray[np.uint8]
    columns: Mapping[str, NDArray[Any]]
    """What names the cells: `src`, `dst`, `family` and `port`, as in Matrix."""
    counts: tuple[int, int]

    @classmethod
    def of(cls, probes: pa.Table, codes: CellCodes, counts: tuple[int, int]) -> Self:
        """Return the last probe of each cell; `counts` are the run's endpoints and ports.

        ValueError when a probe is of what the run does not have.
        """
        columns = dict(codes.of(probes))
        keys, places = np.unique(_keys(columns, counts)[::-1], return_index=True)
        rows = probes.num_rows - 1 - places
        verdict = columns["verdict"][rows].astype(np.uint8)
        drift = columns["drift"][rows].astype(np.uint8)
        named = {name: columns[name][rows] for name in ("src", "dst", "family", "port")}
        return cls(keys=keys, rows=rows, verdict=verdict, drift=drift, columns=named, counts=counts)

    def on(self, cells: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.uint8]]:
        """Return the columns `probe` and `drift` of some cells, which are sorted."""
        cell, number = self.places(cells)
        probe = np.full(len(cells["src"]), NO_VERDICT, np.uint8)
        probe[cell] = self.verdict[number]
        drift = cells["drift"].copy()
        earlier, probed = drift[cell], self.drift[number]
        unknown = earlier == NO_VERDICT
        drift[cell] = np.where(unknown | (probed == 1), probed, earlier)
        return {"probe": probe, "drift": drift}

    def places(self, cells: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return which of some cells, sorted, were probed, and the number of the probe of each."""
        keys = _keys(cells, self.counts)
        at = np.searchsorted(keys, self.keys)
        there = np.zeros(len(at), np.bool_)
        inside = at < len(keys)
        there[inside] = keys[at[inside]] == self.keys[inside]
        return at[there], np.flatnonzero(there)


def _keys(cells: Mapping[str, NDArray[Any]], counts: tuple[int, int]) -> NDArray[np.int64]:
    """Return one number per cell that names it."""
    endpoints, ports = counts
    keys = cells["src"].astype(np.int64)
    for name, count in (("dst", endpoints), ("family", len(FAMILIES)), ("port", ports)):
        keys = keys * count + cells[name]
    return keys


def records(probes: pa.Table, rows: Sequence[int]) -> list[Probed]:
    """Return some rows of the table of probes."""
    taken = probes.take(list(rows)).to_pylist()
    return [
        Probed(
            response=row["response"],
            expected=row["expected"],
            expected_reply=row["expected_reply"],
            verdict=row["verdict"],
            drift=row["drift"],
            client=row["client"],
            detail=row["detail"],
            meaning=row["meaning"],
            address=row["address"],
            port=row["probed_port"],
            at=row["tried_at"],
        )
        for row in taken
    ]
