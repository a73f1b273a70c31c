"""Cells, drawn at random → real packets through the replayed switches, and what became of them."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit.cover import requests
from audit.model.datapath import Switch
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.findings import Disagreement
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix, proven
from audit.model.traces import TraceTask
from audit.model.verdicts import CODE, NO_VERDICT, PASSES, UNPROVEN, VERDICTS, Verdict
from audit.trace.frames import SENT_PROTOCOLS
from audit.trace.packets import Draw, PacketResult, entered, inject
from audit.tracing.follow import Verified
from audit.tracing.plan import Planned
from audit.tracing.switches import Running

_UNPROVEN = [CODE[verdict] for verdict in UNPROVEN] + [NO_VERDICT]
_AT_A_TIME = 500
"""Requests that are sent before it is counted how many of them say something."""


class Sent(StrEnum):
    """The kinds of request that packets can be sent for."""

    POD = "pod"
    SERVICE = "service"
    HAIRPIN = "hairpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCells(Verified):
    """How many cells packets confirmed, as `Verified`; `kinds` says of each kind (agree, of).

    `silent` are the cells that say nothing: none of their packets was balanced to a pod at its
    own node, or there was no time for them.
    """

    kinds: Mapping[Sent, tuple[int, int]]
    silent: int

    def fields(self) -> dict[str, object]:
        """Return it for run.json."""
        kinds = {str(kind): {"agree": agree, "of": of} for kind, (agree, of) in self.kinds.items()}
        return {**Verified.fields(self), "kinds": kinds, "silent": self.silent}


def verify(
    planned: Planned,
    running: Running,
    verdicts: CellVerdicts,
    count: int,
    *,
    timeout_s: float,
) -> SentCells:
    """Send the packets of `count` cells, and the replies to what arrives.

    Of cells whose ends are pods of one node, or a pod and an address that a load balancer has and
    of whose backends one is at its node: between nodes a replay has no wire. `verdicts` are the
    datapath's.
    """
    deadline = time.monotonic() + timeout_s
    sendable = _Sendable(planned, running, verdicts)
    among = sendable.cells()
    draw = np.random.default_rng(list(hashlib.blake2b(b"packets", digest_size=16).digest()))
    among = draw.permutation(among)
    agree: Counter[Sent] = Counter()
    of: Counter[Sent] = Counter()
    wrong: list[Disagreement] = []
    silent = start = 0
    while (wanted := min(count - of.total(), _AT_A_TIME)) > 0 and start < len(among):
        cells = np.sort(among[start : start + wanted]).tolist()
        start += wanted
        for compared, difference in _sent(sendable, cells, deadline):
            if difference is None:
                silent += 1
                continue
            of[compared.kind] += 1
            agree[compared.kind] += not difference
            if difference:
                wrong.append(compared.disagreement(difference))
    return SentCells(
        agree=agree.total(),
        of=of.total(),
        disagreements=tuple(wrong),
        kinds={kind: (agree[kind], of[kind]) for kind in Sent if of[kind]},
        silent=silent,
    )


def _sent(
    sendable: "_Sendable", cells: Sequence[int], deadline: float
) -> Iterator[tuple["_Compared", str | None]]:
    """Send the packets of these cells; yield what each did otherwise than was traced, if anything.

    None where its packets say nothing, or there was no time for them.
    """
    tasks = [sendable.request(cell) for cell in cells]
    results = inject(tasks, sendable.switches, timeout_s=deadline - time.monotonic())
    for cell, result in zip(cells, results, strict=True):
        compared = _Compared(sendable, cell, result)
        late = result.unknown and time.monotonic() >= deadline
        yield compared, None if late else compared.difference()


def arrivals(
    tasks: Sequence[TraceTask], switches: Mapping[str, Switch], *, timeout_s: float
) -> dict[str, bool]:
    """Send the packets of these requests; say by key which came to their target, and which nowhere.

    What a load balancer sends elsewhere says nothing, and is left out.
    """
    results = inject(tasks, switches, timeout_s=timeout_s)
    arrived: dict[str, bool] = {}
    for task, result in zip(tasks, results, strict=True):
        drawn = [draw for draw in result.draws if not task.draws or _is_own(draw, task)]
        if any(draw.delivered == {task.target} for draw in drawn):
            arrived[task.key] = True
        elif drawn and not any(draw.left for draw in drawn):
            arrived[task.key] = False
    return arrived


def _is_own(draw: Draw, task: TraceTask) -> bool:
    """Say whether a load balancer drew the sender as its own backend."""
    return draw.backend.rpartition(":")[0].strip("[]") == task.microflow.ip_src


class _Sendable:
    """The decided cells whose packets can be sent and seen."""

    def __init__(self, planned: Planned, running: Running, verdicts: CellVerdicts) -> None:
        self.planned = planned
        self.matrix: Matrix = planned.matrix
        self.verdicts = verdicts
        self.switches: Mapping[str, Switch] = running.switches
        balancers = [lb for zone in planned.state.zones.values() for lb in zone.load_balancers]
        self._vips = {
            (lb.protocol, "" if lb.template else address, port)
            for lb in balancers
            for address, port, _ in lb.vips
        }

    def cells(self) -> NDArray[np.int64]:
        """Return them in order."""
        matrix, endpoints = self.matrix, self.matrix.endpoints
        at = np.array([self._node(endpoint) for endpoint in endpoints], dtype=np.int64)
        pods = np.array([_is_pod(endpoint) for endpoint in endpoints], dtype=np.bool_)
        sent = np.array([port.protocol in SENT_PROTOCOLS for port in matrix.ports], dtype=np.bool_)
        decided = proven(self.verdicts.verdict) & sent[matrix.port]
        among = decided & pods[matrix.src] & (at[matrix.src] >= 0)
        direct = among & pods[matrix.dst] & (at[matrix.src] == at[matrix.dst])
        named = np.flatnonzero(among & ~pods[matrix.dst])
        balanced = [cell for cell in named.tolist() if self._is_balanced(cell)]
        return np.union1d(np.flatnonzero(direct), np.array(balanced, dtype=np.int64))

    def _node(self, endpoint: Endpoint) -> int:
        """Return the number of the node whose switch an endpoint's packets enter; -1 for none."""
        attached = endpoint.attachment
        node = entered(attached.port, self.switches) if attached is not None else ""
        return self._numbers.get(node, -1)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.switches)}

    def _is_balanced(self, cell: int) -> bool:
        """Say whether a cell's destination is an address that a load balancer may have."""
        matrix = self.matrix
        dst, port = matrix.endpoints[matrix.dst[cell]], matrix.ports[matrix.port[cell]]
        address = dst.address(FAMILIES[matrix.family[cell]])
        is_vip = (port.protocol, address, port.sample) in self._vips
        # A template's address is each node's own.
        template = dst.kind is EndpointKind.NODE
        return is_vip or (template and (port.protocol, "", port.sample) in self._vips)

    def request(self, cell: int) -> TraceTask:
        """Return a cell's request."""
        matrix = self.matrix
        return requests.request_for(
            matrix.endpoints[matrix.src[cell]],
            matrix.endpoints[matrix.dst[cell]],
            FAMILIES[matrix.family[cell]],
            matrix.ports[matrix.port[cell]],
        )

    def receiver(self, src: Endpoint, backend: str) -> str:
        """Return the port of a backend, a pod at the sender's node; empty where it is none."""
        address = backend.rpartition(":")[0].strip("[]")
        owner = self.planned.owners.get(address, src.network)
        if owner is None or owner.attachment is None or not _is_pod(owner):
            return ""
        return owner.attachment.port if self._node(owner) == self._node(src) else ""


