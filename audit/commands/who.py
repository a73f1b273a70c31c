"""Who can reach what, by a finished run: words → endpoints and ports → paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.errors import ExitCode, UsageError
from audit.model.recorded import Recorded
from audit.report import who
from audit.report.who import Answer
from audit.scope import ports as porting
from audit.scope.named import Directory
from audit.store.reader import open_recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The paths that a run has between what was asked for."""

    run: str
    paths: Sequence[who.Path]

    @property
    def answer(self) -> Answer:
        """All of them as one."""
        return who.answer_of(self.paths)

    @property
    def exit_code(self) -> ExitCode:
        """0: yes. 1: something is stopped. 3: nothing is, and not all is proven."""
        if any(path.stopped for path in self.paths):
            return ExitCode.FINDINGS
        return ExitCode.CLEAN if self.answer is Answer.YES else ExitCode.INCOMPLETE


def reach(path: Path, *, source: str, destination: str, ports: Sequence[str] = ()) -> Reach:
    """Return the paths of the run at `path` from a source to a destination; empty is any.

    UsageError when the run has no such endpoint, or no cell between them on these ports.
    """
    run = open_recorded(path)
    directory = Directory(run.endpoints, run.spans)
    sources = _chosen(directory, source)
    destinations = _chosen(directory, destination)
    specs = [porting.parse(port) for port in ports] or None
    asked_for = destinations[:, None] & _ports(run, specs)
    paths = who.fold(run, sources, asked_for)
    if not paths:
        raise UsageError(_nothing(run, sources, destinations, source, destination, ports))
    return Reach(run=run.name, paths=paths)


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
    ends = f"from {source} to {destination}" if source else f"to {destination}"
    any_port = destinations[:, None] & _ports(run, None)
    there = {port for path in who.fold(run, sources, any_port) for port in path.ports}
    if not there:
        return f"the run has no cell {ends}; it was not in its scope"
    return f"the run has no cell {ends} on {', '.join(ports)}; it has {', '.join(sorted(there))}"
