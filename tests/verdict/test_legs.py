"""What a trace shows of legs, what contradicts what, and what cells are made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audit.model.endpoints import Endpoint, Port
from audit.model.legs import NO_WAY, CellLegs, LegPlan, LegTable, Locality, Packets
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.packets import Protocol
from audit.model.traces import TraceTask
from audit.model.verdicts import (
    CODE,
    NO_VERDICT,
    REASON_CODE,
    REASONS,
    VERDICTS,
    Blame,
    Reason,
    Verdict,
)
from audit.verdict import legs
from audit.verdict.blame import Allowed
from audit.verdict.compose import Decision
from audit.verdict.judge import Judgement
from audit.verdict.legs import UNKNOWN, LegResults, Part, Shown, shown, unknown
from tests.verdict import made
from tests.verdict.made import ROUTER

HERE, THERE = made.pod("a", "10.128.0.5"), made.pod("b", "10.128.2.6", node="other")
NEAR = made.pod("b", "10.128.0.6")
OWN_NODE = made.pod("host", "172.18.0.2", host_network=True)
OUT = Blame(action="drop", direction="egress", owner="out", policy=made.ref("out"), acl="3")
IN = Blame(action="drop", direction="ingress", owner="in", policy=made.ref("in"), rule=1)
LET_OUT = Blame(action="allow-related", owner="let-out", acl="1", stage="ls_in_acl_eval")
LET_IN = Blame(action="allow-related", owner="let-in", acl="2", stage="ls_out_acl_eval")


def ended(
    verdict: Verdict, datapath: str, stage: str, blame: Blame | None = None, **fields: Any
) -> dict[str, Judgement]:
    """Return the judgement of a trace called t that ends there, in the zone of that name."""
    reason = {
        Verdict.REACHABLE: Reason.DELIVERED,
        Verdict.EXITS: Reason.LEFT_BY_GATEWAY,
        Verdict.BLOCKED: Reason.ACL_DROP,
        Verdict.UNROUTABLE: Reason.NO_ROUTE,
    }.get(verdict, Reason.TRACE_ENDS)
    where = {"zone": datapath, "datapath": datapath, "stage": stage} | fields
    return {"t": Judgement(verdict=verdict, reason=reason, blame=blame, **where)}


def handed_on() -> Judgement:
    """Return the judgement of a trace that goes on, at the transit switch, in one called t."""
    return Judgement(
        verdict=None,
        reason=Reason.DELIVERED,
        next_hops=(replace(made.task(), key="t"),),
        zone="worker",
        datapath="transit_switch",
    )


def let_through(datapath: str, blame: Blame, entered: str = "") -> Allowed:
    """Return an ACL that let a packet through in a datapath, entered by a port if that is known."""
    return Allowed(datapath=datapath, entered=entered, blame=blame)


def verdicts(what: Shown) -> tuple[Verdict | None, ...]:
    """Return what is shown of every part but the arrival, of which other tests are."""
    parts = (what.egress, what.transit, what.ingress)
    return tuple(None if part is None else part.verdict for part in parts)


PASS, STOP = Verdict.REACHABLE, Verdict.BLOCKED


@pytest.mark.parametrize(
    ("dst", "datapath", "stage", "expected"),
    [
        # on two switches, each is its own endpoint's, in both pipelines
        (THERE, "worker", "ls_in_acl_eval", (STOP, None, None)),
        (THERE, "worker", "ls_out_acl_eval", (STOP, None, None)),
        (THERE, "ovn_cluster_router", "lr_in_policy", (PASS, STOP, None)),
        # … and ACLs in the ingress pipeline of the destination's are in its ingress legs' classes
        (THERE, "other", "ls_in_acl_eval", (PASS, PASS, STOP)),
        (THERE, "other", "ls_out_acl_eval", (PASS, PASS, STOP)),
        # on one, the pipelines are
        (NEAR, "worker", "ls_in_acl_eval", (STOP, None, None)),
        (NEAR, "worker", "ls_out_acl_eval", (PASS, PASS, STOP)),
        # a node's own address is on no switch: not even on that of its pods
        (OWN_NODE, "worker", "ls_in_acl_eval", (STOP, None, None)),
        (OWN_NODE, "worker", "ls_out_acl_eval", (STOP, None, None)),
    ],
)
def test_a_stop_shows_where_it_is_and_that_all_before_it_passes(
    dst: Endpoint, datapath: str, stage: str, expected: tuple[Verdict | None, ...]
) -> None:
    what = shown("t", ended(STOP, datapath, stage, OUT), HERE, dst)
    assert verdicts(what) == expected
    (stop,) = [d for d in (what.egress, what.transit, what.ingress) if d and d.verdict is STOP]
    assert (stop.blame, stop.reason, stop.trace) == (OUT, Reason.ACL_DROP, "t")


@pytest.mark.parametrize(
    ("dst", "expected"),
    [(THERE, (PASS, Verdict.UNTRACED, None)), (NEAR, (PASS, Verdict.UNTRACED, Verdict.UNTRACED))],
)
def test_what_is_sent_to_another_port_shows_nothing_of_the_destinations(
    dst: Endpoint, expected: tuple[Verdict | None, ...]
) -> None:
    """It met the other port's flows, as where a policy sends packets to a wrong next hop."""
    assert dst.attachment is not None
    stop = ended(STOP, dst.attachment.switch, "ls_out_acl_eval", IN, outport="somebody")
    assert verdicts(shown("t", stop, HERE, dst)) == expected
    own = ended(STOP, dst.attachment.switch, "ls_out_acl_eval", IN, outport=dst.attachment.port)
    assert verdicts(shown("t", own, HERE, dst)) == (PASS, PASS, STOP)


