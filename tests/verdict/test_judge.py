"""Every way a hop ends, in every situation, has the verdict and reason `docs/verdicts.md` gives."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import NO_OWNERS, LoadBalancer, Zone
from audit.model.packets import Protocol
from audit.model.traces import Hop, HopEnd, LogicalTrace, TraceFailure, TraceTask
from audit.model.verdicts import Reason, Verdict
from audit.verdict.blame import Blamer
from audit.verdict.blindness import Blindness
from audit.verdict.hops import DRAWS_PER_BACKEND, NextHops
from audit.verdict.judge import DEEPEST, Combine, Judge, Judgement, forked
from tests.verdict import made
from tests.verdict.test_blindness import on_node

NODE = Endpoint(kind=EndpointKind.NODE, name="worker", addresses=("172.18.0.3",), host_network=True)
B, C = made.pod("b", "10.128.0.6"), made.pod("c", "10.130.0.7", node="other")
NODE_PORT = LoadBalancer(
    owner="shop/web", protocol=Protocol.TCP, vips=(("^NODEIP", 30080, ()),), template=True
)
DENY = made.acl(namespace_default="shop")
DROP = made.acl("ac200000")
REJECT = made.acl("ac500000", action="reject")
ALLOW = made.acl("ac300000", action="allow-related", policy=made.ref("web"), rule=0)
ZONE = made.zone(
    ports=[
        made.port("shop_a"),
        made.port("shop_b", tunnel_key=2),
        made.port("k8s-worker", is_pod=False, namespace="", tunnel_key=3),
        made.port("br-ex_worker", kind="localnet", is_pod=False, tunnel_key=4),
        made.port("tstor-other", kind="remote", datapath=made.TRANSIT, is_pod=False, tunnel_key=2),
        made.port(
            "tstor-worker",
            kind="patch",
            datapath=made.TRANSIT,
            is_pod=False,
            tunnel_key=1,
            peer="rtots-worker",
        ),
    ],
    acls=[DENY, DROP, REJECT, ALLOW],
    hints=[
        made.hint("f1000000", DENY),
        made.hint("f2000000", DROP),
        made.hint("f3000000", ALLOW),
        made.hint("f4000000", DROP, stage="ls_out_acl"),
        made.hint("f5000000", REJECT),
    ],
    groups=[made.group(made.ref("plain"), "shop_b")],
    balancers=[NODE_PORT],
)
OTHER = made.zone(
    "other",
    ports=[
        made.port("tstor-other", kind="patch", datapath=made.TRANSIT, is_pod=False, tunnel_key=2),
        made.port("tstor-worker", kind="remote", datapath=made.TRANSIT, is_pod=False, tunnel_key=1),
    ],
)


def judge(task: TraceTask, hop: Hop, zones: Mapping[str, Zone] | None = None) -> Judgement:
    known = {"worker": ZONE, "other": OTHER} if zones is None else zones
    owners = made.owners(made.pod("a", "10.128.0.5"), B, C, NODE)
    judging = Judge(
        blamer=Blamer.of(known, ()),
        hops=NextHops(zones=known, owners=owners),
        blindness=Blindness(zones=known, owners=owners),
    )
    return judging.judge(task, LogicalTrace(key=task.key, hop=hop, output=""))


def out(port: str, kind: str = "", **fields: object) -> Hop:
    return made.hop(HopEnd.OUTPUT, port=port, port_type=kind, **fields)


def ended(end: HopEnd, stage: str, **fields: object) -> Hop:
    return made.hop(end, stage=stage, **fields)


OUTSIDE = {"target": "", "microflow": replace(made.FLOW, ip_dst="192.0.2.1")}
PASSED = [
    ({}, out("shop_b"), "reachable", "delivered"),
    ({"target": ""}, out("shop_b"), "reachable", "delivered"),
    (OUTSIDE, out("br-ex_worker", "localnet"), "exits", "left-by-gateway"),
    (OUTSIDE, out("k8s-worker"), "exits", "left-by-host"),
    (
        OUTSIDE,
        made.hop(HopEnd.RESOLVING, port="br-ex_worker", port_type="localnet"),
        "exits",
        "left-by-gateway",
    ),
]
STOPPED = [
    (HopEnd.DROPPED, "lr_in_ip_routing", "no-route"),
    (HopEnd.DROPPED, "lr_in_ip_routing_ecmp", "no-route"),
    (HopEnd.DROPPED, "lr_in_policy", "router-policy"),
    (HopEnd.DROPPED, "lr_in_policy_ecmp", "router-policy"),
    (HopEnd.DROPPED, "ls_in_check_port_sec", "port-security"),
    (HopEnd.DROPPED, "ls_in_apply_port_sec", "port-security"),
    (HopEnd.DROPPED, "ls_in_port_sec_l2", "port-security"),
    (HopEnd.DROPPED, "ls_out_check_port_sec", "port-security"),
    (HopEnd.DROPPED, "ls_in_l2_lkup", "unknown-mac"),
    (HopEnd.DROPPED, "ls_in_l2_unknown", "unknown-mac"),
    (HopEnd.REJECTED, "ls_in_lb", "service-without-endpoints"),
    (HopEnd.REJECTED, "lr_in_dnat", "service-without-endpoints"),
    (HopEnd.DROPPED, "ls_in_lb", "pipeline-drop"),
    (HopEnd.DROPPED, "lr_in_arp_resolve", "pipeline-drop"),
    (HopEnd.DROPPED, "", "pipeline-drop"),
]
UNDECIDED = [
    ({}, made.hop(HopEnd.SPREAD, text="shop_b, shop_c"), "unexpected-output"),
    ({}, out("shop_c"), "unexpected-output"),
    ({}, made.hop(HopEnd.RESOLVING, port="rtos-worker"), "next-hop-unresolved"),
    ({}, ended(HopEnd.ENDED, "lr_in_unsnat", text="ct_snat;"), "nat-not-traced"),
    ({}, ended(HopEnd.ENDED, "lr_in_unsnat", text="next;"), "trace-ends"),
    ({}, ended(HopEnd.ENDED, "ls_in_l2_lkup", text="next;"), "trace-ends"),
    ({"depth": DEEPEST}, out("tstor-other", "remote"), "too-many-hops"),
    (
        {"depth": DEEPEST},
        made.hop(HopEnd.BALANCED, backends=("10.128.0.6:80",)),
        "too-many-hops",
    ),
    ({"depth": DEEPEST}, made.hop(HopEnd.SELECTED, choices=(1, 2)), "too-many-hops"),
]


@pytest.mark.parametrize(("fields", "hop", "verdict", "reason"), PASSED)
def test_what_passes(fields: dict[str, object], hop: Hop, verdict: str, reason: str) -> None:
    found = judge(made.task(**fields), hop)
    assert (found.verdict, found.reason, found.blame) == (verdict, reason, None)


@pytest.mark.parametrize(("fields", "hop", "verdict", "reason"), PASSED)
def test_what_an_acl_let_pass_names_it(
    fields: dict[str, object], hop: Hop, verdict: str, reason: str
) -> None:
    allowed = replace(hop, acls=(made.match("allow", logical_flow="f3000000"),))
    found = judge(made.task(**fields), allowed)
    assert found.verdict == verdict
    assert found.reason == ("allowed-by-acl" if verdict == "reachable" else reason)
    assert found.blame is not None
    assert str(found.blame) == "networkpolicy shop/web ingress[0]"


@pytest.mark.parametrize(("end", "stage", "reason"), STOPPED)
def test_what_no_acl_stopped(end: HopEnd, stage: str, reason: str) -> None:
    # That an ACL allowed the packet, or dropped in an earlier pipeline, is beside the point.
    for acls in (
        (),
        (made.match("allow", logical_flow="f3000000"),),
        (made.match("drop", "ls_out_acl_eval", datapath="an earlier switch"),),
        (made.match("drop", "ls_in_acl_eval"),),
    ):
        found = judge(made.task(), ended(end, stage, acls=acls))
        assert (found.verdict, found.reason, found.blame) == (Verdict.UNROUTABLE, reason, None)
        assert stage in found.detail


@pytest.mark.parametrize(("fields", "hop", "reason"), UNDECIDED)
def test_what_does_not_decide(fields: dict[str, object], hop: Hop, reason: str) -> None:
    found = judge(made.task(**fields), hop)
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, reason)
    assert not found.next_hops


@pytest.mark.parametrize(
    ("acl", "stage", "reason"),
    [
        (made.match("drop", logical_flow="f1000000"), "ls_out_acl_action", "default-deny"),
        (made.match("drop", logical_flow="f2000000"), "ls_out_acl_action", "acl-drop"),
        (made.match("drop", logical_flow="f2000000"), "ls_out_acl_eval", "acl-drop"),
        (made.match("reject", logical_flow="f5000000"), "ls_out_acl_action", "acl-reject"),
        (made.match("drop", "ls_out_acl", logical_flow="f4000000"), "ls_out_acl", "acl-drop"),
        (made.match("drop", logical_flow="f9999999"), "ls_out_acl_action", "acl-drop"),
    ],
)
def test_what_an_acl_stopped(acl: Any, stage: str, reason: str) -> None:
    end = HopEnd.REJECTED if acl.action == "reject" else HopEnd.DROPPED
    found = judge(made.task(), ended(end, stage, acls=(acl,)))
    assert (found.verdict, found.reason) == (Verdict.BLOCKED, reason)
    assert (found.blame is None) == (acl.logical_flow == "f9999999")


def test_a_drop_verdict_is_not_blamed_for_a_stop_in_other_acl_stages() -> None:
    before = made.match("drop", "ls_in_acl_eval", logical_flow="f2000000")
    found = judge(made.task(), ended(HopEnd.DROPPED, "ls_in_acl_after_lb_action", acls=(before,)))
    assert (found.verdict, found.reason, found.blame) == (Verdict.BLOCKED, Reason.ACL_DROP, None)
    assert "default" in found.detail


# --- services


def service(**fields: object) -> TraceTask:
    flow = replace(made.FLOW, ip_dst="172.30.0.10")
    return made.task(microflow=flow, target="", to_service=True, **fields)


@pytest.mark.parametrize(
    "hop",
    [
        out("br-ex_worker", "localnet"),
        out("tstor-other", "remote"),
        out("shop_b"),
        made.hop(HopEnd.RESOLVING, port="br-ex_worker", port_type="localnet"),
    ],
)
def test_a_service_that_no_load_balancer_took(hop: Hop) -> None:
    found = judge(service(), hop)
    assert (found.verdict, found.reason) == ("unroutable", "service-not-programmed")


def test_every_backend_of_the_packets_family_is_traced_with_its_target_port() -> None:
    backends = ("10.128.0.6:8080", "10.130.0.7:8081", "[fd00::6]:8080", "10.128.0.9:*")
    found = judge(service(), made.hop(HopEnd.BALANCED, backends=backends))
    assert (found.verdict, found.combine) == (None, Combine.BACKENDS)
    legs = [(leg.microflow.ip_dst, leg.microflow.dst_port, leg.target) for leg in found.next_hops]
    assert legs == [("10.128.0.6", 8080, "shop_b"), ("10.130.0.7", 8081, "shop_c")]
    assert not any(leg.to_service or leg.draws for leg in found.next_hops)


def test_a_load_balancer_without_backends() -> None:
    found = judge(service(), made.hop(HopEnd.BALANCED, backends=("[fd00::6]:8080",)))
    assert (found.verdict, found.reason) == ("unroutable", "service-without-endpoints")


@pytest.mark.parametrize(
    "hop",
    [out("br-ex_worker", "localnet"), out("k8s-worker"), made.hop(HopEnd.RESOLVING, port="r")],
)
def test_a_node_port_that_a_template_may_have_taken(hop: Hop) -> None:
    to_node = replace(made.FLOW, ip_dst="172.18.0.3", dst_port=30080)
    found = judge(made.task(microflow=to_node, target=""), hop)
    assert (found.verdict, found.reason) == ("inconclusive", "template-load-balancer")
    other = replace(to_node, dst_port=30081)
    assert judge(made.task(microflow=other, target=""), hop).reason != "template-load-balancer"


def hairpin(backends: int) -> TraceTask:
    return made.task(target="shop_a", draws=DRAWS_PER_BACKEND * backends, to_service=True)


def test_no_trace_says_what_becomes_of_a_hairpin_behind_its_translation() -> None:
    found = judge(hairpin(2), out("shop_a", outport="shop_a"))
    assert (found.verdict, found.reason) == ("inconclusive", "hairpin-not-translated")
    drop = made.match("drop", logical_flow="f2000000")
    own = ended(HopEnd.DROPPED, "ls_out_acl_action", outport="shop_a", acls=(drop,))
    assert judge(hairpin(2), own).reason == "hairpin-not-translated"


def test_an_acl_of_its_own_side_stops_a_hairpin_before_its_translation() -> None:
    stage = "ls_in_acl_after_lb_action"
    drop = made.match("drop", logical_flow="f1000000", stage="ls_in_acl_after_lb_eval")
    found = judge(hairpin(1), ended(HopEnd.DROPPED, stage, acls=(drop,)))
    assert found.verdict == "blocked"


@pytest.mark.parametrize(
    "hop",
    [
        ended(
            HopEnd.DROPPED,
            "ls_out_acl_action",
            acls=(made.match("drop", logical_flow="f2000000"),),
        ),
        ended(HopEnd.ENDED, "ls_in_lb", outport=""),
        out("shop_b"),
        out("tstor-other", "remote", outport="tstor-other"),
    ],
)
def test_what_befalls_another_backend_says_nothing_about_the_hairpin(hop: Hop) -> None:
    found = judge(hairpin(2), hop)
    assert (found.verdict, found.reason) == ("inconclusive", "hairpin-not-translated")
    assert found.detail == "not drawn in 24 traces of the service"
    # A packet that is sent would decide, and stands for another where it was not drawn.
    assert judge(on_node(hairpin(2)), hop).reason == "hairpin-not-drawn"
    # The only backend is certain to be the one that was drawn.
    assert not judge(hairpin(1), hop).detail.startswith("not drawn")


# --- onward


def test_a_packet_to_a_remote_port_goes_on_behind_it() -> None:
    hop = out("tstor-other", "remote", entered="tstor-worker", datapath=made.TRANSIT)
    found = judge(made.task(), hop)
    assert (found.verdict, found.combine) == (None, Combine.FOLLOW)
    [onward] = found.next_hops
    assert (onward.zone, onward.microflow.inport) == ("other", "tstor-worker")


def test_a_zone_that_is_not_there() -> None:
    hop = out("tstor-other", "remote", entered="tstor-worker", datapath=made.TRANSIT)
    found = judge(made.task(), hop, {"worker": ZONE})
    assert (found.verdict, found.reason) == ("untraced", "zone-missing")


def test_each_next_hop_of_a_choice_is_traced() -> None:
    found = judge(made.task(), made.hop(HopEnd.SELECTED, choices=(1, 3)))
    assert (found.verdict, found.combine) == (None, Combine.GATEWAYS)
    assert [onward.select for onward in found.next_hops] == [1, 3]


@pytest.mark.parametrize("reason", [Reason.ENGINE_LOST, Reason.UNPARSABLE, Reason.WORKER_LOST])
def test_a_trace_that_failed(reason: Reason) -> None:
    judging = Judge(
        blamer=Blamer.of({}, ()),
        hops=NextHops(zones={}, owners=NO_OWNERS),
        blindness=Blindness(zones={}, owners=NO_OWNERS),
    )
    failure = TraceFailure(key="k", reason=reason, message="it said no")
    found = judging.judge(made.task(), failure)
    assert found == Judgement(verdict=Verdict.UNTRACED, reason=reason, detail="it said no")


def test_a_name_is_its_endpoints() -> None:
    six = replace(made.FLOW, ip_src="fd00::5", ip_dst="fd00::6")
    legs = (made.task(), made.task(microflow=six))
    found = forked(legs)
    assert (found.verdict, found.combine, found.next_hops) == (None, Combine.BACKENDS, legs)
    assert found.detail == "endpoints 10.128.0.6:80, [fd00::6]:80"
