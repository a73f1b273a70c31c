"""Who can reach what: words → endpoints and ports → paths of a run, finished or made for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit import scratch
from audit.commands import run as running
from audit.errors import ExitCode, UsageError
from audit.model.recorded import Recorded
from audit.report import who
from audit.report.who import Answer
from audit.scope import ports as porting
from audit.scope.lookup import no_cell
from audit.scope.named import Directory
from audit.scope.scope import Scope
from audit.store.reader import open_recorded
from audit.tracing.options import Options, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The paths that a run has between what was asked for."""

    run: str
    """Its id; empty of one that was made for this answer."""
    paths: Sequence[who.Path]

    @property
    def answer(self) -> Answer:
        """All of them as one."""
        return who.answer_of(self.paths)

    @property
    def exit_code(self) -> ExitCode:
        """0: yes. 1: something is stopped. 3: nothing is, and not all is proven."""
        if any(path.stopped or path.partly for path in self.paths):
            return ExitCode.FINDINGS
        return ExitCode.CLEAN if self.answer is Answer.YES else ExitCode.INCOMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Between whom paths are asked for, in words for endpoints and for ports.

    From any of `sources`, to `destination`, on any of `ports`; whatever is empty is left open.
    """

    sources: tuple[str, ...] = ()
    destination: str = ""
    ports: tuple[str, ...] = ()

    @property
    def ends(self) -> str:
        """The two ends in words: `from shop/front or shop/back to db`; `at all` without any."""
        named = {"from": " or ".join(self.sources), "to": self.destination}
        return " ".join(f"{way} {end}" for way, end in named.items() if end) or "at all"

    @property
    def parts(self) -> Sequence["Question"]:
        """The question for each of several sources, and for each of several ports."""
        sources = self.sources if len(self.sources) > 1 else ()
        ports = self.ports if len(self.ports) > 1 else ()
        return [
            *(replace(self, sources=(source,)) for source in sources),
            *(replace(self, ports=(port,)) for port in ports),
        ]


def reach(path: Path, question: Question) -> Reach:
    """Return the paths of the run at `path` that answer a question.

    UsageError when the run has no such endpoint, or no cell of one of the sources or ports.
    """
    run = open_recorded(path)
    asked_for = _asked_for(run, question)
    if question.parts:
        having = _having_cells(run, *asked_for)
        for part in question.parts:
            ends = _asked_for(run, part)
            if not all(np.any(chosen & there) for chosen, there in zip(ends, having, strict=True)):
                raise UsageError(_nothing(run, part))
    paths = who.fold(run, *asked_for)
    if not paths:
        raise UsageError(_nothing(run, question))
    return Reach(run=run.name, paths=paths)


def decide(options: Options, progress: Progress, question: Question) -> Reach:
    """Trace a cluster for one question alone, as a run would, and return the paths; no run is left.

    `options` say which cluster, and how; what they have as scope is completed by the question. An
    end that it leaves open is every pod; without ports, those that the destination declares.
    ScopeError or UsageError when the cluster has no such endpoint, or there is no such cell.
    """
    asked_for = replace(
        options.scope,
        from_endpoints=question.sources,
        to_endpoints=(question.destination,) if question.destination else (),
        ports=tuple(map(porting.parse, question.ports)) or Scope().ports,
    )
    with scratch.directory("who") as root:
        path = running.decide(replace(options, scope=asked_for), root / "runs", progress)
        paths = reach(path, question).paths
    return Reach(run="", paths=paths)


def _chosen(directory: Directory, words: Sequence[str]) -> NDArray[np.bool_]:
    """Return by endpoint whether one of the words means it; without words, all of them."""
    chosen = np.full(len(directory.endpoints), not words, dtype=np.bool_)
    for word in words:
        chosen[directory.find(word)] = True
    return chosen


def _asked_for(run: Recorded, question: Question) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which endpoints are asked about as sources, and which as destinations by port."""
    sources = _chosen(Directory(run.endpoints, run.spans, sending=True), question.sources)
    end = (question.destination,) if question.destination else ()
    destinations = _chosen(Directory(run.endpoints, run.spans), end)
    specs = [porting.parse(port) for port in question.ports] or None
    return sources, destinations[:, None] & _ports(run, specs)


def _having_cells(
    run: Recorded, sources: NDArray[np.bool_], destinations: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of these have a cell of the run between them, as `_asked_for` returns them."""
    having = np.zeros_like(sources), np.zeros_like(destinations)
    for cells in run.cells:
        chosen = sources[cells.src] & destinations[cells.dst, cells.port]
        having[0][cells.src[chosen]] = True
        having[1][cells.dst[chosen], cells.port[chosen]] = True
    return having


def _ports(run: Recorded, specs: Sequence[porting.PortSpec] | None) -> NDArray[np.bool_]:
    """Return by endpoint and port of a run whether it is asked for."""
    shape = len(run.endpoints), len(run.ports)
    if specs is None:
        return np.ones(shape, dtype=np.bool_)
    return np.array(
        [
            [any(porting.means(spec, endpoint, port) for spec in specs) for port in run.ports]
            for endpoint in run.endpoints
        ],
        dtype=np.bool_,
    ).reshape(shape)


def _nothing(run: Recorded, question: Question) -> str:
    """Say why there is no path: the run has no such cells, or has them on other ports."""
    paths = who.fold(run, *_asked_for(run, replace(question, ports=())))
    there = {port for path in paths for port in path.ports}
    if not there:
        anyone = replace(question, sources=(), ports=())
        is_destination = bool(np.any(_having_cells(run, *_asked_for(run, anyone))[0]))
        why = no_cell(question.destination, is_destination=is_destination)
        return f"the run has no cell {question.ends}; {why}"
    ports = ", ".join(question.ports)
    return f"the run has no cell {question.ends} on {ports}; it has {', '.join(sorted(there))}"
