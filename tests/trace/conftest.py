"""A real southbound database, unpacked, and short temporary directories that must end up empty."""

import gzip
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parent / "golden"


@pytest.fixture(scope="session")
def southbound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a release ("25.03") to the database of its golden traces."""

    directory = tmp_path_factory.mktemp("southbound")

    def unpacked(release: str) -> Path:
        path = directory / f"{release}.db"
        path.write_bytes(gzip.decompress((GOLDEN / f"ovn-{release}" / "sb.db.gz").read_bytes()))
        return path

    return unpacked


@pytest.fixture
def temporary(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return where the code under test makes its directories; nothing may be left or run there.

    Sockets are made below it, and a socket's path has at most 107 bytes.
    """
    tmp_path_factory.getbasetemp()  # made on first use: not in here
    directory = Path(tempfile.mkdtemp(prefix="t-"))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    try:
        assert gone(directory), "processes were left"
        assert not list(directory.iterdir()), "files were left"
    finally:
        for pid in processes(directory):
            os.kill(pid, 9)
        shutil.rmtree(directory)


def processes(directory: Path) -> list[int]:
    """Return the processes that were given a path below `directory`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(f"{directory}/") in arguments:
            found.append(int(entry.name))
    return found


def gone(directory: Path, timeout_s: float = 10) -> bool:
    """Wait until no process is left that was given a path below `directory`."""
    deadline = time.monotonic() + timeout_s
    while processes(directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
