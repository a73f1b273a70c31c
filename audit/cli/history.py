"""`audit history`: the runs below one directory."""

import datetime as dt
from contextlib import ExitStack
from pathlib import Path

import click

from audit.cli import options, places, say
from audit.cli.query import show
from audit.commands import history as command
from audit.commands.copy import Place
from audit.commands.history import Retention, ask_all, past
from audit.errors import UsageError


@click.command()
@click.argument("root", type=places.Place(), default=Path("runs"))
@click.option(
    "--sql",
    help="SQL over all runs: the tables of one with a column `run`, `runs` and `exposure`.",
)
@click.option("--prune", is_flag=True, help="Delete runs but those that --keep-… names.")
@click.option("--dry-run", is_flag=True, help="With --prune: only say what would be deleted.")
@click.option("--keep-last", type=click.IntRange(min=1), help="Keep the last N runs.")
@click.option("--keep-days", type=click.IntRange(min=0), help="Keep the runs of the last N days.")
@options.output_option("table", "json", "csv")
def history(
    *,
    root: Path | Place,
    sql: str | None,
    prune: bool,
    dry_run: bool,
    keep_last: int | None,
    keep_days: int | None,
    output: str,
) -> None:
    """List the runs below ROOT, how their numbers moved, and how exposed namespaces are.

    ROOT is what `audit run --out` was given, also on an object store. A number is compared with
    that of the last run that was asked the same (scope and planes).

    \b
    Examples:
      audit history runs
      audit history runs --sql "SELECT run, dst_namespace, count(*) FROM cells
        WHERE verdict = 'reachable' GROUP BY ALL ORDER BY ALL"
      audit history s3://audits/prod --prune --dry-run --keep-last 30 --keep-days 90
    """
    if not prune and (dry_run or keep_last is not None or keep_days is not None):
        raise UsageError("--keep-last, --keep-days and --dry-run go with --prune")
    if prune and sql is not None:
        raise UsageError("--prune and --sql contradict each other; give one of them")
    if prune:
        keep = Retention(last=keep_last, days=keep_days)
        _prune(root, keep, dry=dry_run)
        return
    if sql is not None:
        with ExitStack() as stack:
            columns, rows = ask_all(root, sql, stack)
            show(columns, rows, output)
        return
    found = past(root)
    for sentence in found.skipped:
        say.line(f"audit: {sentence}", err=True)
    if not found.runs:
        say.line(f"audit: no finished run is right below {root}", err=True)
    if output == "json":
        say.json(found.records)
    elif output == "csv":
        names = ["run", "started", *(found.runs[-1].numbers if found.runs else ())]
        numbers = [(r.run, r.started, *(r.numbers.get(n) for n in names[2:])) for r in found.runs]
        show(names, iter(numbers), output)
    else:
        say.text(found.text)


def _prune(root: Path | Place, keep: Retention, *, dry: bool) -> None:
    gone = command.prune(root, keep, dt.datetime.now(dt.UTC), dry=dry)
    for path in gone:
        say.line(f"{'would remove' if dry else 'removed'} {path}")
    if not gone:
        say.line("audit: all runs are kept", err=True)
