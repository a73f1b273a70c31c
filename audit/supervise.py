"""A command in a process of its own, so that whatever ends it is told.

Ray's library ends the process that uses it when Ray's own are gone, with an exit code that is ours
for findings; the kernel kills the largest process when memory is short. Neither can be handled
there. So a second, small process waits: it hands on signals, and says what became of the first.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from audit import scratch
from audit.errors import ExitCode

COMMANDS = frozenset({"run"})
"""What takes hours, and can be gone on with."""

_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_BY_KERNEL = 0x80
"""si_code of a signal that the terminal sent: to every process in front, see sigaction(2)."""
_MOST_TOLD = 1 << 16
"""What a pipe holds."""
_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

_END = b"\0"
"""Ends what the child tells: a note, and that it means its exit code."""

_channel: list[int] = []
"""Where the child tells that, in a process that has a parent."""


def wanted(arguments: list[str]) -> bool:
    """Say whether a command line is to be run in a process of its own."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            return sys.platform == "linux" and word in COMMANDS
    return False


def enter() -> None:
    """Go on in a child; the parent waits for it, ends with its exit code, and does not return."""
    parent = os.getpid()
    reading, writing = os.pipe()
    watched = {*_HANDED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child:
        os.close(writing)
        _wait(child, reading, watched)
    os.close(reading)
    _channel.append(writing)
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed meanwhile
        os._exit(ExitCode.COULD_NOT_RUN)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def note(text: str) -> None:
    """Have this said when something ends the process: how to go on."""
    _tell(text.encode("utf-8", "replace"))


def ending() -> None:
    """Tell the parent that the exit code to come is meant."""
    _tell(b"")


def _tell(text: bytes) -> None:
    for descriptor in _channel:
        os.write(descriptor, text + _END)


def _wait(child: int, channel: int, watched: set[signal.Signals]) -> NoReturn:
    while True:
        came = signal.sigwaitinfo(watched)
        if came.si_signo != signal.SIGCHLD:
            if came.si_code != _BY_KERNEL:  # else the child has it too
                os.kill(child, came.si_signo)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
    code = os.waitstatus_to_exitcode(status)
    os.set_blocking(channel, False)
    *notes, _ = _read(channel).split(_END)
    if b"" in notes:
        os._exit(code)
    scratch.sweep()  # what it had no time to take away
    message = "; ".join([_sentence(code), *map(_printable, notes)])
    os.write(sys.stderr.fileno(), f"audit: {message}\n".encode())
    os._exit(ExitCode.COULD_NOT_RUN)


def _read(channel: int) -> bytes:
    """Return what was told, also where somebody else still holds the other end."""
    with suppress(BlockingIOError):
        return os.read(channel, _MOST_TOLD)
    return b""


def _printable(text: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))


def _sentence(code: int) -> str:
    """Say what ended a process that did not mean to end."""
    if code == -signal.SIGKILL:
        return (
            "the run was killed, as the kernel does when memory is short (SIGKILL); give it more "
            "memory, narrow the scope, or give --worker-count 1"
        )
    if code < 0:
        return f"the run was ended by {signal.Signals(-code).name}"
    return (
        f"a library ended the run with exit code {code}: Ray's does when its processes are gone; "
        "try --workers inline"
    )
