"""Who owns a row: real rows of recorded clusters, and the formats those do not have."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audit.facts.identity import Identity, identify
from audit.model.verdicts import PolicyRef
from audit.replay.toolchain import Toolchain

WEB = PolicyRef(kind="NetworkPolicy", namespace="default", name="web-allow-prod")
DEFAULT = "default-network-controller"
BLUE = "tenant_blue-network-controller"


def row(owner_type: str, name: str, controller: str = DEFAULT, **keys: str) -> dict[str, str]:
    """Return external ids as OVN-Kubernetes writes them since 2023."""
    values = ":".join(keys.values())
    return {
        "k8s.ovn.org/owner-controller": controller,
        "k8s.ovn.org/owner-type": owner_type,
        "k8s.ovn.org/id": f"{controller}:{owner_type}:{name}:{values}".rstrip(":"),
        "k8s.ovn.org/name": name,
        **{key.replace("_", "-"): value for key, value in keys.items()},
    }


def policy(kind: str, name: str, namespace: str = "") -> PolicyRef:
    return PolicyRef(kind=kind, namespace=namespace, name=name)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        pytest.param(
            row(
                "NetworkPolicy",
                "default:web-allow-prod",
                direction="Ingress",
                gress_index="0",
                port_policy_protocol="None",
                ip_block_index="-1",
            ),
            (WEB, "ingress", 0),
            id="a rule of a NetworkPolicy",
        ),
        pytest.param(
            row(
                "NetworkPolicy",
                "deny-out:allow-cidr",
                direction="Egress",
                gress_index="12",
                port_policy_index="1",
                ip_block_index="0",
            ),
            (policy("NetworkPolicy", "allow-cidr", "deny-out"), "egress", 12),
            id="the keys of 2023-04",
        ),
        pytest.param(
            row("NetworkPolicy", "default:web-allow-prod"), (WEB, "", -1), id="its port group"
        ),
        pytest.param(
            row(
                "AdminNetworkPolicy",
                "anp-tenants",
                direction="Egress",
                gress_index="3",
                port_policy_protocol="udp",
            ),
            (policy("AdminNetworkPolicy", "anp-tenants"), "egress", 3),
            id="AdminNetworkPolicy",
        ),
        pytest.param(
            row(
                "BaselineAdminNetworkPolicy",
                "default",
                direction="Ingress",
                gress_index="0",
                port_policy_protocol="tcp-namedPort",
            ),
            (policy("BaselineAdminNetworkPolicy", "default"), "ingress", 0),
            id="BaselineAdminNetworkPolicy",
        ),
        pytest.param(
            row("EgressFirewall", "fw", rule_index="2"),
            (policy("EgressFirewall", "default", "fw"), "egress", 2),
            id="EgressFirewall",
        ),
        pytest.param(
            row("ClusterNetworkConnect", "join-blue", BLUE, type="drop-pod"),
            (policy("ClusterNetworkConnect", "join-blue"), "", -1),
            id="ClusterNetworkConnect",
        ),
    ],
)
def test_a_row_names_its_policy(ids: dict[str, str], expected: tuple[PolicyRef, str, int]) -> None:
    found = identify(ids)
    assert (found.policy, found.direction, found.rule) == expected
    assert found.owner_type == ids["k8s.ovn.org/owner-type"]
    assert found.owner == ids["k8s.ovn.org/id"]
    assert found.namespace_default == ""


@pytest.mark.parametrize(
    ("ids", "direction", "namespace"),
    [
        (row("NetpolNamespace", "shop", direction="Egress", type="defaultDeny"), "egress", "shop"),
        (row("NetpolNamespace", "shop", direction="Ingress"), "ingress", "shop"),  # port group
        (row("NetpolNamespace", "shop", direction="Egress", type="arpAllow"), "egress", ""),
        (row("NetpolNamespace", "shop", direction="Egress", type="icmpAllow"), "egress", ""),
        (row("NetpolDefault", "allow-hairpinning", direction="Ingress"), "ingress", ""),
        (row("NetpolNode", "ovn-worker", ip="fd01:0:0:2::2"), "", ""),
        (row("MulticastNS", "shop", direction="Egress"), "egress", ""),
        (row("MulticastCluster", "", type="DefaultDeny", direction="Ingress"), "ingress", ""),
        (row("UDNIsolation", "DenyPrimaryUDN", direction="Ingress"), "ingress", ""),
        (row("UDNIsolation", "OpenPort-shop/db-0", direction="Egress"), "egress", ""),
        (row("AdvertisedNetwork", "advertised-network-subnets", network="0"), "", ""),
        (row("Namespace", "shop"), "", ""),
        (row("Cluster", "clusterPortGroup"), "", ""),
        (row("ClusterNetworkPolicyOfTheFuture", "x", direction="Egress"), "egress", ""),
    ],
    ids=lambda value: value["k8s.ovn.org/id"] if isinstance(value, dict) else None,
)
def test_a_row_without_one_policy_keeps_its_id(
    ids: dict[str, str], direction: str, namespace: str
) -> None:
    assert identify(ids) == Identity(
        owner_type=ids["k8s.ovn.org/owner-type"],
        owner=ids["k8s.ovn.org/id"],
        direction=direction,
        namespace_default=namespace,
    )


def test_ids_are_never_split_as_addresses_hold_the_separator() -> None:
    ids = row("NetpolNode", "ovn-worker", ip="fd01:0:0:2::2")
    assert identify(ids).owner.endswith(":ovn-worker:fd01:0:0:2::2")


def test_an_acls_name_is_no_identity_as_it_is_cut_at_63_characters() -> None:
    name = "payments-and-settlements-eu-central:allow-from-the-reconciliation-batch"
    ids = row("NetworkPolicy", name, direction="Ingress", gress_index="10")
    found = identify(ids, name=f"NP:{name}:Ingress:10"[:63])
    assert str(found.policy) == f"networkpolicy {name.replace(':', '/')}"
    assert found.rule == 10


@pytest.mark.parametrize(
    ("controller", "primary", "kind"),
    [
        (DEFAULT, (), "NetworkPolicy"),
        (BLUE, (), "MultiNetworkPolicy"),
        (BLUE, ("tenant_red",), "MultiNetworkPolicy"),
        (BLUE, ("tenant_blue",), "NetworkPolicy"),
    ],
)
def test_the_role_of_a_network_tells_what_its_policies_are(
    controller: str, primary: tuple[str, ...], kind: str
) -> None:
    ids = row("NetworkPolicy", "tenant:web", controller, direction="Ingress", gress_index="0")
    assert identify(ids, primary_networks=primary).policy == policy(kind, "web", "tenant")


@pytest.mark.parametrize(
    "ids",
    [
        {"k8s.ovn.org/owner-type": "NetworkPolicy"},
        row("NetworkPolicy", "a name without its namespace"),
        row("NetworkPolicy", ""),
    ],
)
def test_a_row_that_names_no_object_gets_none(ids: dict[str, str]) -> None:
    assert identify(ids).policy is None


@pytest.mark.parametrize("index", ["", "-1", "None", "²"])
def test_an_index_that_is_no_number_is_no_rule(index: str) -> None:
    ids = row("NetworkPolicy", "a:b", direction="Ingress", gress_index=index)
    assert identify(ids).rule == -1


@pytest.mark.parametrize(
    ("ids", "name", "priority", "expected"),
    [
        pytest.param(
            {
                "namespace": "default",
                "policy": "web-allow-prod",
                "policy_type": "Egress",
                "Egress_num": "4",
                "l4Match": "None",
                "ipblock_cidr": "false",
            },
            "default_web-allow-prod_4",
            1001,
            Identity(
                owner_type="NetworkPolicy",
                owner="default_web-allow-prod_4",
                policy=WEB,
                direction="egress",
                rule=4,
            ),
            id="a rule",
        ),
        pytest.param(
            {"default-deny-policy-type": "Ingress"},
            "shop_ingressDefaultDeny",
            1000,
            Identity(
                owner_type="NetpolNamespace",
                owner="shop_ingressDefaultDeny",
                direction="ingress",
                namespace_default="shop",
            ),
            id="default deny",
        ),
        pytest.param(
            {"default-deny-policy-type": "Egress"},
            "n" * 63,
            1000,
            Identity(
                owner_type="NetpolNamespace",
                owner="n" * 63,
                direction="egress",
                namespace_default="n" * 63,
            ),
            id="default deny of a namespace that fills the name",
        ),
        pytest.param(
            {"default-deny-policy-type": "Ingress"},
            "shop_MulticastAllowIngress",
            1012,
            Identity(
                owner_type="MulticastNS", owner="shop_MulticastAllowIngress", direction="ingress"
            ),
            id="multicast has the same key",
        ),
        pytest.param(
            {"egressFirewall": "fw"},
            "",
            9997,
            Identity(
                owner_type="EgressFirewall",
                owner="egressFirewall=fw",
                policy=policy("EgressFirewall", "default", "fw"),
                direction="egress",
                rule=3,
            ),
            id="egress firewall",
        ),
        pytest.param(
            {"name": "default_web-allow-prod"},
            "",
            0,
            Identity(owner_type="NetworkPolicy", owner="default_web-allow-prod", policy=WEB),
            id="port group of a policy",
        ),
        pytest.param(
            {"name": "a10032393000158346610_egressDefaultDeny"},
            "",
            0,
            Identity(owner_type="", owner=""),
            id="port group of a default deny",
        ),
        pytest.param(
            {"name": "clusterPortGroup"}, "", 0, Identity(owner_type="", owner=""), id="cluster"
        ),
        pytest.param({}, "", 1001, Identity(owner_type="", owner=""), id="allow from the node"),
    ],
)
def test_rows_from_before_2023(
    ids: dict[str, str], name: str, priority: int, expected: Identity
) -> None:
    assert identify(ids, name=name, priority=priority) == expected


def test_every_recorded_acl_agrees_with_its_name(recorded: Path, toolchain: Toolchain) -> None:
    """OVN-Kubernetes says the same twice: `NP:<namespace>:<policy>:<direction>:<rule>`."""
    kinds = {
        "NP": "NetworkPolicy",
        "ANP": "AdminNetworkPolicy",
        "BANP": "BaselineAdminNetworkPolicy",
        "EF": "EgressFirewall",
    }
    named = 0
    for database in recorded.glob("ovn/*/nb.db"):
        for acl in _select(toolchain, database, "ACL"):
            ids = dict(acl["external_ids"][1])
            owner = identify(ids, name=str(acl["name"]), priority=acl["priority"])
            assert owner.owner == ids["k8s.ovn.org/id"]
            if acl["name"] == ["set", []]:
                assert owner.policy is None
                continue
            prefix, *parts = acl["name"].split(":")
            named += 1
            match prefix, parts:
                case "NP", [namespace, direction]:
                    assert owner.policy is None
                    assert owner.direction == direction.lower()
                    assert owner.namespace_default == (namespace if acl["action"] == "drop" else "")
                case _, [*names, _, index] if prefix != "EF":
                    ref = policy(kinds[prefix], names[-1], "".join(names[:-1]))
                    assert (owner.policy, owner.rule) == (ref, int(index))
                    assert owner.direction == parts[-2].lower()
                case _, parts:
                    namespace, index = parts
                    ref = policy("EgressFirewall", "default", namespace)
                    assert (owner.policy, owner.rule) == (ref, int(index))
    assert named > 60


def test_every_recorded_policy_has_its_port_group(recorded: Path, toolchain: Toolchain) -> None:
    listed = json.loads((recorded / "kube/networkpolicies.json").read_text())["items"]
    wanted = {(p["metadata"]["namespace"], p["metadata"]["name"]) for p in listed}
    for database in recorded.glob("ovn/*/nb.db"):
        refs = [
            identify(dict(group["external_ids"][1])).policy
            for group in _select(toolchain, database, "Port_Group")
        ]
        assert wanted == {(r.namespace, r.name) for r in refs if r and r.kind == "NetworkPolicy"}


def _select(toolchain: Toolchain, database: Path, table: str) -> list[dict[str, Any]]:
    query = json.dumps(["OVN_Northbound", {"op": "select", "table": table, "where": []}])
    done = subprocess.run(
        toolchain.argv("ovsdb-tool", "query", str(database), query),
        capture_output=True,
        check=True,
        text=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)[0]["rows"]
    return rows
