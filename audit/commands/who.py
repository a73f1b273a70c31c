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


def reach(path: Path, *, source: str, destination: str, ports: Sequence[str] = ()) -> Reach:
    """Return the paths of the run at `path` from a source to a destination; empty is any.

    UsageError when the run has no such endpoint, or no cell between them on these ports.
    """
    run = open_recorded(path)
    sources = _chosen(Directory(run.endpoints, run.spans, sending=True), source)
    destinations = _chosen(Directory(run.endpoints, run.spans), destination)
    specs = [porting.parse(port) for port in ports] or None
    asked_for = destinations[:, None] & _ports(run, specs)
    paths = who.fold(run, sources, asked_for)
    if not paths:
        raise UsageError(_nothing(run, sources, destinations, source, destination, ports))
    return Reach(run=run.name, paths=paths)


def decide(
    options: Options,
    progress: Progress,
    *,
    source: str,
    destination: str,
    ports: Sequence[str] = (),
) -> Reach:
    """Trace a cluster for these paths alone, as a run would, and return them; no run is left.

    `options` say which cluster, and how; what they have as scope is completed by the words. An
    empty word is every pod. Without `ports`, those that the destination declares.
    ScopeError or UsageError when the cluster has no such endpoint, or there is no such cell.
    """
    asked_for = replace(
        options.scope,
        from_endpoints=(source,) if source else (),
        to_endpoints=(destination,) if destination else (),
        ports=tuple(map(porting.parse, ports)) or Scope().ports,
    )
    with scratch.directory("who") as root:
        path = running.decide(replace(options, scope=asked_for), root / "runs", progress)
        paths = reach(path, source=source, destination=destination, ports=ports).paths
    return Reach(run="", paths=paths)


def _chosen(directory: Directory, text: str) -> NDArray[np.bool_]:
    """Return by endpoint whether a word means it."""
    count = len(directory.endpoints)
    chosen = np.full(count, not text, dtype=np.bool_)
    if text:
        chosen[directory.find(text)] = True
    return chosen


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


def _nothing(
    run: Recorded,
    sources: NDArray[np.bool_],
    destinations: NDArray[np.bool_],
    source: str,
    destination: str,
    ports: Sequence[str],
) -> str:
    """Say why there is no path: the run has no such cells, or has them on other ports."""
    named = {"from": source, "to": destination}
    ends = " ".join(f"{way} {end}" for way, end in named.items() if end) or "at all"
    any_port = destinations[:, None] & _ports(run, None)
    there = {port for path in who.fold(run, sources, any_port) for port in path.ports}
    if not there:
        everyone = np.ones(len(run.endpoints), dtype=np.bool_)
        asked_about = bool(who.fold(run, everyone, any_port))
        return f"the run has no cell {ends}; {no_cell(destination, is_destination=asked_about)}"
    return f"the run has no cell {ends} on {', '.join(ports)}; it has {', '.join(sorted(there))}"
