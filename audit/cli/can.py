"""`audit can`: whether something can reach something else, as an exit code."""

import click

from audit.cli import answer, groups, options, say, words
from audit.cli.answer import Subject
from audit.commands import who as command


@groups.command()
@click.argument("source", metavar="FROM", shell_complete=words.complete)
@click.argument("to", metavar="TO", shell_complete=words.complete)
@click.argument("port", metavar="[PORT]", default="", shell_complete=words.complete_port)
@options.ports_option
@answer.subject_options
@answer.output_option
def can(
    *,
    source: str,
    to: str,
    port: str,
    ports: tuple[str, ...],
    subject: Subject,
    output: str,
) -> int:
    """Say whether FROM can reach TO on PORT: yes, no, partly, or unproven.

    Without PORT, on every port of TO that the run has, or of a cluster that TO declares. The answer
    is that of the newest run, unless --run, --snapshot, --live or --manifests name something else
    to ask; then nothing but this is traced, and no run is left. Exit codes: 0 yes; 1 no, or not all
    of it; 2 usage; 3 not proven; 4 could not run.

    \b
    Examples:
      audit can shop/front default/web tcp/80
      audit can deploy/front svc/web http --snapshot cluster.tar.gz
      audit can shop/front 198.51.100.7 443 --context prod
      audit can deploy/front deploy/db 5432 --manifests deploy/
    """
    ports = answer.ports_of(port, ports)
    question = command.Question(sources=(source,), destination=to, ports=ports)
    reach = answer.answered(subject, question)
    if output in ("text", "wide"):
        say.line(str(reach.answer), colour=answer.COLOURS[reach.answer])
    fields = {"run": reach.run or None, "answer": str(reach.answer)}
    answer.show(reach.paths, fields, output)
    return reach.exit_code
