"""`audit run --resume`: what is given again of the first command, and what cannot be."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from audit.cli import progress
from audit.cli.expected import Expected
from audit.commands import copy as copying
from audit.commands import report as reports
from audit.commands import run as command
from audit.commands import snapshot as snapshots
from audit.errors import UsageError
from audit.model.options import REPEATED

without_option = click.option(
    "--without",
    type=click.Choice(REPEATED),
    multiple=True,
    help="With --resume: go on without this option of the first command. Which program runs, which "
    "key signs, where a run is put and which cluster is asked is never taken from a run's files: "
    "repeat the option, or leave it out by this. Repeatable.",
)


def resume(
    run: Path | copying.RemoteDirectory,
    given: Mapping[str, Any],
    store: copying.RemoteDirectory | None,
    staging: Path,
    without: frozenset[str],
    stack: ExitStack,
    *,
    expected: Expected | None,
    quiet: bool,
) -> reports.Outcome:
    """Go on with a run, and put it on an object store if it is from one, or one is named.

    Its page has what became of what is `expected`, if it had none before. What is here only to be
    put there lasts as long as `stack`.
    """
    root = run.absolute().parent if isinstance(run, Path) else staging
    if not isinstance(run, Path):
        store = store or run.parent
    to = stack.enter_context(copying.destination(store or root, root))
    path = run if isinstance(run, Path) else copying.resumable(run, root, stack)
    with progress.shown(quiet=quiet) as shown:
        done = command.resume(
            path,
            {**given, "destination": to.uri},
            shown,
            without=without,
            delivered=not isinstance(run, Path),
            page=functools.partial(expected.render, progress=shown) if expected else None,
        )
        snapshots.sweep(root)
        return to.deliver(done, shown)


_EVERY_SITTING = frozenset(
    {
        *("resumed", "without", "quiet", "output", "fail_coverage_below", "exit_zero"),
        *("out", "staging", "install_ovn", "traces", "snapshot", "ovn_prefix", "sign_key"),
        *("timestamp_url", "push_metrics", "kustomization", "max_snapshot_size", "file", "packs"),
        *("workers", "worker_count", "agents_listen", "agents_wait"),
        *("trace_timeout", "time_limit"),
    }
)
"""What goes with --resume; the rest is about the run, which knows it."""
_OF_THE_CLUSTER = frozenset({"kubeconfig", "context", "ovn_config_namespace", "exec_timeout"})


def refuse_anew(context: click.Context) -> None:
    """Refuse to ask something else of a run that is resumed."""
    cluster = _OF_THE_CLUSTER if context.params["traces"] == "exec" else frozenset()
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        typed = source is click.core.ParameterSource.COMMANDLINE
        if typed and name not in _EVERY_SITTING | cluster:
            flag = max(parameter.opts, key=len)
            raise UsageError(
                f"--resume goes on with what the run was asked; {flag} cannot be given anew"
            )


def answered(context: click.Context, without: Sequence[str]) -> frozenset[str]:
    """Return the options whose value in a run's plan does not count: they are said, or left out."""
    default = click.core.ParameterSource.DEFAULT
    given = {
        name for name in ("traces", "workers") if context.get_parameter_source(name) is not default
    }
    return frozenset(given | set(without))


def kept_at(
    out: Path | copying.RemoteDirectory, run: Path | copying.RemoteDirectory
) -> copying.RemoteDirectory | None:
    """Return the object store that --out names; a directory can only be the run's own."""
    if not isinstance(out, Path):
        return out
    source = click.get_current_context().get_parameter_source("out")
    typed = source is click.core.ParameterSource.COMMANDLINE
    if typed and isinstance(run, Path) and out.resolve() != run.resolve().parent:
        raise UsageError(
            f"a run goes on where it is, in {run.absolute().parent}; --out with --resume names an "
            "object store to put it on"
        )
    return None
