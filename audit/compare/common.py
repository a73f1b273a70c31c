"""What two runs have in common: whether they are of one cluster, one scope and the same planes.

Where they are not, what both have can be compared still. That nothing changed there says less than
it seems to, so each difference is a sentence, and what one run did not ask about is not called new
or gone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.model.recorded import Recorded

_STRENGTH = ("intent", "logical", "datapath")
_PARTIAL = "namespaces-missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What lies in the scope of both runs.

    `before` and `after` say of each endpoint of a run whether the other would have it, were it
    there. `reservations` are sentences, none where the runs are of the same.
    """

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    reservations: tuple[str, ...] = ()


def plane(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Return the strongest plane that both runs (their run.json) have.

    Empty where they have the same ones, so that each cell's verdict is compared; None where they
    have no plane in common, so that nothing can be.
    """
    planes = [frozenset(run.get("planes") or ()) for run in (before, after)]
    if planes[0] == planes[1] or not all(planes):
        return ""
    shared = [name for name in _STRENGTH if name in planes[0] & planes[1]]
    return shared[-1] if shared else None


def restricted(
    before: Recorded, after: Recorded, selected: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> Common:
    """Say what the runs have in common.

    `selected` says of each endpoint of the earlier run whether the later one's scope has it, and
    the other way round.
    """
    manifests = [_of_manifests(run) for run in (before, after)]
    masks = [mask.copy() for mask in selected]
    for side, (run, other) in enumerate(((before, after), (after, before))):
        unread = _unread(other)
        if unread:
            masks[side] &= [e.namespace not in unread for e in run.endpoints]
        if manifests[1 - side] and not manifests[side]:
            masks[side][:] = False
    return Common(before=masks[0], after=masks[1], reservations=tuple(_reservations(before, after)))


def _reservations(before: Recorded, after: Recorded) -> Iterator[str]:
    yield from _clusters(before, after)
    yield from _scopes(before, after)
    names = before.name, after.name
    unread = [_unread(run) for run in (before, after)]
    if unread[0] != unread[1]:
        part, whole = names if len(unread[0]) > len(unread[1]) else names[::-1]
        yield (
            f"{part} is of a snapshot that lacks namespaces which that of {whole} has: only what "
            "both have was compared."
        )
    shared = plane(before.manifest, after.manifest)
    if shared != "":
        planes = [", ".join(run.manifest["planes"]) for run in (before, after)]
        result = (
            "they have no plane in common"
            if shared is None
            else f"only what the {shared} plane says was compared"
        )
        yield f"{names[0]} asked {planes[0]} and {names[1]} asked {planes[1]}: {result}."


def _scopes(before: Recorded, after: Recorded) -> Iterator[str]:
    """Yield that the runs have different scopes, if they have."""
    old, new = (_flat(run.manifest.get("scope") or {}) for run in (before, after))
    differing = [
        f"{key} {old.get(key, 'not given')}, then {new.get(key, 'not given')}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    if differing:
        yield (
            f"{before.name} and {after.name} have different scopes ({'; '.join(differing)}): only "
            "what both have was compared."
        )


def _clusters(before: Recorded, after: Recorded) -> Iterator[str]:
    """Yield that the runs are of two clusters, if they are."""
    manifests = [_of_manifests(run) for run in (before, after)]
    if manifests[0] != manifests[1]:
        made, real = (before, after) if manifests[0] else (after, before)
        yield (
            f"{made.name} is of manifests and {real.name} of a cluster, where more may run: what "
            "only the cluster has is not called new or gone."
        )
        return
    identities = [run.manifest.get("cluster") for run in (before, after)]
    nodes = [_nodes(run) for run in (before, after)]
    differs = (
        identities[0] != identities[1]
        if all(identities)
        else all(nodes) and nodes[0].isdisjoint(nodes[1])
    )
    if differs:
        why = "namespace kube-system has another uid" if all(identities) else "they share no node"
        yield (
            f"{before.name} and {after.name} are of different clusters ({why}): what has the same "
            "name in both was compared."
        )


def _of_manifests(run: Recorded) -> bool:
    return (run.manifest.get("labels") or {}).get("complete") is False


def _nodes(run: Recorded) -> frozenset[str]:
    listed = frozenset((run.manifest.get("labels") or {}).get("nodes") or ())
    return listed or frozenset(e.node for e in run.endpoints if e.node)


def _unread(run: Recorded) -> frozenset[str]:
    """Return the namespaces that a run's snapshot lacks."""
    notes = run.manifest.get("notes") or ()
    return frozenset(
        name for note in notes if note.get("code") == _PARTIAL for name in note["subjects"]
    )


def _flat(scope: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return what a scope says by key: `from.selector`, `ports`. The order of a list is nothing."""
    texts: dict[str, str] = {}
    for key, value in scope.items():
        if isinstance(value, Mapping):
            texts |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            texts[prefix + key] = ", ".join(sorted(map(str, value)))
        else:
            texts[prefix + key] = str(value).lower() if isinstance(value, bool) else str(value)
    return texts
