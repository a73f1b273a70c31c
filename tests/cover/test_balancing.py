"""Which packets to Services are alike up to the load balancer, by what their switches say."""

from dataclasses import replace

import pytest

from audit.cover.acls import Predicates, ZoneAcls
from audit.cover.balancing import UNLIKE, vip_numbers
from audit.model.facts import Acl, LogicalFlow, Zone
from audit.model.packets import Family
from tests.verdict import made

VIPS = ("10.96.0.10", "10.96.0.20")
DIGESTS = ({"10.96.0.10": 7, "10.96.0.20": 9},)


def zone(name: str, *flows: LogicalFlow, acls: tuple[Acl, ...] = (), **fields: object) -> Zone:
    """Return a zone with a switch of its name, which says of both addresses what others say."""
    given = {"flows": {name: flows}, "service_flows": {name: DIGESTS}} | fields
    on_switch = {name: frozenset(acl.uuid for acl in acls)}
    return replace(made.zone(name, acls=acls), switch_acls=on_switch, **given)  # type: ignore[arg-type]


def numbers(*zones: Zone) -> list[list[int]]:
    """Return a row for each zone's switch: a number for each address."""
    predicates = Predicates((), Family.IP4)
    acls = {each.name: ZoneAcls(each, predicates, {}) for each in zones}
    switches = {(each.name, each.name): row for row, each in enumerate(zones)}
    by_name = {each.name: each for each in zones}
    table: list[list[int]] = vip_numbers(by_name, switches, VIPS, Family.IP4, acls).tolist()
    return table


def flow(match: str, stage: str = "ls_in_lb") -> LogicalFlow:
    """Return a flow that stops what it is for."""
    return LogicalFlow(stage=stage, priority=200, match=match, actions="drop;")


def test_switches_that_say_the_same_of_an_address_are_alike() -> None:
    first, second = numbers(zone("one"), zone("two"))
    assert first == second
    assert first[0] != first[1]


def test_a_digest_tells_a_switch_from_others() -> None:
    other = ({"10.96.0.10": 8, "10.96.0.20": 9},)
    first, second = numbers(zone("one"), zone("two", service_flows={"two": other}))
    assert first[0] != second[0]
    assert first[1] == second[1]


def test_a_digest_in_two_parts_is_that_of_the_whole() -> None:
    parts = ({"10.96.0.10": 3, "10.96.0.20": 9}, {"10.96.0.10": 4})
    first, second = numbers(zone("one"), zone("two", service_flows={"two": parts}))
    assert first == second


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ("ip4.dst == 10.96.0.10", (True, False)),
        ("ip4.dst == {10.96.0.20, 192.0.2.1} || tcp", (False, True)),
        ("ip4.dst == 10.96.0.0/28", (True, False)),
        ("ip4.dst == 10.96.0.0/16", (True, True)),
        ("ip4.dst == $vips", (True, False)),
        ("ip4.dst == 192.0.2.1", (False, False)),
    ],
)
def test_a_flow_that_names_an_address_tells_its_switch_from_others(
    match: str, told: tuple[bool, bool]
) -> None:
    sets = {"vips": ("10.96.0.10",)}
    first, second = numbers(
        zone("one", address_sets=sets), zone("two", flow(match), address_sets=sets)
    )
    assert tuple(a != b for a, b in zip(first, second, strict=True)) == told


@pytest.mark.parametrize("stage", ["ls_out_lb", "lr_in_dnat", "ls_in_acl_after_lb_eval"])
def test_what_is_asked_after_load_balancing_tells_nothing(stage: str) -> None:
    first, second = numbers(zone("one"), zone("two", flow("ip4.dst == 10.96.0.10", stage)))
    assert first == second


@pytest.mark.parametrize(
    ("match", "unlike"),
    [
        ("ip4.dst == 10.96.0.10", (True, False)),
        ("inport == @pods && ip4.dst == 10.96.0.0/16", (True, True)),
        ("ip4.dst != 10.96.0.10", (False, True)),
        ("inport == @pods", (False, False)),  # senders are compared by it
        ("ip4.mcast", (False, False)),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_an_acl_about_an_address_before_load_balancing_makes_it_unlike(
    match: str, unlike: tuple[bool, bool], *, after: bool
) -> None:
    acl = made.acl(direction="from-lport", match=match, after_lb=after)
    (row,) = numbers(zone("one", acls=(acl,)))
    assert tuple(number == UNLIKE for number in row) == ((False, False) if after else unlike)
