"""Batches on Ray actors: in parallel over processes, and over nodes where Ray has some.

An actor keeps the database of its zone open, so it is given batches of that zone while there are
any. A few batches are in flight per actor and no more: results are taken as they finish and the
backlog stays here. An actor that dies takes nothing with it but its batch's time: the batch is run
once more elsewhere, and if that kills an actor too, its traces are failures.

Ray is imported when the fan-out is entered and shut down when it is left, whatever happened; it
reports no usage and has no dashboard.
"""

import atexit
import logging
import math
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from audit import scratch, supervise
from audit.errors import EngineError, OutputError
from audit.fanout.backlog import Backlog
from audit.fanout.base import Finished, MakeWorker, finished
from audit.model.traces import TraceBatch, TraceFailure, TraceOutcome
from audit.model.verdicts import Reason

IN_FLIGHT = 2
"""Batches per actor: one that runs and one that waits, so that no actor waits for the driver."""

_LOOK_S = 3.0
"""How often is looked whether Ray is still there. Actors go on without a head, but 60 s after it
Ray ends the process that asks them, without a word of ours (2.60)."""
_LISTEN_S = 1.0
GRACE_S = 10.0
"""How long the batches at hand are waited for when the time is up; they take half a second."""

_CLOSE_TIMEOUT_S = 10
_LOOK_AGAIN_S = 0.05

ATTEMPTS = 2
"""How often a batch is begun: what kills two actors is given up."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # What Ray's own processes report, as a worker that died, it would print where results go; what
    # looks for repeated lines can leave out all of them.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_ALLOW_REGEX": "",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Else a signal, also SIGTERM, ends the process in Ray's own library, and none is handled once
    # Ray is shut down.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # Else who joins first waits, in Ray's library, for the first workers to come up: where one is
    # killed as it does so that is for ever, or the process ends without a word of ours (2.60).
    "RAY_prestart_worker_first_driver": "0",
}


_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Without it Ray listens at 127.0.0.1 alone, on every system; it is read when Ray is imported."""
_LONGEST_TMPDIR = 26
"""Ray's sockets have some 80 bytes more in their paths, of the 107 there are."""


def load() -> Any:  # noqa: ANN401 - Ray ships no complete types
    """Return Ray, with the settings it reads when it is imported."""
    os.environ.update(ENVIRONMENT)
    import ray  # noqa: PLC0415 - seconds of import, paid only by those who use it
    import ray.util.scheduling_strategies  # noqa: PLC0415 - as above

    atexit.unregister(ray.shutdown)  # `leave` does it; half started, Ray waits there for ever
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


def start(**how: Any) -> tuple[Any, str]:  # noqa: ANN401 - Ray's own
    """Load Ray and start it, or join one; return it, and where its head listens.

    That is done by a thread of its own. Signals are the main thread's, so no code of Ray's can
    swallow what they raise, and none of Ray's handlers, which end the process, can be set. The
    thread stays: when it ends, the kernel ends the processes it has started. EngineError when Ray
    does not start.
    """
    answers: queue.SimpleQueue[tuple[Any, str] | BaseException] = queue.SimpleQueue()

    def begin() -> None:
        try:
            ray = load()
            head = str(ray.init(**how).address_info["gcs_address"])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised where it is asked
            answers.put(error)
        else:
            answers.put((ray, head))
            threading.Event().wait()

    threading.Thread(target=begin, name="ray", daemon=True).start()
    answer = answers.get()
    if isinstance(answer, BaseException):
        words = " ".join(str(answer).split()).rstrip(".")
        raise EngineError(f"Ray did not start: {words}") from answer
    return answer


def listens(address: str) -> bool:
    """Say whether something listens at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTEN_S).close()
    except OSError:
        return False
    return True


def require_listening(head: str) -> None:
    """Raise EngineError when Ray's head is gone: to ask Ray anything would be to wait for it."""
    if head and not listens(head):
        raise EngineError(f"Ray's head was lost: nothing listens at {head} any more")


