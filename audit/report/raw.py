"""The traces behind the cells, as the page carries them: what each hop said, and its raw text.

The lines of all traces are one table, because traces repeat each other: a trace is a list of line
numbers. Chunks of 256 traces are inflated when a reader opens one of them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.run import TraceReader, TraceRecord
from audit.report.chains import policy_of
from audit.report.grid import Grid, deflate

PER_CHUNK = 256
MOST_TRACES = 100_000
MOST_TEXT = 400_000_000
"""Characters of raw text that are read at all: far more than could fit a page, deflated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """The traces the cells lead to, numbered from 0 in the order in which cells need them.

    `number_of` is indexed by the codes of `Grid.starts` and `Grid.others`: the trace's number plus
    one, 0 for none; its last entry is for the index -1. `texts` is None when there is too much.
    """

    records: tuple[TraceRecord, ...]
    number_of: NDArray[np.int64]
    replies: tuple[int, ...]
    lines: tuple[str, ...]
    texts: tuple[NDArray[np.int32], ...] | None


def collect(reader: TraceReader, grid: Grid) -> Traces | None:
    """Read the traces that cells lead to; None when there are none, or too many for a page."""
    if grid.starts is None or len(grid.trace_keys) > MOST_TRACES:
        return None
    records: dict[str, TraceRecord] = {}
    reply_to: dict[str, str] = {}
    lines: dict[str, int] = {}
    texts: dict[str, NDArray[np.int32]] = {}
    characters = 0
    for record in reader.all():
        if len(records) == MOST_TRACES:
            return None
        characters += len(record.output)
        if characters <= MOST_TEXT:
            texts[record.key] = _line_numbers(record.output, lines)
        records[record.key] = _without_output(record)
        for key in record.reply_of:
            reply_to.setdefault(key, record.key)
    order = _order(_needed(grid), records, reply_to)
    number = {key: index for index, key in enumerate(order)}
    keys = [number.get(key, -1) + 1 for key in grid.trace_keys]
    return Traces(
        records=tuple(records[key] for key in order),
        number_of=np.array([*keys, 0], np.int64),
        replies=tuple(number.get(reply_to.get(key, ""), -1) for key in order),
        lines=tuple(lines),
        texts=tuple(texts[key] for key in order) if characters <= MOST_TEXT else None,
    )


def start_chunks(traces: Traces, starts: NDArray[np.int32], rows: int) -> Iterator[bytes]:
    """Yield which trace each cell starts with, `rows` rows of the grid to a chunk.

    Rows are written as differences, because traces are numbered in the order of the cells.
    """
    for first in range(0, len(starts), rows):
        numbers = traces.number_of[starts[first : first + rows]].reshape(-1)
        yield deflate(np.diff(numbers, prepend=0).astype("<i4").tobytes())


def hop_chunks(traces: Traces) -> Iterator[bytes]:
    """Yield what each hop said, without its raw text: JSON lists, 256 traces to a chunk."""
    number = {record.key: index for index, record in enumerate(traces.records)}
    rows = [
        [
            record.zone,
            record.state,
            record.outcome,
            record.reason,
            record.stage,
            record.logical_flow,
            record.acl,
            record.acl_match,
            policy_of(record),
            record.microflow,
            record.detail,
            [number[key] for key in record.next_keys if key in number],
            reply,
            record.plane,
            record.node,
        ]
        for record, reply in zip(traces.records, traces.replies, strict=True)
    ]
    return _chunks(rows)


def text_chunks(texts: Iterable[NDArray[np.int32]]) -> Iterator[bytes]:
    """Yield the line numbers of each trace, in the chunks of `hop_chunks`."""
    return _chunks([text.tolist() for text in texts])


def _chunks(rows: list[Any]) -> Iterator[bytes]:
    """Yield the rows as deflated JSON, 256 at a time."""
    for first in range(0, len(rows), PER_CHUNK):
        text = json.dumps(rows[first : first + PER_CHUNK], separators=(",", ":"))
        yield deflate(text.encode())


def _line_numbers(output: str, lines: dict[str, int]) -> NDArray[np.int32]:
    """Return the trace's lines as numbers, adding those not seen before to the table."""
    numbers = [lines.setdefault(line, len(lines)) for line in output.split("\n")]
    return np.array(numbers, np.int32)


def _without_output(record: TraceRecord) -> TraceRecord:
    """Return the record without its raw text, which is kept as line numbers."""
    fields = {name: getattr(record, name) for name in TraceRecord.__slots__}
    return TraceRecord(**{**fields, "output": ""})


def _needed(grid: Grid) -> list[str]:
    """Return the keys of the traces cells start with, in the order of the cells."""
    needed: dict[int, None] = {}
    for starts in (grid.starts, grid.others):
        if starts is not None:
            values, first = np.unique(starts, return_index=True)
            needed.update(dict.fromkeys(values[np.argsort(first)].tolist()))
    needed.pop(-1, None)
    return [grid.trace_keys[index] for index in needed]


def _order(
    keys: Iterable[str], records: Mapping[str, TraceRecord], reply_to: Mapping[str, str]
) -> list[str]:
    """Return the traces those keys lead to, each once: its hops and its reply right after it."""
    order: dict[str, None] = {}
    for key in keys:
        stack = [key]
        while stack:
            current = stack.pop()
            if current in order or current not in records:
                continue
            order[current] = None
            if current in reply_to:
                stack.append(reply_to[current])
            stack.extend(reversed(records[current].next_keys))
    return list(order)
