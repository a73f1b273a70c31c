"""However a command ends, it says so in one sentence and with an exit code of ours."""

import errno
import os
import signal

import pytest

from audit.cli import main as commands


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
