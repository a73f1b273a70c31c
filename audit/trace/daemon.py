"""The `ovn-trace` daemon, supervised, wherever it runs.

A daemon answers in a millisecond where a process downloads the whole southbound database for
each trace. It has traps, all of them real:

- It reads the database once: a frozen snapshot, which is what an audit wants.
- `--ct` is given at start, consumed one per conntrack step over all traces, and never reset.
  Past the last it assumes `est` and says so in a comment: then the trace is repeated on a fresh
  daemon. The states are given by the ten thousand. Which one a step was given is mostly not said:
  where a daemon has replies' states before requests', traces on the seam are counted out.
- A microflow with an unknown inport and a datapath kills OVN 23.03's by assertion; no datapath
  is ever named. Whatever kills it twice is poison and becomes a failure of its own.
- `--select-id` is taken at start only: a daemon per ECMP member asked for.
- Logical flows it cannot read are left out, and a warning is all that tells. Since OVN 25.09 there
  is one a second at most, of whatever kind, so it is told to say everything before it reads.

Where it runs is its launcher's business: here on a copy (`audit.trace.local`), or in the pod that
has the database (`audit.trace.pods`).
"""

import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from audit.errors import EngineError
from audit.model.packets import ConntrackState
from audit.model.traces import TraceTask
from audit.trace.unixctl import Unixctl, UnixctlError, UnixctlTimeoutError
from audit.trace.walk import ran_out_of_states, states_taken

STATES_AT_START = 20_000
"""A trace takes four to eight conntrack steps: some three thousand traces per daemon. Each value
is one argument; the command line stays far below the kernel's limit."""

REPLIES_FIRST = 24
"""Conntrack steps of replies that a daemon may be given before those of requests: a zone has a
few replies and many requests, and reading its database costs more than a hundred traces."""

_ATTEMPTS = 2
"""How often a microflow may take its daemon down before it is called poison."""

SAY_EVERYTHING = "vlog/disable-rate-limit"
"""The command (ovs-appctl(8)) that a launcher gives a daemon before it reads its database."""

_UNPARSED = re.compile(
    r"\|WARN\|(?:(?P<flow>.*): parsing (?:expression|actions) failed"
    r"|match annotation failed|logical flow missing datapath)"
)
"""What ovn-trace says of each logical flow that it leaves out, in each datapath."""
_TEMPLATE_VARIABLE = "^"
"""Marks template load balancers' flows (`^NODEIP_IPv4_0`), which no ovn-trace can read."""


class EngineLostError(Exception):
    """The daemon died on this microflow, again."""


class EngineTimeoutError(Exception):
    """The daemon did not answer this microflow in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a daemon is started with; `timeout_s` is how long each of its answers may take."""

    states: tuple[tuple[ConntrackState, int], ...]
    """The states given to conntrack steps, each with how many steps get it, in this order."""
    select: int = 0
    timeout_s: float = 30.0


