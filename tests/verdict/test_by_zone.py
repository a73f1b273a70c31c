"""Each zone on a packet's way is asked for itself, whatever becomes of the packet behind."""

from audit.model.traces import HopEnd, LogicalTrace, TraceFailure, TraceTask
from audit.model.verdicts import Blame, Reason, Verdict
from audit.verdict.by_zone import ZoneAnswers, mirrored
from audit.verdict.judge import Combine, Judgement
from tests.verdict import made
from tests.verdict.test_compose import ends, onward, task

ALLOWS = Blame(action="allow", direction="egress")
STOPS = Blame(action="drop", direction="ingress")


def places(judgements: dict[str, Judgement], zones: dict[str, str]) -> list[tuple[object, ...]]:
    tasks = {name: _in(task(name), zones.get(name, "here")) for name in judgements}
    known = ZoneAnswers(tasks=tasks, judgements=judgements)
    return [
        (place.name, place.keys, place.answer.verdict, place.answer.blame)
        for place in known.of("a")
    ]


def _in(of: TraceTask, zone: str) -> TraceTask:
    fields = {name: getattr(of, name) for name in TraceTask.__slots__}
    return TraceTask(**{**fields, "zone": zone})


def test_a_zone_that_passes_a_packet_on_has_passed_it() -> None:
    found = places(
        {"a": onward("b", blame=ALLOWS), "b": ends(Verdict.BLOCKED, STOPS)}, {"b": "there"}
    )
    assert found == [
        ("here", ("a",), Verdict.REACHABLE, ALLOWS),
        ("there", ("b",), Verdict.BLOCKED, STOPS),
    ]


def test_where_a_zone_stops_it_there_is_no_other() -> None:
    found = places({"a": ends(Verdict.BLOCKED, STOPS)}, {})
    assert found == [("here", ("a",), Verdict.BLOCKED, STOPS)]


def test_alternatives_in_one_zone_are_one_place() -> None:
    judgements = {
        "a": onward("b", "c", how=Combine.GATEWAYS),
        "b": ends(Verdict.EXITS),
        "c": onward("d"),
        "d": ends(Verdict.EXITS),
    }
    found = places(judgements, {"d": "there"})
    assert [(zone, keys, verdict) for zone, keys, verdict, _ in found] == [
        ("here", ("a", "b", "c"), Verdict.EXITS),
        ("there", ("d",), Verdict.EXITS),
    ]


def test_a_trace_that_was_not_run_proves_nothing() -> None:
    known = ZoneAnswers(tasks={"a": task("a"), "b": task("b")}, judgements={"a": onward("b")})
    assert [place.answer.verdict for place in known.of("a")] == [
        Verdict.REACHABLE,
        Verdict.UNTRACED,
    ]


def test_the_second_half_of_a_request_is_its_reply_s_way_backwards() -> None:
    request = made.task(target="shop_b")
    reply = made.task(zone="other", target="shop_a", microflow=made.FLOW)
    onward_flow = made.task(zone="worker").microflow
    onward_reply = made.task(microflow=onward_flow)
    left = LogicalTrace(
        key=reply.key,
        hop=made.hop(HopEnd.OUTPUT, port="tstor-worker", port_type="remote"),
        output="",
    )
    found = mirrored(request, reply, left, onward_reply)
    assert found is not None
    assert (found.zone, found.target) == ("other", reply.microflow.inport)
    assert found.microflow.inport == "tstor-worker"
    assert found.microflow.eth_src == onward_flow.eth_dst
    assert found.microflow.eth_dst == onward_flow.eth_src
    assert (found.microflow.ip_src, found.microflow.ip_dst) == (
        request.microflow.ip_src,
        request.microflow.ip_dst,
    )
    assert found.state is request.state


def test_there_is_no_second_half_where_the_reply_has_none() -> None:
    request = made.task()
    delivered = LogicalTrace(
        key="r", hop=made.hop(HopEnd.OUTPUT, port="shop_a", port_type=""), output=""
    )
    failed = TraceFailure(key="r", reason=Reason.ENGINE_LOST, message="")
    for left in (delivered, failed):
        assert mirrored(request, made.task(), left, made.task()) is None
