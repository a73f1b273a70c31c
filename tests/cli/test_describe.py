"""docs/commands.md is printed from the commands."""

from tests.cli.describe import describe
from tests.conftest import REPOSITORY


def test_the_page_is_what_the_commands_say() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == describe(), "docs/commands.md is stale: make reference"
