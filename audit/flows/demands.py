"""What a match demands of a packet's port and destination: no packet without that meets it. Pure.

Only what is sure is told. `inport == @a && tcp` demands a port of group `a`; `inport == "x" ||
tcp` demands nothing, as there are packets from other ports that it is true of.
"""

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.flows.literals import Alike
from audit.flows.symbols import Symbol
from audit.flows.syntax import Compared, MatchError, Parser, Token
from audit.model.packets import Family

_DESTINATIONS = {"ip4.dst": Family.IP4, "ip6.dst": Family.IP6}
_FIELDS = ("inport", "outport", *_DESTINATIONS)


@dataclass(frozen=True, slots=True)
class Demand:
    """`field` is one of these constants, or a port in one of these groups.

    `field` is `inport`, `outport`, `ip4.dst` or `ip6.dst`. `constants` are names of ports, or
    addresses as `ipaddress` writes them.
    """

    field: str
    constants: frozenset[str]
    groups: frozenset[str] = frozenset()


Demands = tuple[Demand, ...]
"""All of these hold of each packet that a match is true of; at most one of each field."""


def demands(match: Alike) -> Demands:
    """Return what a match demands, nothing of one that is not understood."""
    text, literals = match
    return tuple(
        replace(demand, constants=frozenset(literals.get(c, c) for c in demand.constants))
        for demand in _demands(text)
    )


@functools.lru_cache(maxsize=1 << 16)
def _demands(match: str) -> Demands:
    if not any(field in match for field in _FIELDS):
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
        family = _DESTINATIONS.get(compared.field.symbol.name)
        if family is None or compared.negated or compared.sets or compared.ordered:
            return ()
        full = (1 << family.bits) - 1
        if compared.field.width < family.bits or any(m != full for _, m in compared.patterns):
            return ()
        version = ipaddress.IPv4Address if family is Family.IP4 else ipaddress.IPv6Address
        addresses = frozenset(str(version(value)) for value, _ in compared.patterns)
        return (Demand(compared.field.symbol.name, addresses),)


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
