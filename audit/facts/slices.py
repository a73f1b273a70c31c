"""The EndpointSlices of a snapshot, by the Service that each is of."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from audit.facts import kube, snapshot


def by_service(
    opened: snapshot.Snapshot,
) -> Mapping[tuple[str, str], Sequence[kube.Object]] | None:
    """Return them by (namespace, name); None where the snapshot has no list. SnapshotError."""
    listed = snapshot.read_objects(
        opened, "endpointslices", lambda item: (kube.slice_service(item), item)
    )
    if listed is None:
        return None
    slices: dict[tuple[str, str], list[kube.Object]] = defaultdict(list)
    for owner, item in listed:
        if owner is not None:
            slices[owner].append(item)
    return dict(slices)
