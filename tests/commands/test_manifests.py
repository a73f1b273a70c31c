"""Manifests as a whole: who is there, and what is said about it, also where it is not known.

`tests/data/manifests/right.csv` was made by hand, from the API's documentation and
OVN-Kubernetes' sources.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.errors import ManifestError, SnapshotError
from audit.facts import networks
from audit.facts.manifests import Surroundings
from audit.model.facts import AddressRanges
from tests.asked import Asked

Object = Mapping[str, Any]
DATA = Path(__file__).resolve().parents[1] / "data" / "manifests"
RIGHT = list(csv.DictReader((DATA / "right.csv").read_text(encoding="utf-8").splitlines()))
MEANING = {
    "reachable": "allow",
    "exits": "allow",
    "blocked": "block",
    "unroutable": "block",
    "inconclusive": "unknown",
}


@pytest.mark.parametrize(
    "row",
    RIGHT,
    ids=lambda row: "-".join((row["file"], row["to_pod"], row["protocol"] + row["port"])),
)
def test_what_policies_mean_for_pods_that_are_not_there_yet(row: Mapping[str, str]) -> None:
    asked = Asked(DATA / row["file"], f"{row['protocol']}/{row['port']}")
    assert MEANING[asked.verdict(row["from_pod"], row["to_pod"])] == row["right"]


def deployment(name: str, space: str = "a", *, host: bool = False, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {"template": template(name, host=host), **spec},
    }


def template(name: str, *, host: bool = False) -> Object:
    containers = [{"name": "c", "image": "i"}]
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": containers, "hostNetwork": host},
    }


def namespace(name: str, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def network_policy(**spec: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "n", "namespace": "a"},
        "spec": {"podSelector": {}, **spec},
    }


def admin_policy(**spec: Any) -> Object:
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "AdminNetworkPolicy",
        "metadata": {"name": "admin"},
        "spec": {"priority": 5, "subject": {"namespaces": {}}, **spec},
    }


def ask(tmp_path: Path, *objects: Object, around: Surroundings | None = None) -> Asked:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return Asked(tmp_path, around=around)


def ingress_from(**peer: Any) -> Object:
    return network_policy(ingress=[{"from": [peer]}])


TEAM_WEB = {"matchLabels": {"team": "web"}}


@pytest.mark.parametrize("action", ["allow", "deny"])
def test_a_peer_that_the_api_does_not_have_is_refused(action: str) -> None:
    with pytest.raises(ManifestError, match=r"line \d+: .*newThing is not a field of this API"):
        Asked(DATA / f"anp-unknown-peer-key-{action}.yaml")


def test_who_says_the_labels_of_a_namespace_gets_an_answer(tmp_path: Path) -> None:
    objects = (
        deployment("cli", "b"),
        deployment("srv"),
        ingress_from(namespaceSelector=TEAM_WEB),
    )
    asked = ask(tmp_path, *objects)
    assert asked.verdict("cli-0", "srv-0") == "inconclusive"
    assert asked.reason("cli-0", "srv-0") == "policy-unknown"
    assert asked.notes["namespace-unknown"].subjects == ("a", "b")
    for labels, verdict in (({"team": "web"}, "reachable"), ({}, "blocked")):
        said = ask(tmp_path, *objects, around=Surroundings(namespaces={"b": labels}))
        assert said.verdict("cli-0", "srv-0") == verdict
    with pytest.raises(SnapshotError, match=r"has the namespace b, and its labels"):
        ask(tmp_path, *objects, namespace("b"), around=Surroundings(namespaces={"b": {}}))


def test_a_subject_that_is_perhaps_selected(tmp_path: Path) -> None:
    policy = admin_policy(
        subject={"namespaces": TEAM_WEB}, egress=[{"action": "Deny", "to": [{"namespaces": {}}]}]
    )
    objects = (deployment("cli", "b"), deployment("srv"), policy)
    assert ask(tmp_path, *objects).verdict("cli-0", "srv-0") == "inconclusive"
    known = ask(tmp_path, *objects, namespace("b", team="db"))
    assert known.verdict("cli-0", "srv-0") == "reachable"


@pytest.mark.parametrize(
    ("peer", "verdict"),
    [
        ({"namespaceSelector": {}, "podSelector": {}}, "blocked-elsewhere"),
        ({"namespaceSelector": {}}, "inconclusive"),
        ({"podSelector": {}}, "blocked-elsewhere"),
        ({"namespaceSelector": TEAM_WEB}, "inconclusive"),
        ({"ipBlock": {"cidr": "10.128.0.0/14"}}, "inconclusive"),
    ],
)
def test_hosts_as_sources(tmp_path: Path, peer: Object, verdict: str) -> None:
    """Hosts are let in only from the own node, or as the namespace that stands for them."""
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": f"172.18.0.{number}"}]},
        }
        for number, name in enumerate(("n1", "n2"), start=2)
    ]
    placed = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": space},
            "spec": {"nodeName": node, "hostNetwork": host, "containers": []},
        }
        for name, space, node, host in (
            ("host", "b", "n1", True),
            ("near", "a", "n1", False),
            ("far", "a", "n2", False),
        )
    ]
    asked = ask(tmp_path, *nodes, *placed, ingress_from(**peer))
    assert asked.verdict("host", "near") == "reachable"
    assert asked.verdict("host", "far") == verdict.removesuffix("-elsewhere")
    floating = ask(tmp_path, deployment("host", "b", host=True), *placed[1:], ingress_from(**peer))
    assert floating.verdict("host-0", "far") == "inconclusive"
    assert "node-unknown" in floating.notes


def test_the_namespace_that_stands_for_hosts(tmp_path: Path) -> None:
    objects = (
        deployment("host", "b", host=True),
        deployment("srv"),
        ingress_from(namespaceSelector={}),
    )
    assert ask(tmp_path, *objects).verdict("host-0", "srv-0") == "inconclusive"
    there = Surroundings(namespaces={"ovn-host-network": {}})
    assert ask(tmp_path, *objects, around=there).verdict("host-0", "srv-0") == "reachable"


def test_where_a_host_sends_from(tmp_path: Path) -> None:
    """From its management port, which has an address among those of pods and not the node's."""
    objects = (
        deployment("host", "b", host=True),
        deployment("srv"),
        admin_policy(egress=[]),
        ingress_from(ipBlock={"cidr": "10.128.0.0/14"}),
    )
    around = Surroundings(ranges=AddressRanges(pods=("10.128.0.0/14",)))
    assert ask(tmp_path, *objects, around=around).verdict("host-0", "srv-0") == "reachable"


