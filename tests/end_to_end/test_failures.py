"""What goes wrong: one clear sentence each, its exit code, and nothing half-written."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.end_to_end.conftest import Audit, Called

pytestmark = pytest.mark.ovn


@pytest.fixture
def snapshot(example_snapshot: Path, tmp_path: Path) -> Path:
    """Return the example unpacked, to be damaged."""
    target = tmp_path / "snapshot"
    with tarfile.open(example_snapshot) as archive:
        extract(archive, target)
    return target


def one_sentence(called: Called) -> str:
    """Return what the command complained, which is the last line of stderr."""
    line = called.err.strip().splitlines()[-1]
    assert line.startswith("audit: "), called.err
    assert "Traceback" not in called.err
    return line


def no_runs(root: Path) -> bool:
    return not root.exists() or not any(root.iterdir())


def engine_processes(mark: str) -> list[str]:
    """Return the programs of the engine that run below a directory."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text().split("\0")
            environment = (place / "environ").read_text()
        except OSError:
            continue
        if mark in environment and any("ovn-trace" in w or "ovsdb-server" in w for w in words):
            found.append(" ".join(words)[:200])
    return found


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_missing_snapshot(audit: Audit) -> None:
    done = audit("run", "--snapshot", "nowhere", "--out", "runs")
    assert done.code == 4
    assert "nowhere does not exist" in one_sentence(done)
    assert no_runs(audit.directory / "runs")


def test_a_directory_that_is_no_snapshot(audit: Audit) -> None:
    (audit.directory / "empty").mkdir()
    done = audit("run", "--snapshot", "empty", "--out", "runs")
    assert done.code == 4
    assert "not a snapshot" in one_sentence(done)
    assert no_runs(audit.directory / "runs")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--selector", "app in (web"), "--selector"),
        (("--selector", "app=wbe"), "did you mean app=web"),
        (("--namespace", "defalt"), "did you mean default"),
        (("--selector", ""), ""),
        (("--port", "tpc/80"), "tcp"),
        (("--port", "tcp/99999"), "65535"),
        (("--to-ip", "300.1.2.3"), "300.1.2.3"),
        (("--to-ip", "203.0.113.9"), "--port"),
        (("-n", "default", "-A"), "contradict"),
    ],
)
def test_a_scope_that_cannot_be_used(
    audit: Audit, example_snapshot: Path, flags: tuple[str, ...], words: str
) -> None:
    done = audit("plan", "--snapshot", example_snapshot, *flags)
    if not words:  # an empty selector selects everything, as it does for kubectl
        assert done.code == 0
        return
    assert done.code == 2
    assert words in one_sentence(done)


def test_an_unknown_flag_is_a_usage_error(audit: Audit, example_snapshot: Path) -> None:
    assert audit("run", "--snapshot", example_snapshot, "--nonsense").code == 2


def test_a_database_of_a_newer_ovn_is_refused_before_anything_is_traced(
    audit: Audit, snapshot: Path, toolchain: Toolchain
) -> None:
    database = snapshot / "ovn" / "ovn-worker" / "sb.db"
    newer = ["map", [["northd_internal_version", "99.03.0-30.0.0-99.1"]]]
    change = {"op": "update", "table": "SB_Global", "where": [], "row": {"options": newer}}
    subprocess.run(
        toolchain.argv(
            "ovsdb-tool", "transact", str(database), json.dumps(["OVN_Southbound", change])
        ),
        check=True,
        capture_output=True,
    )
    done = audit("run", "--snapshot", snapshot, "--out", "runs")
    assert done.code == 4
    sentence = one_sentence(done)
    assert "99.03" in sentence
    assert "ovn-worker" in sentence
    assert "--ovn-prefix" in sentence or "--install-ovn" in sentence
    assert no_runs(audit.directory / "runs")


def test_a_truncated_zone_costs_its_own_cells_only(audit: Audit, snapshot: Path) -> None:
    os.truncate(snapshot / "ovn" / "ovn-worker" / "sb.db", 50_000)
    done = audit(
        "run",
        "--snapshot",
        snapshot,
        "--out",
        "runs",
        "-o",
        "json",
        "-p",
        "tcp/80",
        "--planes",
        "logical",
    )
    assert done.code == 3
    run = Path(audit.directory / done.json["path"])
    assert any("ovn-worker" in note["text"] for note in done.json["notes"])
    counted = audit(
        "query",
        run,
        "SELECT src_node = 'ovn-worker' OR dst_node = 'ovn-worker' AS there, "
        "count(*) FILTER (WHERE reason = 'zone-missing') AS missing, "
        "count(*) FILTER (WHERE verdict NOT IN ('untraced', 'inconclusive')) AS proven "
        "FROM cells GROUP BY 1 ORDER BY 1",
        *("-o", "json"),
    ).json
    elsewhere, there = counted
    assert elsewhere["missing"] == 0
    assert elsewhere["proven"] > 0
    assert there["missing"] > 0
    assert there["proven"] == 0


