"""The traces below a directory, also of a run that is still being written."""

from pathlib import Path

from audit.store import schema
from audit.store.traces import TraceFiles


def open_traces(path: Path) -> TraceFiles:
    return TraceFiles(sorted(path.glob(schema.TRACES.pattern)))
