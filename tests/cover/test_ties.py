"""Which flows of a priority OVN may take for each other, and what is not composed for it."""

import pytest

from audit.cover.ties import tied
from audit.model.facts import LogicalFlow
from tests.cover.test_flows import FAR, HERE, ROUTER, A, B, told, zone


def both(first: str, second: str, *, stage: str = "ls_in_l2_lkup") -> bool:
    """Say whether two flows that do different things may be taken for each other."""
    flows = [LogicalFlow(stage, 50, first, "next;"), LogicalFlow(stage, 50, second, "drop;")]
    return list(tied(flows, zone())) == [(0, 1)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("tcp.dst == 53", "eth.dst == 0a:58:0a:80:00:06"),
        ("eth.dst == 0a:58:0a:80:00:06", "eth.dst == 0A:58:0A:80:00:06"),
        ("eth.src == 0a:58:0a:80:00:05", "eth.dst == 0a:58:0a:80:00:06"),
        ("ip4.dst == 10.128.0.0/23", "ip4.dst == 10.128.0.6"),
        ("ip4.dst == {10.128.0.5, 10.128.0.6}", "ip4.dst == 10.128.0.6"),
        ("ip4.dst == $s", "ip4.dst == 10.128.0.6"),
        ("ip4.dst == 10.0.0.0/255.0.0.0", "ip4.dst == 10.128.0.0/14"),
        ("ip6.dst == fd00::/64", "ip6.dst == {fd00::5, fd01::5}"),
        ("tcp.dst == 0x35", "tcp.dst == 53"),
        ("tcp", "ip4 && tcp.dst == 53"),
        ("reg0[1] == 1", "reg0[2] == 1"),
        ('inport == "a"', 'outport == "a"'),
        ("ip4.dst == 10.128.0.5 || tcp", "ip4.dst == 10.128.0.6"),
        ("ip4.dst != 10.128.0.5", "ip4.dst == 10.128.0.6"),
        ('!is_chassis_resident("a")', 'is_chassis_resident("b")'),
        ("1", "ip4"),
    ],
)
def test_what_may_be_true_at_once_is_tied(first: str, second: str) -> None:
    assert both(first, second)
    assert both(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("eth.dst == 0a:58:0a:80:00:05", "eth.dst == 0a:58:0a:80:00:06"),
        ("eth.dst == {0a:58:0a:80:00:05, 0a:58:0a:80:00:07}", "eth.dst == 0a:58:0a:80:00:06"),
        ("ip4.dst == 10.128.0.0/24", "ip4.dst == 10.128.1.0/24"),
        ("ip4.dst == 10.128.0.0/24", "ip4.dst == 10.129.0.0/16"),
        ("ip4.dst == $s", "ip4.dst == 10.128.0.5"),
        ("ip4.src == 10.128.0.5", "ip6.src == fd00::5"),
        ("ip6.dst == fd00::/64", "ip6.dst == {fd01::5, fd02::/64}"),
        ("tcp.dst == 53", "udp.dst == 53"),
        ("tcp.dst == 53", "tcp.dst == 54"),
        ('inport == "a" && ip4', 'inport == "b" && ip4'),
        ("(eth.dst == 0a:58:0a:80:00:05)", "eth.dst == 0a:58:0a:80:00:06"),
        ("reg0 == 100.64.0.1", "xxreg0 == fe80::1"),
        ("reg0[1] == 0", "reg0[1] == 1"),
        ("ct.new", "!ct.new"),
        ("ct.new && ip4", "ct.est && ip4"),
        ('is_chassis_resident("a")', '!is_chassis_resident("a")'),
        ("ip.ttl == {0, 1}", "ip4"),  # no packet that is traced is so old
        ("ct.est && !ct.rpl", "ip4"),  # nor tracked so
    ],
)
def test_what_excludes_each_other_is_not(first: str, second: str) -> None:
    assert not both(first, second)
    assert not both(second, first)


