"""Ends audits at random moments, and goes on with them: each ends as if nothing had happened.

    python -m tests.kill [--signals N] [--workers inline,ray,agents] [--seed SEED] [--seconds S]

Signals are sent at any time of a run or of its resume: while it is loaded, reads, starts workers,
traces, writes, renders or signs. After each nothing may run or lie in TMPDIR once the next command
has begun; the exit code is 130, or the signal's where none can be handled. A series ends when its
run is whole: its cells are then those of a run that was never ended, byte for byte, its page is
the one that is rendered of it again, and its signature is good.

With agents the signals go to the run; its agents are started beside each sitting, and end by
themselves when it does, or look on for a run when they had not joined.
"""

import argparse
import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from audit.replay import toolchain
from tests.end_to_end.test_agents import (
    Cluster,
    free_port,
    kill_session,
    serving,
    session_of,
    short_directory,
    without_the_third,
)

REPOSITORY = Path(__file__).resolve().parent.parent
SNAPSHOT = REPOSITORY / "examples" / "interconnect.tar.gz"
SCOPE = ("--planes", "logical", "--cover", "exhaustive", "-n", "default", "-n", "shop")
COMMAND = (sys.executable, "-m", "audit")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SHARES = {"inline": 100, "ray": 60, "agents": 40}
"""How many signals audits with these workers get."""
ENDS_ALONE_S = 30.0
"""How long what a killed process started may take to notice."""