@pytest.mark.parametrize(
    ("dst", "beside"), [(THERE, None), (OWN_NODE, Verdict.UNTRACED), (NEAR, Verdict.UNTRACED)]
)
@pytest.mark.parametrize("stage", ["ls_in_acl_eval", "ls_out_acl_eval"])
def test_what_a_router_sends_back_is_not_stopped_in_the_egress_leg(
    dst: Endpoint, beside: Verdict | None, stage: str
) -> None:
    """As a packet to the host of its own node is, where that goes by the management port."""
    back = ended(STOP, "worker", stage, OUT, entered="stor-worker")
    what = shown("t", back, HERE, dst)
    assert verdicts(what) == (PASS, Verdict.UNTRACED, beside)
    assert HERE.attachment is not None
    first = ended(STOP, "worker", "ls_in_acl_eval", OUT, entered=HERE.attachment.port)
    assert verdicts(shown("t", first, HERE, dst)) == (STOP, None, None)


def test_what_lets_a_packet_through_that_was_sent_back_is_of_its_own_cell_alone() -> None:
    assert HERE.attachment is not None
    allows = (
        let_through("worker", LET_OUT, HERE.attachment.port),
        let_through("worker", LET_IN, "stor-worker"),
    )
    left = ended(Verdict.EXITS, "worker", "ls_out_apply_port_sec", allows=allows)
    what = shown("t", left, HERE, OWN_NODE)
    assert verdicts(what) == (PASS, Verdict.UNTRACED, Verdict.UNTRACED)
    assert what.egress is not None
    assert what.egress.blame == LET_OUT


@pytest.mark.parametrize("datapath", ["worker", "third"])
def test_what_is_stopped_at_anothers_port_shows_nothing_of_the_way(datapath: str) -> None:
    """A network's packets sent to one pod meet its policies, on whatever switch that is."""
    stop = ended(STOP, datapath, "ls_out_acl_action", IN, outport="somebody", to_workload=True)
    what = shown("t", stop, HERE, THERE)
    alone = Verdict.UNTRACED
    assert verdicts(what) == (alone if datapath == "worker" else PASS, alone, None)
    between = ended(STOP, datapath, "ls_out_acl_action", IN, outport="stor")
    assert alone not in verdicts(shown("t", between, HERE, THERE))


def test_what_is_sent_on_to_another_address_shows_nothing_of_the_way() -> None:
    """It was stopped, or delivered, as what it became."""
    for verdict, datapath in ((STOP, "ovn_cluster_router"), (STOP, "other"), (PASS, "other")):
        stop = ended(verdict, datapath, "ls_out_acl_action", IN, redirected=True)
        assert verdicts(shown("t", stop, HERE, THERE)) == (PASS, Verdict.UNTRACED, None)
    near = ended(PASS, "worker", "ls_out_acl_action", redirected=True)
    assert verdicts(shown("t", near, HERE, NEAR)) == (PASS, Verdict.UNTRACED, Verdict.UNTRACED)


