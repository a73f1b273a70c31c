"""Traces read back one at a time, because their raw text is most of a run's bytes.

What is held is an index: every trace's id, whose reply it is, and the row it is in. A trace is
then one row group away, and row groups are small. Each file is sorted by id, so all of them in
order are a merge that holds one row group per file.
"""

import functools
import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.model.run import TraceRecord
from audit.model.verdicts import Blame
from audit.store import schema
from audit.store.layout import reading

DECISION_COLUMNS = (
    "trace_id",
    "zone",
    "stage",
    "logical_flow",
    "acl",
    "acl_match",
    "policy_kind",
    "policy_namespace",
    "policy_name",
    "policy_direction",
    "policy_rule",
    "policies",
    "next_ids",
)
"""What a trace says of who decided, without its raw text."""
GROUPS_KEPT = 32
"""Row groups in memory, of some hundred kilobytes each: some files' worth, for who asks for traces
nearly in the order in which they ran."""


class TraceFiles:
    """The traces in `files`, as `audit.model.run.TraceReader` promises them.

    A trace that is in two files (batches cut differently when a run was resumed) is one trace.
    Every method raises RunReadError when a file is damaged.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._kept_group = functools.lru_cache(GROUPS_KEPT)(self._group)

    def all(self) -> Iterator[TraceRecord]:
        """Yield every trace, sorted by key, holding one row group per file."""
        previous: str | None = None
        for record in heapq.merge(*map(self._stream, self._files), key=attrgetter("key")):
            if record.key != previous:
                yield record
            previous = record.key

    def get(self, key: str) -> TraceRecord | None:
        """Return one trace, or None when the run has no such trace."""
        index = _find(self._index["trace_id"], key)
        return None if index is None else self._record(index)

    def reply_to(self, key: str) -> TraceRecord | None:
        """Return the first trace of the reply to what trace `key` delivered, if one was traced."""
        row = _find(self._replies["reply_of"], key)
        return None if row is None else self.get(self._replies["trace_id"][row].as_py())

    def deciding(self, zone: str, like: Blame) -> TraceRecord | None:
        """Return a trace that the same policy, rule and match decided in a zone, if one was."""
        table, _ = self._decided
        policy = like.policy
        wanted = {
            "zone": zone,
            "acl_match": like.acl_match,
            "policy_kind": policy.kind if policy else "",
            "policy_namespace": policy.namespace if policy else "",
            "policy_name": policy.name if policy else "",
            "policy_direction": like.direction,
        }
        rows = functools.reduce(
            pc.and_,
            (pc.equal(table[name], value) for name, value in wanted.items()),
            pc.equal(pc.fill_null(table["policy_rule"], -1), like.rule),
        )
        keys = sorted(table.filter(rows)["trace_id"].to_pylist())
        return self.get(keys[0]) if keys else None

    def decisions(self, keys: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return DECISION_COLUMNS of these traces and of all that took over from them."""
        table, row_of = self._decided
        rows_by_key: dict[str, Mapping[str, Any]] = {}
        wanted = set(keys)
        while wanted := {key for key in wanted if key in row_of and key not in rows_by_key}:
            rows = table.take(pa.array(sorted(row_of[key] for key in wanted))).to_pylist()
            rows_by_key.update((row["trace_id"], row) for row in rows)
            wanted = {key for row in rows for key in row["next_ids"]}
        return rows_by_key

    @cached_property
    def _decided(self) -> tuple[pa.Table, Mapping[str, int]]:
        """DECISION_COLUMNS of all traces in one piece, as plain text, and the row of each."""
        table = self._read_all(DECISION_COLUMNS)
        kinds = [
            field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
            for field in table.schema
        ]
        table = table.cast(pa.schema(kinds)).combine_chunks()
        return table, {key: row for row, key in enumerate(table["trace_id"].to_pylist())}

    @cached_property
    def _index(self) -> dict[str, pa.Array]:
        """Every trace's id and reply_of, and the file, row group and row it is in; by id."""
        table = self._read_all(("trace_id", "reply_of"))
        positions = [np.empty((0, 3), np.int32)]
        for number, file in enumerate(self._files):
            with reading(file):
                metadata = pq.read_metadata(file)
            for group in range(metadata.num_row_groups):
                rows = np.empty((metadata.row_group(group).num_rows, 3), np.int32)
                rows[:, 0], rows[:, 1], rows[:, 2] = number, group, np.arange(len(rows))
                positions.append(rows)
        for name, values in zip(("file", "group", "row"), np.concatenate(positions).T, strict=True):
            table = table.append_column(name, pa.array(values))
        return _sorted(table, "trace_id", "file")

    @cached_property
    def _replies(self) -> dict[str, pa.Array]:
        """Every reply's id, once for each trace whose reply it is, sorted by both."""
        of = self._index["reply_of"]
        ids = self._index["trace_id"].take(pc.list_parent_indices(of))
        table = pa.table({"reply_of": pc.list_flatten(of), "trace_id": ids})
        return _sorted(table, "reply_of", "trace_id")

    def _read_all(self, columns: Sequence[str]) -> pa.Table:
        """Return these columns of every file, in the order of the files."""
        tables = [schema.TRACES.schema.empty_table().select(columns)]
        for file in self._files:
            with reading(file):
                tables.append(pq.read_table(file, columns=list(columns), partitioning=None))
        return pa.concat_tables(tables, promote_options="permissive")

    def _record(self, index: int) -> TraceRecord:
        """Return the trace at row `index` of `_index`; its row group is kept for its neighbours."""
        file, group, row = (self._index[name][index].as_py() for name in ("file", "group", "row"))
        return next(_records(self._kept_group(file, group).slice(row, 1)))

    def _group(self, file: int, group: int) -> pa.Table:
        """Return a row group of a file."""
        path = self._files[file]
        with reading(path), pq.ParquetFile(path) as parquet:
            return parquet.read_row_group(group)

    def _stream(self, path: Path) -> Iterator[TraceRecord]:
        """Yield the traces of one file, closed between row groups: there may be thousands."""
        group, groups = 0, 1
        while group < groups:
            with reading(path), pq.ParquetFile(path) as parquet:
                groups = parquet.num_row_groups
                table = parquet.read_row_group(group) if groups else None
            if table is not None:
                yield from _records(table)
            group += 1


def _records(table: pa.Table) -> Iterator[TraceRecord]:
    """Yield the rows of `table` as the model has them."""
    for row in table.to_pylist():
        row.pop("read", None)
        fields = {schema.TRACE_FIELDS.get(name, name): value for name, value in row.items()}
        fields["policy_rule"] = -1 if fields["policy_rule"] is None else fields["policy_rule"]
        fields["policies"] = tuple(fields["policies"])
        fields["next_keys"] = tuple(fields["next_keys"])
        fields["reply_of"] = tuple(fields["reply_of"])
        yield TraceRecord(**fields)


def _sorted(table: pa.Table, *columns: str) -> dict[str, pa.Array]:
    """Return the columns of `table`, each in one piece, sorted by `columns`."""
    table = table.sort_by([(column, "ascending") for column in columns]).combine_chunks()
    return {name: pa.concat_arrays(table[name].chunks) for name in table.column_names}


def _find(values: pa.Array, wanted: str) -> int | None:
    """Return the first index of `wanted` in sorted `values`.

    A binary search over Arrow's buffer: a Python string per trace would cost more than the index.
    """
    index = bisect_left(range(len(values)), wanted, key=lambda i: values[i].as_py())
    return index if index < len(values) and values[index].as_py() == wanted else None
