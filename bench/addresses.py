"""The address plan of a generated cluster, and the names OVN-Kubernetes derives from text.

Defaults of an OpenShift cluster in dual stack; a cluster of one family uses the IPv4 half.
"""

import hashlib
import ipaddress

CLUSTER = (ipaddress.IPv4Network("10.128.0.0/14"), ipaddress.IPv6Network("fd01::/48"))
SERVICES = (ipaddress.IPv4Network("172.30.0.0/16"), ipaddress.IPv6Network("fd02::/112"))
HOSTS = (
    ipaddress.IPv4Network("172.18.0.0/16"),
    ipaddress.IPv6Network("fc00:f853:ccd:e793::/64"),
)
JOIN = (ipaddress.IPv4Network("100.64.0.0/16"), ipaddress.IPv6Network("fd98::/64"))
TRANSIT = (ipaddress.IPv4Network("100.88.0.0/16"), ipaddress.IPv6Network("fd97::/64"))
MASQUERADE = (ipaddress.IPv4Network("169.254.169.0/29"), ipaddress.IPv6Network("fd69::/125"))

_NODE_PREFIX = (23, 64)
_BITS = (32, 128)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Plan = tuple[ipaddress.IPv4Network, ipaddress.IPv6Network]


def node_networks(index: int, families: int) -> tuple[Network, ...]:
    """Return the pod subnets of node number `index` (from 0), IPv4 first."""
    four = ipaddress.IPv4Network((int(CLUSTER[0].network_address) + (index << 9), _NODE_PREFIX[0]))
    six = ipaddress.IPv6Network(
        (int(CLUSTER[1].network_address) + ((index + 1) << 64), _NODE_PREFIX[1])
    )
    return (four, six)[:families]


def at(network: Network, number: int) -> str:
    """Return the address `number` of a network."""
    return str(network[number])


def each(plan: Plan, number: int, families: int) -> tuple[str, ...]:
    """Return the address `number` of each family's network."""
    return tuple(at(network, number) for network in plan[:families])


def with_prefix(plan: Plan, number: int, families: int) -> tuple[str, ...]:
    """Return the same with the network's prefix length: `100.64.0.2/16`."""
    return tuple(f"{at(network, number)}/{network.prefixlen}" for network in plan[:families])


def mac_of(address: str) -> str:
    """Return the MAC OVN-Kubernetes gives an IPv4 address: `0a:58` and its four bytes."""
    octets = (int(octet) for octet in address.split("."))
    return ":".join(["0a", "58", *(f"{octet:02x}" for octet in octets)])


def link_local(mac: str) -> str:
    """Return the link-local address of a MAC (RFC 4291, appendix A)."""
    octets = [int(octet, 16) for octet in mac.split(":")]
    whole = [octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]
    return str(ipaddress.IPv6Address(bytes([0xFE, 0x80, *(0,) * 6, *whole])))


def host_prefix(address: str) -> str:
    """Return an address as a network of one: `100.64.0.3/32`."""
    return f"{address}/{_BITS[':' in address]}"


def hash_for_ovn(text: str) -> str:
    """Return the name of a port group or address set: `a` and the 64-bit FNV-1a of its id."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"a{value}"


def uuid_of(*words: str) -> str:
    """Return a uuid that is the same whenever the words are."""
    digest = hashlib.md5("/".join(words).encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
