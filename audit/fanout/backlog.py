"""What is still to be traced, by zone; it grows while it is worked off.

A zone's database takes a second to serve and to read, a trace a millisecond. So batches are cut
when a worker asks for one, of the zone it has open while there is anything left there, and the
hops that traces lead to join the zones they go on in. A batch is of packets that enter by the same
ports and are for the same, as far as there are such: they meet the same of a zone's flows. On the
datapath a node takes the part of a zone here: each has flows of its own, and is asked for itself.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable

from audit.model.packets import ConntrackState
from audit.model.traces import TraceBatch, TraceTask

BATCH_SIZE = 250
"""Some half a second of traces: small enough to spread, resume and show progress by. Of twice as
many each takes longer in a part of a database (`audit.replay.parts`) than opening fewer spares."""

_Like = tuple[ConntrackState, int]
"""Tasks of a batch share a daemon: its conntrack state and its ECMP choice."""


class Backlog:
    """Traces nobody has begun. Every one is handed out exactly once, unless it is put back."""

    def __init__(self, tasks: Iterable[TraceTask] = (), *, size: int = BATCH_SIZE) -> None:
        self._size = size
        self._zones: dict[str, dict[_Like, list[TraceTask]]] = defaultdict(dict)
        self._returned: deque[TraceBatch] = deque()
        self._begun: set[str] = set()
        self._mixed: set[tuple[str, _Like]] = set()
        """What was added to since it was in order."""
        self.add(tasks)

    def add(self, tasks: Iterable[TraceTask]) -> None:
        """Let traces wait."""
        for task in tasks:
            like = (task.state, task.select)
            self._zones[task.location].setdefault(like, []).append(task)
            self._mixed.add((task.location, like))

    def put_back(self, batch: TraceBatch) -> None:
        """Take back a batch whose worker was lost; it is the next to be handed out."""
        self._returned.append(batch)

    def take(
        self, preferred: str, busy: Collection[str], *, alone: bool = False
    ) -> TraceBatch | None:
        """Cut a batch of the preferred zone, else of the fullest one nobody works on.

        Zones that nobody has worked on yet come first: what they lead to joins the others, which
        so need to be gone back to once only. Where somebody works on all of them, it is of one of
        those, unless that is to be `alone` there.
        """
        if self._returned:
            return self._returned.popleft()
        if preferred in self._zones and not (alone and preferred in busy):
            return self._cut(preferred)
        free = [zone for zone in self._zones if zone not in busy]
        if not free and not alone:
            free = list(self._zones)
        return self._cut(self._fullest(free)) if free else None

    def _fullest(self, zones: Collection[str]) -> str:
        new = [zone for zone in zones if zone not in self._begun]
        return max(sorted(new or zones), key=self.waiting)

    def zones(self) -> tuple[str, ...]:
        """Return the zones that have traces waiting, besides what was put back."""
        return tuple(self._zones)

    def take_of(self, zone: str) -> TraceBatch | None:
        """Cut a batch of one zone, None when nothing of it waits."""
        return self._cut(zone) if zone in self._zones else None

    def waiting(self, zone: str) -> int:
        """Return how many traces of one zone wait, besides what was put back."""
        return sum(map(len, self._zones[zone].values())) if zone in self._zones else 0

    def _cut(self, zone: str) -> TraceBatch:
        """Cut a batch of a zone: replies first, since a daemon of replies can turn to requests."""
        self._begun.add(zone)
        queues = self._zones[zone]
        like = min(queues, key=lambda like: (like[0] is not ConntrackState.REPLY, like[1]))
        queue = queues[like]
        if (zone, like) in self._mixed:
            queue.sort(key=_where, reverse=True)
            self._mixed.remove((zone, like))
        tasks = tuple(queue.pop() for _ in range(min(self._size, len(queue))))
        if not queue:
            del queues[like]
        if not queues:
            del self._zones[zone]
        return TraceBatch(zone=zone, tasks=tasks)


def _where(task: TraceTask) -> tuple[str, ...]:
    """Return where a packet enters, what it is for, and which of such it is."""
    return task.microflow.inport, task.target, task.microflow.ip_dst, task.key