class Launched(Protocol):
    """A daemon that has read its database."""

    @property
    def pid(self) -> int:
        """Its process id, 0 where that is another machine's."""
        ...

    @property
    def connection(self) -> Unixctl:
        """How it is asked."""
        ...

    @property
    def log(self) -> str:
        """What it complained about while it read."""
        ...

    def end(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        ...


Launch = Callable[[Start], Launched]
"""Starts a daemon of one database; EngineError when it does not read it, UnixctlError when it
cannot be asked, and nothing is left then."""


Copy = Callable[[Path, Path], object]
"""Makes a copy of a standalone database, or of a part of it, by their paths."""


class Transport(Protocol):
    """Where the daemons of zones run."""

    def has(self, zone: str) -> bool:
        """Say whether there is a database of a zone."""
        ...

    def open(self, zone: str, copy: Copy | None = None, /) -> AbstractContextManager[Launch]:
        """Make a zone's database ready, or what `copy` makes of it.

        Daemons run only while this lasts.
        """
        ...

    def division(self, zone: str) -> "Division | None":
        """Return how a zone's database is divided; None where that is not worth it."""
        ...

    def unparsed(self, zone: str) -> "Unparsed":
        """Return what the engine cannot read of a zone's flows; EngineError if it reads nothing."""
        ...


class Division(Protocol):
    """How a database is divided into parts: what some packets can meet of it."""

    def kept(self, tasks: Iterable[TraceTask], more: Iterable[str]) -> frozenset[str]:
        """Return what a part needs for the packets of tasks, by what is known of them, and more."""
        ...

    def part(self, kept: frozenset[str]) -> "Part":
        """Return a part that has these."""
        ...

    @property
    def texts(self) -> Iterable[int]:
        """What tells the text of each flow, 0 where it cannot be read apart from its zone."""
        ...

    def thin(self, read: AbstractSet[int]) -> Copy:
        """Return what makes a copy without flows whose texts were read in other zones."""
        ...


class Part(Protocol):
    """A part of a zone's database, for some packets."""

    @property
    def size(self) -> int:
        """How many flows it has."""
        ...

    @property
    def copy(self) -> Copy:
        """What makes it of the database."""
        ...

    def as_in_whole(self, output: str) -> str:
        """Return a trace with flows called as they are in the whole database."""
        ...

    def missing(self, output: str) -> frozenset[str] | None:
        """Return what a trace would have needed besides.

        That is nothing where the trace is the one in the whole database, None where that cannot be
        told.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unparsed:
    """Logical flows the daemon could not read: `flows` others than template load balancers'."""

    flows: int
    templates: int
    example: str


def _unparsed(log: str) -> Unparsed:
    """Count what a daemon complained about while it read the database."""
    failed = [match["flow"] or match[0] for match in _UNPARSED.finditer(log)]
    others = [flow for flow in failed if _TEMPLATE_VARIABLE not in flow]
    return Unparsed(
        flows=len(others),
        templates=len(failed) - len(others),
        example=others[0] if others else "",
    )


class TraceDaemon:
    """One `ovn-trace` daemon for one database, conntrack state and ECMP choice.

    With `turns`, one of replies can `turn` to requests once its replies are traced.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        state: ConntrackState,
        select: int = 0,
        timeout_s: float = 30.0,
        states_at_start: int = STATES_AT_START,
        turns: bool = False,
    ) -> None:
        self._launch = launch
        self._state = state
        only = ((state, states_at_start),)
        first = (ConntrackState.REPLY, REPLIES_FIRST), (ConntrackState.REQUEST, states_at_start)
        self._only = Start(states=only, select=select, timeout_s=timeout_s)
        self._start = replace(self._only, states=first) if turns else self._only
        self._launched: Launched | None = None
        self._replies_at_least = self._replies_at_most = 0
        """Bounds of how many of the daemon's states are still replies'."""
        self.starts = 0
        self.unparsed = Unparsed(flows=0, templates=0, example="")

    @property
    def pid(self) -> int:
        """The daemon's process id, 0 while there is none."""
        return self._launched.pid if self._launched is not None else 0

    def turn(self) -> bool:
        """Trace requests from now on; False where this daemon cannot."""
        if self._start is self._only:
            return False
        self._state = ConntrackState.REQUEST
        self._start = self._only = replace(self._only, states=self._start.states[1:])
        return True

    def trace(self, expression: str) -> str:
        """Return the detailed trace of a microflow.

        RefusedError when the daemon will not (a bad expression is *not* refused: the complaint
        is the output). EngineLostError, EngineTimeoutError when no daemon survives it or answers;
        EngineError when none can be started.
        """
        deaths = 0
        while True:
            fresh = self._launched is None
            try:
                output = self._ask(expression)
            except UnixctlTimeoutError as error:
                self.stop()
                timeout_s = self._start.timeout_s
                raise EngineTimeoutError(f"no answer within {timeout_s:g} s") from error
            except UnixctlError as error:
                self.stop()
                deaths += 1
                if deaths == _ATTEMPTS:
                    raise EngineLostError(f"ovn-trace died on it {deaths} times") from error
                continue
            except KeyboardInterrupt:
                self.stop()  # the next answer would be this one's
                raise
            left = self._replies_at_most
            if self._had_its_states(output):
                return output
            if self._state is ConntrackState.REQUEST and self._replies_at_most < left:
                continue  # replies' states are before its own: once more, until they are used up
            # The states are used up: the same question to a daemon that has all of them.
            self.stop()
            if fresh and self._start is self._only:
                raise EngineLostError("ovn-trace ran out of conntrack states on one microflow")
            self._start = self._only

    def _had_its_states(self, output: str) -> bool:
        """Say whether every conntrack step of a trace was given this daemon's state."""
        if ran_out_of_states(output):
            return False
        left = self._replies_at_most
        if self._state is ConntrackState.REQUEST and not left:
            return True
        least, most = states_taken(output)
        self._replies_at_most = max(left - least, 0)
        self._replies_at_least -= most
        if self._state is ConntrackState.REQUEST:
            return not most
        return self._replies_at_least >= 0 or not most

    def _ask(self, expression: str) -> str:
        if self._launched is None:
            self.start()
        assert self._launched is not None  # noqa: S101 - start() connects or raises
        return self._launched.connection.transact("trace", "--detailed", expression)

    def start(self) -> None:
        """Start the daemon, which reads the whole database; EngineError when it does not."""
        self.stop()
        try:
            self._launched = self._launch(self._start)
        except (OSError, ValueError) as error:
            raise EngineError(f"ovn-trace could not be started: {error}") from error
        except UnixctlError as error:
            raise EngineError(f"ovn-trace does not answer: {error}") from error
        self.unparsed = _unparsed(self._launched.log)
        replies = dict(self._start.states).get(ConntrackState.REPLY, 0)
        self._replies_at_least = self._replies_at_most = replies
        self.starts += 1

    def stop(self) -> None:
        """End the daemon, whatever state it is in; a later trace starts a fresh one."""
        launched, self._launched = self._launched, None
        if launched is not None:
            launched.end()


def unparsed(launch: Launch) -> Unparsed:
    """Return what the engine cannot read of a database's flows; EngineError if it reads nothing."""
    daemon = TraceDaemon(launch, state=ConntrackState.REQUEST, states_at_start=1)
    daemon.start()
    daemon.stop()
    return daemon.unparsed
