"""Random matches over all of OVN's symbols mean to `parse` what they mean to OVN."""

import ipaddress
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from audit.cover.matches import MatchError, parse
from audit.flows.symbols import SYMBOLS, Symbol
from audit.model.packets import Family
from audit.replay.toolchain import Toolchain
from tests.cover.compiled import ADDRESSES, PACKETS, compiled, delivered, met

MATCHES = int(os.environ.get("RANDOM_MATCHES", "160"))
"""How many are compared; by hand some thousands."""
AT_ONCE = 250

NEWER = {
    *("flags.network_id", "flags.igmp_loopback", "flags.pkt_sampled", "ct_label.nf"),
    *("ct_label.nf_id", "ct_label.tun_if", "ct_label.tun_if_id"),
}
"""Symbols that only OVN 26.03 has."""
UNMATCHED = {"icmp4.frag_mtu", "icmp6.frag_mtu"}
"""For actions only: OVN asserts that no match has them."""
KNOWN = sorted(set(SYMBOLS) - NEWER - UNMATCHED - {"inport", "outport"})
RELATIONS = ("==", "==", "!=", "<", "<=", ">", ">=")


def comparison(rng: random.Random, *, negated: bool) -> str:
    """Return one comparison that OVN takes where `negated` by what is around it."""
    name = rng.choice(KNOWN)
    if rng.random() < 0.4:
        name = f"{rng.choice(list(Family))}.{rng.choice(('src', 'dst'))}"
    symbol = SYMBOLS[name]
    if symbol.nominal or symbol.means:
        return word(rng, symbol, negated=negated)
    low = rng.randrange(symbol.width) if rng.random() < 0.5 else 0
    last = rng.randrange(low, symbol.width) if rng.random() < 0.5 else symbol.width - 1
    bits = last - low + 1
    field = name
    if bits < symbol.width:
        field = f"{name}[{low}]" if low == last else f"{name}[{low}..{last}]"
    if rng.random() < 0.2 and (bits == 1 or negated):
        return f"({field})" if rng.random() < 0.5 else field
    relation = rng.choice(RELATIONS)
    listed = rng.choice((1, 1, 2, 3)) if relation in ("==", "!=") else 1
    numbers = [
        number(rng, symbol, low, bits, masked=relation in ("==", "!=")) for _ in range(listed)
    ]
    text = f"{{{', '.join(numbers)}}}" if listed > 1 else numbers[0]
    return f"({field} {relation} {text})"


def word(rng: random.Random, symbol: Symbol, *, negated: bool) -> str:
    """Return a test of a predicate, or of a field that is tested positively only."""
    if not symbol.means:
        some = (6, 17, 58, 132, 0x800, 0x86DD, 64, 255, 135, 1, 0)
        fitting = [str(value) for value in some if value >> symbol.width == 0]
        values = rng.sample(fitting, min(len(fitting), rng.choice((1, 2))))
        return f"({symbol.name} {'!=' if negated else '=='} {{{', '.join(values)}}})"
    bare = rng.random() < 0.5
    if not symbol.nominal:
        test = rng.choice(("== 0", "== 1", "!= 0", "!= 1", "== {0, 1}"))
        return symbol.name if bare else f"({symbol.name} {test})"
    if negated:
        return f"({symbol.name} {rng.choice(('== 0', '!= 1'))})"
    return symbol.name if bare else f"({symbol.name} {rng.choice(('== 1', '!= 0'))})"


def number(rng: random.Random, symbol: Symbol, low: int, bits: int, *, masked: bool) -> str:
    """Return a constant near what the packets have, as OVN can spell it."""
    value = 0
    family, _, _ = symbol.name.partition(".")
    if family in tuple(Family):
        value = int(ip(rng.choice(ADDRESSES[Family(family)]))) >> low
    elif symbol.name.endswith(".dst") and symbol.width == 16:
        value = rng.choice((80, 443)) >> low
    elif symbol.width == 48 and rng.random() < 0.5:
        value = 0x33330000 << 16 >> low
    value ^= rng.choice((0, 0, 0, 1, 1 << rng.randrange(bits)))
    value &= (1 << bits) - 1
    if masked and rng.random() < 0.3:
        mask = rng.getrandbits(bits)
        return spelled(rng, value, symbol.width, mask)
    return spelled(rng, value, symbol.width)


def spelled(rng: random.Random, value: int, width: int, mask: int | None = None) -> str:
    """Return a number in one of OVN's spellings; a wide one is no decimal."""

    def of_width(number: int) -> str:
        if width == 32 and rng_kind < 0.5:
            return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
        if width == 128 and rng_kind < 0.5:
            return ":".join(f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))
        if width == 48 and rng_kind < 0.5:
            return ":".join(f"{number >> shift & 255:02x}" for shift in range(40, -1, -8))
        return str(number) if rng_kind > 0.8 and number < 1 << 64 else hex(number)

    rng_kind = rng.random()
    if mask is None:
        return of_width(value)
    if rng_kind > 0.8:
        return f"{hex(value)}/{hex(mask)}"
    return f"{of_width(value)}/{of_width(mask)}"


def ip(address: str) -> int:
    return int(ipaddress.ip_address(address))


def expression(rng: random.Random, depth: int, *, negated: bool = False) -> str:
    if depth and rng.random() < 0.7:
        if rng.random() < 0.3:
            return f"!({expression(rng, depth - 1, negated=not negated)})"
        operator = rng.choice((" && ", " || "))
        return operator.join(f"({expression(rng, depth - 1, negated=negated)})" for _ in range(2))
    return comparison(rng, negated=negated)


def understood(rng: random.Random, count: int) -> Iterator[str]:
    """Yield random matches that do not depend on what varies."""
    while count:
        match = expression(rng, rng.choice((0, 1, 2, 3)))
        try:
            parse(match)
        except MatchError as refused:
            if " depends on " not in str(refused):
                raise
            continue
        count -= 1
        yield match


@pytest.mark.ovn
def test_ovn_drops_what_the_terms_of_random_matches_are_true_of(toolchain: Toolchain) -> None:
    rng = random.Random(os.environ.get("RANDOM_SEED", "2603"))  # noqa: S311 - tests repeat themselves
    matched = list(understood(rng, MATCHES))
    outcomes: Counter[str] = Counter()
    for start in range(0, len(matched), AT_ONCE):
        some = matched[start : start + AT_ONCE]
        with compiled(some, toolchain) as daemon:
            assert daemon.unparsed.flows == 0, daemon.unparsed
            for place, match in enumerate(some):
                terms = parse(match)
                packets = rng.sample(PACKETS, 60)
                for side in (True, False):
                    for packet in [p for p in packets if met(terms, p) is side][:2]:
                        assert delivered(daemon, packet, place) is not side, (match, packet)
                        outcomes[f"dropped {side}"] += 1
                outcomes["varied"] += {met(terms, p) for p in packets} == {True, False}
    report = f"{len(matched)} matches: {dict(outcomes)}"
    logging.getLogger(__name__).info("%s", report)  # pytest --log-cli-level=info
    assert outcomes["dropped True"] > MATCHES // 2
    assert outcomes["dropped False"] > MATCHES // 2
    assert outcomes["varied"] > MATCHES // 5
