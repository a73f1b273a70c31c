"""All that a command prints goes through here, whatever its words are made of.

A file's name, a cluster's names and another program's words are anyone's to choose; none of them is
obeyed by a terminal or takes a line for itself. (ruff forbids `click.echo` and `print` elsewhere.)
"""

from typing import Any

import click

from audit.report import printing


def line(text: str, *, err: bool = False, colour: str | None = None) -> None:
    """Print a line; on stderr with `err`."""
    shown = printing.line(text)
    click.echo(click.style(shown, fg=colour, bold=True) if colour else shown, err=err)


def text(lines: str, *, end: str = "", err: bool = False, colour: str | None = None) -> None:
    """Print a text of several lines, as a format or a report made it."""
    shown = printing.printable(lines)
    click.echo(
        (click.style(shown, fg=colour, bold=True) if colour else shown) + end, nl=False, err=err
    )


def json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print JSON."""
    click.echo(printing.json_text(value))


def yaml(value: Any) -> None:  # noqa: ANN401 - as above
    """Print YAML in plain ASCII: what a terminal might obey is escaped."""
    import yaml as pyyaml  # noqa: PLC0415 - takes as long to load as the whole of `audit --help`

    click.echo(pyyaml.safe_dump(value, sort_keys=False, width=100), nl=False)
