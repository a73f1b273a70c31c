"""Tables as the model's values again: the inverse of `encode`.

Cells come back as they went: the codes of a file's own dictionaries are translated into the
matrix' indices by numpy lookups. Python sees each distinct word of a file, not each cell.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.model.endpoints import MAX_PORT, Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import Policy
from audit.model.matrix import FAMILIES
from audit.model.networks import DEFAULT, Role
from audit.model.packets import Protocol
from audit.model.verdicts import NO_VERDICT, PolicyRef
from audit.store import schema
from audit.store.encode import PORTS_KEY
from audit.store.layout import reading

_ATTRIBUTES = {"network": "network_name"}
"""Columns that `Endpoint` calls otherwise."""
_PORTS = MAX_PORT + 1
_FOLDED = 1 << 62

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
    """From the columns that name an endpoint, which are `names`, to its index in the table."""

    def __init__(self, endpoints: Sequence[Endpoint], names: Sequence[str]) -> None:
        self._names = names
        attributes = [_ATTRIBUTES.get(name, name) for name in names]
        values = [[str(getattr(endpoint, name)) for endpoint in endpoints] for name in attributes]
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
        columns = [words(table, f"{side}_{name}") for name in self._names]
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
        """Return one number per row for its codes."""
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

    def __init__(self, endpoints: EndpointIndex, ports: Sequence[Port]) -> None:
        self._endpoints = endpoints
        self._ports = PortIndex(ports)
        self._families = Vocabulary(FAMILIES)
        self._coded = {name: Vocabulary(of) for name, of in schema.CODED.items()}

    def of(self, table: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield each column's name and codes; of the planes those that the table has.

        Raises ValueError for what the run does not have.
        """
        yield "src", self._endpoints.places(table, "src")
        yield "dst", self._endpoints.places(table, "dst")
        yield "family", self._families.codes(words(table, "family"))
        yield "port", self._ports.places(table)
        for name, vocabulary in self._coded.items():
            if name in table.column_names:
                codes = vocabulary.codes(words(table, name))
                yield name, np.where(codes < 0, NO_VERDICT, codes)
        yield "drift", table["drift"].cast(pa.uint8()).fill_null(NO_VERDICT).to_numpy()


def endpoint_key(files: Sequence[Path]) -> Sequence[str]:
    """Return the columns that name an endpoint in a run; RunReadError when the file is damaged.

    Cells of earlier programs have no networks.
    """
    with reading(files[0]):
        has_networks = "src_network" in pq.read_schema(files[0]).names
    return (
        schema.ENDPOINT_KEY
        if has_networks
        else [name for name in schema.ENDPOINT_KEY if name != "network"]
    )


def ports_of(files: Sequence[Path]) -> tuple[Port, ...]:
    """Return the ports of a run, in their order; RunReadError when the first file is damaged."""
    with reading(files[0]):
        metadata = pq.read_schema(files[0]).metadata
        return tuple(Port.parse(text) for text in metadata[PORTS_KEY].decode().split(",") if text)


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


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without its dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _dense(codes: _Ints) -> _Ints:
    """Return the index of each code among the distinct ones, in the order of their first rows."""
    places: _Ints = pa.array(codes).dictionary_encode().indices.to_numpy().astype(np.int64)
    return places


def endpoints(file: Path) -> tuple[Endpoint, ...]:
    """Return the endpoints in the order they were written; RunReadError when damaged."""
    with reading(file):
        return tuple(
            Endpoint(
                **{
                    **{name: _frozen(row[name]) for name in schema.PLAIN_OF_ENDPOINTS},
                    "kind": EndpointKind(row["kind"]),
                },
                declared=tuple(
                    NamedPort(
                        name=declared["name"],
                        port=Port(protocol=Protocol(declared["protocol"]), number=declared["port"]),
                    )
                    for declared in row["declared"]
                ),
                attachment=_attachment(row),
                **_network(row),
            )
            for row in pq.read_table(file, partitioning=None).to_pylist()
        )


def _frozen(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    return tuple(value) if isinstance(value, list) else value


def _network(row: dict[str, Any]) -> dict[str, Any]:
    """Return a pod's network and its role; older runs tell neither."""
    name, role = row.get("network", ""), row.get("network_role", "")
    return {
        "network": "" if name == DEFAULT else name,
        "role": Role(role) if role else Role.PRIMARY,
    }


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
                text=row["manifest"],
            )
            for row in pq.read_table(file, partitioning=None).to_pylist()
        )
