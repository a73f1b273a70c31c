"""Keys of traces: made of content, so that the same trace has the same key in every run."""

import hashlib
from dataclasses import fields, replace
from operator import attrgetter
from typing import TypeVar

from audit.model.packets import Microflow
from audit.model.traces import DatapathTask, TraceTask

_Task = TypeVar("_Task", bound=TraceTask)

_PACKET = attrgetter(*(field.name for field in fields(Microflow)))
_ASKED = attrgetter(
    *(f.name for f in fields(TraceTask) if f.name not in ("key", "microflow", "depth", "network"))
)


def keyed(task: _Task) -> _Task:
    """Return `task` with the key its content gives it.

    `depth` is no part of the content, nor is `network`, which the port of entry is on.
    """
    entry = (task.node, task.tunnel) if isinstance(task, DatapathTask) else ()
    return replace(task, key=key_of(*_ASKED(task), *_PACKET(task.microflow), *entry))


def key_of(*content: object) -> str:
    """Return the key of a trace, or of a request that is no packet, by what tells it apart."""
    text = "\x1f".join(map(str, content))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
