"""Matrix → the traces that decide it. Pure.

A cover names, for every cell, the request that decides it. This one is exhaustive: a request
per cell, which is sound whatever the policies say. A smaller one needs to know which endpoints
no predicate can tell apart, and has the same shape.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit.cover.headless import NO_HEADLESS, Headless, Receiver
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, Port
from audit.model.matrix import FAMILIES, Matrix, located
from audit.model.packets import REQUEST_SOURCE_PORT, ConntrackState, Family, Microflow
from audit.model.tasks import key_of, keyed
from audit.model.traces import TraceTask
from audit.model.verdicts import REASON_CODE, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A request to a name, which is no packet of its own: its legs are, and decide it together.

    The legs are among the cover's tasks. `key` is made of theirs, as a task's is of its content.
    """

    key: str
    legs: tuple[TraceTask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """The requests to trace, and which of them decides each cell.

    `cells` are those with a request of their own, sorted; `request` indexes `keys` for each of
    them. `settled` is by cell of the matrix: why one without a request has none, as a code into
    REASONS.
    """

    name: str
    tasks: tuple[TraceTask, ...]
    forks: tuple[Fork, ...] = ()
    cells: NDArray[np.int64]
    request: NDArray[np.int32]
    settled: NDArray[np.uint8]

    def of(self, cells: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the requests of these cells, -1 where there is none."""
        if not self.cells.size:
            return np.full(len(cells), -1, dtype=np.int32)
        places = located(cells, self.cells)
        return np.where(places >= 0, self.request[places], np.int32(-1))

    @property
    def has_request(self) -> NDArray[np.bool_]:
        """Say, by cell of the matrix, which have a request."""
        has_request = np.zeros(len(self.settled), dtype=np.bool_)
        has_request[self.cells] = True
        return has_request

    @property
    def keys(self) -> tuple[str, ...]:
        """The requests' keys: of the tasks, then of the forks."""
        return (*(task.key for task in self.tasks), *(fork.key for fork in self.forks))


def exhaustive(
    matrix: Matrix,
    headless: Headless = NO_HEADLESS,
    *,
    only: NDArray[np.bool_] | None = None,
    opaque: Collection[str] = (),
) -> Cover:
    """Return a request per cell. Cells that cannot be traced are settled with their reason.

    `only` leaves the other cells without a request: something else decides them. On `opaque`
    switches a match is not understood, so one port does not speak for a range.
    """
    obstacles = _obstacles(matrix)
    _settle_ranges(matrix, obstacles, opaque)
    requests = _Requests()
    cells = np.flatnonzero(obstacles < 0 if only is None else (obstacles < 0) & only)
    request = np.full(len(cells), -1, dtype=np.int32)
    forks: dict[int, str] = {}
    for row, cell in enumerate(cells.tolist()):
        asked = requests.of_cell(matrix, cell, headless)
        if isinstance(asked, Reason):
            obstacles[cell] = REASON_CODE[asked]
        elif isinstance(asked, str):
            forks[row] = asked
        else:
            request[row] = asked
    requests.number_forks(request, forks)
    return Cover(
        name="exhaustive",
        tasks=tuple(requests.tasks.values()),
        forks=tuple(requests.forks.values()),
        cells=cells[request >= 0],
        request=request[request >= 0],
        settled=np.maximum(obstacles, 0).astype(np.uint8),
    )


def predict_only(matrix: Matrix) -> Cover:
    """Return no request at all: every cell that could be traced says that it was not."""
    obstacles = _obstacles(matrix)
    unasked = np.int8(REASON_CODE[Reason.ONLY_PREDICTED])
    return Cover(
        name="predict",
        tasks=(),
        cells=np.zeros(0, dtype=np.int64),
        request=np.zeros(0, dtype=np.int32),
        settled=np.where(obstacles < 0, unasked, obstacles).astype(np.uint8),
    )


def extended(
    cover: Cover, matrix: Matrix, cells: NDArray[np.int64], headless: Headless = NO_HEADLESS
) -> Cover:
    """Return `cover` with a request of its own for each of these cells, which have none yet.

    Those to headless Services are such as can be traced.
    """
    requests = _Requests(cover)
    request = np.full(len(cells), -1, dtype=np.int32)
    forks: dict[int, str] = {}
    for row, cell in enumerate(cells.tolist()):
        asked = requests.of_cell(matrix, cell, headless)
        if isinstance(asked, Reason):
            text = f"{matrix.describe(cell)} cannot be traced: {asked}"
            raise ValueError(text)  # noqa: TRY004 - the cell is wrong, not its type
        if isinstance(asked, str):
            forks[row] = asked
        else:
            request[row] = asked
    tasks = tuple(requests.tasks.values())
    requests.number_forks(request, forks)
    # Requests of forks are numbered after the tasks': they move up by what is added.
    new = np.int32(len(tasks) - len(cover.tasks))
    moved = np.where(cover.request >= len(cover.tasks), cover.request + new, cover.request)
    every = np.concatenate([cover.cells, cells])
    order = np.argsort(every, kind="stable")
    return replace(
        cover,
        tasks=tasks,
        forks=tuple(requests.forks.values()),
        cells=every[order],
        request=np.concatenate([moved, request])[order],
    )


def placed(cover: Cover, on_plane: Callable[[TraceTask], TraceTask]) -> Cover:
    """Return `cover` with every task as `on_plane` makes it; that of a task again is the same."""
    return replace(
        cover,
        tasks=tuple(map(on_plane, cover.tasks)),
        forks=tuple(forked(tuple(map(on_plane, fork.legs))) for fork in cover.forks),
    )


def forked(legs: tuple[TraceTask, ...]) -> Fork:
    """Return the fork into these legs."""
    return Fork(key=key_of("fork", *(leg.key for leg in legs)), legs=legs)


class _Requests:
    """The distinct requests, numbered in the order in which they are first asked for."""

    def __init__(self, cover: Cover | None = None) -> None:
        """Begin with what a cover has."""
        tasks, forks = (cover.tasks, cover.forks) if cover is not None else ((), ())
        self.tasks: dict[str, TraceTask] = {task.key: task for task in tasks}
        self.forks: dict[str, Fork] = {fork.key: fork for fork in forks}
        self._numbers: dict[str, int] = {key: number for number, key in enumerate(self.tasks)}

    def of_cell(self, matrix: Matrix, cell: int, headless: Headless) -> int | str | Reason:
        """Return the number of a cell's request, the key of its fork, or why it has neither."""
        src, dst = matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]]
        family, port = FAMILIES[matrix.family[cell]], matrix.ports[matrix.port[cell]]
        if dst.kind is not EndpointKind.SERVICE or dst.key not in headless.services:
            return self._index(request_for(src, dst, family, port))
        legs = _legs(src, headless.receivers(dst.key, family, port))
        return legs if isinstance(legs, Reason) else self._fork(legs)

    def number_forks(self, request: NDArray[np.int32], forked: Mapping[int, str]) -> None:
        """Write the numbers of these rows' forks, which come after all tasks."""
        numbers = {key: len(self.tasks) + number for number, key in enumerate(self.forks)}
        for row, key in forked.items():
            request[row] = numbers[key]

    def _index(self, task: TraceTask) -> int:
        """Return the number of a request."""
        self.tasks.setdefault(task.key, task)
        return self._numbers.setdefault(task.key, len(self._numbers))

    def _fork(self, legs: tuple[TraceTask, ...]) -> str:
        """Return the key of the fork into these legs."""
        for leg in legs:
            self._index(leg)
        fork = forked(legs)
        self.forks.setdefault(fork.key, fork)
        return fork.key


