"""The model's values as Arrow tables, in the columns of `schema`.

Cells are the hard part, because there are N² of them: the matrix is small integers into tables,
and a dictionary-encoded column is small integers into words. So a column of cells is one or two
numpy lookups (cell → endpoint → word) and never a Python object per cell. What there are few of
(endpoints, policies, traces) is converted row by row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.model.endpoints import Attachment, Endpoint, Port
from audit.model.facts import Policy
from audit.model.matrix import FAMILIES, CellVerdicts, Matrix
from audit.model.run import TraceRecord
from audit.model.verdicts import NO_VERDICT, VERDICTS, Blame
from audit.store import outcomes, schema

PORTS_KEY = b"ports"
"""Metadata of every cells file: `Matrix.ports` in order, so that they come back as they were."""

_Codes = NDArray[np.uint8]
_Index = NDArray[np.int32] | NDArray[np.int8] | NDArray[np.uint8]


class _Words:
    """A text column: `codes[index]` is a place in `words`, -1 a null.

    Index -1 is the last of `codes`, which is why every table of codes ends in a null. Words are
    sorted: in what order a run came to know them, which files do not tell, no byte depends on.
    """

    def __init__(self, values: Iterable[str | None]) -> None:
        listed = list(values)
        words = sorted({value for value in listed if value is not None})
        places = {word: place for place, word in enumerate(words)}
        codes = [-1 if value is None else places[value] for value in listed]
        self._codes = np.array([*codes, -1], dtype=np.int32)
        self._words = pa.array(words, pa.string())

    def column(self, index: _Index) -> pa.DictionaryArray:
        """Return the column, with a dictionary of only the words that occur in it.

        Parquet keeps a dictionary per row group: one of every trace of the run in each would be
        most of the file.
        """
        codes = self._codes[index]
        occurs = np.zeros(len(self._words) + 1, dtype=np.bool_)
        occurs[codes] = True
        places = np.cumsum(occurs, dtype=np.int32) - 1
        indices = pa.array(places[codes], pa.int32(), mask=codes < 0)
        words = self._words.take(pa.array(np.flatnonzero(occurs[:-1])))
        return pa.DictionaryArray.from_arrays(indices, words)


class _Numbers:
    """A number column: `numbers[index]`, null where that is negative."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = np.array([*numbers, -1], dtype=np.int32)

    def column(self, index: _Index) -> pa.Array:
        """Return the column."""
        numbers = self._numbers[index]
        return pa.array(numbers, pa.int32(), mask=numbers < 0)


_Columns = dict[str, tuple[_Index, _Words | _Numbers]]


def cells(
    matrix: Matrix, verdicts: CellVerdicts, predicted: _Codes | None = None, *, chunk: int
) -> Iterator[pa.Table]:
    """Yield the cells in order, `chunk` rows at a time; at least one table, if an empty one."""
    columns = {
        **_endpoint_columns(matrix),
        **_port_columns(matrix),
        **_verdict_columns(verdicts, predicted),
        **_blame_columns(verdicts),
    }
    arrow_schema = with_ports(schema.CELLS, matrix.ports)
    for start in range(0, max(len(matrix), 1), chunk):
        rows = slice(start, start + chunk)
        count = len(matrix.src[rows])
        arrays = {name: source.column(index[rows]) for name, (index, source) in columns.items()}
        arrays["drift"] = _flags(verdicts.drift, rows, count)
        yield pa.table(
            [
                arrays[field.name] if field.name in arrays else pa.nulls(count, field.type)
                for field in arrow_schema
            ],
            schema=arrow_schema,
        )


def with_ports(table: schema.Table, ports: Sequence[Port]) -> pa.Schema:
    """Return a table's schema with the run's ports, so that they come back as they were."""
    return table.schema.with_metadata({PORTS_KEY: ",".join(map(str, ports))})


def sources(endpoints_: Sequence[Endpoint], index: _Index) -> dict[str, pa.Array]:
    """Return the columns that name some endpoints as sources, by name."""
    return {f"src_{name}": words.column(index) for name, words in _naming(endpoints_).items()}


def destinations(matrix: Matrix) -> dict[str, pa.Array]:
    """Return the columns that name a matrix' destinations, families and ports, by name."""
    columns = {
        **{f"dst_{name}": (matrix.dst, words) for name, words in _naming(matrix.endpoints).items()},
        **_port_columns(matrix),
    }
    return {name: source.column(index) for name, (index, source) in columns.items()}


def states(
    verdict: _Codes, reason: _Codes, blame: _Index, blames: Sequence[Blame]
) -> dict[str, pa.Array]:
    """Return what the objects alone say, in columns of cells."""
    none = np.full(len(verdict), -1, np.int32)
    verdicts = CellVerdicts(
        verdict=verdict,
        reply=np.full(len(verdict), NO_VERDICT, np.uint8),
        reason=reason,
        blame=np.asarray(blame, np.int32),
        trace=none,
        blames=blames,
        trace_keys=(),
        intent=verdict,
    )
    columns = {**_verdict_columns(verdicts, None), **_blame_columns(verdicts)}
    return {name: source.column(index) for name, (index, source) in columns.items()}


