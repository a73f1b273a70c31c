"""What Ingress, Route and Gateway API objects lead to, case by case of their APIs' documentation.

https://kubernetes.io/docs/concepts/services-networking/ingress, https://gateway-api.sigs.k8s.io,
and OpenShift's route.openshift.io/v1 with what its router does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.errors import ManifestError
from audit.facts import manifests
from audit.facts.manifests import Manifests

Object = dict[str, Any]


def pod(name: str, space: str = "shop", **ports: int) -> Object:
    """Return a pod with the label app=NAME and named ports."""
    declared = [{"name": port, "containerPort": number} for port, number in ports.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": declared}]},
    }


def service(name: str, *ports: Object, space: str = "shop", **spec: Any) -> Object:
    """Return a Service of the pods with the label app=NAME."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"selector": {"app": name}, "ports": list(ports), **spec},
    }


def named(kind: str, version: str, name: str = "in", **spec: Any) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


def backend(name: str, /, **port: Any) -> Object:
    return {"service": {"name": name, "port": port}}


def ingress(*backends: Object, **spec: Any) -> Object:
    paths = [{"path": "/", "pathType": "Prefix", "backend": one} for one in backends]
    rules = [{"host": "shop.example"}, {"http": {"paths": paths}}] if paths else []
    return named("Ingress", "networking.k8s.io/v1", rules=rules, **spec)


def route(to: str, target: Any = None, /, **spec: Any) -> Object:
    port = {} if target is None else {"port": {"targetPort": target}}
    to_service = {"kind": "Service", "name": to, "weight": 100}
    return named("Route", "route.openshift.io/v1", **{"to": to_service, **port, **spec})


def gateway_route(*references: Object, kind: str = "HTTPRoute", **spec: Any) -> Object:
    return named(
        kind,
        "gateway.networking.k8s.io/v1",
        **{"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": list(references)}], **spec},
    )


def grant(space: str, sender: str = "shop", **to: str) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": space},
        "spec": {
            "from": [
                {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": sender}
            ],
            "to": [{"group": "", "kind": "Service", **to}],
        },
    }


def read(tmp_path: Path, objects: Sequence[Object]) -> Manifests:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return manifests.read(str(tmp_path))


def leads(found: Manifests) -> list[str]:
    return [f"{lead.pod} {lead.port}" for one in found.ingresses for lead in one.leads]


def reasons(found: Manifests) -> list[str]:
    told = [note for note in found.notes if note.code == "ingress-not-followed"]
    texts = [note.text.partition("that are not known: ")[2] for note in told]
    return [why.partition(": ")[2] for text in texts for why in text.split("; ")]


WEB = pod("web", http=8080)
BY_NAME = service("web", {"name": "www", "port": 80, "targetPort": "http"})
BY_NUMBER = service("web", {"name": "www", "port": 80, "targetPort": 8080})
TWO = service(
    "web",
    {"name": "www", "port": 80, "targetPort": "http"},
    {"name": "admin", "port": 81, "targetPort": 9090},
    {"name": "quic", "port": 80, "targetPort": 8443, "protocol": "UDP"},
)


