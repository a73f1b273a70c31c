"""Kubernetes objects as they are, as they may legally be, and as they may not."""

import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from audit.facts import kube, policyobjects
from audit.facts.fields import FieldError
from audit.model.endpoints import NamedPort, Port
from audit.model.facts import ServiceEndpoint
from audit.model.packets import Protocol

NETWORKS = "k8s.ovn.org/pod-networks"


def pod(
    *,
    metadata: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    named = {"namespace": "shop", "name": "web-0", **(metadata or {})}
    return {"kind": "Pod", "metadata": named, "spec": spec, "status": status}


def annotated(networks: object) -> dict[str, Any]:
    text = networks if isinstance(networks, str) else json.dumps(networks)
    return pod(metadata={"annotations": {NETWORKS: text}})


def declared(name: str, protocol: Protocol, number: int) -> NamedPort:
    return NamedPort(name=name, port=Port(protocol=protocol, number=number))


def test_a_running_pod() -> None:
    found = kube.pod(
        pod(
            metadata={"labels": {"b": "2", "a": "1"}},
            spec={"nodeName": "worker", "containers": []},
            status={"phase": "Running", "podIPs": [{"ip": "10.128.0.7"}, {"ip": "fd01::7"}]},
        )
    )
    assert found == kube.PodFacts(
        namespace="shop",
        name="web-0",
        node="worker",
        phase="Running",
        terminating=False,
        host_network=False,
        addresses=("10.128.0.7", "fd01::7"),
        labels=(("a", "1"), ("b", "2")),
        workload="Pod/web-0",
        declared=(),
        primary_network="",
    )


def test_absent_and_null_are_the_same() -> None:
    nulls = {"labels": None, "annotations": None, "ownerReferences": None}
    full = pod(
        metadata=nulls,
        spec={"nodeName": None, "hostNetwork": None, "containers": None, "initContainers": None},
        status={"phase": None, "podIPs": None, "podIP": None},
    )
    assert kube.pod(full) == kube.pod({"metadata": {"namespace": "shop", "name": "web-0"}})
    assert kube.pod(full) == kube.pod(pod())


def test_a_pod_that_is_deleted_and_on_its_hosts_network() -> None:
    found = kube.pod(
        pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, spec={"hostNetwork": True})
    )
    assert found.terminating
    assert found.host_network


def test_one_address_may_be_written_without_a_list() -> None:
    assert kube.pod(pod(status={"podIP": "10.1.2.3"})).addresses == ("10.1.2.3",)
    assert kube.pod(pod(status={"podIP": "", "podIPs": [{"ip": ""}, {}]})).addresses == ()


