"""Policies, isolation and ways between the networks of a cluster.

What is right was recorded with `ovn-trace` (tests/data/README.md), or follows from OVN-Kubernetes'
sources: udn_isolation.go, multi_network_policy.go.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.facts import objects, policyobjects
from audit.model.endpoints import Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import ClusterState, Service, ServiceEndpoint
from audit.model.matrix import FAMILIES, Matrix, proven
from audit.model.networks import Network, Role
from audit.model.owners import words
from audit.model.packets import Family, Protocol
from audit.model.verdicts import REASONS, VERDICTS, Reason, Verdict
from audit.policy import chain, deviations, edits, findings
from audit.policy.cluster import Cluster
from audit.policy.intent import Intent, evaluate
from tests import parity

WEB, ALT = (Port(protocol=Protocol.TCP, number=number) for number in (80, 8080))


def matrix(cells: Sequence[tuple[Endpoint, Endpoint, Port]]) -> Matrix:
    """Return these cells, in their order, over IPv4."""
    ends = tuple(dict.fromkeys(end for src, dst, _ in cells for end in (src, dst)))
    ports = tuple(dict.fromkeys(port for _, _, port in cells))
    return Matrix(
        endpoints=ends,
        ports=ports,
        src=np.array([ends.index(src) for src, _, _ in cells], np.int32),
        dst=np.array([ends.index(dst) for _, dst, _ in cells], np.int32),
        family=np.full(len(cells), FAMILIES.index(Family.IP4), np.int8),
        port=np.array([ports.index(port) for _, _, port in cells], np.int32),
    )


def test_objects_say_what_ovn_does_on_every_network_of_a_recorded_cluster(tmp_path: Path) -> None:
    """Within networks, across them, and to locked ports; by the objects alone."""
    state = objects.load_snapshot(parity.SNAPSHOTS["head-shared"], tmp_path)
    with gzip.open(parity.DATA / "head-shared-endpoints.csv.gz", "rt") as file:
        answers = [*csv.DictReader(file)]
    ends = {endpoint.key: endpoint for endpoint in (*state.pods, *state.nodes)}
    ports = [Port(protocol=Protocol(a["protocol"]), number=int(a["port"])) for a in answers]
    keys, distinct = [*ends], [*dict.fromkeys(ports)]
    asked = Matrix(
        endpoints=tuple(ends.values()),
        ports=tuple(distinct),
        src=np.array([keys.index(a["src"]) for a in answers], np.int32),
        dst=np.array([keys.index(a["dst"]) for a in answers], np.int32),
        family=np.array([FAMILIES.index(Family(a["family"])) for a in answers], np.int8),
        port=np.array([distinct.index(port) for port in ports], np.int32),
    )
    intent = evaluate(asked, state)
    differ = intent.passes() != np.array([a["delivered"] == "1" for a in answers])
    assert [answers[cell] for cell in np.flatnonzero(differ)] == []
    assert proven(intent.verdict).all()
    assert len(answers) == 5346


# -- A small cluster ------------------------------------------------------------------------------


def pod(name: str, address: str, **more: Any) -> Endpoint:
    namespace, _, short = name.partition("/")
    labels = (("app", short),)
    made = Endpoint(
        kind=EndpointKind.POD,
        namespace=namespace,
        name=short,
        node="n1",
        addresses=(address,),
        labels=labels,
    )
    return replace(made, **more)


A, B = pod("plain/a", "10.244.0.3"), pod("plain/b", "10.244.0.4")
LOCKED = pod("blue/x", "10.244.0.5", role=Role.LOCKED, opened=(WEB,))
X, Y = (
    pod(f"blue/{name}", address, network="blue_l3")
    for name, address in (("x", "10.50.0.3"), ("y", "10.50.0.4"))
)
G = pod("green/g", "10.50.0.4", network="green_l3")
S, T = (
    pod(f"plain/{name}", address, network="plain_storage", role=Role.SECONDARY)
    for name, address in (("a", "10.80.0.3"), ("b", "10.80.0.4"))
)
HOME, AWAY = (
    Endpoint(kind=EndpointKind.NODE, name=name, node=name, addresses=(address,), host_network=True)
    for name, address in (("n1", "172.18.0.2"), ("n2", "172.18.0.3"))
)
OUTSIDE = Endpoint(kind=EndpointKind.EXTERNAL, name="8.8.8.8", addresses=("8.8.8.8",))
NETWORKS = {
    "blue/l3": Network(name="blue_l3", topology="layer3", role=Role.PRIMARY),
    "green/l3": Network(name="green_l3", topology="layer3", role=Role.PRIMARY),
    "plain/storage": Network(name="plain_storage", topology="layer2"),
}
CLUSTER = ClusterState(
    source="a test",
    pods=(A, B, LOCKED, X, Y, G, S, T),
    nodes=(HOME, AWAY),
    services=(),
    namespaces={
        name: (("kubernetes.io/metadata.name", name),) for name in ("plain", "blue", "green")
    },
    policies=(),
    zones={},
    attached=NETWORKS,
)


def state(*policies: Mapping[str, Any], **more: Any) -> ClusterState:
    read = tuple(policyobjects.policy(item, item["kind"]) for item in policies)
    return replace(CLUSTER, policies=read, **more)


def policy(kind: str, namespace: str, *, to: str = "", **spec: Any) -> dict[str, Any]:
    annotations = {"k8s.v1.cni.cncf.io/policy-for": to} if to else {}
    metadata = {"name": "p", "namespace": namespace, "annotations": annotations}
    return {"kind": kind, "metadata": metadata, "spec": {"podSelector": {}, **spec}}


def cluster_policy(**spec: Any) -> dict[str, Any]:
    return {"kind": "AdminNetworkPolicy", "metadata": {"name": "p"}, "spec": spec}


Decision = tuple[Verdict, Reason]
APART = (Verdict.UNROUTABLE, Reason.OTHER_NETWORK)
ISOLATED = (Verdict.BLOCKED, Reason.NETWORK_ISOLATED)
UNKNOWN = (Verdict.INCONCLUSIVE, Reason.NETWORK_UNKNOWN)
DENIED = (Verdict.BLOCKED, Reason.DEFAULT_DENY)
DOUBTED = (Verdict.INCONCLUSIVE, Reason.POLICY_UNKNOWN)
FREE = (Verdict.REACHABLE, Reason.NO_POLICY)


def decided(known: ClusterState, src: Endpoint, dst: Endpoint, port: Port = ALT) -> Decision:
    intent = evaluate(matrix([(src, dst, port)]), known)
    return VERDICTS[intent.verdict[0]], REASONS[intent.reason[0]]


@pytest.mark.parametrize(
    ("src", "dst", "port", "right"),
    [
        (A, LOCKED, ALT, ISOLATED),
        (A, LOCKED, WEB, FREE),
        (OUTSIDE, LOCKED, WEB, FREE),
        (OUTSIDE, LOCKED, ALT, ISOLATED),
        (LOCKED, A, WEB, ISOLATED),
        (LOCKED, HOME, WEB, ISOLATED),
        (LOCKED, OUTSIDE, WEB, ISOLATED),
        (LOCKED, Y, WEB, ISOLATED),
        (HOME, LOCKED, ALT, (Verdict.REACHABLE, Reason.OWN_NODE)),
        (AWAY, LOCKED, ALT, ISOLATED),
        (AWAY, LOCKED, WEB, FREE),
        (replace(HOME, node=""), LOCKED, ALT, UNKNOWN),
        (Y, LOCKED, WEB, APART),
        (X, Y, WEB, FREE),
        (X, G, WEB, APART),
        (X, A, WEB, APART),
        (X, HOME, WEB, UNKNOWN),
        (AWAY, X, WEB, UNKNOWN),
        (X, OUTSIDE, WEB, (Verdict.EXITS, Reason.NO_POLICY)),
        (S, T, WEB, FREE),
        (S, B, WEB, APART),
        (S, HOME, WEB, APART),
        (HOME, S, WEB, APART),
        (S, OUTSIDE, WEB, APART),
    ],
    ids=lambda value: value.key if isinstance(value, Endpoint) else "",
)
def test_what_networks_decide(src: Endpoint, dst: Endpoint, port: Port, right: Decision) -> None:
    assert decided(CLUSTER, src, dst, port) == right


def test_isolation_names_the_network_and_reads_as_ovns_own() -> None:
    intent = evaluate(matrix([(A, LOCKED, ALT), (LOCKED, A, ALT)]), CLUSTER)
    blames = [intent.blames[index] for index in intent.blame]
    assert [blame.direction for blame in blames] == ["ingress", "egress"]
    assert {str(blame) for blame in blames} == {
        "isolation of network blue_l3 from the default network"
    }
    of_ovn = "default-network-controller:UDNIsolation:DenyPrimaryUDN:Ingress"
    assert words(of_ovn) == "isolation of user-defined networks from the default network"


def test_an_open_port_does_not_free_the_sender_of_its_own_policies() -> None:
    closed = state(policy("NetworkPolicy", "plain", policyTypes=["Egress"]))
    assert decided(closed, A, LOCKED, WEB) == DENIED
    assert decided(closed, A, LOCKED, ALT) == DENIED


def test_no_policy_of_its_own_closes_a_port_that_a_pod_opens() -> None:
    peers = [{"name": "all", "action": "Deny", "from": [{"namespaces": {}}]}]
    known = state(
        policy("NetworkPolicy", "blue", policyTypes=["Ingress"]),
        cluster_policy(priority=1, subject={"namespaces": {}}, ingress=peers),
    )
    assert decided(known, A, LOCKED, WEB) == FREE
    assert decided(known, X, Y) == DENIED


def test_what_is_joined_by_something_else_is_not_known() -> None:
    assert decided(state(joined=True), X, G) == UNKNOWN
    localnet = {**NETWORKS, "plain/storage": Network(name="plain_storage", topology="localnet")}
    known = state(attached=localnet)
    assert decided(known, S, B) == UNKNOWN
    assert decided(known, S, HOME) == UNKNOWN
    assert decided(known, S, T) == FREE


def test_which_policies_concern_which_network() -> None:
    primary = state(policy("NetworkPolicy", "plain", policyTypes=["Ingress"]))
    assert decided(primary, A, B) == DENIED
    assert decided(primary, S, T) == FREE
    multi = policy("MultiNetworkPolicy", "plain", to="other, storage", policyTypes=["Ingress"])
    secondary = state(multi)
    assert decided(secondary, A, B) == FREE
    assert decided(secondary, S, T) == DENIED
    elsewhere = policy("MultiNetworkPolicy", "plain", to="blue/storage", policyTypes=["Ingress"])
    assert decided(state(elsewhere), S, T) == FREE
    for_none = policy("MultiNetworkPolicy", "plain", policyTypes=["Ingress"])
    assert decided(state(for_none), S, T) == FREE
    assert decided(state(for_none), A, B) == FREE


def test_peers_of_a_multi_network_policy_are_pods_at_their_addresses_there() -> None:
    from_a = [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}]
    multi = policy("MultiNetworkPolicy", "plain", to="storage", ingress=from_a)
    assert decided(state(multi), S, T)[0] is Verdict.REACHABLE
    assert decided(state(multi), T, S) == DENIED
    of_default = [{"from": [{"ipBlock": {"cidr": "10.244.0.0/16"}}]}]
    multi = policy("MultiNetworkPolicy", "plain", to="storage", ingress=of_default)
    assert decided(state(multi), S, T) == DENIED


def test_without_multi_network_policies_only_secondary_networks_are_in_doubt() -> None:
    for unread in ("multi-networkpolicies", "multinetworkpolicy plain/p"):
        known = state(unread_policies=(unread,))
        assert decided(known, S, T) == DOUBTED
        assert decided(known, S, B) == APART
        assert decided(known, A, B) == FREE
    known = state(unread_policies=("networkpolicies",))
    assert decided(known, A, B) == decided(known, S, T) == DOUBTED
    assert decided(known, LOCKED, A) == ISOLATED


def test_whether_cluster_policies_concern_user_defined_networks_is_not_known() -> None:
    peers = [{"name": "all", "action": "Deny", "from": [{"namespaces": {}}]}]
    known = state(cluster_policy(priority=1, subject={"namespaces": {}}, ingress=peers))
    assert decided(known, A, B) == (Verdict.BLOCKED, Reason.POLICY_DENY)
    assert decided(known, X, Y) == DOUBTED
    assert decided(known, S, T) == FREE
    rule = [{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]
    firewall = {"kind": "EgressFirewall", "metadata": {"name": "default", "namespace": "blue"}}
    assert decided(state({**firewall, "spec": {"egress": rule}}), X, OUTSIDE) == DOUBTED


def test_explain_shows_the_policies_of_the_network() -> None:
    multi = policy("MultiNetworkPolicy", "plain", to="storage", policyTypes=["Ingress"])
    known = state(multi)
    intent = Intent(known.policies, [A, B, S, T], Cluster.of(known), [WEB], Family.IP4)
    egress, ingress = chain.chains(intent, 2, 3, 0)
    assert str(egress) == "no policy selects it"
    assert str(ingress) == "[MultiNetworkPolicy] decides: no rule allows (plain/p, ingress)"
    assert str(chain.chains(intent, 0, 1, 0)[1]) == "no policy selects it"


def service(namespace: str, address: str) -> tuple[Service, Endpoint]:
    behind = ServiceEndpoint(port=WEB, address=address, target=8080)
    ports = (NamedPort(name="", port=WEB),)
    made = Service(
        namespace=namespace,
        name="s",
        headless=False,
        cluster_ips=("10.96.0.9",),
        ports=ports,
        labels=(),
        endpoints=(behind,),
    )
    shown = Endpoint(
        kind=EndpointKind.SERVICE,
        namespace=namespace,
        name="s",
        addresses=("10.96.0.9",),
        declared=ports,
    )
    return made, shown


def test_a_service_leads_to_pods_on_their_primary_network_and_is_known_there_only() -> None:
    made, to = service("blue", "10.244.0.5")  # its slice has the locked port's address
    known = state(services=(made,))
    reached = (Verdict.REACHABLE, Reason.ALL_BACKENDS)
    assert decided(known, Y, to, WEB) == reached
    assert decided(known, A, to, WEB) == APART
    assert decided(known, G, to, WEB) == APART
    assert decided(known, LOCKED, to, WEB) == ISOLATED
    assert decided(known, HOME, to, WEB) == UNKNOWN
    closed = state(policy("NetworkPolicy", "blue", policyTypes=["Ingress"]), services=(made,))
    assert decided(closed, Y, to, WEB) == DENIED


def test_a_service_of_the_default_network_from_others() -> None:
    made, to = service("plain", "10.244.0.4")
    known = state(services=(made,))
    assert decided(known, A, to, WEB) == (Verdict.REACHABLE, Reason.ALL_BACKENDS)
    assert decided(known, X, to, WEB) == UNKNOWN
    assert decided(known, S, to, WEB) == APART
    by_hand, to = service("plain", "10.244.0.5")  # to a locked port that is not open there
    behind = replace(by_hand.endpoints[0], target=8081)
    known = state(services=(replace(by_hand, endpoints=(behind,)),), pods=(A, B, LOCKED))
    assert decided(known, A, to, WEB)[0] is Verdict.BLOCKED


def test_pods_are_counted_once_where_no_policy_isolates_them() -> None:
    default_deny = policy("NetworkPolicy", "plain", policyTypes=["Ingress", "Egress"])
    multi = policy("MultiNetworkPolicy", "blue", to="l3", policyTypes=["Ingress"])
    found = {f.kind: f for f in findings.about_policies(state(default_deny, multi))}
    [ingress, _] = [
        f
        for f in findings.about_policies(state(default_deny, multi))
        if f.kind == "no-default-deny"
    ]
    assert ingress.subjects == ("blue", "green")
    assert found["selects-nothing"].subjects == ("multinetworkpolicy blue/p",)


def test_a_multi_network_policy_without_types_isolates_nothing_in_ovn() -> None:
    multi = policy("MultiNetworkPolicy", "plain", to="storage")
    known = state(multi)
    assert decided(known, S, T) == DENIED
    asked = matrix([(S, T, WEB)])
    causes = deviations.explain(asked, known, np.array([0]), np.array([True]))
    assert causes.causes[causes.cause[0]] == (deviations.Deviation.TYPES_IMPLIED,)
    typed = state(policy("MultiNetworkPolicy", "plain", to="storage", policyTypes=["Ingress"]))
    assert deviations.explain(asked, typed, np.array([0]), np.array([True])).cause[0] < 0


def test_what_leaks_explains_nothing_on_other_networks() -> None:
    rule = {
        "name": "web",
        "action": "Allow",
        "from": [{"namespaces": {}}],
        "ports": [{"namedPort": "web"}],
    }
    known = state(cluster_policy(priority=1, subject={"namespaces": {}}, ingress=[rule]))
    asked = matrix([(A, LOCKED, ALT), (X, G, ALT)])
    causes = deviations.explain(asked, known, np.arange(2), np.array([True, True]))
    assert causes.cause.tolist() == [-1, -1]


def test_an_edit_is_said_to_open_nothing_on_other_networks() -> None:
    multi = policy("MultiNetworkPolicy", "plain", to="storage", policyTypes=["Ingress"])
    known = state(multi)
    question = edits.Question(
        policies=known.policies,
        endpoints=(S, T, A, B, X, LOCKED),
        cluster=Cluster.of(known),
        ports=(WEB,),
        family=Family.IP4,
        src=0,
        dst=1,
        port=0,
    )
    openings = edits.openings(question)
    assert openings
    assert {(o.count, o.also) for o in openings} == {(0, ())}
