"""plan → traces → verdicts: a cover run to its end, hop by hop and leg by leg."""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.cover import represent
from audit.cover import requests as cover
from audit.fanout.base import Fanout
from audit.model.blindness import BLIND_REASONS, SENT_REASONS
from audit.model.endpoints import Endpoint
from audit.model.facts import Note
from audit.model.findings import (
    MOST_SAID,
    Disagreement,
    Finding,
    FindingKind,
    of_disagreements,
)
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.run import TraceRecord
from audit.model.traces import (
    DatapathTask,
    DatapathTrace,
    LogicalTrace,
    TraceFailure,
    TraceOutcome,
    TraceTask,
)
from audit.model.verdicts import OPERATIONAL, PASSES, REASON_CODE, Reason, Verdict
from audit.trace.microflow import expression
from audit.tracing.behind_services import BehindServices, Packet
from audit.tracing.journal import Journal
from audit.tracing.loop import TraceLoop
from audit.tracing.options import Options, Progress
from audit.tracing.plan import Planned
from audit.tracing.planes import Plane
from audit.verdict import compose, records
from audit.verdict import legs as composing
from audit.verdict.arrivals import Arrival, Arrivals
from audit.verdict.disputes import undecided, undecided_replies
from audit.verdict.judge import Judgement, forked

MOST_ROUNDS = 5
"""How often legs that turn out unshown are asked for again; each round shows what it asks."""

_LEFT_OPEN = ({Reason.LEGS_DISAGREE}, {Reason.LEGS_DISAGREE, Reason.LEG_NOT_SHOWN})
"""Reasons of disputed cells, and of all cells whose legs leave them open."""

MOST_DISPUTED = 20_000
"""Cells that legs leave open and that are traced; were there more, all of them stay unproven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How many composed cells a trace of their own confirmed, and a sentence for each other."""

    agree: int
    of: int
    disagreements: tuple[Disagreement, ...]

    def fields(self) -> dict[str, Any]:
        """Return it for run.json."""
        return {"agree": self.agree, "of": self.of, **disagreement_fields(self.disagreements)}


def disagreement_fields(disagreements: Sequence[Disagreement]) -> dict[str, Any]:
    """Return what run.json says of disagreements: sentences, and what each is about."""
    listed = disagreements[:MOST_SAID]
    return {
        "disagreements": [disagreement.text for disagreement in listed],
        "about": [list(disagreement.about) for disagreement in listed],
    }


