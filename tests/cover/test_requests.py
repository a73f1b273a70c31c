"""Requests and replies as the cluster's packets are, and one request for every cell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audit.cover import requests
from audit.cover.headless import NO_HEADLESS, Headless
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, NamedPort, Port
from audit.model.facts import Owners, Service, ServiceEndpoint
from audit.model.matrix import FAMILIES, Matrix
from audit.model.packets import REQUEST_SOURCE_PORT, ConntrackState, Family, Protocol
from audit.model.verdicts import REASONS, Reason

HTTP = Port(protocol=Protocol.TCP, number=80)
DNS = Port(protocol=Protocol.UDP, number=53)


def attached(node: str, name: str, number: int) -> Attachment:
    return Attachment(
        zone=node,
        switch=node,
        port=name,
        mac=f"0a:58:0a:80:{len(node):02x}:{number:02x}",
        gateway_mac=f"0a:58:0a:80:{len(node):02x}:01",
        addresses=(f"10.{len(node)}.0.{number}", f"fd00:{len(node)}::{number}"),
    )


def pod(name: str, node: str, number: int, **fields: Any) -> Endpoint:
    place = attached(node, f"shop_{name}", number)
    given: dict[str, Any] = {
        "namespace": "shop",
        "node": node,
        "addresses": place.addresses,
        "attachment": place,
        **fields,
    }
    return Endpoint(kind=EndpointKind.POD, name=name, **given)


def host(kind: EndpointKind, node: str, number: int, **fields: Any) -> Endpoint:
    """Return what is in a node's network: reached at the node's, sending from the mgmt port's."""
    place = attached(node, f"k8s-{node}", 2)
    given: dict[str, Any] = {"addresses": (f"172.18.0.{number}",), "attachment": place, **fields}
    return Endpoint(kind=kind, node=node, host_network=True, **given)


def service(name: str, address: str = "", **fields: Any) -> Endpoint:
    given: dict[str, Any] = {"addresses": (address,) if address else (), **fields}
    return Endpoint(kind=EndpointKind.SERVICE, namespace="shop", name=name, **given)


def outside(address: str, via: str = "") -> Endpoint:
    place = None
    if via:
        place = replace(attached(via, f"br-ex_{via}", 9), switch=f"ext_{via}", addresses=(address,))
    return Endpoint(
        kind=EndpointKind.EXTERNAL, name=address, node=via, addresses=(address,), attachment=place
    )


A, B, C = pod("a", "n1", 5), pod("b", "n1", 6), pod("c", "node2", 7)
NODE = host(EndpointKind.NODE, "n1", 3, name="n1")
NODE2 = host(EndpointKind.NODE, "node2", 4, name="node2")
PROXY = host(EndpointKind.POD, "n1", 3, namespace="kube-system", name="proxy")
VIP = service("web", "172.30.0.10")
WORLD, GUEST = outside("198.51.100.7"), outside("198.51.100.7", via="n1")


