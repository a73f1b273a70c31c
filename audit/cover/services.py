"""Matrix → cells to Services that few traces decide. Pure; `docs/cover.md` argues it.

A Service is as many packets as it has endpoints, after one that its load balancer takes. Packets
that are alike up to there are a group, and one trace tells to which endpoints all of it is sent.
What becomes of a packet to an endpoint is a matter of legs, as between any two pods.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.cover.balancing import UNLIKE, Balancing
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Owners, Zone
from audit.model.legs import LegPlan
from audit.model.matrix import FAMILIES, Matrix, index_type
from audit.model.packets import Family, Protocol
from audit.model.services import ServiceCells

Vip = tuple[str, Protocol, int]
Behind = Mapping[Vip, tuple[tuple[str, int], ...]]
"""The addresses and ports behind each Service's address and port, as any zone has them."""


def addresses(matrix: Matrix) -> tuple[str, ...]:
    """Return the addresses of the Services that cells are to, sorted."""
    asked = (matrix.endpoints[index] for index in np.unique(matrix.dst).tolist())
    listed = (end.addresses for end in asked if end.kind is EndpointKind.SERVICE)
    return tuple(sorted({address for some in listed for address in some}))


def behind(zones: Iterable[Zone], vips: Iterable[str]) -> Behind:
    """Return what load balancers of the default network have behind these addresses."""
    wanted = set(vips)
    found: dict[Vip, dict[tuple[str, int], None]] = defaultdict(dict)
    seen: set[object] = set()
    for zone in zones if wanted else ():
        for balancer in zone.load_balancers:
            # Zones mostly say the same.
            if balancer.template or balancer.network or balancer.vips in seen:
                continue
            seen.add(balancer.vips)
            for address, port, backends in balancer.vips:
                if address in wanted:
                    ends = found[address, balancer.protocol, port]
                    ends.update(dict.fromkeys(map(_end, backends)))
    return {vip: tuple(sorted(ends)) for vip, ends in found.items()}


def _end(backend: str) -> tuple[str, int]:
    address, _, port = backend.rpartition(":")
    return address.strip("[]"), int(port)


def widened(matrix: Matrix, behind: Behind, owners: Owners) -> Matrix:
    """Return the matrix with the endpoints and ports behind Services that it does not have yet.

    Its cells are the same: nobody asks about those.
    """
    known = {end.key for end in matrix.endpoints}
    others: dict[str, Endpoint] = {}
    ports: dict[Port, None] = {}
    listed = set(matrix.ports)
    for (_, protocol, _), ends in behind.items():
        for address, number in ends:
            port = Port(protocol=protocol, number=number)
            if port not in listed:
                ports[port] = None
            owner = owners.get(address)
            if owner is not None and owner.attachment is not None and owner.key not in known:
                others[owner.key] = owner
    if not others and not ports:
        return matrix
    count = len(matrix.ports) + len(ports)
    return replace(
        matrix,
        endpoints=(*matrix.endpoints, *others.values()),
        ports=(*matrix.ports, *ports),
        port=matrix.port.astype(index_type(count), copy=False),
    )


def cells(
    matrix: Matrix,
    wide: Matrix,
    plans: Sequence[tuple[LegPlan, Balancing]],
    vips: Sequence[str],
    behind: Behind,
    owners: Owners,
) -> tuple[ServiceCells, ...]:
    """Return the cells to Services that need no trace of their own, by leg plan.

    Left out are those of a sender that is behind the Service itself, and those to an endpoint of
    which legs do not know.
    """
    numbers = {end.key: index for index, end in enumerate(wide.endpoints)}
    owned = ((address, owners.get(address)) for ends in behind.values() for address, _ in ends)
    ends = {
        address: numbers[owner.key]
        for address, owner in owned
        if owner is not None and owner.key in numbers
    }
    return tuple(
        some
        for number, (plan, balancing) in enumerate(plans)
        if (some := _Cells(matrix, wide, plan, balancing, vips, behind, ends).of(number))
        is not None
    )


