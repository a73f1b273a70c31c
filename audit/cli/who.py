"""`audit who`: who can reach something, and who cannot."""

import click

from audit.cli import answer, groups, options, words
from audit.cli.answer import Subject
from audit.commands import who as command


@groups.command()
@click.argument("to", metavar="[TO]", default="", shell_complete=words.complete)
@click.argument("port", metavar="[PORT]", default="", shell_complete=words.complete_port)
@click.option(
    *("--from", "sources"),
    metavar="FROM",
    multiple=True,
    shell_complete=words.complete,
    help="Only from these. Repeatable: from any of them.",
)
@options.ports_option
@answer.subject_options
@answer.output_option
def who(
    *,
    to: str,
    port: str,
    sources: tuple[str, ...],
    ports: tuple[str, ...],
    subject: Subject,
    output: str,
) -> None:
    """Say who can reach TO and who cannot, and what stops them, by workload.

    Without TO, who can reach whom.

    TO and FROM are a name (shop/web), a workload (deploy/web), a Service (svc/web), a node
    (node/worker), a namespace (ns/shop), labels (app=web), or an address. The answer is that of
    the newest run, unless --run, --snapshot, --live or --manifests name something else to ask.

    \b
    Examples:
      audit who default/web tcp/80
      audit who default/web -p tcp/80 -p tcp/443 --from ns/prod --from ns/staging
      audit who -o csv
      audit who app=db --from ns/shop --run runs/20261123T043457Z-9510 -o json
      audit who shop/db --snapshot cluster.tar.gz
      audit who shop/db --context prod
      audit who svc/web -o svg > web.svg
    """
    question = command.Question(sources=sources, destination=to, ports=answer.ports_of(port, ports))
    reach = answer.answered(subject, question)
    answer.show(reach.paths, {"run": reach.run or None}, output)
