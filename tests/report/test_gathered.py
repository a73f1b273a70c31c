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
    cells: int = 1


PAIRS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("bcdx")), st.sampled_from(("yes", "no"))
)


def says_each_other(text: str) -> bool:
    return text.endswith(("among each other", "(none to itself)"))


@given(PAIRS)
def test_what_is_told_together_is_exactly_what_was_given(
    verdicts: dict[tuple[str, str], str],
) -> None:
    pairs = [Pair(*ends, verdict) for ends, verdict in verdicts.items()]
    told = gathered(pairs, lambda pair: pair.verdict)
    claimed = [
        (*ends, row.path.verdict)
        for row in told
        for ends in product(row.srcs, row.dsts)
        if ends[0] != ends[1] or not says_each_other(row.ends)
    ]
    assert sorted(claimed) == sorted((pair.src, pair.dst, pair.verdict) for pair in pairs)
    assert sorted(p.src + p.dst for row in told for p in row.paths) == sorted(
        pair.src + pair.dst for pair in pairs
    )


def test_a_full_square_is_one_line() -> None:
    pairs = [Pair(src, dst, "yes") for src in "ab" for dst in "xy"]
    [row] = gathered(pairs, lambda pair: pair.verdict)
    assert (row.srcs, row.dsts, len(row.paths)) == (("a", "b"), ("x", "y"), 4)


def test_a_set_among_each_other_is_one_line() -> None:
    pairs = [Pair(src, dst, "yes") for src in "abc" for dst in "abc" if src != dst]
    [row] = gathered(pairs, lambda pair: pair.verdict)
    assert row.ends == "a, b, c among each other"
    pairs += [Pair("x", dst, "yes") for dst in "abc"]
    [row] = gathered(pairs, lambda pair: pair.verdict)
    assert row.ends == "a, b, c, x to a, b, c (none to itself)"
    pairs += [Pair(dst, dst, "yes") for dst in "abc"]
    [row] = gathered(pairs, lambda pair: pair.verdict)
    assert row.ends == "a, b, c, x to a, b, c"
