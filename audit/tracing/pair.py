"""One pair in one plane: the request, its replies, and the other direction.

Each is followed from zone to zone to its end, whatever the others say. Where a request does not get
to its destination's zone, what that zone would do with it is traced all the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from audit.cover import requests
from audit.fanout.base import Fanout
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Owners
from audit.model.stages import Answer
from audit.model.traces import TraceOutcome, TraceTask
from audit.model.verdicts import PASSES, REASONS
from audit.scope.pair import Pair, sends
from audit.tracing.loop import TraceLoop
from audit.tracing.options import Progress
from audit.tracing.planes import Plane
from audit.verdict.arrivals import Arrivals
from audit.verdict.by_zone import ZoneAnswer, ZoneAnswers, answer, mirrored
from audit.verdict.compose import Decisions, verdict_of
from audit.verdict.judge import Combine, Judgement, forked


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One destination of the request, and the traces there and back.

    `reply` is None when no trace can follow it, `reverse` when there is no one to open a
    connection; `supposed` is the second half of a request that does not get there.
    """

    request: TraceTask
    dst: Endpoint
    reply: TraceTask | None
    reverse: TraceTask | None
    supposed: TraceTask | None = None

    @property
    def name(self) -> str:
        """`pod shop/web-0 tcp/8080`: what tells it from a Service's other backends."""
        return f"{self.dst.key} {self.port}"

    @property
    def port(self) -> Port:
        """What is asked of the destination: of a Service's backend, the port it is sent on to."""
        return _port(self.request)


def _port(request: TraceTask) -> Port:
    flow = request.microflow
    return Port(protocol=flow.protocol, number=flow.dst_port)


@dataclass(slots=True, kw_only=True)
class TracedPair:
    """A pair in one plane, whose cover is of its one cell: every trace, followed to its end."""

    pair: Pair
    owners: Owners
    plane: Plane
    workers: Fanout
    progress: Progress
    tasks: dict[str, TraceTask] = field(default_factory=dict)
    outcomes: dict[str, TraceOutcome] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    destinations: tuple[Destination, ...] = ()
    key: str = ""
    """The request's; empty where nothing had to be traced."""

    def run(self) -> Answer:
        """Trace the request, its replies and the other direction; return what is known."""
        plan = self.plane.cover
        if not plan.cells.size:
            reason = REASONS[int(plan.settled[0])]
            return Answer(verdict=verdict_of(reason), reason=reason)
        self.key = plan.keys[int(plan.request[0])]
        self._follow(plan.tasks)
        self.judgements.update((fork.key, forked(fork.legs)) for fork in plan.forks)
        destinations = [self._destination(task, dst) for task, dst in self._reached()]
        self._follow([task for to in destinations for task in (to.reply, to.reverse)])
        self.destinations = tuple(replace(to, supposed=self._supposed(to)) for to in destinations)
        self._follow([to.supposed for to in self.destinations])
        return self.answer(self.key)

    def answer(self, key: str) -> Answer:
        """Return what the traces that `key` leads to make of its packet."""
        decision = Decisions(self.judgements).of(key)
        judgement = self.judgements.get(decision.trace)
        return answer(decision, judgement.detail if judgement is not None else "")

    def by_zone(self, key: str) -> tuple[ZoneAnswer, ...]:
        """Return what each zone or node on the packet's way does with it."""
        return ZoneAnswers(tasks=self.tasks, judgements=self.judgements).of(key)

    def recall(self, task: TraceTask) -> None:
        """Note what is asked for; nothing of it was traced earlier."""
        self.tasks[task.key] = task

    def keep(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> None:
        """Keep what a tool printed."""
        del judgement
        self.outcomes[task.key] = outcome

    def _follow(self, wanted: Iterable[TraceTask | None]) -> None:
        """Run traces and all they lead to."""
        loop = TraceLoop(
            judge=self.plane.judge.judge,
            keeper=self,
            progress=self.progress,
            judgements=self.judgements,
        )
        loop.run([task for task in wanted if task is not None], self.workers)

    def _reached(self) -> Iterator[tuple[TraceTask, Endpoint]]:
        """Yield the request to each destination: the one asked for, or what a Service has."""
        judgement = self.judgements[self.key]
        if judgement.combine is not Combine.BACKENDS:
            if self.pair.dst.kind is not EndpointKind.SERVICE:
                yield self.tasks[self.key], self.pair.dst
            return
        for leg in judgement.next_hops:
            address = leg.microflow.ip_dst
            owner = self.pair.src if leg.draws else self.owners.get(address, leg.network)
            yield leg, owner or Endpoint(kind=EndpointKind.EXTERNAL, name=address)

    def _destination(self, request: TraceTask, dst: Endpoint) -> Destination:
        """Return the traces to one destination; what a pod sends itself has no way back."""
        if dst == self.pair.src or not sends(dst, self.pair.family):
            return Destination(request=request, dst=dst, reply=None, reverse=None)
        return Destination(
            request=request,
            dst=dst,
            reply=self._reply(request, dst),
            reverse=self.plane.locate(
                requests.request_for(dst, self.pair.src, self.pair.family, _port(request))
            ),
        )

    def _reply(self, request: TraceTask, dst: Endpoint) -> TraceTask | None:
        """Return the reply; to a request that does not arrive, the one it would have had."""
        decisions = Decisions(self.judgements)
        if decisions.of(request.key).verdict not in PASSES:
            supposed = requests.reply_for(request, self.pair.src, dst)
            return None if dst.host_network else self.plane.locate(supposed)
        arrivals = Arrivals(judgements=self.judgements, owners=self.owners, decisions=decisions)
        arrived = list(arrivals.of(request, self.pair.src, dst))
        # A backend that is a Service again has several who reply.
        receiver = arrived[0].receiver if len(arrived) == 1 else None
        if receiver is None:
            return None
        return self.plane.locate(requests.reply_for(arrived[0].task, self.pair.src, receiver))

    def _supposed(self, to: Destination) -> TraceTask | None:
        """Return what the other zone would be asked, had the request got to it."""
        if to.reply is None or len(self.by_zone(to.request.key)) > 1:
            return None
        onward = self.judgements[to.reply.key].next_hops
        left = self.outcomes[to.reply.key]
        return mirrored(to.request, to.reply, left, onward[0]) if onward else None
