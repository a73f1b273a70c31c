"""A small run of the bundled example, and the command to ask it."""

import signal
import sys
from pathlib import Path

import pytest

from audit.cli.main import main
from tests.end_to_end.conftest import Audit, Called, keys, run_of

__all__ = ["keys"]


class Inside:
    """Calls commands in this process, as `main` ends them: for many that only read."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str | Path) -> Called:
        """Return how a command ended."""
        self._monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
        self._capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = self._capsys.readouterr()
        return Called(code=int(ended.value.code or 0), out=out, err=err)


@pytest.fixture
def inside(
    audit: Audit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Inside:
    """Return the commands as functions of this process, in the directory of `audit`."""
    monkeypatch.chdir(audit.directory)
    return Inside(capsys, monkeypatch)


@pytest.fixture
def audit(audit_command: tuple[str, ...], tmp_path: Path) -> Audit:
    return Audit(command=audit_command, directory=tmp_path)


@pytest.fixture(scope="session")
def small_run(
    audit_command: tuple[str, ...],
    example_snapshot: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a run from the pods of one namespace to those of another."""
    flags = ("--from-namespace", "prod", "--to-namespace", "default", "-p", "tcp/80", "-q")
    return run_of(audit_command, tmp_path_factory.mktemp("runs"), example_snapshot, *flags)
