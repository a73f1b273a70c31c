"""`ovn-trace` daemons on this machine, on copies of the zones' databases.

A daemon puts itself in the background, so it is not our child: it is known by its pid file. Losing
the database connection kills it, which is how it goes when this process is killed.

What a daemon cannot read of its database it says while it reads, and since OVN 25.09 it gives one
warning a second, of whatever kind. So its way to the database leads through this process, and is
opened when it has been told to leave nothing out.
"""

import contextlib
import functools
import os
import select
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from audit import scratch
from audit.errors import EngineError
from audit.model.engine import Programs
from audit.trace.daemon import (
    SAY_EVERYTHING,
    Copy,
    Division,
    Launch,
    Start,
    Unparsed,
    unparsed,
)
from audit.trace.unixctl import Unixctl, UnixctlError

Serve = Callable[..., AbstractContextManager[Path]]
"""(database, run directory) → the socket it is served on, while the context lasts. Where databases
are divided, `copy` says how the copy is made that is served."""


Divide = Callable[[Path], Division | None]
"""How a database is divided; None where it is not."""


def _never(_database: Path) -> None:
    """Divide no database."""


_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Huge pages where the kernel offers them (glibc 2.35): each trace walks a database of hundreds of
megabytes, and most of its time is looking up where the next flow is."""

_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 5
_POLL_S = 0.002
_ACCEPT_S = 0.05
_RELAYED = 1 << 18
_PID_FILE = "pid"
_CONTROL = "ctl"
_GATE = "gate"
_SHOWN = 300
"""Characters of the daemon's complaint that are repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A copy of each zone's southbound database, served for as long as the zone is traced.

    `databases` maps zones to staged files. Picklable, if `serve` and `divide` are.
    """

    programs: Programs
    serve: Serve
    databases: Mapping[str, Path]
    divide: Divide = _never
    _unparsed: dict[str, Unparsed] = field(default_factory=dict, compare=False)
    _read: set[int] = field(default_factory=set, compare=False)
    """The texts of flows that ovn-trace has read, in whichever zone: most are in all of them."""

    def has(self, zone: str) -> bool:
        """Say whether there is a database of a zone."""
        return zone in self.databases

    @contextlib.contextmanager
    def open(self, zone: str, copy: Copy | None = None, /) -> Iterator[Launch]:
        """Serve a copy of a zone's database and yield what starts daemons of it."""
        how = {} if copy is None else {"copy": copy}
        # Sockets are in it, whose paths have at most 107 bytes: its name is short.
        with (
            scratch.directory("db") as rundir,
            self.serve(self.databases[zone], rundir, **how) as socket,
        ):
            yield functools.partial(LocalDaemon, self.programs, socket)

    def division(self, zone: str) -> Division | None:
        """Return how a zone's database is divided; None where it is not.

        Nor is one with flows that ovn-trace cannot read: a part might lack them, and nothing would
        tell.
        """
        division = self.divide(self.databases[zone])
        try:
            return division if division is not None and not self.unparsed(zone).flows else None
        except (EngineError, OSError):
            return None  # who traces in the whole will say so

    def unparsed(self, zone: str) -> Unparsed:
        """Return what ovn-trace cannot read of a zone's flows; EngineError if it reads nothing."""
        if zone not in self._unparsed:
            division = self.divide(self.databases[zone])
            if division is not None:
                with self.open(zone, division.thin(self._read)) as launch:
                    self._unparsed[zone] = unparsed(launch)
            if division is None or self._unparsed[zone].flows:
                with self.open(zone) as launch:  # of each text there is one in the other
                    self._unparsed[zone] = unparsed(launch)
            else:
                self._read.update(text for text in division.texts if text)
        return self._unparsed[zone]


