"""What is said of the workers of all planes."""

import pytest

from audit.tracing.every_plane import retraced


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 batch of traces was traced again by another worker, as the one that had it died"),
        (1200, "1,200 batches of traces were traced again by other workers, as those that had"),
    ],
)
def test_workers_that_died_are_a_sentence(count: int, words: str) -> None:
    [note] = retraced(count)
    assert note.code == "worker-died"
    assert note.text.startswith(words)


def test_nothing_is_said_where_none_died() -> None:
    assert not list(retraced(0))
