"""A share of `make kill`: signals at random moments, and every run ends as if none had come."""

import pytest

from tests.kill import kill


@pytest.mark.ovn
def test_whatever_ends_it_a_run_ends_as_if_never() -> None:
    killer = kill(3, "inline", seed=7)
    assert killer.sent.total() == 3
    assert not killer.problems
