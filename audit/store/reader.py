"""Reads a finished run back as the values it was written from.

A run is opened with all its cells in memory (`open_run`), with its traces but its cells part by
part (`stream_run`), or for its cells alone (`open_recorded`). All raise RunReadError when it is no
run, unfinished, incomplete, damaged or another version's; of cells on disk when they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from audit.model.endpoints import Endpoint
from audit.model.facts import Policy
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.probes import Probed
from audit.model.recorded import Recorded
from audit.model.run import Run, StreamedRun
from audit.store import blames, decode, probes, schema
from audit.store.blocks import CellBlocks
from audit.store.cells import Between, CellFiles
from audit.store.layout import read_manifest, table_files
from audit.store.traces import TraceFiles


@dataclass(frozen=True)
class _Directory:
    """The tables of the run in a directory."""

    path: Path
    manifest: Mapping[str, Any]

    def files(self, table: schema.Table) -> tuple[Path, ...]:
        """Return the files of a table."""
        return table_files(self.path, self.manifest, table)

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its endpoints, in order."""
        return decode.endpoints(*self.files(schema.ENDPOINTS))

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """Its policies, in order."""
        return decode.policies(*self.files(schema.POLICIES))

    @cached_property
    def traces(self) -> TraceFiles:
        """Its traces; they stay on disk until asked for."""
        return TraceFiles(self.files(schema.TRACES))

    @cached_property
    def probes(self) -> pa.Table | None:
        """Its probes, the earliest first; None when it was not probed."""
        return probes.read(self.files(schema.PROBES))

    def cells(self) -> CellFiles | CellBlocks:
        """Return its cells with their traces, and who decided as far as traces tell."""
        rebuilt = blames.Rebuilt(self.traces, self.policies)
        return self._cells(rebuilt, traced=True, probes=self.probes)

    def decided_cells(
        self, plane: str = "", probed: pa.Table | None = None
    ) -> CellFiles | CellBlocks:
        """Return its cells without their traces, and who decided as far as cells tell."""
        return self._cells(blames.Named(), plane=plane, probes=probed)

    def _cells(
        self,
        deciding: blames.CellBlames,
        *,
        traced: bool = False,
        plane: str = "",
        probes: pa.Table | None = None,
    ) -> CellFiles | CellBlocks:
        """Return its cells, however it has them."""
        if not self.files(schema.BLOCKS):
            return CellFiles(
                self.files(schema.CELLS),
                self.endpoints,
                deciding,
                traced=traced,
                plane=plane,
                probes=probes,
            )
        return CellBlocks(
            {table.name: self._there(table) for table in schema.BY_CLASS},
            self.endpoints,
            deciding,
            traced=traced,
            plane=plane,
            probes=probes,
        )

    def _there(self, table: schema.Table) -> tuple[Path, ...]:
        """Return the files of a table that goes with blocks: RunReadError when it has none."""
        return table_files(self.path, self.manifest, replace(table, optional=False))


def _opened(path: Path | str) -> _Directory:
    return _Directory(Path(path), read_manifest(Path(path)))


def open_run(path: Path | str, between: Between | None = None) -> Run:
    """Return the run in directory `path`; its traces stay on disk until asked for.

    With `between`, of its cells only those between ends named as these endpoints are.
    """
    run = _opened(path)
    files = run.cells()
    cells, deciders = files.whole(between)
    return Run(
        path=str(run.path),
        manifest=run.manifest,
        matrix=cells.matrix(run.endpoints, files.ports),
        verdicts=CellVerdicts.of(cells, deciders, files.trace_keys),
        policies=run.policies,
        traces=run.traces,
        probes={} if run.probes is None else files.probed(cells, run.probes),
    )


def stream_run(path: Path | str) -> StreamedRun:
    """Return the run in directory `path`, its cells to be read part by part."""
    run = _opened(path)
    cells = run.cells()
    return StreamedRun(
        path=str(run.manifest.get("place") or run.path),
        manifest=run.manifest,
        endpoints=run.endpoints,
        ports=cells.ports,
        policies=run.policies,
        traces=run.traces,
        parts=lambda: iter(cells),
        blames=lambda: cells.blames,
        trace_keys=lambda: cells.trace_keys,
        blocks=cells.blocks if isinstance(cells, CellBlocks) and cells.overlay is None else None,
    )


def open_probes(path: Path, name: str) -> tuple[Matrix, list[Probed]]:
    """Return the cells of a run that were probed, and of each the last probe, in their order.

    `name` is a file of probes that its run.json does not list yet. As long as the arrays of the
    matrix is the list; there are few of them.
    """
    run = _opened(path)
    table = probes.read((*run.files(schema.PROBES), path / name))
    assert table is not None  # noqa: S101 - there is a file
    cells = run.decided_cells(probed=table)
    overlay = cells.overlay
    assert overlay is not None  # noqa: S101 - there are probes
    matrix = Matrix(endpoints=run.endpoints, ports=cells.ports, **overlay.columns)
    return matrix, probes.records(table, overlay.rows.tolist())


def open_recorded(path: Path | str, plane: str = "") -> Recorded:
    """Return the run in directory `path` without reading its cells, nor its traces.

    With `plane`, a cell's verdict is that plane's, `untraced` where it has none; its
    reply is none, and its blame too where the plane is not the one that decided.
    """
    run = _opened(path)
    cells = run.decided_cells(plane)
    return Recorded(
        path=str(run.path),
        manifest=run.manifest,
        endpoints=run.endpoints,
        ports=cells.ports,
        policies=run.policies,
        cells=cells,
    )
