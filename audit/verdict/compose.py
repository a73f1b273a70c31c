"""Hops → requests → cells. Pure; per trace, then by array per cell.

A request's verdict is its own trace's where that decides, else what its next hops say: of one
hop onward, that hop's; of the backends of a service or the members of an ECMP choice, the one
they agree on. Where they do not, the cell is `inconclusive`: a connection would sometimes work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import CellVerdicts
from audit.model.verdicts import (
    CODE,
    KEPT_FIRST,
    NO_VERDICT,
    PASSES,
    REASON_CODE,
    STOPPED,
    UNPROVEN,
    Blame,
    Reason,
    Verdict,
)
from audit.verdict.judge import ONWARD, Combine, Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is known about a request; `trace` is the trace that decided it."""

    verdict: Verdict
    reason: Reason
    blame: Blame | None = None
    trace: str = ""


_CIRCLING = Decision(verdict=Verdict.INCONCLUSIVE, reason=Reason.TOO_MANY_HOPS)
_NOWHERE = Decision(verdict=Verdict.INCONCLUSIVE, reason=Reason.TRACE_ENDS)


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decides requests by the judgements of their traces, each trace once however many share it.

    To be made when the judgements it will need are all there: what was decided stays.
    """

    judgements: Mapping[str, Judgement]
    _decided: dict[str, Decision] = field(default_factory=dict)

    def of(self, key: str) -> Decision:
        """Return the decision of the request whose first trace is `key`.

        A hop whose trace is missing was not run: `untraced`. A packet that comes to a hop it was
        at before does so for ever, and is not there after any number of hops.
        """
        earlier = self._decided.get(key)
        if earlier is not None:
            return earlier
        judgement = self.judgements.get(key)
        if judgement is None:
            return Decision(verdict=Verdict.UNTRACED, reason=Reason.INTERRUPTED, trace=key)
        self._decided[key] = _CIRCLING  # what a hop further on finds that leads back here
        self._decided[key] = decision = self._decide(key, judgement)
        return decision

    def _decide(self, key: str, judgement: Judgement) -> Decision:
        if judgement.verdict is not None:
            return Decision(
                verdict=judgement.verdict,
                reason=judgement.reason,
                blame=judgement.blame,
                trace=key,
            )
        parts = [self.of(onward.key) for onward in judgement.next_hops]
        decision = combine(parts, judgement.combine)
        return _through(judgement, decision) if judgement.combine in ONWARD else decision


def decide(key: str, judgements: Mapping[str, Judgement]) -> Decision:
    """Return the decision of one request; `Decisions` is for many."""
    return Decisions(judgements).of(key)


def _through(judgement: Judgement, onward: Decision) -> Decision:
    """Return the next hop's decision; what allowed the packet earlier stands if nothing later."""
    if onward.blame is not None or judgement.blame is None or onward.verdict not in PASSES:
        return onward
    plain = onward.reason is Reason.DELIVERED
    return replace(
        onward,
        reason=Reason.ALLOWED_BY_ACL if plain else onward.reason,
        blame=judgement.blame,
    )


_DIFFER = {
    Combine.FOLLOW: Reason.TRACE_ENDS,  # one way on: it cannot differ from itself
    Combine.BACKENDS: Reason.BACKENDS_DIFFER,
    Combine.GATEWAYS: Reason.GATEWAYS_DIFFER,
    Combine.SOURCES: Reason.SOURCE_TRANSLATED,
}


def combine(parts: Sequence[Decision], how: Combine) -> Decision:
    """Return what alternatives agree on; `inconclusive` with the stopping blame when they differ.

    Unproven alternatives leave the whole unproven, and so do none at all. Of passes the weaker
    claim is kept (`exits` over `reachable`), of stops the one with a policy to name (`blocked`
    over `unroutable`).
    """
    if not parts:
        return _NOWHERE
    verdicts = {part.verdict for part in parts}
    kept = min(parts, key=_precedence)
    if kept.verdict in UNPROVEN or verdicts <= STOPPED:
        return kept
    if verdicts <= PASSES:
        all_backends = how is Combine.BACKENDS and kept.verdict is Verdict.REACHABLE
        return replace(kept, reason=Reason.ALL_BACKENDS) if all_backends else kept
    stopping = next(part for part in parts if part.verdict in STOPPED)
    return Decision(
        verdict=Verdict.INCONCLUSIVE,
        reason=_DIFFER[how],
        blame=stopping.blame,
        trace=stopping.trace,
    )


