"""Cells, drawn at random → real packets through the replayed switches, and what became of them."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from audit.model.findings import Disagreement
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.traces import DatapathTask, TraceTask
from audit.model.verdicts import CODE, NO_VERDICT, UNPROVEN, VERDICTS, Verdict
from audit.pipeline.planes import Plane
from audit.pipeline.planning import Planned
from audit.pipeline.switches import Running
from audit.pipeline.tracing import Verified
from audit.plan import cover
from audit.trace.frames import SENT_PROTOCOLS
from audit.trace.packets import Departure, PacketProbe
from audit.trace.unixctl import RefusedError, UnixctlError

_UNPROVEN = [CODE[verdict] for verdict in UNPROVEN] + [NO_VERDICT]


def verify(
    planned: Planned, plane: Plane, running: Running, verdicts: CellVerdicts, count: int
) -> Verified:
    """Send the packets of `count` cells, and the replies to what arrives.

    Of cells whose ends are pods of one node: between nodes a replay has no wire. `verdicts` are
    the datapath's.
    """
    matrix = planned.matrix
    among = _sendable(planned, running, verdicts)
    draw = np.random.default_rng(list(hashlib.blake2b(b"packets", digest_size=16).digest()))
    cells = np.sort(draw.choice(among, size=min(count, len(among)), replace=False))
    wrong: list[Disagreement] = []
    with ExitStack() as stack:
        probes = {
            node: stack.enter_context(PacketProbe(switch))
            for node, switch in running.switches.items()
        }
        for cell in cells.tolist():
            said = _Sent(matrix, plane, verdicts, cell).compare(probes)
            if said:
                about = (*matrix.about(cell), str(VERDICTS[verdicts.verdict[cell]]))
                wrong.append(Disagreement(text=said, about=about))
    return Verified(agree=len(cells) - len(wrong), of=len(cells), disagreements=tuple(wrong))


def _sendable(planned: Planned, running: Running, verdicts: CellVerdicts) -> NDArray[np.int64]:
    """Return the decided cells whose packets can be sent and seen."""
    matrix = planned.matrix
    bound = {port: name for name, one in running.switches.items() for port in one.captures}
    numbers = {name: number for number, name in enumerate(running.switches)}
    pods = {pod.key for pod in planned.state.pods if not pod.host_network}
    at = np.array(
        [
            numbers[bound[e.attachment.port]]
            if e.key in pods and e.attachment is not None and e.attachment.port in bound
            else -1
            for e in matrix.endpoints
        ],
        dtype=np.int64,
    )
    sent = np.array([port.protocol in SENT_PROTOCOLS for port in matrix.ports], dtype=np.bool_)
    chosen = (at[matrix.src] >= 0) & (at[matrix.src] == at[matrix.dst]) & sent[matrix.port]
    return np.flatnonzero(chosen & ~np.isin(verdicts.verdict, _UNPROVEN))


class _Sent:
    """One cell whose packets are sent."""

    def __init__(self, matrix: Matrix, plane: Plane, verdicts: CellVerdicts, cell: int) -> None:
        src, dst = matrix.endpoints[matrix.src[cell]], matrix.endpoints[matrix.dst[cell]]
        self._name = matrix.told(cell)
        family, port = FAMILIES[matrix.family[cell]], matrix.ports[matrix.port[cell]]
        self._request = plane.place(cover.request_for(src, dst, family, port))
        self._reply = plane.place(cover.reply_for(self._request, src, dst))
        self._verdict = VERDICTS[verdicts.verdict[cell]]
        reply = int(verdicts.reply[cell])
        self._replied = None if reply in _UNPROVEN else VERDICTS[reply]

    def compare(self, probes: dict[str, PacketProbe]) -> str:
        """Return what a packet did otherwise than its trace; nothing when they agree."""
        probe = probes[_node(self._request)]
        try:
            probe.forget()
            left = probe.send(self._request.microflow)
            out = _ports(left)
            arrived = out == {self._request.target}
            if arrived is not (self._verdict is Verdict.REACHABLE):
                return f"{self._name}: traced {self._verdict}, a packet {_came(out)}"
            if not arrived or self._replied is None:
                return ""
            out = _ports(probe.send(self._reply.microflow, reply=True))
            if (out == {self._reply.target}) is not (self._replied is Verdict.REACHABLE):
                return f"{self._name}, reply: traced {self._replied}, a packet {_came(out)}"
        except (RefusedError, UnixctlError) as error:
            return f"{self._name}: no packet could be sent: {error}"
        return ""


def _node(task: TraceTask) -> str:
    return task.node if isinstance(task, DatapathTask) else ""


def _ports(left: Sequence[Departure]) -> frozenset[str]:
    return frozenset(departure.port for departure in left)


def _came(ports: frozenset[str]) -> str:
    return f"came out at {', '.join(sorted(ports))}" if ports else "came out nowhere"
