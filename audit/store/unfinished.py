"""What a run can go on from: its plan, and the traces that ran.

A trace that failed is no result to go on from: it is taken out, and run again.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.errors import RunReadError
from audit.store import plain, shape
from audit.store.files import replacing, writing
from audit.store.layout import MANIFEST, PLAN, digest, reading
from audit.store.schema import SCHEMA_VERSION, TRACES
from audit.store.writer import TRACES_PER_ROW_GROUP


def read_plan(path: Path) -> Mapping[str, Any]:
    """Return `plan.json` of the run at `path`, finished or not.

    RunReadError when there is none, or another version wrote it.
    """
    if not path.is_dir():
        raise RunReadError(f"{path} is not a run: there is no such directory")
    try:
        plan = json.loads(plain.read(path, PLAN))
    except FileNotFoundError:
        raise RunReadError(
            f"{path} cannot be resumed: it has no {PLAN}, so nothing was traced; run again"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunReadError(f"{path / PLAN} cannot be read: {error}; run again") from error
    version = plan.get("schema_version") if isinstance(plan, dict) else None
    if version != SCHEMA_VERSION:
        raise RunReadError(
            f"{path} cannot be resumed: its schema version is {version} and this audit writes "
            f"{SCHEMA_VERSION}; resume it with the audit that wrote it, or run again"
        )
    assert isinstance(plan, dict)  # noqa: S101 - it has a version
    if mistake := shape.wrong_plan(plan):
        raise RunReadError(f"{path / PLAN} is not as an audit writes it: {mistake}; run again")
    return plan


def is_finished(path: Path) -> bool:
    """Say whether `path` is a run, which is never written again."""
    return os.path.lexists(path / MANIFEST)


def snapshots(root: Path) -> dict[str, bool]:
    """Return the names of what runs right below `root` read, and whether a run needs it still.

    An unfinished run does, and one of which something failed, until one that went on with it
    is whole.
    """
    states: dict[str, set[bool | None]] = defaultdict(set)
    for plan in root.glob(f"*/{PLAN}"):
        # What has no readable plan cannot be gone on with.
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            source = json.loads(plain.read(plan.parent, PLAN))["options"]["snapshot"]
            states[Path(source).name].add(_is_whole(plan.parent))
    return {name: None in state or True not in state for name, state in states.items()}


def _is_whole(path: Path) -> bool | None:
    """Say whether all of a finished run was traced; None of an unfinished one."""
    if not is_finished(path):
        return None
    return not json.loads(plain.read(path, MANIFEST)).get("incomplete")


def take_over(old: Path, new: Path, outputs: Mapping[str, str]) -> None:
    """Give the unfinished run `new` the traces of the run `old`, which keeps its own.

    `outputs` are the files of `old` with their SHA-256: one that has another by now is left out.
    """
    with writing(new):
        (new / TRACES.directory).mkdir(exist_ok=True)
        for file in sorted(old.glob(TRACES.pattern)):
            name = file.relative_to(old)
            if outputs.get(name.as_posix()) == digest(old, name.as_posix())["sha256"]:
                _link(file, new / name)


def _link(file: Path, target: Path) -> None:
    """Give a file that is only ever replaced a second name; a copy where that cannot be."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def sift(path: Path) -> dict[str, str]:
    """Take out the traces below `path` that did not run; return what was read of the others.

    By trace id; `audit.store.outcomes` reads the texts. A file that is damaged is removed: its
    traces are run again.
    """
    kept: dict[str, str] = {}
    for file in sorted(path.glob(TRACES.pattern)):
        try:
            kept |= _sift(file)
        except RunReadError:
            with writing(file):
                file.unlink()
    return kept


def _sift(file: Path) -> dict[str, str]:
    with reading(file):
        table = pq.read_table(file, columns=["trace_id", "read"], partitioning=None)
    ran = table.filter(pc.is_valid(table["read"]))
    if not len(ran):
        with writing(file):
            file.unlink()
    elif len(ran) < len(table):
        with reading(file):
            whole = pq.read_table(file, partitioning=None)
            whole = whole.filter(pc.is_valid(whole["read"]))
        with replacing(file) as sink:
            pq.write_table(whole, sink, compression="zstd", row_group_size=TRACES_PER_ROW_GROUP)
    return dict(zip(ran["trace_id"].to_pylist(), ran["read"].to_pylist(), strict=True))
