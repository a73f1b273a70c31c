"""Objects that are to be applied to a cluster, and policies to be deleted → as it would be then.

Policies decide packets, and namespaces' labels which policies concern whom: these two are applied.
A workload has no pods before a controller makes them, so it is passed over, and said to be.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from audit.errors import UsageError
from audit.facts import apis, kube, manifests
from audit.facts.manifests import Manifests
from audit.model.facts import ClusterState, Note
from audit.model.findings import APPLIED
from audit.model.verdicts import PolicyRef

_KINDS: Mapping[str, str] = {
    **kube.POLICY_RESOURCES,
    **{kind.lower(): kind for kind in kube.POLICY_RESOURCES.values()},
    "netpol": "NetworkPolicy",
    "anp": "AdminNetworkPolicy",
    "banp": "BaselineAdminNetworkPolicy",
    "cnp": "ClusterNetworkPolicy",
}
"""The words that kubectl has for a kind of policy, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is applied and deleted: files or directories with objects, and policies by name."""

    applied: tuple[str, ...] = ()
    deleted: tuple[PolicyRef, ...] = ()

    def __bool__(self) -> bool:
        """Say whether there is anything to change."""
        return bool(self.applied or self.deleted)


NO_CHANGE = Change()


def policy_named(text: str) -> PolicyRef:
    """Read KIND/NAMESPACE/NAME, or KIND/NAME of a kind without namespaces, as kubectl names kinds.

    UsageError where it is neither.
    """
    word, *names = text.split("/")
    kind = _KINDS.get(word.lower())
    if kind is None:
        raise UsageError(f"{text!r}: {word!r} is no kind of policy; there are {_kinds()}")
    wanted = 1 if kind in apis.CLUSTER_SCOPED else 2
    if len(names) != wanted or not all(names):
        written = f"{kind.lower()}/{'NAME' if wanted == 1 else 'NAMESPACE/NAME'}"
        raise UsageError(f"{text!r} names no {kind}; write {written}")
    return PolicyRef(kind=kind, namespace="/".join(names[:-1]), name=names[-1])


def _kinds() -> str:
    return ", ".join(sorted(kind.lower() for kind in kube.POLICY_RESOURCES.values()))


def changed(state: ClusterState, change: Change) -> ClusterState:
    """Return a cluster as it would be.

    Labels of a namespace are added to those that it has, as `kubectl apply` does with labels that
    others set. ManifestError where a file cannot be read or an API server would refuse it,
    UsageError where a policy that is to be deleted is not there.
    """
    read = [manifests.read_policies(source) for source in change.applied]
    policies = {policy.ref: policy for policy in state.policies}
    for ref in change.deleted:
        if ref not in policies:
            raise UsageError(f"there is no {ref} in {state.source}, so it cannot be deleted")
    kept = {ref: policy for ref, policy in policies.items() if ref not in change.deleted}
    applied = {policy.ref: policy for one in read for policy in one.policies}
    after = kept | applied
    touched = {*map(str, change.deleted), *map(str, applied)}
    return replace(
        state,
        policies=tuple(after[ref] for ref in sorted(after)),
        namespaces=MappingProxyType(_labelled(state.namespaces, read)),
        unread_policies=tuple(ref for ref in state.unread_policies if ref not in touched),
        notes=(
            *(note for note in state.notes if not _is_about(note, touched)),
            *(note for one in read for note in one.notes),
            _note(change, {str(ref) for ref in policies}, [*map(str, applied)], read),
        ),
        inputs=(*state.inputs, *(made for one in read for made in one.inputs)),
        source_lines=MappingProxyType(
            {**state.source_lines, **{s: at for one in read for s, at in one.source_lines.items()}}
        ),
    )


def _labelled(
    namespaces: Mapping[str, tuple[tuple[str, str], ...]], read: Iterable[Manifests]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the namespaces with the labels that their objects in the files have, too."""
    labelled = dict(namespaces)
    for name, labels in _written(read):
        labelled[name] = tuple(sorted({**dict(labelled.get(name, ())), **labels}.items()))
    return labelled


def _written(read: Iterable[Manifests]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the namespaces that have an object in the files, and their labels."""
    for one in read:
        yield from one.written_namespaces.items()


_OF_A_POLICY = frozenset({"policy-without-meaning", "policy-not-valid"})


def _is_about(note: Note, touched: set[str]) -> bool:
    """Tell whether a note is about a policy that is not as it was when the note was made."""
    return note.code in _OF_A_POLICY and bool(touched.intersection(note.subjects))


def _note(change: Change, before: set[str], applied: Sequence[str], read: list[Manifests]) -> Note:
    """Say what this cluster is, which nobody has."""
    replaced = sorted(before.intersection(applied))
    added = sorted(set(applied) - before)
    deleted = sorted(map(str, change.deleted))
    labelled = sorted({f"namespace {name}" for name, _ in _written(read)})
    counted = (
        (added, "added"),
        (replaced, "replaced"),
        (deleted, "deleted"),
        (labelled, "labelled"),
    )
    done = ", ".join(f"{len(names)} {word}" for names, word in counted if names)
    text = (
        f"this is the cluster as it would be, not as it is: {done}; only policies and labels of "
        "namespaces are applied, and what OVN would make of them is not asked"
    )
    return Note(code=APPLIED, text=text, subjects=(*added, *replaced, *deleted, *labelled))
