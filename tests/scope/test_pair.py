"""A pair is found by its names, and what cannot be traced between is refused in one sentence."""

import dataclasses
from typing import Any

import pytest

from audit.errors import ScopeError, UsageError
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import ClusterState, Note
from audit.model.packets import Family, Protocol
from audit.scope.pair import MOST_PORTS, Names, Pair, Words, sends
from audit.scope.pair import resolve as resolve_all
from tests.scope.test_expand import STATE

HTTP = Port(protocol=Protocol.TCP, number=80)
HOSTS = tuple(
    dataclasses.replace(
        STATE.pods[3],
        namespace="infra",
        name=f"host-{number}",
        addresses=(f"172.18.0.{number}",),
        host_network=True,
    )
    for number in (2, 3)
)
KNOWN = dataclasses.replace(
    STATE,
    pods=(*STATE.pods, *HOSTS),
    notes=(
        Note(code="pod-finished", text="", subjects=("infra/job-done",)),
        Note(code="pod-pending", text="", subjects=("infra/stuck",)),
    ),
)


def resolve(state: ClusterState, names: Names | Words) -> Pair:
    (pair,) = resolve_all(state, names)
    return pair


def found(**names: Any) -> Pair:
    given: dict[str, Any] = {"src_namespace": "shop", "src": "web-0", "dst_namespace": "infra"}
    return resolve(KNOWN, Names(**{**given, "port": HTTP, **names}))


@pytest.mark.parametrize(
    ("names", "key"),
    [
        ({"dst": "dns-0"}, "pod infra/dns-0"),
        ({"dst": "db-0", "dst_namespace": "shop"}, "pod shop/db-0"),
        ({"service": "dns"}, "service infra/dns"),
        ({"dst_ip": "10.128.0.8"}, "pod infra/dns-0"),
        ({"dst_ip": "10.96.0.10"}, "service infra/dns"),
        ({"dst_ip": "172.18.0.2"}, "node n1"),
        ({"dst_ip": "198.51.100.7"}, "external 198.51.100.7"),
    ],
)
def test_destinations(names: dict[str, str], key: str) -> None:
    pair = found(**names)
    assert (pair.src.key, pair.dst.key) == ("pod shop/web-0", key)
    assert pair.by_address is ("dst_ip" in names)
    matrix = pair.matrix()
    assert len(matrix) == 1
    assert [matrix.endpoints[i].key for i in (matrix.src[0], matrix.dst[0])] == [pair.src.key, key]
    assert matrix.ports[matrix.port[0]] == HTTP


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"dst": "dns-1"}, "destination pod 'dns-1' does not exist in namespace infra; did you"),
        ({"dst": "db-0"}, "does not exist in namespace infra; there is one in shop"),
        ({"dst": "x", "dst_namespace": "infr"}, "did you mean infra?"),
        ({"src": "nobody", "dst": "dns-0"}, "source pod 'nobody' does not exist"),
        ({"src_namespace": "shp", "dst": "dns-0"}, "source namespace 'shp' does not exist; did"),
        ({"service": "dn"}, "service 'dn' does not exist in namespace infra; did you mean dns?"),
        ({"dst": "job-done"}, "destination pod infra/job-done has completed"),
        ({"dst": "stuck"}, "destination pod infra/stuck is pending"),
        ({"dst_ip": "10.0.0"}, "--dst-ip '10.0.0' is no IP address"),
        ({"dst_ip": "10.0.0.1", "family": Family.IP6}, "--dst-ip 10.0.0.1 is no ip6 address"),
        ({"dst_ip": "2001:db8::1"}, "pod shop/web-0 has no ip6 address"),
        ({"dst": "dns-0", "family": Family.IP6}, "has no ip6 address; see --addr-family"),
        ({"dst": "web-0", "dst_namespace": "shop"}, "is source and destination"),
        (
            {"src": "host-2", "src_namespace": "infra", "dst": "host-3"},
            "both in the host network",
        ),
    ],
)
def test_what_is_refused(names: dict[str, Any], says: str) -> None:
    with pytest.raises(ScopeError, match=r".") as refused:
        found(**names)
    assert says in str(refused.value)


def test_the_family_is_the_address_s_own() -> None:
    both = (*STATE.pods[0].addresses, "fd00::5")
    attachment = Attachment(
        zone="z", switch="s", port="shop_web-0", mac="m", gateway_mac="g", addresses=both
    )
    web = dataclasses.replace(STATE.pods[0], addresses=both, attachment=attachment)
    state = dataclasses.replace(KNOWN, pods=(web, *KNOWN.pods[1:]))
    names: dict[str, Any] = {"src_namespace": "shop", "src": "web-0", "port": HTTP}
    names["dst_namespace"] = "infra"
    pair = resolve(state, Names(**names, dst_ip="2001:DB8:0::1"))
    assert pair.family is Family.IP6
    outside = Endpoint(kind=EndpointKind.EXTERNAL, name="2001:db8::1", addresses=("2001:db8::1",))
    assert pair.dst == outside
    assert resolve(state, Names(**names, dst="dns-0")).family is Family.IP4


