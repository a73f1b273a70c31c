"""What actions look up beside flows: neighbours, learnt MACs, port security. Pure."""

import ipaddress
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.flows.fields import KEPT, Slice, Words, limbs, read
from audit.flows.lookups import Lookup
from audit.flows.southbound import MAPPED, Datapath, Port, Sender

Mask = NDArray[np.bool_]

_IP4, _ARP, _IP6 = 0x800, 0x806, 0x86DD
_UDP, _ICMP6 = 17, 58
_SOLICITS, _ADVERTISES = 135, 136
_DHCP_CLIENT, _DHCP_SERVER = 68, 67
_BROADCAST = 0xFFFFFFFF
_MULTICAST4, _MULTICAST6 = 0xE, 0xFF
"""The first four bits of a multicast address, and the first eight of IPv6's."""
_V4 = 4


def number(address: str) -> int:
    """Return an address as a number."""
    return int(ipaddress.ip_address(address))


def mapped(value: int, version: int) -> int:
    """Return an address's number, IPv4's mapped into IPv6."""
    return value | MAPPED if version == _V4 else value


def neighbours(datapath: Datapath, words: Words, port: Slice, address: Slice) -> tuple[Words, Mask]:
    """Return the MAC of what each packet asks for, zeros where it is not known, and whether it is.

    `port` is a field with a port's key, `address` one of 32 or of 128 bits.
    """
    count = words.shape[1]
    if not datapath.macs:
        return np.zeros((2, count), np.uint32), np.zeros(count, np.bool_)
    wanted = np.zeros((4, count), np.uint32)
    value = read(words, address)
    wanted[: len(value)] = value
    if len(value) == 1:
        wanted[1] = MAPPED >> 32
    keys = [(key, *limbs(ip, 128)) for key, ip in datapath.macs]
    there = Lookup(keys).find([read(words, port)[0], *wanted])
    macs = np.array([limbs(mac, 48) for mac in datapath.macs.values()], np.uint32).T
    return np.where(there >= 0, macs[:, there], 0).astype(np.uint32), there >= 0


def learnt(datapath: Datapath, words: Words, mac: Slice) -> NDArray[np.uint32]:
    """Return the key of the port where each packet's MAC was learnt, 0 where it was not."""
    if not datapath.learnt:
        return np.zeros(words.shape[1], np.uint32)
    there = Lookup([limbs(learned, 48) for learned in datapath.learnt]).find(list(read(words, mac)))
    ports = np.array(list(datapath.learnt.values()), np.uint32)
    return np.where(there >= 0, ports[there], 0).astype(np.uint32)


def stops(datapath: Datapath, words: Words, *, ingress: bool) -> Mask:
    """Return which packets the port security of their `inport` or `outport` stops."""
    keys = words[KEPT["inport" if ingress else "outport"].words[0]]
    stopped = np.zeros(words.shape[1], np.bool_)
    for key in np.unique(keys).tolist():
        port = datapath.ports.get(key)
        if port is not None and port.security:
            here = np.flatnonzero(keys == key)
            stopped[here] = ~_allowed(port, words[:, here], ingress=ingress)
    return stopped


def _allowed(port: Port, words: Words, *, ingress: bool) -> Mask:
    """Return what a port may send, or be sent: the first member with the MAC decides."""
    macs = read(words, KEPT["eth.src" if ingress else "eth.dst"])
    allowed = np.zeros(words.shape[1], np.bool_)
    left = np.ones(words.shape[1], np.bool_)
    for sender in port.security:
        here = left & _is(macs, sender.mac, 48)
        left &= ~here
        if here.any():
            allowed[here] = _may(sender, words[:, here], ingress=ingress)
    return allowed


def _may(sender: Sender, words: Words, *, ingress: bool) -> Mask:
    kind = words[KEPT["eth.type"].words[0]]
    allowed = np.ones(words.shape[1], np.bool_)
    if sender.ip4 or sender.ip6:
        ip4, ip6 = (_sends4, _sends6) if ingress else (_is_sent4, _is_sent6)
        allowed = np.where(kind == _IP4, ip4(sender, words), allowed)
        allowed = np.where(kind == _IP6, ip6(sender, words), allowed)
    if ingress:
        allowed = np.where(kind == _ARP, _asks(sender, words), allowed)
    return allowed


def _is(value: Words, expected: int, width: int) -> Mask:
    same: Mask = (value == np.array(limbs(expected, width), np.uint32)[:, np.newaxis]).all(axis=0)
    return same


def _any(value: Words, expected: Sequence[int], width: int) -> Mask:
    met = np.zeros(value.shape[1], np.bool_)
    for wanted in expected:
        met |= _is(value, wanted, width)
    return met


def _word(words: Words, name: str) -> NDArray[np.uint32]:
    row: NDArray[np.uint32] = words[KEPT[name].words[0]]
    return row


def _asks(sender: Sender, words: Words) -> Mask:
    """Say who may send ARP: with its own MAC, and its own address if it has any."""
    mac = _is(read(words, KEPT["arp.sha"]), sender.mac, 48)
    if not sender.ip4:
        return mac
    mac &= _any(read(words, KEPT["ip4.src"]), sender.ip4, 32)
    return mac


def _sends4(sender: Sender, words: Words) -> Mask:
    dhcp: Mask = (_word(words, "ip.proto") == _UDP) & (_word(words, "l4.src") == _DHCP_CLIENT)
    dhcp &= (_word(words, "l4.dst") == _DHCP_SERVER) & (_word(words, "ip4.src") == 0)
    dhcp &= _word(words, "ip4.dst") == _BROADCAST
    dhcp |= _any(read(words, KEPT["ip4.src"]), sender.ip4, 32)
    return dhcp


def _local(mac: int) -> int:
    """Return the link-local address of a MAC (RFC 4291, appendix A)."""
    high, low = mac >> 24, mac & 0xFFFFFF
    return 0xFE80 << 112 | (high ^ 0x020000) << 40 | 0xFFFE << 24 | low


def _sends6(sender: Sender, words: Words) -> Mask:
    addresses = (*sender.ip6, _local(sender.mac))
    allowed = _any(read(words, KEPT["ip6.src"]), addresses, 128)
    icmp, kind = _word(words, "ip.proto") == _ICMP6, _word(words, "l4.src")
    macs: Mapping[int, str] = {_SOLICITS: "arp.sha", _ADVERTISES: "arp.tha"}
    for number, name in macs.items():
        right = _any(read(words, KEPT[name]), (0, sender.mac), 48)
        if number == _ADVERTISES and sender.ip6:
            right &= _any(read(words, KEPT["nd.target"]), addresses, 128)
        allowed &= ~icmp | (kind != number) | right
    return allowed


def _is_sent4(sender: Sender, words: Words) -> Mask:
    if not sender.ip4:
        return np.zeros(words.shape[1], np.bool_)
    to = _word(words, "ip4.dst")
    met = _any(to[np.newaxis], sender.ip4, 32)
    met |= (to == _BROADCAST) | (to >> 28 == _MULTICAST4)
    return met


def _is_sent6(sender: Sender, words: Words) -> Mask:
    if not sender.ip6:
        return np.zeros(words.shape[1], np.bool_)
    to = read(words, KEPT["ip6.dst"])
    met = _any(to, (*sender.ip6, _local(sender.mac)), 128)
    met |= to[-1] >> 24 == _MULTICAST6
    return met
