"""Which addresses of nodes share a way, and that pods' never do."""

import numpy as np

from audit.cover.ways import Crossing, Places, ways
from tests.verdict import made

NODES = [made.pod(f"host-{i}", f"172.18.0.{i}", host_network=True) for i in (2, 3, 4)]
PODS = [made.pod("a", "10.128.0.5"), made.pod("b", "10.128.2.6")]
PLACES = Places(
    sending=np.array([0, 0, 0, 0, 1], dtype=np.int64),
    receiving=np.array([2, 3, 4, 0, 1], dtype=np.int64),
    answered=np.array([0, 0, 0, 0, 1], dtype=np.int64),
)


def found(marks: tuple[int, int, int] = (0, 0, 0)) -> list[list[int]]:
    """Return the ways where zones' flows say this of the three nodes' addresses."""
    by_zone = {"worker": dict(enumerate(marks))}
    alone = Crossing(network=[""] * 5, joined={}, addresses={})
    numbers: list[list[int]] = ways([*NODES, *PODS], PLACES, by_zone, alone).legs.tolist()
    return numbers


def alike(*marks: int) -> list[bool]:
    """Say for each two of the three nodes whether the first sender has one way to both."""
    first, second, third = marks
    row = found((first, second, third))[0]
    return [row[2] == row[3], row[2] == row[4], row[3] == row[4]]


def test_addresses_of_which_flows_say_the_same_share_a_way() -> None:
    assert alike(7, 7, 7) == [True, True, True]


def test_an_address_of_which_flows_say_something_else_has_a_way_of_its_own() -> None:
    assert alike(7, 8, 7) == [False, True, False]
    assert alike(7, 7, 8) == [True, False, False]


def test_pods_switches_and_senders_never_share() -> None:
    (first, second) = found()
    assert first[0] != first[1]
    assert not set(first) & set(second)


def between_networks(joined: frozenset[str], *addresses: int) -> tuple[list[int], list[bool]]:
    """Return the ways of a pod of the default network to pods of another, and which are unjoined.

    `addresses` number what the default network's flows say of theirs.
    """
    count = len(addresses)
    ends = [PODS[0], *(made.pod(f"blue-{i}", f"10.50.0.{i}") for i in range(count))]
    crossing = Crossing(
        network=["", *["blue"] * count],
        joined={("worker", made.SWITCH): joined},
        addresses={"": np.array([0, *addresses], dtype=np.int64)},
    )
    numbers = np.arange(len(ends), dtype=np.int64)
    made_ways = ways(
        ends, Places(sending=numbers, receiving=numbers, answered=numbers), {}, crossing
    )
    return made_ways.legs[0, 1:].tolist(), made_ways.unjoined[0, 1:].tolist()


def test_pods_of_a_network_that_no_port_leads_to_share_a_way_where_flows_say_the_same() -> None:
    (first, second, third), unjoined = between_networks(frozenset({""}), 7, 7, 8)
    assert first == second != third
    assert unjoined == [True, True, True]


def test_pods_of_a_network_that_ports_lead_to_have_ways_of_their_own() -> None:
    numbers, unjoined = between_networks(frozenset({"", "blue"}), 7, 7, 8)
    assert len(set(numbers)) == 3
    assert unjoined == [False, False, False]
