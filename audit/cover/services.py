"""Matrix → cells to Services that few traces decide. Pure; `docs/cover.md` argues it.

A Service is as many packets as it has endpoints, after one that its load balancer takes. Packets
that are alike up to there are a group, and one trace tells to which endpoints all of it is sent.
What becomes of a packet to an endpoint is a matter of legs, as between any two pods.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.cover.balancing import UNLIKE, Balancing
from audit.cover.headless import Headless
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Owners, Zone
from audit.model.legs import LegPlan
from audit.model.matrix import FAMILIES, Matrix, index_type
from audit.model.packets import Family, Protocol, split_port
from audit.model.services import ServiceCells

Vip = tuple[str, Protocol, int]
"""A Service's address, or the key of one that has none, with a port."""
Behind = Mapping[Vip, tuple[tuple[str, int], ...]]
"""The addresses and ports behind each Service's port: as any zone has them, or as its object."""


def addresses(matrix: Matrix, names: Headless) -> tuple[str, ...]:
    """Return the addresses of the Services that cells are to, sorted."""
    listed = (end.addresses for end in _services(matrix) if end.key not in names.services)
    return tuple(sorted({address for some in listed for address in some}))


def _services(matrix: Matrix) -> Iterator[Endpoint]:
    """Yield the Services that cells are to: none sends."""
    return (end for end in matrix.endpoints if end.kind is EndpointKind.SERVICE)


def headless_behind(matrix: Matrix, names: Headless) -> Behind:
    """Return what is behind the ports of headless Services that cells are to."""
    named = [end for end in _services(matrix) if end.key in names.services]
    families = [f for n, f in enumerate(FAMILIES) if named and (matrix.family == n).any()]
    behind: dict[Vip, tuple[tuple[str, int], ...]] = {}
    for end, port in itertools.product(named, matrix.ports):
        if not port.last:
            receivers = (r for f in families for r in names.receivers(end.key, f, port))
            ends = tuple((each.address, each.port.number) for each in receivers)
            behind[end.key, port.protocol, port.number] = ends
    return behind


