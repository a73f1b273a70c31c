"""Which cells of a finished run real connections are tried for: a draw, or pairs by name. Pure."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.errors import UsageError
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.matrix import FAMILIES, Cells, passing, proven
from audit.model.networks import Role
from audit.model.options import MOST_PROBES
from audit.model.packets import Family, Protocol
from audit.model.recorded import Recorded
from audit.scope import outside, ports
from audit.scope.named import Directory

Pair = tuple[str, str, str]
"""From, to and port, as a user types them."""


def choose(
    run: Recorded,
    *,
    sample: int,
    pairs: Sequence[Pair],
    family: Family | None = None,
    namespaces: Collection[str] = (),
) -> Cells:
    """Return cells to probe, each once, in order: `sample` drawn at random, and those of `pairs`.

    With `namespaces`, cells are drawn only where every end that has a namespace is in one of them.
    UsageError when a pair means no cell that can be probed, there is none, or there are too many.
    """
    parts = [*_of_pairs(run, pairs, family)]
    if sample:
        parts.append(_drawn(run, sample, family, namespaces))
    cells = Cells.joined(parts)
    order = np.lexsort((cells.port, cells.family, cells.dst, cells.src))
    keys = np.stack([cells.src, cells.dst, cells.family, cells.port])[:, order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(keys, axis=1) != 0).any(axis=0)
    chosen = cells.take(order[new])
    if not len(chosen):
        raise UsageError("the run has no cell that a connection could be tried for")
    if len(chosen) > MOST_PROBES:
        raise UsageError(
            f"{len(chosen):,} connections are more than {MOST_PROBES:,} at a time; narrow --pair"
        )
    return chosen


def _of_pairs(run: Recorded, pairs: Sequence[Pair], family: Family | None) -> Iterator[Cells]:
    """Yield the cells that pairs mean; UsageError when one means none that can be probed."""
    sending = Directory(run.endpoints, run.spans, sending=True)
    receiving = Directory(run.endpoints, run.spans)
    able = _Able(run)
    for src, dst, port in pairs:
        spec = ports.parse(port)
        sources, destinations = sending.find(src), receiving.find(dst)
        parts = [run.cells.of_source(source) for source in sources.tolist()]
        cells = Cells.joined(parts)
        meant = np.isin(cells.dst, destinations) & _of_family(cells, family)
        for row in np.flatnonzero(meant).tolist():
            to = run.endpoints[cells.dst[row]]
            meant[row] = ports.means(spec, to, run.ports[cells.port[row]])
        if not meant.any():
            raise UsageError(f"the run has no cell from {src} to {dst} on {port}")
        wanted = np.flatnonzero(meant & able.cells(cells))
        if not len(wanted):
            raise UsageError(
                f"{src} to {dst} on {port} cannot be probed: a probe is a TCP connection from a "
                "pod on its primary network to a single address"
            )
        yield cells.take(wanted)


def _drawn(run: Recorded, sample: int, family: Family | None, namespaces: Collection[str]) -> Cells:
    """Draw proven cells at random, half of them of what passes, as far as there are so many.

    Addresses outside are left out: who samples does not mean to connect to other people's.
    """
    able = _Able(run)
    within = _within(run.endpoints, namespaces)
    draw = np.random.default_rng()
    kept: list[list[Cells]] = [[], []]
    luck: list[NDArray[np.float64]] = [np.empty(0), np.empty(0)]
    for part in run.cells:
        eligible = able.cells(part) & able.inside[part.dst] & proven(part.verdict)
        eligible &= within[part.src] & within[part.dst]
        eligible &= _of_family(part, family)
        passes = passing(part.verdict)
        for side, of_side in enumerate((eligible & passes, eligible & ~passes)):
            rows = np.flatnonzero(of_side)
            numbers = draw.random(len(rows))
            best = np.argsort(numbers)[:sample]
            joined = Cells.joined([*kept[side], part.take(rows[best])])
            both = np.concatenate([luck[side], numbers[best]])
            order = np.argsort(both)[:sample]
            kept[side], luck[side] = [joined.take(order)], both[order]
    if not any(kept):
        raise UsageError("the run has no cells")
    sides = [cells for (cells,) in kept]
    half = sample // 2
    more = [max(0, half - len(sides[1])), max(0, sample - half - len(sides[0]))]
    counts = (sample - half + more[0], half + more[1])
    return Cells.joined(
        [side.take(slice(0, count)) for side, count in zip(sides, counts, strict=True)]
    )


def _within(endpoints: Sequence[Endpoint], namespaces: Collection[str]) -> NDArray[np.bool_]:
    """Say per endpoint whether it may be drawn; UsageError for a namespace that the run lacks."""
    present = {endpoint.namespace for endpoint in endpoints if endpoint.namespace}
    for namespace in sorted({*namespaces} - present):
        raise UsageError(f"the run has no endpoint in namespace {namespace!r}")
    allowed = {"", *(namespaces or present)}
    return np.array([endpoint.namespace in allowed for endpoint in endpoints], np.bool_)


def _of_family(cells: Cells, family: Family | None) -> NDArray[np.bool_]:
    if family is None:
        return np.ones(len(cells), np.bool_)
    of_family: NDArray[np.bool_] = cells.family == FAMILIES.index(family)
    return of_family


class _Able:
    """Which cells a connection can be tried for, by arrays over endpoints and ports."""

    def __init__(self, run: Recorded) -> None:
        self._sends = np.array([_sends(endpoint) for endpoint in run.endpoints], np.bool_)
        self._receives = np.array([_receives(endpoint) for endpoint in run.endpoints], np.bool_)
        self.inside = np.array(
            [endpoint.kind is not EndpointKind.EXTERNAL for endpoint in run.endpoints], np.bool_
        )
        self._tcp = np.array([port.protocol is Protocol.TCP for port in run.ports], np.bool_)
        self._has = np.array(
            [
                [endpoint.address(family) is not None for endpoint in run.endpoints]
                for family in FAMILIES
            ],
            np.bool_,
        )

    def cells(self, cells: Cells) -> NDArray[np.bool_]:
        """Say which of some cells."""
        able: NDArray[np.bool_] = self._sends[cells.src] & self._receives[cells.dst]
        able &= self._tcp[cells.port] & (cells.src != cells.dst)
        able &= self._has[cells.family, cells.dst] & self._has[cells.family, cells.src]
        return able


def _sends(endpoint: Endpoint) -> bool:
    return endpoint.kind is EndpointKind.POD and endpoint.role is Role.PRIMARY


def _receives(endpoint: Endpoint) -> bool:
    ranged = outside.is_range_endpoint(endpoint)
    return not ranged and (endpoint.kind is not EndpointKind.POD or _sends(endpoint))
