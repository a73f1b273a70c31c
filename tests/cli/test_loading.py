"""What is loaded to say a command's help, or to complete its words: options, and no library."""

import os
import subprocess
import sys

import pytest

from audit.cli.main import COMMANDS

HEAVY = frozenset(
    {
        *("numpy", "pyarrow", "duckdb", "kubernetes", "websocket", "ray", "jinja2", "yaml"),
        *("msgspec", "cryptography", "rfc3161_client", "jsonschema_rs", "kubernetes_validate"),
    }
)
ENDING = "import atexit, sys; atexit.register(lambda: print('\\n'.join(sys.modules)))"


def loaded(code: str, *arguments: str, **environment: str) -> set[str]:
    """Return the top-level modules that a process has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", f"{ENDING}\n{code}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    modules = {line.partition(".")[0] for line in done.stdout.splitlines()}
    assert "click" in modules, done.stderr
    return modules


LOAD = """
from audit.cli.main import load
for name in sys.argv[1:]:
    load([name, "--help"])
"""


def test_no_commands_options_load_a_library() -> None:
    """All of them in one process: what one loads, the set of all has."""
    assert loaded(LOAD, *COMMANDS).isdisjoint(HEAVY)


def test_the_check_notices_a_library() -> None:
    assert HEAVY & loaded("from audit.cli.main import load\nload(['explain'])") >= {
        "numpy",
        "pyarrow",
    }


COMPLETING = {"_AUDIT_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
CALL = """
import sys
from audit.__main__ import main
sys.argv = ["audit", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("explain", "--help"), {}),
        (
            (),
            {"_AUDIT_COMPLETE": "bash_complete", "COMP_WORDS": "audit run --co", "COMP_CWORD": "2"},
        ),
    ],
    ids=["help", "an option is completed"],
)
def test_help_and_completion_load_no_library(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert loaded(CALL, *arguments, **environment).isdisjoint(HEAVY)


def test_nothing_is_put_off_any_more_once_a_command_may_begin() -> None:
    """Threads that use a lazy module at once race for it: one of them may see half of it."""
    code = """
from audit.cli import later, progress
assert not [f for f in sys.meta_path if type(f).__module__ == "audit.cli.later"]
from audit.cli.main import load
load(["run", "--help"])
assert any(type(f).__module__ == "audit.cli.later" for f in sys.meta_path)
load(["run"])
assert not any(type(f).__module__ == "audit.cli.later" for f in sys.meta_path)
assert not [m for m in sys.modules.values() if type(m).__name__ == "_LazyModule"]
print("all there")
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "all there\n", done.stderr