def _legs(src: Endpoint, receivers: tuple[Receiver, ...]) -> tuple[TraceTask, ...] | Reason:
    """Return the request to each endpoint of a headless Service, or the reason there is none.

    What a pod sends to itself does not pass OVN, so it is no leg. An endpoint that cannot be
    traced leaves the Service unproven whatever the others say, so there is no leg then either.
    """
    if not receivers:
        return Reason.SERVICE_WITHOUT_ENDPOINTS
    others = [r for r in receivers if r.address not in src.addresses or src.host_network]
    if not others:
        return Reason.OWN_ENDPOINT
    legs = []
    for other in others:
        if other.endpoint.obstacle:
            return Reason(other.endpoint.obstacle)
        if src.host_network and other.endpoint.host_network:
            return Reason.HOST_TO_HOST
        reached = replace(other.endpoint, addresses=(other.address,))
        legs.append(request_for(src, reached, Family.of(other.address), other.port))
    return tuple(legs)


_CELLS_AT_A_TIME = 1 << 22


def _obstacles(matrix: Matrix) -> NDArray[np.int8]:
    """Return per cell the code of the reason it cannot be traced, -1 where it can.

    Two hosts talk past OVN, whichever pods speak for them.
    """
    endpoints = matrix.endpoints
    receiver = np.array([_code(e.obstacle) for e in endpoints], dtype=np.int8)
    unattached = np.array([e.attachment is None for e in endpoints])
    unsent = np.int8(REASON_CODE[Reason.NO_LOGICAL_PORT])
    sender = np.where((receiver < 0) & unattached, unsent, receiver)
    host = np.array([e.host_network for e in endpoints])
    between = np.int8(REASON_CODE[Reason.HOST_TO_HOST])
    obstacles = np.empty(len(matrix), dtype=np.int8)
    for start in range(0, len(matrix), _CELLS_AT_A_TIME):
        some = slice(start, start + _CELLS_AT_A_TIME)
        src, dst = matrix.src[some], matrix.dst[some]
        blocked = np.where(sender[src] >= 0, sender[src], receiver[dst])
        hosts = np.where(host[src] & host[dst], between, np.int8(-1))
        obstacles[some] = np.where(blocked >= 0, blocked, hosts)
    return obstacles


