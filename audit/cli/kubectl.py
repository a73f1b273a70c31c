"""`kubectl_complete-ovn_audit`: what kubectl calls to complete `kubectl ovn-audit …`."""

import sys

from click.shell_completion import ShellComplete

from audit.cli import later, say
from audit.cli.main import audit

_DIRECTIVES = {"file": 0, "dir": 16}
"""What a shell completes itself, as cobra's directives, which kubectl hands on."""
_NO_FILES = 4
"""Cobra's directive of words that are all there are."""


def main() -> None:
    """Print what may come next, a word a line, and last how a shell is to go on.

    The arguments are those after `kubectl ovn-audit`; the last is the word that is begun.
    """
    later.install()
    *typed, begun = sys.argv[1:] or [""]
    completing = ShellComplete(audit, {}, "audit", "_AUDIT_COMPLETE")
    directive = _NO_FILES
    for item in completing.get_completions(typed, begun):
        if item.type in _DIRECTIVES:
            directive = _DIRECTIVES[item.type]
        else:
            say.line(item.value)
    say.line(f":{directive}")
