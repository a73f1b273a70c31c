"""Policies of a cluster that keep no rules are read, noted, or said to have no known meaning."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from audit.facts import kube, objects, policylists, policyobjects, validity
from audit.facts.documents import documents
from audit.model.facts import ClusterState, Policy
from audit.model.findings import Severity, severity_of_note
from audit.model.packets import Family
from audit.model.portspace import NO_SPACE
from audit.model.verdicts import VERDICTS, Verdict
from audit.policy.intent import evaluate
from audit.scope import matrix, ports
from audit.scope.ports import parse
from tests.conftest import REPOSITORY

ANNOTATION = "k8s.v1.cni.cncf.io/policy-for"
VERSIONS = {
    "NetworkPolicy": "networking.k8s.io/v1",
    "MultiNetworkPolicy": "k8s.cni.cncf.io/v1beta1",
    "EgressFirewall": "k8s.ovn.org/v1",
}
RECORDED = [
    REPOSITORY / "examples" / "interconnect.tar.gz",
    *sorted((REPOSITORY / "tests" / "data").glob("*-*.tar.xz")),
]


@pytest.mark.parametrize("archive", RECORDED, ids=lambda path: path.name)
def test_what_a_real_api_server_accepted_is_accepted(archive: Path) -> None:
    checked = 0
    with tarfile.open(archive) as members:
        for member in members:
            kind = kube.POLICY_RESOURCES.get(Path(member.name).stem)
            if kind is None:
                continue
            content = members.extractfile(member)
            assert content is not None
            for item in json.load(content)["items"] or ():
                assert validity.of_policy(item, kind) == []
                checked += 1
    assert checked


SPECS: list[dict[str, Any]] = [
    {"podSelector": {}},
    {"podSelector": {}, "policyTypes": ["Egress"]},
    {"podSelector": {"matchLabels": {"app": "a"}}, "egress": [{"ports": [{"port": 53}]}]},
    {"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]},
    {"podSelector": {}, "policyTypes": ["Sideways"]},
    {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Within"}]}},
    {},
]
METADATA: list[dict[str, Any]] = [
    {"name": "p", "namespace": "shop"},
    {"name": "p", "namespace": "bank", "labels": {"app": "web"}, "uid": "1"},
    {"name": "P", "namespace": "shop"},
    {
        "name": "p",
        "namespace": "shop",
        "labels": {"app": "-"},
        "annotations": {ANNOTATION: "b/c,d"},
    },
    {"name": "default", "namespace": "shop", "annotations": {ANNOTATION: "e"}},
]


@pytest.mark.parametrize("kind", ["NetworkPolicy", "MultiNetworkPolicy", "EgressFirewall"])
@pytest.mark.parametrize("step", [1, -1])
def test_alike_policies_that_are_read_once_are_read_as_each_alone(kind: str, step: int) -> None:
    together = policylists.Listed()
    besides: tuple[dict[str, Any], ...] = ({}, {"status": {}}, {"stray": 1})
    items = [
        {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec, **more}
        for version in (VERSIONS[kind], "")
        for spec in SPECS
        for metadata in METADATA
        for more in besides
    ]
    for item in items[::step]:
        alone = policylists.Listed()
        together.notes, together.unread = [], []
        assert_same(together.take(item, kind), alone.take(item, kind))
        assert (together.notes, together.unread) == (alone.notes, alone.unread)


def assert_same(one: Policy | None, other: Policy | None) -> None:
    assert one is not None
    assert other is not None
    assert replace(one, text=one.manifest) == replace(other, text=other.manifest)


@pytest.mark.parametrize("archive", RECORDED, ids=lambda path: path.name)
def test_recorded_policies_are_read_as_each_alone(archive: Path, tmp_path: Path) -> None:
    for policy in objects.load_snapshot(archive, tmp_path).policies:
        [item] = documents(policy.manifest)
        assert_same(policy, policyobjects.policy(item, policy.ref.kind))


def load(cluster: Path, tmp_path: Path) -> ClusterState:
    return objects.load_snapshot(cluster, tmp_path / "work")


def add(cluster: Path, resource: str, policy: dict[str, Any]) -> None:
    file = cluster / "kube" / f"{resource}.json"
    listed = json.loads(file.read_text())
    listed["items"].append(policy)
    file.write_text(json.dumps(listed))


def network(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "odd", "namespace": "default"}, "spec": spec}


def admin(**rule: Any) -> dict[str, Any]:
    deny = {"action": "Deny", "to": [{"namespaces": {}}], **rule}
    spec = {"priority": 5, "subject": {"namespaces": {}}, "egress": [deny]}
    return {"metadata": {"name": "odd"}, "spec": spec}


def test_a_field_of_a_newer_api_is_noted_and_lets_nobody_in(cluster: Path, tmp_path: Path) -> None:
    rule: dict[str, Any] = {"from": [{"services": {}}]}
    add(cluster, "networkpolicies", network(podSelector={}, ingress=[rule]))
    state = load(cluster, tmp_path)
    [note] = [note for note in state.notes if note.code == "policy-not-valid"]
    assert note.text == (
        "networkpolicy default/odd is in the cluster, and no API server known here would accept "
        "it: spec.ingress[0].from[0].services is not a field of this API; what is known of it is "
        "read"
    )
    [policy] = [policy for policy in state.policies if policy.ref.name == "odd"]
    assert policy.spec is not None
    assert [rule.peers for rule in policy.spec.rules] == [()]
    assert state.unread_policies == ()


@pytest.mark.parametrize(
    ("resource", "policy", "said"),
    [
        (
            "networkpolicies",
            network(ingress=[{"from": [{"ipBlock": {"cidr": "x"}}]}]),
            (
                "networkpolicy default/odd has no meaning that is known: "
                "spec.ingress[0].from[0].ipBlock.cidr is 'x', not a CIDR"
            ),
        ),
        (
            "adminnetworkpolicies",
            admin(ports=[{"portNumber": {"port": 80, "protocol": "tcp"}}]),
            (
                "adminnetworkpolicy odd has no meaning that is known: "
                "spec.egress[0].ports has a protocol that is not known here"
            ),
        ),
    ],
)
def test_without_a_known_meaning_nothing_is_said_of_what_the_objects_mean(
    cluster: Path, tmp_path: Path, resource: str, policy: dict[str, Any], said: str
) -> None:
    add(cluster, resource, policy)
    state = load(cluster, tmp_path)
    [note] = [note for note in state.notes if note.code == "policy-without-meaning"]
    assert (note.text, severity_of_note(note.code)) == (said, Severity.WARNING)
    assert state.unread_policies == note.subjects
    [kept] = [policy for policy in state.policies if policy.ref.name == "odd"]
    assert kept.spec is None
    assert "name: odd" in kept.manifest


def test_another_apis_policies_are_not_read_as_kubernetes_own(
    cluster: Path, tmp_path: Path
) -> None:
    known = len(load(cluster, tmp_path).policies)
    add(cluster, "networkpolicies", {"apiVersion": "projectcalico.org/v3", **network()})
    state = load(cluster, tmp_path)
    assert len(state.policies) == known
    assert "objects of other kinds were passed over: NetworkPolicy of projectcalico.org/v3 (1)" in [
        note.text for note in state.notes
    ]


def test_a_list_in_utf_16_is_read(cluster: Path, tmp_path: Path) -> None:
    expected = load(cluster, tmp_path).pods
    file = cluster / "kube" / "pods.json"
    file.write_text(file.read_text(), encoding="utf-16")
    assert load(cluster, tmp_path).pods == expected


@pytest.mark.parametrize("action", ["allow", "deny"])
def test_an_admin_policy_with_a_peer_of_a_newer_api_lets_nothing_pass(
    cluster: Path, tmp_path: Path, action: str
) -> None:
    """What manifests are refused for, a newer server may have let in: v1alpha1 says what it means.

    "If a consumer observes none of its fields are set, they must assume an unknown option has been
    specified and fail closed."
    """
    file = REPOSITORY / "tests" / "data" / "manifests" / f"anp-unknown-peer-key-{action}.yaml"
    for item in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        if item["kind"] == "AdminNetworkPolicy":
            only(cluster, "adminnetworkpolicies", item)
        elif item["kind"] == "NetworkPolicy":
            metadata = {**item["metadata"], "namespace": "default"}
            only(cluster, "networkpolicies", {**item, "metadata": metadata})
    state = load(cluster, tmp_path)
    pods = tuple(pod for pod in state.pods if pod.namespace == "default" and not pod.host_network)
    everyone = np.arange(len(pods), dtype=np.int32)
    built = matrix.build(
        pods,
        (matrix.Block(sources=everyone, destinations=everyone),),
        ports.resolve((parse("tcp/80"),), pods, everyone.tolist(), NO_SPACE),
        (Family.IP4,),
    )
    said = evaluate(built.matrix, state)
    assert {VERDICTS[code] for code in said.verdict.tolist()} == {Verdict.BLOCKED}
    assert "policy-not-valid" in {note.code for note in state.notes}


def only(cluster: Path, resource: str, policy: dict[str, Any]) -> None:
    """Put a policy in the place of all that a cluster has of its kind."""
    file = cluster / "kube" / f"{resource}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "items": [policy]}))
