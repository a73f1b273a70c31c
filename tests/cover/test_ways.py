"""Which addresses of nodes share a way, and that pods' never do."""

from dataclasses import replace

import numpy as np
import pytest

from audit.cover.ways import Crossing, TransitClasses, packets, ways
from audit.model.legs import Packets
from audit.model.packets import Family
from tests.verdict import made

NODES = [made.pod(f"host-{i}", f"172.18.0.{i}", host_network=True) for i in (2, 3, 4)]
PODS = [made.pod("a", "10.128.0.5"), made.pod("b", "10.128.2.6")]
PLACES = TransitClasses(
    sending=np.array([0, 0, 0, 0, 1], dtype=np.int64),
    receiving=np.array([2, 3, 4, 0, 1], dtype=np.int64),
    answered=np.array([0, 0, 0, 0, 1], dtype=np.int64),
)


def found(marks: tuple[int, int, int] = (0, 0, 0)) -> list[list[int]]:
    """Return the ways where zones' flows say this of the three nodes' addresses."""
    by_zone = {"worker": dict(enumerate(marks))}
    alone = Crossing(network=[""] * 5, joined={}, addresses={}, exact={})
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


def between_networks(
    joined: frozenset[str], *addresses: int, segments: tuple[str, ...] = ()
) -> tuple[list[int], list[bool]]:
    """Return the ways of a pod of the default network to pods of another, and which are unjoined.

    `addresses` number what the default network's flows say of theirs; `segments` are those of the
    sender's and their ports.
    """
    count = len(addresses)
    ends = [PODS[0], *(made.pod(f"blue-{i}", f"10.50.0.{i}") for i in range(count))]
    for index, segment in enumerate(segments):
        attached = ends[index].attachment
        assert attached is not None
        ends[index] = replace(ends[index], attachment=replace(attached, segment=segment))
    crossing = Crossing(
        network=["", *["blue"] * count],
        joined={("worker", made.SWITCH): joined},
        addresses={"": np.array([0, *addresses], dtype=np.int64)},
        exact={},
    )
    numbers = np.arange(len(ends), dtype=np.int64)
    made_ways = ways(
        ends, TransitClasses(sending=numbers, receiving=numbers, answered=numbers), {}, crossing
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


def test_a_pod_on_the_senders_segment_has_a_way_of_its_own_whatever_its_network() -> None:
    segments = ("layer2", "layer2", "other", "")
    (here, there, nowhere), unjoined = between_networks(frozenset({""}), 7, 7, 7, segments=segments)
    assert unjoined == [False, True, True], "it is sent to by its MAC, the others by the router's"
    assert here != there == nowhere


HTTP = 0, 1
"""Two ports, by index."""


def same_packets(*named: int) -> Packets | None:
    """Return the packets of two pods of `blue` to three others, of which flows name some.

    The first two of these have the first address, the last one has another.
    """
    ends = [
        made.pod("blue-1", "10.50.0.3"),
        made.pod("blue-2", "10.50.0.4"),
        made.pod("red-1", "10.50.0.3"),
        made.pod("green-1", "10.50.0.3"),
        made.pod("green-2", "10.50.0.4"),
    ]
    crossing = Crossing(
        network=["blue", "blue", "red", "green", "green"],
        joined={},
        addresses={},
        exact={"blue": frozenset(named), "red": frozenset(), "green": frozenset()},
    )
    return packets(ends, crossing, Family.IP4, len(HTTP))


def numbers_of(given: Packets, src: int, port: int = 0) -> list[int]:
    """Return the packets of a pod to the three others."""
    to = np.array([2, 3, 4])
    listed: list[int] = given.ids(np.full(3, src), to, np.full(3, port)).tolist()
    return listed


def test_a_packet_to_an_address_of_the_senders_network_is_the_same_whomever_it_is_for() -> None:
    given = same_packets(2, 3, 4)
    assert given is not None
    red, green, other = numbers_of(given, 0)
    assert red == green != other


def test_packets_of_other_senders_and_to_other_ports_are_others() -> None:
    given = same_packets(2, 3, 4)
    assert given is not None
    every = [set(numbers_of(given, src, port)) for src in (0, 1) for port in HTTP]
    assert len(set.union(*every)) == sum(map(len, every)) == given.count


def test_an_address_that_no_flow_of_the_senders_network_names_is_of_no_such_packet() -> None:
    given = same_packets(2)
    assert given is not None
    assert numbers_of(given, 0)[1:] == [-1, -1]
    assert same_packets() is None


def test_more_packets_than_are_traced_are_not_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.cover.ways.MOST_PACKETS", 7)
    assert same_packets(2, 3, 4) is None
