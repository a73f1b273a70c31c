"""Tables as the model's values again: the inverse of `encode`.

Cells come back as they went: the codes of a file's own dictionaries are translated into the
matrix' indices by numpy lookups, a file at a time into arrays made once for the whole run. Python
sees each distinct word of a file, and each distinct blame, not each cell.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.model.cells import Cells
from audit.model.endpoints import MAX_PORT, Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import Policy
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix, index_type
from audit.model.packets import Protocol
from audit.model.verdicts import NO_VERDICT, REASONS, VERDICTS, Blame, PolicyRef
from audit.store.blames import Combination
from audit.store.encode import PORTS_KEY
from audit.store.layout import reading

ENDPOINT_KEY = ("kind", "namespace", "name", "node")
"""The columns that name an endpoint."""
_COLUMNS = [
    *(f"{side}_{name}" for side in ("src", "dst") for name in ENDPOINT_KEY),
    *("family", "protocol", "port", "port_end", "reply"),
    *("intent", "logical", "datapath", "drift", "other_trace_id"),
    *Combination._fields,
]
"""The columns a Matrix and its verdicts are made of."""
_PORTS = MAX_PORT + 1
_FOLDED = 1 << 62
_SETTLED_AT_A_TIME = 1 << 20  # cells: in one go, a second array of all of them

_Ints = NDArray[np.int64]


class Vocabulary:
    """A code per word; `grow` gives new words the next code, else they are an error."""

    def __init__(self, words: Iterable[str] = (), *, grow: bool = False) -> None:
        self.words: dict[str, int] = {}
        for word in words:
            self.words.setdefault(word, len(self.words))
        self._grow = grow

    def codes(self, column: pa.DictionaryArray) -> _Ints:
        """Return the code of each row, -1 for nulls; raise ValueError for an unknown word."""
        codes = [self._code(word) for word in column.dictionary.to_pylist()]
        if column.null_count == len(column):
            return np.full(len(column), -1, np.int64)
        lookup = np.array([*codes, -1], dtype=np.int64)  # index -1 is its last: the null
        if len(codes) == 1 and not column.null_count:
            return np.full(len(column), lookup[0])
        return lookup[_indices(column)]

    def _code(self, word: str) -> int:
        if self._grow:
            return self.words.setdefault(word, len(self.words))
        if word not in self.words:
            raise ValueError(f"unknown word {word!r}")
        return self.words[word]


class EndpointIndex:
    """From the four columns that name an endpoint to its index in the endpoints table."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        values = [[str(getattr(endpoint, name)) for endpoint in endpoints] for name in ENDPOINT_KEY]
        self._vocabularies = [Vocabulary(column) for column in values]
        codes = [
            np.array([vocabulary.words[value] for value in column], dtype=np.int64)
            for vocabulary, column in zip(self._vocabularies, values, strict=True)
        ]
        keys = self._combine(codes)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def places(self, table: pa.Table, side: str) -> _Ints:
        """Return the endpoint of each row on `side`; raise ValueError when one is not listed."""
        columns = [words(table, f"{side}_{name}") for name in ENDPOINT_KEY]
        begins = _begins(columns)
        keys = self._combine(
            [
                vocabulary.codes(column.take(pa.array(begins)))
                for vocabulary, column in zip(self._vocabularies, columns, strict=True)
            ]
        )
        places = np.searchsorted(self._keys, keys)
        if len(keys) and not np.array_equal(self._keys.take(places, mode="clip"), keys):
            raise ValueError("a cell names an endpoint that endpoints.parquet does not have")
        return np.repeat(self._order[places], np.diff(begins, append=table.num_rows))

    def _combine(self, codes: Sequence[_Ints]) -> _Ints:
        """Return one number per row for its four codes."""
        keys = np.zeros(len(codes[0]), dtype=np.int64)
        for column, vocabulary in zip(codes, self._vocabularies, strict=True):
            keys = keys * len(vocabulary.words) + column
        return keys


