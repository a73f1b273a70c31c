"""On random policies the vectorised evaluation says what the literal one says, cell by cell."""

from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.model.endpoints import Port
from audit.model.packets import Family, Protocol
from audit.policy.cluster import Cluster
from audit.policy.intent import Intent
from audit.policy.tables import PASSES, STOPS
from tests.policy import literal, worlds
from tests.policy.worlds import host_pod, node, outside, pod

SPACES = {
    "a": {"env": "prod", "kubernetes.io/metadata.name": "a"},
    "b": {"env": "dev"},
    "c": {},
    "ovn-host-network": {"kubernetes.io/metadata.name": "ovn-host-network"},
}
N1 = node("n1", ["172.18.0.1", "fd01::1"], ["10.0.1.2", "fd00:1::2"], {"role": "control"})
N2 = node("n2", ["172.18.0.2", "fd01::2"], ["10.0.2.2", "fd00:2::2"], {})
WEB = [("http", "TCP", 80), ("alt", "UDP", 8080)]
ODD = [("http", "TCP", 8080), ("http", "UDP", 80)]
PARTIES = [
    pod("a", "web", ["10.0.1.3", "fd00:1::3"], labels={"app": "web"}, ports=WEB),
    pod("a", "web-2", ["10.0.2.3", "fd00:2::3"], node="n2", labels={"app": "web"}, ports=WEB),
    pod("a", "db", ["10.0.1.4", "fd00:1::4"], labels={"app": "db", "tier": "x"}, ports=ODD),
    pod("b", "web", ["10.0.2.9", "fd00:2::9"], node="n2", labels={"app": "web"}, ports=ODD),
    pod("b", "none", ["10.0.1.9", "fd00:1::9"]),
    pod("c", "db", ["10.0.2.77", "fd00:2::77"], node="n2", labels={"app": "db", "tier": "y"}),
    host_pod("a", "agent", N1, {"app": "web"}),
    N1,
    N2,
    outside("203.0.113.7"),
    outside("2001:db8::7"),
]
HOSTED = [party for party in PARTIES if party.kind == "host-pod"]
PORTS = [("TCP", 80), ("TCP", 8080), ("UDP", 80), ("UDP", 8080), ("SCTP", 443)]
NODES = {"n1": {"role": "control"}, "n2": {}}

_terms = st.one_of(
    st.builds(
        lambda key, values, op: {"key": key, "operator": op, "values": values},
        st.sampled_from(["app", "tier", "env"]),
        st.lists(st.sampled_from(["web", "db", "x", "prod"]), min_size=1, max_size=2, unique=True),
        st.sampled_from(["In", "NotIn"]),
    ),
    st.builds(
        lambda key, op: {"key": key, "operator": op},
        st.sampled_from(["app", "tier", "env"]),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
)
selectors = st.one_of(
    st.just({}),
    st.builds(lambda v: {"matchLabels": {"app": v}}, st.sampled_from(["web", "db"])),
    st.builds(lambda v: {"matchLabels": {"env": v}}, st.sampled_from(["prod", "dev"])),
    st.builds(lambda terms: {"matchExpressions": terms}, st.lists(_terms, min_size=1, max_size=2)),
)
cidrs = st.sampled_from(
    [
        *("10.0.0.0/16", "10.0.1.0/24", "0.0.0.0/0", "203.0.113.0/24", "172.18.0.1/32"),
        *("fd00:1::/64", "::/0", "2001:db8::/32", "fd00:2::9/128"),
    ]
)


def _block(cidr: str, *, inner: bool) -> dict[str, Any]:
    # `except` must lie within the block; these are kept in it by choosing them for each.
    within = {"10.0.0.0/16": ["10.0.1.0/24"], "0.0.0.0/0": ["10.0.1.3/32", "203.0.113.0/24"]}
    found = within.get(cidr, []) if inner else []
    return {"ipBlock": {"cidr": cidr} | ({"except": found} if found else {})}


network_peers = st.one_of(
    st.builds(lambda s: {"podSelector": s}, selectors),
    st.builds(lambda s: {"namespaceSelector": s}, selectors),
    st.builds(lambda s, t: {"podSelector": s, "namespaceSelector": t}, selectors, selectors),
    st.builds(lambda c, i: _block(c, inner=i), cidrs, st.booleans()),
)
protocols = st.sampled_from(["TCP", "UDP", "SCTP"])
network_ports = st.one_of(
    st.builds(lambda p: {"protocol": p}, protocols),
    st.builds(lambda p, n: {"protocol": p, "port": n}, protocols, st.sampled_from([80, 443, 8080])),
    st.builds(lambda p, n: {"protocol": p, "port": n}, protocols, st.sampled_from(["http", "alt"])),
    st.builds(lambda n: {"port": 80, "endPort": n}, st.sampled_from([80, 8079, 8080])),
)


def _rule(key: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            key: st.lists(network_peers, max_size=2),
            "ports": st.lists(network_ports, max_size=2),
        },
    )


