"""Policy objects → what they mean. Pure.

The defaults of each API are applied here, once: a missing list of peers or ports is everyone and
every port, `policyTypes` follow from what is there, a protocol is TCP unless it says otherwise. A
peer that has no field known here is of a newer API, and fails closed as that asks: an Allow
matches nothing by it, a Deny or Pass denies everyone (v1alpha2, `…Peer`). A protocol that is not
known opens nothing, and what it denies cannot be said.
"""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from audit.facts.fields import Field, FieldError
from audit.model.endpoints import MAX_PORT
from audit.model.packets import WITH_PORTS, Protocol
from audit.model.policies import (
    Action,
    BlockPeer,
    Direction,
    NamePeer,
    NodePeer,
    Peer,
    PodPeer,
    PolicySpec,
    PortMatch,
    Rule,
    Tier,
)
from audit.model.selectors import EVERYTHING, Operator, Requirement, Selector

_T = TypeVar("_T")

_PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_ACTIONS = {
    "Allow": Action.ALLOW,
    "Accept": Action.ALLOW,
    "Deny": Action.DENY,
    "Pass": Action.PASS,
}
_PROTOCOLS = {str(protocol).upper(): protocol for protocol in WITH_PORTS}
"""The API's words; OVN-Kubernetes knows no others, in small letters either."""
_CLUSTER_SCOPED = frozenset(
    {"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"}
)
_CLUSTER_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_OPERATORS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.NOT_EXISTS,
}


def spec(item: Mapping[str, object], kind: str) -> PolicySpec:
    """Return what a policy object of one of the kinds in `kube.POLICY_RESOURCES` means."""
    root = Field(item)
    return placed(meaning(root["spec"], kind), place(root["metadata"], kind))


def meaning(field: Field, kind: str) -> PolicySpec:
    """Return what a `spec` of that kind means, whichever policy of whichever namespace has it."""
    return _READERS[kind](field)


class Place(NamedTuple):
    """What a policy's metadata say of whom it concerns: fields of `PolicySpec`."""

    namespace: str
    attachments: frozenset[str] | None


def place(metadata: Field, kind: str) -> Place:
    """Return where a policy is: in no namespace where its kind is the cluster's."""
    if kind in _CLUSTER_SCOPED:
        return Place("", None)
    space = metadata["namespace"].text()
    return Place(space, _policy_for(metadata, space) if kind == "MultiNetworkPolicy" else None)


def placed(meant: PolicySpec, where: Place) -> PolicySpec:
    """Return what a policy means that is there and whose `spec` means that."""
    return replace(meant, namespace=where.namespace, attachments=where.attachments)


def selector(field: Field) -> Selector:
    """Read a LabelSelector; one that is absent selects everything, as the empty one does."""
    requirements = [
        _requirement(field["matchLabels"], key, Operator.IN, (value,))
        for key, value in field["matchLabels"].texts().items()
    ]
    for term in field["matchExpressions"].each():
        word = term["operator"].required()
        if word not in _OPERATORS:
            raise FieldError(f"{term['operator'].path} is {word}, not {', '.join(_OPERATORS)}")
        values = tuple(value.text() for value in term["values"].each())
        key = term["key"].required()
        requirements.append(_requirement(term, key, _OPERATORS[word], values))
    return Selector(requirements=tuple(requirements)) if requirements else EVERYTHING


def _requirement(
    field: Field, key: str, operator: Operator, values: tuple[str, ...]
) -> Requirement:
    try:
        return Requirement(key=key, operator=operator, values=values)
    except ValueError as error:
        raise FieldError(f"{field.path}: {error}") from None


def _network_policy(field: Field) -> PolicySpec:
    types = {_direction(policy_type) for policy_type in field["policyTypes"].each()}
    implied = not types
    if implied:
        # An egress rule implies Egress; Ingress is always meant (networking.k8s.io/v1).
        types = {Direction.INGRESS}
        if any(field["egress"].each()):
            types.add(Direction.EGRESS)
    return PolicySpec(
        tier=Tier.NETWORK_POLICY,
        subject=PodPeer(pods=selector(field["podSelector"])),
        # Rules of a direction that is not among the types have no effect.
        rules=tuple(
            Rule(
                direction=direction,
                index=index,
                action=Action.ALLOW,
                peers=_all(rule[_PEERS[direction]], _network_peer),
                ports=_all(rule["ports"], _network_ports),
            )
            for direction in Direction
            if direction in types
            for index, rule in enumerate(field[direction].each())
        ),
        isolates=frozenset(types),
        types_implied=implied,
    )