@contextmanager
def home() -> Iterator[Path]:
    """Yield the directory of a Ray that is started in the block; both are gone after it.

    Ray's own processes look only now and then whether they are needed, and leave their files.
    """
    try:
        with scratch.directory(scratch.RAY, _above()) as space:
            os.environ[scratch.VARIABLE] = str(space)  # whatever Ray starts inherits it
            try:
                yield space
            finally:
                scratch.end_processes_of(space)
                os.environ.pop(scratch.VARIABLE)
    finally:
        scratch.sweep()  # of actors that did not answer, and are gone now


def run_node(*arguments: str) -> None:
    """Be a Ray node, by `ray start` with these arguments, until its head ends.

    EngineError when it did not become one. When it ends, also by an interrupt, its processes end.
    """
    os.environ.update(ENVIRONMENT)
    with home() as space:
        flags = ("--block", "--disable-usage-stats", f"--temp-dir={space}", *arguments)
        program = (sys.executable, "-m", "ray.scripts.scripts", "start", *flags)
        parent = os.getpid()
        node = os.fork()
        if not node:
            supervise.end_with(parent)
            os.execv(program[0], program)  # noqa: S606 - argv and no shell, which is what is wanted
        try:
            _, status = os.waitpid(node, 0)
        except BaseException:
            _leave(node)
            raise
        if not any(space.glob("session_*/sockets/raylet*")):
            code = os.waitstatus_to_exitcode(status)
            raise EngineError(f"this node did not join the run: Ray ended with exit code {code}")


def _leave(node: int) -> None:
    """Have a node take leave of its head, which needs not look for it then."""
    os.kill(node, signal.SIGTERM)
    until = time.monotonic() + _CLOSE_TIMEOUT_S
    while not os.waitpid(node, os.WNOHANG)[0] and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_S)


def _above() -> Path:
    """Return where Ray's files and sockets go: TMPDIR, unless its name is too long for those."""
    directory = Path(tempfile.gettempdir())
    return directory if len(os.fsencode(directory)) <= _LONGEST_TMPDIR else scratch.SHORT


class Actor:
    """A worker in its own process; it is entered when the actor starts and left by `close`."""

    def __init__(self, make_worker: MakeWorker) -> None:
        self._open = ExitStack()
        self._worker = self._open.enter_context(make_worker())

    def run(self, batch: TraceBatch) -> tuple[TraceOutcome, ...]:
        """Trace a batch."""
        return finished(batch, self._worker.run(batch))[1]

    def close(self) -> None:
        """Leave the worker: daemons and servers end."""
        self._open.close()

    def pid(self) -> int:
        """Return the process this actor lives in."""
        return os.getpid()


@dataclass(slots=True)
class _Member:
    """An actor and what it is doing."""

    handle: Any
    zone: str = ""
    running: int = 0