types = st.lists(st.sampled_from(["Ingress", "Egress"]), max_size=2, unique=True)
network_policies = st.builds(
    lambda space, spec: {"kind": "NetworkPolicy", "metadata": {"namespace": space}, "spec": spec},
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {"podSelector": selectors},
        optional={
            "policyTypes": types,
            "ingress": st.lists(_rule("from"), max_size=2),
            "egress": st.lists(_rule("to"), max_size=2),
        },
    ),
)

pods_peers = st.one_of(
    st.builds(lambda s: {"namespaces": s}, selectors),
    st.builds(
        lambda s, t: {"pods": {"namespaceSelector": s, "podSelector": t}}, selectors, selectors
    ),
)
egress_peers = st.one_of(
    pods_peers,
    st.builds(lambda c: {"networks": [c]}, cidrs),
    st.builds(
        lambda s: {"nodes": s},
        st.sampled_from([{}, {"matchLabels": {"role": "control"}}]),
    ),
)
admin_ports = st.one_of(
    st.builds(
        lambda p, n: {"portNumber": {"protocol": p, "port": n}},
        protocols,
        st.sampled_from([80, 443, 8080]),
    ),
    st.builds(lambda p: {"portRange": {"protocol": p, "start": 79, "end": 443}}, protocols),
    st.builds(lambda n: {"namedPort": n}, st.sampled_from(["http", "alt"])),
)
cluster_ports = st.one_of(
    st.builds(
        lambda p, n: {p: {"destinationPort": {"number": n}}},
        st.sampled_from(["tcp", "udp", "sctp"]),
        st.sampled_from([80, 443, 8080]),
    ),
    st.just({"tcp": {"destinationPort": {"range": {"start": 1, "end": 100}}}}),
    st.just({"udp": {}}),
    st.builds(lambda n: {"destinationNamedPort": n}, st.sampled_from(["http", "alt"])),
)


def _cluster_rules(key: str, actions: list[str], ports: str) -> st.SearchStrategy[Any]:
    choice = admin_ports if ports == "ports" else cluster_ports
    return st.lists(
        st.fixed_dictionaries(
            {
                "action": st.sampled_from(actions),
                key: st.lists(
                    pods_peers if key == "from" else egress_peers, min_size=1, max_size=2
                ),
            },
            optional={ports: st.lists(choice, min_size=1, max_size=2)},
        ),
        max_size=3,
    )


def _cluster_spec(actions: list[str], ports: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "subject": pods_peers,
            "ingress": _cluster_rules("from", actions, ports),
            "egress": _cluster_rules("to", actions, ports),
        }
    )


def _cluster(kind: str, spec: Any, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {}, "spec": {**spec, **more}}


THREE = ["Allow", "Deny", "Pass"]
# Policies of one priority in one tier are decided in no order: each gets its own.
admins = st.lists(_cluster_spec(THREE, "ports"), max_size=3).map(
    lambda specs: [_cluster("AdminNetworkPolicy", s, priority=2 * i) for i, s in enumerate(specs)]
)
clusters = st.lists(
    st.tuples(
        _cluster_spec(["Accept", "Deny", "Pass"], "protocols"),
        st.sampled_from(["Admin", "Baseline"]),
    ),
    max_size=2,
).map(
    lambda found: [
        _cluster("ClusterNetworkPolicy", s, priority=2 * i + 1, tier=tier)
        for i, (s, tier) in enumerate(found)
    ]
)
baselines = st.lists(_cluster_spec(["Allow", "Deny"], "ports"), max_size=1).map(
    lambda specs: [_cluster("BaselineAdminNetworkPolicy", s) for s in specs]
)
firewall_rules = st.builds(
    lambda kind, to, ports: {"type": kind, "to": to} | ({"ports": ports} if ports else {}),
    st.sampled_from(["Allow", "Deny"]),
    st.one_of(
        st.builds(lambda c: {"cidrSelector": c}, cidrs),
        st.builds(lambda s: {"nodeSelector": s}, st.just({"matchLabels": {"role": "control"}})),
    ),
    st.lists(
        st.builds(lambda p: {"protocol": p, "port": 80}, st.sampled_from(["TCP", "UDP"])),
        max_size=1,
    ),
)
firewalls = st.lists(firewall_rules, min_size=1, max_size=3).map(
    lambda rules: [
        {"kind": "EgressFirewall", "metadata": {"namespace": "a"}, "spec": {"egress": rules}}
    ]
)


