"""OVN's inventory beside Kubernetes': nothing where they agree, each kind of difference where not.

Recorded clusters are changed by ovsdb-tool and in their Lists, past the code under test.
"""

import json
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.facts import assemble
from audit.facts.inventory.cluster import Cluster
from audit.facts.inventory.findings import findings
from audit.facts.inventory.groups import Group
from audit.facts.inventory.policies import Policies
from audit.facts.inventory.selecting import selection
from audit.facts.inventory.stock import hash_of
from audit.facts.topology import Topology
from audit.model.facts import ClusterState, Policy
from audit.model.findings import FAILING, FindingKind
from audit.model.inventory import Difference, Stock
from audit.model.verdicts import PolicyRef, Reason
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.conftest import REPOSITORY
from tests.verdict import made

DATA = REPOSITORY / "tests" / "data"
ZONES = ("ovn-control-plane", "ovn-worker", "ovn-worker2")
Load = Callable[[Path], ClusterState]
Change = Callable[..., None]


@pytest.fixture
def load(tmp_path: Path, reader: OvsdbTool) -> Load:
    def read(path: Path) -> ClusterState:
        return assemble.load(path, tmp_path / "work", reader)

    return read


@pytest.fixture(scope="session")
def _services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("services")
    with tarfile.open(DATA / "services-egressip.tar.xz") as tar:
        extract(tar, root)
    return root


@pytest.fixture
def services(_services: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_services, tmp_path / "services"))


@pytest.fixture
def change(toolchain: Toolchain) -> Change:
    """Return what changes rows of a zone's database, those where a column has a value."""

    def transact(
        place: Path, table: str, where: Sequence[object], *, mutate: Any = None, row: Any = None
    ) -> None:
        schema = "OVN_Northbound" if place.name == "nb.db" else "OVN_Southbound"
        operation: dict[str, Any] = {"table": table, "where": [list(where)] if where else []}
        if mutate is not None:
            operation |= {"op": "mutate", "mutations": [mutate]}
        elif row is not None:
            operation |= {"op": "update", "row": row}
        else:
            operation |= {"op": "delete"}
        done = subprocess.run(
            toolchain.argv("ovsdb-tool", "transact", str(place), json.dumps([schema, operation])),
            capture_output=True,
            check=True,
            text=True,
        )
        [result] = json.loads(done.stdout)
        assert result["count"] > 0, result

    return transact


def edit(root: Path, resource: str, name: str, how: Callable[[dict[str, Any]], None]) -> None:
    file = root / f"kube/{resource}.json"
    content = json.loads(file.read_text())
    how(next(i for i in content["items"] if i["metadata"]["name"] == name))
    file.write_text(json.dumps(content))


def without(root: Path, resource: str, name: str) -> None:
    file = root / f"kube/{resource}.json"
    content = json.loads(file.read_text())
    kept = [item for item in content["items"] if item["metadata"]["name"] != name]
    assert len(kept) == len(content["items"]) - 1
    file.write_text(json.dumps(content | {"items": kept}))


def only(state: ClusterState, kind: FindingKind) -> Difference:
    """Return the one difference there is."""
    [found] = state.differences
    assert found.kind is kind
    return found


def has_set(name: str) -> list[object]:
    return ["name", "==", name]


def named(*owner: str) -> list[object]:
    """Return the condition for the row that OVN-Kubernetes names after an id."""
    return has_set(hash_of(":".join(("default-network-controller", *owner))))


# --- clusters as they were recorded


@pytest.mark.parametrize(
    "name",
    [
        *("ovn-23.03-central", "upgrade-before", "upgrade-after", "services-egressip"),
        *("head-observability", "head-shared", "head-shared-udn-ports"),
    ],
)
def test_a_recorded_cluster_agrees_with_its_objects(tmp_path: Path, load: Load, name: str) -> None:
    with tarfile.open(DATA / f"{name}.tar.xz") as tar:
        extract(tar, tmp_path / "cluster")
    state = load(tmp_path / "cluster")
    assert state.differences == ()
    assert Reason.POD_DIFFERS not in {pod.obstacle for pod in state.pods}
    # There was something to agree on.
    stocks = [zone.stock for zone in state.zones.values()]
    assert all(stock.groups and stock.balancers and stock.bound for stock in stocks) or (
        name == "services-egressip"
    )


