"""`audit verify`: whether a run is as the audit wrote it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
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
    help="The key that must match the signature: an Ed25519 public key (PEM or OpenSSH).",
)
@click.option(
    "--timestamp-ca",
    "authorities",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The authority that must vouch for the timestamp: its certificates (PEM).",
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
            say.message("error", problem)
        say.line(" ".join(_sentences(evidence)), colour=_COLOURS[bool(evidence.problems)])
    return ExitCode.FINDINGS if evidence.problems else ExitCode.CLEAN


_COLOURS = {False: "green", True: "red"}


def _sentences(evidence: command.Evidence) -> Iterator[str]:
    """Yield what was compared, and how that came out, last the signature and the timestamp."""
    compared = _counted(evidence.files, "file")
    if evidence.inputs is not None:
        compared += f" and {_counted(evidence.inputs, 'input')}"
    if evidence.problems:
        yield f"{compared} were compared: {_counted(len(evidence.problems), 'difference')}."
    else:
        yield f"{compared} {'is' if compared == '1 file' else 'are'} unchanged."
    yield _SIGNATURES[evidence.signature]
    if evidence.timestamp in _TIMESTAMPS:
        yield _TIMESTAMPS[evidence.timestamp]
    elif evidence.timestamp != "none":
        yield f"The signature was there at {evidence.timestamp}."


_SIGNATURES = {
    "none": "The run is not signed.",
    "missing": "The run is not signed.",
    "not checked": "The signature was not checked (give --key).",
    "good": "The signature is good.",
    "bad": "The signature is bad.",
}
_TIMESTAMPS = {
    "missing": "The run has no timestamp.",
    "not checked": "The timestamp was not checked (give --timestamp-ca).",
    "bad": "The timestamp is bad.",
}


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
