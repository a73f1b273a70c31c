"""`audit copy`: a finished run from a disk to an object store, or back."""

from __future__ import annotations

from pathlib import Path

import click

from audit.cli import groups, run_arguments, say
from audit.commands import copy as command


@groups.command()
@click.argument("run", type=run_arguments.NamedRun())
@click.argument("to", type=run_arguments.DirectoryOrStore())
def copy(*, run: Path | command.RemoteDirectory, to: Path | command.RemoteDirectory) -> None:
    """Copy a finished run into TO, check the copy against its run.json, and print its path.

    RUN or TO is on an object store: s3://BUCKET/PREFIX.

    \b
    Examples:
      audit copy runs/20261123T043457Z-9510 s3://audits/prod
      audit copy s3://audits/prod/20261123T043457Z-9510 runs
    """
    say.line(str(command.copy(run, to)))
