"""The `audit` command group, and the one place where errors become exit codes."""

import errno
import io
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import click

from audit import __version__, scratch
from audit.cli import (
    agent,
    check,
    copy,
    diff,
    doctor,
    explain,
    history,
    places,
    plan,
    query,
    report,
    run,
    say,
    snapshot,
    trace,
    verify,
)
from audit.errors import AuditError, ExitCode, OutputError, RunInterruptedError

_CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AUDIT"}


class _Commands(click.Group):
    """The group, which does not mind that the reader of its output goes away, as `head` does."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - what the command returns
        """Run a command, with what it printed out of the door before anyone calls it done."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except AuditError as error:
            places.rename(error, ctx)
            raise
        except BrokenPipeError:
            # click would make this an exit code of 1, which is ours for findings.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.CLEAN
        return done


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="audit")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def audit(*, debug: bool) -> None:
    """Audit who can reach whom in an OVN-Kubernetes cluster, and which policy stops the rest.

    \b
    Example:
      audit run --snapshot cluster.tar.gz --selector app=web
    """
    del debug  # read by main(), which catches the errors


for _command in (
    *(run.run, plan.plan, trace.trace, report.report),
    *(explain.explain, query.query, diff.diff, check.check, doctor.doctor),
    *(verify.verify, history.history, copy.copy, agent.agent),
    snapshot.snapshot,
):
    audit.add_command(_command)


def main() -> None:
    """Run the command line and exit as `audit.errors.ExitCode` says."""
    signal.signal(signal.SIGTERM, _interrupt)
    scratch.sweep()
    try:
        sys.exit(audit.main(standalone_mode=False) or ExitCode.CLEAN)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        say.text(shown.getvalue(), err=True)
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt) as error:
        notes = _notes(error) or ["nothing was left half-written"]
        _fail(RunInterruptedError("; ".join(["interrupted", *notes])))
    except AuditError as error:
        _fail(error, *_notes(error))
    except Exception as error:  # noqa: BLE001 - the interpreter's own exit code would be ours for findings
        _fail(_told(error), *_notes(error))


_NO_MEMORY = (errno.ENOMEM, errno.EAGAIN)
"""What it is to start a process or a thread without memory, or with too many of them."""
_NO_THREAD = "can't start new thread"
"""The words of Python's RuntimeError."""


def _told(error: Exception) -> AuditError:
    """Return what happened, in a sentence."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError):
        return AuditError(
            "there is not enough memory for this many cells; narrow the scope, or give it more"
        )
    if number in _NO_MEMORY or _NO_THREAD in str(error):
        return AuditError(
            "a process or a thread cannot be started: memory or their number is limited "
            "(ulimit -v, ulimit -u); raise the limit, or give --worker-count 1"
        )
    try:
        scratch.require_room(error)
    except OutputError as full:
        return full
    return _unexpected(error)


def _unexpected(error: Exception) -> AuditError:
    return AuditError(
        f"unexpected {type(error).__name__}: {error}; please report it with what --debug shows"
    )


def _notes(error: BaseException) -> list[str]:
    """Return what is to be said besides: how to go on."""
    # click raises its Abort from the interrupt that has them.
    return [n for e in (error, error.__cause__) for n in getattr(e, "__notes__", ())]


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End on SIGTERM, which Kubernetes sends, as on Ctrl-C."""
    raise KeyboardInterrupt


def _fail(error: AuditError, *notes: str) -> None:
    """Say what is wrong in one sentence and exit with its code."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    say.line(f"audit: {'; '.join([str(error), *notes])}", err=True)
    sys.exit(error.exit_code)
