"""Takes away what an audit needs while it traces: each ends in order or goes on, and says it.

    python -m tests.strain [--rounds N] [--seed SEED] [worker head agent memory clock]

`worker` and `head` are processes of Ray's, on one machine; `agent` is a node's agent with all that
it started; `memory` is what a cgroup allows; `clock` is set back and forth by libfaketime. An audit
that does not reach its end is gone on with. Then its cells are those of a run that was left alone,
byte for byte, its page is the one that is rendered of it again, and its signature is good; and
nothing runs or lies in TMPDIR once the next command has begun.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.end_to_end.test_agents import kill_session, session_of
from tests.kill import ENDS_ALONE_S, Killer, killing

WHOLE = (0, 1)
"""Exit codes of a run in which nothing failed to run."""
HEADS = (b"/gcs_server", b"/raylet")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
SLEEP = (
    "import select, time\ntime.sleep = lambda seconds: select.select((), (), (), seconds) and None"
)
"""Python's own fails with libfaketime (0.9.10) where that leaves the monotonic clock alone."""
MEGABYTE = 1 << 20
LIMITS = (80, 120, 160, 200, 250, 300, 400, 600)
"""Memory, in megabytes, of which the first is less than Python needs to load a run."""

LATE = "too late"

Strain = Callable[[Killer, subprocess.Popen[str]], bool]
"""Strains a run that goes on, and says whether it met something to strain."""


def tracing(killer: Killer, process: subprocess.Popen[str]) -> None:
    """Return when a run has a plan, and workers to trace by it, or a while after it."""
    while process.poll() is None and not list(killer.space.glob("runs/*/plan.json")):
        time.sleep(0.05)
    while process.poll() is None and killer.workers != "inline" and not actors(killer):
        time.sleep(0.2)
    time.sleep(killer.chance.random() * killer.took_s / 20)


def actors(killer: Killer) -> list[int]:
    """Return Ray's workers, those at the agents too."""
    mine = [number for number, words in killer.running() if words.startswith(b"ray::Actor")]
    agents = killer.nodes.agents.values() if killer.nodes is not None else ()
    for member in (member for agent in agents for member in session_of(agent.pid)):
        with suppress(OSError):
            if Path(f"/proc/{member}/cmdline").read_bytes().startswith(b"ray::Actor"):
                mine.append(member)
    return mine


def worker(killer: Killer, process: subprocess.Popen[str]) -> bool:
    """Kill one of Ray's workers that traces."""
    tracing(killer, process)
    victims = actors(killer)
    return bool(victims) and _killed(killer.chance.choice(victims))


def head(killer: Killer, process: subprocess.Popen[str]) -> bool:
    """Kill one of the processes that Ray's head is made of, or both."""
    tracing(killer, process)
    victims = killer.chance.choice((HEADS[:1], HEADS[1:], HEADS))
    programs = [(number, words.partition(b"\0")[0]) for number, words in killer.running()]
    met = [_killed(number) for number, program in programs if program.endswith(victims)]
    return any(met)


