"""What is not known: whatever it turns out to be, the verdict is one that was held possible."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import AddressRanges
from audit.model.packets import Family, Protocol
from audit.model.selectors import UNSAID, Operator, Requirement
from audit.policy.cluster import Cluster, Controllers, hosted
from audit.policy.intent import Intent
from audit.policy.tables import EITHER, PASSES, STOPS
from tests.policy import literal, worlds
from tests.policy.test_literal import (
    HOSTED,
    N1,
    N2,
    NODES,
    PARTIES,
    PORTS,
    SPACES,
    THREE,
    _cluster,
    _cluster_spec,
    policy_sets,
)
from tests.policy.worlds import host_pod, pod

PORT_LIST = [Port(protocol=Protocol(p.lower()), number=n) for p, n in PORTS]
Objects = list[dict[str, Any]]
several = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcomes(
    objects: Objects,
    parties: Sequence[literal.Party] = PARTIES,
    *,
    spaces: Mapping[str, Mapping[str, str]] = SPACES,
    endpoints: Sequence[Endpoint] | None = None,
    **cluster: Any,
) -> NDArray[np.uint8]:
    """Return what may come out between all parties on all ports."""
    world = literal.World(namespaces=spaces, nodes=NODES, policies=objects, host_pods=HOSTED)
    state = worlds.state(world, parties)
    ends = endpoints or [worlds.endpoint(party) for party in parties]
    known = replace(Cluster.of(state), hosted=hosted(ends), **cluster)
    intent = Intent(state.policies, ends, known, PORT_LIST, Family.IP4)
    cells = np.indices((len(ends), len(ends), len(PORT_LIST))).reshape(3, -1).astype(np.int32)
    return intent.decide(*cells).outcome


@several
@given(policy_sets)
def test_labels_of_a_namespace(objects: Objects) -> None:
    possible = outcomes(objects, spaces={**SPACES, "c": {UNSAID: UNSAID}})
    for labels in ({}, {"env": "prod"}, {"env": "dev", "app": "web"}, {"tier": "x"}):
        assert not (outcomes(objects, spaces={**SPACES, "c": labels}) & ~possible).any(), labels


@several
@given(policy_sets)
def test_labels_of_a_pod(objects: Objects) -> None:
    def with_labels(labels: Mapping[str, str]) -> list[literal.Party]:
        first = pod("a", "web", ["10.0.1.3"], labels=labels, ports=[("http", "TCP", 80)])
        return [first, *PARTIES[1:]]

    possible = outcomes(objects, with_labels({UNSAID: UNSAID, "tier": UNSAID}))
    for labels in ({"tier": "x"}, {"tier": "y", "app": "web"}, {"tier": "x", "env": "prod"}):
        assert not (outcomes(objects, with_labels(labels)) & ~possible).any(), labels


@several
@given(policy_sets)
def test_the_node_of_a_pod_in_its_network(objects: Objects) -> None:
    agents = [host_pod("a", "agent", node, {"app": "web"}) for node in (N1, N2)]
    place = next(i for i, party in enumerate(PARTIES) if party.kind == "host-pod")

    def ends(agent: Endpoint) -> list[Endpoint]:
        made = [worlds.endpoint(party) for party in PARTIES]
        return [*made[:place], agent, *made[place + 1 :]]

    unknown = replace(worlds.endpoint(agents[0]), node="", addresses=(), attachment=None)
    possible = outcomes(objects, endpoints=ends(unknown))
    for agent in agents:
        found = outcomes(objects, endpoints=ends(worlds.endpoint(agent)))
        assert not (found & ~possible).any(), agent.node


@several
@given(
    st.lists(_cluster_spec(THREE, "ports"), min_size=2, max_size=2),
)
def test_two_policies_of_one_priority_in_either_order(specs: list[dict[str, Any]]) -> None:
    def made(*priorities: int) -> Objects:
        policies = [
            _cluster("AdminNetworkPolicy", spec, priority=priority)
            for spec, priority in zip(specs, priorities, strict=True)
        ]
        return [{**p, "metadata": {"name": f"p{i}"}} for i, p in enumerate(policies)]

    either = outcomes(made(1, 2)) | outcomes(made(2, 1))
    assert not (either & ~outcomes(made(1, 1))).any()


def network(**spec: Any) -> Objects:
    return [
        {
            "kind": "NetworkPolicy",
            "metadata": {"namespace": "a", "name": "n"},
            "spec": {"podSelector": {}, **spec},
        }
    ]


def block(cidr: str, *excluded: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(excluded)} if excluded else {})}}


SOURCE, TARGET = pod("b", "src", []), pod("a", "dst", [])


@pytest.mark.parametrize(
    ("peers", "ranges", "bits"),
    [
        ([block("0.0.0.0/0")], {}, PASSES),
        ([block("0.0.0.0/1"), block("128.0.0.0/1")], {}, PASSES),
        ([block("0.0.0.0/0", "10.0.0.0/8")], {}, EITHER),
        ([block("10.128.0.0/14")], {}, EITHER),
        ([block("10.128.0.0/14")], {"pods": ("10.128.0.0/14",)}, PASSES),
        ([block("10.0.0.0/8")], {"pods": ("10.128.0.0/14",)}, PASSES),
        ([block("10.128.0.0/16")], {"pods": ("10.128.0.0/14",)}, EITHER),
        ([block("10.128.0.0/15"), block("10.130.0.0/15")], {"pods": ("10.128.0.0/14",)}, PASSES),
        ([block("192.168.0.0/16")], {"pods": ("10.128.0.0/14",)}, STOPS),
        ([block("0.0.0.0/0", "192.168.0.0/16")], {"pods": ("10.128.0.0/14",)}, PASSES),
        ([block("172.30.0.0/16")], {"services": ("172.30.0.0/16",)}, STOPS),
        ([block("172.30.7.0/24")], {"services": ("172.30.0.0/16",)}, STOPS),
        ([block("172.16.0.0/12")], {"services": ("172.30.0.0/16",)}, EITHER),
        ([block("172.18.0.0/16")], {"nodes": ("172.18.0.0/16",)}, STOPS),
    ],
)
def test_where_an_unknown_address_may_be(
    peers: Objects, ranges: dict[str, tuple[str, ...]], bits: int
) -> None:
    found = outcomes(
        network(ingress=[{"from": peers}]), [SOURCE, TARGET], ranges=AddressRanges(**ranges)
    )
    assert found.reshape(2, 2, -1)[0, 1].tolist() == [bits] * len(PORTS)


@pytest.mark.parametrize(
    ("value", "operator", "values", "answer"),
    [
        ("?", Operator.IN, ("x",), None),
        ("?", Operator.NOT_IN, ("x",), None),
        ("?", Operator.EXISTS, (), True),
        ("?", Operator.NOT_EXISTS, (), False),
        ("?", Operator.GREATER, ("1",), None),
        ("backup-?", Operator.IN, ("backup-1", "x"), None),
        ("backup-?", Operator.IN, ("backup",), False),
        ("backup-?", Operator.NOT_IN, ("backup",), True),
        ("x", Operator.IN, ("x",), True),
    ],
)
def test_a_label_of_which_the_beginning_is_known(
    value: str, operator: Operator, values: tuple[str, ...], answer: object
) -> None:
    requirement = Requirement(key="k", operator=operator, values=values)
    assert requirement.judge({"k": value}) is answer
    assert requirement.judge({UNSAID: UNSAID}) is None


ROW = Endpoint(
    kind=EndpointKind.INGRESS,
    name="in",
    labels=((UNSAID, UNSAID),),
    declared=tuple(NamedPort(name="", port=port) for port in PORT_LIST),
)
EDGES = [{"env": "prod"}, {"env": "dev", "tier": "x"}, {}]
PEERS = st.builds(
    lambda operator, names: network(
        ingress=[{"from": [{"namespaceSelector": {"matchExpressions": [{**operator, **names}]}}]}],
        policyTypes=["Ingress", "Egress"],
    ),
    st.sampled_from([{"operator": "In"}, {"operator": "NotIn"}]),
    st.builds(
        lambda names: {"key": "kubernetes.io/metadata.name", "values": names},
        st.lists(st.sampled_from(["a", "b", "edge"]), min_size=1, max_size=2, unique=True),
    ),
)


def from_senders(
    objects: Objects,
    spaces: Mapping[str, Mapping[str, str]],
    senders: Sequence[Endpoint],
    **known: Any,
) -> NDArray[np.uint8]:
    """Return what may come out from more senders to all parties on all ports."""
    parties = [worlds.endpoint(party) for party in PARTIES]
    ends = [*parties, *senders]
    found = outcomes(objects, spaces=spaces, endpoints=ends, **known)
    return found.reshape(len(ends), len(ends), -1)[len(parties) :, : len(parties)]


@several
@given(policy_sets, st.one_of(PEERS, st.just([])), st.sampled_from(EDGES), st.booleans())
def test_the_pods_of_a_controller(
    objects: Objects,
    named: Objects,
    labels: dict[str, str],
    says_where: bool,  # noqa: FBT001
) -> None:
    """Whichever pod of another namespace than its row's it is, or of the one that is said."""
    policies = [*named, *objects]
    spaces = {**SPACES, "edge": labels}
    spaces = {n: {**own, "kubernetes.io/metadata.name": n} for n, own in spaces.items()}
    where = (
        Controllers(namespace="edge") if says_where else Controllers(away={"in": frozenset("a")})
    )
    possible = from_senders(policies, spaces, [ROW], controllers=where)[0]
    concrete = [
        pod(space, f"router-{number}", [address], labels=own)
        for space in (("edge",) if says_where else ("b", "c", "edge"))
        for number, own in enumerate([{}, {"app": "web"}, {"app": "db", "tier": "x"}])
        for address in ("10.0.1.77", "192.0.2.7")
    ]
    found = from_senders(policies, spaces, [worlds.endpoint(party) for party in concrete])
    for party, outcome in zip(concrete, found, strict=True):
        assert not (outcome & ~possible).any(), party


def test_a_controller_that_nobody_tells_apart_is_decided() -> None:
    """Doubt is kept where it is: without this, all could be doubted above."""
    spaces = {n: {"kubernetes.io/metadata.name": n} for n in "abc"}
    away = Controllers(away={"in": frozenset("a")})
    closed, open_ = network(policyTypes=["Ingress"]), network(ingress=[{}])
    beside = network(ingress=[{"from": [{"podSelector": {}}]}])
    for objects, wanted in ((closed, STOPS), (open_, PASSES), (beside, STOPS)):
        found = from_senders(objects, spaces, [ROW], controllers=away)
        assert {*found[0, 0].tolist()} == {wanted}