@pytest.mark.parametrize(
    ("stage", "arrival", "ingress"),
    [
        ("ls_in_check_port_sec", Verdict.UNROUTABLE, None),
        ("ls_in_acl_hint", Verdict.UNROUTABLE, None),
        ("ls_in_l2_unknown", Verdict.UNROUTABLE, None),
        ("ls_in_acl_eval", Verdict.UNROUTABLE, None),  # that no ACL explains
        ("ls_out_check_port_sec", PASS, Verdict.UNROUTABLE),
    ],
)
def test_a_stop_where_packets_come_in_by_the_router_is_of_those_alone(
    stage: str, arrival: Verdict, ingress: Verdict | None
) -> None:
    what = shown("t", ended(Verdict.UNROUTABLE, "other", stage, IN), HERE, THERE)
    assert what.arrival is not None
    assert what.arrival.verdict is arrival
    assert verdicts(what) == (PASS, PASS, ingress)


def test_what_comes_from_another_switch_is_not_shown_by_what_stays() -> None:
    dropped = Shown(
        egress=said(PASS), transit=said(PASS), arrival=said(Verdict.UNROUTABLE), ingress=None
    )
    results = LegResults(plan())
    learn(results, 3, 2, passed())
    learn(results, 0, 3, dropped)
    assert results.decision(MATRIX, cell(0, 2)).verdict is Verdict.UNROUTABLE
    assert results.decision(MATRIX, cell(3, 2)).verdict is PASS


@pytest.mark.parametrize(
    ("verdict", "datapath", "translated", "expected"),
    [
        (PASS, "other", "", (PASS, PASS, PASS)),
        (PASS, "other", "10.130.0.9", (PASS, Verdict.UNTRACED, None)),
        (STOP, "other", "10.130.0.9", (PASS, Verdict.UNTRACED, None)),
        # what was stopped before came to nobody's policies
        (STOP, "worker", "10.130.0.9", (STOP, None, None)),
    ],
)
def test_what_comes_with_another_source_shows_no_others_way(
    verdict: Verdict, datapath: str, translated: str, expected: tuple[Verdict | None, ...]
) -> None:
    ends = ended(verdict, datapath, "ls_out_acl_eval", IN)
    ends = {key: replace(one, translated=translated) for key, one in ends.items()}
    assert verdicts(shown("t", ends, HERE, THERE)) == expected


@pytest.mark.parametrize("dst", [NEAR, THERE])
def test_an_arrival_shows_every_part_and_who_let_it_pass(dst: Endpoint) -> None:
    there = dst.attachment.switch if dst.attachment else ""
    allows = (let_through("worker", LET_OUT), let_through(there, LET_IN))
    judged = ended(PASS, there, "ls_out_acl_eval", LET_IN, allows=allows, zone="global")
    what = shown("t", judged, _in_zone(HERE, "global"), _in_zone(dst, "global"))
    assert verdicts(what) == (PASS, PASS, PASS)
    assert what.egress is not None
    assert what.transit is not None
    assert what.ingress is not None
    assert (what.egress.blame, what.transit.blame, what.ingress.blame) == (LET_OUT, None, LET_IN)
    assert what.ingress.reason is Reason.ALLOWED_BY_ACL
    assert what.transit.reason is Reason.DELIVERED


def test_what_leaves_the_cluster_does_so_between_the_switches() -> None:
    left = ended(Verdict.EXITS, "ext_worker", "ls_in_l2_lkup")
    assert verdicts(shown("t", left, HERE, OWN_NODE)) == (PASS, Verdict.EXITS, None)


def test_a_way_over_several_traces_is_one_way() -> None:
    found = made.task()
    hop = TraceTask(**{**{f: getattr(found, f) for f in TraceTask.__slots__}, "key": "t"})
    first = Judgement(
        verdict=None,
        reason=Reason.DELIVERED,
        next_hops=(hop,),
        zone="worker",
        datapath="transit_switch",
        stage="ls_out_acl_eval",
        allows=(let_through("worker", LET_OUT),),
    )
    rest = ended(STOP, "other", "ls_out_acl_eval", IN)
    what = shown("first", {"first": first, **rest}, HERE, THERE)
    assert verdicts(what) == (PASS, PASS, STOP)
    assert what.egress is not None
    assert what.egress.blame == LET_OUT


def test_what_goes_to_a_node_through_another_zone_shows_no_other_nodes_way() -> None:
    """Nodes share a way as the sender's zone names none of them; the next zone names its own."""
    first = handed_on()
    for verdict, datapath in ((Verdict.EXITS, "ext_other"), (Verdict.UNROUTABLE, "router")):
        rest = ended(verdict, datapath, "ls_in_l2_lkup", zone="other")
        what = shown("first", {"first": first, **rest}, HERE, OWN_NODE)
        assert verdicts(what) == (PASS, Verdict.UNTRACED, None)
        reply = shown("first", {"first": first, **rest}, HERE, OWN_NODE, reply=True)
        assert verdicts(reply) == (PASS, verdict, None)
        home = {"t": replace(rest["t"], zone="worker")}
        assert verdicts(shown("t", home, HERE, OWN_NODE)) == (PASS, verdict, None)


