"""OVN's constants: numbers, addresses and masks, as its lib/lex.c reads them. Pure."""

import functools
import ipaddress
import re
from collections.abc import Iterable

from audit.model.packets import Family

Pattern = tuple[int, int]
"""A value and a mask: of all numbers, those that have the value's bits where the mask's are 1."""

NUMBER = re.compile(r"0|[1-9][0-9]{0,19}|0[xX][0-9A-Fa-f]{1,32}", re.ASCII)
_ETHERNET = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}", re.ASCII)
_ETHERNET_BITS = 48


@functools.lru_cache(maxsize=1 << 12)
def constant(text: str) -> tuple[int, int | None, int] | None:
    """Return a constant's value, its mask if it has one, and how many bits it takes, as lex.c does.

    None where OVN has it for an error.
    """
    first, slash, second = text.partition("/")
    value = _plain(first)
    if value is None or not slash:
        return None if value is None else (value[1], None, _bits_of(*value))
    written = _plain(second)
    mask = None if written is None else _mask(*value, *written)
    return None if mask is None else (value[1] & mask, mask, mask.bit_length())


def _mask(kind: str, value: int, mask_kind: str, mask: int) -> int | None:
    """Return the mask of a value as bits; None where OVN takes no such mask for such a value."""
    if kind == mask_kind or (kind == "decimal" and mask_kind == "hexadecimal" and not value):
        return mask
    bits = _FIXED.get(kind, 0)
    if kind in ("ip4", "ip6") and mask_kind == "decimal" and mask <= bits:
        return (1 << bits) - (1 << (bits - mask))
    return None


_FIXED = {"ip4": Family.IP4.bits, "ip6": Family.IP6.bits, "ethernet": _ETHERNET_BITS}


def _bits_of(kind: str, value: int) -> int:
    return _FIXED.get(kind, value.bit_length())


def _plain(text: str) -> tuple[str, int] | None:
    """Return the format and the value of a constant without a mask."""
    if NUMBER.fullmatch(text):
        kind = "hexadecimal" if text[:2] in ("0x", "0X") else "decimal"
        number = int(text, 0)
        return (kind, number) if kind == "hexadecimal" or number < 1 << 64 else None
    if _ETHERNET.fullmatch(text):
        return "ethernet", int(text.replace(":", ""), 16)
    try:
        return str(Family.of(text)), int(ipaddress.ip_address(text))
    except ValueError:
        return None


def has(number: int, patterns: Iterable[Pattern]) -> bool:
    """Say whether any of the patterns is a number's."""
    return any(number & mask == value for value, mask in patterns)


def spelled(pattern: Pattern, family: Family) -> str:
    """Return `10.0.0.0/8`, or where it is no prefix `0.0.0.1/0.0.0.255`."""
    value, mask = pattern
    version = ipaddress.IPv4Address if family is Family.IP4 else ipaddress.IPv6Address
    free = mask ^ ((1 << family.bits) - 1)
    prefix = not free & (free + 1)
    return f"{version(value)}/{family.bits - free.bit_length() if prefix else version(mask)}"


@functools.lru_cache(maxsize=1 << 17)
def masked(text: str) -> Pattern | None:
    """Return the pattern of an address or of a network, as `AddressIn` or an address set has it.

    None where it is neither, which OVN leaves out of a set.
    """
    whole = constant(text)
    if whole is None or _ETHERNET.fullmatch(text):
        return None
    value, mask, _ = whole
    return value, (1 << Family.of(text).bits) - 1 if mask is None else mask
