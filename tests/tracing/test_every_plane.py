"""What is said of the workers of all planes."""

import pytest

from audit.model.options import Workers
from audit.scope.scope import Scope
from audit.tracing.every_plane import WORTH_RAY, in_processes, retraced
from audit.tracing.options import Options


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


@pytest.mark.parametrize(
    ("workers", "count", "requests", "expected"),
    [
        (None, 2, WORTH_RAY, True),
        (None, 2, WORTH_RAY - 1, False),
        (None, 1, WORTH_RAY, False),
        (Workers.RAY, 1, 1, True),
        (Workers.INLINE, 64, 10 * WORTH_RAY, False),
    ],
)
def test_large_runs_are_traced_by_several_processes(
    workers: Workers | None, count: int, requests: int, *, expected: bool
) -> None:
    options = Options(snapshot=None, scope=Scope(), workers=workers, worker_count=count)
    assert in_processes(options, requests=requests) is expected
