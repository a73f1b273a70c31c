"""What the traces of some packets to a Service say of all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.packets import Family, Protocol
from audit.model.run import TO_ITSELF, endpoints_key
from audit.model.services import ServiceCells
from audit.model.traces import TraceTask
from audit.model.verdicts import CODE, NO_VERDICT, REASON_CODE, Reason, Verdict
from audit.verdict.compose import Decisions
from audit.verdict.judge import Combine, Judgement
from audit.verdict.legs import LegResults
from audit.verdict.service_packets import Pair
from audit.verdict.services import ServiceResults
from tests.verdict import made
from tests.verdict.test_legs import PODS, plan

VIP = "10.96.0.10"
HTTP = Port(protocol=Protocol.TCP, number=80)
SERVICE = Endpoint(
    kind=EndpointKind.SERVICE, namespace="shop", name="web", addresses=(VIP,), declared=()
)
# Pods 0 and 1 on one switch, 2 and 3 on another; pods 2 and 3 are behind the Service.
MATRIX = Matrix(
    endpoints=(*PODS, SERVICE),
    ports=(HTTP,),
    src=np.array([0, 1], dtype=np.int32),
    dst=np.array([4, 4], dtype=np.int32),
    family=np.zeros(2, dtype=np.int8),
    port=np.zeros(2, dtype=np.int32),
)
CELLS = np.arange(2, dtype=np.int64)
UNTRACED = np.ones(2, dtype=np.bool_)
PASS, STOP = Verdict.REACHABLE, Verdict.BLOCKED


def results(
    *, listed: tuple[int, ...] = (2, 3), groups: tuple[int, int] = (0, 0), **fields: Any
) -> ServiceResults:
    """Return what is known of both pods' cells, whose packets are alike, before any trace.

    To `listed` their packets have legs.
    """
    requests = LegResults(plan(**fields))
    known = ServiceCells(
        legs=0,
        matrix=MATRIX,
        cells=CELLS,
        group=np.array(groups, dtype=np.int32),
        behind={PODS[end].addresses[0]: end for end in (0, 2, 3)},
        ports={(Protocol.TCP, 80): 0},
        listed=dict.fromkeys(groups, frozenset((end, 0) for end in listed)),
    )
    return ServiceResults(known, MATRIX, requests, LegResults(requests.plan, requests=requests))


def packet(src: int, end: int, key: str) -> TraceTask:
    """Return the packet that the Service sends to a pod, by another's name."""
    flow = replace(made.FLOW, ip_src=PODS[src].addresses[0], ip_dst=PODS[end].addresses[0])
    return replace(made.task(microflow=flow), key=key)


def balanced(src: int, *ends: int, **fields: Any) -> dict[str, Judgement]:
    """Return the judgement of a packet to the Service, `s0` or `s1`, by who is behind that."""
    at = PODS[src].attachment
    assert at is not None
    given: dict[str, Any] = {
        "zone": at.zone,
        "datapath": at.switch,
        "stage": "ls_in_lb",
        "entered": at.port,
        "next_hops": tuple(packet(src, end, f"{src}-{end}") for end in ends),
    }
    judgement = Judgement(
        verdict=None, reason=Reason.ALL_BACKENDS, combine=Combine.BACKENDS, **{**given, **fields}
    )
    return {f"s{src}": judgement}


def came(src: int, end: int, verdict: Verdict, *, out: bool = False) -> dict[str, Judgement]:
    """Return what became of a packet between two pods: at its receiver's, or on its way `out`."""
    at = PODS[src if out else end].attachment
    assert at is not None
    ended = Judgement(
        verdict=verdict,
        reason=Reason.DELIVERED if verdict is PASS else Reason.ACL_DROP,
        zone=at.zone,
        datapath=at.switch,
        stage="ls_in_acl_after_lb_eval" if out else "ls_out_acl_eval",
    )
    return {f"{src}-{end}": ended}


def verdicts(known: ServiceResults, judgements: dict[str, Judgement]) -> CellVerdicts:
    """Return the cells' verdicts; none has a trace of its own."""
    blank = CellVerdicts(
        verdict=np.zeros(2, dtype=np.uint8),
        reply=np.full(2, NO_VERDICT, dtype=np.uint8),
        reason=np.zeros(2, dtype=np.uint8),
        blame=np.full(2, -1, dtype=np.int32),
        trace=np.full(2, -1, dtype=np.int32),
        blames=(),
        trace_keys=tuple(judgements),
    )
    return known.fill(blank, Decisions(judgements))