def test_declared_ports_are_those_of_containers_that_run_together() -> None:
    http = {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    spec = {
        "containers": [
            {"ports": [http, {"containerPort": 53, "protocol": "UDP"}]},
            {"ports": [http, {"containerPort": 9, "protocol": "SCTP", "name": None}]},
            {"ports": None},
            {},
        ],
        "initContainers": [
            {"restartPolicy": "Always", "ports": [{"containerPort": 15090, "name": "envoy"}]},
            {"ports": [{"containerPort": 1111}]},
        ],
    }
    assert kube.pod(pod(spec=spec)).declared == (
        declared("", Protocol.SCTP, 9),
        declared("http", Protocol.TCP, 8080),
        declared("envoy", Protocol.TCP, 15090),
        declared("", Protocol.UDP, 53),
    )


def test_a_port_of_another_protocol_is_passed_over() -> None:
    """A ping among them: Kubernetes has no such port, and it has no number."""
    ports = [
        *({"containerPort": 7, "protocol": protocol} for protocol in ("QUIC", "ICMP")),
        {"containerPort": 8, "protocol": None},
    ]
    found = kube.pod(pod(spec={"containers": [{"ports": ports}]}))
    assert found.declared == (declared("", Protocol.TCP, 8),)
    item = {"metadata": {"namespace": "a", "name": "b"}, "spec": {"ports": [{"protocol": "X"}]}}
    assert kube.service(item).ports == ()


@pytest.mark.parametrize(
    ("owners", "labels", "expected"),
    [
        (None, {}, "Pod/web-0"),
        ([{"kind": "ReplicaSet", "name": "web-5d8f"}], {}, "Pod/web-0"),
        (
            [{"kind": "ReplicaSet", "name": "web-5d8f", "controller": True}],
            {"pod-template-hash": "5d8f"},
            "Deployment/web",
        ),
        (
            [{"kind": "ReplicaSet", "name": "web-5d8f", "controller": True}],
            {},
            "ReplicaSet/web-5d8f",
        ),
        (
            [{"kind": "ReplicaSet", "name": "mine", "controller": True}],
            {"pod-template-hash": "5d8f"},
            "ReplicaSet/mine",
        ),
        ([{"kind": "StatefulSet", "name": "db", "controller": True}], {}, "StatefulSet/db"),
        ([{"kind": "DaemonSet", "name": "log", "controller": True}], {}, "DaemonSet/log"),
        ([{"kind": "Job", "name": "load", "controller": True}], {}, "Job/load"),
        ([{"kind": "Job", "name": "dump-29", "controller": True}], {}, "Job/dump-29"),
        ([{"kind": "Node", "name": "worker", "controller": True}], {}, "Pod/web-0"),
        (
            [{"kind": "X", "name": "x"}, {"kind": "Rollout", "name": "r", "controller": True}],
            {},
            "Rollout/r",
        ),
    ],
)
def test_a_pod_belongs_to_what_controls_it(
    owners: list[dict[str, Any]] | None, labels: dict[str, str], expected: str
) -> None:
    item = pod(metadata={"ownerReferences": owners, "labels": labels})
    assert kube.pod(item).workload == expected


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ({"default": {"role": "primary"}}, ""),
        ({"default": {}}, ""),
        ({"default": {"role": "primary"}, "green/extra": {"role": "secondary"}}, ""),
        (
            {
                "default": {"role": "infrastructure-locked"},
                "a/extra": {"role": "secondary"},
                "green/net": {"role": "primary"},
            },
            "green/net",
        ),
        ({"green/net": {"role": "primary"}, "default": {}}, "green/net"),
        ({"default": {"role": "infrastructure-locked"}}, "an unnamed user-defined network"),
        ({"default": {"role": "infrastructure-locked"}, "x/y": None}, "x/y"),
        ('{"default": {"role": "infrastr', ""),
        ("[" * 100_000, ""),
        ("[]", ""),
        ("", ""),
        ({"default": "nonsense"}, ""),
    ],
)
def test_the_primary_network_is_told_by_its_role(networks: object, expected: str) -> None:
    assert kube.pod(annotated(networks)).primary_network == expected


OPENING = "k8s.ovn.org/open-default-ports"


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        (
            "- protocol: tcp\n  port: 80\n- protocol: icmp\n",
            [(Protocol.ICMP, 0), (Protocol.TCP, 80)],
        ),
        (
            "- {protocol: udp, port: 53}\n- {protocol: sctp, port: 9}",
            [(Protocol.SCTP, 9), (Protocol.UDP, 53)],
        ),
        ("[]", []),
        ("", []),
        # OVN-Kubernetes opens nothing of what it cannot read as a whole.
        ("- {protocol: tcp, port: 80}\n- {protocol: tcp}", []),
        ("- {protocol: tcp, port: 100000}", []),
        ("- {protocol: foo, port: 80}", []),
        ("- {port: 80}", []),
        ("protocol: tcp", []),
        ("[", []),
    ],
)
def test_ports_that_a_pod_opens_on_the_default_network(
    text: str, opened: list[tuple[Protocol, int]]
) -> None:
    ports = tuple(Port(protocol=protocol, number=number) for protocol, number in opened)
    item = pod()
    item["metadata"]["annotations"] = {OPENING: text}
    assert kube.pod(item).opened == ports


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        ("storage, other/net@eth5", ("other/net", "shop/storage")),
        (
            '[{"name": "storage"}, {"name": "net", "namespace": "other"}]',
            ("other/net", "shop/storage"),
        ),
        ('[7, {"namespace": "x"}]', ()),
        ("", ()),
    ],
)
def test_attachments_that_a_pod_asks_for(text: str, requested: tuple[str, ...]) -> None:
    item = pod()
    item["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": text}
    assert kube.pod(item).requested == requested


