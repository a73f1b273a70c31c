"""The real `ovn-detrace` on traces of `ofproto/trace`: what a reader wants to see beside ours.

It downloads both databases, in a second or more per call, so nothing is decided by it: what a
cookie stands for is known in memory (`audit.model.origins`), and tests hold the two together.
"""

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from audit import scratch
from audit.errors import EngineError
from audit.model.engine import Programs
from audit.trace.local import Serve

_SHOWN = 300
"""Characters of its complaint that are repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detracer:
    """Runs `ovn-detrace` against served copies of a zone's databases."""

    programs: Programs
    serve: Serve
    timeout_s: float = 60.0

    def run(self, northbound: Path, southbound: Path, traces: Sequence[str]) -> tuple[str, ...]:
        """Return what it makes of each trace, in order; EngineError when it does not run.

        The databases are served once for all of them.
        """
        with ExitStack() as stack:
            root = stack.enter_context(scratch.directory("db"))
            sockets = []
            for name, database in (("nb", northbound), ("sb", southbound)):
                rundir = root / name
                rundir.mkdir()
                sockets.append(stack.enter_context(self.serve(database, rundir)))
            argv = command(self.programs, *sockets)
            return tuple(self._run(argv, root, trace) for trace in traces)

    def _run(self, argv: tuple[str, ...], rundir: Path, trace: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - argv of our own words and paths, no shell
                argv,
                env={**os.environ, **self.programs.environment(rundir)},
                input=trace,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self.timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"ovn-detrace did not run: {error}") from error
        if done.returncode:
            # It tells on stdout which Python modules it misses.
            message = " ".join((done.stderr or done.stdout).split())[:_SHOWN]
            raise EngineError(f"ovn-detrace failed: {message or f'exit {done.returncode}'}")
        return done.stdout


def command(programs: Programs, northbound: Path, southbound: Path) -> tuple[str, ...]:
    """Return the command whose standard input is a trace (ovn-detrace(1))."""
    return programs.argv("ovn-detrace", f"--ovnnb=unix:{northbound}", f"--ovnsb=unix:{southbound}")