def _settle_ranges(matrix: Matrix, obstacles: NDArray[np.int8], opaque: Collection[str]) -> None:
    """Settle the cells of a range of ports where something may tell its ports apart, in place."""
    wide = np.array([bool(port.last) for port in matrix.ports])
    unread = np.array(
        [e.attachment is not None and e.attachment.switch in opaque for e in matrix.endpoints]
    )
    if not wide.any() or not unread.any():
        return
    doubtful = wide[matrix.port] & (unread[matrix.src] | unread[matrix.dst]) & (obstacles < 0)
    obstacles[doubtful] = REASON_CODE[Reason.PORTS_NOT_TOLD_APART]


def _code(obstacle: str) -> int:
    return REASON_CODE[Reason(obstacle)] if obstacle else -1


def request_for(src: Endpoint, dst: Endpoint, family: Family, port: Port) -> TraceTask:
    """Return the first trace of a new connection: from the source, in the source's zone."""
    attached = _attached(src)
    address = dst.address(family)
    if address is None:
        raise ValueError(f"{dst.key} has no {family} address")
    flow = Microflow(
        inport=attached.port,
        eth_src=attached.mac,
        eth_dst=_next_hop(attached, dst, address),
        ip_src=_own_address(src, family),
        ip_dst=address,
        protocol=port.protocol,
        src_port=REQUEST_SOURCE_PORT,
        dst_port=port.sample,
    )
    return keyed(
        TraceTask(
            key="",
            zone=attached.zone,
            state=ConntrackState.REQUEST,
            microflow=flow,
            target=dst.attachment.port if dst.attachment and not _outside(dst) else "",
            to_service=dst.kind is EndpointKind.SERVICE,
            network=src.network,
        )
    )


def reply_for(request: TraceTask, src: Endpoint, dst: Endpoint) -> TraceTask:
    """Return the first trace of the reply `dst` gives to a request of `src`.

    It is the request's packet with both ends and ports swapped, and established at every
    conntrack step. "`dst` to `src` on the same port" is another cell.
    """
    attached = _attached(dst)
    sent = request.microflow
    flow = Microflow(
        inport=attached.port,
        eth_src=attached.mac,
        eth_dst=_next_hop(attached, src, sent.ip_src),
        ip_src=sent.ip_dst,
        ip_dst=sent.ip_src,
        protocol=sent.protocol,
        src_port=sent.dst_port,
        dst_port=sent.src_port,
    )
    return keyed(
        TraceTask(
            key="",
            zone=attached.zone,
            state=ConntrackState.REPLY,
            microflow=flow,
            target=_attached(src).port,
            network=dst.network,
        )
    )


def _attached(endpoint: Endpoint) -> Attachment:
    """Return where an endpoint's packets enter; the obstacles keep those without one out."""
    if endpoint.attachment is None:
        raise ValueError(f"{endpoint.key} has no logical port")
    return endpoint.attachment


def _outside(endpoint: Endpoint) -> bool:
    return endpoint.kind is EndpointKind.EXTERNAL


def _own_address(endpoint: Endpoint, family: Family) -> str:
    """Return the address an endpoint sends from: a host's is its management port's."""
    attached = _attached(endpoint)
    for address in attached.addresses or endpoint.addresses:
        if Family.of(address) is family:
            return address
    raise ValueError(f"{endpoint.key} has no {family} address")


def _next_hop(attached: Attachment, other: Endpoint, address: str) -> str:
    """Return the MAC a packet to `address` of `other` is sent to.

    Two ports of one switch share a subnet and talk directly; all else goes to the router. A
    node's own address is not its management port's, and not in the subnet.
    """
    there = other.attachment
    if there is None or address not in there.addresses:
        return attached.gateway_mac
    return there.mac if attached.on_link(there) else attached.gateway_mac
