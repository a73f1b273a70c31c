"""Blocks of rows and columns → the matrix: every cell once, in order, as arrays.

A block is a set of sources times a set of destinations; a scope is a union of blocks. All sources
that lie in the same blocks and have the same address families have the same row but for one thing,
the cells from an endpoint to itself. So a row is laid out once for each such group and copied into
place for each of its sources: the only memory that grows with N² is the result, 7 bytes a cell,
and the only Python loop is over endpoints.

A cell exists in a family when both ends have an address in it: the source the one it sends with,
the destination the one others send to. An endpoint that has no address at all but an obstacle
(a Service without endpoints, a pod without an address) counts as having every family: its cells
must stand in the matrix to be called unproven, because a cell left out proves nothing either.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.errors import ScopeError
from audit.model.blocks import NO_CLASS, Layout
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import Note
from audit.model.matrix import FAMILIES, Matrix, index_type
from audit.model.packets import Family

MAX_CELLS = 500_000_000
"""3.5 GB of arrays: three ports between 12,900 pods. More is a scope nobody meant."""
MAX_OUTLINED = 2_000_000_000
"""One port between 44,700 pods: the page of a run by class counts each cell in two bytes."""

_BITS = np.array([mask.bit_count() for mask in range(1 << len(FAMILIES))])
"""The number of families in a mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Every source paired with every destination; both are sorted indices of endpoints."""

    sources: NDArray[np.int32]
    destinations: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A source that is in no block and reaches one destination, on ports of the path's own."""

    source: int
    destination: int
    ports: tuple[Port, ...]


_Of = TypeVar("_Of", Matrix, Layout)


@dataclass(frozen=True, kw_only=True)
class Built(Generic[_Of]):
    """A matrix, laid out or not, and what the scope covers but the matrix cannot hold."""

    matrix: _Of
    pairs_without_family: int
    """Ordered pairs that have ports but no address family in common among those asked."""
    without_ports: tuple[int, ...]
    """Destinations at which the scope means no port."""

    def notes(self) -> tuple[Note, ...]:
        """Return sentences about what is left out, for the reader of the run."""
        notes = []
        if count := len(self.without_ports):
            subject = "destination declares" if count == 1 else "destinations declare"
            left_out = "is left out" if count == 1 else "are left out"
            notes.append(
                Note(
                    code="destinations-without-ports",
                    text=f"{count} {subject} no port that was asked for and {left_out}; `--port "
                    "tcp/80` asks about undeclared ports too",
                    subjects=tuple(self.matrix.endpoints[i].key for i in self.without_ports),
                )
            )
        if self.pairs_without_family:
            notes.append(
                Note(
                    code="pairs-without-common-family",
                    text=f"{self.pairs_without_family} pairs of endpoints have no address family "
                    "in common among those asked for and are no cells; see --family",
                )
            )
        return tuple(notes)


def build(
    endpoints: Sequence[Endpoint],
    blocks: Sequence[Block],
    ports: Sequence[tuple[Port, ...]],
    families: Sequence[Family],
    paths: Sequence[Path] = (),
) -> Built[Matrix]:
    """Return the matrix of `blocks` and `paths`, sorted by (src, dst, family, port), unique.

    `ports` are each endpoint's as a destination, parallel to `endpoints` (`ports.resolve`). No
    endpoint is paired with itself, nor with the same pod on another network, and none is in two
    paths with the same destination. ScopeError when there is no cell, or more than MAX_CELLS.
    """
    columns = _Columns(endpoints, ports, families, paths)
    return _built(_fill, endpoints, blocks, columns, paths, MAX_CELLS)


def outline(
    endpoints: Sequence[Endpoint],
    blocks: Sequence[Block],
    ports: Sequence[tuple[Port, ...]],
    families: Sequence[Family],
    paths: Sequence[Path] = (),
) -> Built[Layout]:
    """Return the same matrix without laying it out: memory for rows and columns, not for cells.

    ScopeError when there is no cell, or more than MAX_OUTLINED.
    """
    columns = _Columns(endpoints, ports, families, paths)
    return _built(_outlined, endpoints, blocks, columns, paths, MAX_OUTLINED)


