"""From what a user types to endpoints of a run: names, workloads, labels, addresses. Pure.

shop/web            the pod, Service or workload of that name
deploy/web          a workload, by kubectl's names of kinds; shop/deploy/web where several have it
svc/web, node/a     a Service, a node
namespace/shop      every pod of a namespace, as shop/* is
app=web,tier!=db    pods with these labels
shop/web on blue    the pod or workload on a network that is not its primary one
10.128.0.7          whoever has the address, or the range outside that it is in
"""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit.errors import UsageError
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.networks import Role
from audit.model.recorded import Spans
from audit.scope import selectors
from audit.scope.names import is_address
from audit.scope.suggestions import did_you_mean

KINDS = {
    **dict.fromkeys(("po", "pods"), "pod"),
    **dict.fromkeys(("svc", "services"), "service"),
    **dict.fromkeys(("no", "nodes"), "node"),
    **dict.fromkeys(("ns", "namespaces"), "namespace"),
    **dict.fromkeys(("deploy", "deployments"), "deployment"),
    **dict.fromkeys(("sts", "statefulsets"), "statefulset"),
    **dict.fromkeys(("ds", "daemonsets"), "daemonset"),
    **dict.fromkeys(("rs", "replicasets"), "replicaset"),
    **dict.fromkeys(("rc", "replicationcontrollers"), "replicationcontroller"),
    "jobs": "job",
    **dict.fromkeys(("cj", "cronjobs"), "cronjob"),
}
"""Kinds by kubectl's other names of them (`kubectl api-resources`)."""

_NAMESPACE = "namespace"
_KIND_AND_NAME, _WHOLE_NAME = 2, 3


