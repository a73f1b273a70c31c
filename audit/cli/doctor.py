"""`audit doctor`: what is here, and what to do about what is not."""

from __future__ import annotations

import re
from pathlib import Path

import click

from audit.cli import engines, groups, options, say
from audit.commands import doctor as doctoring
from audit.commands import snapshot as snapshots
from audit.errors import ExitCode, UsageError
from audit.report import printing

_STATUSES = {"ok": "green", "missing": "red"}


@groups.command()
@click.option(
    "--ovn-prefix",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="AUDIT_OVN_PREFIX",
    help="An OVN installation to look at, or where to install one.",
)
@click.option(
    "--install-ovn",
    is_flag=True,
    help="Install an OVN beside the system's: from the distribution's packages, into a directory "
    "of its own. Needs no root and touches nothing else. With --snapshot, one that is new enough "
    "for that, unless there is one.",
)
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    help="Also say whether this snapshot can be audited here.",
)
@options.max_snapshot_size_option
@click.option(
    "--at-least",
    metavar="RELEASE",
    default="",
    help="With --install-ovn: not older than this release of OVN (26.03), for a live cluster.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Also look at the live cluster: rights, where the databases are, whether they answer.",
)
@options.cluster_options
@options.output_option("text", "json")
def doctor(
    *,
    ovn_prefix: Path | None,
    install_ovn: bool,
    snapshot: Path | None,
    max_snapshot_size: int,
    at_least: str,
    live: bool,
    access: snapshots.Access,
    output: str,
) -> int:
    """Say what is installed and whether it is enough, and install what is missing.

    \b
    Examples:
      audit doctor
      audit doctor --install-ovn
      audit doctor --snapshot cluster.tar.gz
      audit doctor --install-ovn --snapshot cluster.tar.gz
      audit doctor --install-ovn --at-least 26.03
      audit doctor --live --context prod
    """
    _check_release(at_least, alone=install_ovn and snapshot is None)
    if install_ovn:
        installed = doctoring.install_engine(
            ovn_prefix,
            snapshot=snapshot,
            most_unpacked=max_snapshot_size,
            needed=at_least,
            progress=engines.tell,
        )
        say.line(f"ok: OVN {installed.version} in {installed.where}")
        return ExitCode.CLEAN
    findings = doctoring.examine(ovn_prefix, snapshot, most_unpacked=max_snapshot_size)
    if live:
        findings += doctoring.examine_cluster(access)
    if output == "json":
        say.json([finding.fields() for finding in findings])
    else:
        for finding in findings:
            status = "ok" if finding.good else "missing"
            say.text(f"{status}: {printing.line(finding.text)}\n", words=_STATUSES)
    good = all(finding.good for finding in findings)
    return ExitCode.CLEAN if good else ExitCode.COULD_NOT_RUN


def _check_release(release: str, *, alone: bool) -> None:
    """Refuse --at-least unless an installation is `alone` asked for, and what is no release."""
    if release and not alone:
        raise UsageError("--at-least goes with --install-ovn, and instead of --snapshot")
    if release and not re.fullmatch(r"\d+\.\d+(\.\d+)?", release):
        raise UsageError(f"{release!r} is no release of OVN; write 26.03")
