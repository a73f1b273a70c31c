"""Progress: on a terminal a bar, else a line now and then, and never on stdout."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from audit.cli import progress
from tests.end_to_end.conftest import Audit


def test_a_line_per_phase_and_one_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("audit.cli.progress.time.monotonic", lambda: now[0])
    with progress.shown(quiet=False) as shown:
        assert isinstance(shown, progress.Lines)
        shown.phase("reading", 0)
        shown.advance(1)
        shown.phase("tracing", 900)
        shown.expect(100)
        for _ in range(10):
            now[0] += 3
            shown.advance(50)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "reading",
        "tracing (900)",
        "tracing: 200 of 1,000, 48 s left",
        "tracing: 400 of 1,000, 36 s left",
    ]


def test_a_line_names_the_zones_worked_on_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("audit.cli.progress.time.monotonic", lambda: now[0])
    with progress.shown(quiet=False) as shown:
        shown.phase("tracing", 900)
        for zone, left in (("a", 9), ("b", 1_200), ("c", 7), ("b", 0), ("worker\x1b[2J", 5)):
            shown.at(zone, left=left, zones=12)
        now[0] += 11
        shown.advance(450)
        shown.phase("tracing replies", 10)
        now[0] += 11
        shown.advance(5)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "tracing: 450 of 900, 11 s left; 12 zones to go; c 7 left, b done, worker�[2J 5 left",
        "tracing replies (10)",
        "tracing replies: 5 of 10, 11 s left",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(quiet=True) as shown:
        shown.phase("tracing", 10)
        shown.expect(1)
        shown.advance(11)
    assert capsys.readouterr() == ("", "")


@pytest.mark.ovn
def test_a_terminal_gets_a_bar_and_stdout_only_the_result(
    audit: Audit, example_snapshot: Path
) -> None:
    ours, theirs = pty.openpty()
    command = ["run", "--snapshot", str(example_snapshot), "--out", "runs", "-p", "tcp/80"]
    scope = ["--from-namespace", "prod", "--to-namespace", "default", "-o", "json"]
    process = subprocess.Popen(
        [*audit.command, *command, *scope],
        cwd=audit.directory,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        text=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith("{")
    assert "tracing " in shown.decode()
    assert "━" in shown.decode()
