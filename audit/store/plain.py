"""The files of a run, which someone may have handed over: regular ones, reached through no link.

A FIFO is waited for for ever, a device has no end, and a link leads out of the run, to what is no
business of whoever handed it over. Nothing of the kind is opened, followed, or written through.
"""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from audit.errors import RunReadError

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}


def entries(run: Path) -> Iterator[tuple[str, str]]:
    """Yield everything in a run that is no directory, sorted by name, with what is wrong with it.

    Names are relative to the run; of a regular file nothing is wrong.
    """
    names = []
    for directory, directories, files in os.walk(run):  # which follows no link
        links = [name for name in directories if Path(directory, name).is_symlink()]
        names += [Path(directory, name).relative_to(run).as_posix() for name in (*files, *links)]
    for name in sorted(names):
        yield name, _mistake((run / name).lstat())


def require_all(run: Path) -> None:
    """Raise RunReadError unless a run holds regular files alone: it is going to be written in."""
    try:
        wrong = next(((name, mistake) for name, mistake in entries(run) if mistake), None)
    except OSError as error:
        raise RunReadError(f"{run} cannot be read: {error.strerror or error}") from error
    if wrong is not None:
        name, mistake = wrong
        raise RunReadError(f"{run / name} {mistake}; no audit wrote that: remove it, or run again")


def require(run: Path, name: str) -> os.stat_result:
    """Return the status of a file of a run; OSError when there is none that is regular."""
    for parent in [*Path(name).parents][-2::-1]:
        if not stat.S_ISDIR((run / parent).lstat().st_mode):
            raise OSError(f"{parent} is no directory of the run")
    status = (run / name).lstat()
    if mistake := _mistake(status):
        raise OSError(f"it {mistake}")
    return status


def opened(run: Path, name: str) -> io.BufferedReader:
    """Open a file of a run to be read; OSError when there is none that is regular."""
    require(run, name)  # a device is not even opened
    descriptor = os.open(run / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    return open(descriptor, "rb")  # noqa: PTH123 - of a descriptor


def read(run: Path, name: str) -> bytes:
    """Return what a file of a run holds; OSError when there is none that is regular."""
    with opened(run, name) as file:
        return file.read()


def _mistake(status: os.stat_result) -> str:
    """Say why something is no file of a run; nothing when it is one."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return ""
    return f"is {_KINDS.get(kind, 'no file')}, and a run holds regular files alone"
