"""`audit completion`: what a shell needs to complete the command line."""

import click
from click.shell_completion import get_completion_class

from audit.cli import groups, say
from audit.errors import UsageError


@groups.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the script that completes audit's words in a shell.

    \b
    Examples:
      source <(audit completion bash)
      audit completion zsh > "${fpath[1]}/_audit"
      audit completion fish > ~/.config/fish/completions/audit.fish
    """
    of_shell = get_completion_class(shell)
    if of_shell is None:
        raise UsageError(f"there is no completion for {shell}")
    root = context.find_root()
    say.text(of_shell(root.command, {}, "audit", "_AUDIT_COMPLETE").source())
