"""A command in a process of its own: its exit code is handed on if meant, and told if it is not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from audit import supervise

BEGIN = """
import os, signal, sys, time
from audit import supervise
supervise.enter()
"""
WAIT_LONG = "print(1, flush=True)\nfor _ in range(600): time.sleep(0.1)"
"""Python handles a signal that comes just before it sleeps when it has slept."""
WAIT = BEGIN + "print(os.getpid(), flush=True)\n"


@contextmanager
def running(script: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(script: str) -> tuple[int, str]:
    with running(BEGIN + script) as process:
        _, err = process.communicate(timeout=60)
        return process.returncode, err


@pytest.mark.parametrize("code", [0, 1, 3, 4, 130])
def test_an_exit_code_that_is_meant_is_the_commands(code: int) -> None:
    assert ended(f"supervise.ending(); os._exit({code})") == (code, "")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os._exit(1)", "a library ended the command with exit code 1"),
        ("os._exit(0)", "a library ended the command with exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the command was killed, as the kernel does"),
        ("os.abort()", "the command was ended by SIGABRT"),
    ],
)
def test_any_other_end_is_told_with_how_to_go_on_and_is_no_finding(end: str, words: str) -> None:
    code, err = ended(f"supervise.note('go on: \\x1b[2J runs/ä'); {end}")
    assert code == 4
    assert err.startswith(f"audit: {words}")
    assert err.endswith("; go on: ?[2J runs/ä\n")
    assert err.count("\n") == 1


def test_an_abort_before_anything_was_begun_is_for_want_of_memory() -> None:
    code, err = ended("os.abort()")
    assert code == 4
    assert "memory is short; give it 1 GiB of address space (ulimit -v)" in err
    assert err.count("\n") == 1


STRAY = """
import pathlib, tempfile
if not os.fork():
    os.setsid()
    if not os.fork():  # a grandchild, whose parent is gone
        for _ in range(10_000):
            pathlib.Path(tempfile.gettempdir(), "audit.ray.made-anew/session").mkdir(
                parents=True, exist_ok=True)
            time.sleep(0.001)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("end", ["supervise.ending(); os._exit(0)", "os.abort()"])
def test_nothing_that_a_command_started_outlives_it(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = _processes()
    ended(f"{STRAY}\ntime.sleep(0.1); assert os.listdir(tempfile.gettempdir()); {end}")
    assert not list(tmp_path.iterdir())
    assert not [pid for pid in _processes() - before if _is_in(pid, tmp_path)]


def _processes() -> set[int]:
    return {int(process.name) for process in Path("/proc").glob("[0-9]*")}


def _is_in(process: int, directory: Path) -> bool:
    with suppress(OSError):
        return os.fsencode(directory) in Path(f"/proc/{process}/environ").read_bytes()
    return False


@pytest.mark.parametrize("end", ["os._exit(1)", "os.abort()", "os._exit(0)"])
def test_whatever_a_library_makes_of_a_signal_it_was_an_interrupt(end: str) -> None:
    handle = f"signal.signal(signal.SIGTERM, lambda *_: ({end}))\n"
    with running(BEGIN + handle + "supervise.note('go on: so')\n" + WAIT_LONG) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "audit: interrupted; go on: so\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_handed_on(number: signal.Signals) -> None:
    handle = f"signal.signal({number:d}, lambda *_: (supervise.ending(), os._exit(130)))\n"
    with running(BEGIN + handle + WAIT_LONG) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=30) == 130


def test_who_is_killed_takes_the_command_along() -> None:
    with running(WAIT + "time.sleep(60)") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert child != process.pid
        process.kill()
        process.wait(timeout=30)
        until = time.monotonic() + 30
        while _alive(child) and time.monotonic() < until:
            time.sleep(0.02)
        assert not _alive(child)


def _alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(
    ("line", "is_wanted"),
    [
        ("run --snapshot x", True),
        ("--debug run", True),
        ("report run", False),
        ("--version", False),
        ("", False),
    ],
)
def test_what_is_supervised(line: str, *, is_wanted: bool) -> None:
    assert supervise.wanted(line.split()) is is_wanted


def test_nothing_is_told_where_nobody_supervises(capfd: pytest.CaptureFixture[str]) -> None:
    supervise.note("nobody")
    supervise.ending()
    assert capfd.readouterr() == ("", "")
