"""Traces of some cells → outcomes of legs → verdicts of all cells. Pure; by array per cell.

A trace of a cell shows more than the cell: it shows what the egress leg does, and if the packet
got that far, the way between and the ingress leg. Every leg's outcome comes from real traces; two
that contradict each other make the leg `inconclusive`, and every cell that needs it. A trace that
met what its engine is blind to is contradicted by nothing: any other outweighs it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.model.blindness import BLIND_REASONS
from audit.model.endpoints import Endpoint
from audit.model.findings import Disagreement
from audit.model.legs import NO_WAY, STOP, CellLegs, LegPlan
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.owners import words
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    PASSES,
    REASON_CODE,
    STOPPED,
    UNPROVEN,
    Blame,
    Reason,
    Verdict,
)
from audit.verdict.compose import Decision, decide
from audit.verdict.judge import Combine, Judgement

UNKNOWN = -1
"""No trace has shown a leg's outcome."""


class Part(StrEnum):
    """The parts a cell's way is made of, in the packet's order."""

    EGRESS = "egress"
    TRANSIT = "transit"
    ARRIVAL = "arrival"
    """By the router's port, through the ingress pipeline of the destination's switch."""
    INGRESS = "ingress"

    def before(self, other: "Part") -> bool:
        """Say whether a packet comes through this part before `other`."""
        return _ORDER[self] < _ORDER[other]


