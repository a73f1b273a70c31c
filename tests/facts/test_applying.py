"""What policies and labels of a file make of a cluster that is recorded."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml

from audit.errors import UsageError
from audit.facts import applying, policyobjects
from audit.facts.applying import Change
from audit.model.facts import ClusterState, Note, Policy
from audit.model.verdicts import PolicyRef

REF = PolicyRef(kind="NetworkPolicy", namespace="shop", name="old")


def policy(name: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"podSelector": {}, **spec},
    }


def read(name: str, **spec: object) -> Policy:
    return policyobjects.policy(policy(name, **spec), "NetworkPolicy")


@pytest.fixture
def state() -> ClusterState:
    """Return a cluster with two policies, of one of which nothing is known."""
    unclear = Note(code="policy-without-meaning", text="…", subjects=("networkpolicy shop/odd",))
    return ClusterState(
        source="s",
        pods=(),
        nodes=(),
        services=(),
        namespaces=MappingProxyType({"shop": (("team", "a"), ("tier", "x"))}),
        policies=(replace(read("odd"), spec=None), read("old")),
        zones=MappingProxyType({}),
        notes=(unclear,),
        inputs=(),
        unread_policies=("networkpolicy shop/odd",),
    )


def changed(state: ClusterState, directory: Path, *objects: object) -> ClusterState:
    (directory / "change.yaml").write_text(yaml.safe_dump_all(objects))
    return applying.changed(state, Change(applied=(str(directory / "change.yaml"),)))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("networkpolicy/shop/old", "NetworkPolicy"),
        ("NetworkPolicy/shop/old", "NetworkPolicy"),
        ("networkpolicies/shop/old", "NetworkPolicy"),
        ("netpol/shop/old", "NetworkPolicy"),
        ("multi-networkpolicies/shop/old", "MultiNetworkPolicy"),
        ("egressfirewall/shop/old", "EgressFirewall"),
    ],
)
def test_a_policy_is_named_as_kubectl_names_it(text: str, kind: str) -> None:
    assert applying.policy_named(text) == replace(REF, kind=kind)


@pytest.mark.parametrize("text", ["anp/x", "adminnetworkpolicies/x", "AdminNetworkPolicy/x"])
def test_a_cluster_wide_policy_has_no_namespace(text: str) -> None:
    ref = PolicyRef(kind="AdminNetworkPolicy", namespace="", name="x")
    assert applying.policy_named(text) == ref


@pytest.mark.parametrize("text", ["", "netpol", "netpol/", "netpol//x", "netpol/a/b/c", "anp/a/b"])
def test_what_names_no_policy_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        applying.policy_named(text)


def test_labels_are_added_and_those_that_others_set_stay(
    state: ClusterState, tmp_path: Path
) -> None:
    labels = {"team": "b", "new": "y"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    space["metadata"]["labels"] = labels  # type: ignore[index]
    after = changed(state, tmp_path, space)
    assert dict(after.namespaces["shop"]) == {
        **labels,
        "tier": "x",
        "kubernetes.io/metadata.name": "shop",
    }
    assert after.policies == state.policies
    assert after.notes[-1].subjects == ("namespace shop",)


def test_a_namespace_that_is_only_mentioned_stays_as_it_is(
    state: ClusterState, tmp_path: Path
) -> None:
    assert changed(state, tmp_path, policy("new")).namespaces == state.namespaces


def test_what_was_not_understood_of_a_policy_goes_with_it(
    state: ClusterState, tmp_path: Path
) -> None:
    after = changed(state, tmp_path, policy("odd", policyTypes=["Egress"]))
    assert after.unread_policies == ()
    assert [note.code for note in after.notes] == ["applied"]
    assert [p.ref.name for p in after.policies] == ["odd", "old"]
    assert all(p.spec is not None for p in after.policies)
    kept = applying.changed(state, Change(deleted=(REF,)))
    assert kept.unread_policies == state.unread_policies
    assert [p.ref.name for p in kept.policies] == ["odd"]


def test_the_note_counts_what_was_done(state: ClusterState, tmp_path: Path) -> None:
    after = changed(state, tmp_path, policy("new"), policy("old", policyTypes=["Egress"]))
    [note] = [note for note in after.notes if note.code == "applied"]
    assert "not as it is: 1 added, 1 replaced; only policies" in note.text
    assert note.subjects == ("networkpolicy shop/new", "networkpolicy shop/old")
    assert [made.path.rsplit("/", 1)[-1] for made in after.inputs] == ["change.yaml"]
