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

_Team = tuple[str, str, str | tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """`before[e]` is the counterpart of the later run's endpoint e, -1 where it has none."""

    before: NDArray[np.int32]
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    replaced: tuple[tuple[int, int], ...]
    """(earlier, later) pods of different names: one stands in for the other."""
    out_of_scope: tuple[int, int] = (0, 0)
    """How many workloads of either run the other one's scope leaves out: (earlier, later)."""


def pair(
    before: Sequence[Endpoint],
    after: Sequence[Endpoint],
    selected: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> Pairing:
    """Find each later endpoint's counterpart.

    `selected` has, for each earlier endpoint, whether the later run's scope selects it, and for
    each later endpoint whether the earlier one's does. Outside the other run's scope, nothing is
    said to have appeared or vanished.
    """
    counterparts, replaced = _counterparts(before, after)
    paired = counterparts >= 0
    old, new = ({e.belongs_to for e in endpoints} for endpoints in (before, after))
    kept = {before[index].belongs_to for index in counterparts[paired].tolist()}
    continued = {after[index].belongs_to for index in np.flatnonzero(paired).tolist()}
    vanished, appeared = old - new - kept, new - old - continued
    if selected is None:
        in_scope = vanished, appeared
    else:
        in_scope = vanished & _names(before, selected[0]), appeared & _names(after, selected[1])
    return Pairing(
        before=counterparts,
        vanished=tuple(sorted(in_scope[0])),
        appeared=tuple(sorted(in_scope[1])),
        replaced=replaced,
        out_of_scope=(len(vanished - in_scope[0]), len(appeared - in_scope[1])),
    )


def _counterparts(
    before: Sequence[Endpoint], after: Sequence[Endpoint]
) -> tuple[NDArray[np.int32], tuple[tuple[int, int], ...]]:
    """Return the earlier endpoint for each later one (-1: none), and the pods that stand in."""
    same = {_identity(endpoint): index for index, endpoint in enumerate(before)}
    counterparts = np.array([same.get(_identity(e), -1) for e in after], np.int32)
    gone = set(range(len(before))) - set(counterparts.tolist())
    teams: dict[_Team | None, list[int]] = defaultdict(list)
    free: dict[_Team | None, list[int]] = defaultdict(list)
    for index, endpoint in enumerate(before):
        if (team := _team(endpoint)) is not None:
            teams[team].append(index)
            if index in gone:
                free[team].append(index)
    replaced = []
    for index in np.flatnonzero(counterparts < 0).tolist():
        team = _team(after[index])
        if free[team]:
            counterparts[index] = free[team].pop(0)
            replaced.append((int(counterparts[index]), index))
        elif teams[team] and _owned(after[index]):  # one more replica: nothing vanished for it
            counterparts[index] = teams[team][-1]
    return counterparts, tuple(replaced)


def _names(endpoints: Sequence[Endpoint], mask: NDArray[np.bool_]) -> set[str]:
    return {endpoints[index].belongs_to for index in np.flatnonzero(mask).tolist()}


def _identity(endpoint: Endpoint) -> Hashable:
    """Return what makes it the same endpoint: a pod that moved is still itself."""
    via = endpoint.node if endpoint.kind is EndpointKind.EXTERNAL else ""
    return endpoint.kind, endpoint.namespace, endpoint.name, endpoint.network_name, via


def _team(endpoint: Endpoint) -> _Team | None:
    """Return what makes pods interchangeable; None for what is like nothing else."""
    if endpoint.kind is not EndpointKind.POD:
        return None
    where = endpoint.namespace, endpoint.network_name
    if _owned(endpoint):
        return *where, endpoint.workload
    return (*where, endpoint.labels) if endpoint.labels else None


def _owned(endpoint: Endpoint) -> bool:
    """Say whether a workload makes the pod: a bare pod's is the pod itself."""
    return bool(endpoint.workload) and endpoint.workload != f"Pod/{endpoint.name}"
