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
_SERVICE = re.compile(rf"{_LABEL}/({_LABEL}|\*)")


def read_namespace(text: str) -> str:
    """Return `text`, which names a namespace."""
    if not _NAMESPACE.fullmatch(text):
        raise ScopeError(f"{text!r} is not the name of a namespace")
    return text


def read_node(text: str) -> str:
    """Return `text`, which names a node."""
    if not _NODE.fullmatch(text):
        raise ScopeError(f"{text!r} is not the name of a node")
    return text


def read_service(text: str) -> str:
    """Return `text`, `namespace/name` or `namespace/*` for all of a namespace."""
    if not _SERVICE.fullmatch(text):
        raise ScopeError(f"{text!r} is not namespace/name, nor namespace/* for all of a namespace")
    return text


def read_address(text: str) -> str:
    """Return the address `text` is, in its usual spelling."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        hint = "; give one address of the network" if "/" in text else ""
        raise ScopeError(f"{text!r} is not an IP address{hint}") from None
    scoped = isinstance(address, ipaddress.IPv6Address) and address.scope_id
    if scoped or address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ScopeError(f"{text!r} is not an address that a connection can be made to")
    return str(address)
