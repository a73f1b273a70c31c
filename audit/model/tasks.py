"""Keys of traces: made of content, so that the same trace has the same key in every run."""

import hashlib
from dataclasses import astuple, replace

from audit.model.traces import TraceTask


def keyed(task: TraceTask) -> TraceTask:
    """Return `task` with the key its content gives it; `depth` is no part of the content."""
    content = astuple(replace(task, key="", depth=0))
    text = "\x1f".join(str(part) for part in content)
    return replace(task, key=hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
