"""Where runs are, as arguments: a directory, or `s3://BUCKET/PREFIX` on an object store.

A run that is named there is fetched before the command that reads it begins, so no command knows
of it; the copy lasts as long as the command. Errors about the copy name the run.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from audit.commands import copy as command
from audit.errors import AuditError, UsageError
from audit.model.options import Part
from audit.store import layout

_FETCHED = "audit.cli.run_arguments"
"""Where a click context keeps what the runs at these paths are called."""

RUNS = "runs"
"""Where runs are written and looked for unless told otherwise."""
LATEST = "latest"


class DirectoryOrStore(click.ParamType[Any]):
    """A directory here or on an object store, neither of which is looked at yet."""

    name = "dir|s3://…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | command.RemoteDirectory:
        """Return the path, or the remote directory."""
        del param, ctx
        return value if isinstance(value, Path) else command.located(str(value))


class Run(DirectoryOrStore):
    """A finished run: its directory, or that of a copy of the part that is needed."""

    name = "run"

    def __init__(self, part: Part = Part.TABLES) -> None:
        self._part = part

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return `latest`, the runs below `runs`, and else directories."""
        del ctx, param
        runs = [LATEST, *(str(run) for run in layout.finished(Path(RUNS)))]
        begun = [CompletionItem(run) for run in runs if run.startswith(incomplete)]
        return begun or [CompletionItem(incomplete, type="dir")]

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Return where the run can be read; `latest` and a day mean the newest below `runs`."""
        run = super().convert(newest(value), param, ctx)
        if isinstance(run, Path):
            return run
        context = ctx or click.get_current_context()
        path = command.fetched(run, context.with_resource(ExitStack()), self._part)
        context.meta.setdefault(_FETCHED, {})[str(path)] = str(run)
        return path


_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


def names_run(text: str) -> bool:
    """Say whether a word is a run, where it may also be an end of a cell."""
    named = text == LATEST or _DAY.fullmatch(text) is not None
    return named or "://" in text or Path(text).is_dir()


def newest(value: object) -> object:
    """Return the newest finished run that `latest` or a day means, and anything else as it is.

    UsageError when there is none.
    """
    if not isinstance(value, str) or Path(value).exists():
        return value
    day = _DAY.fullmatch(value)
    if day is None and value != LATEST:
        return value
    runs = layout.finished(Path(RUNS), "".join(day.groups()) if day else "")
    if not runs:
        of_day = f" of {value}" if day else ""
        raise UsageError(f"there is no finished run{of_day} below {RUNS}/; name one with its path")
    return runs[0]


class RunOrManifests(Run):
    """What `audit diff` compares: a run, else text that names manifests."""

    def convert(  # type: ignore[override]  # what names manifests is no path to be normalised
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return a run's directory, or the text as it is."""
        text = str(newest(value))
        return str(super().convert(text, param, ctx)) if "://" in text else text


def require_written(run: Path, advice: str) -> None:
    """Refuse to write into a copy that is about to go; UsageError with the run and the advice."""
    name = click.get_current_context().meta.get(_FETCHED, {}).get(str(run))
    if name is not None:
        raise UsageError(f"{name} is on an object store, where it is only read; {advice}")


def rename(error: AuditError, context: click.Context) -> None:
    """Have an error name runs as they were named to the command."""
    text = str(error)
    for path, name in context.meta.get(_FETCHED, {}).items():
        text = text.replace(path, name)
    error.args = (text,)
