"""Batches in this process, one after another: what tests, laptops and debuggers use."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from audit.fanout.base import Finished, MakeWorker, Worker
from audit.model.traces import TraceBatch


@dataclass(slots=True)
class InlineFanout:
    """Runs batches on one worker, which it keeps between calls. Use as a context."""

    make_worker: MakeWorker
    _worker: Worker | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    def run(self, batches: Iterable[TraceBatch]) -> Iterator[Finished]:
        """Yield every batch with its outcomes, in order."""
        if self._worker is None:
            self._worker = self._open.enter_context(self.make_worker())
        for batch in batches:
            yield batch, self._worker.run(batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