def test_one_trace_and_legs_decide_the_cells_of_a_group() -> None:
    known = results()
    judgements = {**balanced(0, 2, 3), **came(0, 2, PASS), **came(0, 3, STOP)}
    known.learn(CELLS[:1], ["s0"], judgements)
    # Of pod 1's egress leg, which is another class here, nothing is known.
    assert known.missing(UNTRACED) == [Pair(1, (2, 0))]
    judgements |= came(1, 2, PASS)
    known.learn_leg(1, (2, 0), "1-2", judgements)
    assert known.missing(UNTRACED) == []
    assert known.left_open(UNTRACED).tolist() == []
    filled = verdicts(known, judgements)
    assert set(filled.verdict.tolist()) == {CODE[Verdict.INCONCLUSIVE]}
    assert set(filled.reason.tolist()) == {REASON_CODE[Reason.BACKENDS_DIFFER]}
    assert [known.decision(cell).verdict for cell in (0, 1)] == [Verdict.INCONCLUSIVE] * 2


def test_a_cell_names_the_traced_request_that_came_to_the_same_or_what_stands_for_it() -> None:
    known = results()
    judgements = {**balanced(0, 2), **came(0, 2, PASS), **came(1, 2, STOP, out=True)}
    known.learn(CELLS[:1], ["s0"], judgements)
    known.learn_leg(1, (2, 0), "1-2", judgements)
    filled = verdicts(known, judgements)
    named = [filled.trace_keys[trace] for trace in filled.trace.tolist()]
    assert named == ["s0", "1-2"]
    # One trace stands for all endpoints, which stand beside it.
    listed = endpoints_key(SERVICE.key, HTTP, Family.IP4)
    assert known.forks == {listed: ((f"{PODS[2].addresses[0]}:80",), ())}


def test_a_cell_whose_endpoints_fare_differently_names_a_trace_for_each() -> None:
    known = results()
    judgements = {**balanced(1, 2, 3), **came(1, 2, PASS), **came(1, 3, STOP)}
    known.learn(CELLS[1:], ["s1"], judgements)
    judgements |= {**came(0, 2, PASS), **came(0, 3, STOP)}
    known.learn_leg(0, (2, 0), "0-2", judgements)
    known.learn_leg(0, (3, 0), "0-3", judgements)
    filled = verdicts(known, judgements)
    ends = tuple(f"{PODS[end].addresses[0]}:80" for end in (2, 3))
    forks = [fork for fork in known.forks.values() if fork[1]]
    assert [fork[0] for fork in forks] == [ends] * len(forks)
    assert set(filled.reason.tolist()) == {REASON_CODE[Reason.BACKENDS_DIFFER]}
    named = {filled.trace_keys[trace] for trace in filled.trace.tolist()}
    assert named <= {"s1", *(key for key, fork in known.forks.items() if fork[1])}


def test_what_stands_for_all_endpoints_is_not_named_where_senders_have_others() -> None:
    known = results(groups=(0, 1))
    judgements = {**balanced(0, 2), **balanced(1, 3), **came(0, 2, STOP), **came(1, 3, STOP)}
    known.learn(CELLS, ["s0", "s1"], judgements)
    filled = verdicts(known, judgements)
    assert [filled.trace_keys[trace] for trace in filled.trace.tolist()] == ["s0", "s1"]
    assert endpoints_key(SERVICE.key, HTTP, Family.IP4) not in known.forks


def test_two_traces_of_a_group_that_are_sent_elsewhere_leave_it_open() -> None:
    known = results()
    judgements = {**balanced(0, 2), **balanced(1, 3), **came(0, 2, PASS), **came(1, 3, PASS)}
    known.learn(CELLS, ["s0", "s1"], judgements)
    assert known.left_open(UNTRACED).tolist() == CELLS.tolist()
    assert set(verdicts(known, judgements).verdict.tolist()) == {CODE[Verdict.UNTRACED]}


def test_an_endpoint_to_which_no_legs_were_looked_for_leaves_the_group_open() -> None:
    known = results(listed=(2,))
    judgements = {**balanced(0, 2, 3), **came(0, 2, PASS), **came(0, 3, PASS)}
    known.learn(CELLS[:1], ["s0"], judgements)
    assert known.left_open(UNTRACED).tolist() == CELLS.tolist()


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"datapath": "ovn_cluster_router", "stage": "lr_in_dnat"},
        {"entered": "stor-n0"},
        {"stage": "ls_in_acl_after_lb_eval"},
        {"next_hops": ()},
    ],
)
def test_a_packet_that_another_than_its_switch_balances_tells_nothing_of_others(
    elsewhere: dict[str, Any],
) -> None:
    known = results()
    judgements = balanced(0, 2, **elsewhere)
    known.learn(CELLS[:1], ["s0"], judgements | came(0, 2, PASS))
    assert known.left_open(UNTRACED).tolist() == CELLS.tolist()


