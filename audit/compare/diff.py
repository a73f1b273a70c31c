"""Two finished runs → the cells whose verdict or reply changed, folded to workloads.

A source of the later run and its counterpart are compared at a time, as arrays: memory is two
sources' cells, and what differs is folded at once.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.compare import causes, common, pairing, ranges
from audit.compare.common import Common
from audit.compare.pairing import Pairing
from audit.compare.ports import Overlaps, overlaps
from audit.model.changes import UNMATCHED, ChangedPath, Changes
from audit.model.matrix import FAMILIES, Cells, proven
from audit.model.recorded import Recorded
from audit.model.verdicts import NO_VERDICT, VERDICTS, Verdict

MOST_PATHS = 100_000
"""Beyond this many kinds of changes, further ones are folded to namespaces."""
_DRIFTS = 1 << 3
"""The bit of a state that says that planes disagree; below it is the verdict's code."""
_REPLY = 1 << 4
"""Counts, in a state, one more than the code of the reply; 0 where something else changed too."""

_Ints = NDArray[np.int64]
_Path = tuple[int, int, int, int, int, int]
_Key = tuple[int, int, int, int, int, int, int]
"""Source and destination (names), overlap of ports, states and blames before and after."""


@dataclass(slots=True, kw_only=True)
class _Counts:
    """What is counted on the way through both runs."""

    compared: int = 0
    proven: int = 0
    unmatched: int = 0
    drift_appeared: int = 0
    drift_gone: int = 0


def compare(
    before: Recorded,
    after: Recorded,
    advance: Callable[[int], None],
    marks: NDArray[np.uint8] | None = None,
    shared: Common | None = None,
) -> Changes:
    """Compare cell by cell what both runs have; `advance` is called after each source.

    `marks`, one per cell of the later run in their order, are set as `ChangedCells.cells`. `shared`
    is what lies in both scopes, everything when it is not given; their cells are those of
    `common.plane`, and where there is none no cell is compared.
    """
    return _Comparison(before, after, marks, shared).run(advance)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Cells of one source of either run that were compared; `met` are the earlier run's."""

    matched: NDArray[np.bool_]
    proven: NDArray[np.bool_]
    met: NDArray[np.bool_]


