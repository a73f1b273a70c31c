"""Several runs below one directory: which there are, and SQL over all of them at once."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from audit.errors import OutputError, RunReadError, UsageError
from audit.model import findings
from audit.model.history import SCOPED, Exposed, Kept, Left
from audit.store import plain, query
from audit.store.evidence import REPORT
from audit.store.layout import MANIFEST, PLAN, read_manifest, reading, table_files
from audit.store.schema import TABLES

_RUNS = pa.schema(
    [
        ("run", pa.string()),
        ("started", pa.string()),
        ("source", pa.string()),
        *((name, pa.int64()) for name in ("cells", "reachable", "exits", "blocked")),
        *((name, pa.int64()) for name in ("unroutable", "inconclusive", "untraced")),
        *((name, pa.int64()) for name in ("proven", "drifting", "findings", "traces")),
        *((name, pa.int64()) for name in ("pairs", "passing")),
    ]
)
_EXPOSURE = pa.schema(
    [
        ("run", pa.string()),
        ("namespace", pa.string()),
        *((name, pa.int64()) for name in ("passes", "proven", "cells")),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The runs below a directory, oldest first, why others there cannot be read, and the rest."""

    runs: tuple[Kept, ...]
    skipped: tuple[str, ...]
    left: tuple[Left, ...]


def find(root: Path) -> Found:
    """Return the finished runs right below `root`; RunReadError when it is no directory."""
    if not root.is_dir():
        raise RunReadError(f"{root} is no directory of runs; name what `audit run --out` was given")
    runs, skipped = [], []
    for path in sorted(child for child in root.iterdir() if (child / MANIFEST).is_file()):
        try:
            runs.append(_kept(path, read_manifest(path)))
        except RunReadError as error:
            skipped.append(str(error))
        except _NOT_SAID as error:
            skipped.append(f"{path / MANIFEST} does not say what a run says: {error!r}")
    return Found(
        runs=tuple(sorted(runs, key=lambda r: (r.started, r.run))),
        skipped=tuple(skipped),
        left=tuple(_left(root)),
    )


def _left(root: Path) -> Iterator[Left]:
    """Yield what began as a run and is none: it has a plan, which says when."""
    for path in sorted(child for child in root.iterdir() if (child / PLAN).is_file()):
        if not (path / MANIFEST).exists():
            try:
                plan = json.loads(plain.read(path, PLAN))
                started = dt.datetime.fromisoformat(plan["started"])
            except (OSError, *_NOT_SAID):
                continue  # who cannot say when it began is not known to be old
            if started.tzinfo is not None:
                yield Left(path=str(path), started=started.isoformat())


_NOT_SAID = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What it ends in to read a JSON that is not ours."""


def _kept(path: Path, manifest: Any) -> Kept:  # noqa: ANN401 - JSON
    counts = {str(name): int(count) for name, count in manifest["counts"].items()}
    pairs = manifest.get("pairs")
    started = str(manifest["started"])
    if dt.datetime.fromisoformat(started).tzinfo is None:
        raise ValueError(f"started is {started!r}, which has no time zone")
    return Kept(
        path=str(path),
        run=str(manifest["run_id"]),
        started=started,
        source=str(manifest.get("source") or ""),
        scope=json.dumps([manifest.get(name) for name in SCOPED], sort_keys=True),
        counts=counts,
        proven=int(manifest["coverage"]["proven"]),
        drifting=int(manifest.get("drifting") or 0),
        findings=len(findings.recorded(manifest)),
        pairs=None if pairs is None else int(pairs["total"]),
        passing=None if pairs is None else int(pairs["passing"]),
        exposure=_exposure(manifest.get("exposure") or {}),
        seconds=None if manifest.get("seconds") is None else float(manifest["seconds"]),
        report=any(output["path"] == REPORT for output in manifest.get("outputs") or ()),
    )


def _exposure(recorded: Mapping[str, Any]) -> dict[str, Exposed]:
    return {
        str(namespace): Exposed(**{name: int(count) for name, count in counts.items()})
        for namespace, counts in recorded.items()
    }


def remove(paths: Sequence[str]) -> None:
    """Delete runs: first what makes each a run, so that half of one is never taken for one."""
    for path in map(Path, paths):
        try:
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be removed: {error.strerror}") from error


def ask(runs: Sequence[Kept], sql: str) -> tuple[list[str], Iterator[tuple[query.Plain, ...]]]:
    """Run `sql` on all these runs: the tables of one with a column `run`, `runs` and `exposure`.

    Raises UsageError with DuckDB's sentence when the SQL is wrong.
    """
    if not runs:
        raise UsageError("there is no run to ask")
    connection = duckdb.connect(":memory:", config=dict(query.SANDBOX))
    rows = [{"run": r.run, "started": r.started, "source": r.source, **r.numbers} for r in runs]
    connection.register("runs", pa.Table.from_pylist(rows, schema=_RUNS))
    rows = [
        {"run": r.run, "namespace": name, **asdict(exposed)}
        for r in runs
        for name, exposed in r.exposure.items()
    ]
    connection.register("exposure", pa.Table.from_pylist(rows, schema=_EXPOSURE))
    for table in TABLES:
        parts = []
        for number, run in enumerate(runs):
            path = Path(run.path)
            files = table_files(path, read_manifest(path), table)
            with reading(path):
                rows = query.rows_of(files, table)
            connection.register(f"{table.name}_{number}", rows)
            quoted = run.run.replace("'", "''")
            parts.append(f"SELECT '{quoted}' AS run, * FROM {table.name}_{number}")  # noqa: S608
        connection.execute(f"CREATE VIEW {table.name} AS {' UNION ALL '.join(parts)}")
    return query.run_locked(connection, sql)