@pytest.mark.parametrize(
    ("objects", "wanted"),
    [
        # Service ports: by number, by name, the target port by number, by name, and by default.
        ([ingress(backend("web", number=80)), BY_NUMBER], ["web tcp/8080"]),
        ([ingress(backend("web", name="www")), BY_NAME], ["web tcp/8080"]),
        ([ingress(backend("web", number=80)), service("web", {"port": 80})], ["web tcp/80"]),
        (
            [ingress(backend("web", number=80)), service("web", {"port": 80, "targetPort": 0})],
            ["web tcp/80"],
        ),
        # HTTP is not UDP, though the number is the same.
        ([ingress(backend("web", number=80)), TWO], ["web tcp/8080"]),
        ([ingress(defaultBackend=backend("web", number=81)), TWO], ["web tcp/9090"]),
        (
            [ingress(backend("web", number=80), backend("web", name="admin")), TWO],
            ["web tcp/8080", "web tcp/9090"],
        ),
        # A headless Service has its endpoints, too.
        (
            [ingress(backend("web", number=80)), service("web", {"port": 80}, clusterIP="None")],
            ["web tcp/80"],
        ),
        (
            [
                named(
                    "Ingress",
                    "extensions/v1beta1",
                    backend={"serviceName": "web", "servicePort": "www"},
                ),
                BY_NAME,
            ],
            ["web tcp/8080"],
        ),
        # A Route without a port takes all of TCP; a name is a Service's, a number a pod's.
        ([route("web"), TWO], ["web tcp/8080", "web tcp/9090"]),
        ([route("web", "admin"), TWO], ["web tcp/9090"]),
        ([route("web", 8080), TWO], ["web tcp/8080"]),
        ([route("web", "8080"), TWO], ["web tcp/8080"]),
        (
            [
                route("web", alternateBackends=[{"kind": "Service", "name": "api"}]),
                BY_NAME,
                pod("api"),
                service("api", {"port": 9000}),
            ],
            ["api tcp/9000", "web tcp/8080"],
        ),
        (
            [
                route("web", to={"name": "web", "weight": 0}, alternateBackends=[{"name": "api"}]),
                BY_NAME,
                pod("api"),
                service("api", {"port": 9000}),
            ],
            ["api tcp/9000"],
        ),
        # The Gateway API: a Service's port by number; nothing without weight; copies of requests.
        ([gateway_route({"name": "web", "port": 80}), TWO], ["web tcp/8080"]),
        ([gateway_route({"name": "web", "port": 80}, kind="GRPCRoute"), TWO], ["web tcp/8080"]),
        ([gateway_route({"name": "web", "port": 80}, kind="UDPRoute"), TWO], ["web udp/8443"]),
        (
            [
                gateway_route(
                    {"name": "web", "port": 80, "weight": 0}, {"name": "web", "port": 81}
                ),
                TWO,
            ],
            ["web tcp/9090"],
        ),
        (
            [
                gateway_route(
                    rules=[
                        {
                            "filters": [
                                {
                                    "type": "RequestMirror",
                                    "requestMirror": {"backendRef": {"name": "web", "port": 80}},
                                }
                            ]
                        }
                    ]
                ),
                BY_NUMBER,
            ],
            ["web tcp/8080"],
        ),
        # What only redirects leads nowhere, and means to.
        ([gateway_route(rules=[{"filters": [{"type": "RequestRedirect"}]}])], []),
        # A mesh's route is for what goes from pod to pod.
        (
            [
                gateway_route(
                    {"name": "web", "port": 80},
                    parentRefs=[{"group": "", "kind": "Service", "name": "web"}],
                ),
                BY_NUMBER,
            ],
            [],
        ),
    ],
)
def test_where_an_object_leads(tmp_path: Path, objects: list[Object], wanted: list[str]) -> None:
    found = read(tmp_path, [WEB, *objects])
    assert leads(found) == wanted
    assert not reasons(found)


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([ingress(backend("api", number=80))], "Service shop/api is not in the manifests"),
        (
            [ingress(backend("web", number=8080)), BY_NUMBER],
            "Service shop/web has no TCP port 8080",
        ),
        (
            [ingress(backend("web", name="http")), BY_NAME],
            "Service shop/web has no port named http",
        ),
        ([route("web", 80), BY_NUMBER], "none of its target ports at pod shop/web is 80"),
        (
            [ingress(backend("web", number=80)), service("web", {"port": 80, "targetPort": "h2"})],
            "no container of pod shop/web has a port named h2",
        ),
        # A name is of one protocol: UDP is not what a container's TCP port is called.
        (
            [
                gateway_route({"name": "web", "port": 80}, kind="UDPRoute"),
                service("web", {"port": 80, "targetPort": "http", "protocol": "UDP"}),
            ],
            "no container of pod shop/web has a port named http",
        ),
        (
            [
                ingress(backend("web", number=80)),
                service("web", {"port": 80}, type="ExternalName", externalName="example.org"),
            ],
            "is a name outside (ExternalName)",
        ),
        (
            [ingress(backend("web", number=80)), service("web", {"port": 80}, selector=None)],
            "has no selector",
        ),
        (
            [ingress(backend("web", number=80)), service("web", {"port": 80}, selector={"x": "y"})],
            "selects no pod that is there",
        ),
        (
            [ingress({"resource": {"kind": "Bucket", "name": "b", "apiGroup": "example.org"}})],
            "Bucket shop/b is no Service",
        ),
        ([gateway_route({"name": "web", "port": 80}, parentRefs=None), BY_NAME], "no parentRefs"),
        (
            [gateway_route({"group": "x.io", "kind": "ServiceImport", "name": "web"})],
            "ServiceImport shop/web is no Service",
        ),
        (
            [ingress(backend("web", number=80)), BY_NAME, service("web", {"port": 80})],
            "Service shop/web is there in several variants",
        ),
    ],
)
def test_what_leads_nowhere_is_said(tmp_path: Path, objects: list[Object], why: str) -> None:
    found = read(tmp_path, [WEB, *objects])
    assert not leads(found)
    [reason] = reasons(found)
    assert why in reason


