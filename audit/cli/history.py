"""`audit history`: the runs below one directory."""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from pathlib import Path

import click

from audit.cli import groups, options, run_arguments, say
from audit.cli.query import show
from audit.commands import copy as copying
from audit.commands import history as command
from audit.errors import UsageError


@groups.command()
@run_arguments.root_argument
@click.option(
    "--sql",
    help="SQL over all runs: the tables of one with a column `run`, `runs` and `exposure`.",
)
@click.option("--prune", is_flag=True, help="Delete runs but those that --keep-… names.")
@click.option("--dry-run", is_flag=True, help="With --prune: only say what would be deleted.")
@click.option("--keep-last", type=click.IntRange(min=1), help="Keep the last N runs.")
@click.option("--keep-days", type=click.IntRange(min=0), help="Keep the runs of the last N days.")
@options.output_option("table", "json", "csv", "html")
def history(
    *,
    root: Path | copying.RemoteDirectory,
    sql: str | None,
    prune: bool,
    dry_run: bool,
    keep_last: int | None,
    keep_days: int | None,
    output: str,
) -> None:
    """List the runs below ROOT, how their numbers moved, and how exposed namespaces are.

    ROOT is what `audit run --out` was given, also on an object store. By default it is where
    `audit run` writes: AUDIT_RUN_OUT, else --out of the options file, else runs. A number is
    compared with that of the last run with the same scope and planes.

    \b
    Examples:
      audit history runs
      audit history runs --sql "SELECT run, dst_namespace, count(*) FROM cells
        WHERE verdict = 'reachable' GROUP BY ALL ORDER BY ALL"
      audit history runs -o html > runs/index.html
      audit history s3://audits/prod --prune --dry-run --keep-last 30 --keep-days 90
    """
    run_arguments.require_root(root)
    if prune and sql is not None:
        raise UsageError("--prune and --sql contradict each other; give one of them")
    if prune:
        _prune(root, command.Retention(last=keep_last, days=keep_days), dry=dry_run)
        return
    if dry_run or keep_last is not None or keep_days is not None:
        raise UsageError("--keep-last, --keep-days and --dry-run go with --prune")
    if sql is None:
        _show(root, command.past(root), output)
        return
    if output == "html":
        raise UsageError("-o html is the page of all runs; with --sql say table, json or csv")
    with ExitStack() as stack:
        columns, rows = command.ask_all(root, sql, stack)
        show(columns, rows, output)


def _show(root: Path | copying.RemoteDirectory, listing: command.History, output: str) -> None:
    """Print the runs below a root, and on stderr what could not be read of it."""
    runs = listing.runs
    for sentence in listing.skipped:
        say.line(f"audit: {sentence}", err=True)
    if not runs:
        say.line(f"audit: {run_arguments.no_runs(root)}", err=True)
    if output == "html":
        say.text(listing.page(str(root)))
    elif output == "json":
        say.json(listing.records)
    elif output == "csv":
        numbers = [*runs[-1].numbers] if runs else []
        rows = ((run.run, run.started, *map(run.numbers.get, numbers)) for run in runs)
        show(["run", "started", *numbers], rows, output)
    else:
        say.text(listing.text)


def _prune(root: Path | copying.RemoteDirectory, keep: command.Retention, *, dry: bool) -> None:
    gone = command.prune(root, keep, dt.datetime.now(dt.UTC), dry=dry)
    for path in gone:
        say.line(f"{'would remove' if dry else 'removed'} {path}")
    if not gone:
        say.line("nothing to delete: all runs are kept")
