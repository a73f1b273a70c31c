"""Primary user-defined networks in manifests → which network the pods of a namespace are on. Pure.

A namespace with the label `k8s.ovn.org/primary-user-defined-network` has one, which a
UserDefinedNetwork in it, a ClusterUserDefinedNetwork that selects it, or a
NetworkAttachmentDefinition describes. Where these do not fit together it is not known.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.facts import kube, policies
from audit.facts.fields import Field
from audit.model.selectors import EVERYTHING, UNSAID, Selector

LABEL = "k8s.ovn.org/primary-user-defined-network"
"""What a namespace must be made with to have a primary network of its own."""
KINDS = frozenset(
    {"UserDefinedNetwork", "ClusterUserDefinedNetwork", "NetworkAttachmentDefinition"}
)
JOINING = frozenset({"ClusterNetworkConnect", "RouteAdvertisements"})
"""Kinds that join networks which are apart otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryNetwork:
    """A network of role Primary; of one namespace, or where that is empty of those selected."""

    name: str
    namespace: str = ""
    selector: Selector = EVERYTHING

    def serves(self, namespace: str, labels: Mapping[str, str]) -> bool | None:
        """Tell whether it is the network of a namespace; None where labels are not known."""
        return namespace == self.namespace if self.namespace else self.selector.judge(labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a namespace's pods are: on the network `name`, empty for the default one.

    `doubt` says what is not certain about that: such pods may be reachable in other ways.
    """

    name: str = ""
    doubt: str = ""


DEFAULT = Placed()


def primary(item: kube.Object) -> Iterator[PrimaryNetwork]:
    """Read an object of one of KINDS; nothing where its role is another."""
    root = Field(item)
    name, kind = root["metadata"]["name"].required(), root["kind"].text()
    space = root["metadata"]["namespace"].text()
    if kind == "NetworkAttachmentDefinition":
        if _config(root["spec"]["config"].text()).get("role") == "primary":
            yield PrimaryNetwork(name=f"{space}/{name}", namespace=space)
    elif kind == "UserDefinedNetwork":
        if _is_primary(root["spec"]):
            yield PrimaryNetwork(name=f"{space}/{name}", namespace=space)
    elif _is_primary(root["spec"]["network"]):
        selector = policies.selector(root["spec"]["namespaceSelector"])
        yield PrimaryNetwork(name=name, selector=selector)


def _is_primary(spec: Field) -> bool:
    return any(spec[topology]["role"].text() == "Primary" for topology in ("layer2", "layer3"))


def _config(text: str) -> Mapping[str, object]:
    try:
        config = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _without_network(namespace: str) -> Placed:
    doubt = f"it has the label {LABEL}, and its network is not in the manifests"
    return Placed(name=f"of namespace {namespace}", doubt=doubt)


def of_namespace(
    namespace: str, labels: Mapping[str, str], networks: tuple[PrimaryNetwork, ...], *, joined: bool
) -> Placed:
    """Return which network a namespace's pods are on; `joined` where networks may be connected."""
    answers = {network.name: network.serves(namespace, labels) for network in networks}
    candidates = sorted(name for name, answer in answers.items() if answer is not False)
    labelled = LABEL in labels
    if not candidates:
        return _without_network(namespace) if labelled else DEFAULT
    if None in answers.values() or (not labelled and UNSAID in labels):
        return Placed(doubt=f"{' or '.join(candidates)} may be its primary network")
    serving = [name for name, answer in answers.items() if answer]
    if not labelled:
        doubt = f"{serving[0]} is its primary network, and it has not the label {LABEL}"
        return Placed(doubt=doubt)
    if len(serving) > 1:
        return Placed(doubt=f"it has several primary networks: {', '.join(sorted(serving))}")
    doubt = "networks are joined by other objects" if joined else ""
    return Placed(name=serving[0], doubt=doubt)
