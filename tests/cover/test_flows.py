"""What logical flows tell of endpoints: every identity that a match names, and nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from audit.cover.flows import Numbers, ZoneFlows, ZoneMarks
from audit.cover.identities import At, Identities, names_in
from audit.cover.matches import MatchError, Side
from audit.cover.readings import read, turned
from audit.model.endpoints import Port
from audit.model.facts import LogicalFlow, Zone
from audit.model.packets import Family, Protocol
from tests.verdict import made

HTTP = Port(protocol=Protocol.TCP, number=80)
A, B = made.pod("a", "10.128.0.5"), made.pod("b", "10.128.0.6")
FAR = made.pod("far", "10.130.0.7", node="other")
HERE, ROUTER = "worker", "ovn_cluster_router"


def zone(**flows: Iterable[LogicalFlow]) -> Zone:
    """Return a zone with a switch and a router beside it, and these flows on them."""
    ports = [
        made.port("shop_a", addresses=("10.128.0.5",)),
        made.port("shop_b", addresses=("10.128.0.6",), tunnel_key=2, mac="0a:58:0a:80:00:06"),
        made.port("shop_c", addresses=("10.128.0.9",), tunnel_key=4, mac="0a:58:0a:80:00:09"),
        made.port("stor-worker", kind="patch", peer="rtos-worker", tunnel_key=3, is_pod=False),
        made.port("rtos-worker", kind="patch", peer="stor-worker", datapath=ROUTER, is_pod=False),
    ]
    listed = {name: tuple(some) for name, some in flows.items()}
    return replace(made.zone(ports=ports), flows=listed, installed_sets={"s": ("10.128.0.6",)})


def told(*flows: LogicalFlow, on: str = HERE, ports: tuple[Port, ...] = (HTTP,)) -> ZoneMarks:
    who = Identities((A, B, FAR))
    return ZoneFlows(zone(**{on: flows}), who, Numbers(), Family.IP4, {}, ports).marks()


def flow(match: str, actions: str = "drop;", priority: int = 100) -> LogicalFlow:
    return LogicalFlow("ls_in_hairpin", priority, match, actions)


@pytest.mark.parametrize(
    ("match", "marked"),
    [
        ("ip4.src == 10.128.0.5", {(At.SRC, 0)}),
        ("ip4.dst == {10.128.0.5, 10.130.0.7}", {(At.DST, 0), (At.DST, 2)}),
        ("!(ip4.dst == 10.128.0.6)", {(At.DST, 1)}),
        ("ip4.dst == $s", {(At.DST, 1)}),
        ('inport == "shop_a" && outport == "shop_b"', {(At.SRC, 0), (At.DST, 1)}),
        ("eth.dst == 0a:58:0a:80:00:06", {(At.DST, 1)}),
        ("reg0 == 10.128.0.6", set()),  # no flow gives it a value
        ("ip4.dst == 10.130.0.0/24", {(At.DST, 2)}),
        ("ip4.dst == 10.130.0.0/255.255.255.0", {(At.DST, 2)}),
        ("ip4.dst == 0.0.0.6/0.0.0.255", {(At.DST, 1)}),
        ("eth.src == 0A:58:0A:80:00:06", {(At.SRC, 1)}),
        ("ip4", set()),
        ("ip4.dst == 10.128.0.9", set()),  # another pod's
        ("arp && arp.tpa == 10.128.0.5", set()),
        ("ip6.dst == fd00::5", set()),
        ("ip4.dst == 10.128.0.5 && tcp.dst == 443", set()),  # not asked about
        ("reg0[3] == 1 && ip4.dst == 10.128.0.5", set()),  # no flow sets that bit
    ],
)
def test_whom_a_flow_of_their_switch_marks(match: str, marked: set[tuple[At, int]]) -> None:
    found = told(flow(match)).on[HERE]
    assert {(at, place) for at in At for place in found[at]} == marked


def test_a_register_stands_for_either_end_where_a_flow_gives_it_an_address() -> None:
    found = told(flow("ip4", "reg0 = ip4.dst; next;", 1), flow("reg0 == 10.128.0.6")).on[HERE]
    assert {(at, place) for at in At for place in found[at]} == {(At.SRC, 1), (At.DST, 1)}


def test_endpoints_of_which_the_same_is_said_have_the_same_marks() -> None:
    """Each with its own identity in place; one of which another thing is said has others."""
    own = [
        flow(f"ip4.dst == {e.addresses[0]}", f'outport = "shop_{e.name}"; output;') for e in (A, B)
    ]
    found = told(*own).on[HERE][At.DST]
    assert found[0] == found[1]
    found = told(own[0], flow("ip4.dst == 10.128.0.6", 'outport = "shop_a"; output;')).on[HERE][
        At.DST
    ]
    assert found[0] != found[1]
    found = told(own[0], own[1]._replace(priority=101)).on[HERE][At.DST]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("match", "actions", "marked"),
    [
        # to all but B's packets, B is a wrong next hop: a packet to B shows nothing of theirs
        ("ip4.src == 10.128.0.5", 'reg0 = 10.128.0.6; outport = "rtos-worker"; next;', {1}),
        ("ip4.src == {10.128.0.5, 10.128.0.6}", "reg0 = 10.128.0.6; next;", {1}),
        ("ip4", "eth.dst = 0a:58:0a:80:00:06; next;", {1}),
        ("ip4", 'outport = "shop_b"; output;', {1}),
        ("ip4", "ip4.dst = 10.128.0.6; next;", {1}),
        ("ip4.dst == 10.128.0.6", "reg0 = 10.128.0.6; next;", set()),
        ("ip4.dst == 10.128.0.0/24", "reg0 = 10.128.0.6; next;", {1}),
        ("ip4.dst == {10.128.0.5, 10.128.0.6}", "reg0 = 10.128.0.6; next;", {1}),
        ("ip4", "ct_lb_mark(backends=10.128.0.6:80);", set()),  # a Service's: not composed
        ("ip4", "reg0 = 100.88.0.2; next;", set()),
    ],
)
@pytest.mark.parametrize("stage", ["lr_in_policy", "lr_in_ip_routing"])
def test_whom_packets_are_sent_to_is_marked(
    match: str, actions: str, marked: set[int], stage: str
) -> None:
    sent = flow(match, actions)._replace(stage=stage)
    found = told(sent, on=ROUTER).between[At.DST]
    dropped = told(sent._replace(actions="drop;"), on=ROUTER).between[At.DST]
    assert {place for place, marks in found.items() if len(marks) > len(dropped[place])} == marked


@pytest.mark.parametrize(
    ("match", "marked"),
    [
        ("ip4.dst == 10.130.0.7", set()),
        ("ip4.dst == {10.128.0.5, 10.130.0.0/16} && ip4.src == 10.128.0.6", set()),
        ("ip4.dst == 10.128.0.5 || ip4.src == 10.128.0.5", {1}),
        ("ip4.dst != 10.128.0.5", {1}),
        ("ip4.dst == 0.0.0.7/0.0.0.255", set()),
        ("ip4.dst == {0.0.0.7/0.0.0.255, 0.0.0.0/0.0.0.1}", {1}),
        ("ip4.dst == $s", set()),
    ],
)
def test_a_policy_that_is_about_others_only_marks_nobody_it_sends_to(
    match: str, marked: set[int]
) -> None:
    """Classes hold already that it is true of others, by its priority; a route is no policy."""
    sent = flow(match, "reg0 = 10.128.0.6; next;")._replace(stage="lr_in_policy")
    assert set(told(sent, on=ROUTER).between[At.DST]) == marked
    route = told(sent._replace(stage="lr_in_ip_routing"), on=ROUTER).between[At.DST]
    assert 1 in route


def test_between_switches_a_network_that_holds_a_switch_tells_nothing_and_a_part_does() -> None:
    route = flow("ip4.dst == 10.128.0.0/24", 'outport = "rtos-worker"; next;')
    assert not told(route, on=ROUTER).between[At.DST]
    part = told(flow("ip4.dst == 10.128.0.4/31", "drop;"), on=ROUTER).between[At.DST]
    assert set(part) == {0}


@pytest.mark.parametrize(
    ("match", "limits"),
    [
        ("tcp.dst == 80", True),
        ("ip4.dst == 10.128.0.5 && tcp.dst == 80", True),
        ("tcp.src == 80", True),  # of a reply
        ("tcp.dst == 443", False),
        ("!(tcp.dst == 80 && ip4.dst == 10.128.0.5)", True),  # of one end it depends on the port
        ("tcp", True),
        ("ip4.dst == 172.30.0.1 && tcp.dst == 80", False),  # nobody's address
    ],
)
def test_flows_that_look_at_ports_limit_what_is_composed(match: str, *, limits: bool) -> None:
    assert bool(told(flow(match), on=ROUTER).limits) is limits


def test_what_is_said_of_every_protocol_is_said_of_no_port() -> None:
    alike = [
        flow(f"ip4 && {protocol}", f"reg2[0..15] = {protocol}.dst; next;")
        for protocol in ("tcp", "udp", "sctp")
    ]
    assert not told(*alike, on=ROUTER).limits
    assert told(*alike[:2], on=ROUTER).limits


@pytest.mark.parametrize(("default", "marked"), [("1", set()), ("ip6", {0})])
def test_a_stage_in_which_all_goes_on_tells_nothing_if_it_has_a_flow_for_everything(
    default: str, marked: set[int]
) -> None:
    """What no flow of a stage is for is dropped there (ovn-sb(5), Logical_Flow)."""
    flows = flow("ip4.src == 10.128.0.5", "next;"), flow(default, "next;", 0)
    assert set(told(*flows).on[HERE][At.SRC]) == marked


def test_a_stage_without_its_default_is_told_from_one_in_which_all_goes_on() -> None:
    """Also where what is left of it is about nobody here."""
    numbers, who = Numbers(), Identities((A, B, FAR))

    def kind(*flows: LogicalFlow) -> Sequence[object]:
        listed = zone(**{HERE: (flow("ip4", "drop;"), *flows)})
        read = ZoneFlows(listed, who, numbers, Family.IP4, {}, (HTTP,)).marks()
        return sorted(read.kind[HERE])

    default = flow("1", "next;", 0)._replace(stage="ls_in_lb_aff_check")
    narrowed = default._replace(match="ip4.src == 10.128.0.9")
    assert kind(default) == kind(default, narrowed)
    assert kind(default) != kind(narrowed)
    assert kind(default) != kind()


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"actions": "next;"}, False),
        ({"match": "reg0[2] == 1 && ip4.dst == 10.128.0.5"}, False),
        ({"stage": "ls_in_l2_lkup"}, False),
    ],
)
def test_what_tracks_packets_is_compared_between_switches(
    changed: dict[str, str], *, same: bool
) -> None:
    numbers, who = Numbers(), Identities((A, B, FAR))

    def tracking(*flows: LogicalFlow) -> int:
        read = ZoneFlows(zone(**{HERE: flows}), who, numbers, Family.IP4, {}, (HTTP,))
        return read.marks().tracking[HERE]

    load_balanced = flow("reg0[2] == 1", "ct_lb_mark;")._replace(stage="ls_out_pre_stateful")
    other = flow("ip4.dst == 10.128.0.5", "next;")._replace(stage="ls_in_l2_lkup")
    edited = LogicalFlow(**{**load_balanced._asdict(), **changed})
    assert (tracking(load_balanced) == tracking(edited, other)) is same


def test_a_router_policy_about_a_pod_of_another_network_tells_it_from_others_of_that() -> None:
    """Such pods share a way from a sender whose own routers treat them alike."""
    ends = (A, B, replace(FAR, network="blue"))
    policy = flow("ip4.dst == 10.130.0.7")._replace(stage="lr_in_policy")
    marks = ZoneFlows(
        zone(**{ROUTER: (policy,)}), Identities(ends), Numbers(), Family.IP4, {}, (HTTP,)
    ).marks()
    assert marks.policies == [policy]
    assert list(marks.crossing[""]) == [2]
    assert not marks.between[At.DST]


@pytest.mark.parametrize(
    ("asked", "exact"), [("10.130.0.7", True), ("10.130.0.0/24", False), ("{10.130.0.7}", True)]
)
def test_an_address_that_a_flow_of_another_network_names_by_itself_is_told_from_a_range(
    asked: str, *, exact: bool
) -> None:
    """A packet to it goes where packets to that network's own pod of this address go."""
    ends = (A, B, replace(FAR, network="blue"))
    resolved = flow(f"ip4.dst == {asked}", "next;")._replace(stage="lr_in_arp_resolve")
    marks = ZoneFlows(
        zone(**{ROUTER: (resolved,)}), Identities(ends), Numbers(), Family.IP4, {}, (HTTP,)
    ).marks()
    assert bool(marks.exact[""]) is exact
    assert marks.exact["blue"] == set()


