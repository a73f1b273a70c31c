"""Cells to Services that traces of others decide: the packets that are asked for, and learnt from.

What is known of them is `audit.verdict.services`'s; here are the tasks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.cover import requests as cover
from audit.model.endpoints import Endpoint
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.run import TO_ITSELF, TraceRecord
from audit.model.traces import TraceTask
from audit.tracing.planes import Plane
from audit.verdict import records
from audit.verdict.compose import Decision, Decisions
from audit.verdict.judge import Judgement
from audit.verdict.legs import LegResults
from audit.verdict.service_packets import Pair, Receiver
from audit.verdict.services import ServiceResults


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet that a Service sends to one of its endpoints, or the reply to one."""

    of: ServiceResults
    pair: Pair
    task: TraceTask
    answers: str = ""
    """The key of the packet that this is the reply to."""


class BehindServices:
    """What a run knows of the cells to Services that have no trace of their own."""

    def __init__(
        self,
        matrix: Matrix,
        plane: Plane,
        requests: Sequence[LegResults],
        answers: Sequence[LegResults],
        judgements: Mapping[str, Judgement],
    ) -> None:
        """`judgements` grow as traces are judged."""
        self._matrix = matrix
        self._plane = plane
        self._judgements = judgements
        self._results = [
            ServiceResults(some, matrix, requests[some.legs], answers[some.legs])
            for some in plane.services
        ]

    def composed(self) -> NDArray[np.int64]:
        """Return the cells that no trace of their own decides, sorted."""
        return _joined(results.composed for results in self._results)

    def learn(self, covered: cover.Cover, cells: NDArray[np.int64]) -> None:
        """Note what the traces of those of these cells show that others may be decided by."""
        for results, some, keys in self._traced(covered, cells):
            results.learn(some, keys, self._judgements)

    def _traced(
        self, covered: cover.Cover, cells: NDArray[np.int64]
    ) -> Iterator[tuple[ServiceResults, NDArray[np.int64], list[str]]]:
        """Yield those of these cells that are to Services, with the keys of their requests."""
        keys = covered.keys if self._results else ()
        for results in self._results:
            some = results.among(cells)
            yield results, some, [keys[number] for number in covered.of(some).tolist()]

    def missing(self, untraced: NDArray[np.bool_]) -> list[Packet]:
        """Return packets that show what no trace has shown yet; `untraced` is by cell."""
        return [
            Packet(of=results, pair=pair, task=self._task(results, pair))
            for results in self._results
            for pair in results.missing(untraced)
        ]

    def unanswered(self, untraced: NDArray[np.bool_]) -> list[Packet]:
        """Return replies that show what no trace of a reply has shown yet."""
        replies = []
        for results in self._results:
            for pair in results.unanswered(untraced):
                request = self._task(results, pair)
                reply = self._reply(results, pair.cell, request, pair.receiver)
                replies.append(Packet(of=results, pair=pair, task=reply, answers=request.key))
        return replies

    def _task(self, results: ServiceResults, pair: Pair) -> TraceTask:
        """Return a packet to an endpoint behind a Service, as the Service sends it."""
        of, (end, port) = self._matrix, pair.receiver
        src, dst = of.endpoints[of.src[pair.cell]], of.endpoints[of.dst[pair.cell]]
        family, wide = FAMILIES[of.family[pair.cell]], results.of.matrix
        if not results.of.routed:
            directly = cover.request_for(src, wide.endpoints[end], family, wide.ports[port])
            return self._plane.locate(directly)
        request = cover.request_for(src, dst, family, of.ports[of.port[pair.cell]])
        located = self._plane.locate(request)
        if of.src[pair.cell] == end:
            return self._plane.judge.hops.to_itself(located, results.sent_to(pair.cell))
        return self._plane.judge.hops.to_backend(located, *results.address(pair.receiver))

    def _reply(
        self, results: ServiceResults, cell: int, task: TraceTask, receiver: Receiver
    ) -> TraceTask:
        """Return the reply of an endpoint to a packet that its Service sent it."""
        src, end = self._matrix.src[cell], results.of.matrix.endpoints[receiver[0]]
        return self._plane.locate(cover.reply_for(task, self._matrix.endpoints[src], end))

    def learn_packets(self, packets: Iterable[Packet]) -> None:
        """Note what the traces of these packets show."""
        for packet in packets:
            learn = packet.of.learn_reply if packet.answers else packet.of.learn_leg
            learn(packet.pair.cell, packet.pair.receiver, packet.task.key, self._judgements)

    def learn_replies(self, covered: cover.Cover) -> None:
        """Note what the replies to traced cells show."""
        for results, cells, keys in self._traced(covered, covered.cells):
            for cell, key in zip(cells.tolist(), keys, strict=True):
                for task, receiver in results.receivers(self._judgements.get(key)):
                    reply = self._reply(results, cell, task, receiver)
                    if reply.key in self._judgements:
                        results.learn_reply(cell, receiver, reply.key, self._judgements)

    def decisions(self, cells: NDArray[np.int64]) -> Iterator[tuple[int, Decision]]:
        """Yield those of these cells that others' traces decide, with what these come to."""
        for results in self._results:
            for cell in results.among(cells).tolist():
                yield cell, results.decision(cell)

    def left_open(self, untraced: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the cells of which others' traces do not tell what becomes, sorted."""
        return _joined(results.left_open(untraced) for results in self._results)

    def at(self, location: str, locate: Callable[[Endpoint], str]) -> NDArray[np.int64]:
        """Return the cells whose sender, or an endpoint they may be sent to, is somewhere."""
        return _joined(
            results.at([locate(end) == location for end in results.of.matrix.endpoints])
            for results in self._results
        )

    def replies_left_open(self, untraced: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the cells that pass and of whose replies others' traces do not tell, sorted."""
        return _joined(results.replies_left_open(untraced) for results in self._results)

    def leave(self, cells: NDArray[np.int64]) -> None:
        """Let their own traces decide these cells."""
        for results in self._results:
            results.leave(cells)

    def fill(self, traced: CellVerdicts) -> tuple[CellVerdicts, list[TraceRecord]]:
        """Return the verdicts with those of the cells without a trace of their own.

        And the rows of the requests that these name and that are no packets.
        """
        decisions = Decisions(self._judgements)
        rows: list[TraceRecord] = []
        for results in self._results:
            traced = results.fill(traced, decisions)
            rows += [
                records.service_record(self._plane.name, key, ends, keys)
                for key, (ends, keys) in results.forks.items()
            ]
        if any(TO_ITSELF in row.next_keys for row in rows):
            rows.append(records.itself_record(self._plane.name))
        return traced, rows


def _joined(cells: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return all of these cells, sorted, each once: most are sorted, by their millions."""
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *cells])
    joined.sort(kind="stable")
    new = np.ones(len(joined), dtype=np.bool_)
    np.not_equal(joined[1:], joined[:-1], out=new[1:])
    return joined[new]
