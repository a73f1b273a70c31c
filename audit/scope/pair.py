"""One pair by its names, or by words → the cells it is about, one for each port. Pure.

The names are those ovnkube-trace takes: pods and Services by namespace and name, or an address.
The words are those of every other command (`audit.scope.named`).
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit.errors import ScopeError
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import ClusterState
from audit.model.matrix import FAMILIES, Matrix
from audit.model.networks import Role
from audit.model.packets import Family
from audit.scope import expand, ports
from audit.scope.names import is_address, spellings
from audit.scope.suggestions import did_you_mean

MOST_PORTS = 16
"""Ports that one pair is traced on: each takes every tool some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The networks that pods are asked on; where one is empty, the one that they would use.

    Two pods of one primary network use that. Any other pod is sent to at its address on the default
    network, by the port there, as the routes in a pod say. To all else a pod sends by its primary
    network.
    """

    src: str = ""
    dst: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """A pair as it is asked for; exactly one of `dst`, `service` and `dst_ip` is not empty.

    `family` None is the family of `dst_ip`, or IPv4.
    """

    src_namespace: str
    src: str
    dst_namespace: str
    dst: str = ""
    service: str = ""
    dst_ip: str = ""
    port: Port
    family: Family | None = None
    networks: Networks = Networks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A pair in words. An empty `port` is every one that the destination declares.

    `family` None is that of an address, or IPv4.
    """

    src: str
    dst: str
    port: str = ""
    family: Family | None = None
    networks: Networks = Networks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A source, where it sends to, and a port; `by_address` when that was named by an address.

    `notes` say what was chosen where a word means several pods.
    """

    src: Endpoint
    dst: Endpoint
    port: Port
    family: Family
    by_address: bool = False
    notes: tuple[str, ...] = ()

    def matrix(self) -> Matrix:
        """Return the matrix of this one cell."""
        return Matrix(
            endpoints=(self.src, self.dst),
            ports=(self.port,),
            src=np.zeros(1, np.int32),
            dst=np.ones(1, np.int32),
            family=np.array([FAMILIES.index(self.family)], np.int8),
            port=np.zeros(1, np.int32),
        )


def resolve(state: ClusterState, names: Names | Words) -> tuple[Pair, ...]:
    """Find both ends, once for each port; ScopeError names what cannot be traced between."""
    if isinstance(names, Words):
        return _of_words(state, names)
    senders = _pod(state, names.src_namespace, names.src, "source")
    src, dst = _on_networks(senders, _destination(state, names), names.networks)
    pair = Pair(
        src=src, dst=dst, port=names.port, family=_family(names), by_address=bool(names.dst_ip)
    )
    return (_checked(pair),)


def _of_words(state: ClusterState, words: Words) -> tuple[Pair, ...]:
    """Find both ends of a pair in words: of several pods the first by name."""
    named = expand.named(state, words.src, words.dst)
    senders, receivers = (_pods(state, endpoints) for endpoints in named)
    first, other = (min(end, key=lambda pods: pods[0].key) for end in (senders, receivers))
    ends = _on_networks(first, other, words.networks)
    notes = tuple(
        f"{word} means {len(end)} endpoints; {chosen.key} is traced"
        for word, end, chosen in zip(
            (words.src, words.dst), (senders, receivers), ends, strict=True
        )
        if len(end) > 1
    )
    src, dst = ends
    if src.kind is EndpointKind.EXTERNAL:
        raise ScopeError(
            f"{words.src} is outside the cluster, and a trace begins at a pod or a node; "
            "`audit can` answers for addresses outside"
        )
    address = is_address(words.dst)
    family = Family.of(words.dst) if address else words.family or Family.IP4
    if words.family not in (None, family):
        raise ScopeError(f"{words.dst} is no {words.family} address")
    return tuple(
        _checked(Pair(src=src, dst=dst, port=port, family=family, by_address=address, notes=notes))
        for port in _ports(words.port, dst)
    )


def _pods(state: ClusterState, endpoints: Sequence[Endpoint]) -> list[tuple[Endpoint, ...]]:
    """Return what these are, a pod on its primary network with its other attachments besides."""
    attachments = _attachments(state)
    plain = (e for e in endpoints if e.kind is EndpointKind.POD and e.role is Role.PRIMARY)
    others = [(e,) for e in endpoints if e.kind is not EndpointKind.POD or e.aside]
    return [*(tuple(attachments[pod.namespace, pod.name]) for pod in plain), *others]


def _attachments(state: ClusterState) -> Mapping[tuple[str, str], list[Endpoint]]:
    """Return pods by namespace and name, each once for every network that it is on."""
    attachments: dict[tuple[str, str], list[Endpoint]] = {}
    for pod in state.pods:
        attachments.setdefault((pod.namespace, pod.name), []).append(pod)
    return attachments


def _on_networks(
    senders: Sequence[Endpoint], receivers: Sequence[Endpoint], networks: Networks
) -> tuple[Endpoint, Endpoint]:
    """Return the attachments of two ends, of which each is a pod's or one that has none other."""
    senders, receivers = _attached(senders, networks.src), _attached(receivers, networks.dst)
    pairs = [(src, dst) for src in senders for dst in receivers]
    if receivers[0].network_name:
        alike = [(src, dst) for src, dst in pairs if src.network == dst.network]
        primary = [pair for pair in alike if all(end.role is Role.PRIMARY for end in pair)]
        default = [pair for pair in alike if not pair[0].network]
        pairs = primary or default or alike or pairs
    return pairs[0]


