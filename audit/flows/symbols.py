"""OVN's symbols: what a match can compare, and what is known of it for the packet asked. Pure.

The table is that of OVN's lib/logical-fields.c, the newest version's: fields, bits of them under
another name, and predicates, which are matches themselves. A symbol may need another (`arp.tpa`
needs `arp`), and a nominal one, or a predicate made of one, is tested positively only.

`value` and `fixed` say which bits are the same in every packet asked: the first of a connection,
unicast and untagged, with nothing done to it yet. What is not known:

- registers, `flags`: the pipeline's own, and what earlier stages put there;
- `eth.src`, `eth.dst`: of the endpoint or of a router; all but the bit that says multicast;
- `ip.ttl`: 64 at the source's switch, and one less behind every router; so no more than 127;
- `ip.dscp`: an EgressQoS sets it on the way;
- `ip6.label`: the sender's choice;
- of `tcp.flags`, SYN and those that ECN sets beside it: `ovn-trace` leaves them 0, and a packet
  that begins a connection has them.

`ct_mark` and `ct_label` are those of a connection that nothing was committed of: 0. So is
`pkt.mark` of a packet that enters by a logical port.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from audit.model.packets import REQUEST_SOURCE_PORT

_MULTICAST = 1 << 40
"""The bit of an Ethernet address that says multicast."""
_KNOWN_FLAGS = 0xFFF & ~0x1C2
"""The flags of TCP without SYN, ECE, CWR and AE."""
_NEW_AND_TRACKED = 0x21
ECHO, ECHO_REPLY = (8, 128), (0, 129)
"""Types of ICMP and ICMPv6 (RFC 792, RFC 4443)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A field; or bits of one, from `low` of `whole`; or a predicate that `means` a match.

    `width` is in bits, 0 for a string. `needs` is a match too. Of a field's bits those in `fixed`
    are as in `value` for every packet asked.
    """

    name: str
    width: int
    nominal: bool = False
    needs: str = ""
    whole: str = ""
    low: int = 0
    means: str = ""
    value: int = 0
    fixed: int = 0


def _field(
    name: str, width: int, needs: str = "", *, value: int = 0, fixed: int = 0, nominal: bool = False
) -> Symbol:
    return Symbol(name=name, width=width, needs=needs, value=value, fixed=fixed, nominal=nominal)


def _nothing(name: str, width: int, needs: str = "") -> Symbol:
    """Return a field that is 0 in every packet asked."""
    return _field(name, width, needs, fixed=(1 << width) - 1)


def _bits(whole: str, name: str, low: int, last: int, needs: str = "") -> Symbol:
    return Symbol(name=name, width=last - low + 1, needs=needs, whole=whole, low=low)


def _of_headers() -> Iterator[Symbol]:
    """Yield the fields of a packet's headers."""
    for side in ("src", "dst"):
        yield _field(f"eth.{side}", 48, fixed=_MULTICAST)
        yield _field(f"ip4.{side}", 32, "ip4")
        yield _field(f"ip6.{side}", 128, "ip6")
    yield _field("eth.type", 16, nominal=True)
    yield _nothing("vlan.tci", 16)
    yield _bits("vlan.tci", "vlan.pcp", 13, 15, "vlan.present")
    yield _bits("vlan.tci", "vlan.vid", 0, 11, "vlan.present")
    yield _bits("eth.dst", "eth.mcast", 40, 40)
    yield _field("ip.proto", 8, "ip", nominal=True)
    yield _field("ip.dscp", 6, "ip", nominal=True)
    yield _field("ip.ecn", 2, "ip", fixed=3, nominal=True)
    yield _field("ip.ttl", 8, "ip", fixed=0x80, nominal=True)
    yield _nothing("ip.frag", 2, "ip")
    yield _field("ip6.label", 20, "ip6")
    for protocol in ("tcp", "udp", "sctp"):
        yield _field(f"{protocol}.dst", 16, protocol)
        yield _field(f"{protocol}.src", 16, protocol, value=REQUEST_SOURCE_PORT, fixed=0xFFFF)
    yield _field("tcp.flags", 12, "tcp", fixed=_KNOWN_FLAGS)
    for family, echo in (("icmp4", ECHO[0]), ("icmp6", ECHO[1])):
        yield _field(f"{family}.type", 8, family, value=echo, fixed=0xFF, nominal=True)
        yield _field(f"{family}.code", 8, family, fixed=0xFF, nominal=True)
    yield _field("icmp4.frag_mtu", 16, nominal=True)
    yield _field("icmp6.frag_mtu", 32, nominal=True)
    for arp in ("arp", "rarp"):
        yield _field(f"{arp}.op", 16, arp, nominal=True)
        for which, width in (("spa", 32), ("sha", 48), ("tpa", 32), ("tha", 48)):
            yield _field(f"{arp}.{which}", width, arp)
    yield _field("nd.target", 128, "nd")
    yield _field("nd.sll", 48, "nd_ns")
    yield _field("nd.tll", 48, "nd_na")


