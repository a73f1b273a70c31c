"""A word that a user types means the endpoints it should, or is refused with what it may mean."""

from ipaddress import ip_address
from typing import Any

import pytest

from audit.errors import UsageError
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.recorded import Spans
from audit.scope.named import Directory

POD, SERVICE, NODE, OUTSIDE, INGRESS = EndpointKind


def pod(name: str, namespace: str = "shop", workload: str = "", **fields: Any) -> Endpoint:
    return Endpoint(kind=POD, namespace=namespace, name=name, workload=workload, **fields)


FRONT0 = pod("front-x1", workload="Deployment/front", labels=(("app", "front"),))
FRONT1 = pod("front-x2", workload="Deployment/front", labels=(("app", "front"), ("canary", "")))
DB = pod("db-0", workload="StatefulSet/db", labels=(("app", "db"),), addresses=("10.0.0.5",))
OTHER_DB = pod("db-1", "bank", "StatefulSet/db", labels=(("app", "db"),))
FRONT = Endpoint(kind=SERVICE, namespace="shop", name="front", addresses=("172.30.0.9",))
HEADLESS = Endpoint(kind=SERVICE, namespace="shop", name="dbs", addresses=("10.0.0.5",))
WORKER = Endpoint(kind=NODE, name="worker", addresses=("172.18.0.3",), node="worker")
PROXY = pod("proxy", "infra", host_network=True, addresses=("172.18.0.3",))
WORLD = Endpoint(kind=OUTSIDE, name="0.0.0.0/0 except 10.0.0.0/8")
ENDPOINTS = (FRONT0, FRONT1, DB, OTHER_DB, FRONT, HEADLESS, WORKER, PROXY, WORLD)


def spans(endpoint: Endpoint) -> Spans:
    if endpoint is not WORLD:
        return ()
    return ((4, int(ip_address("11.0.0.0")), int(ip_address("255.255.255.255"))),)


DIRECTORY = Directory(ENDPOINTS, spans)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("shop/front-x1", (FRONT0,)),
        ("pod shop/front-x1", (FRONT0,)),
        ("pod/front-x1", (FRONT0,)),
        ("po/shop/front-x1", (FRONT0,)),
        ("front-x1", (FRONT0,)),
        ("deploy/front", (FRONT0, FRONT1)),
        ("deployment/front", (FRONT0, FRONT1)),
        ("shop/deploy/front", (FRONT0, FRONT1)),
        ("deploy/shop/front", (FRONT0, FRONT1)),
        ("svc/front", (FRONT,)),
        ("service/shop/front", (FRONT,)),
        ("shop/sts/db", (DB,)),
        ("bank/db", (OTHER_DB,)),
        ("ns/shop", (FRONT0, FRONT1, DB)),
        ("namespace/bank", (OTHER_DB,)),
        ("shop/*", (FRONT0, FRONT1, DB)),
        ("app=front", (FRONT0, FRONT1)),
        ("app=front,!canary", (FRONT0,)),
        ("app in (front, db)", (FRONT0, FRONT1, DB, OTHER_DB)),
        ("no/worker", (WORKER,)),
        ("172.18.0.3", (WORKER,)),
        ("10.0.0.5", (DB,)),
        ("172.30.0.9", (FRONT,)),
        ("198.51.100.7", (WORLD,)),
    ],
)
def test_words_mean_endpoints(text: str, meant: tuple[Endpoint, ...]) -> None:
    assert tuple(ENDPOINTS[index] for index in DIRECTORY.find(text).tolist()) == meant


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "shop/front",
            (
                "shop/front may mean several things; write one of: deployment/shop/front; "
                "service/shop/front"
            ),
        ),
        (
            "sts/db",
            (
                "sts/db may mean several things; write one of: statefulset/bank/db; "
                "statefulset/shop/db"
            ),
        ),
        ("shop/frnt", "the run has no endpoint shop/frnt; did you mean shop/front?"),
        ("ns/nowhere", "the run has no endpoint ns/nowhere"),
        ("10.9.9.9", "the run has no endpoint 10.9.9.9"),
        ("app=nothing", "the run has no endpoint app=nothing"),
        ("sts/front", "the run has no endpoint sts/front"),
        ("deploy/frnt", "the run has no endpoint deploy/frnt; did you mean deploy/front?"),
        ("sts/shop/bd", "the run has no endpoint sts/shop/bd; did you mean sts/shop/db?"),
        ("ns/shp", "the run has no endpoint ns/shp; did you mean ns/shop?"),
        ("app=frnt", "the run has no endpoint app=frnt; did you mean app=front?"),
        ("job/front", "the run has no endpoint job/front: it has none of a job"),
    ],
)
def test_what_means_nothing_or_too_much_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        DIRECTORY.find(text)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sending", "flag"),
    [
        ("svc/shop/front", False, "--to-service shop/front"),
        ("svc/front", False, "--to-service NAMESPACE/front"),
        ("node/worker", True, "--from-node worker"),
        ("8.8.8.8", False, "--to-ip 8.8.8.8"),
    ],
)
def test_a_kind_that_a_run_was_not_asked_about_is_told_from_a_wrong_name(
    text: str, flag: str, *, sending: bool
) -> None:
    pods = [endpoint for endpoint in ENDPOINTS if endpoint.kind is EndpointKind.POD]
    with pytest.raises(UsageError) as refused:
        Directory(pods, sending=sending).find(text)
    assert "it was not asked about" in str(refused.value)
    assert f"`audit run {flag}`" in str(refused.value)


def test_what_a_refusal_offers_is_taken() -> None:
    with pytest.raises(UsageError) as refused:
        DIRECTORY.find("shop/front")
    for offer in str(refused.value).partition("one of: ")[2].split("; "):
        assert DIRECTORY.find(offer).size
