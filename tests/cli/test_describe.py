"""docs/commands.md is printed from the commands."""

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_the_page_is_what_the_commands_say() -> None:
    """Printed by a process of its own: click keeps what it was first asked of a command."""
    page = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    command = (sys.executable, "-m", "tests.cli.describe")
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert page == printed.stdout, "docs/commands.md is stale: make reference"
