"""Packets in columns, and what of them goes on to which table. Pure."""

import heapq
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.flows.fields import ALL_ONES, FIELDS, KEPT, WORD, WORDS, Words
from audit.flows.log import Numbers
from audit.flows.southbound import Southbound, mac_of

ETHER_TYPES = {4: 0x800, 6: 0x86DD}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmp6": 58}
_ECHO = {"icmp": 8, "icmp6": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet that enters by a logical port; `protocol` is tcp, udp, sctp, icmp or icmp6.

    The two are an echo request. `src_port` and `dst_port` are 0 of them.
    """

    inport: str
    eth_src: str
    eth_dst: str
    ip_src: str
    ip_dst: str
    protocol: str
    src_port: int = 0
    dst_port: int = 0
    ttl: int = 64

    @property
    def expression(self) -> str:
        """The packet as `ovn-trace` takes it."""
        family = "ip6" if ":" in self.ip_src else "ip4"
        if self.protocol in _ECHO:
            icmp = f"icmp{family[-1]}"
            l4 = f"{icmp}.type=={_ECHO[self.protocol]} && {icmp}.code==0"
        else:
            ports = self.src_port, self.dst_port
            l4 = f"{self.protocol}.src=={ports[0]} && {self.protocol}.dst=={ports[1]}"
        return (
            f'inport=="{self.inport}" && eth.src=={self.eth_src} && eth.dst=={self.eth_dst} && '
            f"{family}.src=={self.ip_src} && {family}.dst=={self.ip_dst} && "
            f"ip.ttl=={self.ttl} && {l4}"
        )

    @property
    def values(self) -> Iterator[tuple[str, int]]:
        """What is kept of it, but for its port."""
        source, to = ipaddress.ip_address(self.ip_src), ipaddress.ip_address(self.ip_dst)
        yield "eth.src", mac_of(self.eth_src)
        yield "eth.dst", mac_of(self.eth_dst)
        yield "eth.type", ETHER_TYPES[source.version]
        yield f"ip{source.version}.src", int(source)
        yield f"ip{source.version}.dst", int(to)
        yield "ip.proto", PROTOCOLS[self.protocol]
        yield "ip.ttl", self.ttl
        yield "l4.src", _ECHO.get(self.protocol, self.src_port)
        yield "l4.dst", self.dst_port


class Stop(NamedTuple):
    """Where packets are; `hop` counts how often they came to an earlier table than before."""

    hop: int
    pipeline: int
    table: int
    datapath: int


@dataclass(slots=True)
class Rows:
    """Some packets: their words, their branches, and of which packet each is."""

    words: Words
    branch: Numbers
    packet: Numbers

    def __len__(self) -> int:
        return len(self.branch)

    def some(self, which: Numbers | NDArray[np.bool_]) -> "Rows":
        """Return copies of some."""
        return Rows(self.words[:, which], self.branch[which], self.packet[which])

    def copy(self) -> "Rows":
        """Return copies of all."""
        return Rows(self.words.copy(), self.branch, self.packet)

    def word(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return the lowest word of what is kept under a name: a view, to be changed in place."""
        return self.words[KEPT[name].words[0]]  # type: ignore[no-any-return]


@dataclass(slots=True)
class Queue:
    """What goes on to which table: the earliest first, so that many go on together."""

    _waiting: dict[Stop, list[Rows]] = field(default_factory=dict)
    _order: list[Stop] = field(default_factory=list)

    def put(self, stop: Stop, rows: Rows) -> None:
        """Let packets come to a table."""
        if not len(rows):
            return
        if stop not in self._waiting:
            self._waiting[stop] = []
            heapq.heappush(self._order, stop)
        self._waiting[stop].append(rows)

    def take(self) -> tuple[Stop, Rows] | None:
        """Return what comes to a table next; None when nothing does."""
        if not self._order:
            return None
        stop = heapq.heappop(self._order)
        rows = self._waiting.pop(stop)
        if len(rows) == 1:
            return stop, rows[0]
        return stop, Rows(
            np.concatenate([some.words for some in rows], axis=1),
            np.concatenate([some.branch for some in rows]),
            np.concatenate([some.packet for some in rows]),
        )


def columns(southbound: Southbound, packets: Sequence[Packet]) -> Rows:
    """Return packets as columns. KeyError where there is no such port."""
    words = np.zeros((WORDS, len(packets)), np.uint32)
    values: dict[int, list[int]] = {word: [0] * len(packets) for word in range(WORDS)}
    for index, packet in enumerate(packets):
        for name, value in packet.values:
            for at, word in enumerate(KEPT[name].words):
                values[word][index] = value >> WORD * at & ALL_ONES
        key = southbound.ports[packet.inport].key
        values[FIELDS["inport"].words[0]][index] = key
    for word, column in values.items():
        words[word] = column
    numbers = np.arange(len(packets), dtype=np.int64)
    return Rows(words, numbers, numbers)
