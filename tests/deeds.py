"""What this process runs, sends and writes, as the interpreter itself tells (PEP 578).

It sees Python's own calls; what a library in C writes or sends by itself, it does not.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

RUNS = frozenset({"os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen"})
SENDS = frozenset(
    {"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendmsg", "socket.sendto"}
)
_PATHS = {
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.utime": 1,
}
"""How many paths come first in what an event tells; after all else come directories' numbers."""
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Deed(NamedTuple):
    """What was done, by the name of the interpreter's event, and to what."""

    event: str
    program: str = ""
    arguments: tuple[str, ...] = ()
    address: object = None
    paths: tuple[Path, ...] = ()
    """What was written, made, moved or removed."""


_watching: list[Callable[[Deed], None]] = []
_hooked: list[bool] = []


def _hook(event: str, told: tuple[Any, ...]) -> None:
    if _watching and (deed := _deed(event, told)) is not None:
        _watching[-1](deed)


def _deed(event: str, told: tuple[Any, ...]) -> Deed | None:
    if event in RUNS:
        arguments = tuple(map(os.fsdecode, told[1])) if len(told) > 1 else ()
        return Deed(event, os.fsdecode(told[0]) if told else "", arguments)
    if event in SENDS:
        return Deed(event, address=told[1] if event != "socket.getaddrinfo" else told[0])
    if event in _PATHS:
        count = _PATHS[event]
        below = [each for each in told[count:] if isinstance(each, int)][-count:]
        return Deed(event, paths=tuple(map(_path, told[:count], below or [-1] * count)))
    if event == "open" and not isinstance(told[0], int) and (told[2] or 0) & _TO_WRITE:
        return Deed(event, paths=(_path(told[0], -1),))
    return None


def _path(name: str | bytes | int, below: int) -> Path:
    base = Path(f"/proc/self/fd/{below}").readlink() if below >= 0 else Path.cwd()
    return base if isinstance(name, int) else Path(os.path.normpath(base / os.fsdecode(name)))


@contextmanager
def watched(refused: Callable[[Deed], bool] = lambda _: False) -> Iterator[list[Deed]]:
    """Yield what this process does in the block; what is `refused` is noted and fails."""
    if not _hooked:  # a hook stays
        sys.addaudithook(_hook)
        _hooked.append(True)
    deeds: list[Deed] = []

    def note(deed: Deed) -> None:
        deeds.append(deed)
        if refused(deed):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    _watching.append(note)
    try:
        yield deeds
    finally:
        _watching.pop()