@pytest.mark.parametrize(
    ("src", "dst", "inport", "macs", "addresses", "target"),
    [
        # On one switch the receiver itself is the next hop, elsewhere the router is.
        (A, B, "shop_a", ("02:05", "02:06"), ("10.2.0.5", "10.2.0.6"), "shop_b"),
        (A, C, "shop_a", ("02:05", "02:01"), ("10.2.0.5", "10.5.0.7"), "shop_c"),
        # A host sends from its management port, on whose switch its own pods are.
        (NODE, A, "k8s-n1", ("02:02", "02:05"), ("10.2.0.2", "10.2.0.5"), "shop_a"),
        (PROXY, C, "k8s-n1", ("02:02", "02:01"), ("10.2.0.2", "10.5.0.7"), "shop_c"),
        # A host is reached at the node's address, which is not on the pods' subnet.
        (A, NODE, "shop_a", ("02:05", "02:01"), ("10.2.0.5", "172.18.0.3"), "k8s-n1"),
        (A, PROXY, "shop_a", ("02:05", "02:01"), ("10.2.0.5", "172.18.0.3"), "k8s-n1"),
        (A, NODE2, "shop_a", ("02:05", "02:01"), ("10.2.0.5", "172.18.0.4"), "k8s-node2"),
        (A, VIP, "shop_a", ("02:05", "02:01"), ("10.2.0.5", "172.30.0.10"), ""),
        (A, WORLD, "shop_a", ("02:05", "02:01"), ("10.2.0.5", "198.51.100.7"), ""),
        (GUEST, A, "br-ex_n1", ("02:09", "02:01"), ("198.51.100.7", "10.2.0.5"), "shop_a"),
        (GUEST, NODE, "br-ex_n1", ("02:09", "02:01"), ("198.51.100.7", "172.18.0.3"), "k8s-n1"),
    ],
)
def test_a_request_is_the_packet_that_is_sent(
    src: Endpoint,
    dst: Endpoint,
    inport: str,
    macs: tuple[str, str],
    addresses: tuple[str, str],
    target: str,
) -> None:
    task = requests.request_for(src, dst, Family.IP4, HTTP)
    flow = task.microflow
    assert (flow.inport, task.target) == (inport, target)
    assert (flow.eth_src[-5:], flow.eth_dst[-5:]) == macs
    assert (flow.ip_src, flow.ip_dst) == addresses
    assert (flow.protocol, flow.src_port, flow.dst_port) == ("tcp", REQUEST_SOURCE_PORT, 80)
    assert (task.zone, task.state) == (src.node, ConntrackState.REQUEST)
    assert task.to_service == (dst.kind is EndpointKind.SERVICE)
    assert (task.select, task.draws, task.depth) == (0, 0, 0)


def test_a_request_is_of_the_family_asked_about() -> None:
    flow = requests.request_for(A, C, Family.IP6, DNS).microflow
    assert (flow.ip_src, flow.ip_dst, flow.protocol) == ("fd00:2::5", "fd00:5::7", "udp")
    with pytest.raises(ValueError, match="node n1 has no ip6 address"):
        requests.request_for(A, NODE, Family.IP6, HTTP)
    with pytest.raises(ValueError, match="no logical port"):
        requests.request_for(WORLD, A, Family.IP4, HTTP)


@pytest.mark.parametrize(("src", "dst"), [(A, B), (A, C), (NODE, A), (PROXY, C), (A, NODE)])
def test_a_reply_is_the_request_turned_round(src: Endpoint, dst: Endpoint) -> None:
    request = requests.request_for(src, dst, Family.IP4, HTTP)
    reply = requests.reply_for(request, src, dst)
    asked, back = request.microflow, reply.microflow
    assert (back.ip_src, back.ip_dst) == (asked.ip_dst, asked.ip_src)
    assert (back.src_port, back.dst_port) == (asked.dst_port, asked.src_port)
    assert src.attachment is not None
    assert dst.attachment is not None
    assert (back.inport, back.eth_src) == (dst.attachment.port, dst.attachment.mac)
    on_link = src.node == dst.node
    there = src.attachment.mac if on_link else dst.attachment.gateway_mac
    assert back.eth_dst == there
    assert (reply.zone, reply.target) == (dst.node, src.attachment.port)
    assert (reply.state, reply.to_service) == (ConntrackState.REPLY, False)


# --- which request decides which cell


def matrix(endpoints: Sequence[Endpoint], *cells: tuple[int, int, int]) -> Matrix:
    """Return a matrix of ip4 cells (source, destination, port)."""
    table = np.array(cells, dtype=np.int32).reshape(len(cells), 3)
    return Matrix(
        endpoints=tuple(endpoints),
        ports=(HTTP, DNS),
        src=table[:, 0],
        dst=table[:, 1],
        family=np.zeros(len(cells), dtype=np.int8),
        port=table[:, 2],
    )


