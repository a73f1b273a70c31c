"""The traces of a run: on disk as they finish, and those it was resumed with given back.

What stays in memory are rows of one file at most, and of a resumed run what was read of its
traces: some hundred bytes each.
"""

import hashlib
import math
import time
from collections.abc import Iterable

from audit.errors import RunReadError
from audit.model.run import TraceRecord
from audit.model.traces import TraceOutcome
from audit.store import outcomes
from audit.store.reuse import Reusable
from audit.store.writer import RunWriter

ROWS_AT_A_TIME = 250
"""Traces per file: raw text is most of a run's bytes, and this is some megabytes of it."""
SECONDS_AT_A_TIME = 10.0
"""How long a trace waits for a file to fill: what a power cut may cost."""


class Journal:
    """Keeps what was traced, in files named by what is in them.

    `until`, by the monotonic clock, is when no more is to be traced in this sitting.
    """

    def __init__(
        self,
        out: RunWriter,
        earlier: dict[str, str] | None = None,
        *,
        reusable: Reusable | None = None,
        until: float = math.inf,
    ) -> None:
        """Write to `out`; `earlier` is what was read of the traces that are there.

        `reusable` are another run's, which are written here as if they had run.
        """
        self.until = until
        self._out = out
        self._earlier = earlier or {}
        self._there = frozenset(self._earlier)
        self._reusable = reusable
        self._rows: list[TraceRecord] = []
        self._since = time.monotonic()
        self.kept = 0
        """How many traces were not run, because an earlier sitting had."""
        self.reused = 0
        """How many were not run, because another run had."""

    def recall(self, key: str) -> TraceOutcome | None:
        """Return what an earlier sitting or run read of a trace, once; None: it is to be run."""
        text = self._earlier.pop(key, None)
        if text is None:
            reused = self._reusable.take(key) if self._reusable is not None else None
            self.reused += reused is not None
            return reused
        try:
            outcome = outcomes.decode(key, text)
        except ValueError as error:
            raise RunReadError(
                f"{self._out.path} cannot be resumed: trace {key} cannot be read: {error}; run "
                "again"
            ) from error
        self.kept += 1
        return outcome

    def add(self, rows: Iterable[TraceRecord]) -> None:
        """Keep traces that are not there yet; they are written when there are enough, or late."""
        if not self._rows:
            self._since = time.monotonic()
        self._rows += [row for row in rows if row.key not in self._there]
        late = time.monotonic() - self._since >= SECONDS_AT_A_TIME
        if len(self._rows) >= ROWS_AT_A_TIME or late:
            self.write()

    def write(self) -> None:
        """Write the traces since the last time."""
        digest = hashlib.blake2b(digest_size=8)
        for row in self._rows:
            digest.update(row.key.encode())
        if self._rows:
            self._out.write_traces(digest.hexdigest(), self._rows)
        self._rows = []