def test_the_example_agrees_with_its_objects(example_snapshot: Path, load: Load) -> None:
    assert load(example_snapshot).differences == ()


def test_zones_without_the_api_servers_load_balancer_are_told(tmp_path: Path, load: Load) -> None:
    # In this cluster only ovn-worker2's databases have it: the recording was made before the rest.
    with tarfile.open(DATA / "udn-interconnect.tar.xz") as tar:
        extract(tar, tmp_path / "cluster")
    found = only(load(tmp_path / "cluster"), FindingKind.LOAD_BALANCER_DIFFERS)
    assert found.text == (
        "service default/kubernetes in 2 zones (ovn-control-plane, ovn-worker): no load balancer "
        "has tcp 172.30.0.1:443"
    )


# --- address sets


@pytest.mark.parametrize(("zone", "in_force"), [("ovn-worker", True), ("ovn-control-plane", False)])
def test_an_address_set_that_lacks_a_pod_in_one_zone(
    cluster: Path, load: Load, change: Change, zone: str, *, in_force: bool
) -> None:
    change(
        cluster / f"ovn/{zone}/nb.db",
        "Address_Set",
        named("PodSelector", "shop_LS{ML:{tier: db,},}", "v6"),
        mutate=["addresses", "delete", ["set", ["fd01:0:0:2::b"]]],
    )
    found = load(cluster).differences
    if not in_force:  # no pod of its policy is in this zone: no packet meets the set there
        assert found == ()
        return
    assert [difference.kind for difference in found] == [FindingKind.ADDRESS_SET_DIFFERS]
    text = f"(pods tier=db of namespace shop, IPv6) in zone {zone} lacks fd01:0:0:2::b of pod shop/"
    assert text in found[0].text


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("10.128.0.3", "of pod default/client-0"),
        ("10.128.1.77", "which no pod has"),
    ],
)
def test_an_address_set_with_an_address_too_much(
    cluster: Path, load: Load, change: Change, address: str, whose: str
) -> None:
    for zone in ZONES:
        change(
            cluster / f"ovn/{zone}/nb.db",
            "Address_Set",
            named("Namespace", "prod", "v4"),
            mutate=["addresses", "insert", ["set", [address]]],
        )
    found = only(load(cluster), FindingKind.ADDRESS_SET_DIFFERS)
    assert "(all pods of namespace prod, IPv4) in 3 zones" in found.text
    assert f"has too much {address}" in found.text
    assert whose.split(" pod ", maxsplit=1)[0] in found.text
    assert found.zones == ZONES


def test_an_admin_policys_address_set_that_lacks_a_pod(
    cluster: Path, load: Load, change: Change
) -> None:
    change(
        cluster / "ovn/ovn-control-plane/nb.db",
        "Address_Set",
        named("AdminNetworkPolicy", "anp-tenants", "Ingress", "1", "v4"),
        mutate=["addresses", "delete", ["set", ["10.128.0.14"]]],
    )
    found = only(load(cluster), FindingKind.ADDRESS_SET_DIFFERS)
    assert "the peers of adminnetworkpolicy anp-tenants ingress[1], IPv4" in found.text
    assert "lacks 10.128.0.14 of pod tenant-b/" in found.text


