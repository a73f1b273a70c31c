"""What an API server refuses is refused: by its own schemas, and by what it checks beside them.

What is right here is from the APIs' own sources: pkg/apis/networking/validation of Kubernetes, and
the CRDs of policy.networking.k8s.io and k8s.ovn.org.
"""

import copy
import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from audit.facts import policyobjects, validity
from audit.facts.fields import FieldError
from tests.fuzz import reshaped
from tests.policy_seeds import SEEDS, accepted_by_schemas

POLICIES: Mapping[str, Mapping[str, Any]] = {seed["kind"]: seed for seed in SEEDS}
SELECTOR = {"matchLabels": {"app": "web"}}
LONG = "a" * 254


@pytest.mark.parametrize("kind", POLICIES)
def test_a_policy_with_everything_its_api_has_is_accepted(kind: str) -> None:
    assert validity.of_policy(POLICIES[kind], kind) == []


def changed(kind: str, path: str, value: Any) -> Any:
    """Return a policy with another value somewhere; a dict is merged, `...` deletes."""
    policy = copy.deepcopy(POLICIES[kind])
    holder: Any = policy
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        holder = holder[step]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return policy


NETWORK_REFUSED = [
    ("spec.podselector", {}, "spec.podselector is not a field of this API"),
    ("spec.podSelector", {"matchlabels": {}}, "spec.podSelector.matchlabels is not a field"),
    ("spec.ingress.0.from.0", {}, "spec.ingress[0].from[0] is empty"),
    ("spec.ingress.0.from.0", {"podSelector": None}, "spec.ingress[0].from[0] is empty"),
    ("spec.ingress.0.from.0", None, "spec.ingress[0].from[0] is null, not an object"),
    ("spec.ingress.0.from.1.podSelector", {}, "a peer with an ipBlock has no selector"),
    ("spec.ingress.0.from.1.namespaceSelector", {}, "a peer with an ipBlock has no selector"),
    ("spec.ingress.0.from.1.ipBlock.cidr", "10.0.0.0", "cidr is no CIDR"),
    ("spec.ingress.0.from.1.ipBlock.cidr", "10.0.0.0/33", "cidr is no CIDR"),
    ("spec.ingress.0.from.1.ipBlock.cidr", "10.0.0.0/255.0.0.0", "cidr is no CIDR"),
    ("spec.ingress.0.from.1.ipBlock.cidr", ..., "ipBlock.cidr is missing"),
    ("spec.ingress.0.from.1.ipBlock.except", ["x"], "except holds what is no CIDR"),
    ("spec.ingress.0.from.1.ipBlock.except", ["192.168.0.0/16"], "not a part of cidr"),
    ("spec.ingress.0.from.1.ipBlock.except", ["10.0.0.0/8"], "not a part of cidr"),
    ("spec.ingress.0.from.1.ipBlock.except", ["0.0.0.0/0"], "not a part of cidr"),
    ("spec.ingress.0.from.1.ipBlock.except", ["fd00::/64"], "not a part of cidr"),
    ("spec.ingress.0.ports.0.port", "80", "port is '80', not a port's name"),
    ("spec.ingress.0.ports.0.port", "HTTP", "not a port's name"),
    ("spec.ingress.0.ports.0.port", "a--b", "not a port's name"),
    ("spec.ingress.0.ports.0.port", "a-name-that-is-too-long", "not a port's name"),
    ("spec.ingress.0.ports.0.port", 0, "port is 0, less than 1"),
    ("spec.ingress.0.ports.0.port", 65536, "port is 65536, more than 65535"),
    ("spec.ingress.0.ports.0.port", 80.5, "port is 80.5, which it cannot be"),
    ("spec.ingress.0.ports.0.protocol", "tcp", "protocol is 'tcp', not TCP, UDP or SCTP"),
    ("spec.ingress.0.ports.0.protocol", "ICMP", "protocol is 'ICMP', not TCP, UDP or SCTP"),
    ("spec.ingress.0.ports.1.port", ..., "ports[1].port is missing"),
    ("spec.ingress.0.ports.1.port", "http", "endPort needs a port that is a number"),
    ("spec.ingress.0.ports.1.endPort", 7999, "endPort is below port"),
    ("spec.ingress.0.ports.1.endPort", 70000, "endPort is 70000, more than 65535"),
    ("spec.policyTypes", ["ingress"], "policyTypes[0] is 'ingress', not Ingress or Egress"),
    ("spec.policyTypes", ["Ingress", "Egress", "Egress"], "has 3 members, and may have 2"),
    ("spec.podSelector.matchExpressions.0.values", [], "values is an empty list"),
    ("spec.podSelector.matchExpressions.0.values", ..., "matchExpressions[0].values is missing"),
    ("spec.podSelector.matchExpressions.0.operator", "in", "operator is 'in', not In, NotIn"),
    (
        "spec.podSelector.matchExpressions.0.operator",
        "Exists",
        "values has 2 members, and may have 0",
    ),
    ("spec.podSelector.matchExpressions.0.key", "-a", "key is '-a', not a label's key"),
    ("spec.podSelector.matchLabels", {"a": True}, "matchLabels.a is true, not a string"),
    ("spec.podSelector.matchLabels", {"a": "b c"}, "matchLabels.a is 'b c', not a label's value"),
    ("spec.podSelector.matchLabels", {"a/b/c": "b"}, "not a label's key"),
    ("spec.podSelector.matchLabels", {"a": "b" * 64}, "not a label's value"),
    ("metadata.name", "Web", "metadata.name is 'Web', not a DNS subdomain"),
    ("metadata.name", LONG, "not a DNS subdomain"),
    ("metadata.namespace", "a.b", "metadata.namespace is 'a.b', not a DNS label"),
    ("metadata.labels", {"a": 1}, "metadata.labels.a is 1, not a string"),
    ("metadata.label", {}, "metadata.label is not a field of this API"),
    ("spec", [], "spec is a list, not an object"),
    ("specs", {}, "specs is not a field of this API"),
]


