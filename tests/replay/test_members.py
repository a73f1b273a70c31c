"""Address sets lose only addresses that nothing can ask for."""

import json

import msgspec
import pytest

from audit.replay import members


@pytest.mark.parametrize(
    ("match", "actions"),
    [
        ("ip4.src == $a && tcp", "next;"),
        ("(ip4.src == {$a, $b} || ip6.src == {$a6}) && outport == @p", "next;"),
        ("ip4.dst != $a", "next;"),
        ("ip4.dst=={$a}", "next;"),
        ("ip4.src == {10.0.0.1, $a, 10.1.0.0/16}", "next;"),
    ],
)
def test_sets_that_are_asked_for_packets_addresses(match: str, actions: str) -> None:
    assert members.otherwise_asked([("ip4.src == $a", ""), (match, actions)]) == frozenset()


@pytest.mark.parametrize(
    ("match", "actions"),
    [
        ("ip4.src/24 == $a", "next;"),
        ("eth.src == $a", "next;"),
        ("icmp4.inner_ip4.src == $a", "next;"),
        ("$a == ip4.src", "next;"),
        ("ip4.src > $a", "next;"),
        ("reg1 == $a", "next;"),
        ("1", "reg0 = lookup($a);"),
    ],
)
def test_sets_that_are_asked_otherwise(match: str, actions: str) -> None:
    assert members.otherwise_asked([("ip4.src == $a", ""), (match, actions)]) == {"a"}


def test_addresses_that_actions_write() -> None:
    actions = [
        "ip.ttl--; reg0 = 100.64.0.2; reg1 = 100.64.0.1; next;",
        "ct_lb_mark(backends=10.0.0.1:80,10.0.0.2:80); xxreg0 = fd98::2;",
        "ct_snat(172.18.0.2);",
    ]
    assert {"100.64.0.2", "100.64.0.1", "fd98::2", "172.18.0.2"} <= members.mentioned(actions)
    assert "10.0.0.1" not in members.mentioned(actions)


def test_addresses_as_they_are_printed() -> None:
    values = ["10.0.0.1", "10.0.0.0/8", "fd00::1", "fd00:0::2", "::ffff:1.2.3.4", "::1", "00:00:01"]
    assert members.plain(values) == {"10.0.0.1", "fd00::1"}


@pytest.mark.parametrize(
    ("addresses", "left"),
    [
        (["set", ["10.0.0.1", "10.0.0.2", "10.1.0.0/16"]], ["10.0.0.1", "10.1.0.0/16"]),
        (["set", ["10.0.0.2", "10.0.0.3"]], ["10.0.0.3"]),
        (["set", ["10.0.0.1", "10.0.0.3", "fd00::3"]], ["10.0.0.1", "10.0.0.3", "fd00::3"]),
        ("10.0.0.2", ["10.0.0.2"]),
        (["set", []], []),
    ],
)
def test_one_address_of_each_family_stays(addresses: object, left: list[str]) -> None:
    row = msgspec.Raw(json.dumps({"name": "a", "addresses": addresses}).encode())
    after = json.loads(bytes(members.without(row, {"10.0.0.2", "10.0.0.3"})))
    assert after["name"] == "a"
    assert members.addresses(after) == left
