"""`audit can`: whether something can reach something else, as an exit code."""

from pathlib import Path

import click

from audit.cli import options, say
from audit.commands import who as command
from audit.report import who as report


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("to", metavar="TO")
@click.argument("port", metavar="[PORT]", default="")
@options.run_option
@options.output_option("text", "wide", "json")
def can(*, source: str, to: str, port: str, run: Path, output: str) -> int:
    """Say whether FROM can reach TO on PORT: yes, no, partly, or unproven.

    Without PORT, on every port of TO that the run has. Exit codes: 0 yes; 1 no, or not all of it;
    2 usage; 3 not proven.

    \b
    Examples:
      audit can shop/front default/web tcp/80
      audit can deploy/front svc/web http --run latest
    """
    reach = command.reach(run, source=source, destination=to, ports=(port,) if port else ())
    if output == "json":
        paths = [report.fields(path) for path in reach.paths]
        say.json({"run": reach.run, "answer": str(reach.answer), "paths": paths})
    else:
        say.line(str(reach.answer))
        say.text(report.text(reach.paths, wide=output == "wide"))
    return reach.exit_code