@pytest.mark.parametrize(
    ("selected", "verdict"),
    [("agent", "reachable"), ("other", "inconclusive"), ("nobody", "blocked")],
)
def test_egress_to_selected_pods_reaches_the_node_they_are_on(
    tmp_path: Path, selected: str, verdict: str
) -> None:
    egress = [{"to": [{"podSelector": {"matchLabels": {"app": selected}}}]}]
    asked = ask(
        tmp_path,
        deployment("cli"),
        deployment("agent", host=True),
        deployment("other", host=True),
        network_policy(policyTypes=["Egress"], egress=egress),
    )
    assert asked.verdict("cli-0", "agent-0") == verdict


def user_defined(name: str, space: str, role: str = "Primary") -> Object:
    return {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "UserDefinedNetwork",
        "metadata": {"name": name, "namespace": space},
        "spec": {"topology": "Layer2", "layer2": {"role": role, "subnets": ["10.9.0.0/16"]}},
    }


def cluster_network(name: str, *spaces: str) -> Object:
    chosen = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(spaces)}]
    return {
        "apiVersion": "k8s.ovn.org/v1",
        "kind": "ClusterUserDefinedNetwork",
        "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {"matchExpressions": chosen},
            "network": {
                "topology": "Layer3",
                "layer3": {"role": "Primary", "subnets": [{"cidr": "10.8.0.0/16"}]},
            },
        },
    }


def labelled(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {networks.LABEL: ""}},
    }


WHO = [deployment(name, name) for name in ("red", "blue", "plain")] + [deployment("two", "red")]


def test_pods_of_different_networks_do_not_reach_each_other(tmp_path: Path) -> None:
    asked = ask(
        tmp_path,
        *(labelled(name) for name in ("red", "blue")),
        namespace("plain"),
        user_defined("net", "red"),
        user_defined("net", "blue"),
        user_defined("extra", "plain", role="Secondary"),
        *WHO,
    )
    for src, dst in (("red-0", "blue-0"), ("red-0", "plain-0"), ("plain-0", "blue-0")):
        assert asked.verdict(src, dst) == "unroutable"
        assert asked.reason(src, dst) == "other-network"
    assert asked.verdict("red-0", "two-0") == "reachable"


def test_a_network_of_several_namespaces(tmp_path: Path) -> None:
    asked = ask(
        tmp_path,
        *(labelled(name) for name in ("red", "blue")),
        namespace("plain"),
        cluster_network("shared", "red", "blue"),
        *WHO,
    )
    assert asked.verdict("red-0", "blue-0") == "reachable"
    assert asked.verdict("red-0", "plain-0") == "unroutable"


def attachment(name: str, space: str, /, **config: str) -> Object:
    whole = {"type": "ovn-k8s-cni-overlay", "name": f"{space}.{name}", **config}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": space},
        "spec": {"config": json.dumps(whole)},
    }