@dataclass(kw_only=True)
class Killer:
    """Runs series below a directory, and notes what is not as it should be."""

    space: Path
    workers: str
    chance: random.Random
    problems: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """Signals that arrived, and how the command ended."""
    phases: Counter[str] = field(default_factory=Counter)
    """What it had last said that it was doing."""
    whole: Path = Path()
    took_s: float = 0.0
    snapshot: Path = SNAPSHOT
    nodes: Cluster | None = None
    """What agents are started on."""
    within: tuple[str, ...] = ()
    """The words that commands are started with, as those that limit them."""

    def __post_init__(self) -> None:
        """Make the key, and the run that is not disturbed."""
        self.temporary = self.space / "t"
        self.temporary.mkdir(parents=True)
        self.key, self.public = self.space / "key.pem", self.space / "public.pem"
        made = ("openssl", "genpkey", "-algorithm", "ed25519", "-out", str(self.key))
        subprocess.run(made, check=True)
        shown = ("openssl", "pkey", "-in", str(self.key), "-pubout", "-out", str(self.public))
        subprocess.run(shown, check=True)
        begun = time.monotonic()
        self.finish(*self.first("whole"))
        self.took_s = time.monotonic() - begun
        [self.whole] = (self.space / "whole").iterdir()

    def first(self, root: str) -> tuple[str, ...]:
        """Return the arguments of a new run."""
        place = str(self.space / root)  # which the page names
        return ("run", "--snapshot", str(self.snapshot), "--out", place, *SCOPE, *self.told())

    def told(self) -> tuple[str, ...]:
        """Return what every sitting is told."""
        told = ("--sign-key", str(self.key), "--workers", self.workers)
        if self.nodes is None:
            return (*told, "--worker-count", "2")
        listen = f"127.0.0.1:{self.nodes.port}"
        return (*told, "--agents-listen", listen, "--agents-wait", "200")

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command with a TMPDIR of its own."""
        return subprocess.Popen(
            [*self.within, *COMMAND, *arguments],
            cwd=self.space,
            env={**self.environment(), "TMPDIR": str(self.temporary), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - this process has no other thread
        )

    def environment(self) -> dict[str, str]:
        """Return what commands are started with."""
        return dict(os.environ) if self.nodes is None else self.nodes.environment

    def finish(self, *arguments: str, codes: tuple[int, ...] = (0, 1)) -> str:
        """Run a command to its end, and note another exit code than it should have."""
        process = self.begin(*arguments)
        with self.attended(arguments):
            _, err = process.communicate()
        self.expect(process.returncode in codes, f"{arguments}: {process.returncode}: {err[-500:]}")
        return err

    def expect(self, holds: object, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(problem)
            sys.stderr.write(f"  {problem}\n")

    def series(self, most: int) -> None:
        """Disturb one run until it is whole, or until `most` signals were sent in all."""
        root = self.space / "runs"
        while self.sent.total() < most:
            run = next((path.parent for path in root.glob("*/plan.json")), None)
            besides = {path.name for path in root.glob("[!.]*") if path != run}
            self.expect(not besides, f"left beside the run: {besides}")
            if run is not None and (run / "run.json.sig").exists():
                break
            going_on = ("run", "--resume", str(run), *self.told())
            self.disturb(going_on if run is not None else self.first("runs"))
        runs = [path.parent for path in root.glob("*/plan.json")]
        self.expect(len(list(root.glob("*"))) == len(runs), f"left: {list(root.glob('*'))}")
        for run in runs:
            if not (run / "run.json.sig").exists():
                self.finish("run", "--resume", str(run), *self.told())
            self.compare(run)
        shutil.rmtree(root, ignore_errors=True)

    def disturb(self, arguments: tuple[str, ...]) -> None:
        """Begin a command, and end it at some moment, early and late ones as well as others."""
        number = self.chance.choice(SIGNALS)
        process = self.begin(*arguments)
        with self.attended(arguments):
            time.sleep(self.chance.random() * self.took_s * 1.1)
            arrives = process.poll() is None
            process.send_signal(number)
            _, err = process.communicate()
        allowed = {0, 1, -number} if number is signal.SIGKILL else {0, 1, 130}
        # Until Python itself has started no program can handle a signal, or what becomes of one.
        started = "audit" in err
        if number is not signal.SIGKILL and not started:
            allowed.add(-number)
        told = f"{number.name} to {arguments[1]} of {self.workers}"
        if arrives:
            doing = [line for line in err.splitlines() if line and not line.startswith("audit: ")]
            phase = doing[-1].partition(" (")[0] if doing else "loading"
            self.phases[phase] += 1
            self.sent[f"{number.name} {process.returncode}"] += 1
            sys.stderr.write(f"{told}, {phase}: {process.returncode}\n")
        self.expect(process.returncode in allowed, f"{told}: {process.returncode}: {err[-500:]}")
        self.expect("Traceback" not in err or not started, f"{told}: {err[-500:]}")
        patience_s = ENDS_ALONE_S if number is signal.SIGKILL else 1.0
        if number is signal.SIGKILL:
            until = time.monotonic() + patience_s  # the run itself ends when who waits for it has
            while any("audit run" in command for command in self.left()) and (
                time.monotonic() < until
            ):
                time.sleep(0.05)
            self.finish("history", str(self.whole.parent))
        until = time.monotonic() + patience_s
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.1)
        self.expect(not left, f"{told}: left running: {left}")
        files = [path.name for path in self.temporary.iterdir()]
        self.expect(not files, f"{told}: left in TMPDIR: {files}")

    @contextmanager
    def attended(self, arguments: tuple[str, ...]) -> Iterator[None]:
        """Have agents beside a run; those that joined it have to end with it."""
        if self.nodes is None or arguments[0] != "run":
            yield
            return
        over = threading.Event()
        joined: set[str] = set()
        thread = threading.Thread(target=self.attend, args=(self.nodes, over, joined))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            until = time.monotonic() + ENDS_ALONE_S
            for node, agent in self.nodes.agents.items():
                while node in joined and agent.poll() is None and time.monotonic() < until:
                    time.sleep(0.1)
                ended = node not in joined or agent.poll() is not None
                self.expect(ended, f"the agent of {node} goes on without its run")
                agent.send_signal(signal.SIGTERM)
                try:
                    agent.wait(ENDS_ALONE_S)
                except subprocess.TimeoutExpired:
                    self.expect(holds=False, problem=f"the agent of {node} does not heed SIGTERM")
                    kill_session(agent.pid)
                    agent.wait()
                left = [f"process {process}" for process in session_of(agent.pid)]
                self.expect(not left, f"left of the agent of {node}: {left}")
            files = [path.name for path in self.nodes.home.glob("[!ot]*")]  # but logs and the token
            self.expect(not files, f"left of the agents: {files}")
            self.nodes.agents.clear()
            self.nodes.port = free_port()

    @staticmethod
    def attend(nodes: Cluster, over: threading.Event, joined: set[str]) -> None:
        """Start an agent per node, one after another; one that fails is started again."""
        for node in nodes.sockets:
            log = nodes.home / f"{node}.log"
            while not over.is_set() and node not in joined:
                before = log.stat().st_size if log.exists() else 0
                nodes.start(node)
                while nodes.agents[node].poll() is None and not over.wait(0.1):
                    if "Ray runtime started" in log.read_text()[before:]:
                        joined.add(node)
                        break

    def running(self) -> Iterator[tuple[int, bytes]]:
        """Yield what has this TMPDIR, or a file or socket below it open, and what it is called."""
        mark = str(self.temporary).encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                known = [(process / name).read_bytes() for name in ("environ", "cmdline")]
                known += [bytes(file.readlink()) for file in (process / "fd").iterdir()]
                if any(mark in text for text in known):
                    yield int(process.name), known[1]
            except OSError:
                continue  # it has just ended

    def left(self) -> list[str]:
        """Return the programs that run with this TMPDIR."""
        return [words.replace(b"\0", b" ")[:80].decode() for _, words in self.running()]

    def compare(self, run: Path) -> None:
        """Compare a run that was disturbed with the one that was not, and with itself."""
        names = sorted(path.name for path in (self.whole / "cells").iterdir())
        directories = (self.whole / "cells", run / "cells")
        _, differ, missing = filecmp.cmpfiles(*directories, names, shallow=False)
        self.expect(not differ and not missing, f"{run}: other cells: {differ + missing}")
        self.finish("verify", str(run), "--key", str(self.public), codes=(0,))
        self.finish("report", str(run), "--out", "again")
        same = filecmp.cmp(self.space / "again/report.html", run / "report.html", shallow=False)
        self.expect(same, f"{run}: its page is not what is rendered of it")


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def killing(workers: str, seed: int) -> Iterator[Killer]:
    """Yield a killer of audits with these workers, and what agents need."""
    with ExitStack() as stack:
        space = Path(stack.enter_context(short_directory()))
        snapshot, nodes = SNAPSHOT, None
        if workers == "agents":
            snapshot = without_the_third(SNAPSHOT, space / "snapshot")
            served = serving(snapshot, toolchain.find()[0], space)
            nodes = stack.enter_context(served)
        yield Killer(
            space=space / "k",
            workers=workers,
            chance=random.Random(seed),  # noqa: S311 - moments, no secrets
            snapshot=snapshot,
            nodes=nodes,
        )


def kill(signals: int, workers: str, seed: int, seconds: float = float("inf")) -> Killer:
    """Send so many signals to audits with these workers, as far as the time allows."""
    with killing(workers, seed) as killer:
        until = time.monotonic() + seconds
        while killer.sent.total() < signals and time.monotonic() < until:
            killer.series(signals)
        return killer


def main() -> int:
    """Say what was sent and what was not as it should be; return 1 where anything was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, help=f"to each of the workers; else {SHARES}")
    parser.add_argument("--workers", default=",".join(SHARES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    problems = 0
    for workers in given.workers.split(","):
        signals = SHARES[workers] if given.signals is None else given.signals
        done = kill(signals, workers, given.seed, given.seconds)
        problems += len(done.problems)
        for counts in (done.sent, done.phases):
            told = ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
            print(f"{workers}: {told}")  # noqa: T201
        print(f"{workers}: {done.sent.total()} signals, {len(done.problems)} problems")  # noqa: T201
    return min(problems, 1)


if __name__ == "__main__":
    sys.exit(main())