def _attached(attachments: Sequence[Endpoint], network: str) -> Sequence[Endpoint]:
    """Return those of a pod's attachments that are on a network, all where none is named."""
    on = {endpoint.network_name: endpoint for endpoint in attachments}
    if not network or not attachments[0].network_name:
        return attachments
    chosen = next((name for name in spellings(network) if name in on), None)
    if chosen is None:
        pod = attachments[0]
        raise ScopeError(
            f"pod {pod.namespace}/{pod.name} is not on network {network!r}; it is on "
            f"{', '.join(sorted(on))}"
        )
    return [on[chosen]]


def _ports(text: str, dst: Endpoint) -> Sequence[Port]:
    """Return the ports of `dst` that `text` means, all that it declares where that is empty.

    ScopeError when there are none, or more than `MOST_PORTS`.
    """
    if not (text or dst.declared):
        raise ScopeError(f"{dst.key} declares no ports; say which to trace, as in tcp/80")
    specs = [ports.parse(text)] if text else [ports.DECLARED]
    (meant,) = ports.resolve(specs, [dst], [0])
    if any(port.last for port in meant):  # one of them says nothing of the others
        raise ScopeError(
            f"{text} means ranges of ports, and a trace is of one; name it, as in tcp/80, or ask "
            "`audit can`"
        )
    if len(meant) > MOST_PORTS:
        what = f"{text} means" if text else f"{dst.key} declares"
        raise ScopeError(
            f"{what} {len(meant)} ports, and at most {MOST_PORTS} are traced at once; name one, "
            "or ask `audit can`"
        )
    return meant


def _checked(pair: Pair) -> Pair:
    """Return a pair that can be traced between; ScopeError when it cannot."""
    src, dst, family = pair.src, pair.dst, pair.family
    if (dst.kind, dst.namespace, dst.name) == (src.kind, src.namespace, src.name):
        raise ScopeError(f"{src.key} is source and destination; name two pods")
    if src.host_network and dst.host_network:
        raise ScopeError(
            f"{src.key} and {dst.key} are both in the host network, and OVN never sees what they "
            "send each other; use ping"
        )
    for endpoint, has in ((src, src.attachment is None or sends(src, family)), (dst, True)):
        if not has or (endpoint.addresses and endpoint.address(family) is None):
            raise ScopeError(f"{endpoint.key} has no {family} address; see --addr-family")
    return pair


def sends(endpoint: Endpoint, family: Family) -> bool:
    """Say whether an endpoint can open a connection in `family`: an address outside cannot."""
    attached = endpoint.attachment
    if attached is None or endpoint.kind is EndpointKind.EXTERNAL:
        return False
    return any(Family.of(a) is family for a in attached.addresses or endpoint.addresses)


def _destination(state: ClusterState, names: Names) -> Sequence[Endpoint]:
    if names.dst:
        return _pod(state, names.dst_namespace, names.dst, "destination")
    if names.service:
        return [_service(state, names.dst_namespace, names.service)]
    network = names.networks.dst
    there = expand.on_networks(state, [network]) if network else state
    return [expand.endpoint_at(there, _address(names.dst_ip))]


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ScopeError(f"--dst-ip {text!r} is no IP address") from error


def _family(names: Names) -> Family:
    if not names.dst_ip:
        return names.family or Family.IP4
    family = Family.of(_address(names.dst_ip))
    if names.family not in (None, family):
        raise ScopeError(f"--dst-ip {names.dst_ip} is no {names.family} address")
    return family


def _pod(state: ClusterState, namespace: str, name: str, side: str) -> list[Endpoint]:
    """Return the attachments of a pod: one that has ended, or not begun, sends nothing."""
    _check_namespace(state, namespace, side)
    attachments = _attachments(state)
    if (namespace, name) in attachments:
        return attachments[namespace, name]
    for note in state.notes:
        if f"{namespace}/{name}" in note.subjects and note.code.startswith("pod-"):
            why = _NOT_TRACED.get(note.code, "is pending: it has no network to trace")
            raise ScopeError(f"{side} pod {namespace}/{name} {why}")
    here = [pod for space, pod in attachments if space == namespace]
    hint = _elsewhere(state, name) or did_you_mean(name, here)
    raise ScopeError(f"{side} pod {name!r} does not exist in namespace {namespace}{hint}")


_NOT_TRACED = {
    "pod-finished": "has completed: it has no network to trace",
    "pod-machine-elsewhere": "has a virtual machine that is being migrated and runs in another pod",
}


def _elsewhere(state: ClusterState, name: str) -> str:
    namespaces = sorted(pod.namespace for pod in state.pods if pod.name == name)
    return f"; there is one in {', '.join(namespaces)}" if namespaces else ""


def _service(state: ClusterState, namespace: str, name: str) -> Endpoint:
    _check_namespace(state, namespace, "service's")
    names = {s.name for s in state.services if s.namespace == namespace}
    if name not in names:
        hint = did_you_mean(name, names)
        raise ScopeError(f"service {name!r} does not exist in namespace {namespace}{hint}")
    return expand.service(state, namespace, name)


def _check_namespace(state: ClusterState, namespace: str, side: str) -> None:
    if namespace not in state.namespaces:
        hint = did_you_mean(namespace, state.namespaces)
        raise ScopeError(f"{side} namespace {namespace!r} does not exist{hint}")