def test_networks_have_the_names_that_ovn_kubernetes_gives_them(tmp_path: Path) -> None:
    """A cluster's own dump has the attachments, too, that were made of the networks."""
    asked = ask(
        tmp_path,
        *(labelled(name) for name in ("red", "blue", "plain", "other")),
        user_defined("net", "red"),
        attachment("net", "red", name="red_net", role="primary"),
        cluster_network("shared", "blue", "other"),
        *(
            attachment("shared", space, name="cluster_udn_shared", role="primary")
            for space in ("blue", "other")
        ),
        attachment("own", "plain", name="by-hand", role="primary", topology="layer2"),
        *WHO,
    )
    on = {pod.name: pod.network for pod in asked.state.pods}
    assert on == {
        "red-0": "red_net",
        "two-0": "red_net",
        "blue-0": "cluster_udn_shared",
        "plain-0": "by-hand",
    }
    assert "network-unknown" not in asked.notes


def bare(name: str, space: str = "a", **annotations: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": {"app": name},
            "annotations": {key.replace("_", "/"): text for key, text in annotations.items()},
        },
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }


def test_pods_on_the_secondary_networks_that_they_ask_for(tmp_path: Path) -> None:
    asking = {"k8s.v1.cni.cncf.io_networks": "net, macvlan, none"}
    only = {**network_policy(policyTypes=["Ingress"]), "kind": "MultiNetworkPolicy"}
    only |= {
        "apiVersion": "k8s.cni.cncf.io/v1beta1",
        "metadata": {
            "name": "m",
            "namespace": "a",
            "annotations": {"k8s.v1.cni.cncf.io/policy-for": "net"},
        },
    }
    asked = ask(
        tmp_path,
        user_defined("net", "a", role="Secondary"),
        attachment("macvlan", "a", type="macvlan"),
        bare("x", **asking),
        bare("y", **asking),
        only,
    )
    assert [pod.key for pod in asked.state.pods] == [
        "pod a/x",
        "pod a/x on a_net",
        "pod a/y",
        "pod a/y on a_net",
    ]
    verdicts = {
        (src, dst): asked.between(f"pod a/{src}", f"pod a/{dst}")
        for src, dst in (("x", "y"), ("x on a_net", "y on a_net"))
    }
    assert verdicts == {
        ("x", "y"): "reachable",
        ("x on a_net", "y on a_net"): "blocked",
    }


def test_a_port_that_is_open_on_the_default_network(tmp_path: Path) -> None:
    """Only such a pod has its locked port among the ends: of others nothing is to be said."""
    opening = {"k8s.ovn.org_open-default-ports": "- {protocol: tcp, port: 80}"}
    asked = ask(
        tmp_path,
        labelled("a"),
        namespace("plain"),
        user_defined("net", "a"),
        bare("open", **opening),
        bare("shut"),
        bare("out", "plain", **opening),
    )
    assert [pod.key for pod in asked.state.pods] == [
        "pod a/open",
        "pod a/open on default",
        "pod a/shut",
        "pod plain/out",
    ]
    assert asked.between("pod plain/out", "pod a/open on default") == "reachable"
    assert asked.between("pod plain/out", "pod a/open") == "unroutable"
    assert asked.between("pod a/open on default", "pod plain/out") == "blocked"


@pytest.mark.parametrize(
    "objects",
    [
        [labelled("red")],
        [user_defined("net", "red")],
        [namespace("red"), user_defined("net", "red")],
        [labelled("red"), user_defined("one", "red"), user_defined("two", "red")],
        [
            labelled("red"),
            user_defined("net", "red"),
            {
                "apiVersion": "k8s.ovn.org/v1",
                "kind": "ClusterNetworkConnect",
                "metadata": {"name": "join"},
                "spec": {},
            },
        ],
    ],
    ids=["no network", "no label known", "no label", "two networks", "joined"],
)
def test_a_network_in_doubt(tmp_path: Path, objects: list[Object]) -> None:
    asked = ask(tmp_path, *objects, *WHO)
    for src, dst in (("red-0", "plain-0"), ("plain-0", "red-0")):
        assert asked.verdict(src, dst) == "inconclusive"
        assert asked.reason(src, dst) == "network-unknown"
    assert asked.verdict("plain-0", "blue-0") == "reachable"
    assert asked.notes["network-unknown"].subjects == ("red",)


def test_policies_within_a_network(tmp_path: Path) -> None:
    """NetworkPolicies hold there; of cluster policies OVN-Kubernetes and the objects differ."""
    objects = (labelled("a"), user_defined("net", "a"), deployment("cli"), deployment("srv"))
    only = network_policy(podSelector={"matchLabels": {"app": "srv"}}, policyTypes=["Ingress"])
    asked = ask(tmp_path, *objects, only)
    assert (asked.verdict("cli-0", "srv-0"), asked.verdict("srv-0", "cli-0")) == (
        "blocked",
        "reachable",
    )
    denying = admin_policy(ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}])
    asked = ask(tmp_path, *objects, only, denying)
    assert asked.verdict("cli-0", "srv-0") == "blocked"
    assert asked.verdict("srv-0", "cli-0") == "inconclusive"
