"""Names and addresses as a scope spells them, checked for their form alone.

Whether a cluster has anything of that name is not known here. Every function returns what it read
or raises ScopeError.
"""

import ipaddress
import re

from audit.errors import ScopeError

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NODE = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_NETWORK = re.compile(r"[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?(/[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?")
_SERVICE = re.compile(rf"{_LABEL}/({_LABEL}|\*)|\*/\*")


EVERY = "*"
"""In place of the name of a namespace, or of a node: all there are."""


def read_namespace(text: str) -> str:
    """Return `text`, which names a namespace, or every one."""
    if text != EVERY and not _NAMESPACE.fullmatch(text):
        raise ScopeError(f"{text!r} is not the name of a namespace")
    return text


def read_node(text: str) -> str:
    """Return `text`, which names a node, or every one."""
    if text != EVERY and not _NODE.fullmatch(text):
        raise ScopeError(f"{text!r} is not the name of a node")
    return text


def read_service(text: str) -> str:
    """Return `text`: `namespace/name`, `namespace/*` for all of a namespace, or `*/*` for all."""
    if not _SERVICE.fullmatch(text):
        raise ScopeError(
            f"{text!r} is not namespace/name, nor namespace/* for all of a namespace, nor */* for "
            "all there are"
        )
    return text


def read_network(text: str) -> str:
    """Return `text`, which names a network: as OVN has it, or namespace/name of what made it."""
    if not _NETWORK.fullmatch(text):
        raise ScopeError(
            f"{text!r} is not the name of a network, such as default, blue_net or blue/net"
        )
    return text


def spellings(network: str) -> tuple[str, ...]:
    """Return what a network may be called in OVN that somebody calls by its object's name."""
    return (network, network.replace("/", "_"), f"cluster_udn_{network}")


def read_word(text: str) -> str:
    """Return `text`, a word for endpoints, an address in its usual spelling."""
    if not text.strip():
        raise ScopeError("a word is empty; write a name, a kind and a name, labels or an address")
    return read_address(text) if is_address(text) else text


def is_address(word: str) -> bool:
    """Say whether a word is an IP address."""
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def read_address(text: str) -> str:
    """Return the address `text` is, in its usual spelling."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ScopeError(f"{text!r} is not an IP address") from None
    scoped = isinstance(address, ipaddress.IPv6Address) and address.scope_id
    if scoped or address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ScopeError(f"{text!r} is not an address that a connection can be made to")
    return str(address)


def read_outside(text: str) -> str:
    """Return what `text` says of the outside: an address, a CIDR, or `all`.

    A CIDR of one address is that address.
    """
    if text == "all":
        return text
    if "/" not in text:
        return read_address(text)
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ScopeError(
            f"{text!r}: {error}; write an address, a CIDR as 203.0.113.0/24, or all"
        ) from None
    return str(network) if network.num_addresses > 1 else read_address(str(network[0]))
