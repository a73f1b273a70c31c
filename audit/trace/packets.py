"""Real packets: injected into a replayed switch, conntrack included, and seen where they leave.

`netdev-dummy/receive` hands a packet to an interface as if it had come over the wire. What then
leaves by which interface is in the captures that the replay keeps of each. Nothing here knows
what OpenFlow says: it is the last word on what a trace claims.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from audit.model.datapath import Switch
from audit.model.packets import Family, Microflow, Protocol
from audit.trace.unixctl import Unixctl

SENT_PROTOCOLS = frozenset({Protocol.TCP, Protocol.UDP})
"""The userspace datapath's conntrack calls SCTP invalid (Open vSwitch 3.5)."""

_COMMANDS_IN_A_TURN = 10
"""ovs-vswitchd forwards packets and serves unixctl in turns, and reads at most this many commands
of a connection in one (unixctl.c, run_connection): after one more, it has forwarded."""
_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17}


def packet(microflow: Microflow, *, reply: bool = False) -> str:
    """Return a packet as the datapath writes it (ovs-dpctl(8)): a SYN, or the SYN-ACK to one."""
    number = _NUMBERS[microflow.protocol]
    if microflow.family is Family.IP6:
        network = (
            f"eth_type(0x86dd),ipv6(src={microflow.ip_src},dst={microflow.ip_dst},label=0,"
            f"proto={number},tclass=0,hlimit={microflow.ttl},frag=no)"
        )
    else:
        network = (
            f"eth_type(0x0800),ipv4(src={microflow.ip_src},dst={microflow.ip_dst},"
            f"proto={number},tos=0,ttl={microflow.ttl},frag=no)"
        )
    ports = f"{microflow.protocol}(src={microflow.src_port},dst={microflow.dst_port})"
    if microflow.protocol is Protocol.TCP:
        ports += f",tcp_flags({'syn|ack' if reply else 'syn'})"
    ends = f"eth(src={microflow.eth_src},dst={microflow.eth_dst})"
    return f"in_port(1),{ends},{network},{ports}"


@dataclass(slots=True)
class PacketProbe:
    """Sends packets into one switch. Use as a context."""

    switch: Switch
    timeout_s: float = 30.0
    _connection: Unixctl | None = None

    def forget(self) -> None:
        """Forget every connection that earlier packets made."""
        self._transact("dpctl/flush-conntrack")

    def send(self, microflow: Microflow, *, reply: bool = False, by: str = "") -> frozenset[str]:
        """Send a packet from `microflow.inport`, and return the logical ports it came out at.

        `by` is the interface it enters by, where that is not a logical port's own (the gateway
        bridge's). UnixctlError or RefusedError when the switch does not take it.
        """
        before = self._sizes()
        interface = by or self.switch.vifs[microflow.inport].name
        self._transact("netdev-dummy/receive", interface, packet(microflow, reply=reply))
        for _ in range(_COMMANDS_IN_A_TURN + 1):
            self._transact("version")
        after = self._sizes()
        return frozenset(port for port, size in after.items() if size > before[port])

    def _sizes(self) -> Mapping[str, int]:
        return {port: _size(path) for port, path in self.switch.captures.items()}

    def _transact(self, method: str, *arguments: str) -> str:
        if self._connection is None:
            self._connection = Unixctl(self.switch.vswitchd, timeout_s=self.timeout_s)
        return self._connection.transact(method, *arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