def test_what_goes_through_a_third_zone_shows_nothing_of_a_common_way() -> None:
    """Zones on a common way are alike to the sender's, and it to them; what is between is not."""
    first = handed_on()
    for zone, expected in (("other", Verdict.UNROUTABLE), ("third", Verdict.UNTRACED)):
        rest = ended(Verdict.UNROUTABLE, ROUTER, "lr_in_ip_routing", zone=zone)
        path = {"first": first, **rest}
        assert verdicts(shown("first", path, HERE, THERE, common=True)) == (PASS, expected, None)
        assert verdicts(shown("first", path, HERE, THERE)) == (PASS, Verdict.UNROUTABLE, None)


@pytest.mark.parametrize(
    ("zone", "stage", "expected"),
    [
        # the sender's part has both pipelines, the second of them for what leaves to another zone
        ("worker", "ls_in_acl_eval", (STOP, None, None)),
        ("worker", "ls_out_acl_eval", (STOP, None, None)),
        ("other", "ls_out_acl_eval", (PASS, PASS, STOP)),
    ],
)
def test_each_zones_part_of_a_stretched_switch_is_a_switch(
    zone: str, stage: str, expected: tuple[Verdict | None, ...]
) -> None:
    src, dst = (_in_zone(end, zone, switch="layer2") for end, zone in _ENDS)
    what = shown("t", ended(STOP, "layer2", stage, OUT, zone=zone), src, dst)
    assert verdicts(what) == expected
    assert what.outward is (zone == "worker" and stage == "ls_out_acl_eval")


_ENDS = ((HERE, "worker"), (THERE, "other"))


def _in_zone(end: Endpoint, zone: str, **fields: Any) -> Endpoint:
    assert end.attachment is not None
    return replace(end, attachment=replace(end.attachment, zone=zone, **fields))


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.UNTRACED])
def test_a_trace_that_proves_nothing_shows_nothing(verdict: Verdict) -> None:
    assert verdicts(shown("t", ended(verdict, "worker", ""), HERE, NEAR)) == (None, None, None)
    assert verdicts(shown("t", {}, HERE, NEAR)) == (None, None, None)


# --- results. Four pods; 0 and 1 on one switch, 2 and 3 on another; every pod is its own class.

PODS = tuple(
    made.pod(f"p{i}", f"10.128.{2 * (i // 2)}.{5 + i}", node=f"n{i // 2}") for i in range(4)
)
HTTP = Port(protocol=Protocol.TCP, number=80)
DECIDERS = ("out", "in")


def table(predicted: Sequence[int], decider: int) -> LegTable:
    """Return a class per pod and locality, with no atom but one."""
    stops = np.array([*predicted] * len(Locality), dtype=np.uint8)
    count = len(stops)
    return LegTable(
        classes=np.arange(count, dtype=np.int32).reshape(len(Locality), 4),
        atoms=np.zeros((count, 4), dtype=np.int32),
        port_atoms=np.zeros((count, 1), dtype=np.int32),
        first=np.arange(count, dtype=np.int64),
        width=np.ones(count, dtype=np.int64),
        legs=np.arange(count, dtype=np.int64),
        predicted=stops,
        decider=np.where(stops == 1, decider, -1).astype(np.int32),
        zonal=np.full(count, -1, dtype=np.int64),
        zone=np.zeros(4, dtype=np.int64),
    )


MATRIX = Matrix(
    endpoints=PODS,
    ports=(HTTP,),
    src=np.repeat(np.arange(4, dtype=np.int32), 4),
    dst=np.tile(np.arange(4, dtype=np.int32), 4),
    family=np.zeros(16, dtype=np.int8),
    port=np.zeros(16, dtype=np.int32),
)