def _of_metadata() -> Iterator[Symbol]:
    """Yield what OVN keeps beside a packet."""
    yield _field("inport", 0, nominal=True)
    yield _field("outport", 0, nominal=True)
    yield _nothing("pkt.mark", 32)
    for prefix, width, count in (("xxreg", 128, 2), ("xreg", 64, 5), ("reg", 32, 10)):
        for number in range(count):
            yield _field(f"{prefix}{number}", width)
    yield _field("flags", 32)
    for name in (
        *("loopback", "force_snat_for_dnat", "force_snat_for_lb", "skip_snat_for_lb"),
        *("use_snat_zone", "localnet", "icmp_snat", "tunnel_rx", "from_ctrl", "unsnat_new"),
        *("unsnat_not_tracked", "igmp_loopback", "pkt_sampled"),
    ):
        yield _field(f"flags.{name}", 1)
    yield _field("flags.network_id", 4)
    yield _field("ct_state", 32, value=_NEW_AND_TRACKED, fixed=(1 << 32) - 1)
    states = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")
    for bit, name in enumerate(states):
        yield _bits("ct_state", f"ct.{name}", bit, bit, "" if name == "trk" else "ct.trk")
    yield _nothing("ct_mark", 32)
    for name, low, last in (
        *(("blocked", 0, 0), ("natted", 1, 1), ("skip_snat", 2, 2), ("force_snat", 3, 3)),
        *(("obs_stage", 4, 5), ("allow_established", 6, 6), ("ecmp_reply_port", 16, 31)),
        ("obs_collector_id", 16, 23),
    ):
        yield _bits("ct_mark", f"ct_mark.{name}", low, last)
    yield _nothing("ct_label", 128)
    for name, low, last in (
        *(("ecmp_reply_eth", 32, 79), ("label", 96, 127), ("obs_point_id", 96, 127)),
        *(("obs_unused", 0, 95), ("acl_id", 80, 95), ("nf", 7, 7), ("nf_id", 17, 24)),
        *(("tun_if", 8, 8), ("tun_if_id", 80, 95)),
    ):
        yield _bits("ct_label", f"ct_label.{name}", low, last)


_PREDICATES = {
    "eth.bcast": "eth.dst == ff:ff:ff:ff:ff:ff",
    "eth.mcastv6": "eth.dst[32..47] == 0x3333",
    "vlan.present": "vlan.tci[12]",
    "ip4": "eth.type == 0x800",
    "ip6": "eth.type == 0x86dd",
    "ip": "ip4 || ip6",
    "arp": "eth.type == 0x806",
    "rarp": "eth.type == 0x8035",
    "tcp": "ip.proto == 6",
    "udp": "ip.proto == 17",
    "sctp": "ip.proto == 132",
    "icmp4": "ip4 && ip.proto == 1",
    "icmp6": "ip6 && ip.proto == 58",
    "icmp": "icmp4 || icmp6",
    "ip4.src_mcast": "ip4.src[28..31] == 0xe",
    "ip4.mcast": "eth.mcast && ip4.dst[28..31] == 0xe",
    "igmp": "ip4.mcast && ip.proto == 2",
    "ip6.mcast": "eth.mcastv6 && ip6.dst[120..127] == 0xff",
    "ip6.mcast_rsvd": "ip6.dst[116..127] == 0xff0 && ip6.dst[0..111] == 0",
    "ip6.mcast_all_nodes": "ip6.dst == {ff01::1, ff02::1}",
    "ip6.mcast_all_rtrs": "ip6.dst == {ff01::2, ff02::2, ff05::2}",
    "ip6.mcast_sol_node": "ip6.dst == ff02::1:ff00:0/104",
    "ip6.mcast_flood": "eth.mcastv6 && (ip6.mcast_rsvd || ip6.mcast_all_nodes || "
    "ip6.mcast_all_rtrs || ip6.mcast_sol_node)",
    "ip.is_frag": "ip.frag[0]",
    "ip.later_frag": "ip.frag[1]",
    "ip.first_frag": "ip.is_frag && !ip.later_frag",
    "nd": "icmp6.type == {135, 136} && icmp6.code == 0 && ip.ttl == 255",
    "nd_ns": "icmp6.type == 135 && icmp6.code == 0 && ip.ttl == 255",
    "nd_ns_mcast": "ip6.mcast && icmp6.type == 135 && icmp6.code == 0 && ip.ttl == 255",
    "nd_na": "icmp6.type == 136 && icmp6.code == 0 && ip.ttl == 255",
    "nd_rs": "icmp6.type == 133 && icmp6.code == 0 && ip.ttl == 255",
    "nd_ra": "icmp6.type == 134 && icmp6.code == 0 && ip.ttl == 255",
    "mldv1": "eth.mcastv6 && ip6.src == fe80::/10 && icmp6.type == {130, 131, 132}",
    "mldv2": "eth.mcastv6 && ip6.dst == ff02::16 && icmp6.type == 143",
}


def _table(fields: Iterable[Symbol]) -> Mapping[str, Symbol]:
    table = {field.name: field for field in fields}
    for name, means in _PREDICATES.items():  # in an order in which each is made of earlier ones
        parts = (table[word] for word in re.findall(r"[a-z][a-z0-9_.]*", means) if word in table)
        nominal = any(part.nominal for part in parts)
        table[name] = Symbol(name=name, width=1, nominal=nominal, means=means)
    return table


SYMBOLS = _table((*_of_headers(), *_of_metadata()))
"""Every symbol by its name."""

OF_REPLIES = {
    **SYMBOLS,
    **{
        f"{family}.type": replace(SYMBOLS[f"{family}.type"], value=echo)
        for family, echo in zip(("icmp4", "icmp6"), ECHO_REPLY, strict=True)
    },
}
"""The same of a reply to a ping."""