def _killed(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def agent(killer: Killer, process: subprocess.Popen[str]) -> bool:
    """Kill a node's agent, with all that it started."""
    tracing(killer, process)
    assert killer.nodes is not None
    running = [each for each in killer.nodes.agents.values() if each.poll() is None]
    if running:
        kill_session(killer.chance.choice(running).pid)
    return bool(running)


def clock(killer: Killer, process: subprocess.Popen[str]) -> bool:
    """Set the clock back by a day and forward by a year, and leave it at one of them."""
    tracing(killer, process)
    for moment in killer.chance.sample(("-1d", "+365d", "-40m", "+40m"), 2):
        (killer.space / "clock").write_text(moment)
        time.sleep(0.3)
    return not list(killer.space.glob("runs/*/run.json"))


def nothing(_killer: Killer, _process: subprocess.Popen[str]) -> bool:
    """Leave the run alone: what limits it was there before it."""
    return True


@contextmanager
def limited(megabytes: int) -> Iterator[tuple[str, ...]]:
    """Yield the words that start a command in a cgroup of its own, which has so much memory."""
    root = Path("/sys/fs/cgroup")
    above, name = (
        (root / "memory", "memory.limit_in_bytes")
        if (root / "memory").is_dir()
        else (root, "memory.max")
    )
    group = above / f"audit-strain-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(megabytes * MEGABYTE))
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    finally:
        until = time.monotonic() + ENDS_ALONE_S
        while group.exists() and time.monotonic() < until:
            with suppress(OSError):  # somebody in it is just ending
                group.rmdir()
            time.sleep(0.05)


def strained(killer: Killer, how: Strain, **environment: str) -> str:
    """Strain a new run, and finish it where that ended it; return how it ended."""
    root = killer.space / "runs"
    arguments = killer.first("runs")
    with killer.attended(arguments):
        process = killer.begin(*arguments, **environment)
        met = how(killer, process)
        _, err = process.communicate()
    code, words = process.returncode, f"{how.__name__}: {process.returncode}: {err[-500:]}"
    killer.expect(code in (*WHOLE, 3, 4), words)
    killer.expect("Traceback" not in err and "audit: unexpected" not in err, words)
    killer.expect(code != 4 or "audit: " in err.splitlines()[-1], words)
    killer.within = ()
    runs = sorted(path.parent for path in root.glob("*/plan.json"))
    if code not in WHOLE and not runs:
        killer.finish(*killer.first("runs"))
    elif code not in WHOLE:
        killer.finish("run", "--resume", str(runs[-1]), *killer.told())
    [*_, run] = sorted(path.parent for path in root.glob("*/run.json"))
    killer.compare(run)
    until = time.monotonic() + ENDS_ALONE_S
    while (left := killer.left()) and time.monotonic() < until:
        time.sleep(0.1)
    killer.expect(not left, f"{how.__name__}: left running: {left}")
    files = [path.name for path in killer.temporary.iterdir()]
    killer.expect(not files, f"{how.__name__}: left in TMPDIR: {files}")
    if how is clock and met:
        notes = json.loads((run / "run.json").read_text())["notes"]
        killer.expect(
            "clock-set" in {note["code"] for note in notes}, "a clock that was set is not told"
        )
    shutil.rmtree(root)
    if not met:
        return LATE
    return {0: "goes on", 1: "goes on", 3: "incomplete"}.get(code, f"ended by {code}")


def strain(kind: str, rounds: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Strain so many runs in one way; return how they ended, and what was not as it should be."""
    workers = {"worker": "ray", "head": "ray", "agent": "agents"}.get(kind, "inline")
    ended: Counter[str] = Counter()
    with killing(workers, seed) as killer:
        for number in range(3 * rounds):
            if ended.total() - ended[LATE] >= rounds:
                break
            with ExitStack() as stack:
                environment = {}
                if kind == "memory":
                    limit = LIMITS[number % len(LIMITS)]
                    killer.within = stack.enter_context(limited(limit))
                if kind == "clock":
                    if not FAKETIME.exists():
                        killer.expect(holds=False, problem=f"{FAKETIME} is missing: libfaketime")
                        break
                    (killer.space / "clock").write_text("+0")
                    (killer.space / "sitecustomize.py").write_text(SLEEP)
                    environment = {
                        "PYTHONPATH": str(killer.space),
                        "LD_PRELOAD": str(FAKETIME),
                        "FAKETIME_TIMESTAMP_FILE": str(killer.space / "clock"),
                        "FAKETIME_NO_CACHE": "1",
                        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    }
                ended[strained(killer, STRAINS[kind], **environment)] += 1
                sys.stderr.write(f"{kind}: {dict(ended)}\n")
        return ended, killer.problems


STRAINS: dict[str, Strain] = {
    "worker": worker,
    "head": head,
    "agent": agent,
    "memory": nothing,
    "clock": clock,
}


def main() -> int:
    """Say how the runs ended; return 1 where one was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(STRAINS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    wrong = 0
    for kind in given.kinds:
        ended, problems = strain(kind, given.rounds, given.seed)
        print(f"{kind}: {dict(ended)}, {len(problems)} problems")  # noqa: T201
        wrong += len(problems)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