def _built(
    make: Callable[[Sequence[Endpoint], "Sequence[_Group]", "_Columns", Sequence[Path]], _Of],
    endpoints: Sequence[Endpoint],
    blocks: Sequence[Block],
    columns: "_Columns",
    paths: Sequence[Path],
    most: int,
) -> Built[_Of]:
    """Return what `make` makes of at `most` so many cells of `blocks` and `paths`, and the rest."""
    groups = list(_groups(blocks, columns))
    _check_size(groups, columns, paths, most)
    built = Built(
        matrix=make(endpoints, groups, columns, paths),
        pairs_without_family=sum(group.pairs_without_family(columns) for group in groups),
        without_ports=_without_ports(blocks, columns),
    )
    if not len(built.matrix):
        raise ScopeError(_why_empty(built, columns.families))
    return built


class _Columns:
    """What a cell depends on, one entry per endpoint. A mask's bit i is FAMILIES[i]."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        ports: Sequence[tuple[Port, ...]],
        families: Sequence[Family],
        paths: Sequence[Path] = (),
    ) -> None:
        self.sends = np.array([_mask(e, _sent(e), families) for e in endpoints], np.uint8)
        self.receives = np.array([_mask(e, e.addresses, families) for e in endpoints], np.uint8)
        self.port_count = np.array([len(listed) for listed in ports], np.int64)
        self.families = families
        self.itself = _itself(endpoints)
        self.port_lists = ports
        self._others = {port for path in paths for port in path.ports}

    def number_ports(self) -> tuple[tuple[Port, ...], NDArray[np.int32], NDArray[np.int64]]:
        """Return the table of ports, all endpoints' port indices, and where each one's begin."""
        # By identity: equal tuples are mostly one tuple, and one may hold all 65,535 ports.
        distinct = {id(listed): listed for listed in self.port_lists}
        listed = {port for ports in distinct.values() for port in ports}
        table = tuple(sorted(listed | self._others))
        number = {port: index for index, port in enumerate(table)}
        indices_of = {
            key: np.array(sorted(number[port] for port in listed), np.int32)
            for key, listed in distinct.items()
        }
        indices = [indices_of[id(listed)] for listed in self.port_lists]
        starts = np.cumsum(self.port_count) - self.port_count
        return table, np.concatenate([*indices, np.empty(0, np.int32)]), starts


def _sent(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the addresses an endpoint sends with."""
    return endpoint.attachment.addresses if endpoint.attachment else endpoint.addresses


def _mask(endpoint: Endpoint, addresses: tuple[str, ...], families: Sequence[Family]) -> int:
    has = {Family.of(address) for address in addresses}
    if not addresses and endpoint.obstacle:
        has = set(FAMILIES)
    common = has.intersection(families)
    return sum(1 << bit for bit, family in enumerate(FAMILIES) if family in common)


def _itself(endpoints: Sequence[Endpoint]) -> NDArray[np.int32]:
    """Return for each source the first and the last column that are the same, shape (2, N).

    An external address has a row per gateway but one column, a pod one for each of its networks.
    """
    first = np.arange(len(endpoints), dtype=np.int32)
    last = first.copy()
    of_pod: dict[tuple[str, str], list[int]] = {}
    for index, endpoint in enumerate(endpoints):
        if endpoint.kind is EndpointKind.POD:
            of_pod.setdefault((endpoint.namespace, endpoint.name), []).append(index)
    for indices in of_pod.values():
        first[indices], last[indices] = indices[0], indices[-1]
    column = {
        endpoint.name: index
        for index, endpoint in enumerate(endpoints)
        if endpoint.kind is EndpointKind.EXTERNAL and not endpoint.node
    }
    for index, endpoint in enumerate(endpoints):
        if endpoint.kind is EndpointKind.EXTERNAL:
            first[index] = last[index] = column.get(endpoint.name, index)
    return np.stack([first, last])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Sources that have the same row, but for themselves."""

    sources: NDArray[np.int64]
    destinations: NDArray[np.int32]
    mask: int

    def row_length(self, columns: _Columns) -> int:
        """Return the number of cells of a row, those of a source with itself included."""
        common = _BITS[columns.receives[self.destinations] & self.mask]
        return int(np.dot(common, columns.port_count[self.destinations]))

    def pairs_without_family(self, columns: _Columns) -> int:
        """Return how many pairs of this group have ports but no family for them."""
        stranded = self.destinations[
            (columns.receives[self.destinations] & self.mask == 0)
            & (columns.port_count[self.destinations] > 0)
        ]
        first, last = columns.itself[:, self.sources]
        same = np.searchsorted(stranded, last, "right") - np.searchsorted(stranded, first, "left")
        return len(self.sources) * len(stranded) - int(same.sum())


def _groups(blocks: Sequence[Block], columns: _Columns) -> Iterator[_Group]:
    """Partition the sources of all blocks by the blocks they lie in and the families they have."""
    member = np.zeros((len(columns.sends), len(blocks)), dtype=bool)
    for index, block in enumerate(blocks):
        member[block.sources, index] = True
    sources = np.flatnonzero(member.any(axis=1))
    traits = np.column_stack([columns.sends[sources], member[sources]])
    for trait in np.unique(traits, axis=0):
        lying_in = [block for block, inside in zip(blocks, trait[1:], strict=True) if inside]
        yield _Group(
            sources=sources[(traits == trait).all(axis=1)],
            destinations=np.unique(np.concatenate([block.destinations for block in lying_in])),
            mask=int(trait[0]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The cells of one row, sorted by (dst, family, port): parallel arrays."""

    dst: NDArray[np.int32]
    family: NDArray[np.int8]
    port: NDArray[np.int32]


