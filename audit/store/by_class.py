"""Cells by class as Arrow tables, in the columns of `schema`: there are as many rows as classes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit.model.blocks import NO_CLASS, Blocks
from audit.model.matrix import Matrix
from audit.store import encode, schema

BLOCKS_PER_FILE = 4_000_000


def tables(blocks: Blocks) -> Iterator[tuple[str, pa.Table]]:
    """Yield each file of cells by class, by its name in the run."""
    yield (
        schema.BLOCK_SOURCES.pattern,
        _table(schema.BLOCK_SOURCES, _sources(blocks)),
    )
    named = encode.destinations(_columns(blocks, np.arange(len(blocks.dst))))
    numbered = {
        "destination": np.arange(len(blocks.dst), dtype=np.int32),
        "dst_class": blocks.column_class,
    }
    ports = encode.with_ports(schema.BLOCK_DESTINATIONS, blocks.ports)
    yield (
        schema.BLOCK_DESTINATIONS.pattern,
        _table(schema.BLOCK_DESTINATIONS, {**named, **numbered}, ports),
    )
    columns = encode.states(blocks.verdict[1:], blocks.reason[1:], blocks.blame[1:], blocks.blames)
    numbers = np.arange(1, len(blocks.verdict), dtype=np.int32)
    yield schema.BLOCK_STATES.pattern, _table(schema.BLOCK_STATES, {**columns, "state": numbers})
    exceptions = blocks.exceptions
    code = exceptions.code.astype(np.int32)
    cells = {
        "source": exceptions.src,
        "destination": exceptions.column,
        "state": pa.array(code, pa.int32(), mask=code == 0),
    }
    yield schema.BLOCK_EXCEPTIONS.pattern, _table(schema.BLOCK_EXCEPTIONS, cells)
    for part, table in enumerate(_blocks(blocks)):
        yield f"{schema.BLOCKS.directory}/part-{part:05}.parquet", table


def _table(
    table: schema.Table, columns: dict[str, Any], arrow_schema: pa.Schema | None = None
) -> pa.Table:
    arrow_schema = arrow_schema or table.schema
    return pa.table([columns[name] for name in arrow_schema.names], schema=arrow_schema)


def _sources(blocks: Blocks) -> dict[str, Any]:
    rows = blocks.sources.astype(np.int32)
    classes = blocks.row_class[rows]
    return {
        **encode.sources(blocks.endpoints, rows),
        "source": rows,
        "src_class": pa.array(classes, pa.int32(), mask=classes == NO_CLASS),
    }


def _columns(blocks: Blocks, column: NDArray[np.integer[Any]]) -> Matrix:
    """Return columns as cells whose sources do not matter."""
    return Matrix(
        endpoints=blocks.endpoints,
        ports=blocks.ports,
        src=np.zeros(len(column), np.int32),
        dst=blocks.dst[column],
        family=blocks.family[column],
        port=blocks.port[column],
    )


def _blocks(blocks: Blocks) -> Iterator[pa.Table]:
    """Yield the pairs of classes that have cells; at least one table, if an empty one."""
    rows, width = blocks.codes.shape
    some = max(1, BLOCKS_PER_FILE // max(width, 1))
    for start in range(0, max(rows, 1), some):
        here = blocks.codes[start : start + some]
        row, column = np.nonzero(here)
        columns = {
            "src_class": (row + start).astype(np.int32),
            "dst_class": column.astype(np.int32),
            "state": here[row, column].astype(np.int32),
        }
        yield _table(schema.BLOCKS, columns)
