"""Texts of flows that differ in names and addresses only. Pure.

Of a hundred thousand matches in a zone's flows there are some thousands then.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LITERAL = re.compile(
    r'"[^"]*"'
    rf"|(?<![\w.:]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w.:/])"
    r"|(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:/])"
)
"""A name, an IPv4 address, or a MAC (ovn-sb(5), Logical_Flow, `match`)."""
_FOUR = "240.0.{}.{}"
"""Addresses that no packet has (RFC 1112) stand for those of a text."""
_SOME_MAC = "0a:00:00:00:00:00"


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
    """A text with others for its literals, and these by what stands for them; not for MACs."""

    text: str
    literals: dict[str, str]


def alike(text: str) -> Alike:
    """Return a text that is the same for all that differ in literals only.

    A literal that comes twice has two that stand for it. One with a backslash is as it is, where
    names are not told by their quotes.
    """
    literals: dict[str, str] = {}
    if "\\" in text:
        return Alike(text, literals)

    def stand_in(literal: re.Match[str]) -> str:
        if literal[0].startswith('"'):
            name = str(len(literals))
            literals[name] = literal[0][1:-1]
            return f'"{name}"'
        if ":" in literal[0]:
            return _SOME_MAC
        address = _FOUR.format(*divmod(len(literals), 256))
        literals[address] = literal[0]
        return address

    return Alike(_LITERAL.sub(stand_in, text), literals)


def named_alike(text: str) -> Alike:
    """Return a match that is the same for all that differ in names of ports, sets and groups only.

    A name that comes twice has the same one for it in each place.
    """
    stand_ins: dict[str, str] = {}
    if _NO_PLAIN_TEXT.search(text):
        return Alike(text, {})

    def stand_in(token: re.Match[str]) -> str:
        quote, name = token[0][0], stand_ins.setdefault(token[0], f"n{len(stand_ins)}")
        return f'"{name}"' if quote == '"' else f"{quote}{name}"

    alike = _NAME.sub(stand_in, text)
    return Alike(alike, {name: _MARKS.sub("", token) for token, name in stand_ins.items()})
