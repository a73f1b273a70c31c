"""Pairs that fare alike are told together, and no pair is lost or told twice."""

from dataclasses import dataclass
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from audit.report.sentences import gathered


@dataclass(frozen=True)
class Pair:
    src: str
    dst: str
    verdict: str


PAIRS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), st.sampled_from(("yes", "no"))
)


@given(PAIRS)
def test_what_is_told_together_is_exactly_what_was_given(
    verdicts: dict[tuple[str, str], str],
) -> None:
    pairs = [Pair(*ends, verdict) for ends, verdict in verdicts.items()]
    told = gathered(pairs, lambda pair: pair.verdict)
    claimed = [
        (*ends, group[0].verdict) for srcs, dsts, group in told for ends in product(srcs, dsts)
    ]
    assert sorted(claimed) == sorted((pair.src, pair.dst, pair.verdict) for pair in pairs)
    assert sorted(p.src + p.dst for _, _, group in told for p in group) == sorted(
        pair.src + pair.dst for pair in pairs
    )


def test_a_full_square_is_one_line() -> None:
    pairs = [Pair(src, dst, "yes") for src in "ab" for dst in "xy"]
    [(srcs, dsts, group)] = gathered(pairs, lambda pair: pair.verdict)
    assert (srcs, dsts, len(group)) == (("a", "b"), ("x", "y"), 4)
