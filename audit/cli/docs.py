"""`audit docs`: the documentation of this version, without a network."""

import re
import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

import audit
from audit.cli import say
from audit.errors import UsageError
from audit.scope.suggestions import did_you_mean

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
"""What is meant for the tests of the pages, and shown nowhere."""
_WIDEST = 110
"""Columns of a page on a terminal: longer lines are hard to read."""


def _directory() -> Path:
    """Return where the pages are: in the package when installed, else in the checkout."""
    package = Path(audit.__file__).parent
    installed = package / "docs"
    return installed if installed.is_dir() else package.parent / "docs"


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del context, parameter
    pages = sorted(file.stem for file in _directory().glob("*.md"))
    return [CompletionItem(page) for page in pages if page.startswith(incomplete)]


@click.command()
@click.argument("page", required=False, shell_complete=_complete)
def docs(*, page: str | None) -> None:
    """Print a page of the documentation, or without PAGE list the pages and where they are.

    \b
    Examples:
      audit docs
      audit docs expectations | less
      audit docs docs/runs.md
    """
    pages = {file.stem: file for file in sorted(_directory().glob("*.md"))}
    if page is None:
        width = max(map(len, pages)) + 2
        for name, file in pages.items():
            title = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            say.line(f"{name:<{width}}{title}")
        say.line(f"The pages are in {_directory()}.")
        return
    name = page.removeprefix("docs/").partition("#")[0].removesuffix(".md")
    if name not in pages:
        raise UsageError(
            f"there is no page {page!r}; `audit docs` lists them{did_you_mean(name, tuple(pages))}"
        )
    text = _COMMENT.sub("", pages[name].read_text(encoding="utf-8"))
    if not sys.stdout.isatty():
        say.text(text)
        return
    from rich.console import Console  # noqa: PLC0415 - loaded where a page is read
    from rich.markdown import Markdown  # noqa: PLC0415
    from rich.theme import Theme  # noqa: PLC0415

    console = Console(theme=Theme({"markdown.code": "bold"}))  # on black it would be by default
    console.width = min(console.width, _WIDEST)
    console.print(Markdown(text, code_theme="ansi_light", hyperlinks=False))
