"""What is kept of a southbound's logical flows: all that packets between endpoints can meet."""

from collections.abc import Mapping

import pytest

from audit.facts.flows import ServiceSieve
from audit.model.facts import LoadBalancer
from audit.model.packets import Protocol

BALANCER = LoadBalancer(
    owner="svc",
    protocol=Protocol.TCP,
    vips=(("10.96.0.10", 80, ("10.128.0.5:8080",)), ("172.18.0.2", 30080, ())),
    template=False,
)
NODE = "172.18.0.2"
GROUP = "0e7f6d2a-95f5-4a0e-8f0f-0d6f6ad4a1b1"
MATCH = "ct.new && ip4.dst == 10.96.0.10 && tcp.dst == 80"


def row(match: str = MATCH, *, of: str = GROUP, **fields: str) -> bytes:
    """Return a row's text as ovsdb-server writes it."""
    given: Mapping[str, str] = {
        "priority": "120",
        "stage": "ls_in_lb",
        "actions": "ct_lb_mark(backends=10.128.0.5:8080);",
        "kind": "logical_dp_group",
    } | fields
    return (
        f'{{"priority":{given["priority"]},"external_ids":["map",[["source","northd.c:1"],'
        f'["stage-name","{given["stage"]}"]]],"actions":"{given["actions"]}",'
        f'"match":"{match}","{given["kind"]}":["uuid","{of}"]}}'
    ).encode()


def sieve(*rows: bytes) -> ServiceSieve:
    """Return what a sieve took note of, of rows that no packet between endpoints meets."""
    taken = ServiceSieve([BALANCER], {NODE})
    assert all(map(taken, rows))
    return taken


def digest(*rows: bytes, of: str = GROUP) -> int:
    """Return the digest of the Service's address."""
    return sieve(*rows).digests[of]["10.96.0.10"]


@pytest.mark.parametrize(
    "match",
    [
        f"ct.new && ip4.dst == {NODE} && tcp.dst == 30080",  # a node's own address
        "ip4.dst == 10.128.0.5",
        "ip4.dst == 10.96.0.10 || tcp",
        "!(ip4.dst == 10.96.0.10)",
    ],
)
def test_what_a_packet_between_endpoints_may_meet_is_kept(match: str) -> None:
    assert not ServiceSieve([BALANCER], {NODE})(row(match))


def test_an_acls_flow_is_kept_whatever_it_names() -> None:
    assert not ServiceSieve([BALANCER], {NODE})(row(stage="ls_in_acl_eval"))


def test_the_same_flows_have_the_same_digest_in_any_order_and_zone() -> None:
    other = "5b7c2e1d-1111-4222-8333-444455556666"
    first, second = row(), row(stage="ls_in_lb_aff_check", actions="next;")
    moved = (row(stage="ls_in_lb_aff_check", actions="next;", of=other), row(of=other))
    assert digest(first, second) == digest(*moved, of=other)


@pytest.mark.parametrize(
    "changed",
    [
        {"priority": "121"},
        {"actions": "drop;"},
        {"stage": "ls_in_pre_stateful"},
        {"match": f"{MATCH} && eth.src == 0a:58:0a:80:00:05"},
    ],
)
def test_a_flow_that_says_something_else_has_another_digest(changed: dict[str, str]) -> None:
    assert digest(row()) != digest(row(**changed))


def test_a_flow_that_is_there_twice_has_another_digest() -> None:
    assert digest(row()) != digest(row(), row())


def test_a_routers_flow_is_in_no_digest() -> None:
    assert sieve(row(stage="lr_in_dnat")).digests == {}


def test_the_digest_of_a_single_datapath_is_its_own() -> None:
    assert sieve(row(kind="logical_datapath")).digests == {GROUP: {"10.96.0.10": digest(row())}}
