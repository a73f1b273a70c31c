"""A whole `audit run`, watched from outside: its phases, and the memory of all its processes."""

import ctypes
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

_SAMPLE_EVERY_S = 1.0
"""Adding up what memory a process has costs time in proportion, on the machine that is measured."""
_PHASE = re.compile(r"(?P<name>[a-z][a-z, ]*)(?: \((?P<total>[\d,]+)\))?")
_BECOME_REAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): what the run detaches stays below this process."""


@dataclass(slots=True, kw_only=True)
class Watched:
    """A run that has ended."""

    seconds: float
    cpu_s: float
    """CPU seconds of all its processes."""
    peak_bytes: int
    phases: list[tuple[str, float]]
    counts: dict[str, int]
    cover: str

    @property
    def cells_per_s(self) -> float:
        """Cells of the matrix per second of the whole run."""
        return self.counts["cells"] / self.seconds


@dataclass(slots=True)
class _Memory:
    """The most memory that all descendants of this process had at one time."""

    peak: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look until told to end."""
        while not self._ended.wait(_SAMPLE_EVERY_S):
            self.peak = max(self.peak, sum(map(_size, _descendants(os.getpid()))))

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()


def _descendants(root: int) -> list[int]:
    """Return the process ids below `root`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = list[int](), list(children.get(root, ()))
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], ())
    return found


def _size(process: int) -> int:
    """Return the process' share of memory: shared pages are divided among those who share."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0")
    return int(line.split()[1]) * 1024


def _cpu_s() -> float:
    """Return the CPU seconds of all processes below this one that have ended."""
    buried = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for process in _descendants(os.getpid()):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # utime to cstime, proc(5)
    return buried.ru_utime + buried.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def watch(snapshot: Path, out: Path, flags: Sequence[str]) -> Watched:
    """Run `audit run` over a snapshot, in a process of its own."""
    ctypes.CDLL(None).prctl(_BECOME_REAPER, 1, 0, 0, 0)
    argv = [sys.executable, "-m", "audit", "run", "--snapshot", str(snapshot), "--out", str(out)]
    memory = _Memory()
    watcher = threading.Thread(target=memory.watch)
    watcher.start()
    started, before = time.monotonic(), _cpu_s()
    try:
        # Both pipes are read at once: the manifest of a big run is more than a pipe holds.
        with (
            ThreadPoolExecutor(1) as aside,
            subprocess.Popen(  # noqa: S603 - argv made of our own words and paths
                [*argv, "-o", "json", *flags],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                bufsize=1,
            ) as running,
        ):
            result = aside.submit(running.stdout.read) if running.stdout else None
            begun, said = _phases(running)
            printed = result.result() if result else ""
        ended = time.monotonic()
    finally:
        memory.end()
        watcher.join()
    if not printed.startswith("{"):
        raise RuntimeError(f"audit run failed: {said.strip()}")
    return Watched(
        seconds=ended - started,
        cpu_s=_cpu_s() - before,
        peak_bytes=memory.peak,
        phases=_by_name([("starting", started), *begun, ("", ended)]),
        counts=(manifest := json.loads(printed))["counts"],
        cover=manifest["cover"],
    )


def _phases(running: "subprocess.Popen[str]") -> tuple[list[tuple[str, float]], str]:
    """Read the progress until it ends: when each phase began, and everything that was said."""
    begun, said = [], ""
    for line in running.stderr or ():
        said += line
        found = _PHASE.fullmatch(line.rstrip("\n"))
        if found:
            begun.append((found["name"], time.monotonic()))
    return begun, said


def _by_name(marks: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return how long phases took, from when each began."""
    phases: dict[str, float] = {}
    for (name, began), (_, until) in itertools.pairwise(marks):
        phases[name] = phases.get(name, 0) + until - began
    return list(phases.items())
