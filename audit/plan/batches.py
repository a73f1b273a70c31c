"""Traces → batches: of one zone and one conntrack state, of bounded size. Pure.

The batches partition the traces: none is lost, none is run twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from audit.model.packets import ConntrackState
from audit.model.traces import TraceBatch, TraceTask

BATCH_SIZE = 250
"""Some half a second of traces: small enough to spread, resume and show progress by."""


def cut(tasks: Iterable[TraceTask], *, size: int = BATCH_SIZE) -> Iterator[TraceBatch]:
    """Yield the batches, zone by zone, so that each zone's database is served in one go."""
    grouped: dict[tuple[str, ConntrackState, int], list[TraceTask]] = defaultdict(list)
    for task in tasks:
        grouped[task.zone, task.state, task.select].append(task)
    for (zone, _, _), members in sorted(grouped.items()):
        for start in range(0, len(members), size):
            yield TraceBatch(zone=zone, tasks=tuple(members[start : start + size]))
