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
    """Return what may come next: a run or FROM, then TO, then PORT."""
    given: tuple[str, ...] = context.params.get("words") or ()
    has_run = (
        bool(given) and context.params.get("run") is None and run_arguments.names_run(given[0])
    )
    runs = []
    if not given and context.params.get("run") is None:
        runs = run_arguments.Run().shell_complete(context, parameter, incomplete)
    words = completed.complete_pair(context, parameter, incomplete, before=int(has_run))
    return [item for item in runs if item.type != "dir"] + words


@groups.command()
@click.argument(
    *("words",),
    metavar="[RUN] FROM TO [PORT]",
    nargs=-1,
    required=True,
    shell_complete=_complete,
)
@options.run_option
@click.option("--family", type=click.Choice(["ip4", "ip6"]), help="When the run has both.")
@click.option("--raw", is_flag=True, help="The engine's own words as well.")
@options.output_option("text", "json")
def explain(
    *, words: tuple[str, ...], run: str | None, family: str | None, raw: bool, output: str
) -> None:
    """Say what is known about one cell: verdict, blame, each hop, the reply.

    FROM and TO are a name (shop/front-0), a workload (deploy/front), a Service (svc/web), a node
    (node/worker), labels (app=web) or an address. Cells that come to the same are explained as
    one. PORT may be left out when all ports give the same result. RUN, in front or with
    --run, is the newest unless given.

    \b
    Examples:
      audit explain shop/front-0 default/web-0 tcp/80
      audit explain runs/20261123T043457Z-9510 deploy/front svc/web http
    """
    read_from, src, dst, port = _parts(words, run)
    explained = command.explain(
        run_arguments.Run()(read_from), src, dst, port, family=family, raw=raw
    )
    if output == "json":
        say.json(explained.fields)
    else:
        say.text(explained.text, words=_VERDICT)


_VERDICT = {f"Verdict  {verdict}": colour for verdict, colour in say.VERDICTS.items()}
"""The colours of the line with the verdict."""


def _is_port(word: str) -> bool:
    try:
        ports.parse(word)
    except ScopeError:
        return False
    return True


def _parts(words: tuple[str, ...], named: str | None) -> tuple[str, str, str, str]:
    """Return the run, the two ends and the port.

    The run is the one that is `named`, else the first word if that is one, else the newest.
    """
    if named is not None:
        return named, *_ends(words)
    three = len(words) == len(("SRC", "DST", "PORT"))
    # A third word that is no port is an end: then the first is a run that is not there.
    whole = len(words) > len(("SRC", "DST", "PORT")) or run_arguments.names_run(words[0])
    whole = whole or (three and not _is_port(words[2]))
    return (words[0], *_ends(words[1:])) if whole else (run_arguments.LATEST, *_ends(words))


def _ends(words: tuple[str, ...]) -> tuple[str, str, str]:
    """Return the two ends and the port, which may be empty; UsageError unless there are two."""
    match words:
        case (src, dst):
            return src, dst, ""
        case (src, dst, port):
            return src, dst, port
        case _:
            raise UsageError(
                "explain takes [RUN] FROM TO [PORT], as in: audit explain shop/front default/web "
                "tcp/80"
            )
