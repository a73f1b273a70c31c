"""Writes that are whole or not at all, also when the power goes: beside the place, then renamed.

The content is on the disk before it gets its name, and the name before anything is written that
counts on it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from audit.errors import OutputError

PARTIAL = ".*.partial"
"""What a writer that was killed may leave; it is nobody's file."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says into one sentence with the path and the cause."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place when the block ends well, else vanishes.

    What is there by its name, which may be a link to elsewhere, is never written through.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with writing(path):
            with _fresh(partial) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_directory(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _fresh(path: Path) -> BinaryIO:
    """Make a file, instead of whatever has its name."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def sync_directory(path: Path) -> None:
    """Make the names in `path` last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
