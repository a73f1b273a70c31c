"""Few packets show all legs of packets behind Services."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.verdict.legs import Part
from audit.verdict.service_packets import MOST_CANDIDATES, PacketChoice, Pair

CELLS = np.arange(100, dtype=np.int64)


def choice(
    *rows: tuple[int, int, int, bool], receiver: int = 7, beside: Sequence[int] = ()
) -> PacketChoice:
    """Return packets by their egress, transit and ingress legs, and whether they pass.

    Those numbered in `beside` are sent to an endpoint on their sender's switch.
    """
    made = PacketChoice()
    egress, transit, ingress, passes = zip(*rows, strict=True)
    unshown = {
        Part.EGRESS: np.array(egress, dtype=np.int64),
        Part.TRANSIT: np.array(transit, dtype=np.int64),
        Part.INGRESS: np.array(ingress, dtype=np.int64),
    }
    cells = CELLS[: len(rows)]
    made.add(cells, (receiver, 0), unshown, np.array(passes, np.bool_), np.isin(cells, beside))
    return made


def test_a_packet_that_passes_shows_all_its_legs() -> None:
    assert choice((0, 0, 0, True), (1, 0, 0, True)).pairs() == [Pair(0, (7, 0)), Pair(1, (7, 0))]
    assert choice((0, 0, 0, True), (0, 0, 0, True)).pairs() == [Pair(0, (7, 0))]
    # Each ingress leg is shown by a packet whose egress leg nobody has shown.
    rows = [(egress, 0, ingress, True) for egress in (0, 1) for ingress in (0, 1)]
    assert len(choice(*rows).pairs()) == 2


def test_of_packets_that_show_as_much_the_one_that_takes_one_trace() -> None:
    rows = [(-1, -1, 0, True)] * 40
    assert choice(*rows, beside=[33]).pairs() == [Pair(33, (7, 0))]
    assert choice((0, 0, 0, True), (-1, -1, 0, True), beside=[1]).pairs()[0] == Pair(0, (7, 0))
    # A packet that its sender's side stops takes one trace wherever it is for.
    assert choice((0, -1, -1, False), (0, -1, -1, False), beside=[1]).pairs() == [Pair(0, (7, 0))]


def test_a_packet_that_is_stopped_shows_its_egress_leg_alone() -> None:
    assert choice((0, 0, 0, False), (1, 0, 0, True)).pairs() == [Pair(1, (7, 0)), Pair(0, (7, 0))]
    assert choice((0, 0, 0, False)).pairs() == [Pair(0, (7, 0))]
    assert choice((-1, 0, 0, False)).pairs() == [], "its egress leg is known, and stops it"


ROWS = st.lists(
    st.tuples(st.integers(-1, 5), st.integers(-1, 3), st.integers(-1, 5), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(ROWS)
def test_every_leg_that_some_packet_shows_is_shown(
    rows: list[tuple[int, int, int, bool]],
) -> None:
    def shown(row: tuple[int, int, int, bool]) -> set[tuple[str, int]]:
        egress, transit, ingress, passes = row
        legs = {("egress", egress)}
        if passes:
            legs |= {("transit", transit), ("ingress", ingress)}
        return {leg for leg in legs if leg[1] >= 0}

    pairs = choice(*rows).pairs()
    assert set().union(*(shown(rows[pair.cell]) for pair in pairs)) == set().union(
        *map(shown, rows)
    )
    assert len(pairs) <= len(set().union(*map(shown, rows)))


def test_packets_to_several_receivers_are_compared_and_few_are_kept() -> None:
    made = PacketChoice()
    for end in range(2 * MOST_CANDIDATES):
        unshown = {
            Part.EGRESS: np.array([end], dtype=np.int64),
            Part.INGRESS: np.array([0], dtype=np.int64),
        }
        made.add(
            CELLS[end : end + 1],
            (end, 0),
            unshown,
            np.ones(1, dtype=np.bool_),
            np.zeros(1, np.bool_),
        )
    assert len(made.pairs()) == 2 * MOST_CANDIDATES, "one for each sender's leg"
