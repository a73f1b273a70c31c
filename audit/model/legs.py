"""Legs: a cell's verdict as what its source's side lets out and its destination's side lets in.

Everything here is integer arrays over endpoints, classes and ports, made once by
`audit.cover.classes` and read by whoever composes: a cell's legs are looked up, never searched.
`docs/cover.md` states why this is enough.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import Indices, Matrix

PASS, STOP = 0, 1
"""What a prediction says of a leg."""


class Locality(IntEnum):
    """Where the two ends of a packet are to each other."""

    APART = 0
    """On two switches, or the destination is a node's own address, which is on none."""
    TOGETHER = 1
    """On one switch."""
    OWN_NODE = 2
    """The source is the node whose switch the destination is on."""
    ROUTED = 3
    """On one switch, by its router: so comes to an endpoint what was sent to its Service."""


NO_WAY = -1
"""The transit leg of a packet that stays on its switch: there is nothing between."""

CELLS_AT_A_TIME = 1 << 20

_RUNS_AHEAD = 2
"""Of which each takes some 40 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegTable:
    """The legs of one side, egress or ingress.

    `classes[l, e]` is endpoint e's class as the leg's own end, with the other end in Locality l.
    Where the ACLs in force say the same either way the class is the same, and so is the leg. Of
    class c, `atoms[c, o]` is the atom the other end o falls in,
    `port_atoms[c, p]` that of port p, and the leg's id is
    `legs[first[c] + atoms[c, o] * width[c] + port_atoms[c, p]]`: where nothing that can match what
    is in an atom tells ports apart, they have one leg. `predicted` and `decider` are by id:
    PASS or STOP, and the index into `LegPlan.deciders` of what decides, -1 for nothing.

    Where several ACLs decide alike, OVN takes any, and each zone's database its own: such a leg
    i is replaced by one for each zone, `zonal[i] + zone[e]`. Else `zonal[i]` is -1.
    """

    classes: NDArray[np.int32]
    atoms: NDArray[np.int32]
    port_atoms: NDArray[np.int32]
    first: NDArray[np.int64]
    width: NDArray[np.int64]
    legs: NDArray[np.int64]
    predicted: NDArray[np.uint8]
    decider: NDArray[np.int32]
    zonal: NDArray[np.int64]
    zone: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.predicted)

    def ids(
        self, end: Indices, other: Indices, port: Indices, locality: NDArray[np.int8]
    ) -> NDArray[np.int64]:
        """Return the legs of many cells, by their own end, other end, port and locality."""
        classes = self.classes[locality, end]
        within = self.atoms[classes, other] * self.width[classes] + self.port_atoms[classes, port]
        legs = self.legs[self.first[classes] + within]
        zonal = self.zonal[legs]
        return np.where(zonal < 0, legs, zonal + self.zone[end])

    def by_zone(self, tied: NDArray[np.bool_], zone: NDArray[np.int64]) -> "LegTable":
        """Return a table in which each of these legs is one for each zone of its own end.

        `tied` is by leg, of which none is by zone yet; `zone[e]` numbers the endpoints' zones.
        """
        zones = int(zone.max(initial=-1)) + 1
        each = np.repeat(np.flatnonzero(tied), zones)
        zonal = np.full(len(tied), -1, dtype=np.int64)
        zonal[tied] = len(tied) + np.arange(int(tied.sum())) * zones
        return replace(
            self,
            predicted=np.concatenate([self.predicted, self.predicted[each]]),
            decider=np.concatenate([self.decider, self.decider[each]]),
            zonal=zonal,
            zone=zone,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """Packets that are the same whichever of several endpoints of other networks they are for.

    `network[e]` numbers the endpoints' networks. `address[n, e]` numbers the addresses of endpoints
    that are also addresses in network n, -1 for all others. What endpoint s sends to such an
    address at port p is packet `(first[s] + address[network[s], e]) * ports + p` of `count`.
    """

    network: NDArray[np.int32]
    address: NDArray[np.int32]
    first: NDArray[np.int64]
    ports: int
    count: int

    def ids(self, src: Indices, dst: Indices, port: Indices) -> NDArray[np.int64]:
        """Return the packets of cells, -1 where the address is none of the sender's network."""
        address = self.address[self.network[src], dst]
        return np.where(address < 0, -1, (self.first[src] + address) * self.ports + port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Composable:
    """Which packets have legs.

    `understood` is by endpoint: all that it can meet could be read. `balanced` is by endpoint and
    port: a load balancer may take what is sent there. `limits` are packets that can meet a flow of
    which legs do not know: by endpoint as source, by endpoint as destination, and by port.
    """

    understood: NDArray[np.bool_]
    host: NDArray[np.bool_]
    balanced: NDArray[np.bool_]
    limits: tuple[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]], ...]

    def of(self, src: Indices, dst: Indices, port: Indices) -> NDArray[np.bool_]:
        """Say which of these packets have legs."""
        have: NDArray[np.bool_] = self.understood[src] & self.understood[dst]
        have &= ~(self.host[src] & self.host[dst])  # two hosts talk past OVN
        have &= ~self.balanced[dst, port]
        if self.limits:
            have &= ~self.limited(src, dst, port)
        return have

    def limited(self, src: Indices, dst: Indices, port: Indices) -> NDArray[np.bool_]:
        """Say which of these packets can meet a flow of which legs do not know."""
        limited = np.zeros(len(src), dtype=np.bool_)
        for sources, destinations, ports in self.limits:
            limited |= sources[src] & destinations[dst] & ports[port]
        return limited


