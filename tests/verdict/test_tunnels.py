"""Hops of a node's Open vSwitch: where they lead on, and what they mean when they do not."""

from dataclasses import fields, replace

import pytest

from audit.model.datapath import Chassis
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import NO_OWNERS, Owners
from audit.model.tasks import keyed
from audit.model.traces import DatapathTask, DatapathTrace, Hop, HopEnd, Tunnel
from audit.model.verdicts import Reason, Verdict
from audit.verdict.blame import Blamer
from audit.verdict.blindness import Blindness
from audit.verdict.hops import NextHops
from audit.verdict.judge import DEEPEST, Judge, Judgement
from audit.verdict.tunnels import Tunnels
from tests.verdict import made
from tests.verdict.test_judge import OTHER, ZONE

HERE = Chassis(name="c1", node="worker", zone="worker", address="10.0.0.1")
THERE = Chassis(name="c2", node="far", zone="other", address="10.0.0.2")
TUNNEL = Tunnel(local="10.0.0.1", remote="10.0.0.2", key=3, metadata=0x20001)
LEFT = replace(made.FLOW, inport="", ttl=63)


def task(**changed: object) -> DatapathTask:
    asked = made.task()
    values = {field.name: getattr(asked, field.name) for field in fields(asked)}
    return keyed(replace(DatapathTask(**values, node="worker"), **changed))  # type: ignore[arg-type]


def judge(
    asked: DatapathTask,
    hop: Hop,
    *,
    tunnel: Tunnel | None = None,
    owners: Owners = NO_OWNERS,
) -> Judgement:
    zones = {"worker": ZONE, "other": OTHER}
    judging = Judge(
        blamer=Blamer.of(zones, ()),
        hops=NextHops(zones=zones, owners=owners),
        blindness=Blindness(zones=zones, owners=owners),
        tunnels=Tunnels.of((HERE, THERE)),
    )
    trace = DatapathTrace(key=asked.key, hop=hop, output="", tunnel=tunnel, packet=LEFT)
    return judging.judge(asked, trace)


def test_a_packet_goes_on_at_the_node_its_tunnel_leads_to() -> None:
    found = judge(task(), made.hop(HopEnd.TUNNELLED), tunnel=TUNNEL)
    [onward] = found.next_hops
    assert isinstance(onward, DatapathTask)
    assert found.verdict is None
    assert (onward.node, onward.zone, onward.tunnel) == ("far", "other", TUNNEL)
    assert (onward.microflow, onward.target, onward.depth) == (LEFT, "shop_b", 1)
    assert onward.key != task().key


def test_a_tunnel_to_nobody_is_named() -> None:
    wrong = replace(TUNNEL, remote="10.0.0.9")
    found = judge(task(), made.hop(HopEnd.TUNNELLED), tunnel=wrong)
    assert (found.verdict, found.reason) == (Verdict.UNROUTABLE, Reason.TUNNEL_ASTRAY)
    assert "worker" in found.detail
    assert "10.0.0.9" in found.detail


def test_a_tunnel_to_a_node_whose_zone_is_not_there_proves_nothing() -> None:
    node = Endpoint(kind=EndpointKind.NODE, name="away", node="away", addresses=("10.0.0.9",))
    away = replace(TUNNEL, remote="10.0.0.9")
    found = judge(task(), made.hop(HopEnd.TUNNELLED), tunnel=away, owners=made.owners(node))
    assert (found.verdict, found.reason) == (Verdict.UNTRACED, Reason.NODE_MISSING)
    assert "node away" in found.detail


def test_a_packet_is_not_tunnelled_for_ever() -> None:
    found = judge(task(depth=DEEPEST), made.hop(HopEnd.TUNNELLED), tunnel=TUNNEL)
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, Reason.TOO_MANY_HOPS)


def test_a_tunnel_whose_header_was_not_read_proves_nothing() -> None:
    found = judge(task(), made.hop(HopEnd.TUNNELLED))
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, Reason.TRACE_ENDS)


@pytest.mark.parametrize(
    ("hop", "reason", "said"),
    [
        (made.hop(HopEnd.UNBOUND), Reason.PORT_NOT_BOUND, "delivers to shop_b"),
        (made.hop(HopEnd.UNBOUND, outport=""), Reason.PORT_NOT_BOUND, "takes it in"),
        (
            made.hop(HopEnd.UNBOUND, outport="", text="no interface for x"),
            Reason.PORT_NOT_BOUND,
            "no interface for x",
        ),
        (
            made.hop(HopEnd.MISSED, stage="ls_in_lb", text="no flow in table 20"),
            Reason.FLOW_MISSING,
            "no flow in table 20 of node worker takes it after ls_in_lb",
        ),
    ],
)
def test_a_flow_that_is_not_there_is_named(hop: Hop, reason: Reason, said: str) -> None:
    found = judge(task(), hop)
    assert (found.verdict, found.reason) == (Verdict.UNROUTABLE, reason)
    assert said in found.detail
