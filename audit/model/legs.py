"""Legs: a cell's verdict as what its source's side lets out and its destination's side lets in.

Everything here is integer arrays over endpoints, classes and ports, made once by `audit.plan.legs`
and read by whoever composes: a cell's legs are looked up, never searched. `docs/cover.md` states
why this is enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import Indices, Matrix

PASS, STOP = 0, 1
"""What a prediction says of a leg."""

LOCALITIES = (False, True)
"""Whether both ends are on one switch: index 0 is no, 1 is yes."""

CELLS_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LegTable:
    """The legs of one side, egress or ingress.

    `classes[l, e]` is endpoint e's class as the leg's own end, with l of LOCALITIES: the other end
    on another switch, or on the same one. Where the ACLs in force say the same either way the class
    is the same, and so is the leg. Of class c, `atoms[c, o]` is the atom the other end o falls in,
    `port_atoms[c, p]` that of port p, and the leg's id is
    `first[c] + atoms[c, o] * width[c] + port_atoms[c, p]`. `predicted` and `decider` are by id:
    PASS or STOP, and the index into `LegPlan.deciders` of what decides, -1 for nothing.
    """

    classes: NDArray[np.int32]
    atoms: NDArray[np.int32]
    port_atoms: NDArray[np.int32]
    first: NDArray[np.int64]
    width: NDArray[np.int64]
    predicted: NDArray[np.uint8]
    decider: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.predicted)

    def classes_of(self, own: Indices, local: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the classes of many cells' own ends, each for its locality."""
        classes: NDArray[np.int32] = self.classes[local.view(np.int8), own]
        return classes

    def ids(
        self, own: Indices, other: Indices, port: Indices, local: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Return the legs of many cells, by their own end, other end, port and locality."""
        classes = self.classes_of(own, local)
        within = self.atoms[classes, other] * self.width[classes] + self.port_atoms[classes, port]
        legs: NDArray[np.int64] = self.first[classes] + within
        return legs


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLegs:
    """The legs of a run of cells: parallel arrays, ids within their `LegPlan`."""

    cells: NDArray[np.int64]
    egress: NDArray[np.int64]
    transit: NDArray[np.int64]
    ingress: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegPlan:
    """The legs of one address family's cells, and which cells they compose.

    `composed[i]` says that cell i of the matrix is decided by its legs. `switch[e]` numbers the
    endpoints' switches. `sending[e]` and `receiving[e]` number where a packet comes from and goes
    to, as far as routers care: the switch, what router policies tell of the address, and for a
    node's own address the address. A transit leg is a pair of those.
    """

    family: int
    composed: NDArray[np.bool_]
    switch: NDArray[np.int32]
    host: NDArray[np.bool_]
    """Endpoints that are a node, or a pod at its node's address: never on the switch."""
    sending: NDArray[np.int64]
    receiving: NDArray[np.int64]
    egress: LegTable
    ingress: LegTable
    deciders: tuple[str, ...]
    """Owners of the ACLs predicted to decide, as `Acl.owner` names them."""
    stateful: bool
    """No ACL is `allow-stateless`: an established reply passes before any ACL is looked at."""

    @property
    def transit_count(self) -> int:
        """How many pairs of places there are."""
        return (int(self.sending.max(initial=0)) + 1) * self._receivers

    @property
    def _receivers(self) -> int:
        return int(self.receiving.max(initial=0)) + 1

    def _transit(self, src: Indices, dst: Indices, local: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return transit legs; -1 on one switch, where there is nothing between."""
        return np.where(local, -1, self.sending[src] * self._receivers + self.receiving[dst])

    def _local(self, src: Indices, dst: Indices) -> NDArray[np.bool_]:
        """Say which packets stay on one switch; one to a node's own address never does."""
        local: NDArray[np.bool_] = (self.switch[src] == self.switch[dst]) & ~self.host[dst]
        return local

    def walk(self, matrix: Matrix) -> Iterator[CellLegs]:
        """Yield the legs of all composed cells, some at a time, in the matrix's order."""
        for start in range(0, len(matrix), CELLS_AT_A_TIME):
            chosen = np.flatnonzero(self.composed[start : start + CELLS_AT_A_TIME]) + start
            if chosen.size:
                yield self.of(matrix, chosen)

    def of(self, matrix: Matrix, cells: NDArray[np.int64]) -> CellLegs:
        """Return the legs of these cells."""
        src, dst, port = matrix.src[cells], matrix.dst[cells], matrix.port[cells]
        local = self._local(src, dst)
        return CellLegs(
            cells=cells,
            egress=self.egress.ids(src, dst, port, local),
            transit=self._transit(src, dst, local),
            ingress=self.ingress.ids(dst, src, port, local),
        )

    def replies(self, matrix: Matrix, cells: NDArray[np.int64]) -> CellLegs:
        """Return the legs of the replies to these cells: from the destination, and no atoms.

        An established reply is let through by every ACL stage, so only the endpoints' classes
        and the way between them can matter. Ids are within `reply_counts`.
        """
        src, dst = matrix.src[cells], matrix.dst[cells]
        local = self._local(src, dst)
        return CellLegs(
            cells=cells,
            egress=self.egress.classes_of(dst, local).astype(np.int64),
            transit=self._transit(dst, src, local),
            ingress=self.ingress.classes_of(src, local).astype(np.int64),
        )

    @property
    def reply_counts(self) -> tuple[int, int]:
        """How many egress and ingress legs replies have: one for each class."""
        return len(self.egress.first), len(self.ingress.first)

    def predicted(self, legs: CellLegs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether each cell's egress leg, and its ingress leg, is predicted to pass."""
        return (
            self.egress.predicted[legs.egress] == PASS,
            self.ingress.predicted[legs.ingress] == PASS,
        )

    def leaves(self, matrix: Matrix, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which cells end outside OVN: those to another node's own address."""
        src, dst = matrix.src[cells], matrix.dst[cells]
        outside: NDArray[np.bool_] = self.host[dst] & (self.switch[src] != self.switch[dst])
        return outside

    def arrives(self, matrix: Matrix, legs: CellLegs) -> NDArray[np.bool_]:
        """Return which cells' packets are predicted to get to their destination."""
        egress, ingress = self.predicted(legs)
        return egress & ingress & ~self.leaves(matrix, legs.cells)
