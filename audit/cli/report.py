"""`audit report`: render a run again."""

from pathlib import Path

import click

from audit import pipeline
from audit.cli import options


@click.command()
@options.run_argument
@options.output_option("html")
def report(*, run: Path, output: str) -> None:
    """Render the report of a run again, and print its path.

    \b
    Example:
      audit report runs/20261123T043457Z-9510
    """
    del output  # one format so far; the flag is there for scripts that name it
    click.echo(str(pipeline.write_report(run).absolute()))
