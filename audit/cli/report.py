"""`audit report`: a run in other formats, or its page again."""

from pathlib import Path

import click

from audit.cli import groups, options, places, progress, say
from audit.commands.check import Format, formatted, write_formats
from audit.commands.copy import Part
from audit.commands.diff import mark_runs
from audit.errors import UsageError


@groups.command()
@options.run_argument
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
    type=places.Run(Part.CELLS),
    help="An earlier run: the page marks the cells that changed, and says what did.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--stdout", is_flag=True, help="Print the one format named instead of its path.")
def report(
    *,
    run: Path,
    forms: tuple[str, ...],
    out: Path | None,
    since: Path | None,
    quiet: bool,
    stdout: bool,
) -> None:
    """Render a run: its page again, or for programs, and print where each file is.

    \b
    Examples:
      audit report runs/20261123T043457Z-9510
      audit report runs/20261123T043457Z-9510 -o html -o json -o sarif -o prometheus
      audit report runs/20261123T043457Z-9510 -o markdown --stdout
      audit report runs/20261124T043501Z-77aa --since runs/20261123T043457Z-9510
    """
    chosen = [Format(form) for form in dict.fromkeys(forms)]
    if since is not None and Format.HTML not in chosen:
        raise UsageError("--since marks the page: it goes with -o html")
    if stdout:
        if len(chosen) != 1 or chosen[0] is Format.HTML:
            raise UsageError("--stdout goes with one format that is not html")
        say.text(formatted(run, chosen[0]))
        return
    if out is None:
        places.require_written(run, "name where to write with --out")
    changed = None
    if since is not None:
        with progress.shown(quiet=quiet) as shown:
            _, changed = mark_runs(since, run, shown)
    for path in write_formats(run, chosen, out, changed):
        say.line(str(path.absolute()))