def plan(**fields: Any) -> LegPlan:
    """Return a plan that predicts that nothing leaves pod 1 and nothing gets to pod 3."""
    places = np.array([0, 0, 1, 1], dtype=np.int64)
    given: dict[str, Any] = {
        "family": 0,
        "composed": MATRIX.src != MATRIX.dst,
        "switch": places.astype(np.int32),
        "host": np.zeros(4, dtype=np.bool_),
        "sending": places,
        "receiving": places,
        "answered": places,
        "ways": np.arange(4, dtype=np.int64).reshape(2, 2),
        "common": np.zeros(4, dtype=np.bool_),
        "apart": np.arange(4, dtype=np.int64).reshape(2, 2),
        "unjoined": np.zeros((2, 2), dtype=np.bool_),
        "egress": table([0, 1, 0, 0], 0),
        "ingress": table([0, 0, 0, 1], 1),
        "deciders": DECIDERS,
        "met_own": places,
        "met_other": np.zeros((2, 4), dtype=np.int64),
        "stateful": np.ones(4, dtype=np.bool_),
        "composable": made.composable(np.zeros(4, dtype=np.bool_), 1),
    }
    return LegPlan(**{**given, **fields})


def cell(src: int, dst: int) -> int:
    return src * 4 + dst


def learn(results: LegResults, src: int, dst: int, what: Shown) -> None:
    found = results.legs(MATRIX, np.array([cell(src, dst)], dtype=np.int64))
    results.learn(found, 0, what)


def said(verdict: Verdict, blame: Blame | None = None, trace: str = "t") -> Decision:
    reason = Reason.ACL_DROP if verdict is STOP else Reason.DELIVERED
    return Decision(verdict=verdict, reason=reason, blame=blame, trace=trace)


def passed() -> Shown:
    return Shown(egress=said(PASS), transit=said(PASS), arrival=said(PASS), ingress=said(PASS))


def stopped_out() -> Shown:
    return Shown(egress=said(STOP, OUT), transit=None, arrival=None, ingress=None)


def stopped_in() -> Shown:
    return Shown(egress=said(PASS), transit=said(PASS), arrival=said(PASS), ingress=said(STOP, IN))


def all_learned() -> LegResults:
    """Return what traces that reach every leg as predicted show."""
    results = LegResults(plan())
    for src in range(4):
        for dst in range(4):
            if src != dst:
                what = stopped_in() if dst == 3 else passed()
                learn(results, src, dst, stopped_out() if src == 1 else what)
    return results


def test_a_leg_is_unknown_until_a_trace_shows_it() -> None:
    results = LegResults(plan())
    assert results.decision(MATRIX, cell(0, 2)).reason is Reason.LEG_NOT_SHOWN
    learn(results, 0, 3, stopped_in())
    assert results.decision(MATRIX, cell(0, 3)).verdict is STOP
    assert results.decision(MATRIX, cell(0, 2)).reason is Reason.LEG_NOT_SHOWN
    assert cell(0, 3) not in legs.unknown([results], MATRIX)
    learn(results, 1, 2, stopped_out())
    # pod 1 lets nothing out to another node: what is behind that need not be shown
    assert results.decision(MATRIX, cell(1, 3)) == said(STOP, OUT)
    assert not {cell(1, 2), cell(1, 3)} & set(legs.unknown([results], MATRIX).tolist())


def test_tracing_what_is_unknown_leaves_nothing_unknown() -> None:
    results, complete = LegResults(plan()), all_learned()
    for _ in range(4):
        for missing in legs.unknown([results], MATRIX).tolist():
            src, dst = divmod(missing, 4)
            what = stopped_in() if dst == 3 else passed()
            learn(results, src, dst, stopped_out() if src == 1 else what)
    assert legs.unknown([results], MATRIX).tolist() == []
    for of in np.flatnonzero(plan().composed).tolist():
        assert results.decision(MATRIX, of) == complete.decision(MATRIX, of)


def test_traces_that_contradict_each_other_leave_the_leg_undecided() -> None:
    results = all_learned()
    learn(results, 0, 2, stopped_out())
    assert results.decision(MATRIX, cell(0, 3)).verdict is Verdict.INCONCLUSIVE
    assert results.decision(MATRIX, cell(0, 3)).reason is Reason.LEGS_DISAGREE
    assert results.decision(MATRIX, cell(0, 1)).verdict is PASS, "on one switch is another leg"
    learn(results, 0, 2, passed())
    assert results.decision(MATRIX, cell(0, 2)).reason is Reason.LEGS_DISAGREE, "and it stays so"


def blind(part: str) -> Shown:
    """Return what a trace shows whose engine was blind in this part."""
    doubt = Decision(
        verdict=Verdict.INCONCLUSIVE, reason=Reason.ACTION_NOT_TRACED, blame=None, trace="t"
    )
    before = list(Part).index(Part(part))
    shows = (*(said(PASS),) * before, doubt, *(None,) * (3 - before))
    egress, transit, arrival, ingress = shows
    return Shown(egress=egress, transit=transit, arrival=arrival, ingress=ingress)