def _precedence(part: Decision) -> int:
    return KEPT_FIRST.index(part.verdict)


CELLS_AT_A_TIME = 1 << 22
NOT_TRACEABLE = ""
"""The key of no trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Which requests decide which cells, and with which replies.

    `cells` were traced, and `request` indexes `keys` for each of them; `settled` is by cell of the
    matrix: for the others, the reason's code. `replies` lists, for a request's key, the first
    trace of each reply; NOT_TRACEABLE stands for one that no trace can follow.
    """

    keys: Sequence[str]
    cells: NDArray[np.int64]
    request: NDArray[np.int32]
    settled: NDArray[np.uint8]
    replies: Mapping[str, Sequence[str]]


def cells(requests: Requests, judgements: Mapping[str, Judgement]) -> CellVerdicts:
    """Return the verdicts of every cell: decisions per request, then taken by array."""
    decided = Decisions(judgements)
    decisions = [decided.of(key) for key in requests.keys]
    blames: dict[Blame, int] = {}
    blame_of = [
        -1 if d.blame is None else blames.setdefault(d.blame, len(blames)) for d in decisions
    ]
    replies = [
        _reply(requests.replies.get(key, ()), decided, decision)
        for key, decision in zip(requests.keys, decisions, strict=True)
    ]
    settled_verdict = np.array([CODE[verdict_of(reason)] for reason in Reason], dtype=np.uint8)
    count = len(requests.settled)
    trace = np.full(count, -1, dtype=np.int32)
    trace[requests.cells] = requests.request
    verdict, reply, reason = np.empty((3, count), dtype=np.uint8)
    blame = np.empty(count, dtype=np.int32)
    # One more entry, the last: what a cell without a request (-1) is given.
    verdicts = np.array([*(CODE[d.verdict] for d in decisions), 0], dtype=np.uint8)
    answers = np.array([*replies, NO_VERDICT], dtype=np.uint8)
    reasons = np.array([*(REASON_CODE[d.reason] for d in decisions), 0], dtype=np.uint8)
    accused = np.array([*blame_of, -1], dtype=np.int32)
    for start in range(0, count, CELLS_AT_A_TIME):
        some = slice(start, start + CELLS_AT_A_TIME)
        pick, settled = trace[some], requests.settled[some]
        traced = pick >= 0
        verdict[some] = np.where(traced, verdicts[pick], settled_verdict[settled])
        reply[some] = answers[pick]
        reason[some] = np.where(traced, reasons[pick], settled)
        blame[some] = accused[pick]
    return CellVerdicts(
        verdict=verdict,
        reply=reply,
        reason=reason,
        blame=blame,
        trace=trace,
        blames=tuple(blames),
        trace_keys=tuple(requests.keys),
    )


def verdict_of(reason: Reason) -> Verdict:
    """Return the verdict of a cell that was settled without a trace.

    That nothing is behind a name is known without one; all else that was not traced is unproven.
    """
    no_endpoints = reason is Reason.SERVICE_WITHOUT_ENDPOINTS
    return Verdict.UNROUTABLE if no_endpoints else Verdict.UNTRACED


def _reply(keys: Sequence[str], decided: Decisions, request: Decision) -> int:
    """Return the reply's verdict code; there is none to a packet that never arrived."""
    if request.verdict not in PASSES:
        return NO_VERDICT
    # The reply to a packet that left comes back through the underlay, which is not traced.
    parts = [decided.of(key) for key in keys or (NOT_TRACEABLE,)]
    return CODE[combine(parts, Combine.BACKENDS).verdict]