def test_flows_of_other_stages_and_priorities_and_those_that_do_the_same_are_not_tied() -> None:
    flow = LogicalFlow("ls_in_l2_lkup", 50, "ip4", "next;")
    for other in (
        flow._replace(stage="ls_in_hairpin", actions="drop;"),
        flow._replace(priority=51, actions="drop;"),
        flow._replace(match="tcp"),
    ):
        assert not list(tied([flow, other], zone()))
    row = LogicalFlow("Port_Binding", 0, '"a"', "")
    assert not list(tied([row, row._replace(actions="x")], zone()))


def test_of_many_flows_only_those_that_overlap_are_tied() -> None:
    flows = [
        LogicalFlow("ls_in_l2_lkup", 50, f"eth.dst == 0a:58:0a:80:00:{n:02x}", f'outport = "{n}";')
        for n in range(200)
    ]
    stray = LogicalFlow("ls_in_l2_lkup", 50, "eth.dst == 0a:58:0a:80:00:07 && tcp", "drop;")
    assert list(tied([*flows, stray], zone())) == [(7, 200)]


def limits(*flows: LogicalFlow, on: str = HERE) -> list[tuple[str, frozenset[int] | None]]:
    return [(flow.match, ends) for flow, ends in told(*flows, on=on).ties]


def test_what_meets_two_flows_of_which_one_is_about_an_endpoint_is_not_composed() -> None:
    own = LogicalFlow("ls_in_l2_lkup", 50, "eth.dst == 0a:58:0a:80:00:06", 'outport = "shop_b";')
    stray = own._replace(match="tcp", actions="drop;")
    assert limits(own, stray) == [
        ("eth.dst == 0a:58:0a:80:00:06 && tcp", None),
        ("tcp && eth.dst == 0a:58:0a:80:00:06", None),
    ]
    assert not limits(own, stray._replace(priority=51))


def test_where_neither_is_about_an_endpoint_all_packets_fare_alike() -> None:
    flow = LogicalFlow("ls_in_l2_lkup", 50, "ip4", "next;")
    assert not limits(flow, flow._replace(match="tcp", actions="drop;"))


def test_what_ties_with_many_is_left_out_where_one_end_is_theirs() -> None:
    stray = LogicalFlow("lr_in_arp_resolve", 50, "ip4", "drop;")
    about = [
        stray._replace(match=f"ip4.dst == 10.128.0.5 && ip.ttl == {ttl}", actions="next;")
        for ttl in range(60, 80)
    ]
    assert ("ip4", frozenset({0})) in limits(stray, *about, on=ROUTER)


def test_what_stays_on_a_switch_does_not_come_between_switches() -> None:
    away = LogicalFlow("lr_out_snat", 300, "ip4.src == 10.128.0.0/23", "ct_snat(1.2.3.4);")
    back = away._replace(match="ip4.dst == 10.128.0.0/23", actions="ct_snat;")
    assert A.attachment is not None
    assert B.attachment is not None
    assert FAR.attachment is not None
    assert A.attachment.switch == B.attachment.switch != FAR.attachment.switch
    assert not [b for b in told(away, back, on=ROUTER).beyond if b.tied]
    wide = away._replace(match="ip4.src == 10.128.0.0/14")
    assert [b.flow for b in told(wide, back, on=ROUTER).beyond if b.tied] == [wide, back]


def test_a_mark_makes_a_difference_where_something_asks_for_it_later() -> None:
    allow = LogicalFlow("lr_in_policy", 102, "ip4.dst == 10.128.0.5", "pkt.mark = 1008; next;")
    plain = allow._replace(match="pkt.mark == 42", actions="next;")
    asks = LogicalFlow("lr_out_snat", 5, "pkt.mark == 1008", "drop;")
    assert not told(allow, plain, on=ROUTER).ties
    assert told(allow, plain, asks, on=ROUTER).ties
