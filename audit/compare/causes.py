"""What changed between two runs besides verdicts, and which of it explains a change.

A change is laid to what a reader can go and look at: the policy that decided and is not what it
was; else labels, nodes and pods of either end; else policies about either end's namespace that
changed too; else the versions of OVN and of the engine; else `UNEXPLAINED`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from audit.compare.pairing import Pairing
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.recorded import Recorded
from audit.model.verdicts import Blame, PolicyRef

UNEXPLAINED = "nothing that the runs record"
MOST_FACTS = 200


class Causes:
    """What differs between two runs, by what it is about."""

    def __init__(self, before: Recorded, after: Recorded, pairs: Pairing) -> None:
        self._policies = dict(_policies(before, after))
        self._ends: dict[str, dict[str, None]] = defaultdict(dict)  # ordered, and each once
        self._moves: dict[str, dict[str, None]] = defaultdict(dict)
        self._namespaces = {
            namespace: text
            for namespace in sorted(_namespaces(before) & _namespaces(after))
            if (
                text := labels_changed(
                    before.namespace_labels(namespace), after.namespace_labels(namespace)
                )
            )
        }
        self._namespace_of = {e.belongs_to: e.namespace for e in after.endpoints}
        self._versions = tuple(_versions(before, after))
        self._compare_endpoints(before, after, pairs)

    @property
    def policies(self) -> tuple[str, ...]:
        """`added networkpolicy shop/x`, `changed …`, `removed …`."""
        return tuple(self._policies.values())

    @property
    def facts(self) -> tuple[str, ...]:
        """Everything else that differs."""
        differences = [
            *(self._namespace(namespace) for namespace in self._namespaces),
            *(text for texts in self._ends.values() for text in texts),
            *(text for texts in self._moves.values() for text in texts),
            *self._versions,
        ]
        distinct = list(dict.fromkeys(differences))
        more = len(distinct) - MOST_FACTS
        return (*distinct[:MOST_FACTS], *([f"and {more:,} more"] if more > 0 else []))

    def of(self, src: str, dst: str, was: Blame | None, now: Blame | None) -> tuple[str, ...]:
        """Return what explains a change between these two, given who decided before and after."""
        reasons = self._edits(was, now)
        if not any(text.startswith(("added", "removed")) for text in reasons):
            # It may be an edit of the policy, or of what it selects: nothing tells which.
            reasons += [*self._about(src), *self._about(dst)]
        reasons = reasons or [*self._moves.get(src, ()), *self._moves.get(dst, ())]
        reasons = reasons or list(self._nearby(src, dst))
        return tuple(dict.fromkeys(reasons or self._versions)) or (UNEXPLAINED,)

    def _edits(self, *blames: Blame | None) -> list[str]:
        """Return how the policies that decided were edited."""
        deciders = [blame.policy for blame in blames if blame is not None]
        return [self._policies[ref] for ref in deciders if ref in self._policies]

    def _about(self, end: str) -> Iterator[str]:
        yield from self._ends.get(end, ())
        if (namespace := self._namespace_of.get(end, "")) in self._namespaces:
            yield self._namespace(namespace)

    def _namespace(self, namespace: str) -> str:
        return f"labels of namespace {namespace}: {self._namespaces[namespace]}"

    def _nearby(self, src: str, dst: str) -> Iterator[str]:
        """Yield the changed policies that could be about either end."""
        places = {"", self._namespace_of.get(src), self._namespace_of.get(dst)}
        yield from (text for ref, text in self._policies.items() if ref.namespace in places)

    def _compare_endpoints(self, before: Recorded, after: Recorded, pairs: Pairing) -> None:
        for index, counterpart in enumerate(pairs.before.tolist()):
            new = after.endpoints[index]
            if counterpart < 0 or new.kind is not EndpointKind.POD:
                continue
            self._compare_pods(before.endpoints[counterpart], new)

    def _compare_pods(self, old: Endpoint, new: Endpoint) -> None:
        name = new.belongs_to
        if text := labels_changed(_selectable(old), _selectable(new)):
            self._ends[name][f"labels of {name}: {text}"] = None
        if old.name != new.name:
            self._moves[name][f"{new.key} stands in for {old.key}"] = None
        elif old.node != new.node:
            self._moves[name][f"{new.key} moved from node {old.node} to {new.node}"] = None
        elif old.addresses != new.addresses:
            self._moves[name][f"{new.key} has other addresses"] = None


_CHURN = frozenset({"pod-template-hash", "controller-revision-hash", "pod-template-generation"})
"""Labels that a controller gives each roll-out a new value of; no policy is written about them."""


def _selectable(endpoint: Endpoint) -> Mapping[str, str]:
    return {key: value for key, value in endpoint.labels if key not in _CHURN}


def labels_changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return how labels changed, as `app=web to app=old, added env=prod`; empty where not."""
    changes = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if old is None:
            changes.append(f"added {key}={new}")
        elif new is None:
            changes.append(f"removed {key}={old}")
        else:
            changes.append(f"{key}={old} to {key}={new}")
    return ", ".join(changes)


def _namespaces(run: Recorded) -> set[str]:
    return {endpoint.namespace for endpoint in run.endpoints if endpoint.namespace}


def _policies(before: Recorded, after: Recorded) -> Iterator[tuple[PolicyRef, str]]:
    old = {policy.ref: policy for policy in before.policies}
    new = {policy.ref: policy for policy in after.policies}
    for ref in sorted({*old, *new}):
        if ref not in old:
            yield ref, f"added {ref}"
        elif ref not in new:
            yield ref, f"removed {ref}"
        elif old[ref].manifest != new[ref].manifest:
            yield ref, f"changed {ref}"


def _versions(before: Recorded, after: Recorded) -> Iterator[str]:
    """Yield how the versions of northd and of the engine, and the planes, differ."""
    for label, read in (
        ("databases made by northd", _northd),
        ("engine", _engine),
        ("planes", lambda manifest: ", ".join(manifest.get("planes") or ())),
    ):
        old, new = read(before.manifest), read(after.manifest)
        if old != new:
            yield f"{label}: {old or 'none'} to {new or 'none'}"


def _northd(manifest: Mapping[str, Any]) -> str:
    versions = {str(zone.get("northd_version") or "") for zone in manifest.get("databases") or ()}
    return ", ".join(sorted(versions - {""}))


def _engine(manifest: Mapping[str, Any]) -> str:
    engine = manifest.get("engine") or {}
    return f"{engine.get('name', '')} {engine.get('version', '')}".strip()