def test_a_service_without_endpoints_stops_all_alike() -> None:
    known = results()
    stopped = replace(
        balanced(0)["s0"], verdict=Verdict.UNROUTABLE, reason=Reason.SERVICE_WITHOUT_ENDPOINTS
    )
    known.learn(CELLS[:1], ["s0"], {"s0": stopped})
    assert known.left_open(UNTRACED).tolist() == []
    filled = verdicts(known, {"s0": stopped})
    assert set(filled.verdict.tolist()) == {CODE[Verdict.UNROUTABLE]}
    assert [filled.trace_keys[trace] for trace in filled.trace.tolist()] == ["s0", "s0"]


def test_what_a_policy_stops_after_load_balancing_tells_nothing_of_others() -> None:
    """As where the load balancer's flow is lost: the packet meets a policy of its sender then."""
    known = results()
    stopped = replace(
        balanced(0)["s0"],
        verdict=STOP,
        reason=Reason.DEFAULT_DENY,
        stage="ls_in_acl_after_lb_action",
        combine=Combine.FOLLOW,
    )
    known.learn(CELLS[:1], ["s0"], {"s0": stopped})
    assert known.left_open(UNTRACED).tolist() == CELLS.tolist()


@pytest.mark.parametrize(
    ("itself", "left"),
    [(STOP, []), (Verdict.INCONCLUSIVE, []), (PASS, [0])],
    ids=["stopped", "in doubt", "with a reply of its own"],
)
def test_what_a_sole_endpoint_sends_itself_is_a_packet_of_its_own(
    itself: Verdict, left: list[int]
) -> None:
    known = results(listed=(0,))
    judgements = {**balanced(1, 0), **came(1, 0, PASS)}
    known.learn(CELLS[1:], ["s1"], judgements)
    assert known.missing(UNTRACED) == [Pair(0, (0, 0))]
    assert known.left_open(UNTRACED).tolist() == [0]
    judgements |= {"own": Judgement(verdict=itself, reason=Reason.HAIRPIN_NOT_TRANSLATED)}
    known.learn_leg(0, (0, 0), "own", judgements)
    assert known.missing(UNTRACED) == []
    assert known.left_open(UNTRACED).tolist() == left
    assert [known.decision(cell).verdict for cell in (0, 1)] == [itself, PASS]


def test_what_one_of_several_endpoints_sends_itself_no_trace_proves() -> None:
    known = results(listed=(0, 2))
    judgements = {**balanced(1, 0, 2), **came(1, 0, PASS), **came(1, 2, PASS)}
    known.learn(CELLS[1:], ["s1"], judgements)
    assert known.missing(UNTRACED) == [Pair(0, (2, 0))]
    known.learn_leg(0, (2, 0), "0-2", {**judgements, **came(0, 2, PASS)})
    assert known.missing(UNTRACED) == []
    assert known.left_open(UNTRACED).tolist() == []
    itself = known.decision(0)
    assert (itself.verdict, itself.reason) == (
        Verdict.INCONCLUSIVE,
        Reason.HAIRPIN_NOT_TRANSLATED,
    )
    verdicts(known, judgements)
    ends = tuple(f"{PODS[end].addresses[0]}:80" for end in (0, 2))
    assert (ends, (TO_ITSELF, "1-2")) in known.forks.values()
    assert known.decision(1).verdict is PASS
    assert known.unanswered(UNTRACED), "of the packets to the other endpoint"


def test_what_a_sender_behind_the_service_is_sent_tells_nothing_of_others() -> None:
    known = results(listed=(0, 2))
    known.learn(CELLS[:1], ["s0"], {**balanced(0, 2), **came(0, 2, PASS)})
    assert known.left_open(UNTRACED).tolist() == CELLS.tolist()
    known.learn(CELLS[1:], ["s1"], {**balanced(1, 0, 2), **came(1, 0, PASS), **came(1, 2, PASS)})
    assert known.left_open(UNTRACED).tolist() == []


def test_a_group_is_asked_by_a_sender_that_is_not_behind_the_service() -> None:
    assert results().of.asked().tolist() == [0]
    assert results(listed=(0, 2)).of.asked().tolist() == [1]
    assert results(listed=(0, 1)).of.asked().tolist() == [0], "there is no other"
    headless = replace(results().of, sent={0: ((2, 0),)})
    assert headless.asked().tolist() == []


def test_cells_that_begin_or_may_end_somewhere_are_told() -> None:
    known = results()
    known.learn(CELLS[:1], ["s0"], {**balanced(0, 2), **came(0, 2, PASS)})
    at = [end.node == "n1" for end in MATRIX.endpoints]
    assert known.at(at).tolist() == CELLS.tolist()
    assert known.at([end == PODS[1] for end in MATRIX.endpoints]).tolist() == [1]
    known.leave(CELLS[:1])
    assert known.at(at).tolist() == [1]
    assert known.composed.tolist() == [1]
