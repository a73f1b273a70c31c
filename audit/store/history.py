"""Several runs below one directory: which there are, and SQL over all of them at once."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from audit.errors import OutputError, RunReadError, UsageError
from audit.model.history import Kept
from audit.store import query
from audit.store.layout import MANIFEST, read_manifest, reading, table_files
from audit.store.schema import TABLES

_RUNS = pa.schema(
    [
        ("run", pa.string()),
        ("started", pa.string()),
        ("source", pa.string()),
        *((name, pa.int64()) for name in ("cells", "reachable", "exits", "blocked")),
        *((name, pa.int64()) for name in ("unroutable", "inconclusive", "untraced")),
        *((name, pa.int64()) for name in ("proven", "drifting", "findings", "traces")),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The runs below a directory, oldest first, and why others there cannot be read."""

    runs: tuple[Kept, ...]
    skipped: tuple[str, ...]


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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            skipped.append(f"{path / MANIFEST} does not say what a run says: {error!r}")
    return Found(runs=tuple(sorted(runs, key=lambda r: (r.started, r.run))), skipped=tuple(skipped))


def _kept(path: Path, manifest: Any) -> Kept:  # noqa: ANN401 - JSON
    counts = {str(name): int(count) for name, count in manifest["counts"].items()}
    checks = [manifest.get(name) or {} for name in ("verify", "prediction", "packets")]
    return Kept(
        path=str(path),
        run=str(manifest["run_id"]),
        started=str(manifest["started"]),
        source=str(manifest.get("source") or ""),
        scope=json.dumps([manifest.get("scope"), manifest.get("planes")], sort_keys=True),
        counts=counts,
        proven=int(manifest["coverage"]["proven"]),
        drifting=int((manifest.get("drift") or {}).get("cells", 0)),
        findings=len(manifest.get("findings") or ())
        + sum(len(check.get("disagreements", ())) for check in checks),
    )


def remove(runs: Sequence[Kept]) -> None:
    """Delete runs: first what makes each a run, so that half of one is never taken for one."""
    for run in runs:
        path = Path(run.path)
        try:
            (path / MANIFEST).unlink()
            shutil.rmtree(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be removed: {error.strerror}") from error


def ask(runs: Sequence[Kept], sql: str) -> tuple[list[str], Iterator[tuple[query.Plain, ...]]]:
    """Run `sql` on all these runs: the tables of one, each with a column `run`, and `runs`.

    Raises UsageError with DuckDB's sentence when the SQL is wrong.
    """
    if not runs:
        raise UsageError("there is no run to ask")
    connection = duckdb.connect(":memory:", config=dict(query.SANDBOX))
    rows = [{"run": r.run, "started": r.started, "source": r.source, **r.numbers} for r in runs]
    connection.register("runs", pa.Table.from_pylist(rows, schema=_RUNS))
    for table in TABLES:
        parts = []
        for number, run in enumerate(runs):
            path = Path(run.path)
            files = table_files(path, read_manifest(path), table)
            with reading(path):
                dataset = pads.dataset([str(file) for file in files], schema=table.schema)
            connection.register(f"{table.name}_{number}", dataset)
            quoted = run.run.replace("'", "''")
            parts.append(f"SELECT '{quoted}' AS run, * FROM {table.name}_{number}")  # noqa: S608
        connection.execute(f"CREATE VIEW {table.name} AS {' UNION ALL '.join(parts)}")
    return query.run_locked(connection, sql)
