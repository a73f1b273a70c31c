"""Addresses and networks as a cluster spells them, which may also be no such thing."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ALIKE = 1 << 15
"""Texts remembered: routes and policies repeat the few networks of a cluster."""


@lru_cache(maxsize=_ALIKE)
def network(text: str) -> Network | None:
    """Return the network `text` spells, an address being a network of one; None for any other."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def networks(texts: Iterable[str]) -> list[Network]:
    """Return the networks among `texts`."""
    return [parsed for parsed in map(network, texts) if parsed is not None]
