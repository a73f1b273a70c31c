"""What ovn-trace passes over: every action it can print is known, and what it makes of a trace."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from audit.model.blindness import Spot
from audit.model.traces import Hop, HopEnd, Unseen
from audit.trace import blindness, tree, walk
from audit.trace.blindness import EXECUTED, LEFT_ZERO, PASSED_OVER
from tests.conftest import REPOSITORY

ACTIONS = (
    # actions.h, OVNACTS, of OVN 22.03 to main of 2026-08, each as actions.c prints it.
    "output; next; reg0[1] = 1; eth.dst = eth.src; push(xxreg0); pop(eth.type); "
    "eth.src <-> eth.dst; ip.ttl--; ct_next; ct_next(dnat); ct_commit; "
    "ct_commit { ct_mark.blocked = 1; }; ct_commit(ct_mark=0x1); "
    "ct_commit_to_zone(dnat); ct_dnat; ct_snat(10.0.0.1); ct_dnat_in_czone; "
    "ct_snat_in_czone; ct_lb; ct_lb_mark; ct_lb_mark_local; "
    "reg8[16..31] = select(1=100, 2=100); ct_clear; ct_commit_nat; clone { output; }; "
    "arp { output; }; icmp4 { output; }; icmp4_error { output; }; icmp6 { output; }; "
    "icmp6_error { output; }; igmp; tcp_reset { output; }; sctp_abort { output; }; "
    "nd_na { output; }; nd_na_router { output; }; nd_ns { output; }; "
    "get_arp(outport, reg0); put_arp(inport, arp.spa, arp.sha); "
    "reg9[2] = lookup_arp(inport, arp.spa, arp.sha); "
    "reg9[3] = lookup_arp_ip(inport, arp.spa); get_nd(outport, xxreg0); "
    "put_nd(inport, nd.target, nd.tll); reg9[2] = lookup_nd(inport, nd.target, nd.tll); "
    "reg9[3] = lookup_nd_ip(inport, nd.target); "
    "reg0[3] = put_dhcp_opts(offerip = 10.0.0.4); "
    "reg0[3] = put_dhcpv6_opts(ia_addr = fd00::4); "
    "reg9[7] = dhcp_relay_req_chk(10.0.0.1, 172.16.1.1); "
    "reg2 = dhcp_relay_resp_chk(10.0.0.1, 172.16.1.1); set_queue(61440); "
    'reg0[4] = dns_lookup(); log(name="x", severity=info); '
    "reg0[5] = put_nd_ra_opts(mtu = 1450); set_meter(100); icmp4.frag_mtu = 1400; "
    'reg9[1] = check_pkt_larger(1414); trigger_event(event = "empty_lb_backends"); '
    'bind_vport("p", inport); handle_svc_check(inport); fwd_group("p1", "p2"); '
    "dhcp6_reply; reject { output; }; reg0[6] = chk_lb_hairpin(); "
    "reg0[12] = chk_lb_hairpin_reply(); ct_snat_to_vip; bfd_msg(); "
    "put_fdb(inport, eth.src); outport = get_fdb(eth.dst); "
    "remote_outport = get_remote_fdb(eth.dst); reg0[11] = lookup_fdb(inport, eth.src); "
    "reg0[15] = check_in_port_sec(); reg0[15] = check_out_port_sec(); "
    "commit_ecmp_nh(ipv6 = false, proto = tcp); reg9[5] = chk_ecmp_nh_mac(); "
    "reg9[5] = chk_ecmp_nh(); "
    'commit_lb_aff(vip = "10.0.0.1:80", backend = "10.0.0.2:80", proto = tcp, timeout = 30); '
    "reg9[6] = chk_lb_aff(); "
    "sample(probability=65535,collector_set=1,obs_domain=0,obs_point=1); mac_cache_use; "
    "reg1 = ct_nw_dst(); xxreg1 = ct_ip6_dst(); reg2[0..15] = ct_tp_dst(); "
    "reg1[16..23] = ct_proto(); flood_remote; reg4[0..7] = ct_state_save(); mirror(p1); "
    "reg9[8] = chk_evpn_arp(reg0); drop; "
)


def listed() -> list[str]:
    """Split the actions where one ends and the next begins, not within braces."""
    return [found[0] for found in re.finditer(r"[^;{]+(?:\{[^}]*\})?;", ACTIONS)]


def test_every_action_of_ovn_is_known_either_way_and_no_other() -> None:
    effects = [blindness.effect(text.strip()) for text in listed()]
    names = {effect.name for effect in effects if effect is not None}
    assert names == EXECUTED | PASSED_OVER.keys()
    assert not EXECUTED & PASSED_OVER.keys()
    assert PASSED_OVER.keys() >= LEFT_ZERO


def test_all_that_real_traces_print_is_known() -> None:
    golden = sorted((REPOSITORY / "tests" / "trace" / "golden").glob("*/*/trace.txt"))
    assert golden
    unknown = {
        text
        for path in golden
        for text in actions(path)
        if (effect := blindness.effect(text)) is not None
        and effect.spot is Spot.UNKNOWN
        and not text.startswith("***")
    }
    assert not unknown


def actions(path: Path) -> list[str]:
    """Return the actions of a recorded trace of ovn-trace; none of another engine's."""
    try:
        block = tree.parse(path.read_text())
    except tree.TraceSyntaxError:
        return []
    found: list[str] = []
    blocks = [block]
    while blocks:
        for step in blocks.pop().steps:
            if isinstance(step, tree.Action):
                found.append(step.text)
            elif isinstance(step, tree.Fork):
                blocks.append(step.block)
    return found


