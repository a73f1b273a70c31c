"""What manifests do not say and verdicts depend on → notes, each with what would say it. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_network

from audit.facts.kube import PodFacts
from audit.facts.networks import Placed
from audit.facts.workloads import MOST_TOLD_APART
from audit.model.facts import AddressRanges, Controller, Ingress, Note, Policy
from audit.model.policies import BlockPeer, Direction, NodePeer, Peer, PodPeer
from audit.model.selectors import UNSAID, Selector

_MOST_TOLD = 5
"""Objects in a sentence, each with the reason; all are among the note's subjects."""


def about_workloads(
    none: Sequence[str], cut: Sequence[str], unknown: Sequence[str], finished: Sequence[str]
) -> Iterator[Note]:
    """Yield notes about workloads that make no pod, very many, or in ways not known; about pods."""
    if finished:
        text = f"{_count(finished, 'pod has', 'pods have')} completed: not audited"
        yield Note(code="pod-not-running", text=text, subjects=tuple(sorted(finished)))
    if none:
        text = (
            f"{_count(none, 'workload makes', 'workloads make')} no pod (no replicas, suspended, "
            "halted, or a template that is not in the manifests): not audited"
        )
        yield Note(code="workload-without-pods", text=text, subjects=tuple(sorted(none)))
    if cut:
        text = (
            f"{_count(cut, 'workload has', 'workloads have')} more than {MOST_TOLD_APART:,} "
            f"replicas: only the first {MOST_TOLD_APART:,} are audited"
        )
        yield Note(code="replicas-left-out", text=text, subjects=tuple(sorted(cut)))
    if unknown:
        text = (
            f"{_count(unknown, 'object has', 'objects have')} pod templates and "
            f"{'is of a kind that is' if len(unknown) == 1 else 'are of kinds that are'} not known "
            "here: each template stands for its pods, and a policy that selects by "
            "a label that the template has not is inconclusive for them"
        )
        yield Note(code="workload-unknown", text=text, subjects=tuple(sorted(unknown)))


def about_cluster(
    namespaces: Mapping[str, Mapping[str, str]],
    pods: Sequence[PodFacts],
    policies: Sequence[Policy],
    places: Mapping[str, Placed],
    ranges: AddressRanges,
) -> Iterator[Note]:
    """Yield a note for each thing some policy asks about that no manifest says."""
    peers = [*_peers(policies)]
    yield from _about_namespaces(namespaces, peers)
    yield from _about_addresses(pods, peers, ranges)
    yield from _about_nodes(pods, policies, peers)
    for name, where in sorted(places.items()):
        if where.doubt:
            text = f"which network the pods of namespace {name} are on is not known: {where.doubt}"
            yield Note(code="network-unknown", text=text, subjects=(name,))


def about_ingress(
    ingresses: Sequence[Ingress],
    nowhere: Sequence[tuple[str, str]],
    policies: Sequence[Policy],
    controller: Controller | None,
) -> Iterator[Note]:
    """Yield notes about what leads to no pod, and about controllers that are not known.

    `nowhere` are objects, each with a reason.
    """
    if nowhere:
        names = tuple(dict.fromkeys(shown for shown, _ in nowhere))
        leads = _count(names, "object leads", "objects lead")
        reasons = "; ".join(f"{shown}: {why}" for shown, why in nowhere[:_MOST_TOLD])
        more = f"; and {len(nowhere) - _MOST_TOLD} more" if len(nowhere) > _MOST_TOLD else ""
        text = f"{leads} from outside to pods that are not known: {reasons}{more}"
        yield Note(code="ingress-not-followed", text=text, subjects=names)
    leading = [ingress.row for ingress in ingresses if ingress.leads]
    if leading and controller is None and any(map(_depends_on_the_sender, policies)):
        text = (
            f"{_count(leading, 'object leads', 'objects lead')} from outside to pods, and the "
            "manifests do not say which pods, the controller's, send the packets: where a policy "
            "may select them, the verdict is inconclusive; say them with "
            "--ingress-controller NAMESPACE:KEY=VALUE,…"
        )
        yield Note(code="ingress-controller-unknown", text=text, subjects=tuple(leading))


