"""Policy objects → policies: who they are, what they mean, and how they are written. Pure.

Large clusters have hundreds of thousands of NetworkPolicies that say few hundred things: what is
read of one's `spec` holds for all that are the same but for their metadata.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import yaml

from audit.facts import policies
from audit.facts.documents import documents
from audit.facts.fields import Field
from audit.model.facts import Policy
from audit.model.policies import PolicySpec
from audit.model.verdicts import PolicyRef

Object = Mapping[str, Any]

_SERVER_WRITTEN = frozenset(
    {"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of the manifest in the manifest."""
# libyaml writes the same text eight times faster: seconds, at ten thousand policies.
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_ISOLATING = frozenset({"NetworkPolicy", "MultiNetworkPolicy"})


@dataclass(frozen=True, slots=True)
class _Spec:
    """What is read of a policy's `spec`: the fields of `Policy`."""

    directions: tuple[str, ...]
    rules: tuple[int, int]
    meant: PolicySpec | None


def policy(item: Object, kind: str, *, meant: bool = True) -> Policy:
    """Read a policy object of any of the kinds in POLICY_RESOURCES, with what it means or not."""
    spec = _spec(item, kind, meant=meant)
    where = policies.place(Field(item)["metadata"], kind)
    means = None if spec.meant is None else policies.placed(spec.meant, where)
    return _policy(item, kind, spec, means, manifest(item, kind))


def policy_of(stored: Policy) -> Policy:
    """Return a policy of a finished run with its meaning, read from its manifest again."""
    [item] = documents(stored.manifest)
    return replace(stored, spec=policies.spec(item, stored.ref.kind))


Alike = tuple[str, bytes]
"""A kind, and the JSON of an object of that kind without its metadata."""


@dataclass(slots=True)
class Readings:
    """Reads policies as `policy` does; those that are alike but for their metadata are read once.

    Items are as JSON has them.
    """

    _specs: dict[Alike, _Spec] = field(default_factory=dict)
    _placed: dict[tuple[Alike, policies.Place], PolicySpec] = field(default_factory=dict)

    def policy(self, item: Object, kind: str, alike: Alike) -> Policy:
        """Read a policy object with what it means; its manifest is written when it is asked for.

        `alike` is what `but_for_metadata` says of it.
        """
        if alike not in self._specs:
            self._specs[alike] = _spec(item, kind, meant=True)
        spec = self._specs[alike]
        assert spec.meant is not None  # noqa: S101 - it was asked for
        where = policies.place(Field(item)["metadata"], kind)
        if (alike, where) not in self._placed:
            self._placed[alike, where] = policies.placed(spec.meant, where)
        text = functools.partial(_written, msgspec.json.encode(_shown(item, kind)))
        return _policy(item, kind, spec, self._placed[alike, where], text)


def but_for_metadata(item: Object, kind: str) -> Alike:
    """Return what policies, as JSON has them, have in common that are alike."""
    rest = {name: value for name, value in item.items() if name != "metadata"}
    return kind, msgspec.json.encode(rest)


def _policy(
    item: Object,
    kind: str,
    spec: _Spec,
    means: PolicySpec | None,
    text: str | Callable[[], str],
) -> Policy:
    metadata = Field(item)["metadata"]
    space = sys.intern(metadata["namespace"].text())
    return Policy(
        ref=PolicyRef(kind=kind, namespace=space, name=metadata["name"].required()),
        directions=spec.directions,
        rules=spec.rules,
        text=text,
        spec=means,
    )


def _spec(item: Object, kind: str, *, meant: bool) -> _Spec:
    spec = Field(item)["spec"]
    return _Spec(
        directions=_directions(kind, spec),
        rules=(len([*spec["ingress"].each()]), len([*spec["egress"].each()])),
        meant=policies.meaning(spec, kind) if meant else None,
    )


def _directions(kind: str, spec: Field) -> tuple[str, ...]:
    """Return the directions a policy acts in.

    The default `policyTypes` are Ingress, and Egress when it has an egress rule
    (networking.k8s.io/v1).
    """
    if kind in _ISOLATING:
        types = [policy_type.text().lower() for policy_type in spec["policyTypes"].each()]
        default = ("egress", "ingress") if any(spec["egress"].each()) else ("ingress",)
        return tuple(sorted(set(types))) or default
    return tuple(direction for direction in ("egress", "ingress") if any(spec[direction].each()))


def manifest(item: Object, kind: str) -> str:
    """Return the object as YAML, without what the server and kubectl wrote into it."""
    return _yaml(_shown(item, kind))


def _written(shown: bytes) -> str:
    return _yaml(msgspec.json.decode(shown))


def _yaml(shown: Object) -> str:
    text = yaml.dump(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return str(text)


def _shown(item: Object, kind: str) -> Object:
    """Return what of an object is shown."""
    root = Field(item)
    metadata = {k: v for k, v in root["metadata"].mapping().items() if k not in _SERVER_WRITTEN}
    annotations = root["metadata"]["annotations"].mapping()
    kept = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    metadata.pop("annotations", None)
    if kept:
        metadata["annotations"] = kept
    return {
        "apiVersion": root["apiVersion"].text(),
        "kind": root["kind"].text(kind),
        "metadata": metadata,
        "spec": root["spec"].mapping(),
    }