_ORDER = {part: index for index, part in enumerate(Part)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one trace shows of each part; None where the packet did not get there."""

    egress: Decision | None
    transit: Decision | None
    arrival: Decision | None
    ingress: Decision | None
    whole: Decision | None = None
    """What became of the packet, which is all that there is to say of another that is the same."""
    outward: bool = False
    """The egress leg ended in its switch's egress pipeline, at the router's port: what stays on the
    switch does not come there."""


def shown(
    key: str,
    judgements: Mapping[str, Judgement],
    src: Endpoint,
    dst: Endpoint,
    *,
    reply: bool = False,
    routed: bool = False,
    common: bool = False,
) -> Shown:
    """Return what the trace `key` from `src` to `dst` shows, of a request or of a `reply`.

    One that is `routed` was sent to its switch's router though its receiver may be beside it. The
    way is `common` where it leads to several zones that are alike to the sender's.

    A packet that is no longer the same on its way, or takes several, shows of the way between only
    that no other cell's trace speaks for it: each such cell needs its own. So does one that is
    on its way to another's port or address, whose flows it met, and a request to a node's own
    address that went through another zone: nodes share a way as the sender's zone names none of
    them. So does one on a common way that went through a third zone, as its ends' alone are alike,
    and one that a router sent back to its sender's switch, where something decided about it. From
    the part on where its engine was blind, a trace shows nothing but that.
    """
    path = list(_path(key, judgements))
    if not path:
        return _NOTHING
    decision = replace(decide(key, judgements), trace=key)
    beside = _switch(src) == _switch(dst) and not dst.host_network
    ends = _Ends(src, dst, returns=routed and beside)
    to_node = dst.host_network and not reply
    zones = {path[0].zone, *(() if to_node else _switch(dst)[:1])}
    strays = (common or to_node) and any(judgement.zone not in zones for judgement in path)
    return replace(_parts(path, decision, ends, strays=strays), whole=decision)


class _Ends(NamedTuple):
    """Who a packet is from and for. It `returns` to its sender's switch when all is well."""

    src: Endpoint
    dst: Endpoint
    returns: bool


def _parts(path: Sequence[Judgement], decision: Decision, ends: _Ends, *, strays: bool) -> Shown:
    """Return what the decision about a packet shows of the parts of its way.

    It `strays` where it came through a zone of which those who share its way do not know.
    """
    key = decision.trace
    stopped = _stopped(path[-1], decision, ends)
    allowed = _allowed(path, ends)
    astray = _astray(path, ends, stopped=decision.verdict in STOPPED)
    sent_back = not ends.returns and _decided_back(path, decision, ends.src)
    alone = (
        astray
        or sent_back
        or strays
        or _changed(path, decision, stopped)
        or _singular(path[-1], stopped)
    )
    if alone:
        left = not astray or stopped is not Part.EGRESS
        egress = _passed(allowed.get(Part.EGRESS), key) if left else None
        beside = (astray or sent_back) and _switch(ends.src) == _switch(ends.dst)
        return _alone(key, egress, beside=beside)
    if decision.verdict in UNPROVEN and not (_blind(decision) or _left(decision)):
        return _NOTHING
    return _along(path, decision, stopped, allowed)


def _alone(key: str, egress: Decision | None, *, beside: bool) -> Shown:
    """Return that no other cell's trace speaks for a way, or for an egress leg that is not shown.

    Where both ends are on one switch there is no way between that could say so: the ingress leg
    does.
    """
    alone = _unspoken(key)
    return Shown(
        egress=egress or alone,
        transit=alone,
        arrival=None,
        ingress=alone if beside else None,
    )


def _unspoken(key: str) -> Decision:
    """Return what a trace shows of a leg of which it speaks for its own cell only."""
    return Decision(verdict=Verdict.UNTRACED, reason=Reason.LEG_NOT_SHOWN, trace=key)


def _allowed(path: Sequence[Judgement], ends: _Ends) -> dict[Part, Blame]:
    """Return the ACL that let a packet through each part of its way; the last of several."""
    return {
        _part((judgement.zone, allowed.datapath), allowed.blame.stage, allowed.entered, ends): (
            allowed.blame
        )
        for judgement in path
        for allowed in judgement.allows
    }


def _along(
    path: Sequence[Judgement], decision: Decision, stopped: Part, allowed: Mapping[Part, Blame]
) -> Shown:
    """Return what a packet shows that went its way to the end, or was stopped in a part of it."""
    last, key = _ENDS_IN.get(decision.verdict, stopped), decision.trace
    parts = {part: _passed(allowed.get(part), key) for part in Part if part.before(last)}
    parts[last] = _ended(decision, allowed.get(last))
    return Shown(
        egress=parts.get(Part.EGRESS),
        transit=parts.get(Part.TRANSIT),
        arrival=parts.get(Part.ARRIVAL),
        ingress=parts.get(Part.INGRESS),
        outward=last is Part.EGRESS and path[-1].stage.startswith("ls_out_"),
    )


_NOTHING = Shown(egress=None, transit=None, arrival=None, ingress=None)
_ENDS_IN = {Verdict.REACHABLE: Part.INGRESS, Verdict.EXITS: Part.TRANSIT}
"""The part in which a packet that passes ends its way."""


def _changed(path: Sequence[Judgement], decision: Decision, stopped: Part) -> bool:
    """Say whether what came to the destination's switch is not what was sent.

    Then its policies about the source's address are others, and its reply takes a way of its own.
    """
    came = decision.verdict is Verdict.REACHABLE or stopped is Part.INGRESS
    return came and any(judgement.translated for judgement in path)


def _stopped(last: Judgement, decision: Decision, ends: _Ends) -> Part:
    """Return the part of its way in which a packet ended."""
    part = _part((last.zone, last.datapath), last.stage, last.entered, ends)
    if part is Part.INGRESS and last.stage.startswith("ls_in_") and not ends.dst.host_network:
        of_acl = decision.blame is not None and decision.blame.acl
        if decision.verdict in STOPPED and not of_acl:
            return Part.ARRIVAL  # a flow of an ACL stage that no ACL explains
    return part


def _singular(last: Judgement, part: Part) -> bool:
    """Say whether a way is one packet's only: it forks, or is not known, past the egress leg."""
    return last.reason in _ONLY_THIS or (bool(last.next_hops) and part is not Part.EGRESS)


def _astray(path: Sequence[Judgement], ends: _Ends, *, stopped: bool) -> bool:
    """Say whether a packet ended on its way to another's address or port.

    The port is any other of the destination's switch, and a pod's or a host's where it was stopped
    on another. Whatever did so is no flow that packets to the destination's own port meet.
    """
    if any(judgement.redirected for judgement in path):
        return True
    attached, last = ends.dst.attachment, path[-1]
    if attached is None or last.outport in ("", attached.port):
        return False
    at = (last.zone, last.datapath)
    at_home = not ends.dst.host_network and at == _switch(ends.dst)
    at_home = at_home and (not ends.returns or _is_back(at, last.entered, ends.src))
    return at_home or (stopped and last.to_workload)


_ONLY_THIS = frozenset({Reason.WAY_IN_UNKNOWN, Reason.SOURCE_TRANSLATED})
"""Why what left its node is not followed as it is."""


def _ended(decision: Decision, allowed: Blame | None) -> Decision:
    """Return what a trace shows of the part that its packet came to last."""
    match decision.verdict:
        case Verdict.REACHABLE:
            return _passed(allowed, decision.trace)
        case Verdict.EXITS:
            return replace(decision, blame=allowed)
        case _:
            return decision


def _passed(blame: Blame | None, key: str) -> Decision:
    reason = Reason.ALLOWED_BY_ACL if blame is not None else Reason.DELIVERED
    return Decision(verdict=Verdict.REACHABLE, reason=reason, blame=blame, trace=key)


def _path(key: str, judgements: Mapping[str, Judgement]) -> Iterator[Judgement]:
    """Yield the judgements along a way that does not branch."""
    judgement = judgements.get(key)
    while judgement is not None:
        yield judgement
        onward = judgement.next_hops
        follows = judgement.combine is Combine.FOLLOW and len(onward) == 1
        judgement = judgements.get(onward[0].key) if follows else None


_OF_ACLS = re.compile(r"ls_in_acl(_after_lb)?(_eval|_action)?")


def _part(datapath: tuple[str, str], stage: str, entered: str, ends: _Ends) -> Part:
    """Return which part of the way a stage of a zone's datapath belongs to, `entered` by a port.

    On one switch the packet passes the ingress pipeline for its source and the egress pipeline
    for its destination; on two, each switch is its own endpoint's, and what is not an ACL's in the
    ingress pipeline of the destination's is of packets that come there by the router. A node's own
    address is on no switch, so the way to it leaves the source's by the router, even on that node.
    Of a switch that all zones have a part of, each zone's part is a switch here. What a router
    sent back to the source's has left it: that is no part of the egress leg.
    """
    source, destination = _switch(ends.src), _switch(ends.dst)
    apart = source != destination or ends.dst.host_network or ends.returns
    back = _is_back(datapath, entered, ends.src)
    if datapath == source and not back and (apart or stage.startswith("ls_in_")):
        return Part.EGRESS
    if datapath == destination and stage.startswith("ls_in_") and not ends.dst.host_network:
        return Part.INGRESS if _OF_ACLS.fullmatch(stage) else Part.ARRIVAL
    return Part.INGRESS if datapath == destination else Part.TRANSIT


def _decided_back(path: Sequence[Judgement], decision: Decision, src: Endpoint) -> bool:
    """Say whether something decided about a packet that had come back to its sender's switch.

    That may be its sender's own, which others that share its way do not meet.
    """
    last = path[-1]
    stopped = decision.verdict in STOPPED
    return (stopped and _is_back((last.zone, last.datapath), last.entered, src)) or any(
        _is_back((judgement.zone, allowed.datapath), allowed.entered, src)
        for judgement in path
        for allowed in judgement.allows
    )


def _is_back(datapath: tuple[str, str], entered: str, src: Endpoint) -> bool:
    """Say whether a packet that entered its sender's switch by this port had left it before."""
    own = src.attachment.port if src.attachment is not None else ""
    return datapath == _switch(src) and entered not in ("", own)


def _switch(end: Endpoint) -> tuple[str, str]:
    """Return the zone and switch an endpoint is on, both empty where it is on none."""
    attached = end.attachment
    return ("", "") if attached is None else (attached.zone, attached.switch)


class _Decisions(list[Decision]):
    """What traces showed, in the order in which they did."""

    def __init__(self) -> None:
        super().__init__()
        self._codes = np.zeros(0, dtype=np.uint8)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """The codes of their verdicts; asked for between any two, so only new ones are added."""
        fresh = [CODE[decision.verdict] for decision in self[len(self._codes) :]]
        if fresh:
            self._codes = np.concatenate([self._codes, np.array(fresh, dtype=np.uint8)])
        return self._codes


@dataclass(slots=True)
class _Outcomes:
    """The outcomes of one part's legs: by leg id, an index into `decisions`."""

    legs: NDArray[np.int32]
    decisions: _Decisions

    def learn(self, leg: int, decision: Decision) -> None:
        """Note what a trace shows of a leg; a contradiction leaves the leg undecided."""
        current = int(self.legs[leg])
        if current == UNKNOWN or decision.verdict is Verdict.UNTRACED:
            self.legs[leg] = self._number(decision)
        elif self.decisions[current].verdict is Verdict.UNTRACED:
            pass  # what no trace speaks for stays so
        elif _blind(self.decisions[current]):
            # Where a tracer was blind another may not be: then its trace shows the leg.
            self.legs[leg] = self._number(decision)
        elif not _blind(decision) and not same(self.decisions[current], decision):
            doubt = Decision(
                verdict=Verdict.INCONCLUSIVE,
                reason=Reason.LEGS_DISAGREE,
                blame=None,
                trace=decision.trace,
            )
            self.legs[leg] = self._number(doubt)

    def _number(self, decision: Decision) -> int:
        self.decisions.append(decision)
        return len(self.decisions) - 1


def _blind(decision: Decision) -> bool:
    return decision.reason in BLIND_REASONS


def _left(decision: Decision) -> bool:
    """Say whether a packet left its network for another: all of its way there is was seen."""
    return decision.reason is Reason.LEFT_NETWORK


def same(first: Decision, second: Decision) -> bool:
    """Say whether two traces show the same: the verdict, and who is to blame."""
    return essence(first) == essence(second)


def essence(decision: Decision) -> tuple[object, ...]:
    """Return what matters of what a trace shows: the verdict, and who is to blame."""
    blame = decision.blame
    accused = () if blame is None else (blame.policy, blame.direction, blame.rule)
    return (decision.verdict, *accused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many legs were predicted as they were traced, and a sentence for each that was not."""

    agree: int
    of: int
    disagreements: tuple[Disagreement, ...]


class LegResults:
    """What is known of a family's legs; grows with each trace, and composes cells at any time."""

    def __init__(self, plan: LegPlan, *, requests: "LegResults | None" = None) -> None:
        """With `requests`, these are of the replies to them, which share the ways between."""
        self.plan = plan
        self._replies = requests is not None
        self._decisions = _Decisions()
        egress, transit, ingress = plan.reply_counts
        if requests is None:
            egress, ingress = len(plan.egress), len(plan.ingress)
        else:
            self._decisions = requests._decisions  # noqa: SLF001 - of this class
        self._parts = {
            # Of each leg what stays on the switch, then what leaves it.
            Part.EGRESS: self._outcomes(2 * egress),
            Part.TRANSIT: self._outcomes(transit),
            Part.ARRIVAL: self._outcomes(plan.arrival_count),
            Part.INGRESS: self._outcomes(ingress),
        }
        if requests is not None:
            # Replies' transit legs begin with those of requests: both learn in one array.
            self._parts[Part.TRANSIT] = requests._parts[Part.TRANSIT]  # noqa: SLF001 - as above

    def _outcomes(self, count: int) -> _Outcomes:
        return _Outcomes(np.full(max(count, 1), UNKNOWN, dtype=np.int32), self._decisions)

    def legs(self, matrix: Matrix, cells: NDArray[np.int64]) -> CellLegs:
        """Return the legs of these cells, or of the replies to them."""
        return (self.plan.replies if self._replies else self.plan.of)(matrix, cells)

    def learn_from(
        self,
        matrix: Matrix,
        cells: NDArray[np.int64],
        keys: Sequence[str],
        judgements: Mapping[str, Judgement],
    ) -> None:
        """Note what the traces `keys` of these cells, or of the replies to them, show."""
        legs = self.legs(matrix, cells)
        ends = (matrix.dst, matrix.src) if self._replies else (matrix.src, matrix.dst)
        for index, (cell, key) in enumerate(zip(cells.tolist(), keys, strict=True)):
            src, dst = (matrix.endpoints[end[cell]] for end in ends)
            common = self.plan.is_common(int(legs.transit[index]))
            trace = shown(key, judgements, src, dst, reply=self._replies, common=common)
            self.learn(legs, index, trace)

    def learn(self, legs: CellLegs, index: int, trace: Shown) -> None:
        """Note what the trace of the cell with this index in `legs` shows of its legs."""
        egress, ingress = int(legs.egress[index]), int(legs.ingress[index])
        transit, arrival = int(legs.transit[index]), int(legs.arrival[index])
        alone = bool(legs.alone[index])
        if trace.egress is not None and not (alone and trace.egress.verdict is Verdict.UNTRACED):
            for leaving in self._egress_of(trace, leaves=transit >= 0):
                self._parts[Part.EGRESS].learn(egress + leaving * self._egress_count, trace.egress)
        if alone:
            self._learn_alone(transit, trace)
            return
        if trace.transit is not None and transit >= 0:
            led = legs.unjoined[index] and trace.transit.verdict in PASSES
            # Whither a way leads that should lead nowhere, each cell's own trace has to say.
            between = _unspoken(trace.transit.trace) if led else trace.transit
            self._parts[Part.TRANSIT].learn(transit, between)
        if trace.arrival is not None and arrival >= 0:
            self._parts[Part.ARRIVAL].learn(arrival, trace.arrival)
        if trace.ingress is not None:
            self._parts[Part.INGRESS].learn(ingress, trace.ingress)

    def _learn_alone(self, transit: int, trace: Shown) -> None:
        """Note what became of a packet that is the same for all cells of a way.

        Delivered to whom it is for, it shows nothing of the others that it may be for.
        """
        if trace.whole is not None and trace.whole.verdict is not Verdict.UNTRACED:
            arrived = trace.whole.verdict in PASSES
            whole = _unspoken(trace.whole.trace) if arrived else trace.whole
            self._parts[Part.TRANSIT].learn(transit, whole)

    def _egress_of(self, trace: Shown, *, leaves: bool) -> tuple[bool, ...]:
        """Return of which packets a trace shows the egress leg: of those that leave the switch.

        These come through the switch's egress pipeline besides, to the router's port: what got past
        the ingress pipeline on its way to a pod there says nothing of that.
        """
        stays = trace.egress is not None and trace.egress.verdict in PASSES and not leaves
        if trace.outward or stays:
            return (leaves,)
        return (False, True)

    def outcome(self, legs: CellLegs) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return for each cell the deciding outcome's index, and the egress leg's.

        UNKNOWN where a leg the packet would come to was not shown by any trace.
        """
        # UNKNOWN picks the last of them, whatever that is: nothing goes on from what is not known.
        verdicts = self._decisions.codes if self._decisions else np.zeros(1, dtype=np.uint8)
        goes_on = CODE[Verdict.REACHABLE]
        egress = decided = self._parts[Part.EGRESS].legs[self._sent_by(legs)]
        ways = ((Part.TRANSIT, legs.transit), (Part.ARRIVAL, legs.arrival))
        for part, ids in (*ways, (Part.INGRESS, legs.ingress)):
            # Where there is no such leg, what decided before still does.
            on = (decided >= 0) & (verdicts[decided] == goes_on) & (ids >= 0)
            decided = np.where(on, self._parts[part].legs[ids], decided)
        decided = np.where(legs.alone, self._parts[Part.TRANSIT].legs[legs.transit], decided)
        return decided.astype(np.int32), egress

    @property
    def _egress_count(self) -> int:
        return len(self._parts[Part.EGRESS].legs) // 2

    def _sent_by(self, legs: CellLegs) -> NDArray[np.int64]:
        """Return where the outcomes of cells' egress legs are."""
        return legs.egress + (legs.transit >= 0) * self._egress_count

    def ids(self, legs: CellLegs) -> dict[Part, NDArray[np.int64]]:
        """Return, by part, a number for what a trace has to show of each cell."""
        return {
            Part.EGRESS: np.where(legs.alone, NO_WAY, self._sent_by(legs)),
            Part.TRANSIT: legs.transit,
            Part.ARRIVAL: legs.arrival,
            Part.INGRESS: np.where(legs.unjoined, NO_WAY, legs.ingress),
        }

    def unshown(self, legs: CellLegs) -> dict[Part, NDArray[np.int64]]:
        """Return, by part, the same numbers of what no trace has shown yet; NO_WAY for the rest."""
        return {
            part: np.where((ids >= 0) & (self._parts[part].legs[ids] == UNKNOWN), ids, NO_WAY)
            for part, ids in self.ids(legs).items()
        }

    def decision(self, matrix: Matrix, cell: int) -> Decision:
        """Return the composed decision of one cell."""
        legs = self.legs(matrix, np.array([cell], dtype=np.int64))
        decided, egress = self.outcome(legs)
        return self.made_of(int(decided[0]), int(self.between(legs)[0]), int(egress[0]))

    def made_of(self, decided: int, between: int, egress: int) -> Decision:
        """Return the decision that these outcomes make: the deciding one, and earlier ones."""
        if decided == UNKNOWN:
            return Decision(verdict=Verdict.UNTRACED, reason=Reason.LEG_NOT_SHOWN)
        decision = self._decisions[decided]
        if decision.verdict in PASSES and decision.blame is None:
            earlier = (self._decisions[outcome] for outcome in (between, egress) if outcome >= 0)
            return replace(decision, blame=next((d.blame for d in earlier if d.blame), None))
        return decision

    def between(self, legs: CellLegs) -> NDArray[np.int32]:
        """Return for each cell the outcome's index of its way between switches, below 0 if none."""
        outcomes = self._parts[Part.TRANSIT].legs[legs.transit]
        return np.where(legs.transit >= 0, outcomes, np.int32(UNKNOWN)).astype(np.int32)

    def sent(self, matrix: Matrix, cell: int) -> bool | None:
        """Say whether one cell's packet gets past its egress leg; None where that is not known."""
        _, egress = self.outcome(self.legs(matrix, np.array([cell], dtype=np.int64)))
        verdict = None if egress[0] == UNKNOWN else self._decisions[egress[0]].verdict
        return None if verdict in (None, Verdict.INCONCLUSIVE) else verdict in PASSES

    def arrives(self, legs: CellLegs) -> NDArray[np.bool_]:
        """Return which cells' packets are known to get to their destination."""
        decided, _ = self.outcome(legs)
        reached = self._decisions.codes == CODE[Verdict.REACHABLE]
        return np.append(reached, np.False_)[decided]

    def keep(self, decision: Decision) -> int:
        """Keep a decision that is of no leg; return the index that names it."""
        self._decisions.append(decision)
        return len(self._decisions) - 1

    @property
    def decisions(self) -> Sequence[Decision]:
        """The outcomes that indices name."""
        return self._decisions

    def compare(self) -> Compared:
        """Compare the legs that traces decided with what the planner predicts of them."""
        agree = of = 0
        wrong: list[Disagreement] = []
        for part, table in ((Part.EGRESS, self.plan.egress), (Part.INGRESS, self.plan.ingress)):
            for leg, decision in self._decided(part, len(table)):
                of += 1
                stops = table.predicted[leg] == STOP
                expected = self.plan.deciders[table.decider[leg]] if stops else ""
                traced = _decider(decision)
                tied = leg >= len(table.zonal)  # OVN took one of several that stop it alike
                if expected == traced or (tied and expected and traced):
                    agree += 1
                    continue
                answers = (f"predicted {_outcome(expected)}", f"traced {_outcome(traced)}")
                text = f"trace {decision.trace}, {part} leg: {', '.join(answers)}"
                wrong.append(Disagreement(text=text, about=(str(part), *answers)))
        return Compared(agree=agree, of=of, disagreements=tuple(wrong))

    def _decided(self, part: Part, count: int) -> Iterator[tuple[int, Decision]]:
        """Yield what traces showed of each of the `count` legs of a part, where ACLs decide it.

        Once, also where it was shown of an egress leg wherever its packets go.
        """
        legs = self._parts[part].legs
        rows = np.flatnonzero(legs != UNKNOWN).tolist()
        for leg, decision in dict.fromkeys(
            (row % count, self._decisions[legs[row]]) for row in rows
        ):
            if decision.verdict is Verdict.BLOCKED or decision.verdict in PASSES:
                yield leg, decision


def _decider(decision: Decision) -> str:
    """Return the owner of the ACL that a packet was blocked by, empty where it passed."""
    if decision.verdict is not Verdict.BLOCKED:
        return ""
    return decision.blame.owner if decision.blame else "an unnamed ACL"


def _outcome(decider: str) -> str:
    return f"blocked by {words(decider)}" if decider else "passing"


def unknown(results: Sequence[LegResults], matrix: Matrix) -> NDArray[np.int64]:
    """Return a cell for each leg that no trace has shown and that some cell needs."""
    missing = _Missing()
    for result in results:
        for legs in result.plan.walk(matrix):
            missing.note(result, legs)
    return missing.cells()


def unknown_replies(
    replies: Sequence[LegResults], requests: Sequence[LegResults], matrix: Matrix
) -> NDArray[np.int64]:
    """Return a cell that arrives for each leg of a reply that no trace has shown."""
    missing = _Missing()
    for reply, request in zip(replies, requests, strict=True):
        for legs in request.plan.walk(matrix):
            arrived = legs.cells[request.arrives(legs)]
            arrived = arrived[request.plan.answers(matrix, arrived)]
            missing.note(reply, reply.legs(matrix, arrived))
    return missing.cells()


class _Missing:
    """A cell for each leg that is not known; the first that needs it."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, Part, int], int] = {}

    def note(self, results: LegResults, legs: CellLegs) -> None:
        """Look for cells among these that need what is not known."""
        decided, _ = results.outcome(legs)
        missing = np.flatnonzero(decided == UNKNOWN)
        if not missing.size:
            return
        for part, ids in results.ids(legs).items():
            needed = missing[ids[missing] >= 0]
            legs_, first = np.unique(ids[needed], return_index=True)
            for leg, cell in zip(legs_.tolist(), legs.cells[needed[first]].tolist(), strict=True):
                self._cells.setdefault((id(results.plan), part, leg), cell)

    def cells(self) -> NDArray[np.int64]:
        """Return the cells, sorted."""
        return np.unique(np.array(list(self._cells.values()), dtype=np.int64))


def compose(
    matrix: Matrix,
    traced: CellVerdicts,
    requests: Sequence[LegResults],
    replies: Sequence[LegResults],
) -> CellVerdicts:
    """Return the verdicts of all cells: traced ones as they are, composed ones by their legs.

    The arrays of `traced` are filled in place: there may be hundreds of millions of cells.
    """
    blames = {blame: index for index, blame in enumerate(traced.blames)}
    keys = {key: index for index, key in enumerate(traced.trace_keys)}
    for request, reply in zip(requests, replies, strict=True):
        table = _Table(request.decisions, blames, keys)
        answers = _Table(reply.decisions, {}, {})
        for legs in request.plan.walk(matrix):
            _fill(traced, request, legs, table)
            cells = legs.cells
            arrived = cells[traced.verdict[cells] == CODE[Verdict.REACHABLE]]
            traced.reply[cells] = NO_VERDICT
            left = traced.verdict[cells] == CODE[Verdict.EXITS]
            traced.reply[cells[left]] = CODE[Verdict.UNTRACED]
            traced.reply[arrived] = CODE[Verdict.UNTRACED]
            arrived = arrived[request.plan.answers(matrix, arrived)]
            back, _ = reply.outcome(reply.legs(matrix, arrived))
            traced.reply[arrived] = answers.verdict[back]
    return replace(traced, blames=tuple(blames))


def _fill(traced: CellVerdicts, results: LegResults, legs: CellLegs, table: "_Table") -> None:
    """Write the verdicts of those of these cells that have no trace of their own."""
    decided, egress = results.outcome(legs)
    fresh = traced.trace[legs.cells] < 0
    at, decided, egress = legs.cells[fresh], decided[fresh], egress[fresh]
    traced.verdict[at] = table.verdict[decided]
    # What let the packet through last stands where nothing had to let it in.
    blame, passes = table.blame[decided], table.passes[decided]
    for earlier in (results.between(legs)[fresh], egress):
        allowed = np.where(earlier >= 0, table.blame[earlier], np.int32(-1))
        blame = np.where(passes & (blame < 0), allowed, blame)
    arrived = table.verdict[decided] == CODE[Verdict.REACHABLE]
    traced.blame[at] = blame
    traced.reason[at] = np.where(
        arrived & (blame >= 0), REASON_CODE[Reason.ALLOWED_BY_ACL], table.reason[decided]
    )
    traced.trace[at] = table.trace[decided]


def predicted(matrix: Matrix, plans: Sequence[LegPlan]) -> NDArray[np.uint8]:
    """Return the predicted verdict's code of every cell, NO_VERDICT where there is none.

    What no ACL stops on its way to another node's own address leaves by the gateway.
    """
    codes = np.full(len(matrix), NO_VERDICT, dtype=np.uint8)
    for plan in plans:
        for legs in plan.walk(matrix):
            egress, ingress = plan.predicted(legs)
            leaves = plan.leaves(matrix, legs.cells)
            passes = np.where(leaves, CODE[Verdict.EXITS], CODE[Verdict.REACHABLE])
            passes = np.where(legs.unjoined, CODE[Verdict.INCONCLUSIVE], passes)
            ingress |= legs.unjoined
            codes[legs.cells] = np.where(egress & ingress, passes, CODE[Verdict.BLOCKED])
    return codes


class _Table:
    """Decisions as arrays; the last row is what UNKNOWN (-1) picks."""

    def __init__(
        self, decisions: Sequence[Decision], blames: dict[Blame, int], keys: Mapping[str, int]
    ) -> None:
        unknown = Decision(
            verdict=Verdict.UNTRACED, reason=Reason.LEG_NOT_SHOWN, blame=None, trace=""
        )
        rows = [*decisions, unknown]
        self.verdict = np.array([CODE[row.verdict] for row in rows], dtype=np.uint8)
        self.reason = np.array([REASON_CODE[row.reason] for row in rows], dtype=np.uint8)
        self.passes = np.array([row.verdict in PASSES for row in rows])
        self.blame = np.array(
            [
                -1 if row.blame is None else blames.setdefault(row.blame, len(blames))
                for row in rows
            ],
            dtype=np.int32,
        )
        self.trace = np.array([keys.get(row.trace, -1) for row in rows], dtype=np.int32)
