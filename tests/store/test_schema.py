"""The columns are a contract with everybody's SQL."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.model.run import TraceRecord
from audit.store import schema
from audit.store.schema import (
    CELLS,
    HISTORY,
    SCHEMA_VERSION,
    TABLES,
    TRACE_FIELDS,
    TRACES,
    Table,
    description,
)

CONTRACT = """
src_kind src_namespace src_name src_node dst_kind dst_namespace dst_name dst_node
family protocol port verdict reply predicted intent logical datapath drift blame_kind
blame_namespace blame_name blame_direction blame_rule reason trace_id port_end other_trace_id
src_network dst_network
"""


def test_cells_have_exactly_the_columns_of_the_contract_in_its_order() -> None:
    assert CELLS.schema.names == CONTRACT.split()


def test_every_text_column_of_cells_is_dictionary_encoded() -> None:
    others = {field.name for field in CELLS.schema if field.type != schema.WORD}

    assert others == {"port", "port_end", "drift", "blame_rule"}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_every_column_says_what_it_means(table: Table) -> None:
    assert all(description(field).endswith(".") for field in table.schema)


def test_traces_have_every_field_of_a_trace_record_in_its_order() -> None:
    fields = [TRACE_FIELDS.get(name, name) for name in TRACES.schema.names]

    assert sorted(fields) == sorted(TraceRecord.__dataclass_fields__)


def test_every_version_has_a_line_of_history_and_the_last_is_ours() -> None:
    assert [version for version, _ in HISTORY] == list(range(1, SCHEMA_VERSION + 1))


def test_descriptions_travel_in_the_files() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(CELLS.schema.empty_table(), sink)
    read = pq.read_schema(pa.BufferReader(sink.getvalue()))

    assert description(read.field("port")) == (
        "Destination port; of a range the first, which may be 0."
    )
