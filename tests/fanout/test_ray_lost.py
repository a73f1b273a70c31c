"""Ray that is gone is noticed, and not waited for for ever. (The real one takes a minute to be.)"""

import math
import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from audit.errors import EngineError
from audit.fanout import ray as fanout_ray
from audit.fanout.ray import RayFanout
from tests.fanout.test_inline import Factory, backlog


class Gone:
    """A Ray in which nothing finishes any more, and that knows so or does not answer."""

    def __init__(self, nodes: list[dict[str, bool]] | Exception) -> None:
        self._nodes = nodes
        self.patience: list[float] = []

    def wait(self, running: list[object], **given: Any) -> tuple[list[object], list[object]]:
        self.patience.append(given["timeout"])
        return [], running

    def nodes(self) -> list[dict[str, bool]]:
        if isinstance(self._nodes, Exception):
            raise self._nodes
        return self._nodes

    def remote(self, **_: object) -> Any:
        return lambda _kind: _Handle()


class _Handle:
    """An actor and its methods."""

    @property
    def run(self) -> "_Handle":
        return self

    def remote(self, *_: object) -> "_Handle":
        return _Handle()


@pytest.mark.parametrize(
    ("nodes", "words"),
    [([{"Alive": False}], "none of its nodes"), (RuntimeError("no answer\nat all"), "no answer")],
    ids=["known", "silent"],
)
def test_a_head_that_is_lost_ends_the_run(nodes: Any, words: str) -> None:
    gone = Gone(nodes)
    fanout = RayFanout(Factory(), workers=1, _ray=gone)
    with pytest.raises(EngineError, match=f"head was lost: .*{words}"):
        next(fanout.run(backlog(2)))
    assert all(0 < patience < math.inf for patience in gone.patience)


class Begun(Exception):  # noqa: N818 - no error: it shows where the signal was handled
    """What a handler raises."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_as_ray_starts_is_handled_by_who_handles_it_else(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    over = threading.Event()

    def init(**_: object) -> None:
        try:
            signal.signal(number, signal.SIG_IGN)  # as Ray takes SIGTERM to itself
        except ValueError:  # which only the main thread may
            os.kill(os.getpid(), number)
        over.wait()

    def handle(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(fanout_ray, "load", lambda: SimpleNamespace(init=init))
    before = signal.signal(number, handle)
    try:
        with pytest.raises(Begun):
            fanout_ray.start()
    finally:
        signal.signal(number, before)
        over.set()


@pytest.mark.parametrize("error", [RuntimeError("no\n room."), SystemExit("no room")])
def test_what_ends_the_start_of_ray_is_raised(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(fanout_ray, "load", lambda: SimpleNamespace(init=init))
    with pytest.raises(EngineError, match=r"^Ray did not start: no room$"):
        fanout_ray.start()
