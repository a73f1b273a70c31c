"""`audit report`: a run in other formats, or its page again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from audit.cli import groups, options, progress, run_arguments, say
from audit.commands import check as checking
from audit.commands import diff as diffs
from audit.errors import UsageError
from audit.model.options import Format, Part


@groups.command()
@run_arguments.run_argument()
@click.option(
    "-o",
    "--output",
    "forms",
    type=click.Choice([str(form) for form in Format]),
    multiple=True,
    default=["html"],
    show_default=True,
    help="What to write. Repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write. Default: into the run.",
)
@click.option(
    "--since",
    type=run_arguments.Run(Part.CELLS),
    help="An earlier run: the page marks the cells that changed, and says what did.",
)
@options.expectations_options
@options.quiet_option
@click.option("--stdout", is_flag=True, help="Print the one format named instead of its path.")
def report(
    *,
    run: Path,
    forms: tuple[str, ...],
    out: Path | None,
    since: Path | None,
    file: Path | None,
    packs: tuple[str, ...],
    quiet: bool,
    stdout: bool,
) -> None:
    """Render a run's page again, or write it for programs; print each file's path.

    -f and --pack add whether these expectations hold today. For an exit code use `audit check`.

    \b
    Examples:
      audit report runs/20261123T043457Z-9510
      audit report runs/20261123T043457Z-9510 -o html -o json -o sarif -o prometheus
      audit report runs/20261123T043457Z-9510 -o markdown --stdout
      audit report latest --pack cis-kubernetes -f waivers.yaml -o html -o junit --out evidence
      audit report runs/20261124T043501Z-77aa --since runs/20261123T043457Z-9510
    """
    chosen = [Format(form) for form in dict.fromkeys(forms)]
    if since is not None and Format.HTML not in chosen:
        raise UsageError("--since marks the page: it goes with -o html")
    expected = checking.read_expectations(file, packs) if file is not None or packs else ()
    if stdout:
        if len(chosen) != 1 or chosen[0] is Format.HTML:
            raise UsageError("--stdout prints one format; html cannot be printed")
        if expected:
            raise UsageError("--stdout prints a run alone; audit check -o prints expectations too")
        say.text(checking.formatted(run, chosen[0]))
        return
    if out is None:
        run_arguments.require_written(run, "name where to write with --out")
    changed = None
    if since is not None:
        with progress.shown(quiet=quiet) as shown:
            _, changed = diffs.mark_runs(since, run, shown)
    checks = None
    if expected:
        with progress.shown(quiet=quiet) as shown:
            checks = checking.checked(run, expected, dt.datetime.now(dt.UTC).date(), shown)
    for path in checking.write_formats(run, chosen, out, changed, checks):
        say.line(str(path.absolute()))