@pytest.mark.parametrize(("path", "value", "said"), NETWORK_REFUSED)
def test_a_network_policy_that_a_server_refuses_is_refused(
    path: str, value: Any, said: str
) -> None:
    policy = changed("NetworkPolicy", path, value)
    assert said in "; ".join(map(str, validity.of_policy(policy, "NetworkPolicy")))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec", ...),
        ("spec", {}),
        ("spec.podSelector", None),
        ("spec.ingress", None),
        ("spec.ingress", []),
        ("spec.ingress.0.from", []),
        ("spec.ingress.0.from.0.podSelector", None),
        ("spec.ingress.0.from.1.ipBlock.cidr", "10.1.2.3/8"),
        ("spec.ingress.0.ports.0.port", None),
        ("spec.ingress.0.ports.1.endPort", 8000),
        ("spec.policyTypes", []),
        ("status", {}),
        ("metadata.annotations", {"Example.com/Note": "x"}),
    ],
)
def test_what_a_server_accepts_is_accepted(path: str, value: Any) -> None:
    assert validity.of_policy(changed("NetworkPolicy", path, value), "NetworkPolicy") == []


ANP, BANP, CNP = "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"
EF = "EgressFirewall"


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        (ANP, "spec.priority", 1001, "priority is 1001, more than 1000"),
        (ANP, "spec.priority", -1, "priority is -1, less than 0"),
        (ANP, "spec.priority", "10", "priority is '10', not an integer"),
        (ANP, "spec.priority", ..., "spec.priority is missing"),
        (ANP, "spec.subject", {}, "subject is empty"),
        (ANP, "spec.subject.pods", {"podSelector": {}, "namespaceSelector": {}}, "may have 1"),
        (ANP, "spec.subject", {"pods": {"podSelector": {}}}, "pods.namespaceSelector is missing"),
        (ANP, "spec.egress.0.action", "Accept", "is 'Accept', not Allow, Deny or Pass"),
        (ANP, "spec.egress.0.action", "deny", "is 'deny', not Allow, Deny or Pass"),
        (ANP, "spec.egress.0.to", [], "to is an empty list"),
        (ANP, "spec.egress.0.to", ..., "to is missing"),
        (ANP, "spec.egress.0.to.0", {"newThing": {}}, "newThing is not a field of this API"),
        (ANP, "spec.egress.0.to.0", {}, "to[0] is empty"),
        (ANP, "spec.egress.0.to.0.networks", ["10.0.0.0"], "this is no CIDR"),
        (ANP, "spec.egress.0.to.0.networks", ["10.0.0.0/8"] * 2, "has a member twice"),
        (ANP, "spec.egress.0.to.2.domainNames", ["a b"], "not a domain name"),
        (ANP, "spec.egress.0.ports", [{"namedPort": "dns"}], "have no named ports"),
        (ANP, "spec.egress.0.ports", [], "ports is an empty list"),
        (ANP, "spec.egress.0.ports.0.portNumber.port", 0, "port is 0, less than 1"),
        (ANP, "spec.egress.0.ports.0.namedPort", "dns", "may have 1 of them"),
        (ANP, "spec.ingress.0.name", "x" * 101, "name has more than 100 characters"),
        (ANP, "spec.ingress.0.from.0.networks", ["10.0.0.0/8"], "networks is not a field"),
        (BANP, "metadata.name", "other", "has the name default"),
        (BANP, "spec.priority", 3, "spec.priority is not a field of this API"),
        (BANP, "spec.egress.0.action", "Pass", "is 'Pass', not Allow or Deny"),
        (BANP, "spec.egress.0.to.0", {"domainNames": ["a.b"]}, "domainNames is not a field"),
        (CNP, "spec.tier", "admin", "tier is 'admin', not Admin or Baseline"),
        (CNP, "spec.tier", ..., "spec.tier is missing"),
        (CNP, "spec.egress.0.action", "Allow", "is 'Allow', not Accept, Deny or Pass"),
        (CNP, "spec.egress.0.protocols.0", {"icmp": {}}, "icmp is not a field of this API"),
        (CNP, "spec.egress.0.protocols.0", {"tcp": {}}, "tcp is empty"),
        (CNP, "spec.egress.0.protocols.1.udp.destinationPort.range.end", 8000, "not below end"),
        (CNP, "spec.egress.0.protocols.0", {"destinationNamedPort": "x"}, "have no named ports"),
        (EF, "metadata.name", "other", "metadata.name is 'other', not 'default'"),
        (EF, "spec.egress.0.to", {}, "to is empty"),
        (EF, "spec.egress.0.to.dnsName", "a.b", "may have 1 of them"),
        (EF, "spec.egress.0.type", "allow", "type is 'allow', not Allow or Deny"),
        (EF, "spec.egress.0.ports.0.protocol", ..., "protocol is missing"),
        (EF, "spec.egress", ..., "spec.egress is missing"),
    ],
)
def test_a_policy_that_its_crd_refuses_is_refused(
    kind: str, path: str, value: Any, said: str
) -> None:
    policy = changed(kind, path, value)
    assert said in "; ".join(map(str, validity.of_policy(policy, kind)))


