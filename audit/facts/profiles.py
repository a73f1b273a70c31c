"""Which of an object's variants a cluster gets, where OpenShift's cluster profiles tell them apart.

The manifests of OpenShift's operators lie side by side for several kinds of cluster, and name those
that each is for by annotations. The cluster-version operator applies those of one profile only.
Pure.
"""

from collections.abc import Mapping, Sequence

_PREFIX = "include.release.openshift.io/"
DEFAULT = "self-managed-high-availability"
"""The profile of a cluster that was installed without saying one."""


def choose(variants: Sequence[Mapping[str, object]]) -> int | None:
    """Return the place of the variant that the default profile gets, if only one is for it.

    None where one of them names no profile: it is for every cluster, or not for OpenShift.
    """
    named = [_profiles(variant) for variant in variants]
    fitting = [index for index, profiles in enumerate(named) if DEFAULT in profiles]
    return fitting[0] if all(named) and len(fitting) == 1 else None


def _profiles(item: Mapping[str, object]) -> frozenset[str]:
    metadata = item.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if not isinstance(annotations, Mapping):
        return frozenset()
    return frozenset(
        str(name).removeprefix(_PREFIX)
        for name, value in annotations.items()
        if str(name).startswith(_PREFIX) and value == "true"
    )
