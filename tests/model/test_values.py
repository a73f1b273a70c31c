"""Values check themselves when they are made, so nothing later has to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.model.endpoints import Attachment, Endpoint, EndpointKind, Port, stretches
from audit.model.facts import ServiceEndpoint
from audit.model.packets import WITH_PORTS, ConntrackState, Family, Microflow, Protocol
from audit.model.tasks import keyed
from audit.model.traces import TraceTask
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    PASSES,
    REASON_CODE,
    REASONS,
    STOPPED,
    UNPROVEN,
    VERDICTS,
    Blame,
    PolicyRef,
    Verdict,
)

FLOW = Microflow(
    inport="shop_web",
    eth_src="0a:58:0a:01:00:05",
    eth_dst="0a:58:0a:01:00:01",
    ip_src="10.1.0.5",
    ip_dst="10.2.0.7",
    protocol=Protocol.TCP,
    src_port=52888,
    dst_port=80,
)
TASK = TraceTask(
    key="", zone="worker", state=ConntrackState.REQUEST, microflow=FLOW, target="shop_db"
)


@given(st.integers(min_value=1, max_value=65535), st.sampled_from(WITH_PORTS))
def test_a_port_is_written_as_it_is_asked_for(number: int, protocol: Protocol) -> None:
    assert str(Port(protocol=protocol, number=number)) == f"{protocol.value}/{number}"


def test_icmp_has_no_ports() -> None:
    assert str(Port(protocol=Protocol.ICMP, number=0)) == "icmp"
    with pytest.raises(ValueError, match="icmp has no ports"):
        Port(protocol=Protocol.ICMP, number=8)


def test_a_range_is_written_as_it_is_asked_for_and_one_port_is_no_range() -> None:
    wide = Port(protocol=Protocol.UDP, number=0, last=1023)
    assert str(wide) == "udp/0-1023"
    assert wide.sample == 1023
    assert 0 in wide
    assert 1024 not in wide
    assert Port(protocol=Protocol.TCP, number=80, last=80) == Port(protocol=Protocol.TCP, number=80)
    for number, last in ((80, 79), (80, 65536), (-1, 80)):
        with pytest.raises(ValueError, match="is no range of ports"):
            Port(protocol=Protocol.TCP, number=number, last=last)


@pytest.mark.parametrize("number", [-1, 65536])
def test_a_number_that_is_no_port(number: int) -> None:
    with pytest.raises(ValueError, match="is not between 0 and 65535"):
        Port(protocol=Protocol.TCP, number=number)


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_a_number_that_is_no_target(number: int) -> None:
    port = Port(protocol=Protocol.TCP, number=80)
    with pytest.raises(ValueError, match="is not between 1 and 65535"):
        ServiceEndpoint(port=port, address="10.1.0.5", target=number)


def test_ports_are_ordered_by_protocol_and_number() -> None:
    ports = [Port(protocol=p, number=n) for p in WITH_PORTS for n in (443, 80)]
    assert [str(p) for p in sorted(ports)][:3] == ["sctp/80", "sctp/443", "tcp/80"]


@pytest.mark.parametrize(
    ("src", "dst"),
    [("10.1.0.5", "fd01::7"), ("fd01::5", "10.2.0.7"), ("::ffff:10.1.0.5", "10.2.0.7")],
)
def test_a_microflow_has_one_family(src: str, dst: str) -> None:
    with pytest.raises(ValueError, match="mixed address families"):
        replace(FLOW, ip_src=src, ip_dst=dst)


def test_a_microflows_family() -> None:
    assert FLOW.family is Family.IP4
    assert replace(FLOW, ip_src="fd01::5", ip_dst="fd01::7").family is Family.IP6


def test_the_three_sets_partition_the_verdicts() -> None:
    assert len(PASSES) + len(STOPPED) + len(UNPROVEN) == len(Verdict)
    assert set(Verdict) == PASSES | STOPPED | UNPROVEN


def test_codes_are_places_and_fit_a_byte() -> None:
    assert [CODE[verdict] for verdict in VERDICTS] == list(range(len(VERDICTS)))
    assert [REASON_CODE[reason] for reason in REASONS] == list(range(len(REASONS)))
    assert max(*CODE.values(), *REASON_CODE.values()) < NO_VERDICT == 255


def test_an_endpoints_key_tells_everything_apart() -> None:
    endpoints = [
        Endpoint(kind=EndpointKind.POD, namespace="shop", name="web"),
        Endpoint(kind=EndpointKind.SERVICE, namespace="shop", name="web"),
        Endpoint(kind=EndpointKind.NODE, name="worker", node="worker"),
        Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.7"),
        Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.7", node="worker"),
    ]
    assert [endpoint.key for endpoint in endpoints] == [
        "pod shop/web",
        "service shop/web",
        "node worker",
        "external 198.51.100.7",
        "external 198.51.100.7 via worker",
    ]


def test_an_address_is_asked_for_by_family() -> None:
    place = Attachment(zone="z", switch="s", port="p", mac="", gateway_mac="", addresses=())
    pod = Endpoint(
        kind=EndpointKind.POD, name="web", addresses=("fd01::5", "10.1.0.5"), attachment=place
    )
    assert (pod.address(Family.IP4), pod.address(Family.IP6)) == ("10.1.0.5", "fd01::5")
    assert replace(pod, addresses=("fd01::5",)).address(Family.IP4) is None


def test_a_key_is_made_of_content_and_nothing_else() -> None:
    key = keyed(TASK).key
    assert len(key) == 16
    assert keyed(keyed(TASK)).key == key
    assert keyed(replace(TASK, depth=3)).key == key
    others = [
        replace(TASK, zone="worker2"),
        replace(TASK, state=ConntrackState.REPLY),
        replace(TASK, target="shop_web"),
        replace(TASK, select=1),
        replace(TASK, microflow=replace(FLOW, dst_port=81)),
        replace(TASK, microflow=replace(FLOW, ip_dst="10.2.0.8")),
    ]
    assert len({key, *(keyed(task).key for task in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("blame", "text"),
    [
        (
            Blame(
                action="drop",
                policy=PolicyRef(kind="NetworkPolicy", namespace="shop", name="web"),
                direction="ingress",
                rule=2,
            ),
            "networkpolicy shop/web ingress[2]",
        ),
        (
            Blame(
                action="drop",
                policy=PolicyRef(kind="AdminNetworkPolicy", namespace="", name="tenants"),
            ),
            "adminnetworkpolicy tenants",
        ),
        (
            Blame(action="allow", owner="default-network-controller:NetpolNode:worker:fd01::2"),
            "OVN-Kubernetes' own ACL that lets a node reach its own pods",
        ),
        (
            Blame(action="drop", owner="default-network-controller:MulticastNS:shop:Egress"),
            "OVN-Kubernetes' own ACL for multicast in namespace shop",
        ),
        (
            Blame(action="drop", owner="default-network-controller:Novelty:x", acl="7f"),
            "OVN-Kubernetes' own ACL of type Novelty",
        ),
        (
            Blame(action="drop", owner="shop_ingressDefaultDeny"),
            "OVN-Kubernetes' own ACL that isolates pods of namespace shop",
        ),
        (Blame(action="drop", acl="7f"), "ACL 7f"),
        (Blame(action="drop", stage="ls_in_check_port_sec"), "ls_in_check_port_sec"),
    ],
)
def test_a_blame_names_the_closest_thing_it_knows(blame: Blame, text: str) -> None:
    assert str(blame) == text


@pytest.mark.parametrize(
    ("ports", "together"),
    [
        ("tcp/80 tcp/81", "tcp/80 tcp/81"),
        ("tcp/80 tcp/0-79 tcp/81-442 tcp/443 tcp/444-65535", "tcp/0-65535"),
        ("tcp/0-79 tcp/81-442", "tcp/0-79 tcp/81-442"),
        ("tcp/0-65535 udp/0-52 udp/53 sctp/38412", "tcp/0-65535 udp/0-53 sctp/38412"),
        ("tcp/1-100 tcp/80 tcp/101", "tcp/1-101"),
        ("icmp", "icmp"),
        ("", ""),
    ],
)
def test_a_range_takes_in_what_goes_on_where_it_ends(ports: str, together: str) -> None:
    done = stretches(map(Port.parse, ports.split()))
    assert sorted(map(str, done)) == sorted(together.split())
