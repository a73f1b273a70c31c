"""Temporary directories of killed processes go, and no others."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from audit import scratch
from audit.errors import OutputError

HOLD = """
import sys
from audit import scratch
with scratch.directory("kind") as path:
    (path / "file").write_text("content")
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary directories made, and swept, here alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "SHORT", tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(place: Path) -> Iterator[subprocess.Popen[str]]:
    """Start another process that has a directory."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_directory_goes_with_its_block(place: Path) -> None:
    with scratch.directory("kind") as path:
        assert path.parent == place
        assert path.stat().st_mode & 0o777 == 0o700
        scratch.sweep()
        assert path.is_dir(), "this process has it"
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_one_has_stays(
    place: Path, holder: subprocess.Popen[str]
) -> None:
    scratch.sweep()
    [path] = place.iterdir()
    assert (path / "file").read_text() == "content"
    holder.kill()
    holder.wait()
    scratch.sweep()
    assert list(place.iterdir()) == []


def test_what_an_interrupted_block_left_goes_at_the_end(place: Path) -> None:
    code = "from audit import scratch; scratch.directory('kind').__enter__(); raise SystemExit(3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=place, check=False)
    assert done.returncode == 3
    assert list(place.iterdir()) == []


def test_what_was_started_for_it_ends_with_it(place: Path) -> None:
    left = place / "audit.ray.1"
    left.mkdir()
    environment = {**os.environ, scratch.VARIABLE: str(left)}
    with (
        subprocess.Popen(["sleep", "60"], env=environment) as its,
        subprocess.Popen(["sleep", "60"], env={**os.environ, "OTHER": str(left)}) as other,
    ):
        # A program's environment can be read a moment after it has begun only.
        while not all(
            Path(f"/proc/{process.pid}/environ").read_bytes() for process in (its, other)
        ):
            time.sleep(0.01)
        scratch.sweep()
        assert its.wait(timeout=30) == -9
        assert other.poll() is None
        other.kill()
    assert not left.exists()


def test_what_writes_in_it_ends_with_it_though_it_does_not_say_so(place: Path) -> None:
    left = place / "audit.ray.1"
    left.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != scratch.VARIABLE}
    sleep = partial(subprocess.Popen, ["sleep", "60"], env=environment)
    with (
        (left / "log").open("w") as written,
        sleep(stdout=written) as its,
        (left / "log").open() as read,
        sleep(stdin=read) as reader,
    ):
        scratch.end_processes_of(left)  # this process, which writes there too, goes on
        assert its.wait(timeout=30) == -9
        assert reader.poll() is None
        reader.kill()


def test_what_is_not_ours_stays(place: Path) -> None:
    (place / "other.1").mkdir()
    (place / "audit.file").write_text("mine")
    kept = place / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    (place / "audit.link").symlink_to(kept)
    names = {"other.1", "audit.file", "kept", "audit.link"}
    if os.geteuid() == 0:
        (place / "audit.theirs").mkdir()
        os.chown(place / "audit.theirs", 65534, 65534)
        names.add("audit.theirs")
    scratch.sweep()
    assert {path.name for path in place.iterdir()} == names
    assert (kept / "file").read_text() == "mine"


def test_one_that_is_swept_before_it_is_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path.mkdir
    left = [True, False]

    def swept(path: Path, mode: int = 0o777) -> None:
        made(path, mode)
        if left.pop(0):
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept)
    with scratch.directory("kind") as path:
        assert path.is_dir()
    assert left == []
    assert list(place.iterdir()) == []


def test_a_full_disk_is_told_wherever_it_was_met() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/db", None, "/scratch/db")
    consequence = ValueError("no engine")
    consequence.__cause__ = full
    with pytest.raises(OutputError, match="cannot write /scratch/db: No space left"):
        scratch.require_room(consequence)
    scratch.require_room(OSError(errno.EIO, "odd"))
    scratch.require_room(None)