def test_a_blind_trace_decides_a_leg_until_another_shows_it() -> None:
    results = LegResults(plan())
    learn(results, 0, 2, blind("egress"))
    found = results.decision(MATRIX, cell(0, 2))
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, Reason.ACTION_NOT_TRACED)
    learn(results, 0, 2, passed())
    assert results.decision(MATRIX, cell(0, 2)).verdict is PASS
    learn(results, 0, 2, blind("ingress"))
    assert results.decision(MATRIX, cell(0, 2)).verdict is PASS, "nor does it take that back"


def test_a_blind_trace_shows_what_is_before_it_was() -> None:
    judged = ended(Verdict.INCONCLUSIVE, made.SWITCH, "ls_in_lb")
    assert verdicts(shown("t", judged, HERE, THERE)) == (None, None, None)
    doubted = {"t": replace(judged["t"], reason=Reason.ACLS_CONTRADICT, datapath="lr", stage="")}
    assert verdicts(shown("t", doubted, HERE, THERE)) == (PASS, Verdict.INCONCLUSIVE, None)


def by_way(transit: int, arrival: int = NO_WAY) -> CellLegs:
    """Return the legs of a cell whose egress and ingress legs are the first."""
    zero, way, into = (np.array([number], dtype=np.int64) for number in (0, transit, arrival))
    unjoined = np.zeros(1, dtype=np.bool_)
    return CellLegs(
        cells=zero,
        egress=zero,
        transit=way,
        arrival=into,
        ingress=zero,
        unjoined=unjoined,
        alone=unjoined,
    )


def sent(results: LegResults, transit: int) -> Verdict | None:
    """Return what is known of egress leg 0 for packets by a way, or that stay on the switch."""
    number = int(results.outcome(by_way(transit))[1][0])
    return None if number < 0 else results.decisions[number].verdict


def test_what_leaves_a_switch_comes_through_more_of_it_than_what_stays() -> None:
    """Both come through the ingress pipeline; what leaves also comes out by the router's port."""
    dropped = Verdict.UNROUTABLE
    outward = Shown(egress=said(dropped), transit=None, arrival=None, ingress=None, outward=True)
    results = LegResults(plan())
    results.learn(by_way(NO_WAY), 0, passed())
    assert (sent(results, NO_WAY), sent(results, 0)) == (PASS, None)
    results.learn(by_way(0), 0, outward)
    assert (sent(results, NO_WAY), sent(results, 0)) == (PASS, dropped)

    results = LegResults(plan())
    results.learn(by_way(0), 0, outward)
    assert (sent(results, NO_WAY), sent(results, 0)) == (None, dropped)
    results = LegResults(plan())
    results.learn(by_way(0), 0, passed())
    assert (sent(results, NO_WAY), sent(results, 0)) == (PASS, PASS)
    results = LegResults(plan())
    results.learn(by_way(NO_WAY), 0, stopped_out())
    assert (sent(results, NO_WAY), sent(results, 0)) == (Verdict.BLOCKED, Verdict.BLOCKED)


@pytest.mark.parametrize(
    ("stage", "dst", "outward"),
    [
        ("ls_out_check_port_sec", THERE, True),
        ("ls_in_check_port_sec", THERE, False),
        ("ls_out_check_port_sec", HERE, False),  # that is the destination's own port
    ],
)
def test_a_stop_at_the_port_to_the_router_is_of_what_leaves(
    stage: str, dst: Endpoint, *, outward: bool
) -> None:
    judged = ended(Verdict.UNROUTABLE, made.SWITCH, stage)
    assert shown("t", judged, HERE, dst).outward is outward


def test_two_blames_for_one_leg_contradict_each_other() -> None:
    results = all_learned()
    other = Shown(
        egress=said(PASS), transit=said(PASS), arrival=said(PASS), ingress=said(STOP, OUT)
    )
    learn(results, 2, 3, other)
    assert results.decision(MATRIX, cell(2, 3)).reason is Reason.LEGS_DISAGREE
    assert results.decision(MATRIX, cell(0, 3)) == said(STOP, IN)


