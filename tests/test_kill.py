"""A share of `make kill`: signals at random moments, and every run ends as if none had come."""

import pytest

from tests.kill import kill

pytestmark = pytest.mark.ovn


# Of Ray `make kill` tries more: a process of its own that is just starting as it is ended makes its
# session directory anew, now and then, and leaves that.
@pytest.mark.parametrize(("workers", "signals"), [("inline", 6)])
def test_whatever_ends_it_a_run_ends_as_if_never(workers: str, signals: int) -> None:
    killer = kill(signals, workers, seed=7)
    assert killer.sent.total() == signals
    assert not killer.problems