@dataclass(slots=True)
class RayFanout:
    """Runs batches on `workers` actors, which it keeps between calls. Use as a context.

    From `until` on, by the monotonic clock, no batch is begun any more.
    """

    make_worker: MakeWorker
    workers: int
    until: float = math.inf
    retraced: int = 0
    _ray: Any = None
    _head: str = ""
    _looked: float = 0.0
    _open: ExitStack = field(default_factory=ExitStack)
    _members: list[_Member] = field(default_factory=list)

    def __enter__(self) -> Self:
        space = self._open.enter_context(home())  # ended as it starts, Ray leaves processes behind
        os.environ.update(_ALONE)
        try:
            self._ray, self._head = start(
                address="local",  # else it joins what was last started on this machine
                num_cpus=self.workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _temp_dir=str(space),
            )
        except BaseException as error:
            self.__exit__()
            if not isinstance(error, EngineError):
                raise
            raise EngineError(f"{error}; try --workers inline") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._ray is None:
            self._open.close()
            return
        try:
            leave(self._ray, self._head, self._members)
        finally:
            self._ray = None
            self._open.close()

    def pids(self) -> list[int]:
        """Return the processes of the actors that are alive."""
        return [self._ray.get(member.handle.pid.remote()) for member in self._members]

    def run(self, backlog: Backlog) -> Iterator[Finished]:
        """Yield every batch exactly once with its outcomes, as they finish."""
        attempts: dict[str, int] = defaultdict(int)
        running: dict[Any, tuple[_Member, TraceBatch]] = {}
        self._fill(backlog, running)
        while running:
            left = self.until + GRACE_S - time.monotonic()
            patience = min(max(left, 0.001), _LOOK_S)
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=patience)
            if not done and left <= 0:
                return  # what is left of these batches is not worth more waiting
            if time.monotonic() > self._looked + _LOOK_S:
                self._require_head()
            if not done:
                continue
            member, batch = running.pop(done[0])
            member.running -= 1
            try:
                outcomes = self._ray.get(done[0])
            except OutputError as error:  # as its worker raised it, in Ray's wrapping
                raise OutputError(str(getattr(error, "cause", error))) from None
            except self._ray.exceptions.RayError as error:
                self._drop(member)
                attempts[batch.tasks[0].key] += 1
                if attempts[batch.tasks[0].key] < ATTEMPTS:
                    backlog.put_back(batch)
                else:
                    reason = str(error).splitlines()[0]
                    yield lost(batch, f"a worker died on this batch {ATTEMPTS} times: {reason}")
            else:
                self.retraced += batch.tasks[0].key in attempts
                yield batch, outcomes
            self._fill(backlog, running)

    def _require_head(self) -> None:
        """Raise EngineError when nothing is left of Ray: batches would be waited for for ever."""
        self._looked = time.monotonic()
        require_listening(self._head)
        try:
            alive = any(node["Alive"] for node in self._ray.nodes())
        except Exception as error:
            raise EngineError(f"Ray's head was lost: {str(error).splitlines()[0]}") from error
        if not alive:
            raise EngineError("Ray's head was lost: none of its nodes is alive")

    def _fill(self, backlog: Backlog, running: dict[Any, tuple[_Member, TraceBatch]]) -> None:
        """Give batches to actors until each has enough or the backlog is empty."""
        while time.monotonic() < self.until:
            member = self._ready()
            if member is None and len(self._members) >= self.workers:
                return
            busy = {m.zone for m in self._members if m.running}
            batch = backlog.take(member.zone if member else "", busy)
            if batch is None:
                return
            if member is None:
                member = self._hire()
            member.zone = batch.zone
            member.running += 1
            running[member.handle.run.remote(batch)] = (member, batch)

    def _ready(self) -> _Member | None:
        """Return the actor with the least to do; None where none can have more, or a new one."""
        idle = [m for m in self._members if m.running < IN_FLIGHT]
        least = min(idle, key=lambda m: m.running, default=None)
        # A new actor costs seconds; it is worth it only when all others are at work.
        if least is not None and least.running and len(self._members) < self.workers:
            return None
        return least

    def _hire(self) -> _Member:
        """Start an actor. It is not restarted by Ray: a batch that kills it must be known."""
        self._require_head()  # which an actor would be waited for with
        actor = self._ray.remote(num_cpus=1, max_restarts=0)(Actor)
        member = _Member(handle=actor.remote(self.make_worker))
        self._members.append(member)
        return member

    def _drop(self, member: _Member) -> None:
        """Forget a dead actor; its other batch in flight fails by itself and comes back."""
        if member in self._members:
            self._members.remove(member)


def close(ray: Any, actors: Sequence[Any]) -> None:  # noqa: ANN401 - Ray's own
    """Have actors leave their workers; those that do not answer in time end with Ray."""
    closing = [actor.close.remote() for actor in actors]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_TIMEOUT_S)


def leave(ray: Any, head: str, members: list[Any]) -> None:  # noqa: ANN401 - Ray's own
    """Close the actors of members where the head still answers, and shut Ray down."""
    try:
        if head and listens(head):  # else nothing would answer
            close(ray, [member.handle for member in members])
    finally:
        members.clear()
        ray.shutdown()


def lost(batch: TraceBatch, message: str) -> Finished:
    """Return a batch that nobody is left to run, as failures that say so."""
    reason = Reason.WORKER_LOST
    return batch, tuple(
        TraceFailure(key=task.key, reason=reason, message=message) for task in batch.tasks
    )
