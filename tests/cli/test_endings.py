"""However a command ends, it says so in one sentence and with an exit code of ours."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from audit import __main__
from audit.cli import main as commands
from audit.errors import ExitCode


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 4, "not enough memory"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/x"),
            4,
            "cannot write /scratch/x: No",
        ),
        (OSError(errno.EIO, "odd"), 4, "unexpected OSError"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), 4, "a process or a thread cannot be"),
        (RuntimeError("can't start new thread"), 4, "a process or a thread cannot be"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("odd"), 4, "please report it"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_an_ending_is_a_sentence_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    words: str,
) -> None:
    def end(**_: object) -> None:
        error.add_note("go on with --resume")
        raise error

    monkeypatch.setattr(commands.audit, "main", end)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == code
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert line.endswith("; go on with --resume")


def begun(
    command: tuple[str, ...], prepare: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Start a command that has to load everything."""
    return subprocess.Popen(
        [*command, "history", "nowhere"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - this process has no other thread
    )


# With little less than loading takes, a library that is not Python's may end the process by itself,
# or wait for a thread for ever.
@pytest.mark.parametrize("megabytes", [100, 200, 330, 450, 510, 700])
def test_too_little_memory_to_load_it_is_a_sentence_and_no_finding(
    audit_command: tuple[str, ...], megabytes: int
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    process = begun(audit_command, limit)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (4, "")
    assert err.startswith("audit: ")
    assert "memory" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("share", [0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_a_signal_while_it_is_loaded_interrupts(
    audit_command: tuple[str, ...], sent: signal.Signals, share: float
) -> None:
    start = time.monotonic()
    begun(audit_command).communicate(timeout=120)
    whole = time.monotonic() - start

    process = begun(audit_command, lambda: _as_a_terminal_does(sent))
    while process.poll() is None and not caught(process.pid, sent):
        time.sleep(0.005)  # until then it is Python that starts
    time.sleep(share * whole * 0.8)
    process.send_signal(sent)
    out, err = process.communicate(timeout=120)
    assert out == ""
    assert err.count("\n") == 1
    # It may have been done: whoever is quick is not to be interrupted.
    expected = {130: "audit: interrupted", 4: "audit: there are no runs in ./nowhere yet"}
    assert err.startswith(expected[process.returncode])


SENT_WHEN_THE_FIRST_OF_OURS_IS_LOADED = """
import os, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Sender())
from audit.__main__ import main
main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["audit.supervise", "audit.scratch", "tempfile"])
def test_a_signal_before_anything_is_loaded_interrupts(module: str, sent: signal.Signals) -> None:
    program = SENT_WHEN_THE_FIRST_OF_OURS_IS_LOADED.format(module=module, number=int(sent))
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: _as_a_terminal_does(sent),
    )
    assert done.returncode == ExitCode.INTERRUPTED
    assert (done.stdout, done.stderr) == ("", "audit: interrupted; nothing was begun\n")


def test_exit_codes_that_are_not_loaded_yet_are_those_of_all_commands() -> None:
    assert ExitCode.COULD_NOT_RUN == __main__.COULD_NOT_RUN
    assert ExitCode.INTERRUPTED == __main__.INTERRUPTED


def _as_a_terminal_does(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)


def caught(pid: int, number: signal.Signals) -> bool:
    """Say whether a process handles a signal by now; of SIGINT Python does from the start."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("SigCgt")]
    mask = int(line.split()[1], 16)
    return bool(mask >> (signal.SIGTERM - 1) & 1) and bool(mask >> (number - 1) & 1)
