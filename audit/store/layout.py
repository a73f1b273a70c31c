"""A run directory from outside: is it one, may this version read it, which files are its tables.

`run.json` is written last, so a directory without it is a run that was never finished. It lists
every file with its size; a file that is missing or cut short would silently make the matrix
smaller, so that is refused before anything is read.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from audit.errors import RunReadError
from audit.store import plain, shape
from audit.store.schema import ENDPOINTS, OLDEST_VERSION, SCHEMA_VERSION, Table

MANIFEST = "run.json"
PLAN = "plan.json"
SIGNATURE = "run.json.sig"


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Return `run.json` of the run at `path`.

    Raises RunReadError when `path` is no run, an unfinished one, or another version's.
    """
    if not path.is_dir():
        raise RunReadError(f"{path} is not a run: there is no such directory")
    try:
        manifest = json.loads(plain.read(path, MANIFEST))
    except FileNotFoundError:
        raise RunReadError(_without_manifest(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunReadError(f"{path / MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        raise RunReadError(f"{path} is not a run: its {MANIFEST} has no schema_version")
    version = manifest["schema_version"]
    if version not in range(OLDEST_VERSION, SCHEMA_VERSION + 1):
        raise RunReadError(
            f"{path} has schema version {version} and this audit reads {OLDEST_VERSION} to "
            f"{SCHEMA_VERSION}: read it with the audit that wrote it, or run again"
        )
    if mistake := shape.wrong(manifest):
        raise RunReadError(
            f"{path / MANIFEST} is not as an audit writes it: {mistake}; restore it, or run again"
        )
    return manifest


def _without_manifest(path: Path) -> str:
    """Return what is wrong with a directory that has no `run.json`."""
    # The endpoints are written first, before anything is traced.
    if any((path / name).exists() for name in (ENDPOINTS.pattern, "traces", "cells")):
        return (
            f"{path} is an unfinished run: it has no {MANIFEST}, which is written last; "
            "wait for its audit to end, or run again"
        )
    advice = "name the directory `audit run` made"
    if any(path.glob(f"*/{MANIFEST}")):
        advice = "name one of the runs in it, or ask all of them with `audit history --sql`"
    return f"{path} is not a run: it has no {MANIFEST}; {advice}"


def table_files(path: Path, manifest: Mapping[str, Any], table: Table) -> tuple[Path, ...]:
    """Return the files of `table` in their order, each as long as when it was written.

    Raises RunReadError when the run has none, or one is missing or has another size.
    """
    outputs = manifest.get("outputs", ())
    try:
        sizes = {str(output["path"]): int(output["size"]) for output in outputs}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunReadError(f"{path / MANIFEST} does not list its files: run again") from error
    names = sorted(name for name in sizes if _belongs(PurePosixPath(name), table))
    if not names:
        raise RunReadError(f"{path} has no {table.pattern}: run again")
    for name in names:
        file = path / name
        try:
            whole = plain.require(path, name).st_size == sizes[name]
        except FileNotFoundError:
            whole = False
        except (OSError, ValueError) as error:  # no file can be called so
            raise RunReadError(
                f"{file} cannot be read: {error}; restore it, or run again"
            ) from error
        if not whole:
            raise RunReadError(
                f"{file} is missing or not as the audit wrote it: restore it, or run again"
            )
    return tuple(path / name for name in names)


def _belongs(name: PurePosixPath, table: Table) -> bool:
    """Tell whether `name`, relative to the run, is a file of `table` (and nowhere else)."""
    if not table.directory:
        return name == PurePosixPath(table.pattern)
    return name.parent == PurePosixPath(table.directory) and name.suffix == ".parquet"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow and the values themselves say about a damaged file into RunReadError."""
    try:
        yield
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunReadError(f"{path} cannot be read: {error}; restore it, or run again") from error
