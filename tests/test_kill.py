"""A share of `make kill`: signals at random moments, and every run ends as if none had come."""

import pytest

from tests.kill import kill

pytestmark = pytest.mark.ovn


@pytest.mark.parametrize(
    ("workers", "signals"), [("inline", 6), pytest.param("ray", 3, marks=pytest.mark.ray)]
)
def test_whatever_ends_it_a_run_ends_as_if_never(workers: str, signals: int) -> None:
    killer = kill(signals, workers, seed=7)
    assert killer.sent.total() == signals
    assert not killer.problems
