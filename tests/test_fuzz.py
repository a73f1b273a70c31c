"""A few hundred damaged inputs of every reader; `make fuzz` tries a million."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import READERS


@pytest.mark.parametrize("name", READERS)
def test_a_reader_answers_or_raises_its_own_error(name: str) -> None:
    reader = READERS[name]
    seeds = reader.seeds()
    assert {reader.attempt(seed) for seed in seeds[:20]} == {"read"}
    seen = set[str]()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(st.integers(0, len(seeds) - 1), st.randoms(use_true_random=False))
    def attempt(number: int, rng: random.Random) -> None:
        seen.add(reader.attempt(reader.mutate(seeds[number], rng)))

    attempt()
    assert seen == {"read", "refused"}  # else nothing was damaged, or nothing was left
