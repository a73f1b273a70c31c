"""`audit diff`: what a change of manifests changes."""

import dataclasses
import json

import click

from audit import pipeline
from audit.cli import options, progress
from audit.errors import ExitCode
from audit.plan.scope import Scope


@click.command()
@click.argument("before")
@click.argument("after")
@options.scope_options
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also when something changed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@options.output_option("markdown", "json")
def diff(
    *, before: str, after: str, scope: Scope, exit_zero: bool, quiet: bool, output: str
) -> int:
    """Say what a change of manifests opens and closes, for a pull request.

    BEFORE and AFTER are directories or files of YAML manifests, as `audit run --manifests` reads
    them. Neither a cluster nor OVN is asked. Exits with 1 when a verdict changed.

    \b
    Example:
      audit diff main/deploy branch/deploy --port tcp/5432 > comment.md
    """
    with progress.shown(quiet=quiet) as shown:
        found = pipeline.diff_manifests(before, after, scope, shown)
    if output == "json":
        click.echo(json.dumps(dataclasses.asdict(found), indent=2, ensure_ascii=False))
    else:
        click.echo(pipeline.changes_markdown(found), nl=False)
    return ExitCode.FINDINGS if found.paths and not exit_zero else ExitCode.CLEAN