_POLICY_FOR = "k8s.v1.cni.cncf.io/policy-for"
"""The annotation that names the attachment definitions which a MultiNetworkPolicy is for."""


def _policy_for(metadata: Field, space: str) -> frozenset[str]:
    """Return the networks that a MultiNetworkPolicy is for; without the annotation it has none."""
    listed = metadata["annotations"][_POLICY_FOR].text().replace(" ", "").split(",")
    return frozenset(nad if "/" in nad else f"{space}/{nad}" for nad in listed if nad)


def _direction(field: Field) -> Direction:
    word = field.required()
    if word not in ("Ingress", "Egress"):
        raise FieldError(f"{field.path} is {word}, not Ingress or Egress")
    return Direction(word.lower())


def _all(field: Field, read: Callable[[Field], Iterator[_T]]) -> tuple[_T, ...] | None:
    """Read a list in which nothing means everything: None for that."""
    members = [*field.each()]
    return tuple(value for member in members for value in read(member)) if members else None


def _network_peer(field: Field) -> Iterator[Peer]:
    if field["ipBlock"].value is not None:
        block = field["ipBlock"]
        excluded = tuple(_cidr(cidr) for cidr in block["except"].each())
        yield BlockPeer(cidr=_cidr(block["cidr"]), excluded=excluded)
        return
    spaces = field["namespaceSelector"]
    if spaces.value is None and field["podSelector"].value is None:
        return
    yield PodPeer(
        namespaces=None if spaces.value is None else selector(spaces),
        pods=selector(field["podSelector"]),
        whole=spaces.value is not None and field["podSelector"].value is None,
    )


def _cidr(field: Field) -> str:
    text = field.required()
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise FieldError(f"{field.path} is {text!r}, not a CIDR") from None


def _network_ports(field: Field) -> Iterator[PortMatch]:
    protocol = _protocol(field["protocol"])
    if protocol is None:
        return
    if isinstance(field["port"].value, str):
        yield PortMatch(protocol=protocol, name=field["port"].required())
    elif field["port"].value is None:
        yield PortMatch(protocol=protocol)
    else:
        last = field["endPort"] if field["endPort"].value is not None else field["port"]
        yield _numbers(protocol, field["port"], last)


def _protocol(field: Field) -> Protocol | None:
    """Return a protocol, TCP unless said otherwise; None for one that OVN-Kubernetes lacks."""
    return _PROTOCOLS.get(field.text("TCP"))


def _numbers(protocol: Protocol, first: Field, last: Field) -> PortMatch:
    low, high = first.number(), last.number()
    if not 0 < low <= high <= MAX_PORT:
        raise FieldError(f"{first.path}: {low}-{high} is no range of ports")
    return PortMatch(protocol=protocol, first=low, last=high)


def _admin(field: Field) -> PolicySpec:
    priority = field["priority"].number()
    return _cluster(field, Tier.ADMIN, priority, lambda rule: _all(rule["ports"], _admin_ports))


def _baseline(field: Field) -> PolicySpec:
    return _cluster(field, Tier.BASELINE, 0, lambda rule: _all(rule["ports"], _admin_ports))


def _cluster_network_policy(field: Field) -> PolicySpec:
    word = field["tier"].required()
    if word not in _CLUSTER_TIERS:
        raise FieldError(f"{field['tier'].path} is {word}, not Admin or Baseline")
    return _cluster(
        field,
        _CLUSTER_TIERS[word],
        field["priority"].number(),
        lambda rule: _all(rule["protocols"], _cluster_ports),
    )


def _cluster(
    field: Field,
    tier: Tier,
    priority: int,
    ports: Callable[[Field], tuple[PortMatch, ...] | None],
) -> PolicySpec:
    """Read what all policies of cluster scope have in common."""
    subject = _pods(field["subject"])
    if subject is None:
        raise FieldError(f"{field['subject'].path} has neither namespaces nor pods")
    return PolicySpec(
        tier=tier,
        priority=priority,
        subject=subject,
        rules=tuple(
            _cluster_rule(rule, direction, index, ports)
            for direction in Direction
            for index, rule in enumerate(field[direction].each())
        ),
    )


def _cluster_rule(
    field: Field,
    direction: Direction,
    index: int,
    read_ports: Callable[[Field], tuple[PortMatch, ...] | None],
) -> Rule:
    word = field["action"].required()
    if word not in _ACTIONS:
        raise FieldError(f"{field['action'].path} is {word}, not Allow, Deny or Pass")
    action, peers, ports = _ACTIONS[word], list[Peer](), read_ports(field)
    everyone = False
    for peer in field[_PEERS[direction]].each():
        understood = [*_cluster_peer(peer)]
        everyone |= not understood and action is not Action.ALLOW
        peers += understood
    if everyone:
        action, ports = Action.DENY, None
    elif ports is not None and action is not Action.ALLOW:
        _refuse_unknown_ports(field, len(ports))
    return Rule(
        direction=direction,
        index=index,
        action=action,
        peers=None if everyone else tuple(peers),
        ports=ports,
        name=field["name"].text(),
    )


