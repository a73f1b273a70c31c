"""A disk that fills up, a directory that is read-only, a clock that jumps: one sentence each."""

import datetime as dt
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit.commands import resume
from audit.commands import run as command
from audit.commands.verify import verify
from audit.model.options import PlaneName
from audit.scope import scope
from audit.store.reader import open_run
from audit.tracing.options import Options
from tests.end_to_end.conftest import Audit, run_of
from tests.end_to_end.test_failures import no_runs, one_sentence
from tests.end_to_end.test_resume import SCOPE, assert_as_if_never, batches, traced
from tests.store.files import open_traces

pytestmark = pytest.mark.ovn


@contextmanager
def mounted(inside: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory, in a user's namespace of its own: root is not needed.

    Yields where it is seen from outside. The test is skipped, with the reason, where namespaces
    are denied.
    """
    inside.mkdir()
    script = f"mount -t tmpfs -o {options} tmpfs '{inside}' && echo mounted && exec sleep 600"
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            if holder.stdout.readline() != "mounted\n":
                pytest.skip(f"no file system can be mounted here: {holder.stderr.read().strip()}")
            yield Path(f"/proc/{holder.pid}/root{inside}")
        finally:
            holder.kill()


def test_what_a_full_disk_holds_is_gone_on_with_when_there_is_room(
    audit: Audit, example_snapshot: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with mounted(audit.directory / "small", "size=64m") as small:
        (small / "ballast").write_bytes(b"." * (63 << 20))
        done = audit("run", "--snapshot", example_snapshot, "--out", small / "runs", *SCOPE)
        assert done.code == 4
        sentence = one_sentence(done)
        assert "No space left on device" in sentence
        [run] = (small / "runs").iterdir()
        assert f"--resume {run}" in sentence
        assert not (run / "run.json").exists()
        kept, before = traced(run), batches(run)
        assert kept
        assert [record.key for record in open_traces(run).all()] == kept  # whole and readable

        (small / "ballast").unlink()
        done = audit("run", "--resume", run, "-o", "json")
        assert done.code == 0, done.err
        assert before.items() <= batches(run).items()
        assert done.json["resumed"]["traces_kept"] == len(kept)
        root = tmp_path_factory.mktemp("whole")
        whole = run_of(audit.command, root, example_snapshot, *SCOPE)
        assert_as_if_never(run, whole)


def test_a_file_system_that_is_read_only(audit: Audit, example_snapshot: Path) -> None:
    with mounted(audit.directory / "fixed", "size=1m,ro") as fixed:
        done = audit("run", "--snapshot", example_snapshot, "--out", fixed / "runs")
        assert done.code == 4
        assert "Read-only file system" in one_sentence(done)
        assert no_runs(fixed / "runs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in any directory")
def test_a_directory_that_is_somebody_elses(audit: Audit, example_snapshot: Path) -> None:
    (audit.directory / "runs").mkdir(mode=0o500)
    done = audit("run", "--snapshot", example_snapshot, "--out", "runs")
    assert done.code == 4
    assert "Permission denied" in one_sentence(done)


class Quiet:
    def phase(self, name: str, total: int) -> None: ...

    def expect(self, steps: int) -> None: ...

    def advance(self, steps: int) -> None: ...

    def at(self, zone: str, *, left: int, zones: int) -> None: ...


def test_a_clock_that_jumps_changes_nothing_but_what_it_said(
    tmp_path: Path, example_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Options(
        planes=frozenset({PlaneName.LOGICAL}),
        snapshot=example_snapshot,
        scope=scope.from_flags(namespaces=("default",), ports=("tcp/80",)),
        time_limit_s=600.0,
    )
    clock = [dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2031, 1971, 1971, 2040, 2001)]
    monkeypatch.setattr(resume, "now", lambda: clock.pop(0) if len(clock) > 1 else clock[0])
    first = command.run(asked, tmp_path, Quiet())
    second = command.run(asked, tmp_path, Quiet())
    assert first.manifest["finished"] < first.manifest["started"]  # as the clock had it
    assert 0 < first.manifest["seconds"] < 600  # as it was
    assert (first.exit_code, second.exit_code) == (0, 0)
    cells = [open_run(done.path).verdicts.verdict.tolist() for done in (first, second)]
    assert cells[0] == cells[1]
    assert verify(first.path).problems == ()
