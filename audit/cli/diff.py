"""`audit diff`: what is different between two runs, or two sets of manifests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from audit.cli import groups, options, progress, run_arguments, say, surroundings
from audit.commands import diff as diffs
from audit.commands import report as reports
from audit.errors import ExitCode, UsageError
from audit.facts import manifests as manifest_files
from audit.model import changes as changing
from audit.model.options import Part
from audit.scope import scope as scopes


@groups.command()
@click.argument("before", type=run_arguments.RunOrManifests(Part.CELLS))
@click.argument("after", type=run_arguments.RunOrManifests(Part.CELLS))
@surroundings.surroundings_options
@options.scope_options
@click.option("--exit-zero", is_flag=True, help="Exit with 0 where it would be 1 or 3.")
@options.quiet_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "markdown", "json", "html", "sarif"]),
    help="How to print the result. Default: text for runs, markdown for manifests. html renders "
    "AFTER's page with what changed marked, and prints its path. sarif has files and lines of "
    "manifests.",
)
def diff(
    *,
    before: str,
    after: str,
    around: manifest_files.Surroundings,
    scope: scopes.Scope,
    exit_zero: bool,
    quiet: bool,
    output: str | None,
) -> int:
    """Say which cells changed between two runs, or what a change of manifests opens and closes.

    BEFORE and AFTER are two run directories, or two directories or files of YAML manifests, as
    `audit run --manifests` reads them; then neither a cluster nor OVN is asked, and the scope
    flags say what is compared. If no run asked about addresses outside, diff compares what the
    policies alone say about them, in a list of its own. None of it is traced. Exits with 1 when a
    verdict changed, or a reply's; with 3 when none did, but not everything could be compared: no
    cell in common, none that is proven in both, another scope, other planes, another cluster,
    policies that a run lacks.

    \b
    Examples:
      audit diff runs/20261123T043457Z-9510 runs/20261124T043501Z-77aa
      audit diff runs/20261123T043457Z-9510 runs/20261124T043501Z-77aa -o html
      audit diff main/deploy branch/deploy --port tcp/5432 > comment.md
      audit diff main/deploy branch/deploy -o sarif > changes.sarif
    """
    if _are_runs(before, after):
        if scope != scopes.Scope():
            raise UsageError("scope flags go with manifests: two runs are compared as they are")
        surroundings.require_manifests(around, manifests=False)
        changes = _diff_runs(Path(before), Path(after), output or "text", quiet=quiet)
    else:
        if output == "html":
            raise UsageError(
                "-o html goes with runs: make one of each side with `audit run --manifests`, and "
                "compare these"
            )
        with progress.shown(quiet=quiet) as shown:
            changes, lines = diffs.compare_manifests(before, after, scope, around, shown)
        show(changes, output or "markdown", lines)
    return ExitCode.CLEAN if exit_zero else changes.exit_code


def _are_runs(before: str, after: str) -> bool:
    """Say whether runs are compared, and not manifests; UsageError when only one of them is one."""
    if is_run(before) is is_run(after):
        return is_run(before)
    other = after if is_run(before) else before
    why = "" if Path(other).exists() else ": there is no such directory"
    raise UsageError(
        f"{other} is not a run{why}; a run is compared with a run: of manifests, `audit run "
        "--manifests` makes one"
    )


def is_run(path: str) -> bool:
    """Say whether a directory looks like a run, finished or not."""
    return any((Path(path) / name).exists() for name in ("run.json", "endpoints.parquet"))


def _diff_runs(before: Path, after: Path, output: str, *, quiet: bool) -> changing.Changes:
    """Compare two runs, and print what changed, or where the page is that marks it."""
    if output != "html":
        with progress.shown(quiet=quiet) as shown:
            changes = diffs.diff_runs(before, after, shown)
        show(changes, output, diffs.lines_of(after))
        return changes
    run_arguments.require_written(after, "use `audit report AFTER --since BEFORE --out DIR`")
    with progress.shown(quiet=quiet) as shown:
        changes, marked = diffs.mark_runs(before, after, shown)
        signed = reports.is_signed(after)
        page = None if signed else reports.write_report(after, marked)
    if page is None:
        run_arguments.say_signed(after, "--since", before)
    else:
        say.line(str(page.absolute()))
    return changes


def show(changes: changing.Changes, output: str, lines: diffs.Lines) -> None:
    """Print what changed as `text`, `markdown`, `json` or `sarif`; `lines` are for that."""
    if output == "sarif":
        say.text(diffs.as_sarif(changes, lines))
    elif output == "json":
        fields = {**dataclasses.asdict(changes), "counts": changes.counts, "limits": changes.limits}
        if changes.outside is not None:
            fields["outside"]["counts"] = changes.outside.counts
        say.json(fields)
    elif output == "markdown":
        say.text(diffs.markdown(changes))
    else:
        say.text(diffs.plain(changes), words=say.CHANGES)
