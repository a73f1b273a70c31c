"""Microflow → what `ofproto/trace` takes, and what a switch says of its groups. Pure.

The packet is written as ovnkube-trace writes it, so that both can be compared word by word; only
the conntrack state is stated at every step.
"""

from collections.abc import Mapping, Sequence

from audit.model.packets import ConntrackState, Family, Microflow, Protocol
from audit.model.traces import Tunnel

BRIDGE = "br-int"
STEPS = 20
"""How many conntrack steps are given a state; a packet through both routers takes six."""

_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132, Protocol.ICMP: 1}
_ICMPV6 = 58


def flow(microflow: Microflow, in_port: str, *, tunnel: Tunnel | None = None) -> str:
    """Return a packet as OpenFlow writes it (ovs-fields(7)).

    `in_port` is the interface by which it enters the bridge, a name or a number. A packet that
    comes out of a tunnel carries the logical datapath and ports in the tunnel's header.
    """
    six = microflow.family is Family.IP6
    prefix = "ipv6" if six else "nw"
    protocol = f"{microflow.protocol}6" if six else str(microflow.protocol)
    words = [f"in_port={in_port}", protocol]
    if tunnel is not None:
        ends = "tun_ipv6" if ":" in tunnel.remote else "tun"
        words += [
            f"tun_id={tunnel.key:#x}",
            f"{ends}_src={tunnel.local}",
            f"{ends}_dst={tunnel.remote}",
            f"tun_metadata0={tunnel.metadata:#x}",
        ]
    words += [
        f"dl_src={microflow.eth_src}",
        f"dl_dst={microflow.eth_dst}",
        f"{prefix}_src={microflow.ip_src}",
        f"{prefix}_dst={microflow.ip_dst}",
        f"nw_ttl={microflow.ttl}",
        *_ends(microflow),
    ]
    return ", ".join(words)


def _ends(microflow: Microflow) -> Sequence[str]:
    """Return the ports of a packet, or what an ICMP packet has instead, as OpenFlow writes it."""
    if microflow.protocol is Protocol.ICMP:
        version = "icmpv6" if microflow.family is Family.IP6 else "icmp"
        return f"{version}_type={microflow.icmp_type}", f"{version}_code=0"
    protocol = microflow.protocol
    return f"{protocol}_dst={microflow.dst_port}", f"{protocol}_src={microflow.src_port}"


def connection(microflow: Microflow) -> str:
    """Return what conntrack has of a connection whose first packet this is, as OpenFlow writes it.

    `ofproto/trace` keeps it from the packet that it is given, and knows nothing of it by itself.
    """
    prefix = "ct_ipv6" if microflow.family is Family.IP6 else "ct_nw"
    number, ports = _NUMBERS[microflow.protocol], (microflow.src_port, microflow.dst_port)
    if microflow.protocol is Protocol.ICMP:  # type and code stand in for ports (ovs-fields(7))
        number = _ICMPV6 if microflow.family is Family.IP6 else number
        ports = (microflow.icmp_type, 0)
    words = (
        f"ct_state=trk|{ConntrackState.REQUEST}",
        f"ct_nw_proto={number}",
        f"{prefix}_src={microflow.ip_src}",
        f"{prefix}_dst={microflow.ip_dst}",
        f"ct_tp_src={ports[0]}",
        f"ct_tp_dst={ports[1]}",
    )
    return ", ".join(words)


def dump_groups(socket: str) -> Sequence[str]:
    """Return the command that prints the group table of a bridge, for `groups`."""
    return ("ovs-ofctl", "-O", "OpenFlow15", "dump-groups", socket)


def groups(text: str) -> Mapping[int, str]:
    """Return a group table as it was printed: number → its buckets.

    ValueError when a number is none.
    """
    buckets = {}
    for line in text.splitlines():
        head, _, rest = line.strip().partition(",")
        if head.startswith("group_id="):
            buckets[int(head.removeprefix("group_id="))] = rest
    return buckets


def arguments(flow_text: str, state: ConntrackState | None) -> Sequence[str]:
    """Return the arguments of the unixctl command `ofproto/trace` for a packet.

    None leaves the state to the tracer, which is `new` at every step, as ovnkube-trace does.
    """
    states = ("--ct-next", f"trk,{state}") * STEPS if state is not None else ()
    return (BRIDGE, flow_text, *states)
