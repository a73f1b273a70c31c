"""Of which packets a match may be true: their address families and ports. Pure."""

import functools
import itertools
import re
from typing import NamedTuple

from audit.cover import matches
from audit.cover.identities import COMPARISON, THING
from audit.cover.matches import ANY_L4, Intervals, MatchError
from audit.model.packets import WITH_PORTS, Family, Protocol

_ADDRESS = re.compile(r"(?:ip[46]|eth)\.(?:src|dst)")
_OTHERWISE = re.compile(r"/|\b(?!0\b)\w")
"""What is no address; ovn-northd writes the unspecified one as 0, and nobody has it."""
LOOKS_AT_PORTS = re.compile(r"\b(?:tcp|udp|sctp)\.(?:src|dst)\b")
_L4_FIELD = re.compile(r"\b(tcp|udp|sctp)\.(src|dst)\b")

_DUMMIES = {
    "name": '"n"',
    "mac": "02:00:00:00:00:01",
    "set": "$s",
    "group": "@g",
}
_DUMMY_IP = {4: "192.0.2.1", 6: "2001:db8::1"}


class Reading(NamedTuple):
    """Of which packets a match may be true.

    `l4` are the ports of the requests, or of requests whose replies may meet it; None where that
    does not depend on ports.
    """

    families: frozenset[Family]
    l4: Intervals | None


NEVER = Reading(frozenset(), None)


@functools.lru_cache(maxsize=1 << 16)
def read(match: str, protocols: frozenset[Protocol] = frozenset(WITH_PORTS)) -> Reading:
    """Read a match for packets of some protocols. MatchError when it cannot be.

    Alike matches are read once.

    Also where an address is compared with what is not written as one: whom a number or a mask of
    a MAC is about, no name tells.
    """
    if "!=" in match:  # which two constants are equal matters
        return _read(match, protocols)
    return _read(THING.sub(_dummy, match), protocols)


def _dummy(thing: re.Match[str]) -> str:
    """Return something of the same kind, the same for all: so no two exclude each other."""
    kind = str(thing.lastgroup)
    if kind != "ip":
        return _DUMMIES[kind]
    address, slash, length = thing["ip"].partition("/")
    return f"{_DUMMY_IP[6 if ':' in address else 4]}{slash}{length}"


@functools.lru_cache(maxsize=1 << 16)
def _read(match: str, protocols: frozenset[Protocol]) -> Reading:
    for compared in COMPARISON.finditer(match):
        if _ADDRESS.fullmatch(compared["field"]) and _OTHERWISE.search(
            THING.sub("", compared["constants"])
        ):
            raise MatchError(f"{match!r} looks at parts of an address")
    meant = [
        (term.families, l4)
        for term in (*matches.widened(match), *of_replies(match))
        if (l4 := matches.among(protocols, term.l4))
    ]
    if not meant:
        return NEVER
    families = frozenset(itertools.chain.from_iterable(families for families, _ in meant))
    if any(l4 == ANY_L4 for _, l4 in meant):
        # Of some end it may be true whatever the port, and of another it may depend on that.
        return Reading(families, ANY_L4 if LOOKS_AT_PORTS.search(match) else None)
    l4s = itertools.chain.from_iterable(l4 for _, l4 in meant)
    return Reading(families, matches.among(protocols, l4s))


def of_replies(match: str) -> matches.Terms:
    """Return terms of which one is true of every request whose reply `match` may be true of."""
    return matches.widened(turned(match), of_replies=True)


def turned(match: str) -> str:
    """Return what a match is to a packet whose ports are the other way round: to the reply."""
    return _L4_FIELD.sub(lambda l4: f"{l4[1]}.{'src' if l4[2] == 'dst' else 'dst'}", match)
