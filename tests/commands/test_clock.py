"""A clock that is set while a run goes on: the run says so, and only then."""

import datetime as dt

import pytest

from audit.commands.resume import clock_notes

BEGUN = dt.datetime(2026, 11, 29, 2, 0, tzinfo=dt.UTC)


def notes(*, after_s: float, seconds: float, earlier_s: float = 0.0) -> list[str]:
    """Return the notes of a sitting that ends `after_s` later by the clock."""
    started = BEGUN - dt.timedelta(seconds=earlier_s)
    finished = BEGUN + dt.timedelta(seconds=after_s)
    return [note.text for note in clock_notes(started, BEGUN, finished, seconds)]


@pytest.mark.parametrize(
    ("after_s", "seconds", "words"),
    [
        (-3600, 10, "moved back by 3610 s"),
        (3610, 10, "moved forward by 3600 s"),
        (-86400, 10, "moved back by 86410 s"),
        # The monotonic clock went back with it: libfaketime does so, and machines restored.
        (-86400, -86400, "is behind the moment at which the run began"),
    ],
)
def test_a_clock_that_was_set_is_told(after_s: float, seconds: float, words: str) -> None:
    [text] = notes(after_s=after_s, seconds=seconds)
    assert words in text


@pytest.mark.parametrize("off_s", [-50.0, -1.0, 0.0, 1.0, 50.0])
def test_a_clock_that_is_kept_is_not(off_s: float) -> None:
    assert not notes(after_s=600 + off_s, seconds=600)


def test_a_clock_set_back_between_two_sittings_is_told() -> None:
    [text] = notes(after_s=60, seconds=60, earlier_s=-3600)
    assert "is behind the moment at which the run began" in text
    assert not notes(after_s=60, seconds=60, earlier_s=3600)
