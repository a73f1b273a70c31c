"""Temporary directories that a later command can tell to be nobody's any more.

A process that is killed leaves its own behind. Each is locked by its process, and the kernel lets
go of a lock however a process ends: so a directory whose lock is free is removed by the next
command. Where directories cannot be locked, none is; what another user has made is not touched.
"""

import atexit
import errno
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from audit.errors import OutputError

PREFIX = "audit."
RAY = "ray"
"""The kind of directory that processes are started for, which have directories of their own."""
SHORT = Path("/tmp")  # noqa: S108 - sockets need short paths; the directories in it are unguessable
"""Where TMPDIR is too long for a socket in it."""


VARIABLE = "AUDIT_SCRATCH"
"""In the environment of what is started for a directory, and has to go with it."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def require_room(error: BaseException | None) -> None:
    """Raise OutputError, in a sentence, where an error comes of a disk that is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            target = error.filename2 or error.filename or tempfile.gettempdir()
            raise OutputError(
                f"cannot write {target}: {error.strerror}; make room, or set TMPDIR to a directory "
                "on another disk"
            ) from error
        error = error.__cause__


@contextmanager
def directory(kind: str, above: Path | None = None) -> Iterator[Path]:
    """Yield a new directory, in TMPDIR or `above`, that goes when the block ends."""
    path, lock = _made(kind, above or Path(tempfile.gettempdir()))
    try:
        yield path
    finally:
        _remove(path)
        os.close(lock)


_mine: set[Path] = set()
"""What this process has made and not removed, noted before it is: a signal may come at any time."""
os.register_at_fork(after_in_child=_mine.clear)
_REMOVED_WITHIN_S = 2.0
_ENDED_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.05


def _remove(path: Path) -> None:
    """Remove a directory, also where a process that is just ending still writes in it."""
    until = time.monotonic() + _REMOVED_WITHIN_S
    shutil.rmtree(path, ignore_errors=True)
    while path.exists() and time.monotonic() < until:
        time.sleep(0.05)
        shutil.rmtree(path, ignore_errors=True)
    _mine.discard(path)


@atexit.register
def _remove_mine() -> None:
    """Remove what a block has not that was interrupted as it began or ended."""
    for path in list(_mine):
        _remove(path)


def _made(kind: str, above: Path) -> tuple[Path, int]:
    """Return a new directory, and what holds its lock; OSError when none can be made in `above`."""
    while True:
        path = above / f"{PREFIX}{kind}.{os.urandom(4).hex()}"
        _mine.add(path)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            _mine.discard(path)  # another's, which stays
            continue
        except OSError:
            _mine.discard(path)
            raise
        with suppress(FileNotFoundError):  # swept before it was locked: another one
            lock = _opened(path)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is(path, lock):
                return path, lock
            os.close(lock)
        _mine.discard(path)


def sweep(*parents: Path) -> None:
    """Remove what killed processes of this user have left in TMPDIR and in `parents`."""
    for parent in {Path(tempfile.gettempdir()), SHORT, *parents}:
        with suppress(OSError):
            # Processes that were started for a directory have others, and make more until they end.
            for kind in (f"{PREFIX}{RAY}.*", f"{PREFIX}*"):
                for path in sorted(parent.glob(kind)):
                    with suppress(OSError):
                        _sweep(path)


def _sweep(path: Path) -> None:
    """Remove a directory if it is this user's, and no process's; OSError when it is another's."""
    lock = _opened(path)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, lock):
                end_processes_of(path)
                shutil.rmtree(path)
    finally:
        os.close(lock)


def end_processes_of(path: Path) -> None:
    """Kill the other processes that were started for a directory.

    They say so in their environment, or write in it: who gives himself a title, as some of Ray's
    do, overwrites what he was started with. Returns when none is left, or after seconds. One that
    ends has no environment any more before it lets go of its files and locks: it is waited for.
    """
    until = time.monotonic() + _ENDED_WITHIN_S
    killed: set[int] = set()
    while time.monotonic() < until:
        processes = set(_processes_of(path))
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        killed |= processes
        if not any(map(_has_files, killed)):
            return
        time.sleep(_LOOK_AGAIN_S)


def _has_files(process: int) -> bool:
    """Say whether a process has not ended yet."""
    status = status_of(process)
    return bool(status) and status[0] not in ("X", "Z")


def status_of(process: int) -> list[str]:
    """Return what the kernel says of a process: its state, its parent … (proc(5), /proc/pid/stat).

    These are the fields from the third on, after its name; none where it is gone.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _processes_of(path: Path) -> Iterator[int]:
    mark = os.fsencode(f"{VARIABLE}={path}")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is another's, or has just ended
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            if (marked or _writes(process, path)) and int(process.name) != os.getpid():
                yield int(process.name)


def _writes(process: Path, directory: Path) -> bool:
    """Say whether a process has a file below a directory open to write it."""
    for file in (process / "fd").iterdir():
        with suppress(OSError):  # it has just closed it
            if file.readlink().is_relative_to(directory) and file.lstat().st_mode & stat.S_IWUSR:
                return True
    return False


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _is(path: Path, descriptor: int) -> bool:
    """Say whether a name still leads to what is open."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
