"""`audit check`: named expectations against a run."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from audit.cli import groups, options, progress, run_arguments, say
from audit.commands import check as command
from audit.commands import report as reports
from audit.errors import ExitCode, UsageError
from audit.model import expectations as expecting
from audit.model.options import Format, Part


@groups.command()
@run_arguments.run_argument(Part.CELLS)
@options.expectations_options
@click.option(
    "--baseline", is_flag=True, help="Print expectations that describe the run as it is, instead."
)
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also when an expectation fails.")
@options.quiet_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", *map(str, Format)]),
    default="text",
    show_default=True,
    help="How to print the result. html renders the run's page with it, and prints its path.",
)
def check(
    *,
    run: Path,
    file: Path | None,
    packs: tuple[str, ...],
    baseline: bool,
    exit_zero: bool,
    quiet: bool,
    output: str,
) -> int:
    """Check who should and should not reach whom, against what a run proved.

    Exits with 1 unless every expectation is satisfied or waived; what is unproven satisfies none.

    \b
    Examples:
      audit check runs/20261123T043457Z-9510 -f expectations.yaml -o junit > audit.xml
      audit check runs/20261123T043457Z-9510 --pack namespace-isolation --pack default-deny
      audit check latest --pack pci-dss -f waivers.yaml -o html
      audit check runs/20261123T043457Z-9510 --baseline > expectations.yaml
    """
    if baseline:
        if file is not None or packs:
            raise UsageError("--baseline makes expectations; it checks none")
        with progress.shown(quiet=quiet) as shown:
            text = command.baseline(run, shown)
        say.text(text)
        return ExitCode.CLEAN
    expected = command.read_expectations(file, packs)
    if output == Format.HTML:
        run_arguments.require_written(run, "use audit report RUN -f FILE --pack NAME --out DIR")
    today = dt.datetime.now(dt.UTC).date()
    with progress.shown(quiet=quiet) as shown:
        overview = command.check(run, expected, today, shown)
    if output == Format.HTML and reports.is_signed(run):
        named = [*(("-f", file) if file else ()), *(w for name in packs for w in ("--pack", name))]
        run_arguments.say_signed(run, *named)
    elif output == Format.HTML:
        checks = expecting.Checks(day=today, expectations=overview.checks)
        say.line(str(reports.write_report(run, checks=checks).absolute()))
    elif output == "text":
        say.text(command.checked_text(overview.checks), words=say.STATUSES)
    else:
        say.text(command.rendered(overview, Format(output)))
    failed = any(not checked.status.passes for checked in overview.checks)
    return ExitCode.FINDINGS if failed and not exit_zero else ExitCode.CLEAN
