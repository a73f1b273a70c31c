"""Batches that wait for a worker, by zone: whoever has a zone open is given more of it."""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable

from audit.model.traces import TraceBatch


class Waiting:
    """The batches nobody has begun."""

    def __init__(self, batches: Iterable[TraceBatch]) -> None:
        self._zones: dict[str, deque[TraceBatch]] = defaultdict(deque)
        for batch in batches:
            self.add(batch)

    def add(self, batch: TraceBatch) -> None:
        """Let a batch wait, after those of its zone that wait already."""
        self._zones[batch.zone].append(batch)

    def take(self, preferred: str, busy: Collection[str]) -> TraceBatch | None:
        """Take a batch of the preferred zone, else of the longest queue nobody works on."""
        waiting = {zone: queue for zone, queue in self._zones.items() if queue}
        if not waiting:
            return None
        if preferred in waiting:
            return waiting[preferred].popleft()
        free = [zone for zone in waiting if zone not in busy] or list(waiting)
        longest = max(sorted(free), key=lambda zone: len(waiting[zone]))
        return waiting[longest].popleft()
