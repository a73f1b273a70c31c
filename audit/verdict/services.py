"""Traces of some packets to Services → verdicts of all cells to them. Pure; by array per cell.

One trace of a group tells to which endpoints its load balancer sends all of it. What becomes of a
packet to an endpoint is composed of legs. A Service's verdict is what its endpoints agree on, as
that of a traced request is (`audit.verdict.compose`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint
from audit.model.legs import CellLegs
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix, located, members_of, passing, proven
from audit.model.packets import with_port
from audit.model.run import TO_ITSELF, endpoints_key
from audit.model.services import ServiceCells
from audit.model.tasks import key_of
from audit.model.traces import TraceTask
from audit.model.verdicts import (
    CODE,
    KEPT_FIRST,
    NO_VERDICT,
    PASSES,
    STOPPED,
    Reason,
    Verdict,
)
from audit.verdict.compose import Decision, Decisions, combine, decide
from audit.verdict.judge import Combine, Judgement
from audit.verdict.legs import UNKNOWN, LegResults, Part, same, shown
from audit.verdict.service_cells import Table, Wholes
from audit.verdict.service_outcomes import NOT_SHOWN, Known, Outcome, Outcomes, distinct
from audit.verdict.service_packets import PacketChoice, Pair, Receiver

_BALANCING = "ls_in_lb"
"""Begins the names of the stages in which a switch balances loads (ovn-northd(8))."""

_DRAWN_ITSELF = Decision(
    verdict=Verdict.INCONCLUSIVE, reason=Reason.HAIRPIN_NOT_TRANSLATED, trace=TO_ITSELF
)

_Sent = tuple[Receiver, ...] | Decision | None


class ServiceResults:
    """What is known of the cells to Services of one leg plan; grows with each trace."""

    def __init__(
        self, of: ServiceCells, matrix: Matrix, requests: LegResults, answers: LegResults
    ) -> None:
        """Begin with what is known of a plan's legs: `matrix` is the run's."""
        self.of = of
        self._matrix = matrix
        self._requests = requests
        self._answers = answers
        self._open = np.ones(len(of.cells), dtype=np.bool_)
        """By place in `of.cells`: its own trace does not decide it."""
        self._sent: dict[int, _Sent] = {**of.sent}
        """By group: to whom it is sent, or what stops it; None where traces do not agree."""
        self._own: dict[int, int] = {}
        """By place, what becomes of a sender's packet to itself: an index into decisions."""
        self._drawn = UNKNOWN
        """The same of all senders that the load balancer draws among several endpoints."""
        self._shown_by: dict[int, str] = {}
        """By group, a trace of one of its packets."""
        self._known = Known.of(())
        self.forks: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        """By the key of a request that is no packet: its endpoints, and a trace for each.

        And by `endpoints_key`, without traces: the endpoints of Services that are sent to these
        whoever sends.
        """

    @property
    def composed(self) -> NDArray[np.int64]:
        """The cells that no trace of their own decides."""
        return self.of.cells[self._open]

    def among(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of these cells traces of others decide."""
        places = located(cells, self.of.cells)
        return cells[(places >= 0) & self._open[places]]

    def leave(self, cells: NDArray[np.int64]) -> None:
        """Let their own traces decide these cells."""
        places = located(cells, self.of.cells)
        self._open[places[places >= 0]] = False

    def learn(
        self, cells: NDArray[np.int64], keys: Sequence[str], judgements: Mapping[str, Judgement]
    ) -> None:
        """Note what the traces `keys` of these cells show: of their groups, and of legs."""
        places = np.searchsorted(self.of.cells, cells)
        for place, cell, key in zip(places.tolist(), cells.tolist(), keys, strict=True):
            group = int(self.of.group[place])
            src = int(self._matrix.src[cell])
            if all(end != src for end, _ in self.of.listed.get(group, ())):
                self._learn_sent(group, self._matrix.endpoints[src], key, judgements.get(key))
            for task, receiver in self.receivers(judgements.get(key)):
                self.learn_leg(cell, receiver, task.key, judgements)

    def _learn_sent(self, group: int, src: Endpoint, key: str, judgement: Judgement | None) -> None:
        """Note to whom a trace shows a group to be sent, by a sender that is none of these."""
        sent = self.of.sent.get(group) or self._sent_to(src, group, key, judgement)
        if not _agree(self._sent.setdefault(group, sent), sent):
            self._sent[group] = None
        self._shown_by.setdefault(group, key)

    def learn_leg(
        self, cell: int, receiver: Receiver, key: str, judgements: Mapping[str, Judgement]
    ) -> None:
        """Note what the trace of a packet to an endpoint behind a Service shows of its legs."""
        src, (end, port) = int(self._matrix.src[cell]), receiver
        if src == end:
            place = int(np.searchsorted(self.of.cells, cell))
            self._own[place] = self._requests.keep(decide(key, judgements))
            return
        if not self._have_legs(src, receiver):
            return
        ends = self.of.matrix.endpoints
        legs = self._to(np.array([src]), np.array([end]), np.array([port]))
        common = self._requests.plan.is_common(int(legs.transit[0]))
        trace = shown(key, judgements, ends[src], ends[end], routed=self.of.routed, common=common)
        self._requests.learn(legs, 0, trace)

    def _to(
        self, src: NDArray[np.int64], end: NDArray[np.int64], port: NDArray[np.int64]
    ) -> CellLegs:
        """Return the legs of packets to endpoints behind Services."""
        plan = self._requests.plan
        return plan.routed(src, end, port) if self.of.routed else plan.direct(src, end, port)

    def learn_reply(
        self, cell: int, receiver: Receiver, key: str, judgements: Mapping[str, Judgement]
    ) -> None:
        """Note what the trace of a reply of an endpoint behind a Service shows of its legs."""
        src, (end, _) = int(self._matrix.src[cell]), receiver
        if src == end:
            return
        ends = self.of.matrix.endpoints
        only = np.zeros(1, dtype=np.int64)
        legs = self._requests.plan.replies_to(only, np.array([src]), np.array([end]))
        common = self._requests.plan.is_common(int(legs.transit[0]))
        trace = shown(key, judgements, ends[end], ends[src], reply=True, common=common)
        self._answers.learn(legs, 0, trace)

    def _have_legs(self, src: int, receiver: Receiver) -> bool:
        end, port = receiver
        rules = self._requests.plan.composable
        return bool(rules.of(np.array([src]), np.array([end]), np.array([port]))[0])

    def receivers(self, judgement: Judgement | None) -> Iterator[tuple[TraceTask, Receiver]]:
        """Yield the packets that a traced Service sends to endpoints, and who these are."""
        if judgement is None or judgement.combine is not Combine.BACKENDS:
            return
        for task in judgement.next_hops:
            flow = task.microflow
            receiver = self.of.receiver(flow.ip_dst, flow.protocol, flow.dst_port)
            if receiver is not None and not task.draws:
                yield task, receiver

    def _sent_to(self, src: Endpoint, group: int, key: str, judgement: Judgement | None) -> _Sent:
        """Return what a trace tells of all packets of its group, alike up to the balancer.

        None where it tells nothing of them: the packet went on otherwise, or to one to which
        packets of the group are not known to have legs.
        """
        at = src.attachment
        if judgement is None or at is None:
            return None
        if judgement.reason is Reason.HOST_TO_SERVICE:
            return Decision(verdict=Verdict.INCONCLUSIVE, reason=judgement.reason, trace=key)
        here = (judgement.zone, judgement.datapath) == (at.zone, at.switch)
        if not here or not judgement.stage.startswith(_BALANCING):
            return None  # a stop after it may be of a policy that selects this sender
        if judgement.entered not in ("", at.port):
            return None
        if judgement.verdict in STOPPED:
            return Decision(
                verdict=judgement.verdict, reason=judgement.reason, blame=judgement.blame, trace=key
            )
        receivers = tuple(receiver for _, receiver in self.receivers(judgement))
        whole = judgement.combine is Combine.BACKENDS and bool(judgement.next_hops)
        if not whole or len(receivers) < len(judgement.next_hops):
            return None
        return receivers if self.of.listed[group].issuperset(receivers) else None

    def missing(self, untraced: NDArray[np.bool_]) -> list[Pair]:
        """Return a packet for each leg that no trace has shown and that some cell needs.

        `untraced` is by cell of the matrix. What a sender sends to itself shows no leg of others.
        """
        choice = PacketChoice()
        own: list[Pair] = []
        for some in self._outcomes(untraced):
            for column, receiver in enumerate(some.receivers):
                unknown = some.decided[:, column] == UNKNOWN
                itself = self._itself(some.at, receiver)
                own += [Pair(int(self.of.cells[at]), receiver) for at in some.at[unknown & itself]]
                at = some.at[unknown & ~itself]
                if at.size:
                    legs = self._routed(at, receiver)
                    ids = self._requests.unshown(legs)
                    predicted, _ = self._requests.plan.predicted(legs)
                    passes = predicted | (ids[Part.EGRESS] < 0)  # or its trace would decide
                    beside = self._requests.plan.beside(*self._ends(at, receiver))
                    choice.add(self.of.cells[at], receiver, ids, passes, beside)
        return [*own, *choice.pairs()]

    def _itself(self, at: NDArray[np.int64], receiver: Receiver) -> NDArray[np.bool_]:
        """Say of which of these cells, by place, a receiver is the sender."""
        itself: NDArray[np.bool_] = self._matrix.src[self.of.cells[at]] == receiver[0]
        return itself

    def sent_to(self, cell: int) -> int:
        """Return to how many endpoints the packets of a cell's group are sent."""
        group = int(self.of.group[np.searchsorted(self.of.cells, cell)])
        sent = self._sent.get(group)
        return len(sent) if isinstance(sent, tuple) else 0

    def _routed(self, at: NDArray[np.int64], receiver: Receiver) -> CellLegs:
        """Return the legs of the packets of these cells, by place, to a receiver."""
        src, end = self._ends(at, receiver)
        return self._to(src, end, np.full_like(end, receiver[1]))

    def _outcomes(self, untraced: NDArray[np.bool_]) -> Iterator[Outcomes]:
        """Yield what legs say of the open cells without a trace, by whom they are sent to."""
        for sent, at in self._by_sent(self._waiting(untraced)):
            if isinstance(sent, tuple):
                yield self._outcome(sent, at)

    def _waiting(self, untraced: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the places of the open cells without a trace."""
        return np.flatnonzero(self._open & untraced[self.of.cells])

    def _outcome(self, receivers: tuple[Receiver, ...], at: NDArray[np.int64]) -> Outcomes:
        """Return what legs say of the cells at these places, which are sent to these."""
        columns = []
        for receiver in receivers:
            legs = self._routed(at, receiver)
            decided, egress = self._requests.outcome(legs)
            outcome = np.stack([decided, self._requests.between(legs), egress])
            itself = np.flatnonzero(self._itself(at, receiver))
            outcome[:, itself] = UNKNOWN
            outcome[0, itself] = [
                self._to_itself(place, sole=len(receivers) == 1) for place in at[itself].tolist()
            ]
            columns.append(outcome)
        decided, between, egress = (np.stack(some, axis=1) for some in zip(*columns, strict=True))
        known = self._by_outcome()
        # Of what came before only whom it names matters, where the deciding one names nobody.
        between, egress = (
            np.where(known.silent[decided], known.blame[earlier], np.int32(UNKNOWN))
            for earlier in (between, egress)
        )
        return Outcomes(at=at, receivers=receivers, decided=decided, between=between, egress=egress)

    def _to_itself(self, place: int, *, sole: bool) -> int:
        """Return what becomes of a sender's packet to itself, as an index into decisions.

        Of one that the load balancer has drawn among several no trace is a proof
        (`audit.verdict.blindness`), so none is asked for.
        """
        if sole or place in self._own:
            return self._own.get(place, UNKNOWN)
        if self._drawn == UNKNOWN:
            self._drawn = self._requests.keep(_DRAWN_ITSELF)
        return self._drawn

    def _by_outcome(self) -> "Known":
        """Return what is known of each outcome; of requests and of replies there is one list."""
        if len(self._known.code) != len(self._requests.decisions) + 1:
            self._known = Known.of(self._requests.decisions)
        return self._known

    def _by_sent(
        self, at: NDArray[np.int64]
    ) -> Iterator[tuple[tuple[Receiver, ...] | Decision, NDArray[np.int64]]]:
        """Yield these places by whom their cells are sent to, or by what stops them."""
        numbers: dict[tuple[Receiver, ...] | Decision, int] = {}
        table = np.full(int(self.of.group.max(initial=-1)) + 1, UNKNOWN, dtype=np.int64)
        for group, sent in self._sent.items():
            if sent is not None:
                table[group] = numbers.setdefault(sent, len(numbers))
        number = table[self.of.group[at]]
        at, number = at[number >= 0], number[number >= 0]
        order = np.argsort(number, kind="stable")
        distinct, starts = np.unique(number[order], return_index=True)
        listed = list(numbers)
        parts = np.split(at[order], starts[1:]) if len(at) else []
        for which, part in zip(distinct.tolist(), parts, strict=True):
            yield listed[which], part

    def at(self, here: Sequence[bool]) -> NDArray[np.int64]:
        """Return the cells whose sender, or an endpoint they may be sent to, is somewhere.

        `here` is by endpoint.
        """
        there = np.array(here, dtype=np.bool_)
        sent = {
            group
            for group, receivers in self._sent.items()
            if isinstance(receivers, tuple) and any(there[end] for end, _ in receivers)
        }
        begins = there[self._matrix.src[self.of.cells]]
        return self.of.cells[self._open & (begins | np.isin(self.of.group, sorted(sent)))]

    def left_open(self, untraced: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the cells of which the traces of others do not tell what becomes."""
        waiting = self._waiting(untraced)
        told = np.zeros(len(self.of.cells), dtype=np.bool_)
        for sent, at in self._by_sent(waiting):
            told[at] = isinstance(sent, Decision) or self._told(self._outcome(sent, at))
        return self.of.cells[waiting[~told[waiting]]]

    def _told(self, some: Outcomes) -> NDArray[np.bool_]:
        """Say which cells' packets have legs to each endpoint, of which none leaves them open.

        One that a sender sends to itself, and that arrives, has a reply that no legs tell of.
        """
        known = self._by_outcome()
        told: NDArray[np.bool_] = np.all(~known.open[some.decided], axis=1)
        for column, (end, port) in enumerate(some.receivers):
            src, ends = self._ends(some.at, (end, port))
            have = self._requests.plan.composable.of(src, ends, np.full_like(ends, port))
            told &= np.where(src == end, ~passing(known.code[some.decided[:, column]]), have)
        return told

    def _each(self, row: Sequence[Outcome]) -> list[Decision]:
        """Return what becomes of the packet to each endpoint, by its outcomes."""
        return [self._requests.made_of(*outcome) for outcome in row]

    def decision(self, cell: int) -> Decision:
        """Return the composed decision of one cell."""
        at = located(np.array([cell], dtype=np.int64), self.of.cells)
        for sent, _ in self._by_sent(at):
            if isinstance(sent, Decision):
                return sent
            rows, _ = distinct(self._outcome(sent, at))
            return combine(self._each(rows[0]), Combine.BACKENDS)
        return NOT_SHOWN

    def unanswered(self, untraced: NDArray[np.bool_]) -> list[Pair]:
        """Return a packet that arrives for each leg of a reply that no trace has shown."""
        pairs: dict[tuple[Part, int], Pair] = {}
        for some in self._outcomes(untraced):
            for column, receiver in enumerate(some.receivers):
                rows, legs, back = self._back(some, column)
                missing = np.flatnonzero(back == UNKNOWN)
                ids = {part: of[missing] for part, of in self._answers.unshown(legs).items()}
                for leg, row in _each_leg(ids):
                    cell = int(self.of.cells[some.at[rows[missing[row]]]])
                    pairs.setdefault(leg, Pair(cell, receiver))
        return list(dict.fromkeys(pairs.values()))

    def _back(
        self, some: Outcomes, column: int
    ) -> tuple[NDArray[np.int64], CellLegs, NDArray[np.int32]]:
        """Return the rows whose packet to a receiver arrives, and their replies' legs.

        Without those whose replies have no legs; last what legs say, by index.
        """
        rows = np.flatnonzero(self._by_outcome().reached[some.decided[:, column]])
        src, end = self._ends(some.at[rows], some.receivers[column])
        answered = self._requests.plan.answered_by_legs(src, end) & (src != end)
        rows, src, end = rows[answered], src[answered], end[answered]
        legs = self._requests.plan.replies_to(rows, src, end)
        return rows, legs, self._answers.outcome(legs)[0]

    def _ends(
        self, at: NDArray[np.int64], receiver: Receiver
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        src = self._matrix.src[self.of.cells[at]].astype(np.int64)
        return src, np.full(len(at), receiver[0], dtype=np.int64)

    def _replies(self, some: Outcomes) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the verdicts of the replies to cells that pass: what all endpoints' agree on.

        And which of them the traces of others leave open.
        """
        codes = np.full(some.decided.shape, CODE[Verdict.UNTRACED], dtype=np.uint8)
        left = np.ones(some.decided.shape, dtype=np.bool_)
        known = self._by_outcome()
        for column in range(len(some.receivers)):
            rows, _, back = self._back(some, column)
            codes[rows, column], left[rows, column] = known.code[back], known.open[back]
        kept = np.take_along_axis(codes, np.argmin(_RANK[codes], axis=1)[:, None], axis=1)[:, 0]
        passes = passing(codes)
        differ = passes.any(axis=1) & ~passes.all(axis=1) & proven(kept)
        inconclusive = np.uint8(CODE[Verdict.INCONCLUSIVE])
        some_left: NDArray[np.bool_] = np.any(left, axis=1)
        return np.where(differ, inconclusive, kept), some_left

    def replies_left_open(self, untraced: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the cells that pass and of whose replies the traces of others do not tell."""
        left = [np.zeros(0, dtype=np.int64)]
        for some in self._outcomes(untraced):
            arrives = self._by_outcome().reached[some.decided].all(axis=1)
            left.append(self.of.cells[some.at[arrives & self._replies(some)[1]]])
        return np.concatenate(left)

    def fill(self, traced: CellVerdicts, decisions: Decisions) -> CellVerdicts:
        """Return the verdicts with those of the cells that have no trace of their own; in place.

        Where a traced request of its group came to the same at every endpoint, a cell names that
        trace. Where one trace tells what becomes of it at each endpoint, it names that. Else it
        names what `forks` then has: a request that is no packet, and a trace for each endpoint.
        """
        table = Table(traced)
        waiting = self._waiting(traced.trace < 0)
        table.write(self.of.cells[waiting], NOT_SHOWN)
        by_sent = list(self._by_sent(waiting))
        known = self._same_for_all(by_sent)
        wholes = Wholes(self._traced_wholes(table, decisions), self.of.group)
        for sent, at in by_sent:
            if isinstance(sent, Decision):
                table.write(self.of.cells[at], sent)
                table.reply[self.of.cells[at]] = NO_VERDICT
            else:
                alike, others = self._outcome(sent, at).parted()
                self._fill_alike(alike, known, table, wholes)
                self._fill(others, known, table, wholes)
        return table.done()

    def _traced_wholes(
        self, table: "Table", decisions: Decisions
    ) -> Iterator[tuple[int, int, list[Decision]]]:
        """Yield groups with the code of a traced request, and what it came to at each endpoint."""
        for group, key in self._shown_by.items():
            receivers = list(self.receivers(decisions.judgements.get(key)))
            if receivers:
                yield group, table.number(key), [decisions.of(task.key) for task, _ in receivers]

    def _same_for_all(
        self, by_sent: Sequence[tuple[tuple[Receiver, ...] | Decision, NDArray[np.int64]]]
    ) -> NDArray[np.bool_]:
        """Say by place whether its Service's packets are sent to the same, whoever sends.

        The endpoints of these Services are put into `forks`.
        """
        places, ports = len(self.of.cells), len(self._matrix.ports)
        number = np.full(places, UNKNOWN, dtype=np.int64)
        every: list[tuple[Receiver, ...]] = []
        for sent, at in by_sent:
            if not isinstance(sent, Decision):
                number[at] = len(every)
                every.append(sent)
        dst, port = self._matrix.dst[self.of.cells], self._matrix.port[self.of.cells]
        some = np.flatnonzero(number >= 0)
        keys = dst[some].astype(np.int64) * ports + port[some]
        services, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        differs = np.zeros(len(services), dtype=np.bool_)
        differs[inverse[number[some] != number[some][first][inverse]]] = True
        known = np.zeros(places, dtype=np.bool_)
        known[some] = ~differs[inverse]
        family = FAMILIES[self._requests.plan.family]
        for place in some[first[~differs]].tolist():
            service = self._matrix.endpoints[dst[place]].key
            key = endpoints_key(service, self._matrix.ports[port[place]], family)
            self.forks[key] = self._addresses(every[number[place]]), ()
        return known

    def _fill(
        self,
        some: Outcomes,
        known: NDArray[np.bool_],
        table: Table,
        wholes: Wholes,
    ) -> None:
        """Fill in cells that are sent to the same; `known` says by place if whoever sends is."""
        if not some.at.size:
            return
        replies, _ = self._replies(some)
        rows, inverse = distinct(some)
        for row, chosen in zip(rows, members_of(inverse), strict=True):
            each = self._each(row)
            made = combine(each, Combine.BACKENDS)
            at = some.at[chosen]
            cells = self.of.cells[at]
            trace = wholes.traces(self.of.group[at], wholes.kind(each))
            one = known[at] & (len({*row}) == 1)
            if made.trace:
                trace[(trace < 0) & one] = table.number(made.trace)
            if ((trace < 0) & ~one).any():
                trace[(trace < 0) & ~one] = table.number(self._fork(some.receivers, each))
            table.write(cells, replace(made, trace=""))
            table.trace[cells] = trace
            table.reply[cells] = replies[chosen] if made.verdict in PASSES else NO_VERDICT

    def _fill_alike(
        self,
        some: Outcomes,
        known: NDArray[np.bool_],
        table: Table,
        wholes: Wholes,
    ) -> None:
        """Fill in cells whose packets fare alike at each endpoint, and of whom one outcome tells.

        There are thousands of outcomes for each Service, one for each sender that has policies of
        its own, and most are those of another Service too.
        """
        outcome, cells = some.decided[:, 0], self.of.cells[some.at]
        for new in table.lacking(outcome).tolist():
            table.keep(new, combine([self._made(new)], Combine.BACKENDS))
        replies, _ = self._replies(some)
        passes = table.write_kept(cells, outcome)
        table.reply[cells] = np.where(passes, replies, NO_VERDICT)
        kinds = wholes.kinds(outcome, len(some.receivers), self._made)
        trace = wholes.traces(self.of.group[some.at], kinds)
        one = known[some.at]
        trace = np.where((trace < 0) & one, table.kept_trace(outcome), trace)
        forked = (trace < 0) & ~one
        for of in np.unique(outcome[forked]).tolist():
            fork = self._fork(some.receivers, [self._made(of)] * len(some.receivers))
            trace[forked & (outcome == of)] = table.number(fork)
        table.trace[cells] = trace

    def _made(self, outcome: int) -> Decision:
        """Return what an outcome tells that needs no earlier ones."""
        return self._requests.made_of(outcome, UNKNOWN, UNKNOWN)

    def _fork(self, receivers: Sequence[Receiver], each: Sequence[Decision]) -> str:
        """Return the key of a request that is no packet, and whose endpoints fare like this."""
        ends = self._addresses(receivers)
        keys = tuple(decision.trace for decision in each)
        key = key_of("service", *ends, *keys)
        self.forks[key] = ends, keys
        return key

    def _addresses(self, receivers: Sequence[Receiver]) -> tuple[str, ...]:
        return tuple(with_port(*self.address(receiver)) for receiver in receivers)

    def address(self, receiver: Receiver) -> tuple[str, int]:
        """Return the address and the port of an endpoint behind a Service."""
        end, port = receiver
        family = FAMILIES[self._requests.plan.family]
        address = self.of.matrix.endpoints[end].address(family)
        return str(address), self.of.matrix.ports[port].number


_RANK = np.zeros(max(CODE.values()) + 1, dtype=np.int64)
"""By a verdict's code, which of several is kept: the least."""
for _place, _verdict in enumerate(KEPT_FIRST):
    _RANK[CODE[_verdict]] = _place


def _agree(first: _Sent, second: _Sent) -> bool:
    """Say whether two traces of one group tell the same of it."""
    if isinstance(first, Decision) and isinstance(second, Decision):
        return same(first, second)
    return first == second


def _each_leg(
    ids: Mapping[Part, NDArray[np.int64]],
) -> Iterator[tuple[tuple[Part, int], int]]:
    """Yield each leg among these, by part, and the first row that has it."""
    for part, of in ids.items():
        legs, first = np.unique(of, return_index=True)
        for leg, row in zip(legs.tolist(), first.tolist(), strict=True):
            if leg >= 0:
                yield (part, leg), row
