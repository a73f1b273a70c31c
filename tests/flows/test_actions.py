"""What actions are read as; what nobody knows is never guessed at."""

import pytest

from audit.flows import actions, expressions
from audit.flows.actions import (
    Backend,
    Balance,
    Decrement,
    GetMac,
    Load,
    LoadPort,
    Move,
    Nested,
    Next,
    Nothing,
    Output,
    Select,
    Track,
    Translate,
    Unknown,
)
from audit.flows.fields import FIELDS


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("drop;", ()),
        ("next;", (Next(),)),
        ("next(pipeline=egress,table=5);", (Next(5, "egress"),)),
        ("next(7);", (Next(7),)),
        ('outport = "a"; output;', (LoadPort(FIELDS["outport"], "a"), Output())),
        ("reg0[3] = 1; next;", (Load(FIELDS["reg0"].part(3, 1), 1), Next())),
        ("eth.dst <-> eth.src;", (Move(FIELDS["eth.dst"], FIELDS["eth.src"], both=True),)),
        ("ip.ttl--; next;", (Decrement(), Next())),
        ("ct_next;", (Track(fresh=True, once=False),)),
        ("ct_next(dnat);", (Track(fresh=True, once=False),)),
        ("ct_commit_nat(snat);", (Track(fresh=False, once=True),)),
        ("ct_snat(172.18.0.2,1024-65535);", (Translate(False, "172.18.0.2"),)),  # noqa: FBT003
        ("ct_dnat;", (Translate(True),)),  # noqa: FBT003
        (
            'ct_lb(backends=10.0.0.1:80,10.0.0.2:81; hash_fields="ip_src"; skip_snat);',
            (Balance((Backend("10.0.0.1", 80), Backend("10.0.0.2", 81))),),
        ),
        ("ct_lb_mark(backends=[fd00::1]:80);", (Balance((Backend("fd00::1", 80),)),)),
        ('ct_lb_mark_local(backends="a_b":10.0.0.1:80);', (Balance((Backend("10.0.0.1", 80),)),)),
        ("ct_lb_mark;", (Balance(),)),
        (
            "reg8[16..31] = select(1=100, 2);",
            (Select(FIELDS["reg8"].part(16, 16), (1, 2)),),
        ),
        (
            'reg8[16..31] = select(values=(3,4=5); hash_fields="ip_src");',
            (Select(FIELDS["reg8"].part(16, 16), (3, 4)),),
        ),
        ("get_arp(outport, reg0);", (GetMac(FIELDS["outport"], FIELDS["reg0"]),)),
        (
            "ct_commit { ct_mark.blocked = 1; ct_label.label = reg3; }; next;",
            (Nothing("ct_commit"), Next()),
        ),
        (
            "reg0 = 0; reject { outport <-> inport; next(pipeline=egress,table=6); };",
            (
                Load(FIELDS["reg0"], 0),
                Nested(
                    "reject",
                    (Move(FIELDS["outport"], FIELDS["inport"], both=True), Next(6, "egress")),
                ),
            ),
        ),
    ],
)
def test_actions_are_read(text: str, steps: tuple[actions.Action, ...]) -> None:
    assert actions.read(text).steps == steps


@pytest.mark.parametrize(
    "text",
    [
        "teleport;",
        "reg0 = teleport();",
        "clone { teleport; }; next;",
        "reg0 = ^VARIABLE; next;",
        "ct_lb_mark(backends=^VARIABLE);",
        "reg77 = 1;",
        "reg0 = reg1[0..3];",
        "reg0[0..3] = 16;",
        "next(table=1,warp=2);",
        "next next;",
        "output",
        "clone { output; ",
    ],
)
def test_what_nobody_knows_is_unknown(text: str) -> None:
    (step,) = actions.read(text).steps
    assert isinstance(step, Unknown)
    assert text in step.text
    assert list(actions.unknown((step,)))


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("next;", "1"),
        ("ct_next;", "ip"),
        ("ip.ttl--; next;", "ip"),
        ("tcp.dst = 80; next;", "tcp"),
        ("reg0 = ip4.src; next;", "ip4"),
        ("arp { arp.op = 1; output; };", "ip"),
        ("icmp6 { ip6.dst <-> ip6.src; output; };", "ip6"),
        ("clone { ip.ttl--; output; };", "ip"),
        ("nd_na { output; };", "nd_ns"),
    ],
)
def test_actions_say_what_a_packet_must_be(text: str, needs: str) -> None:
    assert actions.read(text).needs == expressions.parse(needs)