@pytest.mark.parametrize(
    ("annotations", "subnets", "macs"),
    [
        (
            {"k8s.ovn.org/node-subnets": '{"default":["10.128.0.0/23","fd01:0:0:1::/64"]}'},
            ("10.128.0.0/23", "fd01:0:0:1::/64"),
            set(),
        ),
        ({"k8s.ovn.org/node-subnets": '{"default":"10.128.0.0/23"}'}, ("10.128.0.0/23",), set()),
        ({"k8s.ovn.org/node-subnets": '{"blue":["10.9.0.0/24"]}'}, (), set()),
        ({"k8s.ovn.org/node-subnets": '{"default":["nonsense", 7, null]}'}, (), set()),
        ({"k8s.ovn.org/node-subnets": '{"default":null}'}, (), set()),
        ({"k8s.ovn.org/node-subnets": "no JSON"}, (), set()),
        (None, (), set()),
        (
            {
                "k8s.ovn.org/node-mgmt-port-mac-addresses": '{"default":"0A:58:00:00:00:02"}',
                "k8s.ovn.org/node-mgmt-port-mac-address": "0a:58:00:00:00:03",
            },
            (),
            {"0a:58:00:00:00:02", "0a:58:00:00:00:03"},
        ),
        ({"k8s.ovn.org/node-mgmt-port-mac-addresses": '{"blue":"0a:58:00:00:00:02"}'}, (), set()),
    ],
)
def test_a_nodes_annotations(
    annotations: dict[str, str] | None, subnets: tuple[str, ...], macs: set[str]
) -> None:
    found = kube.node({"metadata": {"name": "worker", "annotations": annotations}})
    assert found.subnets == subnets
    assert found.management_macs == macs


def test_only_internal_addresses_are_a_nodes() -> None:
    addresses = [
        {"type": "Hostname", "address": "worker"},
        {"type": "InternalIP", "address": "172.18.0.2"},
        {"type": "ExternalIP", "address": "198.51.100.1"},
        {"type": "InternalIP", "address": "fc00::2"},
    ]
    found = kube.node({"metadata": {"name": "worker"}, "status": {"addresses": addresses}})
    assert found.addresses == ("172.18.0.2", "fc00::2")


@pytest.mark.parametrize(
    ("spec", "headless", "addresses"),
    [
        ({"clusterIP": "10.0.0.1"}, False, ("10.0.0.1",)),
        ({"clusterIP": "10.0.0.1", "clusterIPs": None}, False, ("10.0.0.1",)),
        ({"clusterIPs": ["10.0.0.1", "fd02::1"]}, False, ("10.0.0.1", "fd02::1")),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, True, ()),
        ({"type": "ExternalName", "externalName": "db.example"}, False, ()),
        ({"type": "ExternalName", "clusterIP": "None"}, False, ()),
        ({"clusterIP": ""}, False, ()),
        (None, False, ()),
    ],
)
def test_a_services_addresses(
    *, spec: dict[str, Any] | None, headless: bool, addresses: tuple[str, ...]
) -> None:
    found = kube.service({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec})
    assert (found.headless, found.cluster_ips, found.ports) == (headless, addresses, ())


