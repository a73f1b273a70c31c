"""A snapshot of some namespaces only, as `kubectl get` without `-A` makes one. Pure."""

from collections.abc import Collection, Iterable, Iterator

from audit.facts.kube import PodFacts
from audit.facts.topology import Topology
from audit.model.facts import Note

CODE = "namespaces-missing"
_MOST_NAMED = 5


def missing(pods: Iterable[PodFacts], topology: Topology) -> frozenset[str]:
    """Return the namespaces of which OVN has pods and the snapshot none, where that is no accident.

    A namespace whose last pod left its port behind looks alike; so it takes more than half of all
    pods in OVN.
    """
    listed = {pod.namespace for pod in pods}
    lost = [namespace for namespace, _ in topology.pod_ports if namespace not in listed]
    return frozenset(lost) if 2 * len(lost) > len(topology.pod_ports) else frozenset()


def notes(
    pods: Collection[PodFacts], topology: Topology, namespaces: Collection[str]
) -> Iterator[Note]:
    """Yield a note about the namespaces that are missing, if any are."""
    if not namespaces:
        return
    held = sorted({pod.namespace for pod in pods})
    names = sorted(namespaces)
    count = sum(namespace in namespaces for namespace, _ in topology.pod_ports)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    others = f"{', '.join(names[:_MOST_NAMED])}{more}"
    of = f"namespace {held[0]}" if len(held) == 1 else f"{len(held)} namespaces"
    text = (
        f"the snapshot has pods of {of} only; OVN has {count} more, of {others}: they are not "
        "audited, and a policy that means them seems to mean nobody; save all with `kubectl get "
        "pods -A -o json`, and so the other resources"
    )
    yield Note(code=CODE, text=text, subjects=tuple(names))