def test_every_cell_has_the_request_that_its_endpoints_make() -> None:
    endpoints = (A, B, C, NODE, VIP, WORLD)
    whole = matrix(
        endpoints,
        *((s, d, p) for s in range(4) for d in range(6) for p in range(2) if s != d),
    )
    found = requests.exhaustive(whole)
    assert found.has_request.all()
    for cell in range(len(whole)):
        task = requests.request_for(
            endpoints[whole.src[cell]],
            endpoints[whole.dst[cell]],
            FAMILIES[whole.family[cell]],
            whole.ports[whole.port[cell]],
        )
        assert found.keys[found.request[cell]] == task.key
    assert len(set(found.keys)) == len(found.keys)
    assert set(found.request.tolist()) == set(range(len(found.keys)))


def test_cells_with_the_same_packet_share_its_trace() -> None:
    found = requests.exhaustive(matrix((A, NODE, PROXY), (0, 1, 0), (0, 2, 0), (0, 1, 1)))
    assert found.request.tolist() == [0, 0, 1]
    assert len(found.tasks) == 2


LOST = pod("lost", "n1", 8, attachment=None)
UDN = pod("udn", "n1", 9, obstacle="user-defined-network")
BARE = pod("bare", "n1", 9, obstacle="no-address", addresses=(), attachment=None)


@pytest.mark.parametrize(
    ("src", "dst", "reason"),
    [
        (A, B, None),
        (LOST, B, Reason.NO_LOGICAL_PORT),
        (UDN, B, Reason.USER_DEFINED_NETWORK),
        (B, UDN, Reason.USER_DEFINED_NETWORK),
        (UDN, BARE, Reason.USER_DEFINED_NETWORK),  # the source is looked at first
        (BARE, UDN, Reason.NO_ADDRESS),
        (LOST, UDN, Reason.NO_LOGICAL_PORT),
        (NODE, NODE2, Reason.HOST_TO_HOST),
        (PROXY, NODE2, Reason.HOST_TO_HOST),
        (replace(NODE, obstacle="zone-missing"), NODE2, Reason.ZONE_MISSING),
        (NODE, A, None),
        (A, WORLD, None),
        (A, service("none", obstacle="service-without-endpoints"), "service-without-endpoints"),
        (UDN, service("none", obstacle="service-without-endpoints"), "user-defined-network"),
    ],
)
def test_what_cannot_be_traced_is_settled_with_its_reason(
    src: Endpoint, dst: Endpoint, reason: Reason | None
) -> None:
    found = requests.exhaustive(matrix((src, dst), (0, 1, 0)))
    assert found.has_request.tolist() == [reason is None]
    assert len(found.tasks) == (reason is None)
    if reason is not None:
        assert REASONS[found.settled[0]] == reason


# --- headless services


def behind(address: str, target: int = 8080, port: Port = HTTP) -> ServiceEndpoint:
    return ServiceEndpoint(port=port, address=address, target=target)


def headless(*endpoints: ServiceEndpoint, owners: Mapping[str, Endpoint]) -> Headless:
    known = Service(
        namespace="shop",
        name="db",
        headless=True,
        cluster_ips=(),
        ports=(NamedPort(name="", port=HTTP),),
        labels=(),
        endpoints=endpoints,
    )
    return Headless(services={"service shop/db": known}, owners=Owners(by_network={"": owners}))


DB = service("db", addresses=("10.2.0.6", "10.5.0.7"))
OWNERS = {address: one for one in (A, B, C, UDN) for address in one.addresses} | {
    "172.18.0.3": NODE
}


def test_a_headless_service_is_the_requests_to_its_endpoints() -> None:
    known = headless(behind("10.2.0.6"), behind("10.5.0.7", 8081), owners=OWNERS)
    found = requests.exhaustive(matrix((A, B, DB), (0, 1, 0), (0, 2, 0)), known)
    legs = (
        requests.request_for(A, B, Family.IP4, Port(protocol=Protocol.TCP, number=8080)),
        requests.request_for(A, C, Family.IP4, Port(protocol=Protocol.TCP, number=8081)),
    )
    [fork] = found.forks
    assert fork.legs == legs
    assert [task.key for task in found.tasks[1:]] == [leg.key for leg in legs]
    assert found.keys[found.request[1]] == fork.key
    assert found.request.tolist() == [0, 3]


