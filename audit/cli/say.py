"""All that a command prints goes through here, whatever its words are made of.

A file's name, a cluster's names and another program's words are anyone's to choose; none of them is
obeyed by a terminal or takes a line for itself. (ruff forbids `click.echo` and `print` elsewhere.)
Colours are click's: on a terminal only, and nowhere with NO_COLOR (no-color.org) or TERM=dumb.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import click

from audit.report import printing

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
"""Of the word that a message begins with."""

PASSES, STOPPED, UNPROVEN = "green", "red", "yellow"
"""The colours of what becomes of packets, wherever it is said."""
VERDICTS = {
    **dict.fromkeys(("reachable", "exits"), PASSES),
    **dict.fromkeys(("blocked", "unroutable"), STOPPED),
    **dict.fromkeys(("inconclusive", "untraced"), UNPROVEN),
}
"""The colours of verdicts, which are loaded later."""

STATUSES = {
    **dict.fromkeys(("satisfied", "waived"), PASSES),
    **dict.fromkeys(("violated", "expired"), STOPPED),
    **dict.fromkeys(("unproven", "empty"), UNPROVEN),
}
"""The colours of `audit.model.expectations.Status`, which is loaded later."""

CHANGES = {"Opened": PASSES, "Closed": STOPPED}
"""The colours of the titles below which changes stand."""


def is_screen(*, err: bool = False) -> bool:
    """Say whether stdout, or stderr, is a terminal that obeys escape sequences."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _echo(shown: str, *, err: bool = False, nl: bool = True) -> None:
    """Print; whoever has stopped reading leaves the rest, and the command its own exit code."""
    try:
        click.echo(shown, err=err, nl=nl)
    except BrokenPipeError:
        print_to_nobody(err=err)


def print_to_nobody(*, err: bool = False) -> None:
    """Let what follows on stdout, or on stderr, go nowhere: its reader has gone away."""
    stream = sys.stderr if err else sys.stdout
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def line(text: str, *, err: bool = False, colour: str | None = None) -> None:
    """Print a line; on stderr with `err`."""
    _echo(_coloured(printing.line(text), colour), err=err)


def message(severity: str, text: str, *, err: bool = False, prefix: str = "") -> None:
    """Print a sentence behind `error:`, `warning:` or `note:`, or behind another prefix."""
    word = _coloured(f"{prefix or severity}:", _COLOURS.get(severity))
    _echo(f"{word} {printing.line(text)}", err=err)


def text(
    lines: str,
    *,
    end: str = "",
    err: bool = False,
    colour: str | None = None,
    words: Mapping[str, str] | None = None,
) -> None:
    """Print a text of several lines, as a format or a report made it.

    `words` are the colours of words that a line may begin with, behind spaces.
    """
    shown = printing.printable(lines)
    if words:
        shown = _with_words(shown, words)
    _echo(_coloured(shown, colour) + end, nl=False, err=err)


def _with_words(shown: str, words: Mapping[str, str]) -> str:
    """Return a text in which the first word of a line has its colour, if it has one."""
    beginning = re.compile(rf"^( *)({'|'.join(map(re.escape, words))})(?![\w-])", re.MULTILINE)
    return beginning.sub(lambda match: match[1] + _coloured(match[2], words[match[2]]), shown)


def _coloured(shown: str, colour: str | None) -> str:
    """Return a text in bold and a colour; click takes that away where no terminal is."""
    if colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return shown
    return click.style(shown, fg=colour, bold=True)


def json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print JSON."""
    _echo(printing.json_text(value))


def yaml(value: Any) -> None:  # noqa: ANN401 - as above
    """Print YAML in plain ASCII: what a terminal might obey is escaped."""
    import yaml as pyyaml  # noqa: PLC0415 - takes as long to load as the whole of `audit --help`

    _echo(pyyaml.safe_dump(value, sort_keys=False, width=100), nl=False)
