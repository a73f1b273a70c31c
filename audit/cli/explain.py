"""`audit explain`: one cell in sentences."""

import click
from click.shell_completion import CompletionItem

from audit.cli import groups, options, run_arguments, say
from audit.cli import words as completed
from audit.commands import explain as command
from audit.errors import ScopeError, UsageError
from audit.scope import ports


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the runs and the words for endpoints that begin so."""
    runs = run_arguments.Run().shell_complete(context, parameter, incomplete)
    endpoints = completed.complete(context, parameter, incomplete)
    return [item for item in runs if item.type != "dir"] + endpoints


@groups.command()
@click.argument(
    *("words",),
    metavar="[RUN] FROM TO [PORT]",
    nargs=-1,
    required=True,
    shell_complete=_complete,
)
@click.option("--family", type=click.Choice(["ip4", "ip6"]), help="When the run has both.")
@click.option("--raw", is_flag=True, help="The engine's own words as well.")
@options.output_option("text", "json")
def explain(*, words: tuple[str, ...], family: str | None, raw: bool, output: str) -> None:
    """Say what is known about one cell: verdict, blame, each hop, the reply.

    FROM and TO are a name (shop/front-0), a workload (deploy/front), a Service (svc/web), a node
    (node/worker), labels (app=web) or an address. Cells that come to the same are explained as
    one. PORT may be left out where its cells do. RUN is the newest below runs/ unless given.

    \b
    Examples:
      audit explain shop/front-0 default/web-0 tcp/80
      audit explain runs/20261123T043457Z-9510 deploy/front svc/web http
    """
    run, src, dst, port = _parts(words)
    explained = command.explain(run_arguments.Run()(run), src, dst, port, family=family, raw=raw)
    if output == "json":
        say.json(explained.fields)
    else:
        say.text(explained.text)


def _is_port(word: str) -> bool:
    try:
        ports.parse(word)
    except ScopeError:
        return False
    return True


def _parts(words: tuple[str, ...]) -> tuple[str, str, str, str]:
    """Return the run, the two ends and the port; a run is what is there, or `latest`, or a day."""
    three = len(words) == len(("SRC", "DST", "PORT"))
    # A third word that is no port is an end: then the first is a run that is not there.
    whole = len(words) > len(("SRC", "DST", "PORT")) or run_arguments.names_run(words[0])
    whole = whole or (three and not _is_port(words[2]))
    run, *ends = words if whole else (run_arguments.LATEST, *words)
    if len(ends) not in (2, 3):
        raise UsageError(
            "explain takes [RUN] FROM TO [PORT], as in: audit explain shop/front default/web tcp/80"
        )
    src, dst, port = (*ends, "")[:3]
    return run, src, dst, port
