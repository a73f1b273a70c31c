"""`audit copy`: a finished run from a disk to an object store, or back."""

from pathlib import Path

import click

from audit.cli import groups, places, say
from audit.commands import copy as command
from audit.commands.copy import Place


@groups.command()
@click.argument("run", type=places.Place())
@click.argument("to", type=places.Place())
def copy(*, run: Path | Place, to: Path | Place) -> None:
    """Copy a finished run below TO, compared with its run.json, and print where it is.

    RUN or TO is on an object store: s3://BUCKET/PREFIX.

    \b
    Examples:
      audit copy runs/20261123T043457Z-9510 s3://audits/prod
      audit copy s3://audits/prod/20261123T043457Z-9510 runs
    """
    say.line(str(command.copy(run, to)))