def test_all_databases_truncated(audit: Audit, snapshot: Path) -> None:
    for database in snapshot.glob("ovn/*/*.db"):
        os.truncate(database, 50_000)
    done = audit("run", "--snapshot", snapshot, "--out", "runs")
    assert done.code == 4
    assert "truncated" in one_sentence(done)
    assert no_runs(audit.directory / "runs")


def test_an_output_that_cannot_be_written(audit: Audit, example_snapshot: Path) -> None:
    (audit.directory / "file").write_text("in the way")
    done = audit("run", "--snapshot", example_snapshot, "--out", "file/runs")
    assert done.code == 4
    assert "file/runs" in one_sentence(done)


def test_an_ovn_prefix_that_holds_no_ovn(audit: Audit, example_snapshot: Path) -> None:
    (audit.directory / "prefix").mkdir()
    done = audit("run", "--snapshot", example_snapshot, "--ovn-prefix", "prefix")
    assert done.code == 4
    assert "prefix" in one_sentence(done)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_what_it_traced_and_says_how_to_go_on(
    audit: Audit, example_snapshot: Path, sent: signal.Signals
) -> None:
    environment = {**os.environ, "TMPDIR": str(audit.directory / "tmp")}
    (audit.directory / "tmp").mkdir()
    command = [*audit.command, "run", "--snapshot", str(example_snapshot), "--out", "runs"]
    command += ["--cover", "exhaustive"]  # long enough to be caught at it
    process = subprocess.Popen(
        command,
        cwd=audit.directory,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A suite that runs in a shell's background would hand on that SIGINT is ignored.
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - this process has no other thread
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("tracing"):
            break
    for _ in waiting(60):
        if list((audit.directory / "runs").glob("*/traces/*.parquet")):
            break
    process.send_signal(sent)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    [unfinished] = (audit.directory / "runs").iterdir()
    assert "interrupted" in error
    assert f"--resume runs/{unfinished.name}" in error
    assert sorted(place.name for place in unfinished.iterdir() if place.is_file()) == [
        *("endpoints.parquet", "plan.json", "policies.parquet")
    ]
    assert not any((audit.directory / "tmp").iterdir())
    assert not engine_processes(str(audit.directory / "tmp"))


def test_a_killed_run_leaves_no_process(audit: Audit, example_snapshot: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(audit.directory / "tmp")}
    (audit.directory / "tmp").mkdir()
    command = [*audit.command, "run", "--snapshot", str(example_snapshot), "--out", "runs"]
    command += ["--cover", "exhaustive"]  # long enough to be caught at it
    process = subprocess.Popen(
        command, cwd=audit.directory, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("tracing"):
            break
    time.sleep(0.5)
    assert engine_processes(str(audit.directory / "tmp"))
    process.kill()
    process.communicate(timeout=60)
    for _ in waiting(10):
        if not engine_processes(str(audit.directory / "tmp")):
            break
    assert not engine_processes(str(audit.directory / "tmp"))
    [unfinished] = (audit.directory / "runs").iterdir()
    done = audit("report", unfinished)
    assert done.code == 4
    assert "unfinished" in one_sentence(done)


def waiting(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)


def test_a_run_that_is_none(audit: Audit) -> None:
    done = audit("explain", "nowhere", "a/b", "c/d", "tcp/80")
    assert done.code == 4
    assert "nowhere is not a run" in one_sentence(done)


def test_a_cell_that_is_not_in_the_run(audit: Audit, example_run: Path) -> None:
    done = audit("explain", example_run, "default/web-O", "default/web-1", "tcp/80")
    assert done.code == 2
    assert "did you mean" in one_sentence(done)


def test_coverage_below_what_is_asked(audit: Audit, example_snapshot: Path) -> None:
    scope = ("--from-namespace", "default", "--to-namespace", "shop", "-p", "tcp/80")
    flags = ("--out", "runs", "--planes", "logical", "--cover", "predict")
    predicted = ("run", "--snapshot", example_snapshot, *scope, *flags)
    assert audit(*predicted).code == 0
    assert audit(*predicted, "--fail-coverage-below", "100").code == 3
    assert audit(*predicted, "--fail-coverage-below", "100", "--exit-zero").code == 0


def test_what_no_run_can_prove_does_not_count(audit: Audit, example_snapshot: Path) -> None:
    nodes = ("--from-node", "ovn-worker", "--to-node", "ovn-worker2", "-p", "tcp/80")
    flags = ("--planes", "logical", "--fail-coverage-below", "100", "-o", "json")
    done = audit("run", "--snapshot", example_snapshot, "--out", "runs", *nodes, *flags)
    assert done.code == 0, done.err
    coverage = json.loads(done.out)["coverage"]
    assert coverage["unprovable"] == coverage["total"] > coverage["proven"]


def test_a_full_disk_is_one_sentence(audit: Audit, example_snapshot: Path) -> None:
    small = audit.directory / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        shutil.rmtree(small)
        pytest.skip("this machine does not let tests mount a file system")
    try:
        done = audit("run", "--snapshot", example_snapshot, "--out", small / "runs")
        assert done.code == 4
        assert "No space left" in one_sentence(done)
        assert no_runs(small / "runs")
    finally:
        subprocess.run(["umount", str(small)], check=True)
