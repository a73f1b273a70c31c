"""What a trace is no evidence of, as the databases say of its packet."""

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest

from audit.cover.contradictions import Contradictions
from audit.model.blindness import Spot
from audit.model.facts import Acl, LoadBalancer, LogicalFlow, Zone
from audit.model.packets import ConntrackState, Protocol
from audit.model.tasks import keyed
from audit.model.traces import DatapathTask, Hop, HopEnd, TraceTask, Unseen
from audit.model.verdicts import Reason
from audit.verdict.blindness import Blindness
from tests.verdict import made

NODE = made.pod("host", "172.18.0.3", host_network=True)
SERVICE = LoadBalancer(
    owner="shop/web",
    protocol=Protocol.TCP,
    vips=(("10.96.0.9", 80, ("10.128.0.6:8080",)),),
    template=False,
)
PORTS = (
    made.port("shop_a", tunnel_key=1),
    made.port("shop_b", tunnel_key=2),
    made.port("k8s-worker", is_pod=False, namespace="", tunnel_key=3),
    made.port("stor-worker", kind="patch", is_pod=False, tunnel_key=4, peer="rtos-worker"),
    made.port(
        "rtos-worker", kind="patch", datapath="lr", is_pod=False, tunnel_key=1, peer="stor-worker"
    ),
)


def doubt(task: TraceTask, hop: Hop, zone: Zone) -> Reason | None:
    zones: Mapping[str, Zone] = {"worker": zone}
    found = Blindness(zones=zones, owners=made.owners(NODE), rivals=Contradictions(zones=zones))
    said = found.doubt(task, hop)
    return None if said is None else said.reason


def zone(chassis: int = 1) -> Zone:
    zone = made.zone("worker", ports=PORTS, balancers=[SERVICE])
    return replace(zone, chassis=frozenset(f"chassis-{number}" for number in range(chassis)))


def on_node(task: TraceTask) -> DatapathTask:
    values = {field.name: getattr(task, field.name) for field in fields(TraceTask)}
    return keyed(DatapathTask(**values, node="worker"))


def met(spot: Spot, what: str = "x", datapath: str = made.SWITCH) -> Hop:
    unseen = Unseen(spot=str(spot), what=what, datapath=datapath, stage="ls_in_lb")
    return made.hop(HopEnd.OUTPUT, port="shop_b", unseen=(unseen,))


def test_a_service_class_matters_where_a_flow_looks_at_it() -> None:
    marked = met(Spot.SERVICE_CLASS, "ip.dscp")
    assert doubt(made.task(), marked, zone()) is None
    flow = LogicalFlow(stage="lr_in_policy", priority=1, match="ip.dscp == 10", actions="drop;")
    looks = replace(zone(), flows={"lr": (flow,)})
    assert doubt(made.task(), marked, looks) is Reason.ACTION_NOT_TRACED


def test_what_was_passed_over_is_doubted() -> None:
    assert doubt(made.task(), made.hop(HopEnd.OUTPUT, port="shop_b"), zone()) is None
    assert doubt(made.task(), met(Spot.FORWARDING), zone()) is Reason.ACTION_NOT_TRACED
    assert doubt(made.task(), met(Spot.UNKNOWN), zone()) is Reason.ACTION_NOT_TRACED
    assert doubt(made.task(), met(Spot.HAIRPIN), zone()) is Reason.HAIRPIN_NOT_TRANSLATED


def test_a_port_is_where_the_packet_is_in_a_zone_of_one_node_or_on_its_own_switch() -> None:
    asked = made.task()
    for port in ("stor-worker", "cr-rtos-worker"):
        assert doubt(asked, met(Spot.RESIDENCE, port), zone(chassis=3)) is None
        assert doubt(asked, met(Spot.RESIDENCE, port, "lr"), zone(chassis=3)) is None
        elsewhere = met(Spot.RESIDENCE, port, "other switch")
        assert doubt(asked, elsewhere, zone(chassis=3)) is Reason.ACTION_NOT_TRACED
        assert doubt(asked, elsewhere, zone(chassis=1)) is None
    assert doubt(asked, met(Spot.RESIDENCE, "no such"), zone()) is Reason.ACTION_NOT_TRACED