def test_a_completed_pods_address_is_said_to_be_one(
    cluster: Path, load: Load, change: Change
) -> None:
    change(
        cluster / "ovn/ovn-worker/nb.db",
        "Address_Set",
        named("Namespace", "prod", "v4"),
        mutate=["addresses", "insert", ["set", ["10.129.0.250"]]],
    )

    def complete(pod: dict[str, Any]) -> None:
        pod["status"] |= {"phase": "Succeeded", "podIPs": [{"ip": "10.129.0.250"}]}

    pods = json.loads((cluster / "kube/pods.json").read_text())["items"]
    name = next(p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Succeeded")
    edit(cluster, "pods", name, complete)
    found = only(load(cluster), FindingKind.ADDRESS_SET_DIFFERS)
    assert f"{name} has" in found.text
    assert "an address that completed pod" in found.text


def test_an_address_set_that_is_not_there(cluster: Path, load: Load, change: Change) -> None:
    place = cluster / "ovn/ovn-worker/nb.db"
    where = named("Namespace", "prod", "v4")
    change(place, "Address_Set", where)
    found = only(load(cluster), FindingKind.ADDRESS_SET_DIFFERS)
    assert f"address set {where[2]} in zone ovn-worker is not there" in found.text
    assert "networkpolicy default/web-allow-prod" in found.text


# --- port groups


@pytest.mark.parametrize(
    ("owner", "words", "pods"),
    [
        (
            ("NetworkPolicy", "default:web-allow-prod"),
            *("networkpolicy default/web-allow-prod", " default/web-0"),
        ),
        (
            ("NetpolNamespace", "default", "Ingress"),
            *("namespace default that a NetworkPolicy", "s default/client-0, default/web-0"),
        ),
    ],
)
def test_a_port_group_without_its_pod(
    cluster: Path,
    load: Load,
    change: Change,
    owner: tuple[str, ...],
    words: str,
    pods: str,
) -> None:
    place = cluster / "ovn/ovn-control-plane/nb.db"
    change(place, "Port_Group", named(*owner), row={"ports": ["set", []]})
    found = only(load(cluster), FindingKind.PORT_GROUP_DIFFERS)
    assert words in found.text
    assert f"in zone ovn-control-plane has pod{pods}" in found.text


def test_a_port_group_with_a_pod_too_much(
    cluster: Path, load: Load, change: Change, toolchain: Toolchain
) -> None:
    place = cluster / "ovn/ovn-control-plane/nb.db"
    query = ["OVN_Northbound", {"op": "select", "table": "Logical_Switch_Port"}]
    query[1] |= {"where": [["name", "==", "default_client-0"]], "columns": ["_uuid"]}  # type: ignore[operator]
    done = subprocess.run(
        toolchain.argv("ovsdb-tool", "query", str(place), json.dumps(query)),
        capture_output=True,
        check=True,
        text=True,
    )
    uuid = json.loads(done.stdout)[0]["rows"][0]["_uuid"]
    change(
        place,
        "Port_Group",
        named("NetworkPolicy", "default:web-allow-prod"),
        mutate=["ports", "insert", uuid],
    )
    found = only(load(cluster), FindingKind.PORT_GROUP_DIFFERS)
    assert "has too much pod default/client-0" in found.text


# --- policies


def test_policies_that_are_no_more(cluster: Path, load: Load) -> None:
    without(cluster, "adminnetworkpolicies", "anp-tenants")
    without(cluster, "baselineadminnetworkpolicies", "default")
    without(cluster, "egressfirewalls", "default")
    without(cluster, "networkpolicies", "web-allow-prod")
    found = {d.text.partition(" is in OVN")[0]: d for d in load(cluster).differences}
    assert {name for name, d in found.items() if d.kind is FindingKind.POLICY_ONLY_IN_OVN} == {
        "AdminNetworkPolicy anp-tenants",
        "BaselineAdminNetworkPolicy default",
        "EgressFirewall fw/default",
        "NetworkPolicy default/web-allow-prod",
    }
    policy = found["NetworkPolicy default/web-allow-prod"]
    pods = {pod for effect in policy.effects for pod in effect.pods}
    assert {"pod default/web-0", "pod default/web-1"} <= pods


def test_a_policy_that_is_no_more_and_holds_nobody_is_a_warning(cluster: Path, load: Load) -> None:
    policies = json.loads((cluster / "kube/networkpolicies.json").read_text())["items"]
    [idle] = [p for p in policies if p["metadata"]["namespace"] == "empty-ns"]
    without(cluster, "networkpolicies", idle["metadata"]["name"])
    found = only(load(cluster), FindingKind.POLICY_LEFT_OVER)
    assert found.kind not in FAILING


def test_a_policy_that_one_zone_does_not_have(cluster: Path, load: Load, change: Change) -> None:
    place = cluster / "ovn/ovn-control-plane/nb.db"
    change(place, "Port_Group", named("NetworkPolicy", "default:web-allow-prod"))
    found = only(load(cluster), FindingKind.POLICY_NOT_IN_OVN)
    assert found.text == (
        "NetworkPolicy default/web-allow-prod is not in OVN in zone ovn-control-plane, where it "
        "selects 1 pod"
    )


def test_a_policy_that_a_zone_without_its_pods_does_not_have_is_a_warning(
    cluster: Path, load: Load, change: Change
) -> None:
    place = cluster / "ovn/ovn-control-plane/nb.db"
    change(place, "Port_Group", named("NetworkPolicy", "shop:back-egress-db"))
    found = only(load(cluster), FindingKind.POLICY_AWAITED)
    assert found.kind not in FAILING


@pytest.mark.parametrize(
    ("resource", "name", "owner", "own"),
    [
        ("networkpolicies", "web-allow-prod", "NetworkPolicy", "default:web-allow-prod"),
        ("adminnetworkpolicies", "anp-tenants", "AdminNetworkPolicy", "anp-tenants"),
    ],
)
def test_a_policy_that_no_zone_has(
    cluster: Path, load: Load, change: Change, resource: str, name: str, owner: str, own: str
) -> None:
    del resource, name
    for zone in ZONES:
        change(cluster / f"ovn/{zone}/nb.db", "Port_Group", named(owner, own))
    found = only(load(cluster), FindingKind.POLICY_NOT_IN_OVN)
    assert own.replace(":", "/") in found.text


def test_an_egress_firewall_that_is_not_in_ovn(cluster: Path, load: Load) -> None:
    file = cluster / "kube/egressfirewalls.json"
    content = json.loads(file.read_text())
    other = json.loads(json.dumps(content["items"][0]))
    other["metadata"] |= {"namespace": "prod", "uid": "other"}
    content["items"].append(other)
    file.write_text(json.dumps(content))
    found = only(load(cluster), FindingKind.POLICY_NOT_IN_OVN)
    assert found.text.startswith("EgressFirewall prod/default is not in OVN in 3 zones")


def test_a_rule_that_ovn_does_not_have_and_one_it_still_has(cluster: Path, load: Load) -> None:
    def grow(policy: dict[str, Any]) -> None:
        policy["spec"]["ingress"].append({"ports": [{"port": 9, "protocol": "TCP"}]})

    edit(cluster, "networkpolicies", "web-allow-prod", grow)
    found = only(load(cluster), FindingKind.POLICY_NOT_IN_OVN)
    assert "its rule ingress[1] has no ACL in" in found.text


def test_a_rule_that_ovn_still_has(cluster: Path, load: Load) -> None:
    edit(cluster, "networkpolicies", "web-allow-prod", lambda p: p["spec"].update(ingress=[]))
    found = [d for d in load(cluster).differences if d.kind is FindingKind.POLICY_ONLY_IN_OVN]
    assert [d.text.partition(" is in OVN")[0] for d in found] == [
        "NetworkPolicy default/web-allow-prod: a rule ingress[0]"
    ]


# --- pods


@pytest.mark.parametrize(
    ("status", "annotated", "told"),
    [
        ("10.128.0.55", None, "Kubernetes says 10.128.0.55, OVN 10.1"),
        ("fd01:0:0:9::5", None, "Kubernetes says fd01:0:0:9::5, OVN fd01"),
        (None, '"mac_address":"0a:58:00:00:00:01"', "Kubernetes says MAC 0a:58:00:00:00:01, OVN"),
    ],
)
def test_a_pod_that_ovn_has_otherwise(
    cluster: Path, load: Load, status: str | None, annotated: str | None, told: str
) -> None:
    def differ(pod: dict[str, Any]) -> None:
        if status is not None:
            own = [i for i in pod["status"]["podIPs"] if (":" in i["ip"]) != (":" in status)]
            pod["status"]["podIPs"] = [{"ip": status}, *own]
        if annotated is not None:
            notes = pod["metadata"]["annotations"]
            text = json.loads(notes["k8s.ovn.org/pod-networks"])
            text["default"] |= json.loads(f"{{{annotated}}}")
            notes["k8s.ovn.org/pod-networks"] = json.dumps(text)

    edit(cluster, "pods", "prod-client-1", differ)
    state = load(cluster)
    found = only(state, FindingKind.POD_DIFFERS)
    assert told in found.text
    pod = next(pod for pod in state.pods if pod.name == "prod-client-1")
    assert pod.obstacle == Reason.POD_DIFFERS


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_port_that_is_not_bound_to_its_nodes_chassis(
    cluster: Path, load: Load, change: Change, toolchain: Toolchain, *, elsewhere: bool
) -> None:
    place = cluster / "ovn/ovn-worker/sb.db"
    bound: object = ["set", []]
    if elsewhere:
        query: list[object] = ["OVN_Southbound"]
        query.append({"op": "select", "table": "Chassis", "columns": ["_uuid", "hostname"]})
        query[1] |= {"where": [["hostname", "==", "ovn-worker2"]]}  # type: ignore[operator]
        done = subprocess.run(
            toolchain.argv("ovsdb-tool", "query", str(place), json.dumps(query)),
            capture_output=True,
            check=True,
            text=True,
        )
        bound = json.loads(done.stdout)[0]["rows"][0]["_uuid"]
    where = ["logical_port", "==", "prod_prod-client-1"]
    change(place, "Port_Binding", where, row={"chassis": bound})
    found = only(load(cluster), FindingKind.PORT_NOT_BOUND)
    to = "to the chassis of node ovn-worker2" if elsewhere else "to no chassis"
    assert found.text == (
        f"port prod_prod-client-1 in zone ovn-worker is bound {to}; its pod runs on node ovn-worker"
    )


def test_the_port_of_a_completed_pod_is_left_behind(cluster: Path, load: Load) -> None:
    edit(cluster, "pods", "prod-client-1", lambda pod: pod["status"].update(phase="Failed"))
    kinds = Counter(d.kind for d in load(cluster).differences)
    assert kinds[FindingKind.PORT_WITHOUT_POD] == 1
    assert set(kinds) == {FindingKind.PORT_WITHOUT_POD, FindingKind.ADDRESS_SET_DIFFERS}


def test_pods_that_come_and_go_are_no_difference(cluster: Path, load: Load) -> None:
    def leave(pod: dict[str, Any]) -> None:
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    edit(cluster, "pods", "prod-client-0", leave)
    edit(cluster, "pods", "prod-client-1", lambda pod: pod["status"].update(phase="Pending"))
    assert load(cluster).differences == ()


def test_a_part_of_a_dump_says_nothing_of_what_was_not_dumped(cluster: Path, load: Load) -> None:
    for resource in ("pods", "networkpolicies", "services", "endpointslices", "egressfirewalls"):
        file = cluster / f"kube/{resource}.json"
        content = json.loads(file.read_text())
        kept = [i for i in content["items"] if i["metadata"]["namespace"] == "prod"]
        file.write_text(json.dumps(content | {"items": kept}))
    kinds = {d.kind for d in load(cluster).differences}
    assert kinds <= {FindingKind.PORT_WITHOUT_POD}


# --- services


def test_backends_that_are_not_the_endpointslices(services: Path, load: Load) -> None:
    def fewer(piece: dict[str, Any]) -> None:
        piece["endpoints"] = piece["endpoints"][:1]

    slices = json.loads((services / "kube/endpointslices.json").read_text())["items"]
    names = [
        i["metadata"]["name"]
        for i in slices
        if i["metadata"]["labels"]["kubernetes.io/service-name"] == "nodeport"
        and i["addressType"] == "IPv4"
    ]
    for name in names:
        edit(services, "endpointslices", name, fewer)
    found = load(services).differences
    assert {d.kind for d in found} == {FindingKind.LOAD_BALANCER_DIFFERS}
    # Its ClusterIP is the same everywhere; its NodePort each node's own.
    assert sum(":30080 has " in d.text for d in found) == len(ZONES)
    assert sum("172.30.107.132:80 has " in d.text for d in found) == 1
    assert all(d.text.startswith("service svc/nodeport in ") for d in found)


def test_an_endpoint_that_is_not_ready(services: Path, load: Load) -> None:
    def unready(piece: dict[str, Any]) -> None:
        piece["endpoints"][0]["conditions"] = {"ready": False, "serving": False}

    slices = json.loads((services / "kube/endpointslices.json").read_text())["items"]
    name = next(
        i["metadata"]["name"]
        for i in slices
        if i["metadata"]["labels"]["kubernetes.io/service-name"] == "plain"
        and i["addressType"] == "IPv6"
    )
    edit(services, "endpointslices", name, unready)
    found = only(load(services), FindingKind.LOAD_BALANCER_DIFFERS)
    assert "which the EndpointSlices do not have" in found.text


def test_a_local_policys_own_backends_are_compared_node_by_node(
    services: Path, load: Load, change: Change
) -> None:
    name = "Service_svc/itp-local-spread_TCP_node_switch_ovn-control-plane"
    change(
        services / "ovn/ovn-control-plane/nb.db",
        "Load_Balancer",
        has_set(name),
        row={"vips": ["map", [["172.30.188.10:80", "10.130.0.4:8080"]]]},
    )
    found = load(services).differences
    assert all("service svc/itp-local-spread in zone ovn-control-plane" in d.text for d in found)
    assert any("has 10.130.0.4:8080, which the EndpointSlices do not have" in d.text for d in found)


def test_load_balancers_of_services_that_are_no_more_and_missing_ones(
    services: Path, load: Load, change: Change
) -> None:
    without(services, "services", "extip")
    change(
        services / "ovn/ovn-worker/nb.db", "Load_Balancer", has_set("Service_svc/multi_TCP_cluster")
    )
    texts = [d.text for d in load(services).differences]
    assert any("service svc/extip" in t and "Kubernetes no such Service" in t for t in texts)
    assert any("service svc/multi in zone ovn-worker: no load balancer has" in t for t in texts)
    assert all("svc/extip" in t or "svc/multi" in t for t in texts)


def test_without_endpointslices_nothing_is_said_of_backends(services: Path, load: Load) -> None:
    (services / "kube/endpointslices.json").write_text('{"kind": "List", "items": []}')
    assert load(services).differences == ()


def test_a_template_has_the_backends_of_the_endpointslices(
    tmp_path: Path, load: Load, change: Change
) -> None:
    with tarfile.open(DATA / "ovn-23.03-central.tar.xz") as tar:
        extract(tar, tmp_path / "cluster")
    place = tmp_path / "cluster/ovn/global/nb.db"
    template = has_set("Service_shop/front_TCP_node_switch_template_IPv4_merged")
    change(
        place,
        "Load_Balancer",
        template,
        row={"vips": ["map", [["^NODEIP_IPv4_0:30080", "^BACKENDS"]]]},
    )
    values = ["map", [["BACKENDS", "10.128.0.12:8080,10.129.0.11:8080"]]]
    change(place, "Chassis_Template_Var", [], mutate=["variables", "insert", values])
    assert load(tmp_path / "cluster").differences == ()
    shutil.rmtree(tmp_path / "work")
    wrong = [["^NODEIP_IPv4_0:30080", "10.128.0.12:8080"]]
    change(place, "Load_Balancer", template, row={"vips": ["map", wrong]})
    found = only(load(tmp_path / "cluster"), FindingKind.LOAD_BALANCER_DIFFERS)
    assert "tcp ^NODEIP_IPv4_0:30080 lacks 10.129.0.11:8080 of the EndpointSlices" in found.text


def test_services_of_user_defined_networks_are_left_out(services: Path, load: Load) -> None:
    def label(namespace: dict[str, Any]) -> None:
        namespace["metadata"]["labels"]["k8s.ovn.org/primary-user-defined-network"] = ""

    without(services, "services", "extip")
    edit(services, "namespaces", "svc", label)
    assert load(services).differences == ()


def test_pods_that_changed_while_they_were_read_say_nothing(cluster: Path, load: Load) -> None:
    def differ(pod: dict[str, Any]) -> None:
        pod["status"]["podIPs"] = [{"ip": "10.128.0.55"}]

    edit(cluster, "pods", "prod-client-1", differ)
    (cluster / "snapshot.json").write_text('{"changed": ["prod/prod-client-1"]}')
    state = load(cluster)
    assert state.differences == ()
    pod = next(pod for pod in state.pods if pod.name == "prod-client-1")
    assert pod.obstacle == Reason.CHANGED_MEANWHILE


# --- words


def test_differences_are_one_finding_of_each_kind_with_what_to_do(
    cluster: Path, load: Load
) -> None:
    without(cluster, "networkpolicies", "web-allow-prod")
    without(cluster, "pods", "prod-client-1")
    found = findings(load(cluster).differences)
    assert len({one.kind for one in found}) == len(found)
    policy = next(one for one in found if one.kind is FindingKind.POLICY_ONLY_IN_OVN)
    assert policy.text.startswith("1 policy, or rule of one, is in force in OVN")
    assert "Restart ovnkube-controller on the nodes of" in policy.text
    assert len(policy.subjects) == 1


def test_a_policy_that_zones_with_equal_rows_lack_is_missing_in_all_of_them() -> None:
    ref = PolicyRef(kind="NetworkPolicy", namespace="shop", name="web")
    zones = {
        name: replace(
            made.zone(name), stock=Stock(policies=frozenset({f"NetworkPolicy:{name[0]}"}))
        )
        for name in ("a1", "a2", "b1")
    }
    cluster = Cluster(
        pods=(),
        nodes=(),
        namespaces={},
        policies=[Policy(ref=ref, directions=(), rules=(0, 0), text="")],
        kinds=frozenset(),
        zones=zones,
        topology=Topology.of(zones, ()),
    )
    key = ("NetworkPolicy", "shop:web", "")
    group = Group(key=key, words="", sure=frozenset(), maybe=frozenset(), denies=None)
    [awaited] = Policies(cluster).differences({":".join(key[:2]): group})
    assert awaited.kind is FindingKind.POLICY_AWAITED
    assert awaited.zones == ("a1", "a2", "b1")


def test_hashes_are_those_that_ovn_kubernetes_documents() -> None:
    assert hash_of("default-network-controller:UDNIsolation:SecondaryPods") == (
        "a8747502060113802905"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shop_LS{ML:{tier: db,},}", "pods tier=db of namespace shop"),
        ("LS{}_LS{}_LNM", "all pods of all namespaces"),
        (
            "LS{ME:{LSR{Key:env,Operator:In,Values:[b a],}},}_LS{ML:{a: ,b: 1,},}_nodeSel",
            "pods a=,b=1 of namespaces env in (a,b)",
        ),
    ],
)
def test_a_sets_name_says_what_it_selects(name: str, words: str) -> None:
    assert str(selection(name)) == words


@pytest.mark.parametrize("name", ["", "shop", "shop_app", "LS{_LS{}", "LS{}_LS{}x", "_LS{}"])
def test_a_name_that_is_not_understood_selects_nothing_known(name: str) -> None:
    assert selection(name) is None
