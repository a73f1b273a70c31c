"""Microflow → the bytes of a packet, and back from a capture. Pure, but for reading the capture.

Each packet carries a mark: in TCP its sequence number, in UDP its payload. Translation changes
neither, so that a packet is known when it leaves, and what else leaves is not taken for it.
"""

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from audit.model.packets import Family, Microflow, Protocol

SENT_PROTOCOLS = frozenset({Protocol.TCP, Protocol.UDP})
"""The userspace datapath's conntrack calls SCTP invalid (Open vSwitch 3.5)."""

_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17}
_PROTOCOLS = {number: protocol for protocol, number in _NUMBERS.items()}
_IP4, _IP6, _VLAN = 0x0800, 0x86DD, 0x8100
_SYN, _SYN_ACK = 0x02, 0x12

_FILE = struct.Struct("=IHHIIII")
"""The header of a capture, which Open vSwitch writes in the machine's order (pcap-file.c)."""
_RECORD = struct.Struct("=IIII")
_ETHERNET = struct.Struct("!6s6sH")
_IP4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_IP6_HEADER = struct.Struct("!IHBB16s16s")
_TCP_HEADER = struct.Struct("!HHIIBBHHH")
_UDP_HEADER = struct.Struct("!HHHH")
_MARK = struct.Struct("!I")


class Captured(NamedTuple):
    """A packet that was captured, and the mark it carries; its `inport` is empty."""

    packet: Microflow
    mark: int


def packet(microflow: Microflow, mark: int, *, reply: bool = False) -> bytes:
    """Return a packet's bytes: of TCP a SYN, or the SYN-ACK to one. `mark` is of 32 bits."""
    number = _NUMBERS[microflow.protocol]
    source, destination = (ip_address(a).packed for a in (microflow.ip_src, microflow.ip_dst))
    ports = microflow.src_port, microflow.dst_port
    if microflow.protocol is Protocol.TCP:
        flags = _SYN_ACK if reply else _SYN
        fields = (*ports, mark, 1 if reply else 0, 5 << 4, flags, 65535)
        pieces = (_TCP_HEADER.pack(*fields, 0, 0), b"")
    else:
        length = _UDP_HEADER.size + _MARK.size
        pieces = (_UDP_HEADER.pack(*ports, length, 0), _MARK.pack(mark))
    body = b"".join(pieces)
    pseudo = source + destination + struct.pack("!II", len(body), number)
    check = struct.pack("!H", _checksum(pseudo + body) or 0xFFFF)
    offset = 16 if microflow.protocol is Protocol.TCP else 6
    body = body[:offset] + check + body[offset + 2 :]
    if microflow.family is Family.IP6:
        fields6 = (6 << 28, len(body), number, microflow.ttl, source, destination)
        kind, header = _IP6, _IP6_HEADER.pack(*fields6)
    else:
        total = _IP4_HEADER.size + len(body)
        fields4 = [0x45, 0, total, 0, 0, microflow.ttl, number, 0, source, destination]
        fields4[7] = _checksum(_IP4_HEADER.pack(*fields4))
        kind, header = _IP4, _IP4_HEADER.pack(*fields4)
    ends = (bytes.fromhex(mac.replace(":", "")) for mac in (microflow.eth_dst, microflow.eth_src))
    return _ETHERNET.pack(*ends, kind) + header + body


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def captured(path: Path, offset: int) -> Iterator[Captured]:
    """Yield the TCP and UDP packets of a capture from byte `offset` on; 0 is its beginning."""
    with path.open("rb") as file:
        file.seek(max(offset, _FILE.size))
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            _, _, length, _ = _RECORD.unpack(head)
            content = file.read(length)
            if len(content) < length:
                return
            parsed = _parsed(content)
            if parsed is not None:
                yield parsed


def _parsed(content: bytes) -> Captured | None:
    """Return a packet; None for one of another kind, or one cut short."""
    try:
        destination, source, kind = _ETHERNET.unpack_from(content)
        offset = _ETHERNET.size
        if kind == _VLAN:
            (kind,) = struct.unpack_from("!H", content, offset + 2)
            offset += 4
        if kind == _IP4:
            first, *_, ttl, number, _, ip_src, ip_dst = _IP4_HEADER.unpack_from(content, offset)
            offset += (first & 0xF) * 4
        elif kind == _IP6:
            _, _, number, ttl, ip_src, ip_dst = _IP6_HEADER.unpack_from(content, offset)
            offset += _IP6_HEADER.size
        else:
            return None
        if number not in _PROTOCOLS:
            return None
        src_port, dst_port = struct.unpack_from("!HH", content, offset)
        marked = offset + (4 if _PROTOCOLS[number] is Protocol.TCP else _UDP_HEADER.size)
        (mark,) = _MARK.unpack_from(content, marked)
    except struct.error:
        return None
    flow = Microflow(
        inport="",
        eth_src=source.hex(":"),
        eth_dst=destination.hex(":"),
        ip_src=str(ip_address(ip_src)),
        ip_dst=str(ip_address(ip_dst)),
        protocol=_PROTOCOLS[number],
        src_port=src_port,
        dst_port=dst_port,
        ttl=ttl,
    )
    return Captured(packet=flow, mark=mark)