class _Comparison:
    """The tables that both runs' cells are compared with."""

    def __init__(
        self,
        before: Recorded,
        after: Recorded,
        marks: NDArray[np.uint8] | None,
        shared: Common | None,
    ) -> None:
        self._before, self._after, self._marks = before, after, marks
        selected = None if shared is None else (shared.before, shared.after)
        self._pairs: Pairing = pairing.pair(before.endpoints, after.endpoints, selected)
        self._ends = ranges.counterparts(before, after, self._pairs)
        self._reservations = shared.reservations if shared else ()
        self._comparable = common.plane(before.manifest, after.manifest) is not None
        self._met: dict[int, NDArray[np.bool_]] = {}
        self._ports: Overlaps = overlaps(before.ports, after.ports)
        names: dict[str, int] = {}
        # By counterpart, as of a range of addresses each overlap has its name.
        narrow = [names.setdefault(name, len(names)) for name in self._ends.names]
        whose = np.repeat(np.arange(len(after.endpoints)), np.diff(self._ends.start)).tolist()
        spaces = [after.endpoints[endpoint].namespace for endpoint in whose]
        wide = [
            names.setdefault(f"namespace {space}" if space else name, len(names))
            for space, name in zip(spaces, self._ends.names, strict=True)
        ]
        self._names = tuple(names)
        self._narrow, self._wide = np.array(narrow, np.int64), np.array(wide, np.int64)
        self._paths: dict[_Key, int] = defaultdict(int)
        self._counts = _Counts()
        planes = [run.manifest.get("planes") for run in (before, after)]
        self._same_planes = planes[0] == planes[1]

    def _states(self, cells: Cells) -> _Ints:
        """Return the state of each cell: its verdict, and whether planes disagree about it.

        A plane that only one of the runs has changed nothing.
        """
        states: _Ints = cells.verdict.astype(np.int64)
        return states + (cells.drift == 1) * _DRIFTS if self._same_planes else states

    def run(self, advance: Callable[[int], None]) -> Changes:
        """Go through the sources, and return what changed."""
        first = 0
        for source in range(len(self._after.endpoints)):
            now = self._after.cells.of_source(source)
            matched, proven = (np.zeros(len(now), np.bool_) for _ in range(2))
            for row in self._ends.of(source) if len(now) and self._comparable else ():
                counterpart = int(self._ends.before[row])
                was = self._before.cells.of_source(counterpart)
                met = self._met.setdefault(counterpart, np.zeros(len(was), np.bool_))
                compared = _Compared(matched=matched, proven=proven, met=met)
                changed, verdicts = self._source(was, now, row, compared)
                if self._marks is not None:
                    self._marks[first + changed] = verdicts + 1
            if self._marks is not None:
                self._marks[first + np.flatnonzero(~matched)] = UNMATCHED
            self._counts.compared += int(matched.sum())
            self._counts.proven += int(proven.sum())
            self._counts.unmatched += int((~matched).sum())
            first += len(now)
            advance(1)
        counts = self._counts
        explain = causes.Causes(self._before, self._after, self._pairs)
        return Changes(
            before=self._before.name,
            after=self._after.name,
            by="",
            compared=counts.compared,
            unmatched=counts.unmatched,
            paths=self._folded(explain),
            appeared=ranges.gone(self._after, self._before, self._pairs.appeared),
            vanished=ranges.gone(self._before, self._after, self._pairs.vanished),
            policies=explain.policies,
            facts=explain.facts,
            drift_appeared=counts.drift_appeared,
            drift_gone=counts.drift_gone,
            unmatched_before=self._left(),
            proven=counts.proven,
            out_of_scope=self._pairs.out_of_scope,
            reservations=self._reservations,
        )

    def _left(self) -> int:
        """Return how many cells of the earlier run none of the later's was compared with."""
        total = int((self._before.manifest.get("counts") or {}).get("cells", 0))
        return max(total - sum(int(met.sum()) for met in self._met.values()), 0)

    def _source(
        self, was: Cells, now: Cells, source: int, compared: "_Compared"
    ) -> tuple[_Ints, NDArray[np.uint8]]:
        """Compare one source's cells with a counterpart's; return which changed, from what verdict.

        `source` is the counterpart's row in `_ends`; `compared` is set where cells are.
        """
        cells, shared = self._ports.spread(now.port.astype(np.int64))
        rows, ends = self._ends.spread(now.dst.astype(np.int64)[cells])
        cells, shared = cells[rows], shared[rows]
        dst = self._ends.before[ends]
        wanted = self._keys(dst, now.family[cells], self._ports.before[shared])
        have = self._keys(was.dst.astype(np.int64), was.family, was.port.astype(np.int64))
        positions = np.minimum(np.searchsorted(have, wanted), max(len(have) - 1, 0))
        same = have[positions] == wanted if len(have) else np.zeros(len(dst), np.bool_)
        cells, shared, positions, ends = cells[same], shared[same], positions[same], ends[same]
        compared.matched[cells] = True
        compared.met[positions] = True
        both = proven(was.verdict[positions]) & proven(now.verdict[cells])
        compared.proven[cells[both]] = True
        states = _with_replies(
            (self._states(was)[positions], self._states(now)[cells]),
            (was.reply[positions], now.reply[cells]),
        )
        differ = np.flatnonzero(states[0] != states[1])
        if not len(differ):
            return differ, was.verdict[:0]
        drifts = [state[differ] & _DRIFTS != 0 for state in states]
        self._counts.drift_appeared += int((drifts[1] & ~drifts[0]).sum())
        self._counts.drift_gone += int((drifts[0] & ~drifts[1]).sum())
        names = self._narrow if len(self._paths) < MOST_PATHS else self._wide
        cells, positions = cells[differ], positions[differ]
        columns = (
            np.full(len(cells), names[source]),
            names[ends[differ]],
            shared[differ],
            states[0][differ],
            states[1][differ],
            was.blame[positions],
            now.blame[cells],
        )
        rows, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            self._paths[(*row,)] += count
        changed: _Ints = cells
        return changed, was.verdict[positions]

    def _keys(self, dst: _Ints, family: NDArray[np.int8], port: _Ints) -> _Ints:
        """Return one number per cell of a source, in the order of the earlier run's cells."""
        return (dst * len(FAMILIES) + family) * max(len(self._before.ports), 1) + port

    def _folded(self, explain: "causes.Causes") -> tuple[ChangedPath, ...]:
        """Return what changed alike between two workloads as one path, most cells first."""
        ports: dict[_Path, list[int]] = defaultdict(list)
        cells: dict[_Path, int] = defaultdict(int)
        for (src, dst, port, was, is_, old, new), count in self._paths.items():
            key = (src, dst, was, is_, old, new)
            ports[key].append(port)
            cells[key] += count
        blames = (*self._before.cells.blames, None), (*self._after.cells.blames, None)
        changed = []
        for path, count in cells.items():
            src, dst, was, is_, old, new = path
            sides = blames[0][old], blames[1][new]
            decided_by = [str(blame) if blame is not None else "" for blame in sides]
            changed.append(
                ChangedPath(
                    src=self._names[src],
                    dst=self._names[dst],
                    ports=tuple(str(self._ports.common[port]) for port in sorted(ports[path])),
                    before=_verdict(was),
                    after=_verdict(is_),
                    was=decided_by[0],
                    why=decided_by[1],
                    drift=(was & _DRIFTS != 0, is_ & _DRIFTS != 0),
                    reply=(_reply(was), _reply(is_)) if was >= _REPLY else None,
                    because=explain.of(self._names[src], self._names[dst], *sides),
                    cells=count,
                )
            )
        return tuple(sorted(changed, key=lambda p: (-p.cells, p.src, p.dst, p.ports, p.was, p.why)))


def _with_replies(
    states: tuple[_Ints, _Ints], replies: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> tuple[_Ints, _Ints]:
    """Put both replies into the states of cells whose replies alone changed.

    A reply that one of the runs did not ask for has not changed.
    """
    both_asked = (replies[0] != NO_VERDICT) & (replies[1] != NO_VERDICT)
    alone = both_asked & (replies[0] != replies[1]) & (states[0] == states[1])
    before, after = (
        state + np.where(alone, (reply.astype(np.int64) + 1) * _REPLY, 0)
        for state, reply in zip(states, replies, strict=True)
    )
    return before, after


def _verdict(state: int) -> Verdict:
    return VERDICTS[state % _DRIFTS]


def _reply(state: int) -> Verdict:
    return VERDICTS[state // _REPLY - 1]