@pytest.mark.parametrize(
    ("text", "zeroed", "set_"),
    [
        ("reg0[3] = 1;", 0, 1 << 3),
        ("reg1[16..17] = 0;", 3 << 48, 0),
        ("reg9 = 183369598;", 0, 0xFFFFFFFF << 288),
        ("xreg0[0..3] = 5;", 0, 0xF << 32),  # the lower half is register 1
        ("xxreg1[0] = 1;", 0, 1 << 224),  # the lowest quarter is register 7
        ("xreg4[32] = 1;", 0, 1 << 256),
        ("flags.loopback = 1;", 0, 0),
        ('outport = "p";', 0, 0),
    ],
)
def test_what_an_action_leaves_in_registers(text: str, zeroed: int, set_: int) -> None:
    effect = blindness.effect(text)
    assert effect is not None
    assert (effect.zeroed, effect.set, effect.spot) == (zeroed, set_, None)


SWITCH = ('ingress(dp="sw", inport="p1")', 'egress(dp="sw", inport="p1", outport="up")')
ROUTER = 'ingress(dp="lr", inport="down")'


def read(*lines: str | tuple[str, Sequence[str]]) -> Hop:
    """Read a trace of pipelines' titles and of flows: what they match and their actions."""
    text: list[str] = []
    for number, line in enumerate(lines):
        if isinstance(line, str):
            text += ["", line, "-" * len(line)]
        else:
            stage, _, match = line[0].partition(": ")
            flow = f"{stage} (northd.c:1): {match or 'ip'}, priority 50, uuid {number:08x}"
            text += [f" 1. {flow}", *(f"    {action}" for action in line[1])]
    return walk.read(tree.parse("\n".join(text)), target="p2")


OUT = ("ls_out_apply_port_sec", ("output;", '/* output to "up", type "patch" */'))
LAST = ("lr_out_delivery", ("output;", '/* output to "p2", type "" */'))


def test_a_trace_ends_where_a_router_would_read_what_a_switch_left_in_its_flags() -> None:
    hop = read(SWITCH[0], SWITCH[1], ("ls_out_acl_eval", ("reg9 = 7;", "next;")), OUT, ROUTER, LAST)
    assert (hop.end, hop.port, hop.datapath) == (HopEnd.PATCHED, "up", "sw")


@pytest.mark.parametrize("left", [("reg9 = 7;", "reg9 = 0;"), ("reg0[7] = 1;",), ()])
def test_a_trace_goes_on_where_nothing_matters_that_is_left(left: Sequence[str]) -> None:
    hop = read(SWITCH[0], SWITCH[1], ("ls_out_acl_hint", (*left, "next;")), OUT, ROUTER, LAST)
    assert (hop.end, hop.port, hop.unseen) == (HopEnd.OUTPUT, "p2", ())


