"""Which objects of a manifest are read, by their kind and the API that it is of.

A kind is a word that several APIs have: Calico and Antrea have a NetworkPolicy too, and Volcano a
Job. Only the API says whose it is; what is another's is passed over.
"""

import difflib
import functools
from collections.abc import Mapping

from audit.facts.fields import FieldError
from audit.facts.ingress import GATEWAY_API, OLD_INGRESS, ROUTES

_WORKLOADS = ("apps", "extensions")
_PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "Namespace": ("",),
    "Node": ("",),
    "Pod": ("",),
    "ReplicationController": ("",),
    "Deployment": _WORKLOADS,
    "ReplicaSet": _WORKLOADS,
    "StatefulSet": _WORKLOADS,
    "DaemonSet": _WORKLOADS,
    "Job": ("batch",),
    "CronJob": ("batch",),
    "Service": ("",),
}
"""Kubernetes' own. Of these every version says the same about pods and labels."""

_INGRESS = "networking.k8s.io/v1"
_OVN = ("k8s.ovn.org",)
_GROUPS: Mapping[str, tuple[str, ...]] = {
    **_PUBLISHED,
    "UserDefinedNetwork": _OVN,
    "ClusterUserDefinedNetwork": _OVN,
    "ClusterNetworkConnect": _OVN,
    "RouteAdvertisements": _OVN,
    "NetworkAttachmentDefinition": ("k8s.cni.cncf.io",),
    # Without a group is how OpenShift 3 had it, with the same fields.
    "Route": ("route.openshift.io", ""),
    **dict.fromkeys((*ROUTES, "ReferenceGrant"), (GATEWAY_API,)),
}
"""All kinds of which the version does not matter, and their APIs."""

_VERSIONS: Mapping[str, tuple[str, ...]] = {
    "NetworkPolicy": ("networking.k8s.io/v1", "extensions/v1beta1"),
    "MultiNetworkPolicy": ("k8s.cni.cncf.io/v1beta1", "k8s.cni.cncf.io/v1beta2"),
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "BaselineAdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "ClusterNetworkPolicy": ("policy.networking.k8s.io/v1alpha2",),
    "EgressFirewall": ("k8s.ovn.org/v1",),
    "Ingress": (_INGRESS, *sorted(OLD_INGRESS)),
}
"""What these say depends on their version, so only these are read."""

CLUSTER_SCOPED = frozenset(
    {
        *("Namespace", "Node", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"),
        *("ClusterNetworkPolicy", "ClusterUserDefinedNetwork", "ClusterNetworkConnect"),
        "RouteAdvertisements",
    }
)
GONE = frozenset({"extensions/v1beta1"}) | OLD_INGRESS
"""Versions that mean what their successors mean, and that no server serves any more."""
_KINDS = {kind.lower(): kind for kind in (*_GROUPS, *_VERSIONS)}
_ALIKE = 0.85
"""How much of a word must agree, from 0 to 1, for a slip of who typed it. No other kinds of one API
are as alike as that."""


def is_read(kind: str, version: str) -> bool:
    """Return whether objects of this `kind` and `apiVersion` are read, or are another API's.

    FieldError where they are neither. A workload without apiVersion is taken for Kubernetes' own.
    """
    written = _KINDS.get(kind.lower())
    if written is None:
        _refuse_misspelt(kind, version)
        return False
    if written != kind:
        raise FieldError(f"kind is {kind}, which is written {written}")
    group = version.rpartition("/")[0]
    if kind in _GROUPS:
        if group in _GROUPS[kind] or not version:
            return True
        right = f"{_GROUPS[kind][0]}/v1".removeprefix("/")
    else:
        right = _VERSIONS[kind][0]
        if not version:
            article = "an" if kind[0] in "AEIOU" else "a"
            raise FieldError(f"apiVersion is missing; of {article} {kind} it is {right}")
        if version in _VERSIONS[kind]:
            return True
    # Groups of Kubernetes' own have no dot or end in k8s.io; nobody else may have such a group.
    if "." not in group or group.endswith(".k8s.io") or group == right.rpartition("/")[0]:
        raise FieldError(f"apiVersion is {version}, not {right}")
    return False


@functools.cache
def _refuse_misspelt(kind: str, version: str) -> None:
    """Raise FieldError for a kind that an API has not, and that is all but one that is read."""
    for near in difflib.get_close_matches(kind.lower(), _KINDS, n=3, cutoff=_ALIKE):
        meant = _KINDS[near]
        groups = _GROUPS.get(meant) or [v.rpartition("/")[0] for v in _VERSIONS[meant]]
        if version and version.rpartition("/")[0] in groups:
            raise FieldError(f"{version} has no kind {kind}; did you mean {meant}?")


def is_published(kind: str, version: str) -> bool:
    """Return whether objects of this `kind` and `apiVersion` have a schema of Kubernetes' own."""
    if kind == "Ingress":
        return version == _INGRESS
    return kind in _PUBLISHED and is_read(kind, version)


def is_processed(kind: str, version: str) -> bool:
    """Return whether objects are made of this one by a program: OpenShift's `oc process`."""
    return kind == "Template" and version.startswith("template.openshift.io/")


def described(kind: str, version: str) -> str:
    """Return a kind as it is counted among what is passed over, with its API where it needs it."""
    return f"{kind} of {version}" if kind.lower() in _KINDS else kind
