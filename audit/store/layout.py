"""A run directory from outside: is it one, may this version read it, which files are its tables.

`run.json` is written last, so a directory without it is a run that was never finished. It lists
every file with its size and SHA-256, and has a sum of its own content: what is missing or not as it
was written would silently make another matrix, so that is refused before anything is read.
"""

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from audit.errors import RunReadError
from audit.store import plain, shape
from audit.store.schema import ENDPOINTS, OLDEST_VERSION, SCHEMA_VERSION, SUMMED_VERSION, Table

MANIFEST = "run.json"
PLAN = "plan.json"
SIGNATURE = "run.json.sig"
TIMESTAMP = "run.json.sig.tsr"


_SUM = "content_sha256"
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


def manifest_text(manifest: Mapping[str, Any]) -> bytes:
    """Return the text of `run.json`, with the sum of all that it says."""
    # A file's name may be no Unicode; no text that is printed or parsed elsewhere can be so.
    text = json.dumps({**manifest, _SUM: ""}, ensure_ascii=False)
    content = json.loads(_HALF_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text))
    content[_SUM] = _sum(content)
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def is_intact(manifest: Mapping[str, Any]) -> bool:
    """Say whether `run.json` says what was written; an earlier version's may have no sum."""
    if _SUM in manifest:
        return bool(manifest[_SUM] == _sum(manifest))
    return bool(manifest["schema_version"] < SUMMED_VERSION)  # else it is damaged, or taken away


def _sum(manifest: Mapping[str, Any]) -> str:
    text = json.dumps({**manifest, _SUM: ""}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest(run: Path, name: str) -> dict[str, str | int]:
    """Return the size and the SHA-256 of a file of a run; OSError when it is no regular one."""
    with plain.opened(run, name) as file:
        return {
            "size": os.fstat(file.fileno()).st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def read_manifest(path: Path, *, intact: bool = True) -> Mapping[str, Any]:
    """Return `run.json` of the run at `path`.

    Raises RunReadError when `path` is no run, an unfinished one, or another version's, and unless
    that is not asked, when it is not `intact`.
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
    if intact and not is_intact(manifest):
        raise RunReadError(
            f"{path / MANIFEST} does not say what the audit wrote (its {_SUM} is another): restore "
            "it, or run again"
        )
    if mistake := shape.wrong(manifest):
        raise RunReadError(
            f"{path / MANIFEST} is not as an audit writes it: {mistake}; restore it, or run again"
        )
    return manifest


def finished(root: Path, prefix: str = "") -> list[Path]:
    """Return the finished runs right below `root` whose names begin so, ordered by `newest`."""
    pattern = f"{glob.escape(prefix)}*/{MANIFEST}"
    runs = {manifest.parent.name: manifest.parent for manifest in root.glob(pattern)}
    return [runs[name] for name in newest(runs)]


def newest(names: Iterable[str]) -> list[str]:
    """Return names of runs, the newest first, and last those that somebody chose.

    A run's id begins with the moment it began, `20261123T043457Z`.
    """
    return sorted(names, key=lambda name: (_MOMENT.match(name) is not None, name), reverse=True)


_MOMENT = re.compile(r"\d{8}T\d{6}Z-", re.ASCII)


def _without_manifest(path: Path) -> str:
    """Return what is wrong with a directory that has no `run.json`."""
    # The endpoints are written first, before anything is traced.
    if any((path / name).exists() for name in (ENDPOINTS.pattern, "traces", "cells", "blocks")):
        return (
            f"{path} is an unfinished run: it has no {MANIFEST}, which is written last; "
            "wait for its audit to end, or run again"
        )
    advice = "name the directory `audit run` made"
    if any(path.glob(f"*/{MANIFEST}")):
        advice = (
            f"name one of the runs in it, as {path}/latest, or ask all of them with "
            "`audit history --sql`"
        )
    return f"{path} is not a run: it has no {MANIFEST}; {advice}"


def table_files(path: Path, manifest: Mapping[str, Any], table: Table) -> tuple[Path, ...]:
    """Return the files of `table` in their order, each as it was written.

    Raises RunReadError when the run has none and that is not `optional`, or one is missing or has
    another size or SHA-256.
    """
    outputs = manifest.get("outputs", ())
    try:
        sizes = {str(output["path"]): int(output["size"]) for output in outputs}
        sums = {str(output["path"]): str(output["sha256"]) for output in outputs}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunReadError(f"{path / MANIFEST} does not list its files: run again") from error
    names = sorted(name for name in sizes if _belongs(PurePosixPath(name), table))
    if not names and not table.optional:
        raise RunReadError(f"{path} has no {table.pattern}: run again")
    for name in names:
        _require_size(path, name, sizes[name])
        with reading(path / name):
            if digest(path, name)["sha256"] != sums[name]:
                raise ValueError(f"its SHA-256 is not the one in {MANIFEST}")
    return tuple(path / name for name in names)


def _require_size(path: Path, name: str, size: int) -> None:
    """Raise RunReadError unless a file of the run can be read and has its size."""
    file = path / name
    try:
        whole = plain.require(path, name).st_size == size
    except FileNotFoundError:
        whole = False
    except (OSError, ValueError) as error:  # no file can be called so
        raise RunReadError(f"{file} cannot be read: {error}; restore it, or run again") from error
    if not whole:
        raise RunReadError(
            f"{file} is missing or not as the audit wrote it: restore it, or run again"
        )


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
