"""A run that is killed, again and again, and gone on with: it ends as if nothing had happened."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from audit.store.lock import exclusively
from tests.end_to_end.conftest import Audit, run_of
from tests.end_to_end.test_failures import no_runs, one_sentence

pytestmark = pytest.mark.ovn

SCOPE = ("--planes", "logical", "--cover", "exhaustive", "-p", "tcp/80")
KILLS = 20


def cells(run: Path) -> dict[str, str]:
    """Return the hash of every file of cells: the same cells are the same bytes."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(run.glob("cells/*.parquet"))
    }


def traced(run: Path) -> list[str]:
    return sorted(
        key
        for file in run.glob("traces/*.parquet")
        for key in pq.read_table(file, columns=["trace_id"])["trace_id"].to_pylist()
    )


def batches(run: Path) -> dict[str, tuple[int, int]]:
    """Return what says that a file was not written again: its inode and when it was."""
    return {
        file.name: (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in run.glob("traces/*.parquet")
    }


@pytest.fixture(scope="module")
def whole(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return run_of(audit_command, tmp_path_factory.mktemp("whole"), example_snapshot, *SCOPE)


class Killed:
    """Starts the command and kills it: some time after it says that it traces, or at any time."""

    def __init__(self, audit: Audit, seed: int) -> None:
        self._audit = audit
        self._random = random.Random(seed)  # noqa: S311 - moments, no secrets
        self.later = 1.0
        """How much later than drawn: a busy machine has traced nothing by then."""

    def __call__(self, *arguments: str) -> int:
        """Return the exit code; -9 when it was killed before it ended by itself."""
        process = subprocess.Popen(
            [*self._audit.command, *arguments],
            cwd=self._audit.directory,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert process.stderr is not None
        if self._random.random() < 0.8:
            for line in process.stderr:
                if line.startswith("tracing"):
                    break
            time.sleep(1.5 * self._random.random() * self.later)
        else:
            time.sleep(2 * self._random.random() * self.later)
        process.kill()
        process.communicate(timeout=60)
        return process.returncode


def test_killed_at_twenty_random_moments_a_run_ends_as_if_never(
    audit: Audit, example_snapshot: Path, whole: Path
) -> None:
    kill = Killed(audit, seed=20)
    root = audit.directory / "runs"
    run, grew = None, 0
    # More kills than twenty while none of them, or the last, was of use: a busy machine is slow.
    for number in range(3 * KILLS):
        if number >= KILLS and grew and run is not None:
            break
        kill.later = 1.0 if grew or number < KILLS // 2 else kill.later * 1.2
        if run is None:
            kill("run", "--snapshot", str(example_snapshot), "--out", "runs", *SCOPE)
            run = next((file.parent.parent for file in root.glob("*/traces/*.parquet")), None)
            continue
        before = batches(run)
        kill("run", "--resume", str(run))
        # What was there is there as it was: a batch that is traced again would be written again.
        assert before.items() <= batches(run).items()
        grew += len(batches(run)) > len(before)
        if (run / "run.json").exists():  # killed too late: another one, from its beginning
            assert_as_if_never(run, whole)
            shutil.rmtree(root)
            run = None
    assert grew  # kills that came too early to trace anything would show nothing
    assert run is not None
    before = batches(run)
    done = audit("run", "--resume", run, "-o", "json")
    assert done.code == 0, done.err
    assert before.items() <= batches(run).items()
    assert done.json["resumed"]["traces_kept"] > 0
    assert_as_if_never(run, whole)


def assert_as_if_never(run: Path, whole: Path) -> None:
    assert cells(run) == cells(whole)
    assert traced(run) == traced(whole)  # sorted lists: a trace in two files would be seen


def test_what_is_not_the_same_is_not_gone_on_with(audit: Audit, whole: Path) -> None:
    run = audit.directory / "runs" / "run"
    shutil.copytree(whole, run)
    done = audit("run", "--resume", run)
    assert done.code == 2
    assert "nothing failed to run" in one_sentence(done)

    (run / "run.json").unlink()
    plan = json.loads((run / "plan.json").read_text())
    kept = batches(run)
    for change, words in (
        ({"audit": "0.0.9"}, "audit 0.0.9 began it"),
        ({"engine": {"name": "ovn-trace", "version": "24.03.1"}}, "OVN 24.03.1 traced it"),
        ({"inputs": [{**plan["inputs"][0], "sha256": "0" * 64}, *plan["inputs"][1:]]}, "changed"),
    ):
        (run / "plan.json").write_text(json.dumps(plan | change))
        done = audit("run", "--resume", run)
        assert done.code == 2
        assert words in one_sentence(done)
        assert batches(run) == kept
    done = audit("run", "--resume", run, "--port", "tcp/81")
    assert done.code == 2
    assert "--port" in one_sentence(done)


def test_a_run_out_of_time_ends_in_order_and_is_completed_beside_itself(
    audit: Audit, example_snapshot: Path, whole: Path
) -> None:
    command = ("run", "--snapshot", example_snapshot, "--out", "runs", "-o", "json", *SCOPE)
    cut = audit(*command, "--time-limit", "1")
    for seconds in ("2s", "3.5s", "6s", "0m10s"):  # how far it comes is the machine's to say
        if cut.code != 3 or cut.json["counts"]["traces"]:
            break
        cut = audit(*command, "--time-limit", seconds)
    assert cut.code == 3, cut.err
    first = audit.directory / cut.json["path"]
    assert cut.json["counts"]["traces"] == len(traced(first)) < len(traced(whole))
    assert [note for note in cut.json["notes"] if note["code"] == "time-limit"]
    left = audit(
        *("query", first, "-o", "json"),
        "SELECT verdict, count(*) AS cells FROM cells WHERE reason = 'interrupted' GROUP BY ALL",
    ).json
    assert [row["verdict"] for row in left] == ["untraced"]
    before = batches(first), (first / "run.json").read_bytes()

    done = audit("run", "--resume", first, "-o", "json")
    assert done.code == 0, done.err
    second = audit.directory / done.json["path"]
    assert second != first
    assert done.json["resumed"] == {"run": first.name, "traces_kept": len(traced(first))}
    assert (batches(first), (first / "run.json").read_bytes()) == before
    assert before[0].items() <= batches(second).items()  # the very files, by another name
    assert_as_if_never(second, whole)


def engines_of(process: int) -> list[int]:
    """Return the head and the node manager of the Ray that a process has started."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            parent = (one / "stat").read_text().rpartition(")")[2].split()[1]
            program = (one / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue  # it has just ended
        if parent == str(process) and program.endswith((b"/gcs_server", b"/raylet")):
            found.append(int(one.name))
    return found


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the process that does the work of a command that is supervised."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(children.split()[0])  # orphans of the run's come to it after that


def test_a_run_that_the_kernel_kills_is_told_in_a_sentence_and_gone_on_with(
    audit: Audit, example_snapshot: Path, whole: Path
) -> None:
    command = ("run", "--snapshot", str(example_snapshot), "--out", "runs", *SCOPE)
    with subprocess.Popen(
        [*audit.command, *command],
        cwd=audit.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        while process.poll() is None and not list(audit.directory.glob("runs/*/traces/*.parquet")):
            time.sleep(0.05)
        os.kill(child_of(process), signal.SIGKILL)  # as where a cgroup's memory is used up
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 4, err
    [run] = (audit.directory / "runs").iterdir()
    sentence = err.splitlines()[-1]
    killed = "audit: the command was killed, as the kernel does when memory is short"
    assert sentence.startswith(killed)
    assert sentence.endswith(f"go on with `audit run --resume runs/{run.name}`")
    done = audit("run", "--resume", run, "-o", "json")
    assert done.code == 0, done.err
    assert done.json["resumed"]["traces_kept"] > 0
    assert_as_if_never(run, whole)


@pytest.mark.ray
def test_a_ray_head_that_is_killed_is_told_in_a_sentence_and_gone_on_without(
    audit: Audit, example_snapshot: Path, whole: Path
) -> None:
    command = ("run", "--snapshot", str(example_snapshot), "--out", "runs", *SCOPE)
    process = subprocess.Popen(
        [*audit.command, *command, "--workers", "ray", "--worker-count", "1"],
        cwd=audit.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        while process.poll() is None and not list(audit.directory.glob("runs/*/traces/*.parquet")):
            time.sleep(0.05)
        engines = engines_of(child_of(process))
        assert len(engines) == 2
        for engine in engines:
            os.kill(engine, signal.SIGKILL)
        err = process.communicate(timeout=50)[1]  # Ray itself would end it after 60 s, unheard
    finally:
        process.kill()
    assert process.returncode == 4, err
    [run] = (audit.directory / "runs").iterdir()
    sentence = err.splitlines()[-1]
    assert sentence.startswith("audit: Ray's head was lost")
    assert sentence.endswith(f"--resume runs/{run.name}`")
    before = batches(run)
    done = audit("run", "--resume", run, "--workers", "inline", "-o", "json")
    assert done.code == 0, done.err
    assert done.json["resumed"]["traces_kept"] > 0
    assert before.items() <= batches(run).items()
    assert_as_if_never(run, whole)


def test_killed_while_it_asks_the_datapath_a_run_goes_on_with_both_planes(
    audit: Audit, example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = (*SCOPE, "--planes", "logical,datapath", "-n", "default", "-n", "shop", "-n", "prod")
    root = tmp_path_factory.mktemp("planes")
    undisturbed = run_of(audit.command, root, example_snapshot, *asked)
    process = subprocess.Popen(
        [*audit.command, "run", "--snapshot", str(example_snapshot), "--out", "runs", *asked],
        cwd=audit.directory,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and "datapath" not in planes_in(audit.directory):
        time.sleep(0.02)
    process.kill()
    process.wait(timeout=60)
    [run] = (audit.directory / "runs").iterdir()
    assert not (run / "run.json").exists()  # killed too late, else
    kept, before = traced(run), batches(run)
    assert planes_in(audit.directory) == {"logical", "datapath"}
    assert len(kept) < len(traced(undisturbed))
    done = audit("run", "--resume", run, "-o", "json")
    assert done.code == 0, done.err
    assert done.json["resumed"]["traces_kept"] == len(kept)
    assert before.items() <= batches(run).items()
    assert_as_if_never(run, undisturbed)


def planes_in(directory: Path) -> set[str]:
    """Return the planes that the traces on disk are of."""
    return {
        plane
        for file in directory.glob("runs/*/traces/*.parquet")
        for plane in pq.read_table(file, columns=["plane"])["plane"].unique().to_pylist()
    }


def test_two_runs_at_once_below_one_directory_are_refused(
    audit: Audit, example_snapshot: Path
) -> None:
    (audit.directory / "runs").mkdir()
    with exclusively(audit.directory / "runs"):
        done = audit("run", "--snapshot", example_snapshot, "--out", "runs")
    assert done.code == 4
    assert "another audit is writing" in one_sentence(done)
    assert no_runs(audit.directory / "runs")
