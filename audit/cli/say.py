"""All that a command prints goes through here, whatever its words are made of.

A file's name, a cluster's names and another program's words are anyone's to choose; none of them is
obeyed by a terminal or takes a line for itself. (ruff forbids `click.echo` and `print` elsewhere.)
Colours are click's: on a terminal only, and nowhere with NO_COLOR (no-color.org).
"""

import os
from typing import Any

import click

from audit.report import printing

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
"""Of the word that a message begins with."""


def line(text: str, *, err: bool = False, colour: str | None = None) -> None:
    """Print a line; on stderr with `err`."""
    click.echo(_coloured(printing.line(text), colour), err=err)


def message(severity: str, text: str, *, err: bool = False, prefix: str = "") -> None:
    """Print a sentence behind `error:`, `warning:` or `note:`, or behind another prefix."""
    word = _coloured(f"{prefix or severity}:", _COLOURS.get(severity))
    click.echo(f"{word} {printing.line(text)}", err=err)


def text(lines: str, *, end: str = "", err: bool = False, colour: str | None = None) -> None:
    """Print a text of several lines, as a format or a report made it."""
    click.echo(_coloured(printing.printable(lines), colour) + end, nl=False, err=err)


def _coloured(shown: str, colour: str | None) -> str:
    """Return a text in bold and a colour; click takes that away where no terminal is."""
    if colour is None or os.environ.get("NO_COLOR"):
        return shown
    return click.style(shown, fg=colour, bold=True)


def json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print JSON."""
    click.echo(printing.json_text(value))


def yaml(value: Any) -> None:  # noqa: ANN401 - as above
    """Print YAML in plain ASCII: what a terminal might obey is escaped."""
    import yaml as pyyaml  # noqa: PLC0415 - takes as long to load as the whole of `audit --help`

    click.echo(pyyaml.safe_dump(value, sort_keys=False, width=100), nl=False)
