"""A run → the expectations that describe it: a later run that differs violates them.

Pairs of namespaces are described as one where all their cells agree, and by workloads where they
do not. What is unproven, and what differs between the pods of a workload, is described by nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.expectations import Expect, Expectation, Side
from audit.model.matrix import Cells
from audit.model.recorded import Recorded
from audit.model.verdicts import PASSES, STOPPED, VERDICTS

_PASS, _STOP, _MIXED = 1, 2, 3
"""What all cells of a pair are, as bits that are or-ed together; 0 has no proven cell."""
_SIGHT = np.array(
    [_PASS if v in PASSES else _STOP if v in STOPPED else _MIXED for v in VERDICTS], np.uint8
)
_EXPECT = {_PASS: Expect.REACHABLE, _STOP: Expect.BLOCKED}

_Pair = tuple[int, int, int]
"""Source and destination (groups), port."""


def baseline(run: Recorded, advance: Callable[[int], None]) -> tuple[Expectation, ...]:
    """Return expectations that the run satisfies; `advance` is called with the cells looked at."""
    wide = _Groups(run.endpoints, _namespace)
    narrow = _Groups(run.endpoints, _workload)
    seen = _seen(run, wide, advance)
    mixed = {pair for pair, sight in seen.items() if sight == _MIXED}
    uniform = {pair: sight for pair, sight in seen.items() if sight in _EXPECT}
    expectations = list(_described(run, wide, uniform))
    if mixed:
        detail = _seen(run, narrow, advance, within=(wide, mixed))
        expectations += _described(run, narrow, {p: s for p, s in detail.items() if s in _EXPECT})
    return tuple(expectations)


class _Groups:
    """Numbers for endpoints that are described as one, and the side that selects each."""

    def __init__(
        self, endpoints: tuple[Endpoint, ...], group: Callable[[Endpoint], tuple[Hashable, Side]]
    ) -> None:
        places: dict[Hashable, int] = {}
        self.sides: list[Side] = []
        numbers = []
        for endpoint in endpoints:
            key, side = group(endpoint)
            if key not in places:
                places[key] = len(self.sides)
                self.sides.append(side)
            numbers.append(places[key])
        self.of: NDArray[np.int64] = np.array(numbers, np.int64)


def _namespace(endpoint: Endpoint) -> tuple[Hashable, Side]:
    if endpoint.kind is EndpointKind.POD:
        side = Side(kinds=(EndpointKind.POD,), namespaces=(endpoint.namespace,))
        return (endpoint.kind, endpoint.namespace), side
    return _workload(endpoint)


def _workload(endpoint: Endpoint) -> tuple[Hashable, Side]:
    kinds = (endpoint.kind,)
    match endpoint.kind:
        case EndpointKind.POD:
            name = f"{endpoint.namespace}/{endpoint.workload.partition('/')[2] or endpoint.name}"
            return (endpoint.kind, name), Side(kinds=kinds, workloads=(name,))
        case EndpointKind.NODE:
            return (endpoint.kind, endpoint.name), Side(kinds=kinds, nodes=(endpoint.name,))
        case EndpointKind.EXTERNAL:
            side = Side(kinds=kinds, addresses=(endpoint.name,))
            return (endpoint.kind, endpoint.name), side
        case _:
            name = "/".join(filter(None, (endpoint.namespace, endpoint.name)))
            return (endpoint.kind, name), Side(kinds=kinds, names=(name,))


def _seen(
    run: Recorded,
    groups: _Groups,
    advance: Callable[[int], None],
    within: tuple[_Groups, set[_Pair]] | None = None,
) -> dict[_Pair, int]:
    """Return what is seen of each pair of groups on each port, or of those pairs' parts."""
    sights: dict[_Pair, int] = defaultdict(int)
    ports = max(len(run.ports), 1)
    for cells in run.cells:
        chosen = cells if within is None else _among(cells, *within, ports)
        src, dst = groups.of[chosen.src], groups.of[chosen.dst]
        keys = (src * len(groups.sides) + dst) * ports + chosen.port
        keys = keys * (_MIXED + 1) + _SIGHT[chosen.verdict]
        for key in np.unique(keys).tolist():
            pair, sight = divmod(key, _MIXED + 1)
            ends, port = divmod(pair, ports)
            sights[*divmod(ends, len(groups.sides)), port] |= sight
        advance(len(cells))
    return sights


def _among(cells: Cells, groups: _Groups, pairs: set[_Pair], ports: int) -> Cells:
    """Return the cells of some pairs of groups."""
    size = len(groups.sides)
    wanted = np.array([(src * size + dst) * ports + port for src, dst, port in pairs], np.int64)
    keys = (groups.of[cells.src] * size + groups.of[cells.dst]) * ports + cells.port
    return cells.take(np.flatnonzero(np.isin(keys, wanted)))


def _described(run: Recorded, groups: _Groups, seen: Mapping[_Pair, int]) -> Iterator[Expectation]:
    """Yield few expectations: destinations alike are one, and so are sources with the same."""
    ports: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for (src, dst, port), sight in seen.items():
        ports[src, dst, sight].append(port)
    rows: dict[int, dict[tuple[int, tuple[int, ...]], list[int]]] = defaultdict(dict)
    for (src, dst, sight), numbers in ports.items():
        rows[src].setdefault((sight, tuple(sorted(numbers))), []).append(dst)
    alike: dict[tuple[int, tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for src, row in rows.items():
        for (sight, listed), targets in row.items():
            alike[sight, listed, tuple(sorted(targets))].append(src)
    for (sight, listed, dsts), srcs in alike.items():
        for src_side in _merged([groups.sides[src] for src in srcs]):
            for dst_side in _merged([groups.sides[dst] for dst in dsts]):
                yield _expectation(run, _EXPECT[sight], src_side, dst_side, listed)


def _merged(sides: list[Side]) -> Iterator[Side]:
    """Yield one side for all that are named in the same way."""
    kinds: dict[tuple[object, ...], list[Side]] = defaultdict(list)
    for side in sides:
        kinds[side.kinds, bool(side.namespaces), bool(side.workloads)].append(side)
    for alike in kinds.values():
        yield Side(
            kinds=alike[0].kinds,
            namespaces=_union(side.namespaces for side in alike),
            workloads=_union(side.workloads for side in alike),
            names=_union(side.names for side in alike),
            nodes=_union(side.nodes for side in alike),
            addresses=_union(side.addresses for side in alike),
        )


def _union(values: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({value for some in values for value in some}))


def _expectation(
    run: Recorded, expect: Expect, src: Side, dst: Side, ports: tuple[int, ...]
) -> Expectation:
    listed: tuple[Port, ...] = tuple(run.ports[port] for port in ports)
    on_ports = ", ".join(map(str, listed[:4])) + (" …" if len(listed) > 4 else "")  # noqa: PLR2004
    return Expectation(
        name=f"{_named(src)} to {_named(dst)} on {on_ports} {expect}",
        expect=expect,
        src=src,
        dst=dst,
        ports=listed,
    )


def _named(side: Side) -> str:
    """Return a side in a few words."""
    names = (*side.namespaces, *side.workloads, *side.names, *side.nodes, *side.addresses)
    more = f" and {len(names) - 2} more" if len(names) > 3 else ""  # noqa: PLR2004
    return ", ".join(names[: 2 if more else 3]) + more