@pytest.mark.parametrize(
    "match",
    [
        "ip4.dst == 0xa800006",
        "ip4.dst == {10.128.0.5, 176160774}",
        "eth.dst == 0a:58:0a:80:00:00/ff:ff:ff:ff:ff:00",
        "ip4.src[0..7] == 5",
    ],
)
def test_a_match_that_compares_an_address_with_no_address_cannot_be_read(match: str) -> None:
    with pytest.raises(MatchError, match="looks at parts of an address"):
        read(match)


def test_a_match_that_cannot_be_read_is_told() -> None:
    found = told(flow("ip4.dst[0..7] == 5"))
    assert found.unread == {"ip4.dst[0..7] == 5"}


def test_names_come_with_the_side_they_are_asked_of() -> None:
    found = names_in("ip4.src == 10.0.0.1 && (ip4.dst == 10.0.0.2 || outport == @g)")
    assert set(found.things) == {
        ("10.0.0.1", Side.SRC),
        ("10.0.0.2", Side.DST),
        ("@g", Side.DST),
    }
    assert found.required == (("10.0.0.1",),)


def test_a_reply_has_the_ports_the_other_way_round() -> None:
    assert turned("tcp.src == 80 && udp.dst == 53") == "tcp.dst == 80 && udp.src == 53"
    assert read("tcp.src == 80").l4 == ((Protocol.TCP, 80, 80),)


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ("icmp4.type == 8 && icmp4.code == 0", True),
        ("icmp6.type == 129", True),  # by the reply
        ("icmp4.type == 3", False),
        ("tcp || udp || sctp", False),
        ("ip4.dst == 10.128.0.5", True),
    ],
)
def test_which_flows_pings_can_meet(match: str, *, met: bool) -> None:
    """What is about them alone is met by nothing that has ports."""
    assert bool(read(match, frozenset({Protocol.ICMP})).families) is met
    assert bool(read(match).families) is ("icmp" not in match)