@pytest.mark.parametrize(
    ("grants", "wanted"),
    [
        ([], []),
        ([grant("api")], ["api tcp/80"]),
        ([grant("api", name="api")], ["api tcp/80"]),
        ([grant("api", name="web")], []),
        ([grant("api", sender="other")], []),
        ([grant("shop")], []),
    ],
)
def test_another_namespace_takes_a_grant(
    tmp_path: Path, grants: list[Object], wanted: list[str]
) -> None:
    there = [pod("api", "api"), service("api", {"port": 80}, space="api")]
    asked = gateway_route({"name": "api", "namespace": "api", "port": 80})
    found = read(tmp_path, [*there, asked, *grants])
    assert leads(found) == wanted
    assert reasons(found) == (
        []
        if wanted
        else ["Service api/api is in another namespace, and no ReferenceGrant there permits it"]
    )


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([ingress({"service": 3})], "spec.rules[1].http.paths[0].backend.service is a number"),
        ([ingress(backend("web", number="80"))], "port.number is a string, not an integer"),
        ([ingress(backend("web", name="80"))], "port.name is '80', and a port's name has a letter"),
        ([ingress(backend("web", name="www", number=80))], "port has both name and number"),
        ([ingress(backend("web"))], "port has neither name nor number"),
        ([ingress()], "spec has neither defaultBackend nor rules"),
        ([ingress({})], "backend has neither service nor resource"),
        ([ingress(backend("web", number=70000))], "port 70000 is not between 1 and 65535"),
        ([route("web", to={"kind": "Pod", "name": "web"})], "spec.to.kind is Pod, not Service"),
        ([named("Route", "route.openshift.io/v1")], "spec.to is missing"),
        ([gateway_route({"name": "web"})], "backendRefs[0].port is missing"),
        ([gateway_route(rules={"backendRefs": []})], "spec.rules is an object, not a list"),
        (
            [ingress(backend("web", number=80)), service("web", {"port": "80"})],
            "Service shop/web: spec.ports[0].port is a string, not an integer",
        ),
        (
            [
                ingress(backend("web", number=80)),
                service("web", {"port": 80, "targetPort": "8080"}),
            ],
            "spec.ports[0].targetPort is '8080', and a port's name has a letter",
        ),
        ([named("Ingress", "networking.k8s.io/v2")], "apiVersion is networking.k8s.io/v2"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(
    tmp_path: Path, objects: list[Object], said: str
) -> None:
    with pytest.raises(ManifestError, match=r"all\.yaml, line \d+: ") as raised:
        read(tmp_path, [WEB, *objects])
    assert said in str(raised.value)


def test_a_service_that_nothing_leads_to_is_not_looked_at(tmp_path: Path) -> None:
    """Directories are full of them, and what is wrong with one is nobody's business here."""
    found = read(tmp_path, [WEB, service("web", {"port": "${PORT}"}), service("web")])
    assert not found.ingresses
    assert not found.notes


def test_fields_that_kubernetes_does_not_have_are_told(tmp_path: Path) -> None:
    """Of a Service, too, when something leads to it."""
    misspelt = ingress(backend("web", number=80), ingressClass="nginx")
    found = read(tmp_path, [WEB, misspelt, service("web", {"port": 80, "target": 8080})])
    [note] = [one for one in found.notes if one.code == "unknown-fields"]
    assert note.subjects == (
        "spec.ingressClass of Ingress shop/in",
        "spec.ports[0].target of Service shop/web",
    )
    assert leads(found) == ["web tcp/80"]


def test_other_apis_have_the_kinds_too(tmp_path: Path) -> None:
    others = [
        named("Ingress", "config.openshift.io/v1"),
        named("Route", "serving.knative.dev/v1"),
        named("Service", "serving.knative.dev/v1"),
        named("HTTPRoute", "policy.linkerd.io/v1beta3"),
    ]
    found = read(tmp_path, [WEB, *others])
    assert not found.ingresses
    [note] = found.notes
    assert note.text == (
        "objects of other kinds were passed over: HTTPRoute of policy.linkerd.io/v1beta3 (1), "
        "Ingress of config.openshift.io/v1 (1), Route of serving.knative.dev/v1 (1), "
        "Service of serving.knative.dev/v1 (1)"
    )


def test_a_pod_that_a_service_perhaps_selects(tmp_path: Path) -> None:
    """What makes the pods is not known here, nor are the labels that it adds."""
    fleet = named(
        "Fleet",
        "example.org/v1",
        template={
            "metadata": {"labels": {"app": "fleet"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        },
    )
    by_both = service("fleet", {"port": 80}, selector={"app": "fleet", "track": "stable"})
    found = read(tmp_path, [fleet, ingress(backend("fleet", number=80)), by_both])
    assert not leads(found)
    assert reasons(found) == ["Service shop/fleet selects no pod that is there surely"]