DB = {
    "metadata": {"namespace": "shop", "name": "db"},
    "spec": {
        "clusterIP": "None",
        "ports": [
            {"name": "pg", "port": 5432, "targetPort": "pg"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    },
}
PG = Port(protocol=Protocol.TCP, number=5432)


def endpoint_slice(**fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": "db-x",
            "labels": {"kubernetes.io/service-name": "db"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.128.0.9"], "conditions": {"ready": True}}],
        "ports": [{"name": "pg", "port": 15432, "protocol": "TCP"}],
        **fields,
    }


def endpoints_of(*slices: dict[str, Any]) -> set[tuple[str, str, int]]:
    found = kube.service(DB, {("shop", "db"): slices}).endpoints
    assert list(found) == sorted(found)
    return {(str(e.port), e.address, e.target) for e in found}


def test_endpoints_of_all_slices_and_families() -> None:
    other = endpoint_slice(
        addressType="IPv6",
        endpoints=[{"addresses": ["fd01::9"]}, {"addresses": ["fd01::8"], "conditions": None}],
        ports=[
            {"name": "pg", "port": 15432, "protocol": None},
            {"name": "dns", "port": 5353, "protocol": "UDP"},
        ],
    )
    assert endpoints_of(endpoint_slice(), endpoint_slice(), other) == {
        ("tcp/5432", "10.128.0.9", 15432),
        ("tcp/5432", "fd01::9", 15432),
        ("tcp/5432", "fd01::8", 15432),
        ("udp/53", "fd01::9", 5353),
        ("udp/53", "fd01::8", 5353),
    }
    assert kube.service(DB, {("shop", "db"): [endpoint_slice()]}).endpoints == (
        ServiceEndpoint(port=PG, address="10.128.0.9", target=15432),
    )


@pytest.mark.parametrize(
    ("conditions", "counts"),
    [
        ({"ready": True}, True),
        ({"ready": None}, True),
        ({}, True),
        (None, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
    ],
)
def test_an_endpoint_counts_when_it_is_ready_or_does_not_say(
    *, conditions: dict[str, bool | None] | None, counts: bool
) -> None:
    endpoint = {"addresses": ["10.128.0.9"], "conditions": conditions}
    assert bool(endpoints_of(endpoint_slice(endpoints=[endpoint]))) is counts


@pytest.mark.parametrize(
    "fields",
    [
        {"addressType": "FQDN", "endpoints": [{"addresses": ["db.example"]}]},
        {"addressType": None},
        {"ports": None},
        {"ports": [{"name": "pg", "port": None}]},
        {"ports": [{"name": "other", "port": 1}]},
        {"ports": [{"name": "pg", "port": 1, "protocol": "UDP"}]},
        {"ports": [{"name": "pg", "port": 1, "protocol": "QUIC"}]},
        {"endpoints": None},
        {"endpoints": [{"addresses": []}, {"addresses": None}]},
    ],
)
def test_slices_without_an_address_and_port_of_the_service_give_nothing(
    fields: dict[str, Any],
) -> None:
    assert endpoints_of(endpoint_slice(**fields)) == set()


def test_a_slice_belongs_to_the_service_its_label_names() -> None:
    assert kube.slice_service(endpoint_slice()) == ("shop", "db")
    mirrored = {"namespace": "shop", "labels": {"k8s.ovn.org/service-name": "db"}}
    for metadata in (mirrored, {"namespace": "shop", "labels": None}):
        assert kube.slice_service({"metadata": metadata}) is None


ADMIN: dict[str, Any] = {"priority": 5, "subject": {"namespaces": {}}}
PASS: dict[str, Any] = {"action": "Pass", "from": [{"namespaces": {}}]}
DENY: dict[str, Any] = {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}


@pytest.mark.parametrize(
    ("kind", "spec", "directions", "rules"),
    [
        ("NetworkPolicy", {"podSelector": {}}, ("ingress",), (0, 0)),
        ("NetworkPolicy", None, ("ingress",), (0, 0)),
        ("NetworkPolicy", {"policyTypes": []}, ("ingress",), (0, 0)),
        ("NetworkPolicy", {"egress": [{}]}, ("egress", "ingress"), (0, 1)),
        ("NetworkPolicy", {"egress": []}, ("ingress",), (0, 0)),
        ("NetworkPolicy", {"policyTypes": ["Egress"], "ingress": [{}]}, ("egress",), (1, 0)),
        ("NetworkPolicy", {"policyTypes": ["Ingress", "Egress"]}, ("egress", "ingress"), (0, 0)),
        ("AdminNetworkPolicy", ADMIN | {"ingress": [PASS, PASS]}, ("ingress",), (2, 0)),
        ("AdminNetworkPolicy", ADMIN, (), (0, 0)),
        ("EgressFirewall", {"egress": [DENY, DENY, DENY]}, ("egress",), (0, 3)),
    ],
)
def test_the_directions_a_policy_acts_in(
    kind: str, spec: object, directions: tuple[str, ...], rules: tuple[int, int]
) -> None:
    found = policyobjects.policy({"metadata": {"name": "p"}, "spec": spec}, kind)
    assert (found.directions, found.rules) == (directions, rules)


def test_a_manifest_is_what_its_author_wrote() -> None:
    item = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "wëb",
            "namespace": "default",
            "uid": "3d75f53c",
            "resourceVersion": "329",
            "generation": 1,
            "creationTimestamp": "2026-11-22T23:02:36Z",
            "managedFields": [{}],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "owner": "team-web",
            },
            "labels": {"yes": "on"},
        },
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]},
        "status": {"conditions": []},
    }
    text = policyobjects.manifest(item, "NetworkPolicy")
    assert "wëb" in text
    assert yaml.safe_load(text) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "wëb",
            "namespace": "default",
            "annotations": {"owner": "team-web"},
            "labels": {"yes": "on"},
        },
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]},
    }
    item["metadata"]["annotations"].popitem()  # type: ignore[index]
    assert "annotations" not in policyobjects.manifest(item, "NetworkPolicy")


