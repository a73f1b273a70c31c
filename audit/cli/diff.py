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
@click.option("--exit-zero", is_flag=True, help="Exit with 0 where it would be 1 or 3.")
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
    flags say what is compared. Of two runs without cells of the outside, what their policies alone
    say of it is compared too, and listed apart: nothing of that is traced. Exits with 1 when a
    verdict changed, or a reply's; with 3 when none did, but not everything could be compared: no
    cell in common, none that is proven in both, another scope, other planes, another cluster,
    policies that a run lacks.

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
        raise UsageError(
            f"{other} is not a run{why}; a run is compared with a run: of manifests, `audit run "
            "--manifests` makes one"
        )
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
    return ExitCode.CLEAN if exit_zero else found.exit_code


def is_run(place: str) -> bool:
    """Say whether a directory looks like a run, finished or not."""
    return any((Path(place) / name).exists() for name in ("run.json", "endpoints.parquet"))


def show(found: Changes, output: str) -> None:
    """Print what changed as `text`, `markdown` or `json`."""
    if output == "json":
        said = {**dataclasses.asdict(found), "counts": found.counts, "limits": found.limits}
        if found.outside is not None:
            said["outside"]["counts"] = found.outside.counts
        say.json(said)
    elif output == "markdown":
        say.text(changes_markdown(found))
    else:
        say.text(changes_text(found))
