"""A command in a process of its own, so that whatever ends it is told, and nothing outlives it.

Ray's library ends the process that uses it when Ray's own are gone, with an exit code that is ours
for findings; the kernel kills the largest process when memory is short. Neither can be handled
there. So a second, small process waits: it hands on signals, and says what became of the first.
The kernel makes it the parent of whatever the first leaves behind, however deep that was started:
all of it is killed and waited for before temporary directories are removed.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from audit import scratch
from audit.errors import ExitCode

COMMANDS = frozenset({"agent", "run"})
"""What takes hours, and starts Ray."""

_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_BY_KERNEL = 0x80
"""si_code of a signal that the terminal sent: to every process in front, see sigaction(2)."""
_MOST_TOLD = 1 << 16
"""What a pipe holds."""
_PARENT_DEATH_SIGNAL = 1
_CHILD_SUBREAPER = 36
"""PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER of prctl(2)."""
_ENDED_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.05

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
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1)
    reading, writing = os.pipe()
    watched = {*_HANDED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child:
        os.close(writing)
        _wait(child, reading, watched)
    os.close(reading)
    _channel.append(writing)
    end_with(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """Have the kernel kill this process, which `parent` has just forked, when that is killed."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed meanwhile
        os._exit(ExitCode.COULD_NOT_RUN)


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
    interrupted = False
    while (status := _reaped(child)) is None:
        came = signal.sigwaitinfo(watched)
        if came.si_signo == signal.SIGCHLD:
            continue
        interrupted = True
        if came.si_code != _BY_KERNEL:  # else the child has it too
            os.kill(child, came.si_signo)
    _end_descendants()
    scratch.sweep()  # what it had no time to take away, and what those made anew
    code = os.waitstatus_to_exitcode(status)
    os.set_blocking(channel, False)
    *notes, _ = _read(channel).split(_END)
    if b"" in notes:
        os._exit(code)
    begun = [_printable(note) for note in notes]
    if interrupted:  # a library may have made anything of the signal
        code, words = ExitCode.INTERRUPTED, ["interrupted", *(begun or ["nothing was begun"])]
    else:
        code, words = ExitCode.COULD_NOT_RUN, [_sentence(code, begun=bool(begun)), *begun]
    os.write(sys.stderr.fileno(), f"audit: {'; '.join(words)}\n".encode())
    os._exit(code)


def _reaped(child: int) -> int | None:
    """Reap what has ended, orphans too; return the child's status as soon as it has."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            return status
        if not ended:
            return None


def _end_descendants() -> None:
    """Kill what the child started, and wait for it: it is this process's now, or its parent is."""
    until = time.monotonic() + _ENDED_WITHIN_S
    with suppress(ChildProcessError):  # none is left: the kernel says so
        while time.monotonic() < until:
            for process in _children():
                os.kill(process, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            signal.sigtimedwait({signal.SIGCHLD}, _LOOK_AGAIN_S)


def _children() -> Iterator[int]:
    """Yield this process's children, those that have ended included."""
    for entry in Path("/proc").glob("[0-9]*"):
        process = int(entry.name)
        status = scratch.status_of(process)
        if status and int(status[1]) == os.getpid():
            yield process


def _read(channel: int) -> bytes:
    """Return what was told, also where somebody else still holds the other end."""
    with suppress(BlockingIOError):
        return os.read(channel, _MOST_TOLD)
    return b""


def _printable(text: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))


def _sentence(code: int, *, begun: bool) -> str:
    """Say what ended a process that did not mean to end."""
    if code == -signal.SIGKILL:
        return (
            "the command was killed, as the kernel does when memory is short (SIGKILL); give it "
            "more memory, narrow the scope, or give --worker-count 1"
        )
    if code == -signal.SIGABRT and not begun:
        return (
            "a library ended the command as it was loaded (SIGABRT), as some do when memory is "
            "short; give it 1 GiB of address space (ulimit -v)"
        )
    if code < 0:
        return f"the command was ended by {signal.Signals(-code).name}"
    return (
        f"a library ended the command with exit code {code}: Ray's does when its processes are "
        "gone; try --workers inline"
    )
