"""Where a packet goes on: the right zone, port, MACs and addresses."""

from dataclasses import replace

from audit.model.facts import NO_OWNERS
from audit.model.traces import HopEnd
from audit.verdict.hops import DRAWS_PER_BACKEND, NextHops
from tests.verdict import made

ZONES = {
    "worker": made.zone(
        ports=[
            made.port("shop_a"),
            made.port(
                "tstor-other",
                kind="remote",
                datapath=made.TRANSIT,
                tunnel_key=2,
                mac="0a:58:64:58:00:02",
            ),
            made.port(
                "tstor-worker",
                kind="patch",
                datapath=made.TRANSIT,
                tunnel_key=1,
                peer="rtots-worker",
            ),
            made.port(
                "rtots-worker",
                kind="patch",
                datapath=made.ROUTER,
                tunnel_key=9,
                mac="0a:58:64:58:00:01",
            ),
        ]
    ),
    "third": made.zone(
        "third",
        ports=[made.port("tstor-other", kind="remote", datapath=made.TRANSIT, tunnel_key=2)],
    ),
    "other": made.zone(
        "other",
        ports=[
            made.port("tstor-other", kind="patch", datapath=made.TRANSIT, tunnel_key=2),
            made.port("tstor-worker", kind="remote", datapath=made.TRANSIT, tunnel_key=1),
        ],
    ),
}
HOPS = NextHops(zones=ZONES, owners=made.owners(made.pod("b", "10.128.0.6")))
LEFT = made.hop(
    HopEnd.OUTPUT,
    port="tstor-other",
    port_type="remote",
    entered="tstor-worker",
    datapath=made.TRANSIT,
)


def test_a_packet_enters_the_next_zone_by_the_senders_port_from_router_to_router() -> None:
    task = made.task(select=3, depth=1)
    onward = HOPS.beyond(task, LEFT)
    assert onward is not None
    assert (onward.zone, onward.depth, onward.select) == ("other", 2, 0)
    assert (onward.state, onward.target) == (task.state, task.target)
    assert onward.microflow == replace(
        task.microflow,
        inport="tstor-worker",
        eth_src="0a:58:64:58:00:01",
        eth_dst="0a:58:64:58:00:02",
        ttl=63,
    )


def test_where_one_way_leads_what_a_packet_leads_to_is_known_beforehand() -> None:
    assert HOPS.expected(made.task(), "other") == HOPS.beyond(made.task(), LEFT)
    assert HOPS.expected(made.task(), "third") is None
    assert HOPS.expected(made.task(zone="nowhere"), "other") is None


def test_where_two_ways_lead_nothing_is_expected() -> None:
    ports = ZONES["worker"].ports.values()
    second = made.port("pod", kind="remote", datapath=made.TRANSIT, tunnel_key=5)
    there = [*ZONES["other"].ports.values(), replace(second, kind="")]
    zones = {
        "worker": made.zone(ports=[*ports, second]),
        "other": made.zone("other", ports=there),
    }
    assert NextHops(zones=zones, owners=NO_OWNERS).expected(made.task(), "other") is None


def test_a_packet_goes_on_with_the_addresses_it_left_with() -> None:
    onward = HOPS.beyond(made.task(), replace(LEFT, ip_src="172.18.0.3", ip_dst="10.130.0.9"))
    assert onward is not None
    assert (onward.microflow.ip_src, onward.microflow.ip_dst) == ("172.18.0.3", "10.130.0.9")


def test_there_is_no_way_on_into_a_zone_that_is_not_there() -> None:
    lost = NextHops(zones={"worker": ZONES["worker"], "third": ZONES["third"]}, owners=NO_OWNERS)
    assert lost.beyond(made.task(), LEFT) is None
    assert HOPS.beyond(made.task(), replace(LEFT, port="nobody")) is None
    assert HOPS.beyond(made.task(), replace(LEFT, entered="nobody")) is None
    assert HOPS.beyond(made.task(), replace(LEFT, entered="shop_a")) is None


def test_a_choice_is_the_same_packet_with_each_member_forced() -> None:
    task = made.task(to_service=True)
    members = HOPS.members(task, made.hop(HopEnd.SELECTED, choices=(1, 2)))
    assert [(m.select, m.depth, m.microflow, m.to_service) for m in members] == [
        (1, 1, task.microflow, True),
        (2, 1, task.microflow, True),
    ]
    assert len({task.key, *(member.key for member in members)}) == 3


def test_backends_of_nobodys_are_traced_to_wherever_they_go() -> None:
    hop = made.hop(HopEnd.BALANCED, backends=("10.128.0.6:8080", "192.0.2.1:443"))
    inside, outside = HOPS.backends(made.task(to_service=True), hop)
    assert (inside.target, outside.target) == ("shop_b", "")
    assert (outside.microflow.ip_dst, outside.microflow.dst_port) == ("192.0.2.1", 443)


def test_ip6_backends_are_written_in_brackets() -> None:
    flow = replace(made.FLOW, ip_src="fd00::5", ip_dst="fd98::1")
    hop = made.hop(HopEnd.BALANCED, backends=("[fd00::6]:8080", "10.128.0.6:8080"))
    [leg] = HOPS.backends(made.task(microflow=flow), hop)
    assert (leg.microflow.ip_dst, leg.microflow.dst_port) == ("fd00::6", 8080)


def test_a_pods_way_to_itself_is_drawn_from_the_service() -> None:
    task = made.task(to_service=True, target="")
    hop = made.hop(HopEnd.BALANCED, backends=("10.128.0.5:8080", "10.128.0.6:8080"))
    own, other = HOPS.backends(task, hop)
    assert (own.microflow, own.target) == (task.microflow, "shop_a")
    assert (own.draws, other.draws) == (2 * DRAWS_PER_BACKEND, 0)
