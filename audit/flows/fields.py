"""Where a packet keeps what a symbol is of: rows of 32-bit words. Pure.

A batch of packets is a matrix of words by packets, and so is what OVN keeps beside them. As in
Open vSwitch's `struct flow`, symbols share their place: `arp.spa` is where `ip4.src` is, an ICMP
type where a port is, and `xxreg0` is four registers.
"""

import itertools
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.flows.symbols import SYMBOLS

Words = NDArray[np.uint32]
"""A matrix of words by packets."""

WORD = 32
ALL_ONES = 0xFFFFFFFF


class Needs(Enum):
    """Of which packets Open vSwitch has a field (lib/meta-flow.c, `mf_are_prereqs_ok`)."""

    NOTHING = "nothing"
    IP4 = "ip4"
    IP6 = "ip6"
    IP = "ip"
    ARP = "arp"
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP4 = "icmp4"
    ICMP6 = "icmp6"
    ND = "nd"
    ND_NS = "nd_ns"
    ND_NA = "nd_na"


class Slice(NamedTuple):
    """`width` bits from `low` of the words in `words`, of which the first has the lowest bits."""

    words: tuple[int, ...]
    low: int
    width: int
    needs: Needs = Needs.NOTHING

    def part(self, low: int, width: int) -> "Slice":
        """Return some bits of it."""
        return Slice(self.words, self.low + low, width, self.needs)

    @property
    def pieces(self) -> Iterator[tuple[int, int, int, int]]:
        """Of each word: it, its lowest bit, how many bits, and where they are in the value."""
        at, end = self.low, self.low + self.width
        while at < end:
            count = min(WORD - at % WORD, end - at)
            yield self.words[at // WORD], at % WORD, count, at - self.low
            at += count

    def masked(self, value: int, mask: int) -> dict[int, tuple[int, int]]:
        """Return what words must be for the bits in `mask` to be those of `value`.

        By word, its mask and its value.
        """
        some: dict[int, tuple[int, int]] = {}
        for word, low, count, at in self.pieces:
            ones = (1 << count) - 1
            if compared := mask >> at & ones:
                some[word] = compared << low, (value >> at & compared) << low
        return some


_OF_WIDTH = {
    2: ("ip.frag",),
    8: ("ip.proto", "tos", "ip.ttl"),
    12: ("tcp.flags",),
    16: ("eth.type", "vlan.tci", "l4.src", "l4.dst", "ct.l4.dst"),
    20: ("ip6.label",),
    32: (
        *("ip4.src", "ip4.dst", "flags", "inport", "outport", "pkt.mark", "ct_state", "ct_mark"),
        *("ct.ip4.dst", "flood", "flood.packet", "flood.port"),
        *(f"reg{number}" for number in range(10)),
    ),
    48: ("eth.src", "eth.dst", "arp.sha", "arp.tha"),
    128: ("ip6.src", "ip6.dst", "nd.target", "ct_label", "ct.ip6.dst"),
}
"""What is kept of a packet, by how many bits it has; `flood…` are the evaluator's own."""


def _laid_out() -> Iterator[tuple[str, Slice]]:
    at = 0
    for width, names in _OF_WIDTH.items():
        for name in names:
            count = -(-width // WORD)
            yield name, Slice(tuple(range(at, at + count)), 0, width)
            at += count


_KEPT = dict(_laid_out())
WORDS = 1 + max(word for bits in _KEPT.values() for word in bits.words)
"""How many words a packet has."""

_FLAGS = {
    "loopback": 0,
    "force_snat_for_dnat": 2,
    "force_snat_for_lb": 3,
    "skip_snat_for_lb": 9,
    "use_snat_zone": 11,
    "localnet": 15,
    "tunnel_rx": 16,
    "icmp_snat": 17,
    "from_ctrl": 19,
    "unsnat_new": 20,
    "unsnat_not_tracked": 21,
    "igmp_loopback": 22,
    "pkt_sampled": 23,
}
"""Bits of `flags` (include/ovn/logical-fields.h); the same in every release that has them."""


def _of_headers() -> Iterator[tuple[str, Slice]]:
    """Yield the places of headers, each with what Open vSwitch needs for it."""
    for name in ("ip.proto", "ip.ttl", "ip.frag"):
        yield name, _KEPT[name]._replace(needs=Needs.IP)
    yield "ip.dscp", _KEPT["tos"].part(2, 6)._replace(needs=Needs.IP)
    yield "ip.ecn", _KEPT["tos"].part(0, 2)._replace(needs=Needs.IP)
    for side in ("src", "dst"):
        yield f"ip4.{side}", _KEPT[f"ip4.{side}"]._replace(needs=Needs.IP4)
        yield f"ip6.{side}", _KEPT[f"ip6.{side}"]._replace(needs=Needs.IP6)
        for needs in (Needs.TCP, Needs.UDP, Needs.SCTP):
            yield f"{needs.value}.{side}", _KEPT[f"l4.{side}"]._replace(needs=needs)
    yield "ip6.label", _KEPT["ip6.label"]._replace(needs=Needs.IP6)
    yield "tcp.flags", _KEPT["tcp.flags"]._replace(needs=Needs.TCP)
    for needs in (Needs.ICMP4, Needs.ICMP6):
        yield f"{needs.value}.type", _KEPT["l4.src"].part(0, 8)._replace(needs=needs)
        yield f"{needs.value}.code", _KEPT["l4.dst"].part(0, 8)._replace(needs=needs)
    for arp, name in itertools.product(("arp", "rarp"), _IN_ARP):
        yield f"{arp}.{name}", _KEPT[_IN_ARP[name]]._replace(needs=Needs.ARP)
    yield "nd.target", _KEPT["nd.target"]._replace(needs=Needs.ND)
    yield "nd.sll", _KEPT["arp.sha"]._replace(needs=Needs.ND_NS)
    yield "nd.tll", _KEPT["arp.tha"]._replace(needs=Needs.ND_NA)


_IN_ARP = {
    "op": "ip.proto",
    "spa": "ip4.src",
    "tpa": "ip4.dst",
    "sha": "arp.sha",
    "tha": "arp.tha",
}


def _of_metadata() -> Iterator[tuple[str, Slice]]:
    """Yield the places of what every packet has."""
    for name in ("eth.src", "eth.dst", "eth.type", "vlan.tci", "pkt.mark", "flags", "inport"):
        yield name, _KEPT[name]
    for name in ("outport", "ct_state", "ct_mark", "ct_label", *(f"reg{n}" for n in range(10))):
        yield name, _KEPT[name]
    for prefix, count in (("xreg", 2), ("xxreg", 4)):
        for number in range(10 // count):
            numbers = reversed(range(number * count, (number + 1) * count))
            words = tuple(_KEPT[f"reg{n}"].words[0] for n in numbers)
            yield f"{prefix}{number}", Slice(words, 0, WORD * count)
    yield from ((f"flags.{name}", _KEPT["flags"].part(bit, 1)) for name, bit in _FLAGS.items())
    yield "flags.network_id", _KEPT["flags"].part(28, 4)


def _table() -> Mapping[str, Slice]:
    table = dict((*_of_headers(), *_of_metadata()))
    for symbol in SYMBOLS.values():
        if symbol.whole:
            table[symbol.name] = table[symbol.whole].part(symbol.low, symbol.width)
    return table


FIELDS = _table()
"""The place of every symbol that is a field and no predicate; also those of what none reads."""

KEPT: Mapping[str, Slice] = _KEPT
"""The place of everything that is kept, under one name each."""
CONNTRACK = [
    word
    for name in ("ct_state", "ct_mark", "ct_label", "ct.ip4.dst", "ct.ip6.dst", "ct.l4.dst")
    for word in _KEPT[name].words
]
"""Words of what conntrack said of a packet."""


def read(words: Words, bits: Slice) -> Words:
    """Return a field's value of each packet: words by packets, the lowest bits first."""
    value = np.zeros((-(-bits.width // WORD), words.shape[1]), np.uint32)
    for word, low, count, at in bits.pieces:
        part = words[word] >> np.uint32(low) & np.uint32((1 << count) - 1)
        limb, shift = divmod(at, WORD)
        value[limb] |= part << np.uint32(shift)
        if shift and shift + count > WORD:
            value[limb + 1] |= part >> np.uint32(WORD - shift)
    return value


def write(words: Words, bits: Slice, value: Words, where: NDArray[np.bool_] | None = None) -> None:
    """Set a field of each packet, or of those `where`; `value` as `read` returns it."""
    for word, low, count, at in bits.pieces:
        limb, shift = divmod(at, WORD)
        part = value[limb] >> np.uint32(shift)
        if shift and shift + count > WORD:
            part = part | value[limb + 1] << np.uint32(WORD - shift)
        ones = np.uint32((1 << count) - 1)
        there = words[word] & ~np.uint32(int(ones) << low) | (part & ones) << np.uint32(low)
        words[word] = there if where is None else np.where(where, there, words[word])


def limbs(value: int, width: int) -> list[int]:
    """Return a number as words, the lowest bits first."""
    return [value >> at & ALL_ONES for at in range(0, width, WORD)]


_IP4, _IP6, _ARP, _RARP = 0x800, 0x86DD, 0x806, 0x8035
_PROTOCOL = {
    Needs.TCP: 6,
    Needs.UDP: 17,
    Needs.SCTP: 132,
    Needs.ICMP4: 1,
    Needs.ICMP6: 58,
    **dict.fromkeys((Needs.ND, Needs.ND_NS, Needs.ND_NA), 58),
}
_KINDS = {
    Needs.IP4: (_IP4,),
    Needs.ICMP4: (_IP4,),
    Needs.ARP: (_ARP, _RARP),
    **dict.fromkeys((Needs.IP, Needs.TCP, Needs.UDP, Needs.SCTP), (_IP4, _IP6)),
    **dict.fromkeys((Needs.IP6, Needs.ICMP6, Needs.ND, Needs.ND_NS, Needs.ND_NA), (_IP6,)),
}
_ND = {Needs.ND: (135, 136), Needs.ND_NS: (135,), Needs.ND_NA: (136,)}
_LATER = 2
"""The bit of `ip.frag` that says that a packet has no ports: it is no first fragment."""


def has(words: Words, needs: Needs) -> NDArray[np.bool_]:
    """Return of which packets Open vSwitch has a field that needs this."""

    def of(name: str) -> NDArray[np.uint32]:
        row: NDArray[np.uint32] = words[KEPT[name].words[0]]
        return row

    met = np.ones(words.shape[1], np.bool_)
    if kinds := _KINDS.get(needs):
        met &= np.isin(of("eth.type"), kinds)
    if number := _PROTOCOL.get(needs):
        met &= of("ip.proto") == number
    if needs in (Needs.TCP, Needs.UDP, Needs.SCTP):
        met &= (of("ip.frag") & _LATER) == 0
    if types := _ND.get(needs):
        met &= np.isin(of("l4.src"), types) & (of("l4.dst") == 0)
    return met
