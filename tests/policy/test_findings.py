"""What is said about the policies themselves."""

from typing import Any

from audit.model.findings import FindingKind
from audit.policy import deviations
from audit.policy.deviations import Deviation
from audit.policy.findings import about_policies
from tests.policy import literal, worlds
from tests.policy.test_scenarios import PARTIES, SPACES, admin, network, only, space


def found(objects: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    world = literal.World(namespaces=SPACES, nodes={"n1": {}}, policies=objects)
    said: dict[str, tuple[str, ...]] = {}
    for finding in about_policies(worlds.state(world, PARTIES)):
        said[finding.kind] = said.get(finding.kind, ()) + finding.subjects
    said.pop(FindingKind.NO_DEFAULT_DENY, None)
    return said


def test_a_policy_that_selects_nobody() -> None:
    assert found([network("typo", podSelector=only("q"), ingress=[{}])]) == {
        FindingKind.SELECTS_NOTHING: ("networkpolicy x/typo",)
    }


def test_a_rule_behind_one_that_decides_all_it_matches() -> None:
    wall = admin(
        "wall",
        5,
        "x",
        ingress=[
            {"action": "Deny", "from": [{"namespaces": {}}]},
            {"action": "Allow", "from": [{"namespaces": space("y")}]},
        ],
    )
    assert found([wall]) == {
        FindingKind.RULE_WITHOUT_EFFECT: ("adminnetworkpolicy wall ingress[1]",)
    }


def test_a_rule_that_decides_only_some_of_what_it_matches_has_an_effect() -> None:
    wall = admin(
        "wall",
        5,
        "x",
        ingress=[
            {
                "action": "Deny",
                "from": [{"namespaces": {}}],
                "ports": [{"portRange": {"protocol": "TCP", "start": 1, "end": 1000}}],
            },
            {"action": "Allow", "from": [{"namespaces": space("y")}]},
        ],
    )
    assert found([wall]) == {}


def test_a_rule_whose_peers_are_nobody_and_a_policy_with_no_other() -> None:
    idle = admin("idle", 5, "x", ingress=[{"action": "Deny", "from": [{"namespaces": space("q")}]}])
    assert found([idle]) == {
        FindingKind.RULE_WITHOUT_EFFECT: ("adminnetworkpolicy idle ingress[0]",),
        FindingKind.POLICY_WITHOUT_EFFECT: ("adminnetworkpolicy idle",),
    }


def test_policies_whose_order_nobody_knows() -> None:
    rule = [{"action": "Deny", "from": [{"namespaces": {}}]}]
    said = found([admin("a", 5, "x", ingress=rule), admin("b", 5, "y", ingress=rule)])
    assert said == {FindingKind.SAME_PRIORITY: ("adminnetworkpolicy a", "adminnetworkpolicy b")}


def test_namespaces_that_are_open() -> None:
    world = literal.World(
        namespaces=SPACES,
        nodes={},
        policies=[network(policyTypes=["Ingress"]), network(space="y", podSelector=only("a"))],
    )
    said = {f.text: f.subjects for f in about_policies(worlds.state(world, PARTIES))}
    assert said == {
        "2 of 3 namespaces have pods that no NetworkPolicy selects for ingress: as far as "
        "NetworkPolicies go, everyone may connect to them": ("y", "z"),
        "3 of 3 namespaces have pods that no NetworkPolicy selects for egress: as far as "
        "NetworkPolicies go, they may connect to everyone": ("x", "y", "z"),
    }


def test_one_open_namespace_is_named() -> None:
    policies = [network(space=name) for name in ("y", "z")]
    world = literal.World(namespaces=SPACES, nodes={}, policies=policies)
    findings = about_policies(worlds.state(world, PARTIES))
    assert "; ".join(f.text for f in findings if f.subjects == ("x",)) == (
        "namespace x has pods that no NetworkPolicy selects for ingress: as far as "
        "NetworkPolicies go, everyone may connect to them"
    )


def test_what_is_not_implemented_is_said() -> None:
    policy = {
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "c"},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": space("y")}]}],
        },
    }
    assert found([policy]) == {FindingKind.NOT_IMPLEMENTED: ("clusternetworkpolicy c",)}


def ports_of(objects: list[dict[str, Any]], *found: Deviation) -> list[str]:
    policies = worlds.policies(objects)
    [policy] = deviations.as_enforced(policies, found)
    assert policy.spec is not None
    [rule] = policy.spec.rules
    return [str(match) for match in rule.ports or ()]


def test_named_ports_and_whole_protocols_as_they_are_enforced() -> None:
    mixed = [{"port": "web"}, {"port": 80}, {"protocol": "UDP"}, {"protocol": "UDP", "port": 53}]
    both = network(ingress=[{"ports": mixed}])
    assert deviations.present(worlds.policies([both])) == (
        Deviation.NAMED_PORT,
        Deviation.MIXED_PORTS,
    )
    assert ports_of([both], Deviation.MIXED_PORTS) == ["tcp/80", "udp/53"]
    assert ports_of([both], Deviation.NAMED_PORT) == ["tcp", "tcp/80", "udp", "udp/53"]
    named = network(ingress=[{"ports": [{"port": "web"}]}])
    assert ports_of([named], Deviation.NAMED_PORT) == ["tcp"]
    assert ports_of([named], Deviation.MIXED_PORTS) == ["tcp/web"]


def test_a_priority_that_is_not_accepted_takes_the_policy_away() -> None:
    policies = worlds.policies([admin("late", 100, "x"), admin("last", 99, "x")])
    kept = deviations.as_enforced(policies, [Deviation.PRIORITY])
    assert [policy.ref.name for policy in kept] == ["last"]
