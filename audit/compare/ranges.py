"""Endpoints of two runs that are, or overlap with, each other.

An endpoint has one counterpart at most, except outside: a range of addresses may be cut elsewhere
when policies changed, and is compared with every range of the other run that it shares addresses
with, under the name of what both are.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.compare.pairing import Pairing
from audit.model.endpoints import EndpointKind
from audit.model.recorded import Recorded, Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterparts:
    """Those of the later run's endpoint e are at `start[e]` to `start[e + 1]`.

    `before` is the earlier endpoint, `names` what both are.
    """

    start: NDArray[np.int64]
    before: NDArray[np.int64]
    names: tuple[str, ...]

    def of(self, endpoint: int) -> range:
        """Return the rows of an endpoint's counterparts."""
        return range(int(self.start[endpoint]), int(self.start[endpoint + 1]))

    def spread(self, ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for cells at these later ends, a row per counterpart: which cell, which row."""
        counts = self.start[ends + 1] - self.start[ends]
        cells = np.repeat(np.arange(len(ends)), counts)
        within = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cells, self.start[ends][cells] + within


def counterparts(before: Recorded, after: Recorded, pairs: Pairing) -> Counterparts:
    """Find all counterparts: those of `pairs`, and outside all that overlap."""
    outside: dict[str, list[tuple[int, Spans]]] = defaultdict(list)
    for index, endpoint in enumerate(before.endpoints):
        if endpoint.kind is EndpointKind.EXTERNAL:
            outside[endpoint.node].append((index, before.spans(endpoint)))
    start, earlier, names = [0], list[int](), list[str]()
    for endpoint, counterpart in zip(after.endpoints, pairs.before.tolist(), strict=True):
        if endpoint.kind is EndpointKind.EXTERNAL:
            mine = after.spans(endpoint)
            for index, theirs in outside[endpoint.node]:
                common = _common(theirs, mine)
                if common:
                    earlier.append(index)
                    other = before.endpoints[index]
                    names.append(_name((other.key, theirs), (endpoint.key, mine), common))
        elif counterpart >= 0:
            earlier.append(counterpart)
            names.append(endpoint.belongs_to)
        start.append(len(earlier))
    return Counterparts(
        start=np.array(start, np.int64), before=np.array(earlier, np.int64), names=tuple(names)
    )


def _common(theirs: Spans, mine: Spans) -> Spans:
    """Return the stretches that both have."""
    shared = [
        (version, max(first, start), min(last, end))
        for version, first, last in theirs
        for other, start, end in mine
        if version == other and max(first, start) <= min(last, end)
    ]
    return tuple(sorted(shared))


def _size(spans: Spans) -> int:
    return sum(last - first + 1 for _, first, last in spans)


def _name(before: tuple[str, Spans], after: tuple[str, Spans], common: Spans) -> str:
    """Name what both are: the range within the other, or the later within the earlier."""
    sizes = [_size(spans) for spans in (before[1], after[1], common)]
    if sizes[2] == sizes[1]:
        return after[0]
    if sizes[2] == sizes[0]:
        return before[0]
    return f"{after[0]}, within {before[0].removeprefix('external ')}"


def gone(run: Recorded, other: Recorded, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a run's endpoints without the addresses that the other run has too."""
    theirs = [other.spans(endpoint) for endpoint in other.endpoints]
    there = {
        endpoint.belongs_to
        for endpoint in run.endpoints
        if endpoint.kind is EndpointKind.EXTERNAL
        and any(_common(run.spans(endpoint), spans) for spans in theirs if spans)
    }
    return tuple(name for name in names if name not in there)
