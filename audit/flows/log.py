"""What a batch of packets meets, written down while it goes on, and read packet by packet. Pure.

A packet is a branch, and so is every copy that is made of it (`clone`, a group's ports) and every
way that something left to chance may take (a backend, an ECMP member, one of two flows of the same
priority). What a branch meets is a sequence of events, among them where others begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class Kind(IntEnum):
    """What an event is; most come with a number."""

    FLOW = 0
    """A logical flow, or several of one priority that do the same: a number of `Log.met`."""
    MISSED = 1
    """No flow of the table: the packet is dropped."""
    OUTPUT = 2
    """Out of a port, by its number."""
    TURNED = 3
    """Not output, as it would go back where it came from."""
    NOWHERE = 4
    """Output to no port."""
    REFUSED = 5
    """Nobody knows: a number of `Log.reasons`."""
    COPY = 6
    """A copy goes on by itself, as the branch of this number; then this branch does."""
    CHOICE = 7
    """One way that is left to chance, as the branch of this number; this branch ends."""


_SHIFT = 48


@dataclass(slots=True)
class Log:
    """Events by branch, in the order they were met. The first branches are the packets."""

    packets: int
    met: list[tuple[int, ...]] = field(default_factory=list)
    """Numbers of flows that are met together."""
    reasons: list[str] = field(default_factory=list)
    branches: int = 0
    _numbers: dict[tuple[int, ...], int] = field(default_factory=dict)
    _reasons: dict[str, int] = field(default_factory=dict)
    _events: list[tuple[Numbers, Numbers]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.branches = self.packets

    def flows(self, numbers: tuple[int, ...]) -> int:
        """Return the number of flows that are met together."""
        if numbers not in self._numbers:
            self._numbers[numbers] = len(self.met)
            self.met.append(numbers)
        return self._numbers[numbers]

    def add(self, branch: Numbers, kind: Kind, number: Numbers | int = 0) -> None:
        """Add an event to each branch."""
        code = np.broadcast_to(np.asarray(number, np.int64) | int(kind) << _SHIFT, branch.shape)
        self._events.append((branch, code))

    def refuse(self, branch: Numbers, reason: str) -> None:
        """Say that what becomes of branches is not known."""
        if reason not in self._reasons:
            self._reasons[reason] = len(self.reasons)
            self.reasons.append(reason)
        self.add(branch, Kind.REFUSED, self._reasons[reason])

    def begin(self, parent: Numbers, kind: Kind) -> Numbers:
        """Begin a branch at each of some, and return their numbers."""
        made = np.arange(self.branches, self.branches + len(parent), dtype=np.int64)
        self.branches += len(parent)
        self.add(parent, kind, made)
        return made

    def answers(self) -> "Answers":
        """Return what was written, by branch."""
        branch = np.concatenate([branch for branch, _ in self._events] or [np.empty(0, np.int64)])
        code = np.concatenate([code for _, code in self._events] or [np.empty(0, np.int64)])
        order = np.argsort(branch, kind="stable")
        starts = np.searchsorted(branch[order], np.arange(self.branches + 1))
        return Answers(self, code[order] >> _SHIFT, code[order] & (1 << _SHIFT) - 1, starts)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a branch."""

    kind: Kind
    number: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Events by branch: those of branch b are from `starts[b]` to `starts[b + 1]`."""

    log: Log
    kinds: Numbers
    numbers: Numbers
    starts: Numbers

    def events(self, branch: int) -> Iterator[Event]:
        """Yield what a branch meets, in order."""
        of = slice(self.starts[branch], self.starts[branch + 1])
        for kind, number in zip(self.kinds[of].tolist(), self.numbers[of].tolist(), strict=True):
            yield Event(Kind(kind), number)

    def everything(self, packet: int) -> Iterator[Event]:
        """Yield all that a packet and all that is made of it meet, whatever chance decides."""
        for event in self.events(packet):
            yield event
            if event.kind in (Kind.COPY, Kind.CHOICE):
                yield from self.everything(event.number)

    def refused(self, packet: int) -> str:
        """Return why it is not known what becomes of a packet; empty where it is."""
        refused = (e.number for e in self.everything(packet) if e.kind is Kind.REFUSED)
        return next((self.log.reasons[number] for number in refused), "")

    def ends(self, packet: int) -> frozenset[int]:
        """Return the numbers of the ports that a packet, or a copy of it, may be output to."""
        events = self.everything(packet)
        return frozenset(event.number for event in events if event.kind is Kind.OUTPUT)
