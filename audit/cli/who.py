"""`audit who`: who can reach something, and who cannot."""

from pathlib import Path

import click

from audit.cli import options, say
from audit.cli.query import show
from audit.commands import who as command
from audit.report import who as report


@click.command()
@click.argument("to", metavar="TO")
@click.option("--from", "source", metavar="FROM", default="", help="Only from these.")
@options.ports_option
@options.run_option
@options.output_option("text", "wide", "json", "csv", "name")
def who(*, to: str, source: str, ports: tuple[str, ...], run: Path, output: str) -> None:
    """Say who can reach TO and who cannot, and what stops them, by workload.

    TO and FROM are a name (shop/web), a workload (deploy/web), a Service (svc/web), a node
    (node/worker), a namespace (ns/shop), labels (app=web), or an address.

    \b
    Examples:
      audit who default/web -p tcp/80
      audit who app=db --from ns/shop --run runs/20261123T043457Z-9510 -o json
    """
    reach = command.reach(run, source=source, destination=to, ports=ports)
    if output == "json":
        say.json({"run": reach.run, "paths": [report.fields(path) for path in reach.paths]})
    elif output == "csv":
        show(report.COLUMNS, [report.row(path) for path in reach.paths], "csv")
    elif output == "name":
        sources = (path.source for path in reach.paths if path.answer is report.Answer.YES)
        say.text("".join(f"{source}\n" for source in dict.fromkeys(sources)))
    else:
        say.text(report.text(reach.paths, wide=output == "wide"))