class PortIndex:
    """From protocol and range to the index in `Matrix.ports`."""

    def __init__(self, ports: Sequence[Port]) -> None:
        self._protocols = Vocabulary(Protocol)
        keys = [
            (self._protocols.words[port.protocol] * _PORTS + port.number) * _PORTS + port.sample
            for port in ports
        ]
        self._order = np.argsort(np.array(keys, dtype=np.int64))
        self._keys = np.array(keys, dtype=np.int64)[self._order]

    def places(self, table: pa.Table) -> NDArray[np.int64]:
        """Return the port of each row; raise ValueError when one is not in the run's ports."""
        first, last = (table[name].to_numpy().astype(np.int64) for name in ("port", "port_end"))
        protocols = self._protocols.codes(words(table, "protocol")).astype(np.int64)
        keys = (protocols * _PORTS + first) * _PORTS + last
        positions = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        if len(keys) and (not len(self._keys) or (self._keys[positions] != keys).any()):
            raise ValueError("a cell has a port that the run does not")
        places: NDArray[np.int64] = self._order[positions]
        return places


class CellCodes:
    """The columns of a table of cells as the matrix' indices and codes; one for a whole run."""

    def __init__(self, endpoints: Sequence[Endpoint], ports: Sequence[Port]) -> None:
        self._endpoints = EndpointIndex(endpoints)
        self._ports = PortIndex(ports)
        self._families = Vocabulary(FAMILIES)
        self._verdicts = Vocabulary(VERDICTS)
        self._reasons = Vocabulary(REASONS)

    def of(self, table: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield each column's name and codes; of the planes those that the table has.

        Raises ValueError for what the run does not have.
        """
        yield "src", self._endpoints.places(table, "src")
        yield "dst", self._endpoints.places(table, "dst")
        yield "family", self._families.codes(words(table, "family"))
        yield "port", self._ports.places(table)
        yield "verdict", self._verdicts.codes(words(table, "verdict"))
        yield "reason", self._reasons.codes(words(table, "reason"))
        for name in ("reply", "intent", "logical", "datapath"):
            if name in table.column_names:
                codes = self._verdicts.codes(words(table, name))
                yield name, np.where(codes < 0, NO_VERDICT, codes)
        yield "drift", table["drift"].cast(pa.uint8()).fill_null(NO_VERDICT).to_numpy()


class _Cells:
    """The arrays of a whole run, filled table by table.

    `blame` holds places in `combinations` until somebody says what blame each of those is.
    """

    def __init__(self, count: int, endpoints: Sequence[Endpoint], ports: Sequence[Port]) -> None:
        index = index_type(len(endpoints))
        self.src, self.dst = np.empty(count, index), np.empty(count, index)
        self.port = np.empty(count, index_type(len(ports)))
        self.blame, self.trace = np.empty(count, np.int32), np.empty(count, np.int32)
        self.other_trace = np.empty(count, np.int32)
        self.family = np.empty(count, np.int8)
        self.verdict, self.reply, self.reason = np.empty((3, count), np.uint8)
        self.intent, self.logical, self.datapath, self.drift = np.empty((4, count), np.uint8)
        self.traces = Vocabulary(grow=True)
        self.combinations: dict[Combination, int] = {}
        self._codes = CellCodes(endpoints, ports)

    def fill(self, start: int, table: pa.Table) -> int:
        """Put the rows of `table` at `start`; return where the next ones go."""
        end = start + len(table)
        rows = slice(start, end)
        for name, codes in self._codes.of(table):
            getattr(self, name)[rows] = codes
        self.trace[rows] = self.traces.codes(words(table, "trace_id"))
        self.other_trace[rows] = self.traces.codes(words(table, "other_trace_id"))
        self._fill_blame(rows, table.select(Combination._fields))
        return end

    def _fill_blame(self, rows: slice, table: pa.Table) -> None:
        codes, firsts = distinct(table)
        columns = [_plain(column).to_pylist() for column in table.take(firsts).columns]
        name = table.column_names.index("blame_name")
        places = [
            -1
            if row[name] is None
            else self.combinations.setdefault(Combination(*row), len(self.combinations))
            for row in zip(*columns, strict=True)
        ]
        self.blame[rows] = np.array(places, dtype=np.int32)[codes]

    def planes(self, end: int | None = None) -> dict[str, Any]:
        """Return each plane's verdicts of the cells before `end`; none of a run of one plane."""
        planes = ("intent", "logical", "datapath")
        present = [name for name in planes if (getattr(self, name)[:end] != NO_VERDICT).any()]
        if len(present) < 2:  # noqa: PLR2004 - one plane is the cell's verdict
            return {}
        names = (*present, "drift", *(("other_trace",) if "datapath" in present else ()))
        return {name: getattr(self, name)[:end] for name in names}

    def part(self, end: int) -> Cells:
        """Return the cells before `end`; `blame` indexes `combinations`."""
        names = (
            *("src", "dst", "family", "port", "verdict", "reply", "reason"),
            *("drift", "blame", "trace"),
        )
        columns = {name: getattr(self, name)[:end] for name in names}
        return Cells(**{**columns, **self.planes(end)})

    def settle_blame(self, blames: Iterable[Blame]) -> tuple[Blame, ...]:
        """Make `blame` index the distinct ones of `blames`, one of which each combination has."""
        distinct: dict[Blame, int] = {}
        codes = [distinct.setdefault(blame, len(distinct)) for blame in blames]
        lookup = np.array([*codes, -1], dtype=np.int32)
        for start in range(0, len(self.blame), _SETTLED_AT_A_TIME):
            part = self.blame[start : start + _SETTLED_AT_A_TIME]
            part[:] = lookup[part]
        return tuple(distinct)


def cells(
    files: Sequence[Path],
    endpoints: Sequence[Endpoint],
    blame_of: Callable[[Sequence[Combination]], Iterable[Blame]],
    between: "Between | None" = None,
) -> tuple[Matrix, CellVerdicts]:
    """Return the cells of `files`, in order; `blame_of` says what each combination means.

    With `between`, only those between ends named as these endpoints are. Raises RunReadError when
    a file is damaged or names what the run does not have.
    """
    ports = ports_of(files)
    if between is None:
        with reading(files[0]):
            count = sum(pq.read_metadata(file).num_rows for file in files)
        groups = _row_groups(files)
    else:
        names = [pa.array(sorted({endpoints[i].name for i in indices})) for indices in between]
        chosen = [(file, table) for file, table in _row_groups(files, names) if len(table)]
        count, groups = sum(len(table) for _, table in chosen), iter(chosen)
    arrays = _Cells(count, endpoints, ports)
    end = 0
    for file, table in groups:
        with reading(file):
            end = arrays.fill(end, table)
    blames = arrays.settle_blame(blame_of(list(arrays.combinations)))
    matrix = Matrix(
        endpoints=tuple(endpoints),
        ports=ports,
        src=arrays.src,
        dst=arrays.dst,
        family=arrays.family,
        port=arrays.port,
    )
    return matrix, CellVerdicts(
        verdict=arrays.verdict,
        reply=arrays.reply,
        reason=arrays.reason,
        blame=arrays.blame,
        trace=arrays.trace,
        blames=blames,
        trace_keys=tuple(arrays.traces.words),
        **arrays.planes(),
    )


Between = tuple[Collection[int], Collection[int]]
"""Indices of sources and of destinations."""


def _row_groups(
    files: Sequence[Path], names: Sequence[pa.Array] | None = None
) -> Iterator[tuple[Path, pa.Table]]:
    """Yield the row groups of `files`; of each only what is between ends of these names."""
    for file in files:
        with reading(file), pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=_COLUMNS)
                if names is not None:
                    table = table.filter(
                        pc.and_(
                            pc.is_in(table["src_name"], value_set=names[0]),
                            pc.is_in(table["dst_name"], value_set=names[1]),
                        )
                    )
                yield file, table


