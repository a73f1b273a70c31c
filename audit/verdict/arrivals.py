"""Who received a request, and so who replies to it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import Owners
from audit.model.traces import TraceTask
from audit.model.verdicts import PASSES, Verdict
from audit.verdict.compose import Decisions
from audit.verdict.judge import Combine, Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A trace that reached its receiver; None when the reply to it cannot be traced."""

    task: TraceTask
    receiver: Endpoint | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Finds the receivers of requests whose judgements are all there."""

    judgements: Mapping[str, Judgement]
    owners: Owners
    decisions: Decisions

    def passed(self, key: str) -> bool:
        """Say whether the request with this key got through, wherever that was."""
        return self.decisions.of(key).verdict in PASSES

    def of(self, task: TraceTask, src: Endpoint, dst: Endpoint | None) -> Iterator[Arrival]:
        """Yield the arrivals of a request that passed: at `dst`, or at each backend.

        All hops of a request that passed did pass, so none of them leads back to another.
        """
        judgement = self.judgements[task.key]
        if judgement.combine is Combine.BACKENDS:
            for leg in judgement.next_hops:
                # What a pod sends itself by a service is translated on both ways.
                owner = None if leg.draws else self.owners.get(leg.microflow.ip_dst, leg.network)
                yield from self.of(leg, src, owner)
        else:
            replies = dst is not None and self._replies(task, src, dst)
            yield Arrival(task=task, receiver=dst if replies else None)

    def _replies(self, task: TraceTask, src: Endpoint, dst: Endpoint) -> bool:
        """Say whether the reply comes back in a way that can be traced.

        A translated packet's reply takes its translation's way back, which ovn-trace does not
        know; an address outside answers through the underlay.
        """
        arrived = self.decisions.of(task.key).verdict is Verdict.REACHABLE
        translated = any(judgement.translated for judgement in self._path(task.key))
        outside = EndpointKind.EXTERNAL in (src.kind, dst.kind)
        return arrived and not translated and not outside and dst.attachment is not None

    def _path(self, key: str) -> Iterator[Judgement]:
        """Yield the judgements of a trace and of every hop after it."""
        judgement = self.judgements[key]
        yield judgement
        for onward in judgement.next_hops:
            yield from self._path(onward.key)
