"""What two sets of policies say of pods and of ranges of addresses outside. Pure; by class.

A policy sees of a pod which policies select it, so most pods share with others all that is
decided about them, before and after: a *team* of pods is decided once. Which ranges and ports
changed is read of the tables (`audit.policy.tables`), and only these are evaluated as cells are.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from audit.model.changes import ChangedPath, OutsideChanges
from audit.model.endpoints import Endpoint, Port
from audit.model.facts import ClusterState
from audit.model.matrix import FAMILIES, Matrix
from audit.model.packets import Family
from audit.model.policies import Direction
from audit.model.verdicts import REASONS, VERDICTS, Blame, Reason
from audit.policy.cluster import Cluster
from audit.policy.intent import NOT_APPLICABLE, Intent, IntentVerdicts, evaluate
from audit.policy.tables import EITHER, SideTable

MOST_CELLS = 1 << 21
"""Cells that are evaluated at a time."""
MOST_PATHS = 100_000
"""Beyond this many kinds of changes pods are folded to namespaces."""
_UNDECIDED = (*NOT_APPLICABLE, Reason.NETWORK_UNKNOWN)
"""Obstacles for which no policy decides anything about a pod."""

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]
_States = tuple[ClusterState, ClusterState]
Because = Callable[[str, str, Blame | None, Blame | None], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One direction: pods that both sets have, ranges beyond, and the ports that are asked.

    `pods` are pairs of pods, before and after, of which one stands for the other. `ports` are each
    pair's, or where packets leave each range's: one tuple for all of it.
    """

    direction: Direction
    pods: Sequence[tuple[Endpoint, Endpoint]]
    ranges: Sequence[Endpoint]
    ports: Sequence[tuple[Port, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A range of which the same changed for all pods of a team, on some ports."""

    team: int
    end: int
    ports: tuple[int, ...]
    verdicts: tuple[int, int]
    blames: tuple[Blame | None, Blame | None]
    why: tuple[str, str]


def compare(
    states: _States, sides: Sequence[Side], families: Sequence[Family], because: Because
) -> OutsideChanges:
    """Compare what the policies of both states decide; `because` explains a change by its ends."""
    paths: Counter[ChangedPath] = Counter()
    compared = decided = 0
    for side in sides:
        for family in families:
            comparison = _Comparison(states, side, family)
            compared += comparison.compared
            decided += comparison.decided
            paths.update(dict(comparison.paths(because)))
    return OutsideChanges(
        compared=compared,
        decided=decided,
        paths=tuple(
            replace(path, cells=count) for path, count in sorted(paths.items(), key=_sort_key)
        ),
    )


def _sort_key(counted: tuple[ChangedPath, int]) -> tuple[object, ...]:
    path, cells = counted
    return (-cells, path.src, path.dst, path.ports, path.before, path.after, path.was, path.why)


class _Comparison:
    """One direction in one address family."""

    def __init__(self, states: _States, side: Side, family: Family) -> None:
        """Sort the pods into teams, and find what of each team changed."""
        self._states, self._family = states, family
        self._leaves = side.direction is Direction.EGRESS
        self._pairs = [
            (pair, ports)
            for pair, ports in zip(side.pods, side.ports, strict=True)
            if all(_has(pod, family) for pod in pair)
        ]
        self._ranges = [endpoint for endpoint in side.ranges if _has(endpoint, family)]
        self._ports = tuple(sorted({port for _, ports in self._pairs for port in ports}))
        self._teams: list[int] = []
        self._members: list[list[int]] = []
        self._whole: list[bool] = []
        self._kind: _Ints = np.empty((0, 0), np.int64)
        self._differs: _Mask = np.empty((0, 0), np.bool_)
        self.compared = self.decided = 0
        if self._pairs and self._ranges and self._ports:
            self._find(side.direction)

    def _find(self, direction: Direction) -> None:
        """Compare each pair of vectors that some pod has on some port, before and after, once."""
        mask = self._port_mask()
        tables = [self._table(number, direction) for number in range(2)]
        vectors = np.stack([vector for vector, _, _ in tables], axis=-1).reshape(-1, 2)
        kinds, kind = np.unique(vectors, axis=0, return_inverse=True)
        kind = np.where(mask, kind.reshape(mask.shape), -1)
        differs, decided = _compared(kinds, [(t.outcome, ends) for _, t, ends in tables])
        self.compared = int(mask.sum()) * len(self._ranges)
        obstacles = [tuple(pod.obstacle for pod in pair) for pair, _ in self._pairs]
        can = np.array([not {*pair} & {*_UNDECIDED} for pair in obstacles], np.bool_)
        rows, counts = np.unique(kind[can], return_counts=True)
        self.decided = int((counts * decided[rows])[rows >= 0].sum())
        # What keeps policies from being applied may have come or gone: then all may have changed.
        other = np.array([before != after for before, after in obstacles], np.bool_)
        _, numbers = np.unique(
            [f"{before}/{after}" for before, after in obstacles], return_inverse=True
        )
        key = np.concatenate([numbers.reshape(-1, 1), kind], axis=1)
        _, firsts, team = np.unique(key, axis=0, return_index=True, return_inverse=True)
        team = team.reshape(-1)
        some: _Mask = np.any(differs, axis=1)
        touched = np.flatnonzero(np.any(some[kind] & (kind >= 0), axis=1) | other)
        members: dict[int, list[int]] = defaultdict(list)
        for index in touched.tolist():
            members[int(team[index])].append(index)
        for number, indices in members.items():
            self._teams.append(int(firsts[number]))
            self._members.append(indices)
            self._whole.append(bool(other[indices[0]]))
        self._kind, self._differs = kind, differs

    def _port_mask(self) -> _Mask:
        """Return which ports, of all, are asked about each pair of pods."""
        column_of = {port: column for column, port in enumerate(self._ports)}
        rows: dict[int, list[int]] = {}
        mask = np.zeros((len(self._pairs), len(self._ports)), np.bool_)
        for row, (_, ports) in enumerate(self._pairs):
            # Pods mostly share one tuple of them.
            columns = rows.get(id(ports))
            if columns is None:
                columns = rows[id(ports)] = [column_of[port] for port in ports]
            mask[row, columns] = True
        return mask

    def _table(
        self, number: int, direction: Direction
    ) -> tuple[NDArray[np.int32], SideTable, NDArray[np.int32]]:
        """Return the vector of each pod and port, their table, and each range's class in it.

        No policy selects what is outside, so this side alone decides.
        """
        state = self._states[number]
        ends = [*(pair[number] for pair, _ in self._pairs), *self._ranges]
        intent = Intent(
            state.policies, ends, Cluster.of(state), self._ports, self._family, blame=False
        )
        table = intent.egress if direction is Direction.EGRESS else intent.ingress
        classes = intent.people.of
        count = len(self._pairs)
        return table.vector[classes[:count, None], intent.ports.of], table, classes[count:]

    def paths(self, because: Because) -> Iterator[tuple[ChangedPath, int]]:
        """Yield what changed and of how many cells it is told, by workload."""
        changes = [change for cells in self._parts() for change in self._evaluated(*cells)]
        counts = [Counter(self._names(team, wide=False)) for team in range(len(self._teams))]
        if sum(len(counts[change.team]) for change in changes) > MOST_PATHS:
            counts = [Counter(self._names(team, wide=True)) for team in range(len(self._teams))]
        merged: Counter[ChangedPath] = Counter()
        for change in changes:
            for name, pods in counts[change.team].items():
                merged[self._path(change, name, because)] += pods * len(change.ports)
        yield from merged.items()

    def _names(self, team: int, *, wide: bool) -> Iterator[str]:
        for index in self._members[team]:
            pod = self._pairs[index][0][1]
            yield f"namespace {pod.namespace}" if wide else pod.belongs_to

    def _path(self, change: _Change, name: str, because: Because) -> ChangedPath:
        end = self._ranges[change.end].belongs_to
        src, dst = (name, end) if self._leaves else (end, name)
        before, after = change.verdicts
        return ChangedPath(
            src=src,
            dst=dst,
            ports=tuple(str(self._ports[port]) for port in change.ports),
            before=VERDICTS[before],
            after=VERDICTS[after],
            was=change.why[0],
            why=change.why[1],
            cells=0,
            because=because(src, dst, *change.blames),
        )

    def _parts(self) -> Iterator[tuple[_Ints, _Ints, _Ints]]:
        """Yield the cells that may have changed, some teams at a time: (team, range, port) each.

        They are sorted so.
        """
        part: list[tuple[_Ints, _Ints, _Ints]] = []
        size = 0
        for team, first in enumerate(self._teams):
            ports = np.flatnonzero(self._kind[first] >= 0)
            here = self._differs[self._kind[first, ports]] | self._whole[team]
            end, port = np.nonzero(here.T)
            part.append((np.full(len(port), team), end, ports[port]))
            size += len(port)
            if size >= MOST_CELLS or team == len(self._teams) - 1:
                teams, ends, some = (np.concatenate(columns) for columns in zip(*part, strict=True))
                yield teams, ends, some
                part, size = [], 0

    def _evaluated(self, team: _Ints, end: _Ints, port: _Ints) -> Iterator[_Change]:
        """Evaluate cells with the policies of both states, and yield what differs."""
        used, row = np.unique(team, return_inverse=True)
        matrices = [self._matrix(number, used, (row, end, port)) for number in range(2)]
        verdicts = [evaluate(m, s) for m, s in zip(matrices, self._states, strict=True)]
        differ = np.flatnonzero(verdicts[0].verdict != verdicts[1].verdict)
        where = team[differ] * len(self._ranges) + end[differ]
        state = _folded([c[differ] for s in verdicts for c in (s.verdict, s.reason, s.blame)])
        # The order of ports stays as it is.
        order = np.lexsort((state, where))
        cells, where, state = differ[order], where[order], state[order]
        changes = (np.diff(where, prepend=-1) != 0) | (np.diff(state, prepend=-1) != 0)
        for first, last in pairwise([*np.flatnonzero(changes).tolist(), len(cells)]):
            cell = int(cells[first])
            yield _Change(
                team=int(team[cell]),
                end=int(end[cell]),
                ports=tuple(port[cells[first:last]].tolist()),
                verdicts=(int(verdicts[0].verdict[cell]), int(verdicts[1].verdict[cell])),
                blames=(_blame(verdicts[0], cell), _blame(verdicts[1], cell)),
                why=(_why(verdicts[0], cell), _why(verdicts[1], cell)),
            )

    def _matrix(self, number: int, teams: _Ints, cells: tuple[_Ints, _Ints, _Ints]) -> Matrix:
        """Return cells between one pod of each team and the ranges."""
        pods = [self._pairs[self._teams[team]][0][number] for team in teams.tolist()]
        row, end, port = (column.astype(np.int32) for column in cells)
        end += len(pods)
        return Matrix(
            endpoints=(*pods, *self._ranges),
            ports=self._ports,
            src=row if self._leaves else end,
            dst=end if self._leaves else row,
            family=np.full(len(row), FAMILIES.index(self._family), np.int8),
            port=port,
        )


def _compared(
    kinds: NDArray[np.int32], tables: Sequence[tuple[NDArray[np.uint8], NDArray[np.int32]]]
) -> tuple[_Mask, _Ints]:
    """Return of each pair of vectors which ranges differ, and how many both decide."""
    differs = np.empty((len(kinds), len(tables[0][1])), np.bool_)
    decided = np.empty(len(kinds), np.int64)
    for number, pair in enumerate(kinds.tolist()):
        before, after = (o[v][e] for v, (o, e) in zip(pair, tables, strict=True))
        differs[number] = before != after
        decided[number] = ((before != EITHER) & (after != EITHER)).sum()
    return differs, decided


def _folded(columns: Sequence[NDArray[np.generic]]) -> _Ints:
    """Return one number per row for its codes, of which -1 is the least."""
    folded = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        codes = column.astype(np.int64) + 1
        folded = folded * (int(codes.max(initial=0)) + 1) + codes
    return folded


def _has(endpoint: Endpoint, family: Family) -> bool:
    """Tell whether an endpoint may have an address of a family; one that is not known may."""
    return not endpoint.addresses or endpoint.address(family) is not None


def _blame(verdicts: IntentVerdicts, cell: int) -> Blame | None:
    index = int(verdicts.blame[cell])
    return verdicts.blames[index] if index >= 0 else None


def _why(verdicts: IntentVerdicts, cell: int) -> str:
    blame, reason = _blame(verdicts, cell), str(REASONS[verdicts.reason[cell]])
    return f"{blame} ({reason})" if blame is not None else reason