def test_a_connection_matters_to_what_may_be_balanced() -> None:
    unseen = met(Spot.CONNECTION)
    assert doubt(on_node(made.task()), unseen, zone()) is None
    to_service = replace(made.FLOW, ip_dst="10.96.0.9", dst_port=80)
    asked = on_node(made.task(microflow=to_service))
    assert doubt(asked, unseen, zone()) is Reason.ACTION_NOT_TRACED
    other = on_node(made.task(microflow=replace(to_service, dst_port=81)))
    assert doubt(other, unseen, zone()) is None


@pytest.mark.parametrize("end", [HopEnd.BALANCED, HopEnd.REJECTED, HopEnd.OUTPUT])
def test_a_host_goes_another_way_to_a_service(end: HopEnd) -> None:
    flow = replace(made.FLOW, inport="k8s-worker", ip_dst="10.96.0.9", dst_port=80)
    asked = made.task(microflow=flow, target="", to_service=True)
    assert doubt(asked, made.hop(end, port="shop_b"), zone()) is Reason.HOST_TO_SERVICE
    # To the address alone too, once a load balancer takes it; and not to a pod.
    by_address = made.task(microflow=flow, target="")
    taken = made.hop(HopEnd.BALANCED, backends=("10.128.0.6:8080",))
    assert doubt(by_address, taken, zone()) is Reason.HOST_TO_SERVICE
    to_pod = made.task(microflow=replace(made.FLOW, inport="k8s-worker"))
    assert doubt(to_pod, made.hop(HopEnd.OUTPUT, port="shop_b"), zone()) is None


def acl(name: str, action: str, **changed: object) -> Acl:
    given = {"action": action, "match": 'outport == "shop_b" && tcp.dst == 8080', **changed}
    return made.acl(f"{name:0<8}-0000", **given)


def holding(*acls: Acl) -> Zone:
    held = {made.SWITCH: frozenset(acl.uuid for acl in acls)}
    return replace(made.zone("worker", ports=PORTS, acls=acls), switch_acls=held, address_sets={})


ALLOW, DROP = acl("a", "allow-related"), acl("d", "drop")


@pytest.mark.parametrize(
    ("acls", "contradict"),
    [
        ((ALLOW, DROP), True),
        ((ALLOW, acl("d", "pass")), True),
        ((ALLOW, acl("b", "allow")), False),
        ((ALLOW, acl("d", "drop", priority=1001)), False),
        ((ALLOW, acl("d", "drop", tier=1)), False),
        ((ALLOW, acl("d", "drop", direction="from-lport")), False),
        ((ALLOW, acl("d", "drop", match='outport == "shop_b" && tcp.dst == 8081')), False),
        ((ALLOW, acl("d", "drop", match='outport == "shop_a"')), False),
        ((ALLOW, acl("d", "drop", match="ip4.src == $nothing")), False),
        ((ALLOW, acl("d", "drop", match="ip4.src == 10.128.0.0/16")), True),
    ],
)
def test_acls_of_one_right_that_match_and_do_not_say_the_same(
    acls: tuple[Acl, ...], *, contradict: bool
) -> None:
    here = holding(*acls)
    flow = replace(made.FLOW, dst_port=8080)
    decided = made.match("allow", outport="shop_b", inport="shop_a")
    hop = made.hop(HopEnd.OUTPUT, port="shop_b", acls=(decided,))
    expected = Reason.ACLS_CONTRADICT if contradict else None
    assert doubt(made.task(microflow=flow), hop, here) is expected
    # A reply is let through before any ACL is looked at.
    reply = made.task(microflow=flow, state=ConntrackState.REPLY)
    assert doubt(reply, hop, here) is None


def test_what_is_stopped_elsewhere_is_stopped_whichever_decided_before() -> None:
    here = holding(ALLOW, DROP)
    flow = replace(made.FLOW, dst_port=8080)
    passed = made.match("allow", outport="shop_b")
    later = made.match("drop", logical_flow="f9", priority=3000, outport="shop_b")
    stopped = made.hop(HopEnd.DROPPED, stage="ls_out_acl_action", acls=(passed, later))
    assert doubt(made.task(microflow=flow), stopped, here) is None
    last = replace(stopped, acls=(made.match("drop", outport="shop_b"),))
    assert doubt(made.task(microflow=flow), last, here) is Reason.ACLS_CONTRADICT