def between_networks() -> LegResults:
    """Return results in which pods 2 and 3 are on a network that no port leads to from 0's and 1's.

    Flows of 0's and 1's network name their address, which is the same.
    """
    address = np.array([[-1, -1, 0, 0], [-1, -1, -1, -1]], dtype=np.int32)
    same = Packets(
        network=np.array([0, 0, 1, 1], dtype=np.int32),
        address=address,
        first=np.array([0, 1, 2, 2], dtype=np.int64),
        ports=1,
        count=2,
    )
    unjoined = np.array([[False, True], [True, False]])
    return LegResults(plan(unjoined=unjoined, packets=same, egress=table([0, 0, 0, 0], 0)))


def whole(verdict: Verdict, reason: Reason) -> Shown:
    """Return what a trace shows that is astray: nothing of the parts of its way."""
    untraced = Decision(verdict=Verdict.UNTRACED, reason=Reason.LEG_NOT_SHOWN, trace="t")
    decision = Decision(verdict=verdict, reason=reason, trace="t")
    return Shown(egress=untraced, transit=untraced, arrival=None, ingress=None, whole=decision)


def known(results: LegResults, src: int, dst: int) -> Reason:
    return results.decision(MATRIX, cell(src, dst)).reason


def test_a_packet_to_an_address_of_its_own_network_shows_what_becomes_of_the_same_packet() -> None:
    results = between_networks()
    learn(results, 0, 2, whole(Verdict.UNROUTABLE, Reason.ADDRESS_OF_ANOTHER))
    assert known(results, 0, 3) is Reason.ADDRESS_OF_ANOTHER
    assert known(results, 1, 3) is Reason.LEG_NOT_SHOWN, "another sender's is another packet"
    learn(results, 0, 3, whole(STOP, Reason.ACL_DROP))
    assert known(results, 0, 2) is Reason.LEGS_DISAGREE
    assert unknown([results], MATRIX).size


def test_a_packet_that_arrives_on_a_network_that_it_cannot_get_to_speaks_for_its_cell_alone() -> (
    None
):
    results = between_networks()
    learn(results, 0, 2, whole(PASS, Reason.DELIVERED))
    assert known(results, 0, 3) is Reason.LEG_NOT_SHOWN


def test_a_trace_that_failed_says_nothing_of_the_same_packet() -> None:
    results = between_networks()
    learn(results, 0, 2, whole(Verdict.UNTRACED, Reason.ENGINE_TIMEOUT))
    assert results.outcome(results.legs(MATRIX, np.array([cell(0, 3)])))[0].tolist() == [UNKNOWN]


def test_an_astray_packet_between_networks_takes_no_leg_from_others_of_its_sender() -> None:
    results = between_networks()
    apart = np.array([cell(0, 2)])
    learn(results, 0, 2, whole(Verdict.UNROUTABLE, Reason.ADDRESS_OF_ANOTHER))
    assert results.outcome(results.legs(MATRIX, apart))[1].tolist() == [UNKNOWN]


def test_what_waits_for_a_next_hop_shows_nothing_of_the_way() -> None:
    """The way may go on once the next hop answers, and for another address it may not wait."""
    waiting = ended(Verdict.INCONCLUSIVE, "ovn_cluster_router", "lr_in_arp_request")
    waiting["t"] = replace(waiting["t"], reason=Reason.NEXT_HOP_UNRESOLVED)
    assert verdicts(shown("t", waiting, HERE, THERE)) == (None, None, None)


def test_predictions_that_hold_are_counted_and_others_named() -> None:
    results = all_learned()
    compared = results.compare()
    # of 16 legs one is never reached: into pod 0 from its own switch, where pod 1 lets nothing out
    assert (compared.agree, compared.of, compared.disagreements) == (15, 15, ())
    results = LegResults(plan())
    learn(results, 0, 3, passed())
    learn(results, 1, 2, stopped_out())
    learn(results, 2, 1, stopped_in())
    compared = results.compare()
    # egress of 0, 1, 2 and ingress of 3, 1: two of the five are not as predicted
    assert (compared.agree, compared.of) == (3, 5)
    assert tuple(one.text for one in compared.disagreements) == (
        "trace t, ingress leg: predicted passing, traced blocked by in",
        "trace t, ingress leg: predicted blocked by in, traced passing",
    )


def test_the_right_verdict_of_the_wrong_acl_is_a_disagreement() -> None:
    results = LegResults(plan())
    learn(results, 1, 2, Shown(egress=said(STOP, IN), transit=None, arrival=None, ingress=None))
    (one,) = results.compare().disagreements
    assert one.text.endswith("predicted blocked by out, traced blocked by in")
    assert one.about == ("egress", "predicted blocked by out", "traced blocked by in")