def _is_pod(endpoint: Endpoint) -> bool:
    return endpoint.kind is EndpointKind.POD and not endpoint.host_network


class _Compared:
    """One cell, and what became of its packets."""

    def __init__(self, sendable: _Sendable, cell: int, result: PacketResult) -> None:
        matrix, verdicts = sendable.matrix, sendable.verdicts
        self._matrix, self._cell, self._result = matrix, cell, result
        self._src = matrix.endpoints[matrix.src[cell]]
        self._verdict = VERDICTS[verdicts.verdict[cell]]
        reply = int(verdicts.reply[cell])
        self._reply = None if reply in _UNPROVEN else VERDICTS[reply]
        self._direct = _is_pod(matrix.endpoints[matrix.dst[cell]])
        self._target = sendable.request(cell).target
        self._draws = [(draw, sendable.receiver(self._src, draw.backend)) for draw in result.draws]
        self.kind = self._kind()

    def _kind(self) -> Sent:
        source = self._src.attachment.port if self._src.attachment is not None else ""
        if self._target == source or any(receiver == source for _, receiver in self._draws):
            return Sent.HAIRPIN
        return Sent.POD if self._direct else Sent.SERVICE

    def disagreement(self, difference: str) -> Disagreement:
        """Return what is reported of a cell whose packets did otherwise."""
        about = (*self._matrix.about(self._cell), str(self._verdict))
        return Disagreement(text=f"{self._matrix.describe(self._cell)}{difference}", about=about)

    def difference(self) -> str | None:
        """Return what packets did otherwise than was traced: nothing when they agree.

        None when none of them says anything: what is balanced to another node leaves unseen.
        """
        if self._result.unknown:
            return f": no packet could be sent: {self._result.unknown}"
        differences = [self._of_draw(draw, receiver) for draw, receiver in self._telling()]
        return next((text for text in differences if text), "") if differences else None

    def _telling(self) -> Iterator[tuple[Draw, str]]:
        """Yield the packets that say something, and the port that each is for.

        What came out nowhere may have left by a tunnel, unless it was for a pod at this node.
        """
        for index, (draw, receiver) in enumerate(self._draws):
            if self._direct:
                yield draw, self._target
            elif receiver and not (index == 0 and self._learned(draw)):
                yield draw, receiver

    def _learned(self, first: Draw) -> bool:
        """Say whether the first packet only taught the switch: later ones arrived where it did not.

        With session affinity it is dropped, and with it what is sent on that connection.
        """
        later = self._result.draws[1:]
        same = [draw.delivered for draw in later if draw.backend == first.backend]
        return not first.left and any(same)

    def _of_draw(self, draw: Draw, receiver: str) -> str:
        came = {departure.port for departure in draw.left}
        arrived = came == {receiver}
        passes = self._verdict in PASSES
        if arrived is not passes or (not arrived and came):
            return f": traced {self._verdict}, a packet {_came(draw)}"
        if draw.answered is None or self._reply is None:
            return ""
        source = self._src.attachment.port if self._src.attachment is not None else ""
        if (draw.answered == {source}) is not (self._reply is Verdict.REACHABLE):
            at = ", ".join(sorted(draw.answered)) or "nowhere"
            return f", reply: traced {self._reply}, a packet came out at {at}"
        return ""


def _came(draw: Draw) -> str:
    ports = sorted(departure.port or "a physical network" for departure in draw.left)
    to = f" (balanced to {draw.backend})" if draw.backend else ""
    return f"came out at {', '.join(ports)}{to}" if ports else f"came out nowhere{to}"
