"""Prints `docs/commands.md` from the commands, so that the page cannot say something else.

`python -m tests.cli.describe > docs/commands.md` makes the page anew.
"""

import sys
from collections.abc import Iterator

import click

from audit.cli.main import COMMANDS, audit

_HEAD = """\
# Commands and options

<!-- Printed by `python -m tests.cli.describe > docs/commands.md`: edit the commands, not this. -->

What `--help` prints, of every command. Each option can also come from an environment variable or \
a file ([options.md](options.md)); [exit codes](verdicts.md#exit-codes) are the same for all.
"""
_WIDTH = 100


def describe() -> str:
    """Return the text of `docs/commands.md`."""
    parts = [_HEAD, *_section("audit", audit, None)]
    above = click.Context(audit, info_name="audit", terminal_width=_WIDTH)
    for name in sorted(COMMANDS):
        command = audit.get_command(above, name)
        assert command is not None, name
        parts += _section(f"audit {name}", command, above)
    return "".join(parts)


def _section(title: str, command: click.Command, above: click.Context | None) -> Iterator[str]:
    """Yield the section of one command."""
    name = title.rpartition(" ")[2]
    context = click.Context(command, info_name=name, parent=above, terminal_width=_WIDTH)
    yield f"\n## {title}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(describe())
