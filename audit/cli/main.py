"""The `audit` command group, and the one place where errors become exit codes."""

import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.shell_completion import CompletionItem

from audit import __version__, scratch
from audit.cli import config, later, say
from audit.errors import AuditError, ExitCode, OutputError, RunInterruptedError

_CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "AUDIT",
    "max_content_width": 100,
}

_COMPLETES = "_AUDIT_COMPLETE"
"""The variable by which a shell asks for completions (click)."""

COMMANDS = {
    "agent": "Trace on this node for a run elsewhere, on the node's own databases.",
    "can": "Say whether FROM can reach TO on PORT: yes, no, partly, or unproven.",
    "check": "Check who should and should not reach whom, against what a run proved.",
    "completion": "Print the script that completes audit's words in a shell.",
    "copy": (
        "Copy a finished run into TO, check the copy against its run.json, and print its path."
    ),
    "diff": (
        "Say which cells changed between two runs, or what a change of manifests opens and closes."
    ),
    "docs": "Print a page of the documentation, or without PAGE list the pages and where they are.",
    "doctor": "Say what is installed and whether it is enough, and install what is missing.",
    "explain": "Say what is known about one cell: verdict, blame, each hop, the reply.",
    "history": (
        "List the runs below ROOT, how their numbers moved, and how exposed namespaces are."
    ),
    "plan": "Say what a run would trace: endpoints, cells, traces, an estimate.",
    "probe": "Try real connections from the pods themselves, for some cells of a run.",
    "query": "Ask a run in SQL.",
    "report": "Render a run's page again, or write it for programs; print each file's path.",
    "run": "Trace every cell in scope, write a run, and render its report.",
    "serve": "Show the pages of the runs below ROOT to browsers, until it is stopped.",
    "snapshot": "Save a live cluster: its objects, and the databases of each zone.",
    "trace": "Trace one pair both ways; takes ovnkube-trace's flags and prints its verdict lines.",
    "verify": (
        "Compare every file of a run with its SHA-256 in run.json; exit with 1 on a difference."
    ),
    "who": "Say who can reach TO and who cannot, and what stops them, by workload.",
}
"""Each command's module and function, and its first sentence, said without loading it."""


def load(arguments: Sequence[str]) -> None:
    """Load what the command that these arguments name needs, and nothing where they name none.

    Of one whose help is asked for, or whose words a shell completes, its options alone.
    """
    later.install()
    name = next((word for word in arguments if word in COMMANDS), None)
    if name is None:
        return
    _load(name)
    if not {"-h", "--help"} & {*arguments} and _COMPLETES not in os.environ:
        later.load_all()


def _load(name: str) -> click.Command:
    command: click.Command = getattr(importlib.import_module(f"audit.cli.{name}"), name)
    config.name_variables(command)
    return command


class _Commands(click.Group):
    """The group, which loads a command when it is called: most take a second, for numpy and so on.

    It does not mind that the reader of its output goes away, as `head` does.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, in order."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loaded now if it was not; None when there is none of this name."""
        if cmd_name in COMMANDS:
            return _load(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names; UsageError with what was meant, perhaps."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from audit.scope.suggestions import did_you_mean  # noqa: PLC0415 - for a mistake only

            hint = did_you_mean(args[0], COMMANDS).removeprefix("; ")
            if not hint:
                raise
            message = f"{error.message} {hint[:1].upper()}{hint[1:]}"
            raise click.UsageError(message, ctx) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, from `COMMANDS`: click would load each."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        items = [CompletionItem(name, help=COMMANDS[name]) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from `COMMANDS`."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - what the command returns
        """Run a command, with what it printed out of the door before anyone calls it done."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except AuditError as error:
            from audit.cli import run_arguments  # noqa: PLC0415 - a command is loaded by now, and it too

            run_arguments.rename(error, ctx)
            raise
        except BrokenPipeError:
            # click would make this an exit code of 1, which is ours for findings.
            say.print_to_nobody()
            return ExitCode.CLEAN
        return done


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="audit")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="AUDIT_CONFIG",
    metavar="FILE",
    help="Options in TOML (docs/options.md). Default: ~/.config/ovn-audit/config.toml, if it is "
    "there.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def audit(context: click.Context, *, file: Path | None, debug: bool) -> None:
    """Audit who can reach whom in an OVN-Kubernetes cluster, and which policy stops the rest.

    \b
    Example:
      audit run --snapshot cluster.tar.gz --selector app=web
    """
    del debug  # read by main(), which catches the errors
    content = config.read(file)
    name = context.invoked_subcommand
    if content and name in COMMANDS:
        source = file or config.default_path()
        context.default_map = {name: config.defaults(content, _load(name), COMMANDS, source)}


def main() -> None:
    """Run the command line and exit as `audit.errors.ExitCode` says."""
    signal.signal(signal.SIGTERM, _interrupt)
    scratch.sweep()
    try:
        sys.exit(audit.main(standalone_mode=False) or ExitCode.CLEAN)
    except click.ClickException as error:
        shown = io.StringIO()
        _with_variable(error).show(file=shown)
        say.text(shown.getvalue().expandtabs(2), err=True)
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt) as error:
        notes = _notes(error) or ["nothing was left half-written"]
        _fail(RunInterruptedError("; ".join(["interrupted", *notes])))
    except AuditError as error:
        _fail(error, *_notes(error))
    except Exception as error:  # noqa: BLE001 - the interpreter's own exit code would be ours for findings
        _fail(_as_audit_error(error), *_notes(error))


def _with_variable(error: click.ClickException) -> click.ClickException:
    """Return an error that names the variable that has the value, where it was not typed."""
    if not isinstance(error, click.BadParameter) or error.ctx is None or error.param is None:
        return error
    variable = config.variable_of(error.ctx, error.param)
    if not variable:
        return error
    text = f"from {variable}: {error.message}"
    return click.BadParameter(text, ctx=error.ctx, param=error.param)


_NO_MEMORY = (errno.ENOMEM, errno.EAGAIN)
"""What it is to start a process or a thread without memory, or with too many of them."""
_NO_THREAD = "can't start new thread"
"""The words of Python's RuntimeError."""


def _as_audit_error(error: Exception) -> AuditError:
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
    say.message("error", "; ".join([str(error), *notes]), err=True, prefix="audit")
    sys.exit(error.exit_code)
