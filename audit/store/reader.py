"""Reads a finished run back as the values it was written from."""

from pathlib import Path

from audit.model.run import Run, StreamedRun
from audit.store import blames, decode, schema
from audit.store.layout import read_manifest, table_files
from audit.store.traces import TraceFiles


def open_run(path: Path | str, between: decode.Between | None = None) -> Run:
    """Return the run in directory `path`; its traces stay on disk until asked for.

    With `between`, of its cells only those between ends named as these endpoints are. Raises
    RunReadError when it is no run, unfinished, incomplete, damaged or another version's.
    """
    path = Path(path)
    manifest = read_manifest(path)
    (endpoints_file,) = table_files(path, manifest, schema.ENDPOINTS)
    (policies_file,) = table_files(path, manifest, schema.POLICIES)
    traces = TraceFiles(table_files(path, manifest, schema.TRACES))
    policies = decode.policies(policies_file)
    matrix, verdicts = decode.cells(
        table_files(path, manifest, schema.CELLS),
        decode.endpoints(endpoints_file),
        blames.Rebuilt(traces, policies).of,
        between,
    )
    return Run(
        path=str(path),
        manifest=manifest,
        matrix=matrix,
        verdicts=verdicts,
        policies=policies,
        traces=traces,
    )


def stream_run(path: Path | str) -> StreamedRun:
    """Return the run in directory `path`, its cells to be read part by part.

    Raises RunReadError as `open_run` does; a damaged cell file only when it is read.
    """
    path = Path(path)
    manifest = read_manifest(path)
    (endpoints_file,) = table_files(path, manifest, schema.ENDPOINTS)
    (policies_file,) = table_files(path, manifest, schema.POLICIES)
    cell_files = table_files(path, manifest, schema.CELLS)
    traces = TraceFiles(table_files(path, manifest, schema.TRACES))
    policies, endpoints = decode.policies(policies_file), decode.endpoints(endpoints_file)
    parts = decode.CellParts(cell_files, endpoints)
    rebuilt = blames.Rebuilt(traces, policies)
    return StreamedRun(
        path=str(manifest.get("place") or path),
        manifest=manifest,
        endpoints=endpoints,
        ports=decode.ports_of(cell_files),
        policies=policies,
        traces=traces,
        parts=parts.read,
        blames=lambda: rebuilt.of(parts.combinations),
        trace_keys=lambda: parts.trace_keys,
    )
