"""Where what left by a gateway comes in again, and when that is not known."""

from dataclasses import replace

import pytest

from audit.model.endpoints import Attachment, EndpointKind
from audit.model.facts import WayIn
from audit.model.traces import Hop, HopEnd, LogicalTrace, TraceTask
from audit.verdict.blame import Blamer
from audit.verdict.blindness import Blindness
from audit.verdict.hops import NextHops
from audit.verdict.judge import DEEPEST, Combine, Judge, Judgement
from audit.verdict.underlay import Underlay
from tests.verdict import made

ROUTER_MAC, GATEWAY_MAC, HOST_MAC = "0a:58:0a:82:00:01", "02:42:ac:12:00:04", "0a:58:0a:82:00:02"
FAR = made.pod("far", "10.130.0.7", node="other")
LOST = made.pod("lost", "10.140.0.7", node="other")
ZONES = {
    "worker": made.zone(
        ports=[
            made.port("shop_a"),
            made.port("k8s-worker", is_pod=False, addresses=("10.128.0.2",)),
            made.port("br-ex_worker", kind="localnet", datapath="ext", is_pod=False),
        ]
    ),
    "other": made.zone(
        "other",
        ports=[
            made.port("br-ex_other", kind="localnet", datapath="ext_other", is_pod=False),
            made.port(
                "stor-other", kind="patch", datapath="other", is_pod=False, peer="rtos-other"
            ),
            made.port("rtos-other", kind="patch", datapath=made.ROUTER, mac=ROUTER_MAC),
        ],
    ),
}


def entry(port: str, mac: str, gateway_mac: str, switch: str) -> Attachment:
    return Attachment(
        zone="other", switch=switch, port=port, mac=mac, gateway_mac=gateway_mac, addresses=()
    )


BY_GATEWAY = entry("br-ex_other", "02:00:5e:00:53:01", GATEWAY_MAC, "ext_other")
BY_HOST = entry("k8s-other", HOST_MAC, ROUTER_MAC, "other")
TO_FAR = made.task(target="shop_far", microflow=replace(made.FLOW, ip_dst="10.130.0.7"))


def judge(task: TraceTask, hop: Hop, way: Attachment | None, *, by_host: bool = False) -> Judgement:
    ways = (WayIn(subnet="10.130.0.0/23", node="other", port=way, by_host=by_host),)
    there = entry("shop_far", "0a:58:0a:82:00:07", ROUTER_MAC, "other")
    far = replace(FAR, attachment=replace(there, addresses=FAR.addresses))
    node = made.pod("host", "172.18.0.4", host_network=True)
    owners = made.owners(far, LOST, replace(node, kind=EndpointKind.NODE))
    hops = NextHops(zones=ZONES, owners=owners, underlay=Underlay.of(ways))
    judging = Judge(
        blamer=Blamer.of(ZONES, ()), hops=hops, blindness=Blindness(zones=ZONES, owners=owners)
    )
    return judging.judge(task, LogicalTrace(key=task.key, hop=hop, output=""))


def left(port: str = "br-ex_worker", end: HopEnd = HopEnd.OUTPUT, **fields: object) -> Hop:
    kind = "localnet" if port.startswith("br-ex") else ""
    return made.hop(end, port=port, port_type=kind, datapath="ext", **fields)


def test_a_packet_for_a_pod_goes_on_by_the_gateway_of_its_node() -> None:
    found = judge(TO_FAR, left(), BY_GATEWAY)
    (onward,) = found.next_hops
    flow = onward.microflow
    assert (found.verdict, found.combine) == (None, Combine.FOLLOW)
    assert (onward.zone, onward.target, onward.depth) == ("other", "shop_far", 1)
    assert (flow.inport, flow.eth_dst, flow.ip_src) == ("br-ex_other", GATEWAY_MAC, "10.128.0.5")
    assert flow.ttl == made.FLOW.ttl - 2