def _name(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    everything = [policy for group in groups for policy in group]
    return [
        {**policy, "metadata": {**policy["metadata"], "name": f"p{i}"}}
        for i, policy in enumerate(everything)
    ]


policy_sets = st.tuples(
    st.lists(network_policies, max_size=4),
    admins,
    clusters,
    baselines,
    st.one_of(st.just([]), firewalls),
).map(lambda groups: _name([*groups]))


NAMED_PORT_OF_A_NODE = [
    {
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p0"},
        "spec": {
            "subject": {"namespaces": {}},
            "egress": [
                {
                    "action": "Deny",
                    "to": [{"nodes": {}}],
                    "protocols": [{"destinationNamedPort": "http"}],
                }
            ],
            "priority": 1,
            "tier": "Admin",
        },
    }
]


@example(NAMED_PORT_OF_A_NODE)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy_sets)
def test_every_cell_is_what_the_specification_says(objects: list[dict[str, Any]]) -> None:
    world = literal.World(namespaces=SPACES, nodes=NODES, policies=objects, host_pods=HOSTED)
    state = worlds.state(world, PARTIES)
    endpoints = [worlds.endpoint(party) for party in PARTIES]
    ports = [Port(protocol=Protocol(p.lower()), number=n) for p, n in PORTS]
    wrong = []
    for version, family in ((4, Family.IP4), (6, Family.IP6)):
        intent = Intent(state.policies, endpoints, Cluster.of(state), ports, family)
        for s, src in enumerate(PARTIES):
            for d, dst in enumerate(PARTIES):
                if s == d or not (_has(src.sends, version) and _has(dst.receives, version)):
                    continue
                count = len(PORTS)
                found = intent.decide(
                    np.full(count, s, np.int32),
                    np.full(count, d, np.int32),
                    np.arange(count, dtype=np.int32),
                ).outcome.tolist()
                for (protocol, number), bits in zip(PORTS, found, strict=True):
                    packet = literal.Packet(
                        src=src, dst=dst, protocol=protocol, port=number, family=version
                    )
                    expected = PASSES if literal.allowed(world, packet) else STOPS
                    if bits != expected:
                        wrong.append((src.name, dst.name, protocol, number, version, bits))
    assert not wrong


def _has(addresses: tuple[str, ...], version: int) -> bool:
    return any((":" in address) == (version == 6) for address in addresses)


ADDRESSES = ["10.0.1.3", "10.0.2.200", "203.0.113.9", "172.18.0.1", "192.168.0.1"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy_sets)
def test_what_is_not_known_covers_everything_that_may_come(objects: list[dict[str, Any]]) -> None:
    """A pod without an address: whatever it gets, the verdict is one that was held possible."""
    unknown = pod("a", "web", [], labels={"app": "web"}, ports=WEB)
    possible = _all_outcomes(objects, unknown)
    for address in ADDRESSES:
        known = pod("a", "web", [address], labels={"app": "web"}, ports=WEB)
        assert not (_all_outcomes(objects, known) & ~possible).any(), address


def _all_outcomes(objects: list[dict[str, Any]], first: literal.Party) -> NDArray[np.uint8]:
    parties = [first, *PARTIES[1:]]
    world = literal.World(namespaces=SPACES, nodes=NODES, policies=objects, host_pods=HOSTED)
    state = worlds.state(world, parties)
    ports = [Port(protocol=Protocol(p.lower()), number=n) for p, n in PORTS]
    endpoints = [worlds.endpoint(party) for party in parties]
    intent = Intent(state.policies, endpoints, Cluster.of(state), ports, Family.IP4)
    size, count = len(parties), len(ports)
    cells = np.indices((size, size, count)).reshape(3, -1).astype(np.int32)
    return intent.decide(*cells).outcome