def test_endpoints_legs_are_the_requests_of_their_own_cells() -> None:
    known = headless(behind("10.2.0.6", 80), owners=OWNERS)
    found = requests.exhaustive(matrix((A, B, DB), (0, 1, 0), (0, 2, 0)), known)
    assert len(found.tasks) == 1
    assert found.forks[0].legs == found.tasks


def test_a_port_that_a_headless_service_does_not_declare_is_the_endpoints_own() -> None:
    known = headless(behind("10.2.0.6"), behind("10.5.0.7"), owners=OWNERS)
    found = requests.exhaustive(matrix((A, DB), (0, 1, 1)), known)
    ports = [(leg.microflow.ip_dst, leg.microflow.dst_port) for leg in found.forks[0].legs]
    assert ports == [("10.2.0.6", 53), ("10.5.0.7", 53)]


@pytest.mark.parametrize(
    ("src", "endpoints", "reason"),
    [
        (A, (), Reason.SERVICE_WITHOUT_ENDPOINTS),
        (A, (behind("fd00:2::6"),), Reason.SERVICE_WITHOUT_ENDPOINTS),  # none of this family
        (A, (behind("10.2.0.5"),), Reason.OWN_ENDPOINT),
        (A, (behind("10.2.0.6"), behind("10.2.0.9")), Reason.USER_DEFINED_NETWORK),
        (NODE2, (behind("172.18.0.3"),), Reason.HOST_TO_HOST),
        (NODE, (behind("172.18.0.3"),), Reason.HOST_TO_HOST),
    ],
)
def test_a_headless_service_that_cannot_be_traced(
    src: Endpoint, endpoints: tuple[ServiceEndpoint, ...], reason: Reason
) -> None:
    found = requests.exhaustive(matrix((src, DB), (0, 1, 0)), headless(*endpoints, owners=OWNERS))
    assert (found.tasks, found.forks, found.cells.tolist()) == ((), (), [])
    assert REASONS[found.settled[0]] is reason


def test_a_pod_does_not_send_to_itself_by_a_headless_service() -> None:
    known = headless(behind("10.2.0.5"), behind("10.2.0.6"), owners=OWNERS)
    found = requests.exhaustive(matrix((A, DB), (0, 1, 0)), known)
    assert [leg.microflow.ip_dst for leg in found.forks[0].legs] == ["10.2.0.6"]


def test_endpoints_outside_and_on_hosts_are_traced_to_where_they_are() -> None:
    known = headless(behind("172.18.0.3"), behind("192.0.2.1"), owners=OWNERS)
    found = requests.exhaustive(matrix((A, DB), (0, 1, 0)), known)
    assert [(leg.microflow.ip_dst, leg.target) for leg in found.forks[0].legs] == [
        ("172.18.0.3", "k8s-n1"),
        ("192.0.2.1", ""),
    ]


def test_services_with_an_address_are_not_headless() -> None:
    found = requests.exhaustive(matrix((A, VIP), (0, 1, 0)), NO_HEADLESS)
    assert (len(found.tasks), found.forks) == (1, ())


def test_requests_that_are_added_leave_the_others_as_they_were() -> None:
    known = headless(behind("10.2.0.6"), owners=OWNERS)
    whole = matrix((A, B, C, DB), (0, 1, 0), (0, 2, 0), (0, 3, 0))
    found = requests.exhaustive(whole, known, only=np.array([False, False, True]))
    assert found.of(np.arange(3)).tolist() == [-1, -1, 1]
    more = requests.extended(found, whole, np.array([1]))
    assert more.has_request.tolist() == [False, True, True]
    keys = [more.keys[i] for i in more.of(np.array([1, 2])).tolist()]
    assert keys == [requests.request_for(A, C, Family.IP4, HTTP).key, found.forks[0].key]