class CellParts:
    """The cells of `files`, a row group at a time; what they index grows with each part."""

    def __init__(self, files: Sequence[Path], endpoints: Sequence[Endpoint]) -> None:
        self._files = files
        with reading(files[0]):
            metadata = [pq.read_metadata(file) for file in files]
        groups = [of.row_group(n).num_rows for of in metadata for n in range(of.num_row_groups)]
        self._cells = _Cells(max(groups, default=0), endpoints, ports_of(files))

    def read(self) -> Iterator[Cells]:
        """Yield the parts; RunReadError when a file is damaged."""
        for file in self._files:
            with reading(file), pq.ParquetFile(file) as parquet:
                for group in range(parquet.num_row_groups):
                    # The table is let go of before the next one is read.
                    end = self._cells.fill(0, parquet.read_row_group(group, columns=_COLUMNS))
                    yield self._cells.part(end)

    @property
    def combinations(self) -> list[Combination]:
        """What the parts' `blame` indexes."""
        return list(self._cells.combinations)

    @property
    def trace_keys(self) -> tuple[str, ...]:
        """What the parts' `trace` and `other_trace` index."""
        return tuple(self._cells.traces.words)


def ports_of(files: Sequence[Path]) -> tuple[Port, ...]:
    """Return the ports of a run, in their order; RunReadError when the first file is damaged."""
    with reading(files[0]):
        metadata = pq.read_schema(files[0]).metadata
        return tuple(port_of(text) for text in metadata[PORTS_KEY].decode().split(",") if text)


