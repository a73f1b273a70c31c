"""Policy objects are read with their API's own defaults, and nonsense is refused with its path."""

from typing import Any

import pytest

from audit.facts import policies
from audit.facts.fields import FieldError
from audit.model.policies import Action, Direction, NamePeer, NodePeer, PolicySpec, Tier


def network(**spec: Any) -> PolicySpec:
    return policies.spec({"metadata": {"namespace": "x"}, "spec": spec}, "NetworkPolicy")


def admin(**spec: Any) -> PolicySpec:
    whole = {"priority": 1, "subject": {"namespaces": {}}, **spec}
    return policies.spec({"metadata": {}, "spec": whole}, "AdminNetworkPolicy")


def test_rules_keep_their_place_in_their_direction() -> None:
    found = network(
        policyTypes=["Ingress", "Egress"], ingress=[{}, {"ports": [{"port": 1}]}], egress=[{}]
    )
    assert [(rule.direction, rule.index) for rule in found.rules] == [
        (Direction.INGRESS, 0),
        (Direction.INGRESS, 1),
        (Direction.EGRESS, 0),
    ]
    assert found.isolates == {Direction.INGRESS, Direction.EGRESS}


def test_a_peer_of_an_unknown_kind_fails_closed() -> None:
    unknown: list[dict[str, Any]] = [{"services": {}}]
    found = admin(
        ingress=[
            {"action": "Allow", "from": unknown},
            {"action": "Pass", "from": unknown, "ports": [{"namedPort": "x"}]},
        ]
    )
    allow, passing = found.rules
    assert (allow.action, allow.peers) == (Action.ALLOW, ())
    assert (passing.action, passing.peers, passing.ports) == (Action.DENY, None, None)


def test_names_and_nodes_are_peers_of_their_own() -> None:
    to = [{"domainNames": ["*.example.com"]}, {"nodes": {}}]
    [rule] = admin(egress=[{"action": "Allow", "to": to}]).rules
    assert rule.peers is not None
    assert [type(peer) for peer in rule.peers] == [NamePeer, NodePeer]


def test_a_protocol_that_is_not_audited_opens_nothing() -> None:
    [rule] = network(ingress=[{"ports": [{"protocol": "ICMP"}]}]).rules
    assert rule.ports == ()


def test_a_firewall_is_a_list_in_order() -> None:
    rules = [
        {"type": "Allow", "to": {"dnsName": "example.com"}},
        {"type": "Deny", "to": {"cidrSelector": "10.1.2.3/8"}, "ports": [{"port": 1}]},
    ]
    item = {"metadata": {"namespace": "x"}, "spec": {"egress": rules}}
    found = policies.spec(item, "EgressFirewall")
    assert (found.tier, found.namespace) == (Tier.FIREWALL, "x")
    assert [rule.action for rule in found.rules] == [Action.ALLOW, Action.DENY]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"policyTypes": ["In"]}, "spec.policyTypes[0] is In, not Ingress or Egress"),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]},
            "spec.ingress[0].from[0].ipBlock.cidr is '10.0.0.0/33', not a CIDR",
        ),
        (
            {"ingress": [{"ports": [{"port": 90, "endPort": 80}]}]},
            "spec.ingress[0].ports[0].port: 90-80 is no range of ports",
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
            "spec.podSelector.matchExpressions[0].operator is Is, not In, NotIn, Exists",
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.podSelector.matchExpressions[0]: in needs at least one value",
        ),
    ],
)
def test_nonsense_is_refused_with_its_path(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        network(**spec)
    assert str(caught.value).startswith(said)


def test_cluster_policies_are_checked_too() -> None:
    for spec, said in (
        ({"subject": {}}, "spec.subject has neither namespaces nor pods"),
        ({"ingress": [{"action": "Drop"}]}, "spec.ingress[0].action is Drop, not Allow, Deny or"),
    ):
        with pytest.raises(FieldError, match=said.replace("[", r"\[")):
            admin(**spec)


@pytest.mark.parametrize("protocol", ["tcp", "ICMP", "All"])
def test_what_a_rule_with_an_unknown_protocol_stops_is_not_guessed(protocol: str) -> None:
    ports = [{"portNumber": {"port": 80, "protocol": protocol}}]
    to: list[dict[str, Any]] = [{"namespaces": {}}]
    [rule] = admin(egress=[{"action": "Allow", "to": to, "ports": ports}]).rules
    assert rule.ports == ()
    for action in ("Deny", "Pass"):
        with pytest.raises(FieldError, match=r"spec\.egress\[0\]\.ports has a protocol"):
            admin(egress=[{"action": action, "to": to, "ports": ports}])


def test_a_network_policys_peer_of_an_unknown_kind_lets_nobody_in() -> None:
    [rule] = network(ingress=[{"from": [{"services": {}}]}]).rules
    assert rule.peers == ()


@pytest.mark.parametrize(
    ("annotations", "attachments"),
    [
        ({"k8s.v1.cni.cncf.io/policy-for": "net, other/net"}, {"x/net", "other/net"}),
        ({"k8s.v1.cni.cncf.io/policy-for": ""}, set()),
        ({}, set()),
    ],
)
def test_a_multi_network_policy_is_for_the_attachments_that_it_names(
    annotations: dict[str, str], attachments: set[str]
) -> None:
    metadata = {"namespace": "x", "annotations": annotations}
    spec: dict[str, Any] = {"egress": [{}]}
    found = policies.spec({"metadata": metadata, "spec": spec}, "MultiNetworkPolicy")
    assert found.attachments == frozenset(attachments)
    assert (found.tier, found.namespace) == (Tier.NETWORK_POLICY, "x")
    assert found.isolates == {Direction.INGRESS, Direction.EGRESS}
    assert found.types_implied
    assert network(policyTypes=["Egress"]).attachments is None
