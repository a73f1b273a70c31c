"""Traces in a cluster's own pods: `ovn-trace` daemons, and the nodes' Open vSwitches.

A stream's other end is a program of ours, sent along as a constant: what varies are a conntrack
state, a number and a time. The stream is the server's unixctl connection. A daemon (`inpod.py`)
reads the zone's own southbound database as it is when it starts, with the ovn-trace that was
installed beside it; the stream's end is its end, so nothing is left in a pod however this process
ends. A node's ovs-vswitchd (`inswitch.py`) is its own, and runs on.
"""

import contextlib
import functools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit.errors import AuditError, EngineError
from audit.trace import inpod, inswitch
from audit.trace.daemon import Copy, Launch, Start, Unparsed, unparsed
from audit.trace.datapath import Connected
from audit.trace.ofproto_walk import Groups
from audit.trace.unixctl import Channel, RefusedError, Unixctl, UnixctlError

DAEMONS = 2
"""Daemons at a time in a pod, for requests and for replies: each holds the southbound database."""
LIFE_S = 900
"""After so long a server's end of a stream ends in any case; if there is more to ask it is made
anew."""

_STREAMS_LOST = 2
"""After so many streams in a row on which nothing was answered, a place is left alone."""

_FOR_READERS = re.compile(r'^ +(?:"""[^"]*"""|#.*)\n', re.MULTILINE)
"""Functions' docstrings, and comments; the module's own docstring says in logs what it is."""

OpenStream = Callable[[str, Sequence[str]], Channel]
"""(zone or node, argv) → the standard input and output of a command there; AuditError when not."""


def program(mode: str, *words: str) -> tuple[str, ...]:
    """Return the command that is run where a database is: a constant, and a few words of ours."""
    return _python(inpod.__file__, mode, str(LIFE_S), *words)


def switch_program() -> tuple[str, ...]:
    """Return the command that is run where a node's switch is."""
    return _python(inswitch.__file__, str(LIFE_S))


def _python(file: str, *words: str) -> tuple[str, ...]:
    """Return a command that runs the text of a file.

    It travels in a URL, where each character of an indentation takes three: with tabs, and without
    what is written for readers, it stays below the 8 kB that some proxies in front of an API server
    allow.
    """
    text = _FOR_READERS.sub("", Path(file).read_text(encoding="utf-8")).replace("    ", "\t")
    return ("python3", "-I", "-S", "-c", text, *words)


@dataclass(slots=True, kw_only=True)
class Streams:
    """Opens streams to places, and gives a place up where they lead to nothing.

    The threads of a run share it. `ready_s` is how long a server may take to be ready.
    """

    stream: OpenStream
    ready_s: float = 120.0
    _lost: Counter[str] = field(default_factory=Counter)
    _reasons: dict[str, str] = field(default_factory=dict)

    def connect(self, name: str, argv: Sequence[str], timeout_s: float) -> "PodServer":
        """Return a server at a place, ready to be asked; EngineError when there is none."""
        if self._lost[name] >= _STREAMS_LOST:
            raise EngineError(f"{name} is given up: {self._reasons[name]}")
        try:
            channel = self.stream(name, argv)
            connection = Unixctl(Path(name), timeout_s=timeout_s, channel=channel)
            try:
                log = connection.greeting(self.ready_s)
            except BaseException:
                connection.close()
                raise
        except (AuditError, RefusedError, UnixctlError, OSError) as error:
            self._lost[name] += 1
            self._reasons[name] = str(error)
            raise EngineError(str(error)) from error
        return PodServer(connection=connection, log=log, left=functools.partial(self._left, name))

    def give_up(self, name: str, why: str) -> None:
        """Open no stream to a place."""
        self._lost[name] = _STREAMS_LOST
        self._reasons[name] = why

    def _left(self, name: str, answers: int) -> None:
        """Take note of a stream that was left after so many answers."""
        self._lost[name] = 0 if answers else self._lost[name] + 1
        self._reasons[name] = "it did not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodServer:
    """A server in a pod, asked over a stream, which is its life (`audit.trace.daemon.Launched`)."""

    connection: Unixctl
    log: str
    left: Callable[[int], None]
    pid: int = 0

    def end(self) -> None:
        """Close the stream."""
        self.connection.close()
        self.left(self.connection.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """The zones' own databases, in their pods (`audit.trace.daemon.Transport`)."""

    zones: Collection[str]
    streams: Streams

    def has(self, zone: str) -> bool:
        """Say whether there is a database of a zone."""
        return zone in self.zones

    @contextlib.contextmanager
    def open(self, zone: str, _copy: Copy | None = None, /) -> Iterator[Launch]:
        """Yield what starts daemons of a zone; there is nothing to make ready."""
        yield functools.partial(self._launch, zone)

    def division(self, _zone: str, /) -> None:
        """Return that databases are not divided: what daemons read there are the zones' own."""

    def unparsed(self, zone: str) -> Unparsed:
        """Return what the engine there cannot read of a zone's flows; EngineError as of it."""
        return unparsed(functools.partial(self._launch, zone))

    def _launch(self, zone: str, start: Start) -> PodServer:
        states = (f"{state}*{count}" for state, count in start.states)
        argv = program("trace", str(start.select), *states)
        return self.streams.connect(zone, argv, start.timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSwitches:
    """The nodes' own Open vSwitches, in a pod of each node (`audit.trace.datapath.Reach`).

    `tables` are their group tables. One that ends while it is asked is not asked again when it is
    back: it may have been the question, and its node's pods need it.
    """

    streams: Streams
    tables: Mapping[str, Groups]
    _lives: dict[str, str] = field(default_factory=dict)
    """The process that was asked first, by node."""

    def connect(self, node: str, timeout_s: float) -> Connected:
        """Open a stream to a node's; EngineError when there is none, or it is another by now."""
        server = self.streams.connect(node, switch_program(), timeout_s)
        if self._lives.setdefault(node, server.log) != server.log:
            server.end()
            self.streams.give_up(node, "its ovs-vswitchd was started anew while it was asked")
            raise EngineError(f"the ovs-vswitchd of {node} was started anew while it was asked")
        return Connected(server.connection, server.end)

    def groups(self, node: str, _timeout_s: float, /) -> Groups:
        """Return the group table that was read."""
        return self.tables[node]