def _by_router(locality: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Say which packets leave their switch by its router."""
    by_router: NDArray[np.bool_] = (locality == Locality.APART) | (locality == Locality.ROUTED)
    return by_router


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLegs:
    """The legs of a run of cells: parallel arrays, ids within their `LegPlan`."""

    cells: NDArray[np.int64]
    egress: NDArray[np.int64]
    transit: NDArray[np.int64]
    arrival: NDArray[np.int64]
    """How the packet comes in at the destination's switch; NO_WAY where it does not."""
    ingress: NDArray[np.int64]
    unjoined: NDArray[np.bool_]
    """No port leads from the sender's network to the other end's: the way decides."""
    alone: NDArray[np.bool_]
    """The way is that of one packet, from one sender to one address and port: it decides all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegPlan:
    """The legs of one address family's cells, and which cells they compose.

    `composed[i]` says that cell i of the matrix is decided by its legs. `switch[e]` numbers the
    endpoints' switches. `sending[e]` and `receiving[e]` number where a packet comes from and goes
    to, as far as routers care: the switch, what router policies tell of the address, and for a
    node's own address the address. `ways[s, r]` is the transit leg from one to the other; pairs
    that nothing on the way tells apart have the same. `answered[e]` numbers, as a receiver, where
    replies to an endpoint go: a node sends from its management port, which is on its switch.
    """

    family: int
    composed: NDArray[np.bool_]
    switch: NDArray[np.int32]
    host: NDArray[np.bool_]
    """Endpoints that are a node, or a pod at its node's address: never on the switch."""
    sending: NDArray[np.int64]
    receiving: NDArray[np.int64]
    answered: NDArray[np.int64]
    ways: NDArray[np.int64]
    common: NDArray[np.bool_]
    """By transit leg in `ways`: it leads to several places that routers treat alike."""
    apart: NDArray[np.int64]
    """As `ways`, where these are kept apart."""
    unjoined: NDArray[np.bool_]
    """Pairs, as of `ways`, between whose networks no port leads: none gets farther than this."""
    packets: Packets | None = None
    """What is sent there to addresses that are also the sender's network's."""
    egress: LegTable
    ingress: LegTable
    deciders: tuple[str, ...]
    """Owners of the ACLs predicted to decide, as `Acl.owner` names them."""
    met_own: NDArray[np.int64]
    """By endpoint: a number for what the flows of its switch, which is part of it, say of it."""
    met_other: NDArray[np.int64]
    """By switch and endpoint: a number for what the switch's flows say of it as another's peer."""
    stateful: NDArray[np.bool_]
    """By endpoint: its switch lets established replies through before any ACL is looked at."""
    stopping: tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], ...] = ()
    """By endpoint, who sends and who gets replies that ACLs look at nevertheless."""
    composable: "Composable"
    """Which packets have legs at all."""

    def answers(self, matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of which of these cells the replies have legs: no ACL is asked about them."""
        return self.answered_by_legs(matrix.src[cells], matrix.dst[cells])

    def answered_by_legs(self, src: Indices, dst: Indices) -> NDArray[np.bool_]:
        """Say the same of packets by their ends."""
        have: NDArray[np.bool_] = self.stateful[src] & self.stateful[dst]
        for sending, getting in self.stopping:
            have &= ~(sending[dst] & getting[src])
        return have

    @property
    def transit_count(self) -> int:
        """How many transit legs requests have: the ways, then one of each of `packets`."""
        return self._ways_count + (self.packets.count if self.packets is not None else 0)

    def is_common(self, transit: int) -> bool:
        """Say whether a transit leg leads to several places, as routers treat these alike.

        That is known of the zones of its two ends, and of no other that a packet may come through.
        """
        return 0 <= transit < len(self.common) and bool(self.common[transit])

    @property
    def _ways_count(self) -> int:
        return int(self.ways.max(initial=-1)) + 1

    @property
    def arrival_count(self) -> int:
        """How many arrival legs requests have, and replies as many."""
        return (int(self.met_own.max(initial=-1)) + 1) * self._kinds_of_others

    def _arrivals(
        self,
        end: Indices,
        other: Indices,
        locality: NDArray[np.int8],
        unjoined: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Return the arrival legs: what flows of the switch say of its end, and of who sends.

        A packet from another switch comes through the ingress pipeline of the end's own as well,
        by the router's port, where no packet comes that stays on the switch.
        """
        numbers = (
            self.met_own[end] * self._kinds_of_others + self.met_other[self.switch[end], other]
        )
        arrives = _by_router(locality) & ~self.host[end] & ~unjoined
        return np.where(arrives, numbers, NO_WAY)

    def _locality(self, src: Indices, dst: Indices) -> NDArray[np.int8]:
        """Say where the two ends of packets are to each other, unless a Service sends them."""
        locality = np.where(self.host[src], Locality.OWN_NODE, Locality.TOGETHER)
        return np.where(self.beside(src, dst), locality, Locality.APART).astype(np.int8)

    def beside(self, src: Indices, dst: Indices) -> NDArray[np.bool_]:
        """Say which destinations are on their source's switch; a node's own address is on none."""
        beside: NDArray[np.bool_] = (self.switch[src] == self.switch[dst]) & ~self.host[dst]
        return beside

    def walk(self, matrix: Matrix) -> Iterator[CellLegs]:
        """Yield the legs of all composed cells, some at a time, in the matrix's order."""
        starts = range(0, len(matrix), CELLS_AT_A_TIME)
        return self._of_each(matrix, (slice(start, start + CELLS_AT_A_TIME) for start in starts))

    def spread(self, matrix: Matrix) -> Iterator[CellLegs]:
        """Yield what `walk` does, each time cells from all over the matrix."""
        runs = -(-len(matrix) // CELLS_AT_A_TIME)
        # With a common divisor a run would be of some ports or destinations only.
        step = next(step for step in itertools.count(runs) if math.gcd(step, len(matrix)) == 1)
        return self._of_each(matrix, (slice(start, None, step) for start in range(step)))

    def _of_each(self, matrix: Matrix, runs: Iterable[slice]) -> Iterator[CellLegs]:
        """Yield the legs of the composed cells of each run, where it has any.

        The next runs are looked up meanwhile: numpy does so beside other threads.
        """

        def legs_of(run: slice) -> CellLegs:
            first, _, step = run.indices(len(matrix))
            return self.of(matrix, np.flatnonzero(self.composed[run]) * step + first)

        ahead: deque[Future[CellLegs]] = deque()
        with ThreadPoolExecutor(_RUNS_AHEAD) as threads:
            for run in runs:
                ahead.append(threads.submit(legs_of, run))
                if len(ahead) > _RUNS_AHEAD:
                    yield from _any(ahead.popleft().result())
            while ahead:
                yield from _any(ahead.popleft().result())

    def of(self, matrix: Matrix, cells: NDArray[np.int64]) -> CellLegs:
        """Return the legs of these cells."""
        src, dst, port = matrix.src[cells], matrix.dst[cells], matrix.port[cells]
        return self._legs(cells, src, dst, port, self._locality(src, dst))

    def routed(self, src: Indices, dst: Indices, port: Indices) -> CellLegs:
        """Return the legs of packets that leave their switch by its router, whoever they are for.

        A load balancer's endpoints are sent such. Their `cells` count these packets.
        """
        locality = self._locality(src, dst)
        locality[locality != Locality.APART] = Locality.ROUTED
        return self._legs(np.arange(len(src), dtype=np.int64), src, dst, port, locality)

    def direct(self, src: Indices, dst: Indices, port: Indices) -> CellLegs:
        """Return the legs of packets by their ends, as of cells; `cells` count these packets."""
        cells = np.arange(len(src), dtype=np.int64)
        return self._legs(cells, src, dst, port, self._locality(src, dst))

    def _legs(
        self,
        cells: NDArray[np.int64],
        src: Indices,
        dst: Indices,
        port: Indices,
        locality: NDArray[np.int8],
    ) -> CellLegs:
        pairs = self.sending[src], self.receiving[dst]
        way, unjoined = self.ways[pairs], self.unjoined[pairs]
        alone = np.zeros_like(unjoined)
        if self.packets is not None:
            packet = self.packets.ids(src, dst, port)
            alone = unjoined & (packet >= 0) & (locality == Locality.APART)
            way = np.where(alone, self._ways_count + packet, way)
        return CellLegs(
            cells=cells,
            egress=self.egress.ids(src, dst, port, locality),
            transit=np.where(_by_router(locality), way, NO_WAY),
            arrival=self._arrivals(dst, src, locality, unjoined),
            ingress=self.ingress.ids(dst, src, port, locality),
            unjoined=unjoined,
            alone=alone,
        )

    def replies(self, matrix: Matrix, cells: NDArray[np.int64]) -> CellLegs:
        """Return the legs of the replies to these cells: from the destination, and no atoms.

        An established reply is let through by every ACL stage before any ACL is looked at, so only
        the switches, whether an end is a node, and the way between can matter. A router keeps no
        state between pods: there a reply is like a request the other way, and has its transit leg.
        Ids are within `reply_counts`.
        """
        return self.replies_to(cells, matrix.src[cells], matrix.dst[cells])

    def replies_to(self, cells: NDArray[np.int64], src: Indices, dst: Indices) -> CellLegs:
        """Return the legs of the replies to packets by their ends, which are told as `cells`."""
        locality = self._locality(src, dst)
        pairs = self.sending[dst], self.answered[src]
        way, unjoined = self.ways[pairs], self.unjoined[pairs]
        # No request goes out from a node's own address, so that way is the reply's alone.
        way = np.where(self.host[dst], self.transit_count + self.sending[dst], way)
        return CellLegs(
            cells=cells,
            egress=self._reply_ends(dst, src, locality),
            transit=np.where(locality == Locality.APART, way, NO_WAY),
            arrival=self._arrivals(src, dst, locality, unjoined),
            ingress=self._reply_ends(src, dst, locality),
            unjoined=unjoined,
            alone=np.zeros_like(unjoined),
        )

    def _reply_ends(
        self, end: Indices, other: Indices, locality: NDArray[np.int8]
    ) -> NDArray[np.int64]:
        """Return numbers for where a reply begins or ends: switch, locality, and what of both."""
        kind = self.host[end] * len(Locality) + locality
        numbers: NDArray[np.int64] = self.met_own[end] * np.int64(2 * len(Locality)) + kind
        return numbers * self._kinds_of_others + self.met_other[self.switch[end], other]

    @property
    def _kinds_of_others(self) -> int:
        return int(self.met_other.max(initial=0)) + 1

    @property
    def reply_counts(self) -> tuple[int, int, int]:
        """How many egress, transit and ingress legs replies have."""
        ends = (int(self.met_own.max(initial=-1)) + 1) * 2 * len(Locality) * self._kinds_of_others
        return ends, self.transit_count + len(self.ways), ends

    def predicted(self, legs: CellLegs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether each cell's egress leg, and its ingress leg, is predicted to pass."""
        return (
            self.egress.predicted[legs.egress] == PASS,
            self.ingress.predicted[legs.ingress] == PASS,
        )

    def leaves(self, matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which cells end outside OVN: those to another node's own address.

        Or to a pod on a network that the sender's does not lead to.
        """
        src, dst = matrix.src[cells], matrix.dst[cells]
        outside: NDArray[np.bool_] = self.host[dst] & (self.switch[src] != self.switch[dst])
        return outside | self.unjoined[self.sending[src], self.receiving[dst]]

    def crosses(self, matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which cells' packets are predicted to get to another switch."""
        legs = self.of(matrix, cells)
        sent, _ = self.predicted(legs)
        apart: NDArray[np.bool_] = legs.transit != NO_WAY
        return sent & apart & ~self.leaves(matrix, cells)

    def arrives(self, matrix: Matrix, legs: CellLegs) -> NDArray[np.bool_]:
        """Return which cells' packets are predicted to get to their destination."""
        egress, ingress = self.predicted(legs)
        return egress & ingress & ~self.leaves(matrix, legs.cells)


def _any(legs: CellLegs) -> Iterator[CellLegs]:
    if legs.cells.size:
        yield legs
