"""`audit probe`: real connections from the pods themselves."""

from __future__ import annotations

from pathlib import Path

import click

from audit.cli import groups, options, progress, run_arguments, say, words
from audit.commands import probe as command
from audit.commands import snapshot as snapshots
from audit.errors import UsageError
from audit.model.options import MOST_PROBES
from audit.model.packets import Family
from audit.model.probes import Response


@groups.command()
@run_arguments.run_argument()
@click.option(
    "--sample",
    type=click.IntRange(min=1, max=MOST_PROBES),
    metavar="K",
    help="Draw K cells at random: half that pass, half that are stopped; none to addresses "
    "outside.",
)
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAMESPACE",
    shell_complete=words.complete_namespace,
    help="Draw only cells whose ends are in this namespace, or are nodes. Repeatable.",
)
@click.option(
    "--pair",
    "pairs",
    type=(str, str, str),
    multiple=True,
    metavar="FROM TO PORT",
    shell_complete=words.complete,
    help="The cells of a pair, as audit explain takes them. Repeatable.",
)
@click.option("--family", type=click.Choice(["ip4", "ip6"]), help="Default: all the run has.")
@click.option(
    "--image",
    metavar="IMAGE",
    help="For pods whose images have no client: add an ephemeral container of IMAGE. Kubernetes "
    "keeps its record until the pod is gone.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(min=1, max=60),
    default=3,
    show_default=True,
    metavar="SECONDS",
    help="How long a connection may take.",
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1, max=64),
    default=8,
    show_default=True,
    help="Connections at a time.",
)
@options.which_cluster_options
@options.quiet_option
@options.output_option("text", "json")
def probe(
    *,
    run: Path,
    sample: int | None,
    namespaces: tuple[str, ...],
    pairs: tuple[tuple[str, str, str], ...],
    family: str | None,
    image: str | None,
    timeout_s: int,
    at_once: int,
    access: snapshots.Access,
    quiet: bool,
    output: str,
) -> int:
    """Try real connections from the pods themselves, for some cells of a run.

    Each is a TCP connection that a program of the pod's own image opens and closes by exec: nc,
    bash, wget, python3 or curl, the first that is there. What comes back is a plane of the run,
    `probe`: its report, `audit explain` and the findings have it. A connection that is accepted
    proves that packets pass; nothing proves that they are stopped, so silence is inconclusive. This
    takes a role of its own (jobs/probe). Exit codes: 1 when a connection passes that the run says
    is stopped; 3 when one could not be tried.

    \b
    Examples:
      audit probe latest --sample 50
      audit probe latest --sample 50 -n shop -n default
      audit probe latest --pair shop/front-0 default/web-0 tcp/80 --pair deploy/front svc/web http
      audit probe latest --pair shop/front-0 default/web-0 80 --image busybox:1.37
    """
    if not sample and not pairs:
        raise UsageError("say what to probe: --sample K, or --pair FROM TO PORT")
    if namespaces and not sample:
        raise UsageError("--namespace says where --sample K draws; a --pair names its own")
    run_arguments.require_written(run, "copy it here with audit copy, and probe the copy")
    request = command.Request(
        sample=sample or 0,
        namespaces=namespaces,
        pairs=pairs,
        family=None if family is None else Family(family),
        access=access,
        image=image or "",
        timeout_s=timeout_s,
        at_once=at_once,
    )
    with progress.shown(quiet=quiet) as shown:
        probing = command.probe(run, request, shown)
    _show(probing, output)
    return probing.exit_code


def _show(probing: command.Probing, output: str) -> None:
    """Print two lines per connection, or JSON."""
    if output == "json":
        say.json({"run": str(probing.path), "probes": probing.records})
        return
    for record in probing.records:
        say.line(
            f"{record['cell']}: {record['response']}", colour="red" if record["drift"] else None
        )
        why = record["detail"] if record["response"] == Response.NOT_SENT else record["meaning"]
        say.line(f"  {why}; by the run {record['expected']}")
