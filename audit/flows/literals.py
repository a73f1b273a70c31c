"""Texts of flows that differ in names and addresses only. Pure.

Of a hundred thousand matches in a zone's flows there are some thousands then.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LITERAL = re.compile(
    r'"[^"]*"'
    r"|[$@][A-Za-z_.][A-Za-z0-9_.]*"
    rf"|(?<![\w.:]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w.:/])"
    r"|(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:/])"
    r"|(?<![\w.:])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w.:/])"
)
"""A name, an address set, a port group, an IPv4 address, a MAC, or what may be an IPv6 address
(ovn-sb(5), Logical_Flow, `match`)."""
_FOUR, _SIX = "240.0.{}.{}", "100::{:x}"
"""Addresses that no packet has (RFC 1112, RFC 6666) stand for those of a text."""
_MAC = "0a:00:00:00:{:02x}:{:02x}"
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
"""As OVN writes it."""

_SET = re.compile(r"\$([A-Za-z_.][A-Za-z0-9_.]*)")
_NAME = re.compile(r'"[^"\x00-\x1f]*"|[$@][A-Za-z_.][A-Za-z0-9_.]*')
"""A port, an address set or a port group."""
_MARKS = re.compile(r'^[$@]|^"|"$')
"""What tells a name from other words."""
_NO_PLAIN_TEXT = re.compile(r"\\|//|/\*")
"""Escapes and comments: in these a quote is not where a name ends."""


def sets_named(matches: Iterable[str]) -> Iterator[str]:
    """Yield the address sets that matches name, without their $; some of them often."""
    return (name for match in matches for name in _SET.findall(match))


class Alike(NamedTuple):
    """A text with others for its literals, and these by what stands for them.

    `literals` are names of ports, and addresses, IPv6 ones as `ipaddress` writes them; `groups` and
    `sets` are names of port groups and of address sets, in the text's order.
    """

    text: str
    literals: dict[str, str]
    groups: dict[str, str]
    sets: dict[str, str]


def alike(text: str) -> Alike:
    """Return a text that is the same for all that differ in literals only.

    A literal that comes twice has two that stand for it. One with a backslash is as it is, where
    names are not told by their quotes.
    """
    made = Alike(text, {}, {}, {})
    if "\\" in text:
        return made

    def stand_in(literal: re.Match[str]) -> str:
        of = literal[0]
        if of[0] == '"':
            name = str(len(made.literals))
            made.literals[name] = of[1:-1]
            return f'"{name}"'
        if of[0] in "@$":
            names = made.groups if of[0] == "@" else made.sets
            name = f"n{len(names)}"
            names[name] = of[1:]
            return f"{of[0]}{name}"
        number = divmod(len(made.literals), 256)
        if ":" not in of:
            address = _FOUR.format(*number)
        elif MAC.fullmatch(of):
            address = _MAC.format(*number)
        else:
            try:
                of = str(ipaddress.IPv6Address(of))
            except ValueError:
                return of
            address = _SIX.format(len(made.literals) + 1)
        made.literals[address] = of
        return address

    return made._replace(text=_LITERAL.sub(stand_in, text))


class Named(NamedTuple):
    """A text with other names, and what it has in their place."""

    text: str
    names: dict[str, str]


def named_alike(text: str) -> Named:
    """Return a match that is the same for all that differ in names of ports, sets and groups only.

    A name that comes twice has the same one for it in each place.
    """
    stand_ins: dict[str, str] = {}
    if _NO_PLAIN_TEXT.search(text):
        return Named(text, {})

    def stand_in(token: re.Match[str]) -> str:
        quote, name = token[0][0], stand_ins.setdefault(token[0], f"n{len(stand_ins)}")
        return f'"{name}"' if quote == '"' else f"{quote}{name}"

    alike = _NAME.sub(stand_in, text)
    return Named(alike, {name: _MARKS.sub("", token) for token, name in stand_ins.items()})
