"""Counts add up and percentages do not flatter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.model.tally import NO_SHARE, Tally, percent
from audit.model.verdicts import UNPROVEN, VERDICTS, Verdict

tallies = st.builds(
    lambda counts: Tally(counts=tuple(counts)),
    st.lists(st.integers(0, 10**9), min_size=len(VERDICTS), max_size=len(VERDICTS)),
)


@given(tallies, tallies, tallies)
def test_tallies_are_a_commutative_monoid(a: Tally, b: Tally, c: Tally) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Tally() == a


@given(tallies)
def test_proven_and_unproven_are_all_cells(tally: Tally) -> None:
    assert tally.passes + tally.stopped == tally.proven
    assert tally.proven + tally.unproven == tally.cells


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 7, "0"),
        (7, 7, "100"),
        (1, 2, "50.0"),
        (999, 1000, "99.9"),
        (9994, 10_000, "99.9"),
        (99_999, 100_000, ">99.9"),
        (1, 1_000_000, "<0.1"),
        (1, 1000, "0.1"),
        (0, 0, NO_SHARE),
    ],
)
def test_percentages(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_only_none_is_0_and_only_all_is_100(whole: int, part: int) -> None:
    text = percent(min(part, whole), whole)
    assert (text == "0") == (min(part, whole) == 0)
    assert (text == "100") == (min(part, whole) == whole)
    assert text not in ("0.0", "100.0")


@given(tallies)
def test_the_unproven_have_no_share_and_are_in_no_denominator(tally: Tally) -> None:
    assert all(tally.share(verdict) == "" for verdict in UNPROVEN)
    more = Tally(counts=(*tally.counts[:4], 10**6, 10**6))
    assert more.share(Verdict.BLOCKED) == tally.share(Verdict.BLOCKED)


def test_a_tally_has_one_count_per_verdict() -> None:
    with pytest.raises(ValueError, match="2 counts for 6 verdicts"):
        Tally(counts=(1, 2))