def test_a_host_sends_with_its_management_port_s_address() -> None:
    attachment = Attachment(
        zone="z", switch="s", port="k8s-n1", mac="m", gateway_mac="g", addresses=("10.128.0.2",)
    )
    node = dataclasses.replace(
        STATE.nodes[0], addresses=("172.18.0.2", "fc00::2"), attachment=attachment
    )
    assert sends(node, Family.IP4)
    assert not sends(node, Family.IP6)
    assert not sends(dataclasses.replace(node, kind=EndpointKind.EXTERNAL), Family.IP4)
    assert not sends(dataclasses.replace(node, attachment=None), Family.IP4)


@pytest.mark.parametrize(
    ("words", "key", "port"),
    [
        (("shop/web-0", "infra/dns-0", "80"), "pod infra/dns-0", "tcp/80"),
        (("pod/shop/web-0", "svc/dns", "udp/53"), "service infra/dns", "udp/53"),
        (("shop/web-0", "10.96.0.10", "80"), "service infra/dns", "tcp/80"),
        (("shop/web-0", "198.51.100.7", "443"), "external 198.51.100.7", "tcp/443"),
    ],
)
def test_ends_in_words(words: tuple[str, str, str], key: str, port: str) -> None:
    src, dst, asked = words
    pair = resolve(KNOWN, Words(src=src, dst=dst, port=asked))
    assert (pair.src.key, pair.dst.key, str(pair.port)) == ("pod shop/web-0", key, port)
    assert pair.by_address is dst[0].isdigit()
    assert pair.notes == ()


def test_of_several_pods_the_first_is_traced_and_that_is_said() -> None:
    pair = resolve(KNOWN, Words(src="shop/web-0", dst="ns/infra", port="80"))
    pods = sorted(pod.key for pod in KNOWN.pods if pod.namespace == "infra")
    assert len(pods) > 1
    assert pair.dst.key == pods[0]
    assert pair.notes == (f"ns/infra means {len(pods)} endpoints; {pods[0]} is traced",)


def test_without_a_port_all_that_the_destination_declares() -> None:
    ports = tuple(Port(protocol=p, number=53) for p in (Protocol.TCP, Protocol.UDP))
    declared = tuple(NamedPort(name=f"dns-{port.protocol}", port=port) for port in ports)
    pods = [
        dataclasses.replace(pod, declared=declared) if pod.name == "dns-0" else pod
        for pod in KNOWN.pods
    ]
    state = dataclasses.replace(KNOWN, pods=tuple(pods))
    found = resolve_all(state, Words(src="shop/web-0", dst="infra/dns-0"))
    assert {pair.port for pair in found} == set(ports)
    assert {pair.dst.key for pair in found} == {"pod infra/dns-0"}
    assert {tuple(pair.matrix().ports) for pair in found} == {(port,) for port in ports}


def test_so_many_ports_and_no_more() -> None:
    words = Words(src="shop/web-0", dst="infra/dns-0", port=f"tcp/1-{MOST_PORTS}")
    assert [pair.port.number for pair in resolve_all(KNOWN, words)] == [*range(1, MOST_PORTS + 1)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("shop/web-0", "198.51.100.7", ""), "declares no ports; say which"),
        (("shop/web-0", "198.51.100.7", ""), "say which to trace, as in tcp/80"),
        (("shop/web-0", "infra/dns-0", "all"), "all means ranges of ports, and a trace is of one"),
        (("shop/web-0", "infra/dns-0", "tcp/all"), "means ranges of ports, and a trace is of one"),
        (("shop/web-0", "infra/dns-0", "tcp/80-96"), "tcp/80-96 means 17 ports, and at most 16"),
        (("svc/dns", "shop/web-0", "80"), "is a Service, which sends nothing"),
        (("shop/wbe-0", "infra/dns-0", "80"), "the cluster has no endpoint shop/wbe-0; did you"),
    ],
)
def test_words_that_mean_no_pair(words: tuple[str, str, str], says: str) -> None:
    src, dst, port = words
    with pytest.raises((ScopeError, UsageError), match=r".") as refused:
        resolve(KNOWN, Words(src=src, dst=dst, port=port))
    assert says in str(refused.value)