def _refuse_unknown_ports(field: Field, understood: int) -> None:
    """Raise FieldError where a rule has ports that are not known, as what it stops is not."""
    for name in ("ports", "protocols"):
        if len([*field[name].each()]) > understood:
            raise FieldError(f"{field[name].path} has a protocol that is not known here")


def _pods(field: Field) -> PodPeer | None:
    """Read `namespaces` or `pods`, of a subject or a peer; None where it has neither."""
    if field["namespaces"].value is not None:
        return PodPeer(namespaces=selector(field["namespaces"]))
    if field["pods"].value is not None:
        pods = field["pods"]
        return PodPeer(
            namespaces=selector(pods["namespaceSelector"]), pods=selector(pods["podSelector"])
        )
    return None


def _cluster_peer(field: Field) -> Iterator[Peer]:
    pods = _pods(field)
    if pods is not None:
        yield pods
    if field["nodes"].value is not None:
        yield NodePeer(nodes=selector(field["nodes"]))
    for network in field["networks"].each():
        yield BlockPeer(cidr=_cidr(network))
    names = tuple(name.required() for name in field["domainNames"].each())
    if names:
        yield NamePeer(names=names)


def _admin_ports(field: Field) -> Iterator[PortMatch]:
    """Read a port of an AdminNetworkPolicy (policy.networking.k8s.io/v1alpha1)."""
    number, span = field["portNumber"], field["portRange"]
    if number.value is not None:
        protocol = _protocol(number["protocol"])
        if protocol is not None:
            yield _numbers(protocol, number["port"], number["port"])
    elif span.value is not None:
        protocol = _protocol(span["protocol"])
        if protocol is not None:
            yield _numbers(protocol, span["start"], span["end"])
    elif field["namedPort"].value is not None:
        yield PortMatch(protocol=None, name=field["namedPort"].required())


def _cluster_ports(field: Field) -> Iterator[PortMatch]:
    """Read an entry of `protocols` (policy.networking.k8s.io/v1alpha2)."""
    if field["destinationNamedPort"].value is not None:
        yield PortMatch(protocol=None, name=field["destinationNamedPort"].required())
    for protocol in WITH_PORTS:
        if field[protocol].value is None:
            continue
        port = field[protocol]["destinationPort"]
        if port["range"].value is not None:
            yield _numbers(protocol, port["range"]["start"], port["range"]["end"])
        elif port["number"].value is not None:
            yield _numbers(protocol, port["number"], port["number"])
        else:
            yield PortMatch(protocol=protocol)


def _firewall(field: Field) -> PolicySpec:
    """Read an EgressFirewall (k8s.ovn.org/v1): the first rule that matches decides."""
    return PolicySpec(
        tier=Tier.FIREWALL,
        subject=PodPeer(),
        rules=tuple(
            _firewall_rule(rule, index) for index, rule in enumerate(field["egress"].each())
        ),
    )


def _firewall_rule(field: Field, index: int) -> Rule:
    action, ports = _firewall_action(field["type"]), _all(field["ports"], _network_ports)
    if ports is not None and action is not Action.ALLOW:
        _refuse_unknown_ports(field, len(ports))
    return Rule(
        direction=Direction.EGRESS,
        index=index,
        action=action,
        peers=(_firewall_peer(field["to"]),),
        ports=ports,
    )


def _firewall_action(field: Field) -> Action:
    word = field.required()
    if word not in ("Allow", "Deny"):
        raise FieldError(f"{field.path} is {word}, not Allow or Deny")
    return _ACTIONS[word]


def _firewall_peer(field: Field) -> Peer:
    if field["cidrSelector"].value is not None:
        return BlockPeer(cidr=_cidr(field["cidrSelector"]))
    if field["nodeSelector"].value is not None:
        return NodePeer(nodes=selector(field["nodeSelector"]))
    return NamePeer(names=(field["dnsName"].required(),))


_READERS: Mapping[str, Callable[[Field], PolicySpec]] = {
    "NetworkPolicy": _network_policy,
    "MultiNetworkPolicy": _network_policy,
    "AdminNetworkPolicy": _admin,
    "BaselineAdminNetworkPolicy": _baseline,
    "ClusterNetworkPolicy": _cluster_network_policy,
    "EgressFirewall": _firewall,
}
