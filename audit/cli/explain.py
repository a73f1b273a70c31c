"""`audit explain`: one cell in sentences."""

from pathlib import Path

import click

from audit.cli import options, say
from audit.commands import explain as command


@click.command()
@options.run_argument
@click.argument("src")
@click.argument("dst")
@click.argument("port")
@click.option("--family", type=click.Choice(["ip4", "ip6"]), help="When the run has both.")
@click.option("--raw", is_flag=True, help="The engine's own words as well.")
@options.output_option("text", "json")
def explain(
    *, run: Path, src: str, dst: str, port: str, family: str | None, raw: bool, output: str
) -> None:
    """Say what is known about one cell: verdict, blame, each hop, the reply.

    SRC and DST are NAMESPACE/NAME for a pod or service, node/NAME, or an address.

    \b
    Example:
      audit explain runs/20261123T043457Z-9510 shop/front-0 default/web-0 tcp/80
    """
    explained = command.explain(run, src, dst, port, family=family, raw=raw)
    if output == "json":
        say.json(explained.fields)
    else:
        say.text(explained.text)
