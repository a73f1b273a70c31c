"""Addresses between the edges of CIDRs: which of them are in a block, and which may be."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.packets import Family

NO_ADDRESS = -1
"""The atom of an address that is not known."""


class Line:
    """Addresses of a family in order, cut at the edges of CIDRs: what lies between is one atom."""

    def __init__(self, cidrs: Iterable[str], family: Family) -> None:
        self._family = family
        self._width = 4 if family is Family.IP4 else 16
        edges = set[bytes]()
        for cidr in cidrs:
            if Family.of(cidr) is family:
                edges.update(self._ends(cidr))
        self._edges = np.array(sorted(edges), dtype=f"S{self._width}")

    def _ends(self, cidr: str) -> tuple[bytes, ...]:
        """Return where a CIDR begins and, unless it reaches the end of all, where it has ended."""
        network = ipaddress.ip_network(cidr, strict=False)
        after = int(network.broadcast_address) + 1
        first = network.network_address.packed
        if after.bit_length() > self._width * 8:
            return (first,)
        return (first, after.to_bytes(self._width, "big"))

    def atoms(self, addresses: Sequence[str | None]) -> NDArray[np.int32]:
        """Return each address' atom; NO_ADDRESS for None."""
        packed = [b"" if a is None else ipaddress.ip_address(a).packed for a in addresses]
        atoms = np.searchsorted(
            self._edges, np.array(packed, dtype=f"S{self._width}"), side="right"
        ).astype(np.int32)
        atoms[[a is None for a in addresses]] = NO_ADDRESS
        return atoms

    def within(self, cidrs: Iterable[str], excluded: Iterable[str] = ()) -> NDArray[np.bool_]:
        """Tell of each atom whether it is in one of these CIDRs, and in none of those excluded."""
        inside = np.zeros(len(self._edges) + 1, dtype=np.bool_)
        for cidr in cidrs:
            inside[self._span(cidr)] = True
        for cidr in excluded:
            inside[self._span(cidr)] = False
        return inside

    def _span(self, cidr: str) -> slice:
        """Return the atoms of a CIDR; none where it is of the other family."""
        if Family.of(cidr) is not self._family:
            return slice(0)
        ends = np.searchsorted(
            self._edges, np.array(self._ends(cidr), dtype=f"S{self._width}"), side="right"
        )
        return slice(int(ends[0]), int(ends[1]) if len(ends) > 1 else None)


@dataclass(frozen=True, slots=True)
class Somewhere:
    """Classes of endpoints whose address is not known, and the atoms in which it may lie."""

    classes: NDArray[np.intp]
    possible: NDArray[np.bool_]

    def within(self, inside: NDArray[np.bool_]) -> bool | None:
        """Tell whether the address is inside some atoms; None where it may be."""
        hit = inside[self.possible]
        if not hit.any():
            return False
        return True if hit.all() else None
