"""Verdicts of the intent plane by class, of cells that are never laid out.

Of the sources that policies, networks and obstacles do not tell apart one is decided for all, and
of columns (a destination, a family and a port) likewise. It is decided by what decides cells
(`audit.policy.intent`), so a block says what its cells would. What classes cannot see is decided
cell by cell: what comes from a pod's own node, what comes from the very pod that is behind a
Service, and what leads in by a path of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.blocks import Blocks, Exceptions, Layout
from audit.model.facts import ClusterState, Policy
from audit.model.matrix import Matrix, members_of
from audit.model.verdicts import Blame
from audit.policy.intent import NO_NODE, Evaluation, IntentVerdicts, Tables
from audit.policy.tables import SideTable

CELLS_AT_A_TIME = 1 << 20
_DIGEST = 16

_Ints = NDArray[np.int64]


def evaluate(
    layout: Layout, state: ClusterState, policies: Sequence[Policy] | None = None
) -> Blocks:
    """Return what the policies of a cluster, or others in their place, say of every cell."""
    chosen = state.policies if policies is None else policies
    columns = layout.cells(np.zeros(len(layout.dst), np.int32), np.arange(len(layout.dst)))
    evaluation = Evaluation(columns, state, chosen)
    blames = evaluation.networks.blames
    states = _States()
    parts = []
    for family in sorted(set(np.unique(layout.family).tolist())):
        tables = evaluation.tables(family, len(blames))
        parts.append(_Family(layout, evaluation, tables, family, states).blocks())
        blames += tables.intent.deciders.blames()
    return _joined(layout, parts, states, blames)


class _States:
    """Numbers verdicts with their reasons and blames as they are met; 0 is no cell."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def codes(self, verdicts: IntentVerdicts) -> NDArray[np.int32]:
        """Return the number of each cell's verdict, reason and blame."""
        keys = verdicts.blame.astype(np.int64) + 1
        keys = (keys << 8 | verdicts.reason) << 8 | verdicts.verdict
        # Neighbours are mostly alike: only where a run of them begins is anything looked up.
        begins = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        values, inverse = np.unique(keys[begins], return_inverse=True)
        numbers = [self._numbers.setdefault(key, len(self._numbers) + 1) for key in values.tolist()]
        codes = np.array(numbers, np.int32)[inverse.reshape(-1)]
        return np.repeat(codes, np.diff(begins, append=len(keys)))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return what each number stands for."""
        keys = np.array([0, *self._numbers], np.int64)
        return {
            "verdict": (keys & 0xFF).astype(np.uint8),
            "reason": (keys >> 8 & 0xFF).astype(np.uint8),
            "blame": ((keys >> 16) - 1).astype(np.int32),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The blocks of one family: classes of all endpoints as sources, and of its columns.

    `codes[r, k]` is a state; `src`, `column` and `code` are exceptions, sorted.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    classes: NDArray[np.int64]
    codes: NDArray[np.int32]
    src: NDArray[np.int64]
    column: NDArray[np.int64]
    code: NDArray[np.int32]


class _Family:
    """The cells of one family being decided by class."""

    def __init__(
        self,
        layout: Layout,
        evaluation: Evaluation,
        tables: Tables,
        family: int,
        states: _States,
    ) -> None:
        """Find the classes of sources and of columns."""
        self._layout, self._evaluation, self._tables = layout, evaluation, tables
        self._states, self._family = states, family
        self._columns = np.flatnonzero(layout.family == family)
        self._sources = np.flatnonzero(layout.group >= 0)
        self._traits = evaluation.traits()[: len(layout.endpoints)]
        senders = self._senders()
        self._row_class = np.full(len(layout.endpoints), -1, np.int64)
        self._row_class[self._sources] = senders
        self._column_class = self._receivers()
        self._alone = self._told_apart()

    def _senders(self) -> _Ints:
        """Return the class of each source."""
        intent, sources = self._tables.intent, self._sources
        of = intent.people.of[sources]
        used, inverse = np.unique(of, return_inverse=True)
        as_sender = _numbered(_rows(intent.egress.vector[used]), _columns_of(intent.ingress, used))[
            inverse.reshape(-1)
        ]
        return _numbered(
            as_sender,
            intent.people.host[of],
            intent.nodes[sources] == NO_NODE,
            self._traits[sources],
            self._layout.group[sources],
        )

    def _receivers(self) -> _Ints:
        """Return the class of each column; one of a Service is in one of its own."""
        intent, layout, columns = self._tables.intent, self._layout, self._columns
        dst, port = layout.dst[columns], layout.port[columns]
        of, atom = intent.people.of[dst], intent.ports.of[port]
        used, inverse = np.unique(of, return_inverse=True)
        seen = _columns_of(intent.egress, used)[inverse.reshape(-1)]
        senders = np.unique(intent.people.of[self._sources])
        atoms = _rows(np.ascontiguousarray(intent.egress.vector[senders].T))
        served = self._evaluation.is_service[dst]
        alone = np.where(served, np.arange(len(columns)) + 1, 0)
        plain = _numbered(
            seen,
            atoms[atom],
            intent.ingress.vector[of, atom],
            intent.ingress.exempt[of, atom],
            intent.people.pod_network[of],
            intent.nodes[dst] == NO_NODE,
            self._evaluation.leaves[dst],
            self._traits[dst],
            self._evaluation.opened(dst, port),
        )
        present = _rows(np.ascontiguousarray(layout.present[:, columns].T))
        return _numbered(np.where(served, 0, plain + 1), alone, present)

    def _told_apart(self) -> _Ints:
        """Return the cells that classes do not see, and those that are none, as sorted keys."""
        keys = [self._keys(*self._of_family(self._layout.absent)), *self._from_own_node()]
        keys.extend(self._from_behind())
        apart: _Ints = np.unique(np.concatenate(keys))
        return apart

    def _keys(self, src: NDArray[Any], column: NDArray[Any]) -> _Ints:
        keys: _Ints = src.astype(np.int64) * len(self._layout.dst) + column
        return keys

    def _of_family(self, pairs: NDArray[np.int32]) -> NDArray[np.int32]:
        return pairs[:, self._layout.family[pairs[1]] == self._family]

    def _from_own_node(self) -> Iterator[_Ints]:
        """Yield cells from each host to the pods of its node."""
        intent, layout, columns = self._tables.intent, self._layout, self._columns
        dst = layout.dst[columns]
        pods = intent.people.pod_network[intent.people.of[dst]] & ~self._evaluation.is_service[dst]
        node = np.where(pods, intent.nodes[dst], NO_NODE)
        order = np.argsort(node, kind="stable")
        for source in self._hosts().tolist():
            span = np.searchsorted(node[order], intent.nodes[source] + np.array([0, 1])).tolist()
            yield self._present(source, columns[order[slice(*span)]])

    def _hosts(self) -> _Ints:
        """Return the sources at a node's address, where that node is known."""
        intent = self._tables.intent
        host = intent.people.host[intent.people.of[self._sources]]
        hosts: _Ints = self._sources[host & (intent.nodes[self._sources] != NO_NODE)]
        return hosts

    def _from_behind(self) -> Iterator[_Ints]:
        """Yield cells to each Service from who is behind it, or at a node of who is."""
        intent, layout = self._tables.intent, self._layout
        hosts = self._hosts()
        served = self._columns[self._evaluation.is_service[layout.dst[self._columns]]]
        for column in served.tolist():
            key = int(layout.dst[column]), int(layout.port[column]), self._family
            behind = np.unique(self._evaluation.behind[key][:, 0])
            nodes = intent.nodes[behind[intent.people.pod_network[intent.people.of[behind]]]]
            near = hosts[np.isin(intent.nodes[hosts], nodes)]
            listed = behind[behind < len(layout.endpoints)]
            sources = np.union1d(near, listed[layout.group[listed] >= 0])
            there = layout.present[layout.group[sources], column]
            yield self._keys(sources[there], np.full(int(there.sum()), column))

    def _present(self, source: int, columns: NDArray[np.int64]) -> _Ints:
        """Return the cells that a source has among columns."""
        there = columns[self._layout.present[self._layout.group[source], columns]]
        return self._keys(np.full(len(there), source), there)

    def blocks(self) -> _Part:
        """Decide one cell of each pair of classes, and what classes do not see."""
        width = len(self._layout.dst)
        codes = self._decided_classes()
        codes, (rows, columns) = _merged(codes)
        of_source = np.full(len(self._row_class), -1, np.int64)
        of_source[self._sources] = rows[self._row_class[self._sources]]
        of_column = columns[self._column_class]
        paths = self._of_family(self._layout.paths)
        absent = np.isin(self._alone, self._keys(*self._of_family(self._layout.absent)))
        keys = np.concatenate([self._alone, self._keys(*paths)])
        src, column = np.divmod(keys, width)
        there = np.concatenate([~absent, np.ones(paths.shape[1], np.bool_)])
        code = np.zeros(len(keys), np.int32)
        code[there] = self._decided(src[there], column[there])
        position = np.searchsorted(self._columns, column)
        by_class = np.where(
            of_source[src] >= 0, codes[of_source[src], of_column[position]] if codes.size else 0, 0
        )
        differs = np.flatnonzero(code != by_class)
        order = differs[np.argsort(keys[differs])]
        return _Part(
            rows=of_source,
            columns=self._columns,
            classes=of_column,
            codes=codes,
            src=src[order],
            column=column[order],
            code=code[order],
        )

    def _decided(self, src: NDArray[Any], column: NDArray[Any]) -> NDArray[np.int32]:
        """Return the states of some cells, each decided by itself."""
        parts = [np.empty(0, np.int32)]
        for start in range(0, len(src), CELLS_AT_A_TIME):
            span = slice(start, start + CELLS_AT_A_TIME)
            cells: Matrix = self._layout.cells(src[span], column[span])
            parts.append(self._states.codes(self._evaluation.decide(cells, self._tables)))
        return np.concatenate(parts)

    def _decided_classes(self) -> NDArray[np.int32]:
        """Return the states of one cell of each pair of classes, 0 where they have none."""
        rows = _first_of(self._row_class[self._sources])
        source = self._sources[rows]
        column = self._columns[_first_of(self._column_class)]
        codes = np.zeros((len(source), len(column)), np.int32)
        others = self._others(source, column)
        present = self._layout.present[:, column]
        some = max(1, CELLS_AT_A_TIME // max(len(column), 1))
        for start in range(0, len(source), some):
            here = slice(start, start + some)
            there = present[self._layout.group[source[here]]]
            src = np.broadcast_to(source[here, None], there.shape).copy()
            to = np.broadcast_to(column[None, :], there.shape).copy()
            for row in range(start, min(start + some, len(source))):
                for k, cell in others.get(row, ()):
                    if cell < 0:
                        there[row - start, k] = False
                    else:
                        src[row - start, k], to[row - start, k] = divmod(cell, self._width)
            codes[here][there] = self._decided(src[there], to[there])
        return codes

    @property
    def _width(self) -> int:
        return len(self._layout.dst)

    def _others(
        self, source: NDArray[np.int64], column: NDArray[np.int64]
    ) -> dict[int, list[tuple[int, int]]]:
        """Return what stands for classes whose first members' cell is told apart, by row class.

        Each is a class of columns and the key of another cell, -1 where they have no other.
        """
        src, to = np.divmod(self._alone, self._width)
        position = np.searchsorted(self._columns, to)
        row, k = self._row_class[src], self._column_class[position]
        first = (source[row] == src) & (column[k] == to)
        members = [members_of(self._row_class), members_of(self._column_class)]
        others: dict[int, list[tuple[int, int]]] = {}
        for r, c in zip(row[first].tolist(), k[first].tolist(), strict=True):
            cell = self._another(members[0][r], self._columns[members[1][c]])
            others.setdefault(r, []).append((c, cell))
        return others

    def _another(self, sources: NDArray[np.int64], columns: NDArray[np.int64]) -> int:
        """Return a cell between two classes that is not told apart, -1 where all are."""
        for some, source in product(_in_pieces(columns), sources.tolist()):
            keys = source * self._width + some
            position = np.minimum(np.searchsorted(self._alone, keys), len(self._alone) - 1)
            free = np.flatnonzero(self._alone[position] != keys)
            if len(free):
                return int(keys[free[0]])
        return -1


def _in_pieces(columns: NDArray[np.int64], size: int = 64) -> Iterator[NDArray[np.int64]]:
    """Yield columns a few at a time: mostly the first few will do."""
    for start in range(0, len(columns), size):
        yield columns[start : start + size]


def _numbered(*columns: NDArray[Any]) -> _Ints:
    """Return a dense number per row, the same for rows that are alike in all of the columns."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        codes = np.unique(codes * len(values) + inverse.reshape(-1), return_inverse=True)[1]
        codes = codes.reshape(-1).astype(np.int64)
    return codes


def _rows(array: NDArray[Any]) -> _Ints:
    """Return a number per row of an array, the same for equal rows."""
    numbers: dict[bytes, int] = {}
    digests = (blake2b(row.tobytes(), digest_size=_DIGEST).digest() for row in array)
    return np.fromiter((numbers.setdefault(d, len(numbers)) for d in digests), np.int64, len(array))


def _columns_of(side: SideTable, classes: NDArray[np.int32]) -> _Ints:
    """Return a number per class at the other end, the same for those that all vectors treat alike.

    A few classes at a time, as vectors may be many.
    """
    numbers: dict[bytes, int] = {}
    numbered = np.empty(len(classes), np.int64)
    for start in range(0, len(classes), 64):
        some = classes[start : start + 64]
        bits = np.ascontiguousarray(side.outcome[:, some].T)
        whose = bits if side.decider is None else np.ascontiguousarray(side.decider[:, some].T)
        for index in range(len(some)):
            digest = blake2b(bits[index].tobytes(), digest_size=_DIGEST)
            digest.update(whose[index].tobytes())
            numbered[start + index] = numbers.setdefault(digest.digest(), len(numbers))
    return numbered


def _first_of(classes: _Ints) -> _Ints:
    """Return the first member of each class, which are numbered densely."""
    return np.unique(classes, return_index=True)[1].astype(np.int64)


def _merged(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], tuple[_Ints, _Ints]]:
    """Merge rows and columns that turn out to be the same; return the number of each."""
    rows = _rows(codes)
    codes = codes[_first_of(rows)]
    columns = _rows(np.ascontiguousarray(codes.T))
    return np.ascontiguousarray(codes[:, _first_of(columns)]), (rows, columns)


def _joined(
    layout: Layout, parts: Sequence[_Part], states: _States, blames: tuple[Blame, ...]
) -> Blocks:
    """Put the families side by side: a row's class is of what it is in each of them."""
    source = layout.group >= 0
    numbered = _numbered(*(part.rows[source] for part in parts))
    row_class = np.full(len(layout.endpoints), -1, np.int32)
    row_class[source] = numbered
    firsts = np.flatnonzero(source)[_first_of(numbered)] if source.any() else np.empty(0, np.int64)
    column_class = np.zeros(len(layout.dst), np.int32)
    widths = 0
    pieces = []
    for part in parts:
        column_class[part.columns] = part.classes + widths
        pieces.append(part.codes[part.rows[firsts]])
        widths += part.codes.shape[1]
    meaning = states.columns()
    kind = np.uint16 if len(meaning["verdict"]) <= np.iinfo(np.uint16).max else np.uint32
    src, column, code = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("src", "column", "code")
    )
    order = np.lexsort((column, src))
    return Blocks(
        endpoints=layout.endpoints,
        ports=layout.ports,
        dst=layout.dst,
        family=layout.family,
        port=layout.port,
        row_class=row_class,
        column_class=column_class,
        codes=np.concatenate(pieces, axis=1).astype(kind),
        exceptions=Exceptions(
            src=src[order].astype(np.int32),
            column=column[order].astype(np.int32),
            code=code[order].astype(kind),
        ),
        blames=blames,
        **meaning,
    )
