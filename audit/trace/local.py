"""`ovn-trace` daemons on this machine, on copies of the zones' databases.

A daemon puts itself in the background, so it is not our child: it is known by its pid file. Losing
the database connection kills it, which is how it goes when this process is killed.
"""

import contextlib
import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from audit.errors import EngineError
from audit.model.engine import Programs
from audit.trace.daemon import Launch, Start
from audit.trace.unixctl import Unixctl

Serve = Callable[[Path, Path], AbstractContextManager[Path]]
"""(database, run directory) → the socket it is served on, while the context lasts."""

_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Huge pages where the kernel offers them (glibc 2.35): each trace walks a database of hundreds of
megabytes, and most of its time is looking up where the next flow is."""

_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 5
_POLL_S = 0.002
_PID_FILE = "pid"
_SHOWN = 300
"""Characters of the daemon's complaint that are repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A copy of each zone's southbound database, served for as long as the zone is traced.

    `databases` maps zones to staged files. Picklable, if `serve` is.
    """

    programs: Programs
    serve: Serve
    databases: Mapping[str, Path]

    def has(self, zone: str) -> bool:
        """Say whether there is a database of a zone."""
        return zone in self.databases

    @contextlib.contextmanager
    def open(self, zone: str) -> Iterator[Launch]:
        """Serve a zone's copy and yield what starts daemons of it."""
        with _rundir("audit-") as rundir, self.serve(self.databases[zone], Path(rundir)) as socket:
            yield functools.partial(LocalDaemon, self.programs, socket)


def _rundir(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Make a directory for sockets: short, since a Unix socket's path has at most 107 bytes."""
    return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)


class LocalDaemon:
    """A daemon in the background, its run directory, and the connection to it."""

    def __init__(self, programs: Programs, database: Path, start: Start) -> None:
        """Start it (`audit.trace.daemon.Launch`); when that fails, leave nothing."""
        self._open = ExitStack()
        self._rundir = Path(self._open.enter_context(_rundir("audit-trace-")))
        self.process: _Process | None = None
        try:
            self.log = self._run(programs, database, start)
            self.process = _Process.of(self._rundir / _PID_FILE)
            self.connection = Unixctl(self._rundir / "ctl", timeout_s=start.timeout_s)
            self._open.callback(self.connection.close)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """The daemon's process id, 0 while there is none."""
        return self.process.pid if self.process is not None else 0

    def _run(self, programs: Programs, database: Path, start: Start) -> str:
        """Run `ovn-trace`, which returns once its daemon has read the database; return its log."""
        try:
            done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
                programs.argv("ovn-trace", *_arguments(self._rundir, database, start)),
                env={**os.environ, **_MEMORY, **programs.environment(self._rundir)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"ovn-trace did not read {database} in {_START_TIMEOUT_S} s"
            ) from error
        if done.returncode:
            said = " ".join(done.stderr.split())[-_SHOWN:]
            raise EngineError(f"ovn-trace did not start: {said or f'exit {done.returncode}'}")
        return done.stderr

    def end(self) -> None:
        """Close the connection, kill the daemon, and remove its directory."""
        with self._open:
            process, self.process = self.process, None
            if process is None:
                # It was cut off while starting: the daemon may be there all the same.
                process = _Process.of(self._rundir / _PID_FILE)
            if process is not None:
                process.end()


def _arguments(rundir: Path, database: Path, start: Start) -> tuple[str, ...]:
    return (
        f"--db=unix:{database}",
        *("--detach", "--no-chdir"),
        f"--pidfile={rundir / _PID_FILE}",
        f"--unixctl={rundir / 'ctl'}",
        *([f"--select-id={start.select}"] if start.select else []),
        *(f"--ct={state}" for state, count in start.states for _ in range(count)),
    )


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that is not our child; by its start time it is told from a later namesake."""

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
    """Return a process's state and start time (proc(5), /proc/pid/stat)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]
