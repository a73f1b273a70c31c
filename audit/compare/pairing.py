"""Which endpoint of an earlier run an endpoint of a later one is compared with.

The same pod, Service, node or address is compared with itself, wherever it runs now. A pod whose
name is new takes the place of one of the same workload, or, where nothing owns it, of one with the
same labels: a rolled-out Deployment is not news. What has no counterpart appeared; what is
nobody's counterpart vanished, unless others of its workload are there.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind

_Team = tuple[str, str | tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """`before[e]` is the counterpart of the later run's endpoint e, -1 where it has none."""

    before: NDArray[np.int32]
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    replaced: tuple[tuple[int, int], ...]
    """(earlier, later) pods of different names: one stands in for the other."""
    out_of_scope: tuple[int, int] = (0, 0)
    """How many workloads of the earlier run the later did not ask about; the other way round."""


def pair(
    before: Sequence[Endpoint],
    after: Sequence[Endpoint],
    asked: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> Pairing:
    """Find each later endpoint's counterpart.

    `asked` says of each earlier endpoint whether the later run asked about such, and the other way
    round: only of what the other asked about can be said that it appeared or vanished.
    """
    places = {_identity(endpoint): place for place, endpoint in enumerate(before)}
    found = np.array([places.get(_identity(e), -1) for e in after], np.int32)
    free: dict[_Team, list[int]] = defaultdict(list)
    for place in sorted(set(range(len(before))) - set(found.tolist())):
        if (team := _team(before[place])) is not None:
            free[team].append(place)
    others = {team: place for place, e in enumerate(before) if (team := _team(e)) is not None}
    replaced = []
    for place, endpoint in enumerate(after):
        team = _team(endpoint)
        if found[place] >= 0 or team is None:
            continue
        if free[team]:
            found[place] = free[team].pop(0)
            replaced.append((int(found[place]), place))
        elif _owned(endpoint):  # one more replica: nothing vanished for it
            found[place] = others.get(team, -1)
    old, new = ({e.belongs_to for e in endpoints} for endpoints in (before, after))
    used = {before[place].belongs_to for place in found[found >= 0].tolist()}
    known = {e.belongs_to for place, e in enumerate(after) if found[place] >= 0}
    missing = [old - new - used, new - old - known]
    comparable = missing
    if asked is not None:
        sides = zip((before, after), asked, strict=True)
        wanted = [{e.belongs_to for e, is_in in zip(*s, strict=True) if is_in} for s in sides]
        comparable = [names & both for names, both in zip(missing, wanted, strict=True)]
    return Pairing(
        before=found,
        vanished=tuple(sorted(comparable[0])),
        appeared=tuple(sorted(comparable[1])),
        replaced=tuple(replaced),
        out_of_scope=(
            len(missing[0] - comparable[0]),
            len(missing[1] - comparable[1]),
        ),
    )


def _identity(endpoint: Endpoint) -> Hashable:
    """Return what makes it the same endpoint: a pod that moved is still itself."""
    via = endpoint.node if endpoint.kind is EndpointKind.EXTERNAL else ""
    return endpoint.kind, endpoint.namespace, endpoint.name, via


def _team(endpoint: Endpoint) -> _Team | None:
    """Return what makes pods interchangeable; None for what is like nothing else."""
    if endpoint.kind is not EndpointKind.POD:
        return None
    if _owned(endpoint):
        return endpoint.namespace, endpoint.workload
    return (endpoint.namespace, endpoint.labels) if endpoint.labels else None


def _owned(endpoint: Endpoint) -> bool:
    """Say whether a workload makes the pod: a bare pod's is the pod itself."""
    return bool(endpoint.workload) and endpoint.workload != f"Pod/{endpoint.name}"