def nothing_traced(**changes: Mapping[int, int]) -> CellVerdicts:
    arrays: dict[str, Any] = {
        "verdict": np.full(16, CODE[Verdict.UNTRACED], dtype=np.uint8),
        "reply": np.full(16, NO_VERDICT, dtype=np.uint8),
        "reason": np.full(16, REASON_CODE[Reason.LEG_NOT_SHOWN], dtype=np.uint8),
        "blame": np.full(16, -1, dtype=np.int32),
        "trace": np.full(16, -1, dtype=np.int32),
    }
    for name, values in changes.items():
        for at, value in values.items():
            arrays[name][at] = value
    return CellVerdicts(**arrays, blames=(LET_IN,), trace_keys=("own", "t"))


def test_cells_without_a_trace_are_made_of_their_legs() -> None:
    found = legs.compose(
        MATRIX, nothing_traced(), [all_learned()], [LegResults(plan(), requests=LegResults(plan()))]
    )
    for src in range(4):
        for dst in range(4):
            at = cell(src, dst)
            verdict, reason = VERDICTS[found.verdict[at]], REASONS[found.reason[at]]
            blame = None if found.blame[at] < 0 else found.blames[found.blame[at]]
            if src == dst:  # not composed
                assert (verdict, reason) == (Verdict.UNTRACED, Reason.LEG_NOT_SHOWN)
            elif src == 1:
                assert (verdict, blame) == (STOP, OUT)
            elif dst == 3:
                assert (verdict, blame) == (STOP, IN)
            else:
                assert (verdict, reason, blame) == (PASS, Reason.DELIVERED, None)
            assert found.trace[at] == (-1 if src == dst else 1)


def test_a_cell_with_a_trace_of_its_own_stays_as_it_is() -> None:
    at = cell(0, 2)
    own = {"verdict": CODE[STOP], "reason": REASON_CODE[Reason.ACL_DROP], "blame": 0, "trace": 0}
    traced = nothing_traced(**{name: {at: value} for name, value in own.items()})
    found = legs.compose(
        MATRIX, traced, [all_learned()], [LegResults(plan(), requests=LegResults(plan()))]
    )
    assert {name: int(getattr(found, name)[at]) for name in own} == own
    assert VERDICTS[found.verdict[cell(0, 1)]] is PASS


def test_replies_are_made_of_their_own_legs_where_there_is_an_arrival() -> None:
    answers = LegResults(plan(), requests=LegResults(plan()))
    learn(answers, 0, 2, passed())
    found = legs.compose(MATRIX, nothing_traced(), [all_learned()], [answers])
    assert found.reply[cell(0, 2)] == CODE[PASS]
    assert found.reply[cell(2, 0)] == CODE[Verdict.UNTRACED], "no trace shows that reply"
    assert found.reply[cell(1, 2)] == NO_VERDICT


def test_what_let_a_packet_out_is_named_where_nothing_had_to_let_it_in() -> None:
    results = LegResults(plan())
    out = Shown(
        egress=said(PASS, LET_OUT), transit=said(PASS), arrival=said(PASS), ingress=said(PASS)
    )
    learn(results, 0, 2, out)
    found = legs.compose(
        MATRIX, nothing_traced(), [results], [LegResults(plan(), requests=LegResults(plan()))]
    )
    at = cell(0, 2)
    assert found.blames[found.blame[at]] == LET_OUT
    assert REASONS[found.reason[at]] is Reason.ALLOWED_BY_ACL
    assert results.decision(MATRIX, at).blame == LET_OUT
    between = Shown(
        egress=said(PASS, LET_OUT),
        transit=said(PASS, LET_IN),
        arrival=said(PASS),
        ingress=said(PASS),
    )
    results = LegResults(plan())
    learn(results, 0, 2, between)
    answers = LegResults(plan(), requests=LegResults(plan()))
    found = legs.compose(MATRIX, nothing_traced(), [results], [answers])
    assert found.blames[found.blame[at]] == LET_IN, "the last that let it through"
    assert results.decision(MATRIX, at).blame == LET_IN


def test_a_prediction_says_that_packets_to_another_nodes_own_address_leave() -> None:
    host = np.array([False, False, False, True])
    of = plan(host=host, ingress=table([0, 0, 0, 0], 1))
    codes = legs.predicted(MATRIX, [of])
    assert codes[cell(0, 3)] == CODE[Verdict.EXITS]
    assert codes[cell(2, 3)] == CODE[PASS]
    assert codes[cell(1, 3)] == CODE[STOP]
    assert codes[cell(3, 3)] == NO_VERDICT
