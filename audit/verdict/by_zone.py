"""A request's traces, zone by zone: what each on the way does with the packet. Pure.

`compose` asks whether a packet arrives. Here each zone is asked for itself: a packet that a zone
passes on has passed there, whatever becomes of it behind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from audit.model.stages import Answer
from audit.model.tasks import keyed
from audit.model.traces import (
    DatapathTask,
    DatapathTrace,
    LogicalTrace,
    TraceOutcome,
    TraceTask,
    Tunnel,
)
from audit.model.verdicts import Reason, Verdict
from audit.verdict.compose import Decision, combine
from audit.verdict.judge import ONWARD, Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneAnswer:
    """What happens in one zone, or on one node: the traces run there, and what they amount to."""

    name: str
    keys: tuple[str, ...]
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneAnswers:
    """Takes requests apart whose judgements are all there; `tasks` are by key."""

    tasks: Mapping[str, TraceTask]
    judgements: Mapping[str, Judgement]

    def of(self, key: str) -> tuple[ZoneAnswer, ...]:
        """Return the zones or nodes on a packet's way, in order; the first is where it enters."""
        answers: dict[str, ZoneAnswer] = {}
        queue = [key]
        for first in queue:
            if first in answers:
                continue
            decision, keys = self._here(first)
            answers[first] = ZoneAnswer(
                name=_name(self.tasks[first]), keys=keys, answer=self._answer(decision)
            )
            queue += [onward.key for traced in keys for onward in self._beyond(traced)]
        return tuple(answers.values())

    def _here(self, key: str) -> tuple[Decision, tuple[str, ...]]:
        """Return what a zone does with a packet, and the traces that tell."""
        judgement = self.judgements.get(key)
        if judgement is None:
            missing = Decision(verdict=Verdict.UNTRACED, reason=Reason.INTERRUPTED, trace=key)
            return missing, (key,)
        if judgement.verdict is not None:
            return _decided(key, judgement, judgement.verdict), (key,)
        if judgement.combine in ONWARD:
            return _decided(key, judgement, Verdict.REACHABLE), (key,)
        parts = [self._here(onward.key) for onward in judgement.next_hops]
        decision = combine([part for part, _ in parts], judgement.combine)
        return decision, (key, *(traced for _, keys in parts for traced in keys))

    def _beyond(self, key: str) -> Iterator[TraceTask]:
        """Yield what takes over in other zones."""
        judgement = self.judgements.get(key)
        if judgement is not None and judgement.verdict is None:
            yield from judgement.next_hops if judgement.combine in ONWARD else ()

    def _answer(self, decision: Decision) -> Answer:
        judgement = self.judgements.get(decision.trace)
        return answer(decision, judgement.detail if judgement is not None else "")


def _name(task: TraceTask) -> str:
    return task.node if isinstance(task, DatapathTask) else task.zone


def answer(decision: Decision, detail: str = "") -> Answer:
    """Return a decision as an answer."""
    return Answer(
        verdict=decision.verdict, reason=decision.reason, blame=decision.blame, detail=detail
    )


def _decided(key: str, judgement: Judgement, verdict: Verdict) -> Decision:
    return Decision(verdict=verdict, reason=judgement.reason, blame=judgement.blame, trace=key)


def mirrored(
    request: TraceTask, reply: TraceTask, left: TraceOutcome, onward: TraceTask
) -> TraceTask | None:
    """Return the second half of a request that did not get there, from the way its reply takes.

    `left` is the outcome of the reply's first half and `onward` its second: between two zones it
    leaves by the very port that the request would have entered by, and goes between the same two
    routers. None where both halves are in one zone, whose routers are not so.
    """
    if not isinstance(left, LogicalTrace) or onward.zone == reply.zone:
        return None
    sent = replace(
        request.microflow,
        inport="",
        eth_src=onward.microflow.eth_dst,
        eth_dst=onward.microflow.eth_src,
        ttl=onward.microflow.ttl,
    )
    target = reply.microflow.inport
    if isinstance(reply, DatapathTask) and isinstance(left, DatapathTrace):
        tunnel = _back_through(left.tunnel) if left.tunnel is not None else None
        back = replace(reply, state=request.state, microflow=sent, target=target, tunnel=tunnel)
        return keyed(back) if tunnel is not None else None
    if left.hop.port_type != "remote":
        return None
    sent = replace(sent, inport=left.hop.port)
    return keyed(replace(reply, state=request.state, microflow=sent, target=target))


_PORT_BITS = 16


def _back_through(tunnel: Tunnel) -> Tunnel:
    """Return the tunnel of a packet that goes the other way between the same logical ports."""
    inport, outport = tunnel.metadata >> _PORT_BITS, tunnel.metadata & ((1 << _PORT_BITS) - 1)
    return replace(
        tunnel,
        local=tunnel.remote,
        remote=tunnel.local,
        metadata=outport << _PORT_BITS | inport,
    )
