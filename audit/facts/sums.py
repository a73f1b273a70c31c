"""A snapshot's own checksums: `SHA256SUMS`, as `sha256sum` writes it and `sha256sum -c` checks it.

`audit snapshot` writes it; a snapshot made by hand, or by an earlier version, need not have it.
Where it is, every file that is read is one that it lists, with that content.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from audit.errors import SnapshotError
from audit.model.facts import Input

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
_BLOCK = 1 << 24
"""Bytes that are read and hashed at a time: after each, this thread waits for its turn."""
_ADVICE = f"take the snapshot again; if it was changed on purpose, remove {NAME}"


def of_file(file: Path, name: str) -> Input:
    """Return size and SHA-256 of a file that is called `name` in its snapshot."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Input(path=name, size=size, sha256=digest.hexdigest())


def write(root: Path) -> None:
    """Write the sums of every file of a snapshot beside them."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != NAME)
    sums = (of_file(file, file.relative_to(root).as_posix()) for file in files)
    text = "".join(f"{entry.sha256}  {entry.path}\n" for entry in sums)
    (root / NAME).write_text(text, encoding="utf-8")


def check(root: Path, shown: str, files: Iterable[Input], wanted: re.Pattern[str]) -> None:
    """Compare files with what the snapshot lists, if it has a list.

    SnapshotError when one is another, is not listed, or is listed, `wanted` and not there.
    """
    listed = _listed(root, shown)
    if listed is None:
        return
    there = {file.path: file.sha256 for file in files}
    for name, digest in there.items():
        if name not in listed:
            raise SnapshotError(f"{shown}/{name} is not listed in {shown}/{NAME}; {_ADVICE}")
        if listed[name] != digest:
            raise SnapshotError(f"{shown}/{name} is not what {shown}/{NAME} says; {_ADVICE}")
    for name in listed:
        if name not in there and wanted.fullmatch(name):
            raise SnapshotError(f"{shown}/{NAME} lists {name}, which is not there; {_ADVICE}")


def _listed(root: Path, shown: str) -> Mapping[str, str] | None:
    """Return the sums by file, None when there are none."""
    file = root / NAME
    if not file.is_file():
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{shown}/{NAME} cannot be read: {error}") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    listed = {match[2].removeprefix("./"): match[1] for match in matches if match}
    if not listed or len(listed) != len(lines):
        raise SnapshotError(f"{shown}/{NAME} is not as `sha256sum` writes it; {_ADVICE}")
    return listed
