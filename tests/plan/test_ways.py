"""Which addresses of nodes share a way, and that pods' never do."""

from dataclasses import replace

import numpy as np

from audit.model.packets import Family
from audit.plan.ways import Places, ways
from tests.verdict import made

NODES = [made.pod(f"host-{i}", f"172.18.0.{i}", host_network=True) for i in (2, 3, 4)]
PODS = [made.pod("a", "10.128.0.5"), made.pod("b", "10.128.2.6")]
PLACES = Places(
    sending=np.array([0, 0, 0, 0, 1], dtype=np.int64),
    receiving=np.array([2, 3, 4, 0, 1], dtype=np.int64),
    answered=np.array([0, 0, 0, 0, 1], dtype=np.int64),
)


def found(*routed: str) -> list[list[int]]:
    zone = replace(made.zone(), routed=frozenset(routed))
    zones = {endpoint.attachment.zone: zone for endpoint in PODS if endpoint.attachment}
    numbers: list[list[int]] = ways([*NODES, *PODS], zones, Family.IP4, PLACES).tolist()
    return numbers


def alike(*routed: str) -> list[bool]:
    """Say for each two of the three nodes whether the first sender has one way to both."""
    row = found(*routed)[0]
    return [row[2] == row[3], row[2] == row[4], row[3] == row[4]]


def test_addresses_that_nothing_names_share_a_way() -> None:
    assert alike() == [True, True, True]
    assert alike("172.18.0.0/16", "fd00::/64", "10.128.0.0/14") == [True, True, True]


def test_an_address_that_something_names_has_a_way_of_its_own() -> None:
    assert alike("172.18.0.3") == [False, True, False]
    assert alike("172.18.0.2/31") == [True, False, False]


def test_pods_switches_and_senders_never_share() -> None:
    (first, second) = found()
    assert first[0] != first[1]
    assert not set(first) & set(second)