def test_a_default_of_the_api_need_not_be_written() -> None:
    policy = changed(ANP, "spec.egress.0.ports.1.portRange.protocol", ...)
    assert validity.of_policy(policy, ANP) == []


def test_names_and_labels_of_everything_else() -> None:
    metadata = {"name": "web_1", "labels": {"app": True}}
    found = validity.of_metadata(metadata, ("spec", "template"))
    assert sorted(map(str, found)) == [
        "spec.template.metadata.labels.app is true, not a string",
        "spec.template.metadata.name is 'web_1', not a DNS subdomain",
    ]


def test_fields_that_kubernetes_does_not_have_are_named() -> None:
    spec = {"template": {"spec": {"hostnetwork": True, "containers": [{"name": "c"}]}}}
    found = validity.unknown_fields({"metadata": {"name": "a"}, "spec": spec}, "Deployment")
    assert [fault.field for fault in found] == ["spec.template.spec.hostnetwork"]


def test_what_json_cannot_say_is_refused() -> None:
    policy = {"metadata": {"name": "a", "annotations": {"x": b"bytes"}}}
    [fault] = validity.of_policy(policy, "NetworkPolicy")
    assert str(fault).startswith("cannot be written as JSON")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed["kind"])
def test_a_mutated_policy_is_refused_or_read_and_then_valid(seed: Mapping[str, Any]) -> None:
    kind, counts = seed["kind"], Counter[str]()
    text = json.dumps(seed).encode()
    for number in range(400):
        rng = random.Random(number)  # noqa: S311 - damage, no secrets
        try:
            policy = json.loads(reshaped(text, rng))
        except (ValueError, RecursionError):
            continue
        if not isinstance(policy, dict):
            continue
        if validity.of_policy(policy, kind):
            counts["refused"] += 1
            continue
        assert accepted_by_schemas(policy, kind), policy
        try:
            policyobjects.policy(policy, kind)
        except FieldError:
            counts["without meaning"] += 1
        else:
            counts["read"] += 1
    assert counts["read"] > 20
    assert counts["refused"] > 100
