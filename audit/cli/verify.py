"""`audit verify`: whether a run is as the audit wrote it."""

import dataclasses
from pathlib import Path

import click

from audit.cli import groups, options, run_arguments, say
from audit.commands import verify as command
from audit.errors import ExitCode
from audit.model.options import Part


@groups.command()
@run_arguments.run_argument(Part.EVERYTHING)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The Ed25519 public key (PEM or OpenSSH) that the run is to be signed with.",
)
@click.option(
    "--timestamp-ca",
    "authorities",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificates (PEM) of the authorities that a timestamp is to come from.",
)
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    help="The snapshot that was audited, to compare it too.",
)
@options.max_snapshot_size_option
@options.output_option("text", "json")
def verify(
    *,
    run: Path,
    key: Path | None,
    authorities: Path | None,
    snapshot: Path | None,
    max_snapshot_size: int,
    output: str,
) -> int:
    """Compare every file of a run with its SHA-256 in run.json; exit with 1 on a difference.

    \b
    Examples:
      audit verify runs/20261123T043457Z-9510
      audit verify runs/20261123T043457Z-9510 --key public.pem --snapshot cluster.tar.gz
      audit verify latest --key public.pem --timestamp-ca authority.pem
    """
    evidence = command.verify(
        run, key=key, authorities=authorities, snapshot=snapshot, most_unpacked=max_snapshot_size
    )
    if output == "json":
        say.json(dataclasses.asdict(evidence))
    else:
        for problem in evidence.problems:
            say.line(problem)
        inputs = "" if evidence.inputs is None else f", {evidence.inputs:,} inputs"
        stamp = "" if evidence.timestamp == "none" else f", timestamp {evidence.timestamp}"
        say.line(
            f"{evidence.files:,} files{inputs}, signature {evidence.signature}{stamp}: "
            + (_differences(len(evidence.problems)) if evidence.problems else "as written")
        )
    return ExitCode.FINDINGS if evidence.problems else ExitCode.CLEAN


def _differences(count: int) -> str:
    return f"{count:,} difference{'' if count == 1 else 's'}"