def words(table: pa.Table, name: str) -> pa.DictionaryArray:
    """Return a text column in one piece, with one dictionary."""
    return table[name].unify_dictionaries().combine_chunks()


def distinct(table: pa.Table) -> tuple[_Ints, _Ints]:
    """Return a code per row, the same for equal rows, and the first row of each code.

    Columns are folded into one number as long as that fits 64 bits, and it is made dense only
    then: hashing a million integers costs more than all the rest.
    """
    codes, bound = np.zeros(table.num_rows, dtype=np.int64), 1
    for name in table.column_names:
        column = table[name].combine_chunks()
        if column.null_count == len(column):
            continue
        column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        width = len(column.dictionary) + 1
        if bound * width >= _FOLDED:
            codes, bound = _dense(codes), table.num_rows
        codes *= width
        codes += _indices(column)
        codes += 1
        bound *= width
    # Neighbours are mostly alike: only where a run of them begins is anything looked up.
    begins = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    dense = _dense(codes[begins])
    firsts = np.empty(int(dense.max(initial=-1)) + 1, dtype=np.int64)
    firsts[dense[::-1]] = begins[::-1]  # the last to be written is the first row
    return np.repeat(dense, np.diff(begins, append=len(codes))), firsts


def _begins(columns: Sequence[pa.DictionaryArray]) -> _Ints:
    """Return the rows that differ from the one before in any of the columns."""
    differs = np.zeros(len(columns[0]), np.bool_)
    differs[:1] = True
    for column in columns:
        indices = _indices(column)
        differs[1:] |= indices[1:] != indices[:-1]
    return np.flatnonzero(differs)


def _indices(column: pa.DictionaryArray) -> NDArray[np.int32]:
    """Return the index of each row into the column's dictionary, -1 for nulls."""
    indices = column.indices.fill_null(-1) if column.null_count else column.indices
    array: NDArray[np.int32] = indices.to_numpy(zero_copy_only=False)
    return array


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without its dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _dense(codes: _Ints) -> _Ints:
    """Return the index of each code among the distinct ones, in the order of their first rows."""
    places: _Ints = pa.array(codes).dictionary_encode().indices.to_numpy().astype(np.int64)
    return places


def port_of(text: str) -> Port:
    """Return the port `str(Port)` printed."""
    protocol, _, numbers = text.partition("/")
    first, _, last = numbers.partition("-")
    return Port(protocol=Protocol(protocol), number=int(first), last=int(last or 0))


def endpoints(file: Path) -> tuple[Endpoint, ...]:
    """Return the endpoints in the order they were written; RunReadError when damaged."""
    with reading(file):
        return tuple(
            Endpoint(
                kind=EndpointKind(row["kind"]),
                namespace=row["namespace"],
                name=row["name"],
                node=row["node"],
                addresses=tuple(row["addresses"]),
                labels=tuple(row["labels"]),
                workload=row["workload"],
                host_network=row["host_network"],
                declared=tuple(
                    NamedPort(
                        name=declared["name"],
                        port=Port(protocol=Protocol(declared["protocol"]), number=declared["port"]),
                    )
                    for declared in row["declared"]
                ),
                attachment=_attachment(row),
                obstacle=row["obstacle"],
            )
            for row in pq.read_table(file, partitioning=None).to_pylist()
        )


def _attachment(row: dict[str, Any]) -> Attachment | None:
    """Return where an endpoint is in OVN, if it is."""
    if row["zone"] is None:
        return None
    return Attachment(
        zone=row["zone"],
        switch=row["switch"],
        port=row["logical_port"],
        mac=row["mac"],
        gateway_mac=row["gateway_mac"],
        addresses=tuple(row["sends_from"]),
    )


def policies(file: Path) -> tuple[Policy, ...]:
    """Return the policies in the order they were written; RunReadError when damaged."""
    with reading(file):
        return tuple(
            Policy(
                ref=PolicyRef(kind=row["kind"], namespace=row["namespace"], name=row["name"]),
                directions=tuple(row["directions"]),
                rules=(row["ingress_rules"], row["egress_rules"]),
                manifest=row["manifest"],
            )
            for row in pq.read_table(file, partitioning=None).to_pylist()
        )
