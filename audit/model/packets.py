"""The packets that are traced, in OVN's words."""

from dataclasses import dataclass
from enum import StrEnum

REQUEST_SOURCE_PORT = 52888
"""The L4 source port of every request: ovnkube-trace's, so that traces can be compared."""


class Protocol(StrEnum):
    """What is asked about: a protocol with ports, or a ping.

    ICMP stands for an echo request and its reply, by ICMPv6 between IPv6 addresses. It has no
    ports, so no policy that names ports lets it through; its port is 0 here.
    """

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"


WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
"""The protocols that NetworkPolicies, Services and containers name."""


class Family(StrEnum):
    """An address family, spelled as OVN's match fields and the Parquet columns spell it."""

    IP4 = "ip4"
    IP6 = "ip6"

    @classmethod
    def of(cls, address: str) -> "Family":
        """Return the family of `address`, an IP address in its usual spelling."""
        return cls.IP6 if ":" in address else cls.IP4

    @property
    def bits(self) -> int:
        """How long an address is."""
        return 32 if self is Family.IP4 else 128

    @property
    def everything(self) -> str:
        """The network that holds every address."""
        return "0.0.0.0/0" if self is Family.IP4 else "::/0"


def with_port(address: str, port: int | str) -> str:
    """Return an address with a port, as OVN writes both: `10.0.0.1:80`, `[fd00::1]:80`."""
    return f"[{address}]:{port}" if Family.of(address) is Family.IP6 else f"{address}:{port}"


def split_port(text: str) -> tuple[str, int] | None:
    """Return the address and the port of what `with_port` writes; None where there is no port."""
    address, _, port = text.rpartition(":")
    return (address.strip("[]"), int(port)) if port.isascii() and port.isdigit() else None


class ConntrackState(StrEnum):
    """What every conntrack step of a trace is told about the connection.

    `ovn-trace` defaults to `est` and `ofproto/trace` to `new` (ovn-trace(8), ovs-vswitchd(8)), so
    the state is always stated. A request is new at every step; its reply is established there.
    """

    REQUEST = "new"
    REPLY = "est,rpl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Microflow:
    """One packet entering a logical port: what `ovn-trace` takes."""

    inport: str
    eth_src: str
    eth_dst: str
    ip_src: str
    ip_dst: str
    protocol: Protocol
    src_port: int
    dst_port: int
    ttl: int = 64

    def __post_init__(self) -> None:
        if Family.of(self.ip_src) is not Family.of(self.ip_dst):
            raise ValueError(f"mixed address families: {self.ip_src} -> {self.ip_dst}")

    @property
    def family(self) -> Family:
        """The address family of both ends."""
        return Family.of(self.ip_src)

    @property
    def icmp_type(self) -> int:
        """The type of an ICMP packet: what is not sent to port 0 is the reply (RFC 792, 4443)."""
        request, reply = (8, 0) if self.family is Family.IP4 else (128, 129)
        return reply if self.dst_port else request
