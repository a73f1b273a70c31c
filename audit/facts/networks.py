"""User-defined networks as objects describe them → which networks pods are on. Pure.

A namespace with the label `k8s.ovn.org/primary-user-defined-network` has a primary one, which a
UserDefinedNetwork in it, a ClusterUserDefinedNetwork that selects it, or a
NetworkAttachmentDefinition describes. Where these do not fit together it is not known.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from audit.facts import kube, policies
from audit.facts.fields import Field
from audit.model.networks import LOCALNET, Network, Role
from audit.model.selectors import EVERYTHING, UNSAID, Selector

LABEL = "k8s.ovn.org/primary-user-defined-network"
"""What a namespace must be made with to have a primary network of its own."""
KINDS = frozenset(
    {"UserDefinedNetwork", "ClusterUserDefinedNetwork", "NetworkAttachmentDefinition"}
)
_TYPE = "ovn-k8s-cni-overlay"
"""What a NetworkAttachmentDefinition's config calls OVN-Kubernetes' networks."""
_NAME = "k8s.ovn.org/network-name"
JOINING = frozenset({"ClusterNetworkConnect", "RouteAdvertisements"})
"""Kinds that join networks which are apart otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A user-defined network that an object describes, by the name that OVN-Kubernetes gives it.

    It is of one namespace, or where that is empty of those selected. `attachment` is what the
    network attachment definition is called by which pods of such a namespace are attached.
    """

    network: Network
    attachment: str
    namespace: str = ""
    selector: Selector = EVERYTHING

    def serves(self, namespace: str, labels: Mapping[str, str]) -> bool | None:
        """Tell whether it is a network of a namespace; None where labels are not known."""
        return namespace == self.namespace if self.namespace else self.selector.judge(labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a namespace's pods are: on the network `name`, empty for the default one.

    `doubt` says what is not certain about that: such pods may be reachable in other ways.
    """

    name: str = ""
    doubt: str = ""


DEFAULT = Placed()


def read(item: kube.Object) -> Iterator[Described]:
    """Read an object of one of KINDS; nothing where OVN-Kubernetes makes no network of it."""
    root = Field(item)
    name, kind = root["metadata"]["name"].required(), root["kind"].text()
    space = root["metadata"]["namespace"].text()
    if kind == "NetworkAttachmentDefinition":
        config = _config(root["spec"]["config"].text())
        if config.get("type", _TYPE) == _TYPE:
            named = root["metadata"]["annotations"][_NAME].text() or config.get("name")
            network = Network(
                name=str(named or f"{space}/{name}"),
                topology=str(config.get("topology", "")),
                role=Role.PRIMARY if config.get("role") == "primary" else Role.SECONDARY,
            )
            yield Described(network=network, attachment=name, namespace=space)
    elif kind == "UserDefinedNetwork":
        network = _network(root["spec"], f"{space}_{name}")
        yield Described(network=network, attachment=name, namespace=space)
    else:
        network = _network(root["spec"]["network"], f"cluster_udn_{name}")
        selector = policies.selector(root["spec"]["namespaceSelector"])
        yield Described(network=network, attachment=name, selector=selector)


def _network(spec: Field, name: str) -> Network:
    for topology in ("layer2", "layer3", LOCALNET):
        if spec[topology].value is not None:
            role = Role.PRIMARY if spec[topology]["role"].text() == "Primary" else Role.SECONDARY
            return Network(name=name, topology=topology, role=role)
    return Network(name=name)


def attached(
    networks: Iterable[Described], namespaces: Mapping[str, Mapping[str, str]]
) -> dict[str, Network]:
    """Return the network of each network attachment definition, as far as it is known."""
    return {
        f"{namespace}/{described.attachment}": described.network
        for described in networks
        for namespace, labels in namespaces.items()
        if described.serves(namespace, labels)
    }


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
    namespace: str, labels: Mapping[str, str], networks: Iterable[Described], *, joined: bool
) -> Placed:
    """Return which network a namespace's pods are on; `joined` where networks may be connected."""
    answers: dict[str, bool | None] = {}
    for described in networks:
        if described.network.role is Role.PRIMARY:
            name, answer = described.network.name, described.serves(namespace, labels)
            # Of one network there is an attachment in each of its namespaces.
            known = answers.get(name, False)
            answers[name] = (
                True if True in (known, answer) else (known if answer is False else answer)
            )
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
