"""Which flows ACLs explain: one edited, one too many, one too few, and those of every version."""

from dataclasses import replace
from typing import Any

import pytest

from audit.cover.agreement import compare
from audit.model.facts import LogicalFlow
from tests.verdict import made

MATCH = "outport == @a1 && ip4.src == $a2"
ACL = replace(made.acl(), action="allow-related", priority=1001, tier=2, match=MATCH)


def flow(hint: int, **changes: Any) -> LogicalFlow:
    """Return a flow that northd makes of the ACL for one conntrack state (OVN 25.03)."""
    return LogicalFlow(
        stage="ls_out_acl_eval",
        priority=2001,
        match=f"reg8[30..31] == 2 && reg0[{hint}] == 1 && ({MATCH})",
        actions="reg8[16] = 1; next;",
    )._replace(**changes)


def test_the_flows_of_an_acl_are_explained() -> None:
    found = compare([ACL], [flow(7), flow(8)])
    assert (found.explained, found.lacking) == (frozenset({0, 1}), ())


def test_up_to_ovn_23_03_flows_act_themselves() -> None:
    denying = replace(ACL, action="drop", tier=0)
    flows = [
        LogicalFlow("ls_out_acl", 2001, f"reg0[9] == 1 && ({MATCH})", "/* drop */"),
        LogicalFlow(
            "ls_out_acl", 2001, f"reg0[10] == 1 && ({MATCH})", "ct_commit { ct_mark.blocked = 1; };"
        ),
    ]
    assert compare([denying], flows).explained == frozenset({0, 1})
    assert not compare([denying], flows).lacking


@pytest.mark.parametrize(
    "changed",
    [
        {"match": flow(7).match + " && ip4.src == 10.0.0.1"},
        {"match": flow(7).match.replace("== 2 &&", "== 1 &&")},
        {"match": flow(7).match.replace("$a2", "$a3")},
        {"priority": 2002},
        {"actions": "reg8[17] = 1; next;"},
        {"actions": "drop;"},
        {"stage": "ls_in_acl_eval"},
        {"stage": "ls_in_acl_after_lb_eval"},
    ],
)
def test_an_edited_flow_is_not_and_its_acl_lacks_it(changed: dict[str, Any]) -> None:
    found = compare([ACL], [flow(7, **changed), flow(8)])
    assert (found.explained, found.lacking) == (frozenset({1}), (ACL,))


def test_a_flow_too_few_is_missed_and_one_of_no_acl_is_not_explained() -> None:
    assert compare([ACL], [flow(8)]).lacking == (ACL,)
    assert compare([ACL], []).lacking == (ACL,)
    stray = LogicalFlow("ls_out_acl_eval", 40000, "ip4.src==10.0.0.1", "reg8[17] = 1; next;")
    assert compare([ACL], [stray, flow(7), flow(8)]).explained == frozenset({1, 2})
    assert compare([], [stray]).explained == frozenset()
