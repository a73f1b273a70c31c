"""plan → traces → verdicts: a cover run to its end, hop by hop and leg by leg."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.fanout.base import Fanout
from audit.model.endpoints import Endpoint
from audit.model.matrix import FAMILIES, CellVerdicts
from audit.model.run import TraceRecord
from audit.model.traces import TraceBatch, TraceOutcome, TraceTask
from audit.pipeline.options import Options, Progress
from audit.pipeline.planning import Planned
from audit.plan import batches, cover
from audit.store import writer
from audit.store.encode import Planes
from audit.trace.microflow import expression
from audit.verdict import compose, records
from audit.verdict import legs as composing
from audit.verdict.arrivals import Arrival, Arrivals
from audit.verdict.blame import Blamer
from audit.verdict.hops import NextHops
from audit.verdict.judge import Judge, Judgement, forked

MOST_ROUNDS = 5
"""How often legs that turn out unshown are asked for again; each round shows what it asks."""

MOST_SAID = 50
"""Disagreements written out in run.json; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How many composed cells a trace of their own confirmed, and a sentence for each other."""

    agree: int
    of: int
    disagreements: tuple[str, ...]


class Tracing:
    """Runs a cover to its end: requests, the hops they lead to, then the replies.

    Raw text goes to disk as batches finish; what stays is one small judgement per trace.
    """

    def __init__(
        self, options: Options, planned: Planned, out: writer.RunWriter, progress: Progress
    ) -> None:
        self._options = options
        self.count = 0
        """How many traces were run."""
        self._planned = planned
        self._out = out
        self._progress = progress
        self._judge = Judge(
            blamer=Blamer.of(planned.state.zones, planned.state.policies),
            hops=NextHops(zones=planned.state.zones, owners=planned.owners),
        )
        self._judgements: dict[str, Judgement] = {}
        self._replies: dict[str, list[str]] = defaultdict(list)
        """The replies to each request."""
        self._replied: dict[str, set[str]] = defaultdict(set)
        """The traces that each reply answers."""

        self._cover = planned.cover
        self._requests = [composing.LegResults(plan) for plan in planned.legs]
        self._answers = [composing.LegResults(plan, replies=True) for plan in planned.legs]
        self._learned = np.zeros(len(planned.matrix), dtype=np.bool_)
        self._verified = Verified(agree=0, of=0, disagreements=())

    def run(self, workers: Fanout) -> None:
        """Trace everything; failures are outcomes."""
        self._seed(self._cover.forks)
        self._trace("tracing requests", self._cover.tasks, workers)
        if self._cover.tasks:
            self._show_legs(workers)
            self._verify(workers)
        self._trace("tracing replies", self._reply_tasks(), workers)
        if self._cover.tasks:
            self._show_reply_legs(workers)

    def cells(self) -> CellVerdicts:
        """Compose the judgements into the verdict of every cell."""
        requests = compose.Requests(
            keys=self._cover.keys,
            request=self._cover.request,
            settled=self._cover.settled,
            replies=self._replies,
        )
        traced = compose.cells(requests, self._judgements)
        if not self._cover.tasks:
            return traced
        return composing.compose(self._planned.matrix, traced, self._requests, self._answers)

    def planes(self, verdicts: CellVerdicts) -> Planes:
        """Return what each plane says of each cell, for the store."""
        predicted = composing.predicted(self._planned.matrix, self._planned.legs)
        return Planes(logical=verdicts.verdict, predicted=predicted if self._planned.legs else None)

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Sentences about traces that contradict a prediction or a composed cell."""
        compared = [known.compare() for known in self._requests]
        return (*(s for one in compared for s in one.disagreements), *self._verified.disagreements)

    def checks(self) -> dict[str, Any]:
        """Return how prediction and verification came out, for run.json."""
        compared = [known.compare() for known in self._requests]
        wrong = [sentence for one in compared for sentence in one.disagreements]
        prediction = {
            "agree": sum(one.agree for one in compared),
            "of": sum(one.of for one in compared),
            "disagreements": wrong[:MOST_SAID],
        }
        verify = {
            "agree": self._verified.agree,
            "of": self._verified.of,
            "disagreements": list(self._verified.disagreements[:MOST_SAID]),
        }
        return {
            "prediction": prediction if self._requests and self._cover.tasks else None,
            "verify": verify if self._verified.of else None,
        }

    def _show_legs(self, workers: Fanout) -> None:
        """Learn what the traces show, and trace what is still missing."""
        self._learn()
        for _ in range(MOST_ROUNDS):
            missing = composing.unknown(self._requests, self._planned.matrix)
            missing = missing[self._cover.request[missing] < 0]
            if not missing.size:
                return
            self._ask("tracing missing legs", missing, workers)
            self._learn()

    def _ask(self, name: str, cells: NDArray[np.int64], workers: Fanout) -> None:
        """Trace these cells too."""
        known = {task.key for task in self._cover.tasks}
        self._cover = cover.extended(self._cover, self._planned.matrix, cells)
        fresh = [task for task in self._cover.tasks if task.key not in known]
        self._trace(name, fresh, workers)

    def _learn(self) -> None:
        """Note what the traces since the last time show of their cells' legs."""
        for known in self._requests:
            fresh = known.plan.composed & (self._cover.request >= 0) & ~self._learned
            cells = np.flatnonzero(fresh)
            keys = [self._cover.tasks[i].key for i in self._cover.request[cells].tolist()]
            known.learn_from(self._planned.matrix, cells, keys, self._judgements)
            self._learned |= fresh

    def _verify(self, workers: Fanout) -> None:
        """Trace some composed cells end to end, and compare what comes with what was composed."""
        of = self._planned.matrix
        untraced = self._cover.request < 0
        among = np.flatnonzero(
            untraced & np.logical_or.reduce([known.plan.composed for known in self._requests])
        )
        # The same snapshot and scope draw the same cells: a run can be repeated.
        seed = "".join(file.sha256 for file in self._planned.state.inputs).encode()
        draw = np.random.default_rng(list(hashlib.blake2b(seed, digest_size=16).digest()))
        count = min(self._options.verify, len(among))
        cells = np.sort(draw.choice(among, size=count, replace=False)) if count else among[:0]
        composed = [(known, known.plan.composed[cells]) for known in self._requests if cells.size]
        self._ask("verifying", cells, workers)
        wrong = []
        for known, own in composed:
            for cell in cells[own].tolist():
                task = self._cover.tasks[self._cover.request[cell]]
                found = compose.decide(task.key, self._judgements)
                expected = known.decision(of, cell)
                if not composing.same(expected, found):
                    wrong.append(
                        f"{of.endpoints[of.src[cell]].key} to {of.endpoints[of.dst[cell]].key} "
                        f"on {of.ports[of.port[cell]]}: composed {expected.verdict} "
                        f"({expected.blame}), traced {found.verdict} ({found.blame})"
                    )
        self._verified = Verified(
            agree=len(cells) - len(wrong), of=len(cells), disagreements=tuple(wrong)
        )

    def _show_reply_legs(self, workers: Fanout) -> None:
        """Trace the replies that show each leg replies have."""
        of = self._planned.matrix
        for _ in range(MOST_ROUNDS):
            cells = composing.unknown_replies(self._answers, self._requests, of)
            asked: dict[int, TraceTask] = {}
            for cell in cells.tolist():
                src, dst = of.endpoints[of.src[cell]], of.endpoints[of.dst[cell]]
                family, port = FAMILIES[of.family[cell]], of.ports[of.port[cell]]
                request = cover.request_for(src, dst, family, port)
                asked[cell] = cover.reply_for(request, src, dst)
                self._replied[asked[cell].key].add(request.key)
            fresh = {t.key: t for t in asked.values() if t.key not in self._judgements}
            if not fresh:
                return
            self._trace("tracing replies", list(fresh.values()), workers)
            for known in self._answers:
                own = np.array([c for c in asked if known.plan.composed[c]], dtype=np.int64)
                keys = [asked[cell].key for cell in own.tolist()]
                known.learn_from(of, own, keys, self._judgements)

    def _seed(self, forks: Sequence[cover.Fork]) -> None:
        """Judge the requests that are no packets: their legs, which are traced, decide."""
        for fork in forks:
            self._judgements[fork.key] = forked(fork.legs)
        if forks:
            judged = [(fork.key, self._judgements[fork.key]) for fork in forks]
            self._out.write_traces("forks", [records.fork_record(*one) for one in judged])

    def _trace(self, name: str, tasks: Sequence[TraceTask], workers: Fanout) -> None:
        """Run tasks and the hops they lead to, round by round until none is left."""
        while tasks:
            self._progress.phase(name, len(tasks))
            onward: dict[str, TraceTask] = {}
            for batch, outcomes in workers.run(batches.cut(tasks)):
                rows = []
                for task, outcome in zip(batch.tasks, outcomes, strict=True):
                    judgement = self._judge.judge(task, outcome)
                    self._judgements[task.key] = judgement
                    onward.update((hop.key, hop) for hop in judgement.next_hops)
                    rows.append(self._record(task, outcome, judgement))
                self._out.write_traces(_batch_name(batch), rows)
                self._progress.advance(len(batch.tasks))
                self.count += len(batch.tasks)
            tasks = [task for key, task in onward.items() if key not in self._judgements]
            name = f"{name.removesuffix(', next hops')}, next hops"

    def _reply_tasks(self) -> list[TraceTask]:
        """Return the reply to every request that arrived, each once."""
        plan, matrix_, owners = self._cover, self._planned.matrix, self._planned.owners
        arrivals = Arrivals(
            judgements=self._judgements,
            owners=owners,
            decisions=compose.Decisions(self._judgements),
        )
        tasks: dict[str, TraceTask] = {}
        requests = (*plan.tasks, *plan.forks)
        traced, first = np.unique(plan.request, return_index=True)
        for index, cell in zip(traced.tolist(), first.tolist(), strict=True):
            composed = any(known.plan.composed[cell] for known in self._requests)
            # Replies of composed cells have legs of their own, traced afterwards.
            if index < 0 or composed or not arrivals.passed(requests[index].key):
                continue
            request = requests[index]
            src = matrix_.endpoints[matrix_.src[cell]]
            if isinstance(request, cover.Fork):
                legs = [(leg, owners.get(leg.microflow.ip_dst)) for leg in request.legs]
            else:
                legs = [(request, matrix_.endpoints[matrix_.dst[cell]])]
            for leg, dst in legs:
                for arrival in arrivals.of(leg, src, dst):
                    reply = self._reply(request.key, src, arrival)
                    if reply is not None:
                        tasks[reply.key] = reply
        return list(tasks.values())

    def _reply(self, request: str, src: Endpoint, arrival: Arrival) -> TraceTask | None:
        """Return the reply to one arrival, and note whose it is."""
        if arrival.receiver is None:
            self._replies[request].append(compose.NOT_TRACEABLE)
            return None
        reply = cover.reply_for(arrival.task, src, arrival.receiver)
        self._replies[request].append(reply.key)
        self._replied[reply.key].add(arrival.task.key)
        return reply

    def _record(self, task: TraceTask, outcome: TraceOutcome, judgement: Judgement) -> TraceRecord:
        return records.record(
            task,
            outcome,
            judgement,
            microflow=_said(task),
            reply_of=tuple(sorted(self._replied.get(task.key, ()))),
        )


def _said(task: TraceTask) -> str:
    """Return a task's microflow as `ovn-trace` takes it; as data where it cannot be said."""
    try:
        return expression(task.microflow)
    except ValueError:
        return repr(task.microflow)


def _batch_name(batch: TraceBatch) -> str:
    """Name a batch by its content, so that running it again replaces its file."""
    digest = hashlib.blake2b(digest_size=8)
    for task in batch.tasks:
        digest.update(task.key.encode())
    return digest.hexdigest()