class _Cells:
    """Finds the cells of one plan."""

    def __init__(
        self,
        matrix: Matrix,
        wide: Matrix,
        plan: LegPlan,
        balancing: Balancing,
        vips: Sequence[str],
        behind: Behind,
        ends: Mapping[str, int],
    ) -> None:
        self._matrix = matrix
        self._wide = wide
        self._plan = plan
        self._balancing = balancing
        self._vips = {vip: index for index, vip in enumerate(vips)}
        self._behind = behind
        self._family = FAMILIES[plan.family]
        self._ends = ends
        self._ports = {
            (port.protocol, port.number): index
            for index, port in enumerate(wide.ports)
            if not port.last
        }

    def of(self, number: int) -> ServiceCells | None:
        """Return them, of the plan with this number; None where there are none."""
        chosen, groups, first = [], [], 0
        for some, vip in self._by_service():
            kept = some[self._have_legs(some, vip)]
            group = self._alike(kept, vip)
            kept, group = kept[group >= 0], group[group >= 0]
            chosen.append(kept)
            groups.append(group + first)
            first += int(group.max(initial=-1)) + 1
        if not first:
            return None
        every = np.concatenate(chosen)
        order = np.argsort(every, kind="stable")
        return ServiceCells(
            legs=number,
            matrix=self._wide,
            cells=every[order],
            group=np.concatenate(groups)[order].astype(np.int32),
            behind=self._ends,
            ports=self._ports,
        )

    def _by_service(self) -> Iterator[tuple[NDArray[np.int64], Vip]]:
        """Yield the cells to each Service's address and port that a load balancer has."""
        matrix = self._matrix
        vip_of: dict[tuple[int, int], Vip] = {}
        for index in np.unique(matrix.dst).tolist():
            end = matrix.endpoints[index]
            address = end.address(self._family)
            if end.kind is not EndpointKind.SERVICE or end.obstacle or end.network or not address:
                continue
            for place, port in enumerate(matrix.ports):
                vip = (address, port.protocol, port.number)
                asked = port.protocol in self._balancing.protocols
                if asked and not port.last and vip in self._behind:
                    vip_of[index, place] = vip
        to_service = np.zeros(len(matrix.endpoints), dtype=np.bool_)
        to_service[[index for index, _ in vip_of]] = True
        every = np.flatnonzero(to_service[matrix.dst] & (matrix.family == self._plan.family))
        keys = matrix.dst[every].astype(np.int64) * len(matrix.ports) + matrix.port[every]
        order = np.argsort(keys, kind="stable")
        numbers, starts = np.unique(keys[order], return_index=True)
        parts = np.split(every[order], starts[1:]) if len(every) else []
        for number, some in zip(numbers.tolist(), parts, strict=True):
            served = vip_of.get(divmod(number, len(matrix.ports)))
            if served is not None:
                yield some, served

    def _have_legs(self, some: NDArray[np.int64], vip: Vip) -> NDArray[np.bool_]:
        """Say which of these cells' packets have legs, to every endpoint behind the Service."""
        src, rules = self._matrix.src[some], self._plan.composable
        dst, port = self._matrix.dst[some], self._matrix.port[some]
        of_default = np.array([not e.network for e in self._matrix.endpoints], dtype=np.bool_)
        known = of_default[src] & rules.understood[src] & ~rules.limited(src, dst, port)
        # What a host sends to a Service no trace follows that far.
        have: NDArray[np.bool_] = np.ones(len(some), dtype=np.bool_)
        for address, number in self._behind[vip]:
            if Family.of(address) is not self._family:
                continue
            end, place = self._ends.get(address), self._ports.get((vip[1], number))
            if end is None or place is None:
                return known & rules.host[src]
            ends, places = np.full(len(some), end), np.full(len(some), place)
            have &= rules.of(src, ends, places) & (src != end)
        return known & (have | rules.host[src])

    def _alike(self, some: NDArray[np.int64], vip: Vip) -> NDArray[np.int64]:
        """Return numbers of the groups that these cells to one Service are in; UNLIKE for none."""
        src = self._matrix.src[some]
        said = self._balancing.vip[self._plan.switch[src], self._vips[vip[0]]]
        pairs = np.stack([self._balancing.sender[src], said])
        _, numbers = np.unique(pairs, axis=1, return_inverse=True)
        return np.where(said == UNLIKE, np.int64(UNLIKE), numbers.reshape(-1))