def test_items_of_a_typed_list_do_not_say_their_kind() -> None:
    shown = yaml.safe_load(policyobjects.manifest({"metadata": {"name": "p"}}, "EgressFirewall"))
    assert shown == {
        "apiVersion": "",
        "kind": "EgressFirewall",
        "metadata": {"name": "p"},
        "spec": {},
    }


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (pod(metadata={"name": ""}), "metadata.name is empty"),
        (pod(metadata={"namespace": None}), "metadata.namespace is missing"),
        (pod(metadata={"labels": ["app"]}), "metadata.labels is a list, not an object"),
        (pod(metadata={"labels": {"app": 1}}), "metadata.labels.app is a number, not a string"),
        ({"metadata": "x"}, "metadata is a string, not an object"),
        ({"spec": {}}, "metadata.namespace is missing"),
        (["no object"], "it is a list, not an object"),
        (pod(spec={"containers": {}}), "spec.containers is an object, not a list"),
        (pod(spec={"containers": [1]}), "spec.containers[0] is a number, not an object"),
        (pod(spec={"hostNetwork": "yes"}), "spec.hostNetwork is a string, not a boolean"),
        (
            pod(spec={"containers": [{}, {"ports": [{"containerPort": "80"}]}]}),
            "spec.containers[1].ports[0].containerPort is a string, not an integer",
        ),
        (
            pod(spec={"containers": [{"ports": [{}]}]}),
            "spec.containers[0].ports[0].containerPort is missing",
        ),
        (
            pod(spec={"containers": [{"ports": [{"containerPort": 65536}]}]}),
            "spec.containers[0].ports[0].containerPort: port 65536 is not between 1 and 65535",
        ),
        (
            pod(status={"podIPs": [{"ip": "10.1.2"}]}),
            "status.podIPs[0].ip is '10.1.2', not an IP address",
        ),
    ],
)
def test_what_no_api_server_prints_is_named_by_its_path(item: Any, complaint: str) -> None:
    with pytest.raises(FieldError) as caught:
        kube.pod(item)
    assert str(caught.value) == complaint


KEYS = (
    *("metadata", "spec", "status", "name", "namespace", "labels", "annotations", "controller"),
    *("ownerReferences", "containers", "initContainers", "ports", "containerPort", "port", "kind"),
    *("protocol", "podIPs", "ip", "addresses", "address", "type", "clusterIPs", "clusterIP"),
    *("endpoints", "conditions", "ready", "addressType", "policyTypes", "ingress", "egress"),
    *(NETWORKS, "k8s.ovn.org/node-subnets", "k8s.ovn.org/node-mgmt-port-mac-addresses"),
)
TEXTS = st.sampled_from(
    ["", "None", "TCP", "10.1.2.3", "IPv4", "InternalIP", "Always", "{}", "[1]"]
)
LEAVES = st.none() | st.booleans() | st.integers(-1, 70000) | st.floats() | TEXTS
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=25,
)
OBJECTS = st.fixed_dictionaries(
    {"metadata": st.just({"namespace": "shop", "name": "db"}) | JSON, "spec": JSON},
    optional={"status": JSON, "endpoints": JSON, "ports": JSON, "addressType": TEXTS},
)


@given(item=OBJECTS)
def test_any_json_is_read_or_refused_with_a_sentence(item: dict[str, Any]) -> None:
    for read in (
        kube.pod,
        kube.node,
        kube.namespace,
        kube.service,
        kube.slice_service,
        lambda item: kube.service(DB, {("shop", "db"): [item]}),
        lambda item: policyobjects.policy(item, "NetworkPolicy"),
        lambda item: policyobjects.policy(item, "EgressFirewall"),
    ):
        with contextlib.suppress(FieldError):
            read(item)
