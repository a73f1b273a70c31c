"""What a southbound has otherwise than its northbound: flows, sets and groups, by content."""

from dataclasses import replace
from typing import Any

import pytest

from audit.cover.behind import differences
from audit.model.facts import LogicalFlow, Zone
from audit.model.findings import FindingKind
from tests.verdict import made

MATCH = "outport == @a1 && ip4.src == $a2"
ACL = replace(made.acl(), action="allow-related", priority=1001, tier=2, match=MATCH)
PORT = made.port("shop_pod", datapath="worker")
FLOWS = tuple(
    LogicalFlow(
        stage="ls_out_acl_eval",
        priority=2001,
        match=f"reg8[30..31] == 2 && reg0[{hint}] == 1 && ({MATCH})",
        actions="reg8[16] = 1; next;",
    )
    for hint in (7, 8)
)
BY_NORTHD = LogicalFlow("ls_out_acl_eval", 34000, "eth.src == $svc_monitor_mac", "next;")
STRAY = LogicalFlow("ls_out_acl_eval", 40000, "ip4.dst == 10.128.0.5", "reg8[17] = 1; next;")


def zone(**changes: Any) -> Zone:
    """Return a zone whose databases agree, but for what is changed."""
    group = replace(made.group(None, "shop_pod"), name="a1", acls=frozenset({ACL.uuid}))
    whole = made.zone(ports=[PORT], acls=[ACL], groups=[group])
    fields: dict[str, Any] = {
        "switches": {"worker": ("10.128.0.0/24",)},
        "flows": {"worker": (*FLOWS, BY_NORTHD)},
        "address_sets": {"a2": ("10.128.0.5", "10.128.0.6"), "unused": ("10.128.0.7",)},
        "installed_sets": {"a2": ("10.128.0.5", "10.128.0.6")},
        "installed_groups": {"a1": frozenset({"shop_pod"})},
    }
    return replace(whole, **(fields | changes))


def texts(one: Zone) -> list[str]:
    found = differences({one.name: one})
    assert {difference.kind for difference in found} <= {FindingKind.SOUTHBOUND_DIFFERS}
    assert {difference.zones for difference in found} <= {("worker",)}
    return [difference.text for difference in found]


def test_databases_that_agree_have_no_difference() -> None:
    assert texts(zone()) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"flows": {"worker": FLOWS[:1]}}, "switch worker lacks flows of "),
        (
            {"flows": {"worker": (*FLOWS, STRAY)}},
            "switch worker has a flow that is of no ACL (ls_out_acl_eval, priority 40000: ip4.dst",
        ),
        ({"installed_sets": {"a2": ("10.128.0.5",)}}, "address set a2 lacks 10.128.0.6, in zone"),
        ({"installed_sets": {}}, "address set a2 lacks 10.128.0.5, 10.128.0.6, in zone worker"),
        (
            {"installed_sets": {"a2": ("10.128.0.5", "10.128.0.66")}},
            "address set a2 lacks 10.128.0.6 and has 10.128.0.66, in zone worker",
        ),
        ({"installed_groups": {}}, "port group a1 lacks shop_pod, in zone worker"),
        (
            {"installed_groups": {"a1": frozenset({"shop_pod", "shop_gone"})}},
            "port group a1 has shop_gone, in zone worker",
        ),
    ],
)
def test_what_the_southbound_has_otherwise_is_named(changes: dict[str, Any], text: str) -> None:
    [found] = texts(zone(**changes))
    assert found.startswith(text)


def test_a_southbound_that_was_not_read_is_compared_with_nothing() -> None:
    unread: dict[str, Any] = {"flows": {}, "installed_sets": None, "installed_groups": None}
    assert texts(zone(**unread)) == []


def test_a_switch_that_the_southbound_has_not_is_one_difference() -> None:
    (found,) = texts(zone(flows={"another": FLOWS}))
    assert found.startswith("switch worker is not in the southbound")