@dataclass(frozen=True, slots=True)
class Directory:
    """The endpoints of a run or a cluster, to be looked up.

    `spans` gives the addresses of one outside. `sending`: no word means a Service, which sends
    nothing, so that `shop/web` is the workload that is called as its Service.
    """

    endpoints: Sequence[Endpoint]
    spans: Callable[[Endpoint], Spans] = lambda _: ()
    holder: str = "run"
    """What has them, for messages."""
    sending: bool = False
    _names: dict[str, list[int]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for index, endpoint in enumerate(self.endpoints):
            if self.sending and endpoint.kind is EndpointKind.SERVICE:
                continue
            for name in dict.fromkeys(_names(endpoint)):
                self._names.setdefault(name, []).append(index)

    def find(self, text: str) -> NDArray[np.int64]:
        """Return the indices of the endpoints that `text` names, sorted.

        UsageError when there are none, or it may mean different things.
        """
        chosen = self._chosen(_canonical(text))
        if not chosen and self._is_service(text):
            raise UsageError(
                f"{text} is a Service, which sends nothing; name its pods: deploy/…, app=…"
            )
        if not chosen:
            raise UsageError(f"the {self.holder} has no endpoint {text}{self._instead(text)}")
        return np.array(sorted(chosen), dtype=np.int64)

    def _instead(self, text: str) -> str:
        """Return the end of a message that nothing is called so: what was meant, or what to ask.

        Only names of the kind that was written are suggested.
        """
        written, _, name = text.partition("/")
        kind = KINDS.get(written, written)
        if "=" in text:
            labels = {f"{k}={v}" for e in self.endpoints for k, v in e.labels}
            return did_you_mean(text, labels)
        if kind == _NAMESPACE:
            spaces = {e.namespace for e in self.endpoints if _is_plain_pod(e)}
            return did_you_mean(name, spaces, before=f"{written}/")
        if unasked := self._unasked(kind, text):
            return unasked
        if kind in KINDS.values():
            # A key is `kind namespace/name`, `kind name` of a node.
            whole = {n.partition(" ")[2] for n in self._names if n.startswith(f"{kind} ")}
            if not whole:
                return f": it has none of a {kind}"
            names = whole if "/" in name else {n.rpartition("/")[2] for n in whole}
            return did_you_mean(name, names, before=f"{written}/")
        if any(e.namespace == text for e in self.endpoints if _is_plain_pod(e)):
            return f"; did you mean ns/{text}?"
        return did_you_mean(text, (n for n in self._names if "/" in n or "/" not in text))

    def _unasked(self, kind: str, text: str) -> str:
        """Say that a run was not asked about a whole kind, and how to; empty where it was."""
        name = text.partition("/")[2]
        service = name if "/" in name else f"NAMESPACE/{name}"
        end = "from" if self.sending else "to"
        kinds = {
            EndpointKind.SERVICE: ("Services", f"--to-service {service}"),
            EndpointKind.NODE: ("nodes", f"--{end}-node {name}"),
            EndpointKind.EXTERNAL: ("addresses outside", f"--{end}-ip {text}"),
        }
        meant = EndpointKind.EXTERNAL if is_address(text) else kind
        if meant not in kinds or any(e.kind == meant for e in self.endpoints):
            return ""
        noun, flag = kinds[EndpointKind(meant)]
        if self.holder != "run":
            return f": it has no {noun}"
        return (
            f": it was not asked about {noun}. `audit run {flag}` asks about them, and so does "
            "this question of a cluster, with --snapshot FILE or --live"
        )

    def means(self, text: str) -> bool:
        """Say whether a word means any of these endpoints."""
        try:
            return bool(self.find(text).size)
        except UsageError:
            return False

    def _is_service(self, text: str) -> bool:
        """Say whether a word that means no sender means a Service."""
        services = [e for e in self.endpoints if e.kind is EndpointKind.SERVICE]
        return self.sending and Directory(services).means(text)

    def _chosen(self, text: str) -> list[int]:
        if text in self._names:
            return self._named(text)
        if any(mark in text for mark in "=!( "):
            return self._labelled(text)
        if text.endswith("/*"):
            return self._in_namespace(text.removesuffix("/*"))
        kind, _, name = text.partition("/")
        if KINDS.get(kind, kind) == _NAMESPACE and name:
            return self._in_namespace(name)
        return self._of_kind(text) or self._holding(text)

    def _labelled(self, text: str) -> list[int]:
        selector = selectors.parse(text)
        return [
            index
            for index, endpoint in enumerate(self.endpoints)
            if _is_plain_pod(endpoint) and selector.matches(dict(endpoint.labels))
        ]

    def _in_namespace(self, namespace: str) -> list[int]:
        return [
            index
            for index, endpoint in enumerate(self.endpoints)
            if _is_plain_pod(endpoint) and endpoint.namespace == namespace
        ]

    def _named(self, text: str) -> list[int]:
        named = self._names[text]
        if any(text in _addresses(self.endpoints[index]) for index in named):
            # A headless Service has no address but its pods': an address means the pod.
            pods = [i for i in named if self.endpoints[i].kind is not EndpointKind.SERVICE]
            return pods or named
        return self._one_meaning(text, named)

    def _of_kind(self, text: str) -> list[int]:
        """Return endpoints of a kind and name, their namespace before or after the kind, or not."""
        parts = text.split("/")
        if len(parts) == _KIND_AND_NAME:
            kind, name = KINDS.get(parts[0], parts[0]), parts[1]
            return self._one_meaning(text, self._names.get(f"{kind}/{name}", []))
        if len(parts) == _WHOLE_NAME:
            kind, namespace, name = parts
            for of_kind, space in ((kind, namespace), (namespace, kind)):
                full = f"{KINDS.get(of_kind, of_kind)} {space}/{name}"
                if full in self._names:
                    return self._names[full]
        return []

    def _one_meaning(self, text: str, indices: list[int]) -> list[int]:
        """Return these, if they are one thing or pods of one workload; UsageError if not."""
        meanings = dict.fromkeys(
            self.endpoints[i].belongs_to if len(indices) > 1 else "" for i in indices
        )
        if len(meanings) > 1:
            several = "; ".join(sorted(meaning.replace(" ", "/") for meaning in meanings))
            raise UsageError(f"{text} may mean several things; write one of: {several}")
        return indices

    def _holding(self, text: str) -> list[int]:
        """Return the ranges outside that hold an address, if the text is one."""
        if not is_address(text):
            return []
        address = ipaddress.ip_address(text)
        return [
            index
            for index, endpoint in enumerate(self.endpoints)
            if any(
                version == address.version and first <= int(address) <= last
                for version, first, last in self.spans(endpoint)
            )
        ]


def _names(endpoint: Endpoint) -> Iterator[str]:
    """Yield everything an endpoint may be called by itself, and by what made it."""
    yield from _addresses(endpoint)
    yield endpoint.key
    for name in (*_own_names(endpoint), *_names_of_workload(endpoint)):
        yield name + endpoint.aside


def _own_names(endpoint: Endpoint) -> Iterator[str]:
    named = f"{endpoint.namespace}/{endpoint.name}" if endpoint.namespace else endpoint.name
    yield from (f"{endpoint.kind}/{named}", named, f"{named}@{endpoint.node}")
    yield from (endpoint.name, f"{endpoint.kind}/{endpoint.name}")


def _names_of_workload(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.workload:
        kind, _, name = endpoint.belongs_to.removesuffix(endpoint.aside).partition(" ")
        short = name.partition("/")[2]
        yield from (f"{kind} {name}", f"{kind}/{name}", name, short, f"{kind}/{short}")


def _is_plain_pod(endpoint: Endpoint) -> bool:
    """Say whether an endpoint is a pod on its primary network, as who names no network means it."""
    return endpoint.kind is EndpointKind.POD and endpoint.role is Role.PRIMARY


def _addresses(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the addresses that mean an endpoint, in their usual spelling."""
    # A host-network pod shares its node's address, which is the node's name here.
    shared = endpoint.host_network and endpoint.namespace
    return () if shared else tuple(map(_canonical, endpoint.addresses))


def _canonical(text: str) -> str:
    """Return an address in its usual spelling, and anything else as it is."""
    return str(ipaddress.ip_address(text)) if is_address(text) else text
