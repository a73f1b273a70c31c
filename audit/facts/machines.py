"""Virtual machines of KubeVirt that two pods stand for while they are migrated. Pure.

The machine runs in one of its pods and has one address, so it is one endpoint: the pod that runs
it. As OVN-Kubernetes sees it (pkg/kubevirt, 1.2), that is the older pod until the newer says that
it has taken over.
"""

from collections import defaultdict
from collections.abc import Iterable

from audit.facts import kube

_PODS_OF_A_MIGRATION = 2


def idle(pods: Iterable[kube.PodFacts]) -> frozenset[tuple[str, str]]:
    """Return the pods, by namespace and name, whose machine runs in another pod of its.

    Where more than two pods of a machine run, which one has it is not known, and none is idle.
    """
    machines: dict[tuple[str, str], list[kube.PodFacts]] = defaultdict(list)
    for pod in pods:
        if pod.machine and pod.phase == "Running" and pod.node:
            machines[pod.namespace, pod.machine].append(pod)
    waiting = set()
    for group in machines.values():
        if len(group) == _PODS_OF_A_MIGRATION:
            source, target = sorted(group, key=lambda pod: (pod.created, pod.name))
            waits = source if target.took_over else target
            waiting.add((waits.namespace, waits.name))
    return frozenset(waiting)