@pytest.mark.parametrize("port", ["br-ex_worker", "k8s-worker"])
def test_a_host_sends_to_the_pod_itself(port: str) -> None:
    (onward,) = judge(TO_FAR, left(port), BY_HOST, by_host=True).next_hops
    flow = onward.microflow
    assert (flow.inport, flow.eth_src, flow.eth_dst) == ("k8s-other", HOST_MAC, "0a:58:0a:82:00:07")
    assert flow.ttl == made.FLOW.ttl - 3


def test_a_translated_packet_must_fare_alike_with_its_own_source() -> None:
    found = judge(TO_FAR, left(ip_src="172.18.0.3"), BY_GATEWAY)
    translated, own = found.next_hops
    assert found.combine is Combine.SOURCES
    assert (translated.microflow.inport, translated.microflow.ip_src) == (
        "br-ex_other",
        "172.18.0.3",
    )
    assert (own.microflow.inport, own.microflow.ip_src) == ("stor-other", "10.128.0.5")
    assert (own.microflow.eth_src, own.microflow.eth_dst) == (ROUTER_MAC, "0a:58:0a:82:00:07")


def test_one_that_is_translated_where_it_comes_in_proves_nothing() -> None:
    task = replace(TO_FAR, zone="other", depth=1)
    task = replace(task, microflow=replace(task.microflow, inport="br-ex_other"))
    dropped = made.hop(HopEnd.DROPPED, datapath="other", ip_src="172.18.0.4")
    found = judge(task, dropped, BY_GATEWAY)
    assert (found.verdict, found.reason) == ("inconclusive", "source-translated")


FROM_NODE = replace(TO_FAR, microflow=replace(TO_FAR.microflow, ip_src="172.18.0.4"))
FROM_HOST = replace(TO_FAR, microflow=replace(TO_FAR.microflow, inport="k8s-worker"))
TO_LOST = made.task(target="shop_lost", microflow=replace(made.FLOW, ip_dst="10.140.0.7"))


@pytest.mark.parametrize(
    ("task", "hop", "way", "reason"),
    [
        (TO_FAR, left(), None, "way-in-unknown"),
        (TO_LOST, left(), BY_GATEWAY, "way-in-unknown"),
        (TO_FAR, left(end=HopEnd.RESOLVING), BY_GATEWAY, "way-in-unknown"),
        (FROM_HOST, left("k8s-worker"), BY_GATEWAY, "way-in-unknown"),
        (FROM_NODE, left(), BY_GATEWAY, "source-translated"),
        (replace(TO_FAR, depth=DEEPEST), left(), BY_GATEWAY, "too-many-hops"),
    ],
)
def test_what_is_not_known_is_not_proven(
    task: TraceTask, hop: Hop, way: Attachment | None, reason: str
) -> None:
    found = judge(task, hop, way)
    assert (found.verdict, found.reason) == ("inconclusive", reason)


def test_what_is_for_the_outside_or_for_the_host_itself_exits() -> None:
    outside = replace(TO_FAR, target="", microflow=replace(made.FLOW, ip_dst="192.0.2.1"))
    host = replace(TO_FAR, target="", microflow=replace(made.FLOW, ip_dst="10.128.0.2"))
    assert judge(outside, left(), BY_GATEWAY).verdict == "exits"
    assert judge(host, left("k8s-worker"), BY_GATEWAY).verdict == "exits"


def test_the_narrowest_subnet_takes_an_address_in() -> None:
    wide = WayIn(subnet="10.128.0.0/14", node="wide", port=None)
    narrow = WayIn(subnet="10.130.0.0/23", node="narrow", port=None)
    underlay = Underlay.of((wide, narrow, WayIn(subnet="fd01::/64", node="six", port=None)))
    assert [underlay.way_in(a) for a in ("10.130.1.1", "10.131.0.1", "192.0.2.1")] == [
        narrow,
        wide,
        None,
    ]
    assert underlay.way_in("fd01::7") is not None
