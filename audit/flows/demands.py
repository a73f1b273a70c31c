"""What a match demands of a packet: none without that meets it. Pure.

That is where it enters and leaves, and where it is for.

Only what is sure is told. `inport == @a && tcp` demands a port of group `a`; `inport == "x" ||
tcp` demands nothing, as there are packets from other ports that it is true of.
"""

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.flows.literals import Alike
from audit.flows.symbols import Symbol
from audit.flows.syntax import Compared, MatchError, Parser, Token


def _of_four(value: int) -> str:
    return str(ipaddress.IPv4Address(value))


def _of_six(value: int) -> str:
    return str(ipaddress.IPv6Address(value))


_ADDRESSES: Mapping[str, Callable[[int], str]] = {
    **dict.fromkeys(("ip4.dst", "arp.tpa", "reg0"), _of_four),
    **dict.fromkeys(("ip6.dst", "nd.target", "xxreg0"), _of_six),
    "eth.dst": lambda value: value.to_bytes(6, "big").hex(":"),
}
"""Fields that are compared with addresses, and how these are written: destinations, who is asked
for, and in routers the next hop (ovn-northd(8))."""
FIELDS = ("inport", "outport", *_ADDRESSES)


@dataclass(frozen=True, slots=True)
class Demand:
    """`field`, one of `FIELDS`, is one of these constants, or a port in one of these groups.

    `constants` are names of ports, or addresses as OVN and `ipaddress` write them.
    """

    field: str
    constants: frozenset[str]
    groups: frozenset[str] = frozenset()


Demands = tuple[Demand, ...]
"""All of these hold of each packet that a match is true of; at most one of each field."""


def demands(match: Alike) -> Demands:
    """Return what a match demands, nothing of one that is not understood."""
    literals, groups = match.literals, match.groups
    return tuple(
        Demand(
            demand.field,
            frozenset(literals.get(constant, constant) for constant in demand.constants),
            frozenset(groups.get(group, group) for group in demand.groups),
        )
        for demand in _demands(match.text)
    )


@functools.lru_cache(maxsize=1 << 16)
def _demands(match: str) -> Demands:
    if not any(field in match for field in FIELDS):
        return ()
    try:
        return _Parser(match).whole()
    except MatchError:
        return ()


class _Parser(Parser[Demands]):
    """Reads a match as what it demands."""

    def constant(self, *, true: bool) -> Demands:  # noqa: ARG002 - it demands no value
        return ()

    def joined(
        self,
        operands: Sequence[Demands],
        operator: Token | None,  # noqa: ARG002 - there is no limit to complain about
        *,
        every: bool,
    ) -> Demands:
        if len(operands) == 1:
            return operands[0]
        if every:
            first = {demand.field: demand for some in reversed(operands) for demand in some}
            return tuple(first.values())
        return tuple(
            _either(demand, operands[1:])
            for demand in operands[0]
            if all(_of(demand.field, some) for some in operands[1:])
        )

    def resident(self, name: str, *, negated: bool) -> Demands:  # noqa: ARG002 - as above
        return ()

    def port(self, field: Token, groups: frozenset[str], names: frozenset[str]) -> Demands:
        return (Demand(field.text, names, groups),)

    def predicates(
        self,
        symbol: Symbol,  # noqa: ARG002 - none is about ports or single addresses
        positive: Sequence[bool],  # noqa: ARG002
        *,
        every: bool,  # noqa: ARG002
    ) -> Demands:
        return ()

    def numbers(self, compared: Compared) -> Demands:
        symbol = compared.field.symbol
        write = _ADDRESSES.get(symbol.name)
        if write is None or compared.negated or compared.sets or compared.ordered:
            return ()
        full = (1 << symbol.width) - 1
        if compared.field.width < symbol.width or any(m != full for _, m in compared.patterns):
            return ()
        return (Demand(symbol.name, frozenset(write(value) for value, _ in compared.patterns)),)


def _of(field: str, some: Demands) -> Demand | None:
    return next((demand for demand in some if demand.field == field), None)


def _either(demand: Demand, others: Sequence[Demands]) -> Demand:
    """Return what is demanded where `demand` is, or that of its field of any of the others."""
    alike = [demand, *(one for some in others if (one := _of(demand.field, some)))]
    return Demand(
        demand.field,
        frozenset().union(*(one.constants for one in alike)),
        frozenset().union(*(one.groups for one in alike)),
    )
