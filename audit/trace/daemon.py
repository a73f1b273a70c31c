"""The `ovn-trace` daemon, supervised.

A daemon answers in a millisecond where a process downloads the whole southbound database for
each trace. It has traps, all of them real:

- It reads the database once: a frozen snapshot, which is what an audit wants.
- `--ct` is given at start, consumed one per conntrack step over all traces, and never reset.
  Past the last it assumes `est` and says so in a comment: then the trace is repeated on a fresh
  daemon. The states are given by the ten thousand.
- A microflow with an unknown inport and a datapath kills OVN 23.03's by assertion; no datapath
  is ever named. Whatever kills it twice is poison and becomes a failure of its own.
- It puts itself in the background, so it is not our child: it is known by its pid file.
- Losing the database connection kills it, which is how it goes when this process is killed.
- `--select-id` is taken at start only: a daemon per ECMP member asked for.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from audit.errors import EngineError
from audit.model.engine import Programs
from audit.model.packets import ConntrackState
from audit.trace.unixctl import Unixctl, UnixctlError, UnixctlTimeoutError
from audit.trace.walk import ran_out_of_states

STATES_AT_START = 20_000
"""A trace takes four to eight conntrack steps: some three thousand traces per daemon. Each value
is one argument; the command line stays far below the kernel's limit."""

_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Huge pages where the kernel offers them (glibc 2.35): each trace walks a database of hundreds of
megabytes, and most of its time is looking up where the next flow is."""

_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 5
_POLL_S = 0.002
_PID_FILE = "pid"
_SHOWN = 300
"""Characters of the daemon's complaint that are repeated."""
_ATTEMPTS = 2
"""How often a microflow may take its daemon down before it is called poison."""

_UNPARSED = re.compile(r"\|WARN\|(?P<flow>.*): parsing (?:expression|actions) failed")
_TEMPLATE_VARIABLE = "^"
"""Marks template load balancers' flows (`^NODEIP_IPv4_0`), which no ovn-trace can read."""


class EngineLostError(Exception):
    """The daemon died on this microflow, again."""


class EngineTimeoutError(Exception):
    """The daemon did not answer this microflow in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unparsed:
    """Logical flows the daemon could not read: `flows` others than template load balancers'."""

    flows: int
    templates: int
    example: str


def _unparsed(log: str) -> Unparsed:
    """Count what a daemon complained about while it read the database."""
    failed = [found["flow"] for found in _UNPARSED.finditer(log)]
    others = [flow for flow in failed if _TEMPLATE_VARIABLE not in flow]
    return Unparsed(
        flows=len(others),
        templates=len(failed) - len(others),
        example=others[0].rpartition("|")[2] if others else "",
    )


class TraceDaemon:
    """One `ovn-trace` daemon for one database, conntrack state and ECMP choice."""

    def __init__(
        self,
        programs: Programs,
        database: Path,
        *,
        state: ConntrackState,
        select: int = 0,
        timeout_s: float = 30.0,
        states_at_start: int = STATES_AT_START,
    ) -> None:
        self._programs = programs
        self._database = database
        self._state = state
        self._select = select
        self._timeout_s = timeout_s
        self._states_at_start = states_at_start
        self._rundir: tempfile.TemporaryDirectory[str] | None = None
        self._connection: Unixctl | None = None
        self._process: _Process | None = None
        self.starts = 0
        self.unparsed = Unparsed(flows=0, templates=0, example="")

    @property
    def pid(self) -> int:
        """The daemon's process id, 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def trace(self, expression: str) -> str:
        """Return the detailed trace of a microflow.

        RefusedError when the daemon will not (a bad expression is *not* refused: the complaint
        is the output). EngineLostError, EngineTimeoutError when no daemon survives it or answers;
        EngineError when none can be started.
        """
        deaths = 0
        while True:
            fresh = self._connection is None
            try:
                output = self._ask(expression)
            except UnixctlTimeoutError as error:
                self.stop()
                raise EngineTimeoutError(f"no answer within {self._timeout_s:g} s") from error
            except UnixctlError as error:
                self.stop()
                deaths += 1
                if deaths == _ATTEMPTS:
                    raise EngineLostError(f"ovn-trace died on it {deaths} times") from error
                continue
            except KeyboardInterrupt:
                self.stop()  # the next answer would be this one's
                raise
            if not ran_out_of_states(output):
                return output
            # The states are used up: the same question to a daemon that has all of them.
            self.stop()
            if fresh:
                raise EngineLostError("ovn-trace ran out of conntrack states on one microflow")

    def _ask(self, expression: str) -> str:
        if self._connection is None:
            self.start()
        assert self._connection is not None  # noqa: S101 - start() connects or raises
        return self._connection.transact("trace", "--detailed", expression)

    def start(self) -> None:
        """Start the daemon, which reads the whole database; EngineError when it does not."""
        self.stop()
        try:
            self._rundir = tempfile.TemporaryDirectory(
                prefix="audit-trace-", ignore_cleanup_errors=True
            )
            self._launch(Path(self._rundir.name))
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError | ValueError):
                raise EngineError(f"ovn-trace could not be started: {error}") from error
            if isinstance(error, UnixctlError):
                raise EngineError(f"ovn-trace does not answer: {error}") from error
            raise

    def _launch(self, rundir: Path) -> None:
        """Run `ovn-trace`, which returns once its daemon has read the database, and connect."""
        try:
            done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
                self._programs.argv("ovn-trace", *self._arguments(rundir)),
                env={**os.environ, **_MEMORY, **self._programs.environment(rundir)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"ovn-trace did not read {self._database} in {_START_TIMEOUT_S} s"
            ) from error
        if done.returncode:
            said = " ".join(done.stderr.split())[-_SHOWN:]
            raise EngineError(f"ovn-trace did not start: {said or f'exit {done.returncode}'}")
        self.unparsed = _unparsed(done.stderr)
        self._process = _Process.of(rundir / _PID_FILE)
        self.starts += 1
        self._connection = Unixctl(rundir / "ctl", timeout_s=self._timeout_s)

    def _arguments(self, rundir: Path) -> tuple[str, ...]:
        return (
            f"--db=unix:{self._database}",
            *("--detach", "--no-chdir"),
            f"--pidfile={rundir / _PID_FILE}",
            f"--unixctl={rundir / 'ctl'}",
            *([f"--select-id={self._select}"] if self._select else []),
            *([f"--ct={self._state}"] * self._states_at_start),
        )

    def stop(self) -> None:
        """End the daemon, whatever state it is in; a later trace starts a fresh one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        rundir, self._rundir = self._rundir, None
        process, self._process = self._process, None
        if process is None and rundir is not None:
            # It was cut off while starting: the daemon may be there all the same.
            process = _Process.of(Path(rundir.name) / _PID_FILE)
        if process is not None:
            process.end()
        if rundir is not None:
            rundir.cleanup()


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
