"""Kubernetes objects that contradict themselves or OVN: what such a pod sends is not known. Pure.

No API server of a healthy cluster prints them. A snapshot that was edited, put together from two
moments, or taken while a node was lost may have them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from audit.facts import kube
from audit.model.facts import Note
from audit.model.verdicts import Reason

_LIVING = frozenset({"Pending", "Running"})


def of_pod(pod: kube.PodFacts, *, host: Collection[str] = (), has_port: bool = False) -> str:
    """Return what is contradictory about a pod, as what follows `2 pods`; nothing if it is not.

    `host` are the addresses of its node, none where they are not known; `has_port` says whether OVN
    has a logical port of its own for it.
    """
    if pod.phase not in kube.FINISHED | _LIVING:
        phase = f"in phase {pod.phase!r}" if pod.phase else "without a phase"
        return f"{phase}, so not known to run"
    if pod.phase == "Running" and not pod.node:
        return "in phase Running and on no node"
    if pod.host_network and has_port:
        return "in the host network and with a logical port in OVN"
    if pod.host_network and host and pod.addresses and not set(pod.addresses) & set(host):
        return "in the host network and with another address than the node"
    return ""


def notes(pods: Mapping[str, Sequence[str]]) -> Iterator[Note]:
    """Yield a note for each contradiction, of which the pods (`namespace/name`) are given."""
    for wrong, names in sorted(pods.items()):
        count = f"{len(names)} pod{'' if len(names) == 1 else 's'}"
        text = f"{count} {wrong}: their cells are untraced"
        yield Note(code=Reason.OBJECT_CONTRADICTS, text=text, subjects=tuple(sorted(names)))
