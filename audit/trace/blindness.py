"""What `ovn-trace` passes over, recognised by the actions and matches it prints. Pure.

An action is one of those that ovn-trace executes as a node does, as far as it matters to where a
packet of ours goes, or it is a blind spot: the ones that are known, and every other. So the table
is whole whatever a later OVN brings (ovn-trace.c, trace_actions; ovn-sb(5), "actions").
"""

import functools
import re
from dataclasses import dataclass

from audit.model.blindness import Spot

EXECUTED = frozenset(
    {
        # Where the packet goes.
        *("next", "output", "drop", "select", "clone", "mirror", "reject", "=", "<->", "ip.ttl--"),
        *("push", "pop", "get_arp", "get_nd", "get_fdb", "check_in_port_sec", "check_out_port_sec"),
        # Conntrack, whose state is told, and translations to an address. Without one nothing is
        # translated back, which is right of a request; where ovn-trace stops at it, so does a hop.
        *(
            "ct_next",
            "ct_clear",
            "ct_commit",
            "ct_commit_nat",
            "ct_commit_to_zone",
            "ct_state_save",
        ),
        *("ct_lb", "ct_lb_mark", "ct_dnat", "ct_snat", "ct_dnat_in_czone", "ct_snat_in_czone"),
        # Of the packet itself what conntrack would say of it, as long as nothing translated it.
        *("ct_tp_dst", "ct_proto"),
        # The packet's source is not its destination: where it is, `ct_snat_to_vip` comes after.
        *("chk_lb_hairpin", "chk_lb_hairpin_reply"),
        # Packets that OVN makes, none of them ours.
        *("arp", "nd_ns", "nd_na", "nd_na_router", "icmp4", "icmp4_error", "icmp6", "icmp6_error"),
        *("tcp_reset", "sctp_abort"),
        # No matter to this packet: what others learn, count and queue of it.
        *("put_arp", "put_nd", "put_fdb", "lookup_arp", "lookup_arp_ip", "lookup_nd"),
        *("lookup_nd_ip", "lookup_fdb", "mac_cache_use", "commit_ecmp_nh", "commit_lb_aff"),
        *("log", "sample", "set_queue", "set_meter"),
    }
)
"""Actions, and functions whose result is stored, that ovn-trace executes as nodes do."""

LEFT_ZERO = frozenset({"check_pkt_larger", "chk_lb_aff"})
"""Functions that ovn-trace passes over, of which the answer is no: the packet is small, and nobody
remembers its connection. So it is right where the register was zero before."""

PASSED_OVER = {
    "check_pkt_larger": Spot.PACKET_SIZE,
    "ct_snat_to_vip": Spot.HAIRPIN,
    "ct_lb_mark_local": Spot.LOCAL_BACKENDS,
    "fwd_group": Spot.FORWARDING,
    **dict.fromkeys(
        (
            *("chk_lb_aff", "chk_ecmp_nh", "chk_ecmp_nh_mac", "get_remote_fdb", "flood_remote"),
            *("chk_evpn_arp", "ct_nw_dst", "ct_ip6_dst"),
        ),
        Spot.LEARNT,
    ),
    **dict.fromkeys(
        (
            *("put_dhcp_opts", "put_dhcpv6_opts", "dhcp_relay_req_chk", "dhcp_relay_resp_chk"),
            *("put_nd_ra_opts", "dns_lookup", "handle_svc_check", "dhcp6_reply", "bfd_msg"),
            *("igmp", "bind_vport", "trigger_event"),
        ),
        Spot.CONTROLLER,
    ),
}
"""Actions and functions that ovn-trace passes over or approximates, and may be wrong about."""

_FUNCTION = re.compile(r"[\w.]+(?:\[[\d.]+\])? = (?P<name>[a-z]\w*)\(")
_ASSIGNED = re.compile(
    r"(?P<field>[\w.]+)(?:\[(?P<low>\d+)(?:\.\.(?P<high>\d+))?\])? = (?P<value>.*);"
)
_EXCHANGED = re.compile(r"[\w.\[\]]+ <-> ")
_VERB = re.compile(r"[a-z]\w*")
_REGISTER = re.compile(r"\b(?P<name>x{0,2}reg\d+)(?:\[(?P<low>\d+)(?:\.\.(?P<high>\d+))?\])?")
_RESIDENT = re.compile(r'is_chassis_resident\("(?P<port>[^"]*)"\)')
_WIDTHS = {"reg": 1, "xreg": 2, "xxreg": 4}
"""How many 32-bit registers each kind spans; the first of them is its upper part (ovn-sb(5))."""
_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What an action does to registers, each bit a bit, and what of it ovn-trace does not do.

    `name` is the action or function. `zeroed` are bits that are zero afterwards, `set` those that
    are not, or not known to be. `spot` is None where a node does the same, and where `left` is not
    zero only if some of those bits were zero.
    """

    name: str
    zeroed: int = 0
    set: int = 0
    left: int = 0
    spot: Spot | None = None


@functools.lru_cache(maxsize=1 << 15)
def effect(text: str) -> Effect | None:
    """Return what an action that was printed does; None for what is a comment."""
    if text.startswith("/*"):
        return None
    assigned = _ASSIGNED.fullmatch(text)
    target = _target(assigned) if assigned else 0
    if function := _FUNCTION.match(text):
        name = function["name"]
        if name in LEFT_ZERO:
            return Effect(name=name, left=target, spot=PASSED_OVER[name])
        return Effect(name=name, set=target, spot=_spot(name))
    if assigned:
        zero = assigned["value"].removeprefix("0x").strip("0") == ""
        return Effect(name="=", zeroed=target if zero else 0, set=0 if zero else target)
    if _EXCHANGED.match(text):
        return Effect(name="<->", set=reads(text))
    if text == "ip.ttl--;":
        return Effect(name="ip.ttl--")
    verb = _VERB.match(text)
    name = verb[0] if verb else text
    return Effect(name=name, spot=_spot(name))


def _spot(name: str) -> Spot | None:
    return None if name in EXECUTED else PASSED_OVER.get(name, Spot.UNKNOWN)


def _target(assigned: re.Match[str]) -> int:
    """Return the bits of registers that an assignment writes; none of another field."""
    register = _REGISTER.fullmatch(assigned["field"])
    return _bits(assigned["field"], assigned["low"], assigned["high"]) if register else 0


def _bits(name: str, low: str | None, high: str | None) -> int:
    """Return a register's bits, register 0's first: bit b of register n is bit 32 n + b."""
    kind, number = name.rstrip("0123456789"), int(name.lstrip("xreg"))
    width = _WIDTHS[kind]
    first = int(low) if low else 0
    last = int(high) if high else first if low else width * _BITS - 1
    bits = 0
    for bit in range(first, last + 1):
        register = number * width + width - 1 - bit // _BITS
        bits |= 1 << (register * _BITS + bit % _BITS)
    return bits


@functools.lru_cache(maxsize=1 << 15)
def reads(match: str) -> int:
    """Return the bits of registers that a match looks at."""
    bits = 0
    for register in _REGISTER.finditer(match):
        bits |= _bits(register["name"], register["low"], register["high"])
    return bits


@functools.lru_cache(maxsize=1 << 15)
def residents(match: str) -> tuple[str, ...]:
    """Return the ports that a match supposes to be on this chassis."""
    return tuple(resident["port"] for resident in _RESIDENT.finditer(match))


ROUTERS_FLAGS = _bits("reg9", None, None)
"""The register in which routers keep their flags (northd.c, REGBIT_*). They look at some that they
have not set, at some by flows that do not match then, which no trace shows."""
