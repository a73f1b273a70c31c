"""A snapshot's databases → zones, in several processes where there are many.

Parsing keeps a processor busy, and Python's threads take turns. So processes read a zone at a time
and hand on what is known of it. The zones of one that is lost are read here.
"""

import copyreg
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from audit import supervise
from audit.errors import DatabaseError
from audit.facts import ovn, snapshot
from audit.model.engine import DatabaseReader
from audit.model.facts import Acl, FlowHint, LogicalFlow, Note, Zone

_V = TypeVar("_V")

_LEAST_BYTES = 100 << 20
"""What is read in the time that processes take to start."""
_MOST_BYTES = 256 << 20
"""The largest zone that is read beside others: it takes a multiple of that in memory."""
_MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What zones are read from: the files of a snapshot, with a directory for copies of them.

    `endpoint_addresses` are those of pods and nodes, as `audit.facts.ovn.read_zone` takes them.
    """

    opened: snapshot.Snapshot
    workdir: Path
    reader: DatabaseReader
    endpoint_addresses: Collection[str]

    def zone(self, name: str) -> Zone:
        """Stage and read a zone; errors name the user's files, not the copies made of them."""
        northbound, southbound = self.opened.zones[name]
        directory = self.workdir / "zones" / name
        shutil.rmtree(directory, ignore_errors=True)  # of a process that was lost
        directory.mkdir(parents=True)
        copies = {directory / "nb.db": northbound, directory / "sb.db": southbound}
        try:
            torn = [self.reader.stage(original, copy) for copy, original in copies.items()]
            zone = ovn.read_zone(
                self.reader, name, *copies, endpoint_addresses=self.endpoint_addresses
            )
        except DatabaseError as error:
            text = str(error)
            for copy, original in copies.items():
                for ours in (copy, original):
                    text = text.replace(str(ours), self.opened.shown(original))
            raise DatabaseError(text) from error
        return replace(zone, torn=any(torn))


def read(source: Source) -> tuple[dict[str, Zone], list[Note]]:
    """Read every zone; one that cannot be read becomes a note. DatabaseError when none can."""
    zones: dict[str, Zone] = {}
    notes = [
        Note(code="zone-incomplete", text=f"zone {zone} lacks nb.db or sb.db", subjects=(zone,))
        for zone in source.opened.incomplete_zones
    ]
    failures: list[DatabaseError] = []
    for name, zone in _each(source):
        if isinstance(zone, DatabaseError):
            failures.append(zone)
            notes.append(Note(code="zone-unreadable", text=str(zone), subjects=(name,)))
            continue
        zones[name] = zone
        if zone.torn:
            text = f"a database of zone {name} ends in half a transaction, which was left out"
            notes.append(Note(code="zone-torn", text=text, subjects=(name,)))
    if not zones:
        raise failures[0]
    return zones, notes


def _each(source: Source) -> Iterator[tuple[str, Zone | DatabaseError]]:
    """Yield every zone, or why it cannot be read, in order."""
    names, shared = list(source.opened.zones), _Shared()
    count = at_a_time(source.opened.zones)
    pool = _processes(source, count) if count > 1 else None
    if pool is None:
        yield from ((name, _attempt(source, name)) for name in names)
        return
    try:
        waiting = deque((name, _submitted(pool, name)) for name in names)
        while waiting:  # a zone goes when it is handed on: as it came it takes more room
            name, future = waiting.popleft()
            try:
                zone = None if future is None else future.result()
            except BrokenProcessPool:
                zone = None
            del future
            if zone is None:
                zone = _attempt(source, name)
            elif isinstance(zone, Zone):
                zone = shared.zone(zone)
            yield name, zone
    finally:
        pool.shutdown(cancel_futures=True)


def _processes(source: Source, count: int) -> ProcessPoolExecutor | None:
    """Return so many processes; None where a machine lets them share no semaphore.

    They find the source in a file: who hands a new process more than a pipe holds (64 KiB,
    pipe(7)) waits for ever where it ended before it took it.
    """
    handed_on = source.workdir / "source"
    try:
        source.workdir.mkdir(parents=True, exist_ok=True)
        handed_on.write_bytes(pickle.dumps(source))
        return ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("spawn"),  # this process has threads
            initializer=_begin,
            initargs=(os.getpid(), handed_on),
        )
    except (OSError, NotImplementedError):
        return None


def _submitted(pool: ProcessPoolExecutor, name: str) -> "Future[Zone | DatabaseError] | None":
    """Have a zone read; None where no process can be started, or one was lost already."""
    try:
        return pool.submit(_read, name)
    except (OSError, BrokenProcessPool):
        return None


def at_a_time(zones: Mapping[str, tuple[Path, Path]]) -> int:
    """Return how many zones are read at a time."""
    sizes = [sum(file.stat().st_size for file in files) for files in zones.values()]
    if sum(sizes) < _LEAST_BYTES or max(sizes) > _MOST_BYTES:
        return 1
    return min(len(os.sched_getaffinity(0)), len(sizes), _MOST_PROCESSES)


def _attempt(source: Source, name: str) -> Zone | DatabaseError:
    try:
        return source.zone(name)
    except DatabaseError as error:
        return error


class _Shared:
    """What zones have in common, kept once: another process' zones come each with its own."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def zone(self, zone: Zone) -> Zone:
        """Return a zone with most of what others have too in common with them."""
        return replace(
            zone,
            flows=_each_of(zone.flows, lambda flows: tuple(map(self._flow, flows))),
            flow_hints=_each_of(zone.flow_hints, lambda hints: tuple(map(self._hint, hints))),
            acls=_each_of(zone.acls, lambda acls: tuple(map(self._acl, acls))),
            address_sets=_each_of(zone.address_sets, self._one),
            installed_sets=zone.installed_sets and _each_of(zone.installed_sets, self._one),
            load_balancers=tuple(map(self._one, zone.load_balancers)),
            stock=replace(
                zone.stock,
                policies=self._one(zone.stock.policies),
                sets=tuple(map(self._one, zone.stock.sets)),
                balancers=tuple(map(self._one, zone.stock.balancers)),
            ),
        )

    def _one(self, value: _V) -> _V:
        kept: _V = self._kept.setdefault(value, value)
        return kept

    def _flow(self, flow: LogicalFlow) -> LogicalFlow:
        stage, match, actions = map(sys.intern, (flow.stage, flow.match, flow.actions))
        return LogicalFlow(stage, flow.priority, match, actions)

    def _hint(self, hint: FlowHint) -> FlowHint:
        return replace(hint, stage=sys.intern(hint.stage), match=sys.intern(hint.match))

    def _acl(self, acl: Acl) -> Acl:
        return replace(acl, match=sys.intern(acl.match), policy=self._one(acl.policy))


def _each_of(mapping: Mapping[str, _V], shared: Callable[[_V], _V]) -> Mapping[str, _V]:
    return MappingProxyType({sys.intern(key): shared(value) for key, value in mapping.items()})


# --- in the processes

_source: list[Source] = []


def _begin(parent: int, handed_on: Path) -> None:
    """Take what all zones are read from; end when `parent` does, or by a signal without a word."""
    supervise.end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # what is read has no cycles
    _source.append(pickle.loads(handed_on.read_bytes()))  # noqa: S301 `_processes` wrote it


def _read(name: str) -> Zone | DatabaseError:
    return _attempt(_source[0], name)


def _reduced(mapping: Mapping[Any, Any]) -> tuple[Any, ...]:
    return _read_only, (dict(mapping),)


def _read_only(content: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(content)


copyreg.pickle(MappingProxyType, _reduced)  # what facts are made of, which pickle does not know
