"""The policies of a snapshot: what each means, and notes on those that no server accepts.

An API server keeps what it once let in, and a newer one has fields that are not known here. So a
policy that does not keep the rules of its API is read as far as OVN-Kubernetes gives it a meaning,
with a note; of one that has none, nothing is known of what the objects mean.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.facts import apis, kube, policyobjects, snapshot, validity
from audit.facts.fields import Field, FieldError
from audit.facts.passedover import PassedOver
from audit.model.facts import Note, Policy

RESOURCE_OF: Mapping[str, str] = {kind: name for name, kind in kube.POLICY_RESOURCES.items()}


_OF_SPEC_OR_METADATA = frozenset({"NetworkPolicy"})
"""Kinds of which no rule of the API is about metadata and the rest of the object together."""


@dataclass(slots=True)
class _Faults:
    """Finds what `validity.of_policy` does; the same but for its metadata is looked at once."""

    _faultless: set[policyobjects.Alike] = field(default_factory=set)

    def of(
        self, item: Mapping[str, object], kind: str, alike: policyobjects.Alike
    ) -> list[validity.Fault]:
        if alike in self._faultless:
            return validity.of_metadata(item["metadata"], ())
        faults = validity.of_policy(item, kind)
        if not faults and kind in _OF_SPEC_OR_METADATA:
            self._faultless.add(alike)
        return faults


@dataclass(slots=True, kw_only=True)
class Listed:
    """What is in a snapshot's lists of policies."""

    policies: list[Policy] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    """Kinds that were listed."""
    kinds: set[str] = field(default_factory=set)
    """Those of which every policy has a meaning."""
    unread: list[str] = field(default_factory=list)
    """Policies that have none."""
    others: Counter[str] = field(default_factory=Counter)
    """Objects of another API that has the same word for its kind."""
    notes: list[Note] = field(default_factory=list)
    _readings: policyobjects.Readings = field(default_factory=policyobjects.Readings)
    _faults: _Faults = field(default_factory=_Faults)

    def take(self, item: Mapping[str, object], kind: str) -> Policy | None:
        """Read one policy; None for another API's. FieldError where it is none at all."""
        version = Field(item)["apiVersion"].text()
        try:
            if version and not apis.is_read(kind, version):
                self.others[apis.described(kind, version)] += 1
                return None
            alike = policyobjects.but_for_metadata(item, kind)
            policy = self._readings.policy(item, kind, alike)
        except FieldError as error:
            policy = policyobjects.policy(item, kind, meant=False)
            text = f"{policy.ref} has no meaning that is known: {error}"
            self.notes.append(
                Note(code="policy-without-meaning", text=text, subjects=(str(policy.ref),))
            )
            self.unread.append(str(policy.ref))
            return policy
        faults = self._faults.of(item, kind, alike)
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            text = (
                f"{policy.ref} is in the cluster, and no API server known here would accept it: "
                f"{faults[0]}{more}; what is known of it is read"
            )
            self.notes.append(Note(code="policy-not-valid", text=text, subjects=(str(policy.ref),)))
        return policy


def policies(taken: snapshot.Snapshot) -> Listed:
    """Read every list of policies that a snapshot has. SnapshotError as `read_objects`."""
    listed = Listed()
    for resource, kind in kube.POLICY_RESOURCES.items():
        unread_before = len(listed.unread)

        def take(item: Mapping[str, object], kind: str = kind) -> Policy | None:
            return listed.take(item, kind)

        read = snapshot.read_objects(taken, resource, take)
        if read is None:
            continue
        listed.read.add(kind)
        if len(listed.unread) == unread_before:
            listed.kinds.add(kind)
        listed.policies += [policy for policy in read if policy is not None]
    listed.notes += PassedOver(kinds=listed.others).notes()
    return listed
