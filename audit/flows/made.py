"""Packets that actions make of others: ARP requests, ICMP errors, resets. Pure.

Each is what utilities/ovn-trace.c makes, also where that is no real packet: `nd_ns` leaves the
protocol as it was, for one.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from audit.flows.fields import KEPT, Words, read, write

Mask = NDArray[np.bool_]

_ARP, _IP4 = 0x806, 0x800
_REQUEST = 1
_TCP, _SCTP = 6, 132
_RESET = 4
_ICMP = {4: (1, 3), 6: (58, 1)}
"""Protocol, and the type that says that a destination cannot be reached, by IP's version."""
_CODE = 1
_NEW_TTL = 255
_SOLICITS, _ADVERTISES = 135, 136
_SOLICITED = 0xFF02 << 112 | 0x1FF << 24
"""The multicast group of a solicited node, without the last 24 bits of its address."""
_MULTICAST = 0x3333 << 32


def _word(words: Words, name: str) -> NDArray[np.uint32]:
    row: NDArray[np.uint32] = words[KEPT[name].words[0]]
    return row


def _copy(words: Words, to: str, source: Words) -> None:
    write(words, KEPT[to], source)


def _zero(words: Words, *names: str) -> None:
    for name in names:
        for word in KEPT[name].words:
            words[word] = 0


def _turn(words: Words) -> None:
    """Send packets back to where they come from."""
    for kind in ("eth", "ip4", "ip6"):
        source, to = (read(words, KEPT[f"{kind}.{end}"]) for end in ("src", "dst"))
        _copy(words, f"{kind}.src", to)
        _copy(words, f"{kind}.dst", source)


def _all(words: Words) -> Mask:
    return np.ones(words.shape[1], np.bool_)


def _clone(words: Words, *, back: bool) -> Mask:  # noqa: ARG001 - as the others
    return _all(words)


def _arp(words: Words, *, back: bool) -> Mask:  # noqa: ARG001 - as the others
    _zero(words, "ip.frag", "tos", "ip.ttl", "tcp.flags", "arp.tha")
    _word(words, "eth.type")[:] = _ARP
    _word(words, "ip.proto")[:] = _REQUEST
    _copy(words, "arp.sha", read(words, KEPT["eth.src"]))
    return _all(words)


def _nd_na(words: Words, *, back: bool) -> Mask:  # noqa: ARG001 - as the others
    to, source = (read(words, KEPT[f"eth.{end}"]) for end in ("dst", "src"))
    _copy(words, "eth.src", to)
    _copy(words, "eth.dst", source)
    _copy(words, "ip6.dst", read(words, KEPT["ip6.src"]))
    _copy(words, "ip6.src", read(words, KEPT["nd.target"]))
    _word(words, "l4.src")[:] = _ADVERTISES
    _zero(words, "arp.sha")
    _copy(words, "arp.tha", to)
    return _all(words)


def _nd_ns(words: Words, *, back: bool) -> Mask:  # noqa: ARG001 - as the others
    to = read(words, KEPT["eth.dst"])
    low = _word(words, "ip6.dst") & 0xFFFFFF
    group = np.zeros((2, words.shape[1]), np.uint32)
    group[0] = low | np.uint32(0xFF << 24)
    group[1] = _MULTICAST >> 32
    _copy(words, "eth.dst", group)
    _word(words, "l4.src")[:] = _SOLICITS
    _zero(words, "arp.sha")
    _copy(words, "arp.tha", to)
    return _all(words)


def _icmp(version: int) -> "Callable[..., Mask]":
    protocol, kind = _ICMP[version]

    def made(words: Words, *, back: bool) -> Mask:
        kept = _word(words, "l4.src") != kind if back else _all(words)
        if back:
            _turn(words)
        _word(words, "ip.proto")[:] = protocol
        _word(words, "ip.ttl")[:] = _NEW_TTL
        _word(words, "l4.src")[:] = kind
        _word(words, "l4.dst")[:] = _CODE
        return kept

    return made


def _reset(protocol: int) -> "Callable[..., Mask]":
    def made(words: Words, *, back: bool) -> Mask:
        kept = _word(words, "tcp.flags") != _RESET if back else _all(words)
        if back:
            _turn(words)
        is_ip4 = _word(words, "eth.type") == _IP4
        # What ends an association over IPv6 is TCP, in ovn-trace.
        _word(words, "ip.proto")[:] = np.where(is_ip4, protocol, _TCP)
        _word(words, "ip.ttl")[:] = _NEW_TTL
        _word(words, "tcp.flags")[:] = _RESET
        return kept

    return made


MADE: Mapping[str, "Callable[..., Mask]"] = {
    "clone": _clone,
    "arp": _arp,
    "nd_na": _nd_na,
    "nd_na_router": _nd_na,
    "nd_ns": _nd_ns,
    **dict.fromkeys(("icmp4", "icmp4_error"), _icmp(4)),
    **dict.fromkeys(("icmp6", "icmp6_error"), _icmp(6)),
    "tcp_reset": _reset(_TCP),
    "sctp_abort": _reset(_SCTP),
}
"""Each changes packets in place, with `back` so that they go back, and says which there are.

An answer to such an answer is none.
"""


def rejected(words: Words) -> dict[str, Mask]:
    """Return which packets are rejected by what."""
    protocol, kind = _word(words, "ip.proto"), _word(words, "eth.type")
    tcp, sctp = protocol == _TCP, protocol == _SCTP
    others = ~tcp & ~sctp
    masks = {"icmp4": others & (kind == _IP4), "icmp6": others & (kind != _IP4)}
    return {"tcp_reset": tcp, "sctp_abort": sctp, **masks}