def behind(zones: Iterable[Zone], vips: Iterable[str]) -> Behind:
    """Return what load balancers of the default network have behind these addresses."""
    wanted = set(vips)
    found: dict[Vip, dict[tuple[str, int], None]] = defaultdict(dict)
    seen: set[object] = set()
    for zone in zones if wanted else ():
        for balancer in zone.load_balancers:
            # Zones mostly say the same.
            same = balancer.protocol, balancer.vips
            if balancer.template or balancer.network or same in seen:
                continue
            seen.add(same)
            for address, port, backends in balancer.vips:
                if address in wanted:
                    ends = found[address, balancer.protocol, port]
                    ends.update(dict.fromkeys(filter(None, map(split_port, backends))))
    return {vip: tuple(sorted(ends)) for vip, ends in found.items()}


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

    Left out are those to an endpoint of which legs do not know.
    """
    if not behind:
        return ()
    numbers = {end.key: index for index, end in enumerate(wide.endpoints)}
    owned = ((address, owners.get(address)) for ends in behind.values() for address, _ in ends)
    ends = {
        address: numbers[owner.key]
        for address, owner in owned
        if owner is not None
        and owner.key in numbers
        and owner.address(Family.of(address)) == address
    }
    made = (_Cells(matrix, wide, plan, balancing, vips, behind, ends) for plan, balancing in plans)
    by_plan = (
        (cells.balanced(number), cells.headless(number)) for number, cells in enumerate(made)
    )
    return tuple(some for both in by_plan for some in both if some is not None)


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
        self._of_default = np.array([not end.network for end in matrix.endpoints], dtype=np.bool_)
        self._ends = ends
        self._ports = {
            (port.protocol, port.number): index
            for index, port in enumerate(wide.ports)
            if not port.last
        }

    def balanced(self, number: int) -> ServiceCells | None:
        """Return those to Services' addresses, of the plan with this number; None without any."""
        chosen, groups = [], []
        listed: dict[int, frozenset[tuple[int, int]]] = {}
        for some, vip in self._by_service(headless=False):
            receivers = self._known(vip)
            kept = some[self._have_legs(some, vip, receivers)]
            group = self._alike(kept, vip)
            kept, group = kept[group >= 0], group[group >= 0]
            chosen.append(kept)
            groups.append(group + len(listed))
            numbers = range(len(listed), len(listed) + int(group.max(initial=-1)) + 1)
            listed.update(dict.fromkeys(numbers, receivers))
        return self._made(number, chosen, groups, listed) if listed else None

    def headless(self, number: int) -> ServiceCells | None:
        """Return those to headless Services, of which no trace has to tell to whom they are sent.

        A sender that is behind the Service itself is sent to the others.
        """
        chosen, groups = [], []
        sent: dict[tuple[tuple[int, int], ...], int] = {}
        for some, vip in self._by_service(headless=True):
            listed = [self._receiver(vip[1], end) for end in self._of_family(vip)]
            receivers = [each for each in listed if each is not None]
            if not receivers or len(receivers) < len(listed):
                continue
            src = self._matrix.src[some]
            behind = np.isin(src, [end for end, _ in receivers])
            for own in (-1, *np.unique(src[behind]).tolist()):
                others = tuple(each for each in receivers if each[0] != own)
                cells = some[src == own] if own >= 0 else some[~behind]
                cells = cells[self._have_all(cells, others)] if others else cells[:0]
                if len(cells):
                    chosen.append(cells)
                    groups.append(np.full(len(cells), sent.setdefault(others, len(sent))))
        if not chosen:
            return None
        made = self._made(number, chosen, groups, {})
        return replace(made, sent={g: others for others, g in sent.items()}, routed=False)

    def _made(
        self,
        number: int,
        chosen: Sequence[NDArray[np.int64]],
        groups: Sequence[NDArray[np.signedinteger[Any]]],
        listed: Mapping[int, frozenset[tuple[int, int]]],
    ) -> ServiceCells:
        every = np.concatenate(chosen)
        order = np.argsort(every, kind="stable")
        return ServiceCells(
            legs=number,
            matrix=self._wide,
            cells=every[order],
            group=np.concatenate(groups)[order].astype(np.int32),
            behind=self._ends,
            ports=self._ports,
            listed=listed,
        )

    def _by_service(self, *, headless: bool) -> Iterator[tuple[NDArray[np.int64], Vip]]:
        """Yield the cells to each Service's port that there is something behind."""
        matrix = self._matrix
        vip_of: dict[tuple[int, int], Vip] = {}
        for index, end in enumerate(matrix.endpoints):
            name = end.key if headless else end.address(self._family)
            if end.kind is not EndpointKind.SERVICE or end.obstacle or end.network or not name:
                continue
            for place, port in enumerate(matrix.ports):
                vip = (name, port.protocol, port.number)
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

    def _of_family(self, vip: Vip) -> list[tuple[str, int]]:
        """Return what is behind a Service's port, of the plan's address family."""
        return [end for end in self._behind[vip] if Family.of(end[0]) is self._family]

    def _receiver(self, protocol: Protocol, end: tuple[str, int]) -> tuple[int, int] | None:
        """Return an endpoint behind a Service and its port, as indices; None for no known ones."""
        index, place = self._ends.get(end[0]), self._ports.get((protocol, end[1]))
        return None if index is None or place is None else (index, place)

    def _known(self, vip: Vip) -> frozenset[tuple[int, int]]:
        """Return the endpoints behind a Service's port, those of which legs can know.

        Another is mostly a router's own, which no switch sends to: a node's that only it calls so.
        """
        receivers = (self._receiver(vip[1], end) for end in self._of_family(vip))
        return frozenset(each for each in receivers if each is not None)

    def _have_legs(
        self, some: NDArray[np.int64], vip: Vip, receivers: frozenset[tuple[int, int]]
    ) -> NDArray[np.bool_]:
        """Say which of these cells' packets have legs, to every known endpoint of the Service.

        What a host sends to a Service no trace follows that far.
        """
        src, rules = self._matrix.src[some], self._plan.composable
        dst, port = self._matrix.dst[some], self._matrix.port[some]
        known = rules.understood[src] & ~rules.limited(src, dst, port) & self._of_default[src]
        if self._of_family(vip) and not receivers:
            return known & rules.host[src]
        return known & (self._have_all(some, receivers) | rules.host[src])

    def _have_all(
        self, some: NDArray[np.int64], receivers: Iterable[tuple[int, int]]
    ) -> NDArray[np.bool_]:
        """Say which of these cells' packets have legs to all of these, but to the sender itself."""
        src, rules = self._matrix.src[some], self._plan.composable
        have: NDArray[np.bool_] = self._of_default[src].copy()
        for end, place in receivers:
            legs = rules.of(src, np.full(len(src), end), np.full(len(src), place))
            have &= legs | (src == end)
        return have

    def _alike(self, some: NDArray[np.int64], vip: Vip) -> NDArray[np.int64]:
        """Return numbers of the groups that these cells to one Service are in; UNLIKE for none."""
        src = self._matrix.src[some]
        said = self._balancing.vip[self._plan.switch[src], self._vips[vip[0]]]
        pairs = np.stack([self._balancing.sender[src], said])
        _, numbers = np.unique(pairs, axis=1, return_inverse=True)
        return np.where(said == UNLIKE, np.int64(UNLIKE), numbers.reshape(-1))
