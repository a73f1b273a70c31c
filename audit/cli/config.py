"""Options from a file and from the environment, for what is the same each time.

A file in TOML has a flag's name as key, for every command that has the flag, and below `[run]` and
the like for one. A variable is `AUDIT_`, the command, and the flag: `AUDIT_RUN_OUT`. What is typed
goes before a variable, a variable before the file, and in the file a command's section before the
rest.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from audit.cli.groups import FLAGS, flag_of
from audit.errors import AuditError, UsageError

NAME = Path("ovn-audit/config.toml")
RUNS = "runs"
"""Where runs are written and looked for unless told otherwise."""
_NEVER = frozenset({"help", "version", "debug", "config"})


def default_path() -> Path:
    """Return where the file is looked for unless another is named (XDG Base Directory)."""
    above = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is to be ignored, the specification says.
    root = Path(above) if above.startswith("/") else Path.home() / ".config"
    return root / NAME


def read(path: Path | None) -> Mapping[str, Any]:
    """Return what the file at `path` says, that at the usual place without one, which may lack.

    UsageError when it cannot be read, or is no TOML.
    """
    source = path or default_path()
    if path is None and not source.exists():
        return {}
    import tomllib  # noqa: PLC0415 - takes a fifth of the time of `audit --help`, which needs none

    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"--config {source}: there is no such file") from error
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{source} is no TOML: {error}") from error


def defaults(
    content: Mapping[str, Any], command: click.Command, commands: Collection[str], source: Path
) -> dict[str, Any]:
    """Return what a file says of a command's options, by their parameters' names.

    UsageError when a key is the name of no flag, or a section of no command.
    """
    from audit.scope.suggestions import did_you_mean  # noqa: PLC0415 - as above

    options = _options(command)
    chosen: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            if key not in commands:
                hint = did_you_mean(key, commands)
                raise UsageError(f"{source}: no command is called {key!r}{hint}")
        elif key in options:
            chosen[str(options[key].name)] = _value(value, options[key], key, source)
        elif key in _NEVER or key.startswith("-"):
            raise UsageError(f"{source}: {key!r} cannot be set; write a flag without its dashes")
        elif key not in FLAGS:
            hint = did_you_mean(key, FLAGS - _NEVER)
            raise UsageError(f"{source}: no command has an option {key!r}{hint}")
    section = content.get(str(command.name), {})
    for key, value in section.items():
        if key not in options:
            hint = did_you_mean(key, options)
            raise UsageError(f"{source}: `audit {command.name}` has no option {key!r}{hint}")
        chosen[str(options[key].name)] = _value(value, options[key], key, source)
    return chosen


def runs_root(context: click.Context) -> str:
    """Return where runs are kept, as typed: what `audit run` takes as --out where none is typed.

    UsageError when the file of options cannot be read.
    """
    spelled = os.environ.get("AUDIT_RUN_OUT")
    if spelled:
        return spelled
    content = read(context.find_root().params.get("file"))
    of_run = content.get("run")
    out = of_run.get("out") if isinstance(of_run, Mapping) else None
    return str(out or content.get("out") or RUNS)


def variable_of(context: click.Context, parameter: click.Parameter) -> str:
    """Return the variable that a parameter's value was read from; empty when it was not."""
    source = context.get_parameter_source(str(parameter.name))
    if source is not click.core.ParameterSource.ENVIRONMENT:
        return ""
    spelled = parameter.envvar or ()
    names = [spelled] if isinstance(spelled, str) else [*spelled]
    return next((name for name in names if os.environ.get(name)), "")


def name_variable(error: AuditError, context: click.Context) -> None:
    """Have an error about a value name the variable that the value was read from."""
    text = str(error)
    for parameter in context.command.params:
        variable = variable_of(context, parameter)
        if variable and any(_mentions(text, word) for word in os.environ[variable].split()):
            error.args = (f"from {variable}: {text}",)
            return


def _mentions(text: str, word: str) -> bool:
    """Say whether a sentence has a word of a value, quoted or long enough to be meant."""
    alone = re.search(rf"(?<![\w/.-]){re.escape(word)}(?![\w/-])", text)
    return repr(word) in text or (len(word) >= _LONG and alone is not None)


_LONG = 3
"""Characters with which a word is hardly in a sentence by chance."""


def _options(command: click.Command) -> dict[str, click.Option]:
    options = (
        option
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    )
    return {flag_of(option): option for option in options if flag_of(option) not in _NEVER}


def _value(value: object, option: click.Option, key: str, source: Path) -> object:
    """Return a value as click takes it: several where an option may be repeated."""
    if isinstance(value, list) and not option.multiple:
        raise UsageError(f"{source}: {key!r} takes one value, and a list is given")
    if isinstance(value, bool) is not bool(option.is_flag and not option.multiple):
        raise UsageError(
            f"{source}: {key!r} takes "
            + ("true or false" if option.is_flag else "no true or false")
        )
    if option.multiple and not isinstance(value, list):
        return [value]
    return value


def name_variables(command: click.Command) -> None:
    """Have every option of a command read the variable that is spelled as its flag.

    click's own variables are spelled as the parameter, which nobody sees.
    """
    for flag, option in _options(command).items():
        spelled = f"AUDIT_{command.name}_{flag}".upper().replace("-", "_")
        named = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
        if spelled not in named:
            option.envvar = [spelled, *named]