def _endpoint_columns(matrix: Matrix) -> _Columns:
    """Return the eight columns that name a cell's two endpoints."""
    columns: _Columns = {}
    for name, words in _naming(matrix.endpoints).items():
        columns[f"src_{name}"] = (matrix.src, words)
        columns[f"dst_{name}"] = (matrix.dst, words)
    return columns


def _naming(endpoints_: Sequence[Endpoint]) -> dict[str, _Words]:
    """Return what names each endpoint."""
    attributes: tuple[tuple[str, Callable[[Endpoint], str]], ...] = (
        ("kind", lambda endpoint: endpoint.kind),
        ("namespace", lambda endpoint: endpoint.namespace),
        ("name", lambda endpoint: endpoint.name),
        ("node", lambda endpoint: endpoint.node),
        ("network", lambda endpoint: endpoint.network_name),
    )
    return {name: _Words(map(attribute, endpoints_)) for name, attribute in attributes}


def _port_columns(matrix: Matrix) -> _Columns:
    """Return family, protocol and the range of ports."""
    return {
        "family": (matrix.family, _Words(FAMILIES)),
        "protocol": (matrix.port, _Words(port.protocol for port in matrix.ports)),
        "port": (matrix.port, _Numbers(port.number for port in matrix.ports)),
        "port_end": (matrix.port, _Numbers(port.sample for port in matrix.ports)),
    }


def _verdict_columns(verdicts: CellVerdicts, predicted: _Codes | None) -> _Columns:
    """Return verdicts, reasons and traces per cell; planes that the run has not are left out."""
    arrays = {name: (getattr(verdicts, name), words) for name, words in schema.CODED.items()}
    arrays["predicted"] = predicted, VERDICTS
    columns: _Columns = {
        name: (codes, _Words([*words, *[None] * (NO_VERDICT + 1 - len(words))]))
        for name, (codes, words) in arrays.items()
        if codes is not None
    }
    keys = _Words(verdicts.trace_keys)
    columns["trace_id"] = (verdicts.trace, keys)
    if verdicts.other_trace is not None:
        columns["other_trace_id"] = (verdicts.other_trace, keys)
    return columns


def _blame_columns(verdicts: CellVerdicts) -> _Columns:
    """Return the five columns of blame."""
    blames = verdicts.blames
    policies = [blame.policy for blame in blames]
    sources: dict[str, _Words | _Numbers] = {
        "blame_kind": _Words(policy.kind if policy else None for policy in policies),
        "blame_namespace": _Words(policy.namespace if policy else None for policy in policies),
        "blame_name": _Words(_blame_name(blame) for blame in blames),
        "blame_direction": _Words(blame.direction for blame in blames),
        "blame_rule": _Numbers(blame.rule for blame in blames),
    }
    return {name: (verdicts.blame, source) for name, source in sources.items()}


def _blame_name(blame: Blame) -> str:
    """Return the policy's name, or what decided in OVN's words when no policy is known."""
    return blame.policy.name if blame.policy else str(blame)


def _flags(flags: _Codes | None, rows: slice, count: int) -> pa.Array:
    """Return a boolean column of codes 0 and 1; NO_VERDICT is null."""
    if flags is None:
        return pa.nulls(count, pa.bool_())
    return pa.array(flags[rows] == 1, pa.bool_(), mask=flags[rows] == NO_VERDICT)


def endpoints(values: Sequence[Endpoint]) -> pa.Table:
    """Return the endpoints in their order, which is what the matrix' indices mean."""
    rows = [
        {
            **{name: getattr(value, name) for name in schema.PLAIN_OF_ENDPOINTS},
            "declared": [
                {"name": d.name, "protocol": d.port.protocol, "port": d.port.number}
                for d in value.declared
            ],
            "network": value.network_name,
            "network_role": value.role if value.network_name else "",
            **_attachment(value.attachment),
        }
        for value in values
    ]
    return pa.Table.from_pylist(rows, schema=schema.ENDPOINTS.schema)


def _attachment(value: Attachment | None) -> dict[str, str | tuple[str, ...]]:
    """Return the columns of an attachment; none for an endpoint that is not in OVN."""
    if value is None:
        return {}
    return {
        "zone": value.zone,
        "switch": value.switch,
        "logical_port": value.port,
        "mac": value.mac,
        "gateway_mac": value.gateway_mac,
        "sends_from": value.addresses,
    }


def policies(values: Sequence[Policy]) -> pa.Table:
    """Return the policies in their order."""
    rows = [
        {
            "kind": value.ref.kind,
            "namespace": value.ref.namespace,
            "name": value.ref.name,
            "directions": value.directions,
            "ingress_rules": value.rules[0],
            "egress_rules": value.rules[1],
            "manifest": value.manifest,
        }
        for value in values
    ]
    return pa.Table.from_pylist(rows, schema=schema.POLICIES.schema)


def traces(values: Iterable[TraceRecord]) -> pa.Table:
    """Return the traces sorted by key."""
    ordered = sorted(values, key=lambda value: value.key)
    columns: dict[str, list[object]] = {
        name: [getattr(value, schema.TRACE_FIELDS.get(name, name)) for value in ordered]
        for name in schema.TRACES.schema.names
    }
    columns["read"] = [value.read and outcomes.encode(value.read) for value in ordered]
    columns["policy_rule"] = [rule if rule != -1 else None for rule in columns["policy_rule"]]
    return pa.Table.from_pydict(columns, schema=schema.TRACES.schema)
