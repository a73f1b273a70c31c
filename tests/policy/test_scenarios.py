"""The scenarios of Kubernetes' own end-to-end tests of NetworkPolicy, with truth tables by hand.

Three namespaces x, y, z with three pods a, b, c each, as there. A truth table says, for a port and
a destination, which sources get through; a destination that is not in it is open to everyone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from audit.cover import portspace
from audit.model.endpoints import Port
from audit.model.packets import Family, Protocol
from audit.model.portspace import NO_SPACE
from audit.policy.cluster import Cluster
from audit.policy.intent import Intent
from audit.policy.tables import EITHER, PASSES, STOPS
from tests.policy import literal, worlds
from tests.policy.worlds import node, outside, pod

Truth = Mapping[str, Mapping[str, str]]
"""By port, by destination: the sources that get through, `-` for none."""

SPACES = {s: {"ns": s, "kubernetes.io/metadata.name": s} for s in "xyz"}
DECLARED = [("serve-80-tcp", "TCP", 80), ("serve-81-tcp", "TCP", 81), ("serve-80-udp", "UDP", 80)]
PODS = [
    pod(space, name, [f"10.{i}.0.{j}"], labels={"pod": name}, ports=DECLARED)
    for i, space in enumerate("xyz", start=1)
    for j, name in enumerate("abc", start=1)
]
OUTSIDE = outside("203.0.113.7")
HOST = node("n1", ["172.18.0.1"], ["10.9.0.2"], {"role": "worker"})
PARTIES = [*PODS, OUTSIDE, HOST]
NAMES = [*(f"{p.namespace}/{p.name}" for p in PODS), "outside", "node"]
PORTS = ["tcp/80", "tcp/81", "udp/80", "sctp/80", "icmp"]
X, Y, Z = ("x/a x/b x/c", "y/a y/b y/c", "z/a z/b z/c")
PODS_TEXT = f"{X} {Y} {Z}"
EVERYONE = f"{PODS_TEXT} outside node"
# The one node is every pod's own: no NetworkPolicy keeps it out.
ONLY_NODE = "node"


def network(name: str = "p", space: str = "x", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "NetworkPolicy",
        "metadata": {"namespace": space, "name": name},
        "spec": {"podSelector": {}, **spec},
    }


def admin(name: str, priority: int, subject: str, **spec: Any) -> dict[str, Any]:
    chosen = {"namespaces": {"matchLabels": {"ns": subject}}}
    whole = {"priority": priority, "subject": chosen, **spec}
    return {"kind": "AdminNetworkPolicy", "metadata": {"name": name}, "spec": whole}


def only(name: str) -> dict[str, Any]:
    return {"matchLabels": {"pod": name}}


def space(*names: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "ns", "operator": "In", "values": list(names)}]}


def everywhere(**truth: str) -> Truth:
    """The same on every port."""
    table = {name.replace("_", "/"): sources for name, sources in truth.items()}
    return dict.fromkeys(PORTS, table)


def x_open_to(sources: str) -> Truth:
    """Every pod of x on every port."""
    return everywhere(x_a=sources, x_b=sources, x_c=sources)


DENY_BOTH = network("deny", policyTypes=["Ingress", "Egress"])
DENY_IN = network("deny", policyTypes=["Ingress"])
INGRESS_80 = [{"port": 80}]
NOT_X = f"{Y} {Z} outside node"

CASES: dict[str, tuple[list[dict[str, Any]], Truth]] = {
    "no policy": ([], {}),
    "default deny ingress": ([DENY_IN], x_open_to(ONLY_NODE)),
    "no policyTypes and no rules is deny ingress": ([network()], x_open_to(ONLY_NODE)),
    "an empty list of ingress rules is deny ingress": (
        [network(ingress=[])],
        x_open_to(ONLY_NODE),
    ),
    "one empty rule allows everything": ([network(ingress=[{}])], {}),
    "a rule with an empty list of peers allows everyone": ([network(ingress=[{"from": []}])], {}),
    "a rule with an empty list of ports allows every port": (
        [network(ingress=[{"from": [{"podSelector": {}}], "ports": []}])],
        x_open_to(f"{X} node"),
    ),
    "deny all, both ways": (
        [DENY_BOTH],
        everywhere(
            x_a=ONLY_NODE,
            x_b=ONLY_NODE,
            x_c=ONLY_NODE,
            y_a=NOT_X,
            y_b=NOT_X,
            y_c=NOT_X,
            z_a=NOT_X,
            z_b=NOT_X,
            z_c=NOT_X,
            outside=NOT_X,
            node=NOT_X,
        ),
    ),
    "egress of one pod only": (
        [network(podSelector=only("a"), policyTypes=["Egress"])],
        dict.fromkeys(
            PORTS,
            dict.fromkeys(NAMES, f"x/b x/c {Y} {Z} outside node"),
        ),
    ),
    "an egress rule makes it isolate for ingress too": (
        [network(podSelector=only("a"), egress=[{}])],
        everywhere(x_a=ONLY_NODE),
    ),
    "policyTypes Egress does not isolate for ingress": (
        [network(podSelector=only("a"), policyTypes=["Egress"], egress=[{}])],
        {},
    ),
    "ingress rules count for nothing without the type": (
        [network(podSelector=only("a"), policyTypes=["Egress"], egress=[{}], ingress=[])],
        {},
    ),
    "allow from a namespace": (
        [network(podSelector=only("a"), ingress=[{"from": [{"namespaceSelector": space("y")}]}])],
        everywhere(x_a=f"{Y} node"),
    ),
    "allow from pods of the policy's own namespace": (
        [network(podSelector=only("a"), ingress=[{"from": [{"podSelector": only("b")}]}])],
        everywhere(x_a="x/b node"),
    ),
    "namespace and pod in one peer: both must hold": (
        [
            network(
                podSelector=only("a"),
                ingress=[{"from": [{"namespaceSelector": space("y"), "podSelector": only("b")}]}],
            )
        ],
        everywhere(x_a="y/b node"),
    ),
    "namespace and pod in two peers: either": (
        [
            network(
                podSelector=only("a"),
                ingress=[{"from": [{"namespaceSelector": space("y")}, {"podSelector": only("b")}]}],
            )
        ],
        everywhere(x_a=f"{Y} x/b node"),
    ),
    "every namespace is not everyone: outside is none": (
        [network(podSelector=only("a"), ingress=[{"from": [{"namespaceSelector": {}}]}])],
        everywhere(x_a=f"{PODS_TEXT} node"),
    ),
    "expressions: NotIn also takes what has no such label": (
        [
            network(
                podSelector=only("a"),
                ingress=[
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchExpressions": [
                                        {"key": "ns", "operator": "NotIn", "values": ["y"]},
                                        {"key": "team", "operator": "NotIn", "values": ["t"]},
                                    ]
                                },
                                "podSelector": {
                                    "matchExpressions": [
                                        {"key": "pod", "operator": "In", "values": ["b", "c"]}
                                    ]
                                },
                            }
                        ]
                    }
                ],
            )
        ],
        everywhere(x_a="x/b x/c z/b z/c node"),
    ),
    "one port, TCP where no protocol is named": (
        [network(podSelector=only("a"), ingress=[{"ports": INGRESS_80}])],
        {"tcp/81": {"x/a": "node"}, "udp/80": {"x/a": "node"}, "sctp/80": {"x/a": "node"}},
    ),
    "a protocol without a number is all of it": (
        [network(podSelector=only("a"), ingress=[{"ports": [{"protocol": "TCP"}]}])],
        {"udp/80": {"x/a": "node"}, "sctp/80": {"x/a": "node"}},
    ),
    "a range of ports, both ends included": (
        [network(podSelector=only("a"), ingress=[{"ports": [{"port": 81, "endPort": 90}]}])],
        {"tcp/80": {"x/a": "node"}, "udp/80": {"x/a": "node"}, "sctp/80": {"x/a": "node"}},
    ),
    "SCTP only": (
        [network(podSelector=only("a"), ingress=[{"ports": [{"port": 80, "protocol": "SCTP"}]}])],
        {"tcp/80": {"x/a": "node"}, "tcp/81": {"x/a": "node"}, "udp/80": {"x/a": "node"}},
    ),
    "a named port, at the destination": (
        [network(podSelector=only("a"), ingress=[{"ports": [{"port": "serve-81-tcp"}]}])],
        {"tcp/80": {"x/a": "node"}, "udp/80": {"x/a": "node"}, "sctp/80": {"x/a": "node"}},
    ),
    "a named port of another protocol is none": (
        [network(podSelector=only("a"), ingress=[{"ports": [{"port": "serve-80-udp"}]}])],
        everywhere(x_a=ONLY_NODE),
    ),
    "a named port in an egress rule is each destination's": (
        [
            network(
                podSelector=only("a"),
                policyTypes=["Egress"],
                egress=[{"ports": [{"port": "serve-80-tcp"}]}],
            )
        ],
        {
            "tcp/80": {"outside": f"x/b x/c {Y} {Z} node", "node": f"x/b x/c {Y} {Z} outside"},
            **dict.fromkeys(
                ["tcp/81", "udp/80", "sctp/80"],
                dict.fromkeys(NAMES, f"x/b x/c {Y} {Z} outside node"),
            ),
        },
    ),
    "two policies add up": (
        [
            DENY_IN,
            network("one", podSelector=only("a"), ingress=[{"ports": INGRESS_80}]),
            network(
                "two",
                podSelector=only("a"),
                ingress=[{"from": [{"namespaceSelector": space("y")}], "ports": [{"port": 81}]}],
            ),
        ],
        {
            "tcp/80": {"x/b": "node", "x/c": "node"},
            "tcp/81": {"x/a": f"{Y} node", "x/b": "node", "x/c": "node"},
            "udp/80": dict.fromkeys(["x/a", "x/b", "x/c"], "node"),
            "sctp/80": dict.fromkeys(["x/a", "x/b", "x/c"], "node"),
        },
    ),
    "allow all beside deny all": ([DENY_IN, network("all", ingress=[{}])], {}),
    "egress here and ingress there must both allow": (
        [
            network(
                "out",
                podSelector=only("a"),
                policyTypes=["Egress"],
                egress=[{"to": [{"namespaceSelector": space("y")}]}],
            ),
            network(
                "in",
                "y",
                podSelector=only("b"),
                ingress=[{"from": [{"namespaceSelector": space("z")}]}],
            ),
        ],
        dict.fromkeys(
            PORTS,
            dict.fromkeys(
                [*X.split(), *Z.split(), "outside", "node"], f"x/b x/c {Y} {Z} outside node"
            )
            | {"y/b": f"{Z} node"},
        ),
    ),
    "a block without a part of it": (
        [
            network(
                podSelector=only("a"),
                ingress=[
                    {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16"]}}]}
                ],
            )
        ],
        everywhere(x_a=f"{X} {Z} node"),
    ),
    "what one policy excepts another may allow": (
        [
            network(
                "block",
                podSelector=only("a"),
                ingress=[
                    {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16"]}}]}
                ],
            ),
            network(
                "one",
                podSelector=only("a"),
                ingress=[{"from": [{"ipBlock": {"cidr": "10.2.0.2/32"}}]}],
            ),
        ],
        everywhere(x_a=f"{X} y/b {Z} node"),
    ),
    "a block of everything takes outside too": (
        [network(podSelector=only("a"), ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])],
        {},
    ),
    "a policy of another namespace selects nobody here": (
        [network(space="y", podSelector={"matchLabels": {"pod": "none"}})],
        {},
    ),
    "an admin policy denies what a policy allows": (
        [
            network("all", ingress=[{}]),
            admin(
                "wall",
                10,
                "x",
                ingress=[{"action": "Deny", "from": [{"namespaces": space("y")}]}],
            ),
        ],
        x_open_to(f"{X} {Z} outside node"),
    ),
    "an admin policy allows what a policy denies, and the lower priority goes first": (
        [
            DENY_IN,
            admin("late", 20, "x", ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}]),
            admin(
                "early",
                10,
                "x",
                ingress=[
                    {
                        "action": "Allow",
                        "from": [{"namespaces": space("y")}],
                        "ports": [{"portNumber": {"port": 80, "protocol": "TCP"}}],
                    }
                ],
            ),
        ],
        {
            "tcp/80": dict.fromkeys(X.split(), f"{Y} node"),
            **dict.fromkeys(["tcp/81", "udp/80", "sctp/80"], dict.fromkeys(X.split(), "node")),
        },
    ),
    "Pass leaves it to the policies, and past later admin rules": (
        [
            network("b", podSelector=only("a"), ingress=[{"from": [{"podSelector": only("b")}]}]),
            admin(
                "pass",
                10,
                "x",
                ingress=[
                    {"action": "Pass", "from": [{"namespaces": space("x")}]},
                    {"action": "Deny", "from": [{"namespaces": {}}]},
                ],
            ),
        ],
        everywhere(x_a="x/b node", x_b=f"{X} outside node", x_c=f"{X} outside node"),
    ),
    "the baseline holds where no policy selects": (
        [
            network("b", podSelector=only("a"), ingress=[{"from": [{"namespaceSelector": {}}]}]),
            {
                "kind": "BaselineAdminNetworkPolicy",
                "metadata": {"name": "default"},
                "spec": {
                    "subject": {"namespaces": space("x")},
                    "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
                },
            },
        ],
        everywhere(x_a=f"{PODS_TEXT} node", x_b="outside node", x_c="outside node"),
    ),
    "a ClusterNetworkPolicy goes by its tier": (
        [
            DENY_IN,
            {
                "kind": "ClusterNetworkPolicy",
                "metadata": {"name": "c"},
                "spec": {
                    "tier": "Admin",
                    "priority": 5,
                    "subject": {"namespaces": space("x")},
                    "ingress": [
                        {
                            "action": "Accept",
                            "from": [{"namespaces": space("z")}],
                            "protocols": [{"tcp": {"destinationPort": {"number": 81}}}],
                        }
                    ],
                },
            },
        ],
        {
            "tcp/81": dict.fromkeys(X.split(), f"{Z} node"),
            **dict.fromkeys(["tcp/80", "udp/80", "sctp/80"], dict.fromkeys(X.split(), "node")),
        },
    ),
    "an egress firewall is about what leaves the pod network": (
        [
            {
                "kind": "EgressFirewall",
                "metadata": {"namespace": "x", "name": "default"},
                "spec": {
                    "egress": [
                        {
                            "type": "Allow",
                            "to": {"cidrSelector": "203.0.113.0/24"},
                            "ports": [{"protocol": "TCP", "port": 80}],
                        },
                        {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}},
                    ]
                },
            }
        ],
        {
            "tcp/80": {"node": f"{Y} {Z} outside"},
            "tcp/81": {"outside": f"{Y} {Z} node", "node": f"{Y} {Z} outside"},
            "udp/80": {"outside": f"{Y} {Z} node", "node": f"{Y} {Z} outside"},
            "sctp/80": {"outside": f"{Y} {Z} node", "node": f"{Y} {Z} outside"},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_documented_scenario_has_its_truth_table(name: str) -> None:
    objects, truth = CASES[name]
    intent = evaluated(objects)
    # A ping fares as what has ports that no rule names: only rules without ports are about it.
    unnamed = "udp/80" if "SCTP" in str(objects) else "sctp/80"
    for port, text in enumerate(PORTS):
        table = unnamed if text == "icmp" else text
        for dst, to in enumerate(NAMES):
            allowed = set(truth.get(table, {}).get(to, EVERYONE).split()) - {to}
            found = {
                NAMES[src]
                for src in range(len(NAMES))
                if src != dst and outcome(intent, src, dst, port) == PASSES
            }
            assert found == allowed, (text, to)


def test_an_update_counts_from_then_on() -> None:
    a, b = NAMES.index("y/a"), NAMES.index("x/a")
    before = evaluated([DENY_IN])
    after = evaluated([DENY_IN, network("all", ingress=[{}])])
    gone = evaluated([])
    assert [outcome(i, a, b, 0) for i in (before, after, gone)] == [STOPS, PASSES, PASSES]


def test_what_a_name_resolves_to_is_not_known() -> None:
    rules = [
        {"type": "Allow", "to": {"dnsName": "www.example.com"}},
        {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}},
    ]
    intent = evaluated(
        [
            {
                "kind": "EgressFirewall",
                "metadata": {"namespace": "x", "name": "default"},
                "spec": {"egress": rules},
            }
        ]
    )
    to = NAMES.index("outside")
    assert outcome(intent, NAMES.index("x/a"), to, 0) == EITHER
    assert outcome(intent, NAMES.index("y/a"), to, 0) == PASSES


def test_whether_a_pod_without_an_address_lies_in_a_block_is_not_known() -> None:
    block = {"from": [{"ipBlock": {"cidr": "10.2.0.0/16"}}]}
    world = literal.World(
        namespaces=SPACES,
        nodes={},
        policies=[network(podSelector=only("a"), ingress=[block])],
    )
    parties = [pod("x", "a", []), pod("y", "b", [])]
    state = worlds.state(world, [])
    ports = [Port(protocol=Protocol.TCP, number=80)]
    endpoints = [
        worlds.endpoint(pod("x", "a", [], labels={"pod": "a"})),
        worlds.endpoint(parties[1]),
    ]
    intent = Intent(state.policies, endpoints, Cluster.of(state), ports, Family.IP4)
    assert outcome(intent, 1, 0, 0) == EITHER
    assert outcome(intent, 0, 1, 0) == PASSES


def test_a_range_of_ports_is_what_each_of_its_ports_is() -> None:
    world = literal.World(
        namespaces=SPACES,
        nodes={},
        policies=[
            network(podSelector=only("a"), ingress=[{"ports": [{"port": "serve-81-tcp"}]}]),
            network("r", podSelector=only("a"), ingress=[{"ports": [{"port": 90, "endPort": 99}]}]),
        ],
    )
    state = worlds.state(world, PODS)
    space = portspace.with_policies(NO_SPACE, state.policies, state.pods)
    ranges = space.at(state.pods[0], Protocol.TCP)
    intent = Intent(state.policies, state.pods, Cluster.of(state), ranges, Family.IP4)
    a, b = NAMES.index("x/a"), NAMES.index("y/a")
    found = [str(p) for i, p in enumerate(ranges) if outcome(intent, b, a, i) == PASSES]
    assert found == ["tcp/81", "tcp/90-99"]


def evaluated(objects: list[dict[str, Any]]) -> Intent:
    world = literal.World(namespaces=SPACES, nodes={"n1": {"role": "worker"}}, policies=objects)
    state = worlds.state(world, PARTIES)
    ports = [
        Port(protocol=Protocol(text.partition("/")[0]), number=int(text.partition("/")[2] or 0))
        for text in PORTS
    ]
    endpoints = [worlds.endpoint(party) for party in PARTIES]
    return Intent(state.policies, endpoints, Cluster.of(state), ports, Family.IP4)


def outcome(intent: Intent, src: int, dst: int, port: int) -> int:
    return int(intent.decide(*(np.array([i], np.int32) for i in (src, dst, port))).outcome[0])