def _row(
    group: _Group, columns: _Columns, port_index: NDArray[np.int32], starts: NDArray[np.int64]
) -> _Row:
    common = columns.receives[group.destinations] & group.mask
    present = np.stack([common >> bit & 1 for bit in range(len(FAMILIES))], axis=1)
    where, family = np.nonzero(present)
    dst = group.destinations[where]
    counts = columns.port_count[dst]
    # The n-th cell of a (destination, family) pair is the n-th port of the destination.
    pair_starts = np.cumsum(counts) - counts
    nth = np.arange(counts.sum()) - np.repeat(pair_starts, counts)
    return _Row(
        dst=np.repeat(dst, counts),
        family=np.repeat(family.astype(np.int8), counts),
        port=port_index[np.repeat(starts[dst], counts) + nth],
    )


def _path_rows(
    paths: Sequence[Path], columns: _Columns, table: Sequence[Port]
) -> Iterator[tuple[int, _Row]]:
    """Yield each source of paths with its row."""
    number = {port: index for index, port in enumerate(table)}
    of: dict[int, list[tuple[int, int, int]]] = {}
    for path in paths:
        common = int(columns.receives[path.destination] & columns.sends[path.source])
        of.setdefault(path.source, []).extend(
            (path.destination, bit, number[port])
            for bit in range(len(FAMILIES))
            if common >> bit & 1
            for port in path.ports
        )
    for source, cells in of.items():
        dst, family, port = np.array(sorted(cells), np.int32).reshape(-1, 3).T
        yield source, _Row(dst=dst, family=family.astype(np.int8), port=port)


def _fill(
    endpoints: Sequence[Endpoint],
    groups: Sequence[_Group],
    columns: _Columns,
    paths: Sequence[Path],
) -> Matrix:
    table, port_index, port_starts = columns.number_ports()
    rows = [_row(group, columns, port_index, port_starts) for group in groups]
    # Per source: its row, and the cells of the row that are the source itself.
    lengths = np.zeros(len(endpoints), np.int64)
    cuts: list[tuple[_Row, int, int] | None] = [None] * len(endpoints)
    for group, row in zip(groups, rows, strict=True):
        same = columns.itself[:, group.sources]
        first = np.searchsorted(row.dst, same[0], side="left")
        last = np.searchsorted(row.dst, same[1], side="right")
        lengths[group.sources] = len(row.dst) - (last - first)
        for source, low, high in zip(group.sources, first, last, strict=True):
            cuts[source] = (row, int(low), int(high))
    for source, row in _path_rows(paths, columns, table):
        lengths[source] = len(row.dst)
        cuts[source] = (row, 0, 0)
    ends = np.cumsum(lengths)
    total = int(lengths.sum())
    index = index_type(len(endpoints))
    matrix = Matrix(
        endpoints=tuple(endpoints),
        ports=table,
        src=np.repeat(np.arange(len(endpoints), dtype=index), lengths),
        dst=np.empty(total, index),
        family=np.empty(total, np.int8),
        port=np.empty(total, index_type(len(table))),
    )
    for source, cut in enumerate(cuts):
        if cut is not None:
            row, low, high = cut
            here = slice(int(ends[source] - lengths[source]), int(ends[source]))
            _copy_without(row.dst, low, high, matrix.dst[here])
            _copy_without(row.family, low, high, matrix.family[here])
            _copy_without(row.port, low, high, matrix.port[here])
    return matrix