class LocalDaemon:
    """A daemon in the background, its run directory, and the connection to it."""

    def __init__(self, programs: Programs, database: Path, start: Start) -> None:
        """Start it (`audit.trace.daemon.Launch`); when that fails, leave nothing."""
        self._open = ExitStack()
        self._rundir = self._open.enter_context(scratch.directory("trace"))
        self.process: _Process | None = None
        try:
            self.log = self._run(programs, database, start)
            self.process = _Process.of(self._rundir / _PID_FILE)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """The daemon's process id, 0 while there is none."""
        return self.process.pid if self.process is not None else 0

    def _run(self, programs: Programs, database: Path, start: Start) -> str:
        """Run `ovn-trace`, which returns once its daemon has read the database; return its log."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        with tempfile.TemporaryFile() as log, socket.socket(socket.AF_UNIX) as gate:
            gate.bind(str(self._rundir / _GATE))
            gate.listen()
            starting = subprocess.Popen(  # noqa: S603 - argv of our own words and paths, no shell
                programs.argv("ovn-trace", *_arguments(self._rundir, start)),
                env={**os.environ, **_MEMORY, **programs.environment(self._rundir)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            try:
                admitted = self._admit(gate, starting, database, start.timeout_s)
                await_end(starting, max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired as error:
                raise EngineError(
                    f"ovn-trace did not read {database} in {_START_TIMEOUT_S} s"
                ) from error
            finally:
                starting.kill()
                starting.wait()
            log.seek(0)
            text = log.read().decode(errors="replace")
        if starting.returncode:
            why = " ".join(text.split())[-_SHOWN:] or f"exit {starting.returncode}"
            raise EngineError(f"ovn-trace did not start: {why}")
        if not admitted:
            raise UnixctlError("it has not asked for its database")
        return text

    def _admit(
        self,
        gate: socket.socket,
        starting: subprocess.Popen[bytes],
        database: Path,
        timeout_s: float,
    ) -> bool:
        """Let the daemon at its database when it has been told to say everything.

        It listens to commands before it connects, and reads nothing before it is answered. False
        when it ends before.
        """
        asking = _accepted(gate, starting)
        if asking is None:
            return False
        relay = _Relay(asking)
        self._open.callback(relay.end)
        self.connection = Unixctl(self._rundir / _CONTROL, timeout_s=timeout_s)
        self._open.callback(self.connection.close)
        self.connection.transact(SAY_EVERYTHING)
        relay.begin(database)
        return True

    def end(self) -> None:
        """Close the connection, kill the daemon, and remove its directory."""
        with self._open:
            process, self.process = self.process, None
            if process is None:
                # It was cut off while starting: the daemon may be there all the same.
                process = _Process.of(self._rundir / _PID_FILE)
            if process is not None:
                process.end()


def await_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Wait for a child's end; subprocess.TimeoutExpired as of its own `wait`.

    That looks every 50 ms, where a small database is read in 100; this is woken up.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:  # a kernel before 5.3, or a container that forbids it
        process.wait(timeout_s)
        return
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        ended = poller.poll(timeout_s * 1000)
    finally:
        os.close(handle)
    if not ended:
        raise subprocess.TimeoutExpired(process.args, timeout_s)
    process.wait()


def _accepted(gate: socket.socket, starting: subprocess.Popen[bytes]) -> socket.socket | None:
    """Return the first connection; None when the process ends without one."""
    gate.settimeout(_ACCEPT_S)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            return gate.accept()[0]
        except TimeoutError:
            if starting.poll() is not None:
                return None
    raise subprocess.TimeoutExpired(starting.args, _START_TIMEOUT_S)


class _Relay:
    """A daemon's connection to its database's server, through a thread of this process.

    The thread ends with either side, and both sides with this process.
    """

    def __init__(self, daemon: socket.socket) -> None:
        """Take the daemon's side."""
        self._daemon = daemon
        self._server = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._hand_on, name="ovn-trace", daemon=True)

    def begin(self, database: Path) -> None:
        """Connect the daemon to the server at a socket; OSError when it does not listen."""
        self._server.connect(str(database))
        self._daemon.setblocking(True)  # noqa: FBT003 - the method of the standard library
        self._thread.start()

    def _hand_on(self) -> None:
        other = {self._daemon: self._server, self._server: self._daemon}
        with self._daemon, self._server, selectors.DefaultSelector() as selector:
            for side in other:
                selector.register(side, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        side = other[key.fileobj]  # type: ignore[index]  # what was registered
                        data = other[side].recv(_RELAYED)
                        if not data:
                            return
                        side.sendall(data)

    def end(self) -> None:
        """Cut the connection."""
        for side in (self._daemon, self._server):
            with contextlib.suppress(OSError):  # it may have ended by itself
                side.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join()
        self._daemon.close()
        self._server.close()


def _arguments(rundir: Path, start: Start) -> tuple[str, ...]:
    return (
        f"--db=unix:{rundir / _GATE}",
        *("--detach", "--no-chdir"),
        f"--pidfile={rundir / _PID_FILE}",
        f"--unixctl={rundir / _CONTROL}",
        *([f"--select-id={start.select}"] if start.select else []),
        *(f"--ct={state}" for state, count in start.states for _ in range(count)),
    )


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that is not our child; its start time tells whether its id has been given anew."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid_file: Path) -> "_Process | None":
        """Return the process a pid file names, None when there is no such process."""
        try:
            pid = int(pid_file.read_text())
        except (OSError, ValueError):
            return None
        state = _state(pid)
        return cls(pid, state[1]) if state else None

    def runs(self) -> bool:
        """Say whether it is alive; a zombie, which only its parent can bury, is not."""
        state = _state(self.pid)
        return state is not None and state[0] != "Z" and state[1] == self.started

    def end(self) -> None:
        """Kill it and wait until it is gone: it has nothing to save, and it may hang."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while self.runs() and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(_POLL_S)


def _state(pid: int) -> tuple[str, str] | None:
    """Return a process's state and start time."""
    status = scratch.status_of(pid)
    return (status[0], status[19]) if status else None
