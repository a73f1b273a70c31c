"""Ray, for real: the same outcomes as inline, and a worker that dies takes nothing with it."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from audit import scratch
from audit.errors import OutputError
from audit.fanout.backlog import Backlog
from audit.fanout.base import Traces, Worker
from audit.fanout.inline import InlineFanout
from audit.fanout.ray import RayFanout
from audit.model.packets import ConntrackState, Microflow, Protocol
from audit.model.traces import (
    Hop,
    HopEnd,
    LogicalTrace,
    TraceBatch,
    TraceFailure,
    TraceOutcome,
    TraceTask,
)
from audit.model.verdicts import Reason

pytestmark = [
    pytest.mark.ray,
    # Ray 2.60 opens sockets and files of its own that it leaves to the interpreter to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]

FLOW = Microflow(
    inport="a",
    eth_src="02:00:00:00:00:01",
    eth_dst="02:00:00:00:00:02",
    ip_src="10.0.0.1",
    ip_dst="10.0.0.2",
    protocol=Protocol.TCP,
    src_port=1,
    dst_port=2,
)


def tasks(zones: int, batches: int) -> list[TraceTask]:
    """Return what is cut into so many batches of three for each zone."""
    return [
        TraceTask(
            key=f"{zone}.{number}.{task}",
            zone=f"zone-{zone}",
            state=ConntrackState.REQUEST,
            microflow=FLOW,
            target="",
        )
        for zone in range(zones)
        for number in range(batches)
        for task in range(3)
    ]


class _Echo:
    """Answers every task with its own key; dies on a batch as often as a file says."""

    def __init__(self, deaths: Path) -> None:
        self._deaths = deaths

    def run(self, batch: TraceBatch) -> Traces:
        if (self._deaths / "full").exists():
            raise OutputError("cannot write /scratch: No space left on device")
        order = self._deaths / batch.tasks[0].key
        if order.exists():
            left = int(order.read_text()) - 1
            order.write_text(str(left)) if left else order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        for task in batch.tasks:
            yield LogicalTrace(key=task.key, hop=Hop(end=HopEnd.OUTPUT), output=task.zone)


@contextmanager
def echo(deaths: Path) -> Iterator[Worker]:
    yield _Echo(deaths)


def worker(deaths: Path) -> AbstractContextManager[Worker]:
    return echo(deaths)


def outcomes(fanout: InlineFanout | RayFanout, work: list[TraceTask]) -> dict[str, TraceOutcome]:
    found: dict[str, TraceOutcome] = {}
    for batch, results in fanout.run(Backlog(work, size=3)):
        for task, result in zip(batch.tasks, results, strict=True):
            assert task.key == result.key
            assert task.key not in found
            found[task.key] = result
    return found


def listened() -> set[str]:
    """Return the addresses, as the kernel writes them, at which this Ray and its driver listen."""
    mark = f"{scratch.VARIABLE}={os.environ[scratch.VARIABLE]}".encode()
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = int(process.name) == os.getpid() or mark in (process / "environ").read_bytes()
            files = [str(file.readlink()) for file in (process / "fd").iterdir()] if ours else []
        except OSError:
            continue  # it has just ended
        sockets |= {file[8:-1] for file in files if file.startswith("socket:[")}
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets}


def test_ray_answers_as_inline_does_and_survives_its_workers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One Ray for all of it: starting one takes longer than everything else here."""
    work = tasks(zones=3, batches=4)
    make = partial(worker, tmp_path)
    with InlineFanout(make) as inline:
        expected = outcomes(inline, work)
    handler = signal.getsignal(signal.SIGTERM)
    with RayFanout(make, workers=2) as ray:
        assert signal.getsignal(signal.SIGTERM) is handler, "Ray's would end the process with 1"
        assert outcomes(ray, work) == expected
        loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
        assert listened()
        assert listened() <= loopback
        first = set(ray.pids())
        assert len(first) == 2
        assert outcomes(ray, work) == expected
        assert set(ray.pids()) == first, "actors are kept between calls"

        (tmp_path / "1.2.0").write_text("1")
        assert outcomes(ray, work) == expected, "a batch that kills once is run again"
        died = ray.retraced
        assert died in (1, 2), "with the batch that waited for the same worker"

        (tmp_path / "1.2.0").write_text("2")
        found = outcomes(ray, work)
        lost = {key for key, outcome in found.items() if isinstance(outcome, TraceFailure)}
        assert lost == {"1.2.0", "1.2.1", "1.2.2"}
        assert {o.reason for o in found.values() if isinstance(o, TraceFailure)} == {
            Reason.WORKER_LOST
        }
        assert {k: o for k, o in found.items() if k not in lost} == {
            k: o for k, o in expected.items() if k not in lost
        }

        (tmp_path / "full").touch()
        with pytest.raises(OutputError, match=r"^cannot write /scratch: No space left on device$"):
            outcomes(ray, work)
    import ray as runtime  # noqa: PLC0415 - only to ask whether it is down

    assert not runtime.is_initialized()
    assert capfd.readouterr() == ("", ""), "Ray has words of its own for each worker that died"
