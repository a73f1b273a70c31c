"""The ports asked about, and which of them policies cannot tell apart."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import NamedPort, Port
from audit.model.packets import Protocol
from audit.model.policies import PortMatch


def matches(wanted: Iterable[PortMatch], port: Port, named: Iterable[NamedPort]) -> bool:
    """Tell whether a rule's ports hold `port` of a destination that declares `named` ports.

    Of a range of ports, which nothing tells apart, its sample stands for all.
    """
    return any(
        (match.protocol in (None, port.protocol))
        and (
            any(declared.name == match.name and _is(declared.port, port) for declared in named)
            if match.name
            else match.first <= port.sample <= match.last
        )
        for match in wanted
    )


def _is(declared: Port, port: Port) -> bool:
    return declared.protocol is port.protocol and declared.number == port.sample


@dataclass(frozen=True, slots=True, kw_only=True)
class PortAtoms:
    """Ports in groups that no rule tells apart: `of[p]` is port p's, `samples` one of each.

    `entering` are the groups with a port that something leads to from outside.
    """

    of: NDArray[np.int32]
    samples: tuple[Port, ...]
    entering: frozenset[int] = frozenset()


def atoms(
    ports: Sequence[Port],
    used: Iterable[PortMatch],
    named: Iterable[NamedPort],
    led_to: Collection[Port] = (),
) -> PortAtoms:
    """Group `ports` by the boundaries that `used` draw, and those of the `named` ports used.

    `led_to` are those of them that something leads to from outside.
    """
    boundaries: dict[Protocol, set[int]] = {protocol: set() for protocol in Protocol}
    for match in used:
        if match.protocol is not None and not match.name:
            boundaries[match.protocol] |= {match.first, match.last + 1}
    for declared in named:
        boundaries[declared.port.protocol] |= {declared.port.number, declared.port.number + 1}
    edges = {protocol: np.array(sorted(numbers)) for protocol, numbers in boundaries.items()}
    grouped = _grouped(ports, edges)
    entering = (
        atom for atom, port in zip(grouped.of.tolist(), ports, strict=True) if port in led_to
    )
    return replace(grouped, entering=frozenset(entering))


def _grouped(ports: Sequence[Port], edges: Mapping[Protocol, NDArray[np.int64]]) -> PortAtoms:
    of = np.zeros(len(ports), dtype=np.int32)
    samples: dict[tuple[Protocol, int], int] = {}
    firsts: list[Port] = []
    for index, port in enumerate(ports):
        key = (port.protocol, int(np.searchsorted(edges[port.protocol], port.sample, "right")))
        if key not in samples:
            samples[key] = len(firsts)
            firsts.append(port)
        of[index] = samples[key]
    return PortAtoms(of=of, samples=tuple(firsts))
