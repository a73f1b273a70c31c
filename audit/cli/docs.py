"""`audit docs`: the documentation of this version, without a network."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

import audit
from audit.cli import say
from audit.errors import UsageError
from audit.scope.suggestions import did_you_mean


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
    say.text(pages[name].read_text(encoding="utf-8"))