def test_a_switch_is_joined_to_what_ports_lead_to_and_to_nothing_else() -> None:
    pairs = [("here", "router"), ("router", "outside"), ("blue", "blue router")]
    ports = [
        made.port(f"{end}-{other}", datapath=end, peer=f"{other}-{end}", kind="patch")
        for pair in pairs
        for end, other in (pair, pair[::-1])
    ]
    ways = made.zone(ports=ports).joined(["here", "outside", "blue", "alone"])
    assert ways["here"] == ways["outside"] == {"here", "router", "outside"}
    assert ways["blue"] == {"blue", "blue router"}
    assert ways["alone"] == {"alone"}


def test_what_a_router_has_is_nobody_elses_though_a_pod_of_another_network_has_it_too() -> None:
    """ovn-kubernetes makes MACs of addresses, which networks have the same."""
    (a, b, c, *routers) = zone().ports.values()
    shared = "0a:58:64:58:00:02"
    elsewhere = replace(c, name="blue_c", mac=shared, addresses=("10.128.0.9",))
    router = replace(routers[-1], mac=shared)
    ports = {port.name: port for port in (a, b, elsewhere, routers[0], router)}
    asks = flow(f"eth.dst == {shared}", "next;")
    listed = replace(zone(**{ROUTER: [asks]}), ports=ports)
    who = Identities((A, B, FAR))
    marks = ZoneFlows(listed, who, Numbers(), Family.IP4, {}, (HTTP,)).marks()
    assert asks in [between.flow for between in marks.beyond]
    alone = replace(listed, ports={**ports, router.name: replace(router, mac="")})
    marks = ZoneFlows(alone, who, Numbers(), Family.IP4, {}, (HTTP,)).marks()
    assert asks not in [between.flow for between in marks.beyond]


def test_ports_of_other_zones_routers_are_no_pods_of_other_zones() -> None:
    """What a transit switch does with packets for them is part of the way."""
    far = made.port(
        "tstor-far", kind="remote", datapath="transit", mac="0a:58:64:58:00:03", is_pod=False
    )
    near = made.port("tstor", kind="patch", peer="rtots", datapath="transit", is_pod=False)
    router = made.port("rtots", kind="patch", peer="tstor", datapath=ROUTER, is_pod=False)
    asks = flow("eth.dst == 0a:58:64:58:00:03", 'outport = "tstor-far"; output;')
    given = flow("ip4", "eth.dst = 0a:58:64:58:00:03; next;")
    base = zone(transit=[asks], **{ROUTER: [given]})
    ports = {**base.ports, **{port.name: port for port in (far, near, router)}}
    who = Identities((A, B, FAR))
    read_zone = ZoneFlows(replace(base, ports=ports), who, Numbers(), Family.IP4, {}, (HTTP,))
    assert asks in [between.flow for between in read_zone.marks().beyond]