def _outlined(
    endpoints: Sequence[Endpoint],
    groups: Sequence[_Group],
    columns: _Columns,
    paths: Sequence[Path],
) -> Layout:
    table, port_index, port_starts = columns.number_ports()
    rows = [_row(group, columns, port_index, port_starts) for group in groups]
    beside = list(_path_rows(paths, columns, table))
    keys = [_keys(row, len(table)) for row in (*rows, *(row for _, row in beside))]
    every = np.unique(np.concatenate([np.empty(0, np.int64), *keys]))
    group_of = np.full(len(endpoints), NO_CLASS, np.int32)
    present = np.zeros((len(groups), len(every)), np.bool_)
    absent = [np.empty((2, 0), np.int32)]
    for number, (group, row) in enumerate(zip(groups, rows, strict=True)):
        where = np.searchsorted(every, keys[number]).astype(np.int32)
        group_of[group.sources] = number
        present[number, where] = True
        first, last = columns.itself[:, group.sources]
        low = np.searchsorted(row.dst, first, side="left")
        count = np.searchsorted(row.dst, last, side="right") - low
        nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        same = where[np.repeat(low, count) + nth]
        absent.append(np.stack([np.repeat(group.sources, count).astype(np.int32), same]))
    lengths = [len(row.dst) for _, row in beside]
    path_src = np.repeat(np.array([source for source, _ in beside], np.int32), lengths)
    path_keys = np.concatenate([np.empty(0, np.int64), *keys[len(groups) :]])
    width = max(len(table), 1)
    return Layout(
        endpoints=tuple(endpoints),
        ports=table,
        dst=(every // (width * len(FAMILIES))).astype(np.int32),
        family=(every // width % len(FAMILIES)).astype(np.int8),
        port=(every % width).astype(np.int32),
        group=group_of,
        present=present,
        absent=_sorted_pairs(np.concatenate(absent, axis=1)),
        paths=_sorted_pairs(
            np.stack([path_src, np.searchsorted(every, path_keys).astype(np.int32)])
        ),
    )


def _keys(row: _Row, ports: int) -> NDArray[np.int64]:
    """Return a number per cell of a row, which sorts as (dst, family, port) does."""
    keys = row.dst.astype(np.int64) * len(FAMILIES) + row.family
    return keys * max(ports, 1) + row.port


def _sorted_pairs(pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    return pairs[:, np.lexsort((pairs[1], pairs[0]))]


def _copy_without(row: NDArray[np.integer], low: int, high: int, out: NDArray[np.integer]) -> None:
    """Copy `row` but for `row[low:high]` into `out`, which is as long as what remains."""
    out[:low] = row[:low]
    out[low:] = row[high:]


def _check_size(
    groups: Sequence[_Group], columns: _Columns, paths: Sequence[Path], most: int
) -> None:
    cells = sum(len(FAMILIES) * len(path.ports) for path in paths)
    cells += sum(len(group.sources) * group.row_length(columns) for group in groups)
    if cells > most:
        raise ScopeError(
            f"this scope has {cells:,} cells, more than {most:,}; narrow it with --namespace, "
            "--selector or fewer --port"
        )


def _without_ports(blocks: Sequence[Block], columns: _Columns) -> tuple[int, ...]:
    empty = np.empty(0, np.int32)
    destinations = np.unique(np.concatenate([empty, *(b.destinations for b in blocks)]))
    return tuple(int(i) for i in destinations[columns.port_count[destinations] == 0])


def _why_empty(built: Built[Matrix] | Built[Layout], families: Sequence[Family]) -> str:
    if built.pairs_without_family:
        choice = " or ".join(families)
        return f"no source and destination in this scope share an {choice} address; see --family"
    if built.without_ports:
        return (
            "no destination in this scope declares a port; say which to ask for, as in "
            "--port tcp/80"
        )
    return (
        "this scope is one endpoint; a cell needs a source and another endpoint as destination, "
        "such as an address outside: --from-ip 192.0.2.1"
    )