def test_what_is_left_elsewhere_ends_a_trace_when_it_is_read() -> None:
    left = ("ls_out_acl_hint", ("reg0[7] = 1;", "next;"))
    looks = ("lr_in_policy: reg0[7] == 1", ("next;",))
    hop = read(SWITCH[0], SWITCH[1], left, OUT, ROUTER, looks, LAST)
    assert (hop.end, hop.port) == (HopEnd.PATCHED, "up")
    # Not when the router has written it before.
    writes = ("lr_in_ip_routing", ("reg0 = ip4.dst;", "next;"))
    hop = read(SWITCH[0], SWITCH[1], left, OUT, ROUTER, writes, looks, LAST)
    assert hop.end is HopEnd.OUTPUT


def test_headers_that_were_rewritten_before_the_patch_port_are_not_made_up() -> None:
    left = ("ls_out_acl_eval", ("reg9 = 7;", "eth.dst = 0a:58:00:00:00:01;", "next;"))
    hop = read(SWITCH[0], SWITCH[1], left, OUT, ROUTER, LAST)
    assert (hop.end, [unseen.spot for unseen in hop.unseen]) == (
        HopEnd.PATCHED,
        [str(Spot.REGISTERS)],
    )


@pytest.mark.parametrize("end", ["patch", "remote"])
def test_the_service_class_of_a_packet_that_is_traced_anew_is_told(end: str) -> None:
    """`ovn-trace` takes no packet that has one."""
    marked = ("ls_out_qos", ("reg9 = 7;", "ip.dscp = 10;", "next;"))
    out = ("ls_out_apply_port_sec", ("output;", f'/* output to "up", type "{end}" */'))
    [unseen] = read(SWITCH[0], SWITCH[1], marked, out).unseen
    assert unseen == Unseen(
        spot=str(Spot.SERVICE_CLASS), what="ip.dscp", datapath="sw", stage="ls_out_qos"
    )


def test_the_service_class_is_no_matter_where_the_trace_goes_on() -> None:
    hop = read(SWITCH[0], SWITCH[1], ("ls_out_qos", ("ip.dscp = 10;", "next;")), OUT, ROUTER, LAST)
    assert (hop.end, hop.unseen) == (HopEnd.OUTPUT, ())


def test_a_small_packet_is_not_larger_unless_the_bit_was_set() -> None:
    asks = ("lr_in_chk_pkt_len", ("reg9[1] = check_pkt_larger(1414);", "next;"))
    assert read(ROUTER, asks, LAST).unseen == ()
    set_ = ("lr_in_admission", ("reg9[1] = 1;", "next;"))
    (unseen,) = read(ROUTER, set_, asks, LAST).unseen
    assert (unseen.spot, unseen.what) == (Spot.PACKET_SIZE, "check_pkt_larger")
    assert (unseen.datapath, unseen.stage) == ("lr", "lr_in_chk_pkt_len")


@pytest.mark.parametrize(
    ("action", "spot"),
    [
        ("ct_snat_to_vip;", Spot.HAIRPIN),
        ('fwd_group("a", "b");', Spot.FORWARDING),
        ("reg9[5] = chk_ecmp_nh_mac();", Spot.LEARNT),
        ("reg0[4] = dns_lookup();", Spot.CONTROLLER),
        ("teleport(p2);", Spot.UNKNOWN),
        ("reg0[4] = guess();", Spot.UNKNOWN),
        ("*** no load balancing destination (use --lb-dst)", Spot.UNKNOWN),
    ],
)
def test_what_is_passed_over_is_told_with_the_hop(action: str, spot: Spot) -> None:
    hop = read(ROUTER, ("lr_in_dnat", (action, "next;")), LAST)
    assert [unseen.spot for unseen in hop.unseen] == [str(spot)]


def test_backends_of_this_node_only() -> None:
    taken = ("ls_in_lb", ("ct_lb_mark_local(backends=10.0.0.5:80,10.0.0.6:80);",))
    hop = read(SWITCH[0], taken)
    assert (hop.end, hop.backends) == (HopEnd.BALANCED, ("10.0.0.5:80", "10.0.0.6:80"))
    assert [unseen.spot for unseen in hop.unseen] == [str(Spot.LOCAL_BACKENDS)]


def test_what_happens_to_a_packet_of_ovns_own_is_no_matter() -> None:
    said = ["", 'ingress(dp="lr", inport="down")', "-" * 31]
    said += [" 1. lr_in_ip_input (northd.c:1): ip, priority 50, uuid 00000001"]
    said += ["    icmp4 { fwd_group(a); };", "", "icmp4", "-----", "    fwd_group(a);"]
    assert walk.read(tree.parse("\n".join(said)), target="p2").unseen == ()