class Tracing:
    """Runs a cover to its end: requests, the hops they lead to, then the replies.

    Raw text goes to disk as batches finish; what stays is one small judgement per trace. What the
    journal has of an earlier sitting is judged again, and not traced.
    """

    def __init__(
        self,
        options: Options,
        planned: Planned,
        plane: Plane,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._options = options
        self.count = 0
        """How many traces were judged."""
        self._planned = planned
        self._journal = journal
        self._progress = progress
        self.plane = plane
        self._loop = TraceLoop(judge=plane.judge.judge, keeper=self, progress=progress)
        self._judgements = self._loop.judgements
        self._nodes: dict[str, str] = {}
        """The node of each trace, on the datapath."""
        self._doubted: dict[str, tuple[TraceTask, TraceOutcome]] = {}
        """Traces that prove nothing, and that a packet may decide; they are kept when it has."""
        self._ran: set[str] = set()
        """Zones or nodes where a trace ran."""
        self._failed: dict[str, Reason] = {}
        """Zones or nodes where one did not, and why the first did not."""
        self._disputed = np.zeros(0, dtype=np.int64)
        self._unanswered = 0
        """Cells whose legs two traces show differently."""
        self._replies: dict[str, list[str]] = defaultdict(list)
        """The replies to each request."""
        self._replied: dict[str, set[str]] = defaultdict(set)
        """The traces that each reply answers."""

        self._cover = plane.cover
        self._requests = [composing.LegResults(plan) for plan in plane.legs]
        self._answers = [
            composing.LegResults(results.plan, requests=results) for results in self._requests
        ]
        self._services = BehindServices(
            planned.matrix, plane, self._requests, self._answers, self._judgements
        )
        self._learned = np.zeros(0, dtype=np.int64)
        """Cells whose traces were learnt from."""
        self._drawn = np.zeros(0, dtype=np.int64)
        """Cells that are traced to verify what is composed; no leg is learnt from them."""
        self._verified = Verified(agree=0, of=0, disagreements=())

    def run(self, workers: Fanout) -> None:
        """Trace everything; failures are outcomes.

        Opening a zone costs more than a hundred traces in it. So what is known beforehand goes out
        at once: requests, those that verify, the replies of what is predicted to arrive, and for
        both what they are predicted to lead to in other zones. What comes differently is traced
        when it is known.
        """
        if not self._cover.tasks:
            return
        self._seed(self._cover.forks)
        self._drawn = self._draw()
        self._extend(self._drawn)
        replies = self._replies_to(self._predicted_arrivals())
        first = [*self._cover.tasks, *_by_key(replies)]
        self._trace("tracing", [*first, *self._expected(replies)], workers)
        self._learn_replies(replies)
        self._show_legs(workers)
        self._show_services(workers)
        self._settle(workers)
        self._settle_services(workers)
        self._verify()
        self._send()
        self._trace("tracing replies", self._reply_tasks(), workers)
        self._show_reply_legs(workers)
        self._show_services_replies(workers)
        self._settle_replies(workers)
        self._settle_services_replies(workers)

    def _send(self) -> None:
        """Decide by packets what no trace can."""
        if not self._doubted or self.plane.send is None:
            return
        self._progress.phase("sending packets", len(self._doubted))
        arrived = self.plane.send([task for task, _ in self._doubted.values()])
        for key, (task, outcome) in self._doubted.items():
            if key in arrived and isinstance(outcome, LogicalTrace):
                self._judgements[key] = self.plane.judge.sent(task, outcome, arrived=arrived[key])
            self._journal.add([self._record(task, outcome, self._judgements[key])])
        self._progress.advance(len(self._doubted))
        self._journal.write()

    def cells(self) -> CellVerdicts:
        """Compose the judgements into the verdict of every cell."""
        requests = compose.Requests(
            keys=self._cover.keys,
            cells=self._cover.cells,
            request=self._cover.request,
            settled=self._cover.settled,
            replies=self._replies,
        )
        traced = compose.cells(requests, self._judgements)
        if not self._cover.tasks:
            return traced
        filled = composing.compose(self._planned.matrix, traced, self._requests, self._answers)
        filled, rows = self._services.fill(filled)
        self._journal.add(rows)
        self._journal.write()
        return filled

    def end_of(self, key: str) -> tuple[Judgement, str] | None:
        """Return the judgement that decided a request, and the node it was made at, if any."""
        last = compose.decide(key, self._judgements).trace
        judgement = self._judgements.get(last)
        return None if judgement is None else (judgement, self._nodes.get(last, ""))

    def sent(self, cell: int) -> bool | None:
        """Say whether a cell got past its source's leg; None where its legs do not tell.

        What shows a leg may be a trace between other nodes.
        """
        for results in self._requests:
            if results.plan.composed[cell]:
                return results.sent(self._planned.matrix, cell)
        return None

    def findings(self) -> tuple[Finding, ...]:
        """Return what contradicts a prediction or a composed cell.

        A prediction is of what OVN decides: what the datapath does instead is drift.
        """
        verified = of_disagreements(FindingKind.VERIFICATION, self._verified.disagreements)
        if self.plane.name == records.DATAPATH:
            return verified
        compared = [
            disagreement
            for results in self._requests
            for disagreement in results.compare().disagreements
        ]
        return (*of_disagreements(FindingKind.PREDICTION, compared), *verified)

    def checks(self) -> dict[str, Any]:
        """Return how prediction and verification came out, for run.json."""
        compared = [results.compare() for results in self._requests]
        prediction = Verified(
            agree=sum(comparison.agree for comparison in compared),
            of=sum(comparison.of for comparison in compared),
            disagreements=tuple(
                disagreement for comparison in compared for disagreement in comparison.disagreements
            ),
        )
        return {
            "prediction": prediction.fields() if self._requests and self._cover.tasks else None,
            "verify": self._verified.fields() if self._verified.of else None,
        }

    def _draw(self) -> NDArray[np.int64]:
        """Draw composed cells that nothing else traces, for verification; sorted.

        The same snapshot and scope draw the same cells: a run can be repeated.
        """
        composed = [results.plan.composed for results in self._requests]
        if not composed:
            return np.zeros(0, dtype=np.int64)
        by_others = np.logical_or.reduce(composed)
        by_others[self._services.composed()] = True
        among = np.flatnonzero(~self._cover.has_request & by_others)
        seed = "".join(file.sha256 for file in self._planned.state.inputs).encode()
        draw = np.random.default_rng(list(hashlib.blake2b(seed, digest_size=16).digest()))
        count = min(self._options.verify, len(among))
        return np.sort(draw.choice(among, size=count, replace=False)) if count else among[:0]

    def _extend(self, cells: NDArray[np.int64]) -> list[TraceTask]:
        """Give these cells a request of their own; return the requests that are new."""
        earlier = {task.key for task in self._cover.tasks}
        planned = self._planned
        self._cover = cover.extended(self._cover, planned.matrix, cells, planned.headless)
        self._cover = cover.placed(self._cover, self.plane.locate)
        self._seed([fork for fork in self._cover.forks if fork.key not in self._judgements])
        return [task for task in self._cover.tasks if task.key not in earlier]

    def _show_legs(self, workers: Fanout) -> None:
        """Learn what the traces show, and trace what is still missing."""
        self._learn()
        for _ in range(MOST_ROUNDS):
            missing = composing.unknown(self._requests, self._planned.matrix)
            # A drawn cell verifies no longer when it is all that shows a leg.
            needed = np.isin(self._drawn, missing)
            self._drawn, shows = self._drawn[~needed], self._drawn[needed]
            missing = missing[self._cover.of(missing) < 0]
            if not missing.size and not shows.size:
                return
            self._trace("tracing missing legs", self._extend(missing), workers)
            self._learn()

    def _settle(self, workers: Fanout) -> None:
        """Trace every cell that its legs leave open; of those it is no longer composed.

        Also where two traces contradict each other about a leg: what tells their cells apart is
        something that no flow says of their ends, so that only a cell's own trace can show it.
        """
        lost = self._lost()
        disputed, left_open = (
            undecided(self._requests, self._planned.matrix, reasons) for reasons in _LEFT_OPEN
        )
        cells = np.union1d(left_open, np.concatenate([np.zeros(0, np.int64), *lost.values()]))
        unrequested = cells[self._cover.of(cells) < 0]
        if unrequested.size > MOST_DISPUTED:
            self._withdraw(lost)
            return
        self._disputed = disputed
        if unrequested.size:
            self._trace("tracing cells that legs leave open", self._extend(unrequested), workers)
        self._decompose(cells)

    def _settle_replies(self, workers: Fanout) -> None:
        """Trace every cell, and its reply, of which the legs of replies leave the reply open."""
        disputed, cells = (
            undecided_replies(self._answers, self._requests, self._planned.matrix, reasons)
            for reasons in _LEFT_OPEN
        )
        unrequested = cells[self._cover.of(cells) < 0]
        if unrequested.size > MOST_DISPUTED:
            self._unanswered = int(unrequested.size)
        if not cells.size or self._unanswered:
            return
        self._disputed = np.union1d(self._disputed, disputed)
        if unrequested.size:
            self._trace("tracing cells that legs leave open", self._extend(unrequested), workers)
        self._decompose(cells)
        self._trace("tracing replies", self._reply_tasks(), workers)

    def _decompose(self, cells: NDArray[np.int64]) -> None:
        """Let legs decide these cells no longer."""
        for requests, answers in zip(self._requests, self._answers, strict=True):
            composed = requests.plan.composed.copy()
            composed[cells] = False
            requests.plan = answers.plan = replace(requests.plan, composed=composed)

    def _lost(self) -> dict[Reason, NDArray[np.int64]]:
        """Return composed cells that begin or end where no trace ran, by why the first did not."""
        of = self._planned.matrix
        lost: dict[Reason, NDArray[np.int64]] = {}
        for location, reason in self._silent():
            here = np.array(
                [self._location(end) == location for end in of.endpoints], dtype=np.bool_
            )
            cells = np.flatnonzero(here[of.src] | here[of.dst])
            composed = [results.plan.composed[cells] for results in self._requests]
            cells = cells[np.logical_or.reduce(composed)] if composed else cells[:0]
            lost[reason] = np.union1d(lost.get(reason, cells), cells)
        return lost

    def _silent(self) -> Iterator[tuple[str, Reason]]:
        """Yield the zones or nodes where no trace ran, and why the first did not."""
        for location, reason in self._failed.items():
            if location not in self._ran and reason is not Reason.INTERRUPTED:
                yield location, reason

    def _withdraw(self, lost: Mapping[Reason, NDArray[np.int64]]) -> None:
        """Leave what begins or ends where no trace ran unproven, whatever legs say of others."""
        settled = self._cover.settled.copy()
        for reason, cells in lost.items():
            unrequested = cells[self._cover.of(cells) < 0]
            settled[unrequested] = REASON_CODE[reason]
            self._decompose(cells)
            self._services.leave(cells)
        self._cover = replace(self._cover, settled=settled)

    def _location(self, end: Endpoint) -> str:
        """Return where traces of an endpoint's packets are run."""
        zone = end.attachment.zone if end.attachment is not None else ""
        return end.node if self.plane.name == records.DATAPATH else zone

    def notes(self) -> tuple[Note, ...]:
        """Say what was traced otherwise than planned, and what could not be."""
        return (*self._disputes(), *self._silent_replies())

    def _disputes(self) -> Iterator[Note]:
        """Say whose cells were traced one by one because their legs contradict each other."""
        if not self._disputed.size:
            return
        of = self._planned.matrix
        ends = np.unique(np.concatenate([of.src[self._disputed], of.dst[self._disputed]]))
        keys = tuple(of.endpoints[end].key for end in ends.tolist())
        text = (
            f"{len(self._disputed)} cells between {len(keys)} endpoints were each traced, as "
            f"traces of alike cells contradict each other ({self.plane.name} plane)"
        )
        yield Note(code="traced-one-by-one", text=text, subjects=keys)

    def _silent_replies(self) -> Iterator[Note]:
        """Say how many replies the engines did not answer for, or were not asked for."""
        if self._unanswered:
            yield Note(
                code="replies-untraced",
                text=f"{self._unanswered} replies are untraced ({self.plane.name} plane): the ACLs "
                "at one end may stop replies too, so each needs a trace of its own; ask for fewer "
                "cells at once",
            )
        for reason, count in sorted(self.lost_replies().items()):
            yield Note(
                code="replies-lost",
                text=f"{count} replies could not be traced ({reason}, {self.plane.name} plane); "
                "resume the run to trace them",
            )

    def lost_replies(self) -> Mapping[Reason, int]:
        """Count the replies to what arrived that no trace tells of because one failed."""
        decisions = compose.Decisions(self._judgements)
        lost: Counter[Reason] = Counter()
        for reply, requests in self._replied.items():
            reason = decisions.of(reply).reason
            if reason in OPERATIONAL and any(decisions.of(r).verdict in PASSES for r in requests):
                lost[reason] += 1
        return lost

    def _learn(self) -> None:
        """Note what the traces since the last time show of their cells' legs."""
        fresh = np.setdiff1d(self._cover.cells, np.concatenate([self._learned, self._drawn]))
        for results in self._requests:
            cells = fresh[results.plan.composed[fresh]]
            keys = [self._cover.tasks[i].key for i in self._cover.of(cells).tolist()]
            results.learn_from(self._planned.matrix, cells, keys, self._judgements)
        self._services.learn(self._cover, fresh)
        self._learned = np.concatenate([self._learned, fresh])

    def _verify(self) -> None:
        """Compare what was traced of the drawn cells with what their legs compose."""
        of = self._planned.matrix
        wrong, count = [], 0
        keys = self._cover.keys
        for cell, expected in self._expected_of_drawn():
            traced = compose.decide(keys[self._cover.of(np.array([cell]))[0]], self._judgements)
            blind = BLIND_REASONS & {traced.reason, expected.reason}
            if blind or Verdict.UNTRACED in (traced.verdict, expected.verdict):
                continue  # nothing was shown: there is nothing to compare
            count += 1
            if not composing.same(expected, traced):
                wrong.append(_contradiction(of, cell, expected, traced))
        self._verified = Verified(agree=count - len(wrong), of=count, disagreements=tuple(wrong))

    def _expected_of_drawn(self) -> Iterator[tuple[int, compose.Decision]]:
        """Yield the drawn cells that others' traces decide, each with what these come to."""
        for results in self._requests:
            for cell in self._drawn[results.plan.composed[self._drawn]].tolist():
                yield cell, results.decision(self._planned.matrix, cell)
        yield from self._services.decisions(self._drawn)

    def _predicted_arrivals(self) -> NDArray[np.int64]:
        """Return the composed cells whose replies show every leg of replies, if all goes well."""
        of, traced = self._planned.matrix, self._cover.has_request
        chosen = [represent.choose_replies(of, plan, traced) for plan in self.plane.legs]
        return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])

    def _replies_to(self, cells: NDArray[np.int64]) -> dict[int, TraceTask]:
        """Return the reply to each of these composed cells, and note whose it is."""
        of = self._planned.matrix
        replies: dict[int, TraceTask] = {}
        for cell in cells.tolist():
            src, dst = of.endpoints[of.src[cell]], of.endpoints[of.dst[cell]]
            family, port = FAMILIES[of.family[cell]], of.ports[of.port[cell]]
            request = cover.request_for(src, dst, family, port)
            replies[cell] = self.plane.locate(cover.reply_for(request, src, dst))
            self._replied[replies[cell].key].add(self.plane.locate(request).key)
        return replies

    def _expected(self, replies: Mapping[int, TraceTask]) -> list[TraceTask]:
        """Return what requests and these replies are predicted to lead to in other zones."""
        if self.plane.name == records.DATAPATH:
            return []  # its next half is known by the tunnel it comes through
        of = self._planned.matrix
        bound = [(reply, of.src[cell]) for cell, reply in replies.items()]
        for results in self._requests:
            cells = self._cover.cells[results.plan.composed[self._cover.cells]]
            cells = cells[results.plan.crosses(of, cells)]
            requests = (self._cover.tasks[number] for number in self._cover.of(cells).tolist())
            bound += zip(requests, of.dst[cells].tolist(), strict=True)
        onward: dict[str, TraceTask] = {}
        for task, end in bound:
            attached = of.endpoints[end].attachment
            hop = self.plane.judge.hops.expected(task, attached.zone) if attached else None
            if hop is not None:
                onward[hop.key] = hop
        return list(onward.values())

    def _learn_replies(self, replies: Mapping[int, TraceTask]) -> None:
        """Note what the replies to these cells show of the legs of replies."""
        for results in self._answers:
            cells = np.array([c for c in replies if results.plan.composed[c]], dtype=np.int64)
            keys = [replies[cell].key for cell in cells.tolist()]
            results.learn_from(self._planned.matrix, cells, keys, self._judgements)

    def _show_reply_legs(self, workers: Fanout) -> None:
        """Trace the replies of arrivals that were not predicted."""
        for _ in range(MOST_ROUNDS):
            cells = composing.unknown_replies(self._answers, self._requests, self._planned.matrix)
            replies = self._replies_to(cells)
            fresh = [task for task in _by_key(replies) if task.key not in self._judgements]
            if not fresh:
                return
            self._trace("tracing replies", fresh, workers)
            self._learn_replies(replies)

    def _untraced(self) -> NDArray[np.bool_]:
        """Return which cells have no request, or one that only verifies."""
        untraced = ~self._cover.has_request
        untraced[self._drawn] = True
        return untraced

    def _show_services(self, workers: Fanout) -> None:
        """Trace what shows the legs that packets from Services to their endpoints have."""
        for _ in range(MOST_ROUNDS):
            asked = self._services.missing(self._untraced())
            if not self._ask("tracing what is behind Services", asked, workers):
                return

    def _ask(self, name: str, packets: Sequence[Packet], workers: Fanout) -> bool:
        """Trace packets of Services and learn from them; say whether any was not traced yet."""
        fresh = [packet.task for packet in packets if packet.task.key not in self._judgements]
        self._trace(name, fresh, workers)
        self._services.learn_packets(packets)
        return bool(fresh)

    def _settle_services(self, workers: Fanout) -> None:
        """Trace the cells to Services that others' traces leave open, while there is time.

        Also those that begin or may end where no trace ran.
        """
        lost: dict[Reason, NDArray[np.int64]] = {}
        for location, reason in self._silent():
            cells = self._services.at(location, self._location)
            lost[reason] = np.union1d(lost.get(reason, cells), cells)
        left = self._services.left_open(self._untraced())
        left = np.unique(np.concatenate([left, *lost.values()]))
        if not self._own_traces(left, workers):
            self._withdraw(lost)

    def _own_traces(self, left: NDArray[np.int64], workers: Fanout) -> bool:
        """Trace cells to Services that are left open; say whether there was time for it."""
        if left.size > MOST_DISPUTED and time.monotonic() >= self._journal.until:
            return False
        if not left.size:
            return True
        fresh = self._extend(left[self._cover.of(left) < 0])
        self._trace("tracing cells that legs leave open", fresh, workers)
        self._services.leave(left)
        return True

    def _show_services_replies(self, workers: Fanout) -> None:
        """Learn what replies of endpoints behind Services show, and trace what is missing."""
        self._services.learn_replies(self._cover)
        for _ in range(MOST_ROUNDS):
            asked = self._services.unanswered(self._untraced())
            for packet in asked:
                self._replied[packet.task.key].add(packet.answers)
            if not self._ask("tracing replies", asked, workers):
                return

    def _settle_services_replies(self, workers: Fanout) -> None:
        """Trace the cells to Services, and their replies, that others' traces leave open."""
        left = self._services.replies_left_open(self._untraced())
        if left.size and self._own_traces(left, workers):
            self._trace("tracing replies", self._reply_tasks(), workers)

    def _seed(self, forks: Sequence[cover.Fork]) -> None:
        """Judge the requests that are no packets: their legs, which are traced, decide."""
        for fork in forks:
            self._judgements[fork.key] = forked(fork.legs)
        if forks:
            judged = [(fork.key, self._judgements[fork.key]) for fork in forks]
            self._journal.add(records.fork_record(*forked_request) for forked_request in judged)
            self._journal.write()

    def _trace(self, name: str, tasks: Sequence[TraceTask], workers: Fanout) -> None:
        """Run tasks and the hops they lead to, until none is left."""
        if not tasks:
            return
        self._progress.phase(name, len(tasks))
        try:
            self._loop.run(tasks, workers)
        finally:
            self._journal.write()

    def recall(self, task: TraceTask) -> TraceOutcome | None:
        """Return what an earlier sitting traced."""
        return self._journal.recall(task.key)

    def keep(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> None:
        """Count a trace, note what it tells of its place, and have it written down."""
        if isinstance(outcome, TraceFailure):
            self._failed.setdefault(task.location, outcome.reason)
        else:
            self._ran.add(task.location)
        if isinstance(task, DatapathTask):
            self._nodes[task.key] = task.node
        self.count += 1
        if self.plane.send is not None and judgement.reason in SENT_REASONS:
            self._doubted[task.key] = task, outcome
        else:
            self._journal.add([self._record(task, outcome, judgement)])

    def _reply_tasks(self) -> list[TraceTask]:
        """Return the reply to every request that arrived, each once."""
        plan, matrix, owners = self._cover, self._planned.matrix, self._planned.owners
        arrivals = Arrivals(
            judgements=self._judgements,
            owners=owners,
            decisions=compose.Decisions(self._judgements),
        )
        tasks: dict[str, TraceTask] = {}
        requests = (*plan.tasks, *plan.forks)
        traced, first = np.unique(plan.request, return_index=True)
        for index, cell in zip(traced.tolist(), plan.cells[first].tolist(), strict=True):
            composed = any(results.plan.composed[cell] for results in self._requests)
            # Replies of composed cells have legs of their own, traced afterwards.
            if composed or not arrivals.passed(requests[index].key):
                continue
            request = requests[index]
            src = matrix.endpoints[matrix.src[cell]]
            if isinstance(request, cover.Fork):
                legs = [
                    (leg, owners.get(leg.microflow.ip_dst, leg.network)) for leg in request.legs
                ]
            else:
                legs = [(request, matrix.endpoints[matrix.dst[cell]])]
            for leg, dst in legs:
                for arrival in arrivals.of(leg, src, dst):
                    reply = self._reply(request.key, src, arrival)
                    if reply is not None:
                        tasks[reply.key] = reply
        return list(tasks.values())

    def _reply(self, request: str, src: Endpoint, arrival: Arrival) -> TraceTask | None:
        """Return the reply to one arrival, and note whose it is."""
        replies = self._replies[request]
        if arrival.receiver is None:
            replies += [] if compose.NOT_TRACEABLE in replies else [compose.NOT_TRACEABLE]
            return None
        reply = self.plane.locate(cover.reply_for(arrival.task, src, arrival.receiver))
        replies += [] if reply.key in replies else [reply.key]
        self._replied[reply.key].add(arrival.task.key)
        return reply

    def _record(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> TraceRecord:
        return records.record(
            task,
            outcome,
            judgement,
            microflow=_microflow_text(task, outcome),
            reply_of=tuple(sorted(self._replied.get(task.key, ()))),
        )


def _by_key(replies: Mapping[int, TraceTask]) -> list[TraceTask]:
    """Return distinct tasks, in the order in which they are first asked."""
    return list({task.key: task for task in replies.values()}.values())


def _contradiction(
    of: Matrix, cell: int, expected: compose.Decision, traced: compose.Decision
) -> Disagreement:
    """Return what is reported of a composed cell whose own trace came out otherwise."""
    text = (
        f"{of.describe(cell)}: composed {expected.verdict} ({expected.blame or expected.reason}), "
        f"traced {traced.verdict} ({traced.blame or traced.reason})"
    )
    return Disagreement(text=text, about=(*of.about(cell), expected.verdict, traced.verdict))


def _microflow_text(task: TraceTask, outcome: TraceOutcome) -> str:
    """Return a task's microflow as the engine takes it; as data where it has no words for it."""
    if isinstance(outcome, DatapathTrace) and outcome.flow:
        return outcome.flow
    try:
        return expression(task.microflow)
    except ValueError:
        return repr(task.microflow)
