"""`audit who`: who can reach something, and who cannot."""

import click

from audit.cli import answer, groups, options
from audit.cli.answer import Subject


@groups.command()
@click.argument("to", metavar="[TO]", default="")
@click.option("--from", "source", metavar="FROM", default="", help="Only from these.")
@options.ports_option
@answer.subject_options
@options.output_option(*answer.FORMATS)
def who(*, to: str, source: str, ports: tuple[str, ...], subject: Subject, output: str) -> None:
    """Say who can reach TO and who cannot, and what stops them, by workload.

    Without TO, who can reach whom.

    TO and FROM are a name (shop/web), a workload (deploy/web), a Service (svc/web), a node
    (node/worker), a namespace (ns/shop), labels (app=web), or an address. The answer is that of
    the newest run, unless --run, --snapshot, --live or --manifests name something else to ask.

    \b
    Examples:
      audit who default/web -p tcp/80
      audit who -o csv
      audit who app=db --from ns/shop --run runs/20261123T043457Z-9510 -o json
      audit who shop/db --snapshot cluster.tar.gz
      audit who shop/db --context prod
      audit who svc/web -o dot | dot -Tsvg > web.svg
    """
    reach = answer.answered(subject, source=source, destination=to, ports=ports)
    answer.show(reach.paths, {"run": reach.run or None}, output)
