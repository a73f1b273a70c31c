"""`audit diff`: what is different between two runs, or two sets of manifests."""

import dataclasses
from pathlib import Path

import click

from audit.cli import options, places, progress, say, surroundings
from audit.commands.copy import Part
from audit.commands.diff import diff_manifests, diff_runs, mark_runs
from audit.commands.diff import markdown as changes_markdown
from audit.commands.diff import plain as changes_text
from audit.commands.report import write_report
from audit.errors import ExitCode, UsageError
from audit.facts.manifests import Surroundings
from audit.model.changes import Changes
from audit.scope.scope import Scope


@click.command()
@click.argument("before", type=places.RunOrManifests(Part.CELLS))
@click.argument("after", type=places.RunOrManifests(Part.CELLS))
@surroundings.surroundings_options
@options.scope_options
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also when something changed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "markdown", "json", "html"]),
    help="How to print the result. Default: text for runs, markdown for manifests. html renders "
    "AFTER's page with what changed marked, and prints its path.",
)
def diff(
    *,
    before: str,
    after: str,
    around: Surroundings,
    scope: Scope,
    exit_zero: bool,
    quiet: bool,
    output: str | None,
) -> int:
    """Say which cells changed between two runs, or what a change of manifests opens and closes.

    BEFORE and AFTER are two run directories, or two directories or files of YAML manifests, as
    `audit run --manifests` reads them; then neither a cluster nor OVN is asked, and the scope
    flags say what is compared. Exits with 1 when a verdict changed, or a reply's.

    \b
    Examples:
      audit diff runs/20261123T043457Z-9510 runs/20261124T043501Z-77aa
      audit diff runs/20261123T043457Z-9510 runs/20261124T043501Z-77aa -o html
      audit diff main/deploy branch/deploy --port tcp/5432 > comment.md
    """
    runs = [is_run(place) for place in (before, after)]
    if any(runs) and not all(runs):
        other = after if runs[0] else before
        why = "" if Path(other).exists() else ": there is no such directory"
        raise UsageError(f"{other} is not a run{why}; a run is compared with a run")
    if all(runs) and scope != Scope():
        raise UsageError("scope flags go with manifests: two runs are compared as they are")
    surroundings.require_manifests(around, manifests=not all(runs))
    if output == "html" and not all(runs):
        raise UsageError("-o html goes with runs: manifests have no page")
    if output == "html":
        places.require_written(Path(after), "use `audit report AFTER --since BEFORE --out DIR`")
    with progress.shown(quiet=quiet) as shown:
        if output == "html":
            found, changed = mark_runs(Path(before), Path(after), shown)
            page = write_report(Path(after), changed)
        elif all(runs):
            found, page = diff_runs(Path(before), Path(after), shown), None
        else:
            found, page = diff_manifests(before, after, scope, around, shown), None
    if page is not None:
        say.line(str(page.absolute()))
    else:
        show(found, output or ("text" if all(runs) else "markdown"))
    return ExitCode.FINDINGS if found.paths and not exit_zero else ExitCode.CLEAN


def is_run(place: str) -> bool:
    """Say whether a directory looks like a run, finished or not."""
    return any((Path(place) / name).exists() for name in ("run.json", "endpoints.parquet"))


def show(found: Changes, output: str) -> None:
    """Print what changed as `text`, `markdown` or `json`."""
    if output == "json":
        said = {**dataclasses.asdict(found), "counts": found.counts}
        say.json(said)
    elif output == "markdown":
        say.text(changes_markdown(found))
    else:
        say.text(changes_text(found))
