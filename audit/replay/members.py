"""Address sets with those addresses only that some packets have. Pure.

A set is asked for a packet's source or destination, and what else is in it makes no difference to
that packet. Sets of thousands of pods are most of what `ovn-trace` reads and goes through.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

import msgspec

_NAMED = re.compile(r"\$([\w.-]+)")
_AS_ADDRESSES = re.compile(r"\bip[46]\.(?:src|dst) ?[!=]= ?(\{[^{}]*\}|\$[\w.-]+)")
"""Where a match asks whether a packet's address is in a set (ovn-sb(5), Logical_Flow)."""
_BACKENDS = re.compile(r"backends=[^;)]*")
_ADDRESSES = re.compile(r"[0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:]+")


def otherwise_asked(flows: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the sets that matches or actions ask otherwise than for a packet's addresses."""
    asked: Counter[str] = Counter()
    for match, actions in flows:
        if "$" in match or "$" in actions:
            asked.update(_NAMED.findall(match))
            asked.update(_NAMED.findall(actions))
            for part in _AS_ADDRESSES.findall(match):
                asked.subtract(_NAMED.findall(part))
    return frozenset(name for name, times in asked.items() if times)


def mentioned(actions: Iterable[str]) -> frozenset[str]:
    """Return the addresses that actions write, into registers for one; not those of endpoints."""
    texts = (_BACKENDS.sub("", text) for text in set(actions))
    return frozenset(address for text in texts for address in _ADDRESSES.findall(text))


def plain(values: Iterable[str]) -> frozenset[str]:
    """Return which of these are single addresses, written as OVN prints them."""
    return frozenset(filter(_is_plain, values))


def _is_plain(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    # inet_ntop writes the last bits of `::1.2.3.4` otherwise than `ipaddress`.
    return str(address) == value and not value.startswith("::")


def addresses(row: Mapping[str, object]) -> list[str]:
    """Return the addresses in a set's row, of an OVSDB file."""
    match row.get("addresses"):
        case str(single):
            return [single]
        case ["set", [*several]]:
            return list(map(str, several))
        case _:
            return []


def without(row: msgspec.Raw, aside: AbstractSet[str]) -> msgspec.Raw:
    """Return a set's row without these addresses, of which one of each family stays.

    So no set becomes empty, which is another match to OVN, and a set with an address that is too
    wide for the field, which no match may name, still has one.
    """
    decoded = msgspec.json.decode(row)
    every = addresses(decoded)
    one_of_each = {":" in address: address for address in every}.values()
    left = [each for each in every if each not in aside or each in one_of_each]
    if len(left) == len(every):
        return row
    decoded["addresses"] = ["set", left]
    return msgspec.Raw(msgspec.json.encode(decoded))