def _depends_on_the_sender(policy: Policy) -> bool:
    """Tell whether it matters to a policy who sends: what it isolates, or only some may enter."""
    spec = policy.spec
    if spec is None:
        return False
    if Direction.EGRESS in spec.isolates or any(spec.facing(Direction.EGRESS)):
        return True
    peers = (peer for rule in spec.facing(Direction.INGRESS) for peer in rule.peers or ())
    return any(map(_tells_apart, peers))


def _tells_apart(peer: Peer) -> bool:
    """Tell whether a peer may be one pod of another namespace and not the next."""
    match peer:
        case PodPeer(namespaces=namespaces, pods=pods):
            return namespaces is not None and bool(namespaces.requirements or pods.requirements)
        case BlockPeer(cidr=cidr, excluded=excluded):
            return bool(excluded or ip_network(cidr).prefixlen)
        case _:
            return False


def _peers(policies: Sequence[Policy]) -> Iterator[Peer]:
    for spec in (policy.spec for policy in policies if policy.spec is not None):
        yield spec.subject
        for rule in spec.rules:
            yield from rule.peers or ()


def _about_namespaces(
    namespaces: Mapping[str, Mapping[str, str]], peers: Sequence[Peer]
) -> Iterator[Note]:
    selectors: set[Selector] = {
        peer.namespaces for peer in peers if isinstance(peer, PodPeer) and peer.namespaces
    }
    names = [
        name
        for name, labels in sorted(namespaces.items())
        if UNSAID in labels and any(selector.judge(labels) is None for selector in selectors)
    ]
    if names:
        text = (
            f"policies select by labels of {_count(names, 'namespace', 'namespaces')} that the "
            "manifests mention and do not have: what depends on them is inconclusive; say them "
            f"with --namespace-labels {names[0]}:KEY=VALUE,…"
        )
        yield Note(code="namespace-unknown", text=text, subjects=tuple(names))


def _about_addresses(
    pods: Sequence[PodFacts], peers: Sequence[Peer], ranges: AddressRanges
) -> Iterator[Note]:
    blocks = sorted(
        {
            peer.cidr
            for peer in peers
            if isinstance(peer, BlockPeer) and (peer.excluded or ip_network(peer.cidr).prefixlen)
        }
    )
    if blocks and not (ranges.pods and ranges.nodes) and any(not pod.addresses for pod in pods):
        text = (
            f"policies ask for {_count(blocks, 'CIDR', 'CIDRs')}, and the manifests do not have "
            "the addresses of pods and nodes: where one may be in it, the verdict is inconclusive; "
            "say where they are with --pod-cidr, --node-cidr and --service-cidr"
        )
        yield Note(code="address-unknown", text=text, subjects=tuple(blocks))


def _about_nodes(
    pods: Sequence[PodFacts], policies: Sequence[Policy], peers: Sequence[Peer]
) -> Iterator[Note]:
    hosted = [f"{p.namespace}/{p.name}" for p in pods if p.host_network and not p.node]
    isolating = any(policy.spec is not None and policy.spec.isolates for policy in policies)
    if hosted and (isolating or any(isinstance(peer, NodePeer) for peer in peers)):
        text = (
            f"{_count(hosted, 'pod uses', 'pods use')} the network of a node, and the manifests do "
            "not say of which: a node always reaches the pods on it, so where a NetworkPolicy "
            "would stop that, or a policy selects nodes by labels, the verdict is inconclusive"
        )
        yield Note(code="node-unknown", text=text, subjects=tuple(sorted(hosted)))


def _count(of: Collection[object], singular: str, plural: str) -> str:
    return f"{len(of):,} {singular if len(of) == 1 else plural}"
