"""`audit snapshot`: a live cluster's facts, in one file."""

from __future__ import annotations

from pathlib import Path

import click

from audit.cli import groups, options, progress, say
from audit.commands import snapshot as snapshots
from audit.errors import ExitCode
from audit.model.findings import severity_of_note


@groups.command()
@options.cluster_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("cluster.tar.gz"),
    show_default=True,
    help="A .tar.gz, or a new directory.",
)
@click.option("--without-databases", is_flag=True, help="The Kubernetes objects only: no exec.")
@options.quiet_option
@options.output_option("text", "json")
def snapshot(
    *, access: snapshots.Access, out: Path, without_databases: bool, quiet: bool, output: str
) -> int:
    """Save a live cluster: its objects, and the databases of each zone. Nothing is written there.

    Exit code 3 when something could not be read; the snapshot says what, and what that makes
    unproven.

    \b
    Examples:
      audit snapshot --out before-upgrade.tar.gz
      audit snapshot --context prod --out prod.tar.gz
    """
    with progress.shown(quiet=quiet) as shown:
        saved = snapshots.save(access, out, shown, databases=not without_databases)
    if output == "json":
        notes = [{"code": note.code, "text": note.text} for note in saved.notes]
        fields = {"path": str(saved.path), "source": saved.source, "zones": saved.zones}
        say.json({**fields, "notes": notes})
    else:
        zones = "1 zone" if saved.zones == 1 else f"{saved.zones} zones"
        say.line(f"{saved.source}: {zones}")
        for note in saved.notes:
            say.message(severity_of_note(note.code), note.text)
        say.line(str(saved.path))
    return ExitCode.INCOMPLETE if saved.notes else ExitCode.CLEAN
