"""OVN's inventory beside Kubernetes': everything that the two do not agree on. Pure."""

from collections.abc import Sequence

from audit.facts.inventory import groups, pods
from audit.facts.inventory.cluster import Cluster
from audit.facts.inventory.policies import Policies
from audit.facts.inventory.services import Balancers, Declared
from audit.facts.inventory.sets import Sets
from audit.model.inventory import Difference


def compare(
    cluster: Cluster,
    services: Sequence[Declared],
    *,
    differing: Sequence[Difference],
    sliced: bool,
) -> tuple[Difference, ...]:
    """Return the differences; `differing` are the pods', which are known before the rest."""
    wanted_groups = list(groups.groups(cluster))
    policies = Policies(cluster)
    wanted = {":".join(group.key[:2]): group for group in wanted_groups if not group.key[2]}
    present = tuple(policies.differences(wanted))
    return (
        *differing,
        *pods.unbound(cluster),
        *present,
        *groups.Groups(cluster).differences(wanted_groups, policies.absent),
        *Sets(cluster).differences(),
        *Balancers(cluster, services, sliced=sliced).differences(),
        *pods.left_behind(cluster.pods, cluster.topology),
    )
