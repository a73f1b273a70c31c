"""Where runs are, as arguments: a directory, or `s3://BUCKET/PREFIX` on an object store.

A run that is named there is fetched before the command that reads it begins, so no command knows
of it; the copy lasts as long as the command. Errors about the copy name the run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from audit.cli import config, say
from audit.commands import copy as command
from audit.errors import AuditError, RunReadError, UsageError
from audit.model.options import Part
from audit.store import layout

_FETCHED = "audit.cli.run_arguments"
"""Where a click context keeps what the runs at these paths are called."""

LATEST = "latest"
_REPORT = "/report.html"
"""The end of what `audit run` prints last: it names the run, too."""


def runs_root(context: click.Context | None = None) -> Path | command.RemoteDirectory:
    """Return where runs are kept: a directory, or one of an object store (`config.runs_root`)."""
    return command.located(config.runs_root(context or click.get_current_context()))


def shown_root(root: Path | command.RemoteDirectory) -> str:
    """Return where runs are kept as a sentence names it: a directory below this one as `./runs`."""
    plain = isinstance(root, Path) and not root.is_absolute() and root.parts[:1] != ("..",)
    return f"./{root}" if plain else str(root)


def root_argument(command: Any) -> Any:  # noqa: ANN401 - click's decorators take any command
    """Add ROOT: a directory with runs, by default the one where they are kept."""
    return click.argument("root", type=DirectoryOrStore(), default=runs_root)(command)


class DirectoryOrStore(click.ParamType[Any]):
    """A directory here or on an object store, neither of which is looked at yet."""

    name = "dir|s3://…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | command.RemoteDirectory:
        """Return the path, or the remote directory."""
        del param, ctx
        return value if isinstance(value, Path) else command.located(str(value))


class NamedRun(DirectoryOrStore):
    """A finished run where it is, by its path or by what it is called below the runs' root."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return `latest`, the ids and the paths of runs that begin so, and else directories.

        A store is not asked: it may take seconds to answer, and a shell would wait.
        """
        del param
        named = _names(ctx, ids=bool(incomplete))
        begun = [CompletionItem(run) for run in named if run.startswith(incomplete)]
        return begun or [CompletionItem(incomplete, type="dir")]

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | command.RemoteDirectory:
        """Return where the run is; UsageError when no run or several are called so."""
        if not isinstance(value, str):
            return super().convert(value, param, ctx)
        named = _named(value, ctx)
        return super().convert(value.removesuffix(_REPORT), param, ctx) if named is None else named


class Run(NamedRun):
    """A finished run: its directory, or that of a copy of the part that is needed."""

    def __init__(self, part: Part = Part.TABLES) -> None:
        self._part = part

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Return where the run can be read."""
        return self._readable(super().convert(value, param, ctx), ctx)

    def _readable(self, run: Path | command.RemoteDirectory, ctx: click.Context | None) -> Path:
        """Return a run's directory, that of a copy where it is on an object store."""
        if isinstance(run, Path):
            return run
        context = ctx or click.get_current_context()
        path = command.fetched(run, context.with_resource(ExitStack()), self._part)
        context.meta.setdefault(_FETCHED, {})[str(path)] = str(run)
        return path


_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_BEGINNING = re.compile(r"\d{4,8}|\d{8}T[0-9a-fZ-]*", re.ASCII)
"""The beginning of a run's id, long enough to be meant as one."""


def names_run(text: str) -> bool:
    """Say whether a word is a run, where it may also be an end of a cell."""
    if text == LATEST or _DAY.fullmatch(text) is not None or "://" in text:
        return True
    if _exists(text.removesuffix(_REPORT)):
        return True
    above, slash, word = text.rpartition("/")
    if slash and (word == LATEST or _DAY.fullmatch(word)):
        return _exists(above)
    return _BEGINNING.fullmatch(text) is not None and bool(_called(text, runs_root()))


def _named(text: str, context: click.Context | None) -> Path | command.RemoteDirectory | None:
    """Return the run that is meant by `latest`, a day, or a beginning of an id; None by a path.

    The newest in another directory, or of a day there, is `DIR/latest`. UsageError when there is
    none of these, or an id begins so that is not the only one.
    """
    if _exists(text):
        return None
    above, slash, word = text.rpartition("/")
    day = _DAY.fullmatch(word)
    if slash and day is None and word != LATEST:
        return None
    root = command.located(above or "/") if slash else runs_root(context)
    if day is None and word != LATEST:
        called = _called(text, root)
        if len(called) > 1:
            names = ", ".join(run.name for run in called[:_MOST_NAMED])
            more = " …" if len(called) > _MOST_NAMED else ""
            raise UsageError(
                f"{text} is the beginning of several runs in {shown_root(root)}: {names}{more}"
            )
        return called[0] if called else None
    run = next(command.finished(root, "".join(day.groups()) if day else ""), None)
    if run is None and day and next(command.finished(root), None):
        raise UsageError(
            f"there is no run of {word} in {shown_root(root)}; `audit history` lists those it has"
        )
    if run is None:
        raise UsageError(no_runs(root))
    return run


def _exists(path: str) -> bool:
    """Say whether there is such a file; no of what can be no file's name, as a long query."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


_MOST_NAMED = 4


def no_runs(root: Path | command.RemoteDirectory) -> str:
    """Return the sentence about a directory in which there are no runs."""
    return (
        f"there are no runs in {shown_root(root)} yet: start with `audit run`, or name the "
        "directory that --out was given"
    )


def require_root(root: Path | command.RemoteDirectory) -> None:
    """Refuse a directory that is not there: RunReadError says how there come to be runs."""
    if isinstance(root, Path) and not root.exists():
        raise RunReadError(no_runs(root))


def _called(
    text: str, root: Path | command.RemoteDirectory
) -> list[Path | command.RemoteDirectory]:
    """Return the run of this name below `root`, else those whose names begin so."""
    runs = [*command.finished(root, text)] if text else []
    return [run for run in runs if run.name == text] or runs


def _names(context: click.Context, *, ids: bool) -> Iterator[str]:
    """Yield what the runs here may be called, the newest first; nothing that cannot be read.

    With `ids` each is named twice, by its path and by its id.
    """
    yield LATEST
    try:
        root = runs_root(context)
    except AuditError:
        return
    if isinstance(root, Path):
        runs = layout.finished(root)
        yield from map(str, runs)
        yield from (run.name for run in runs if ids)


def run_argument(part: Part = Part.TABLES) -> Callable[[Any], Any]:
    """Return what adds RUN: a finished run of which a part is needed, by default the newest."""
    return click.argument("run", type=Run(part), default=LATEST)


class RunOrManifests(Run):
    """What `audit diff` compares: a run, else text that names manifests."""

    def convert(  # type: ignore[override]  # what names manifests is no path to be normalised
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return a run's directory, or the text as it is."""
        text = str(value)
        if "://" in text or text.endswith(_REPORT):
            return str(super().convert(text, param, ctx))
        named = _named(text, ctx)
        return text if named is None else str(self._readable(named, ctx))


def require_written(run: Path, advice: str) -> None:
    """Refuse to write into a copy that is about to go; UsageError with the run and the advice."""
    name = click.get_current_context().meta.get(_FETCHED, {}).get(str(run))
    if name is not None:
        raise UsageError(f"{name} is on an object store, where it is only read; {advice}")


def say_signed(run: Path, *words: str | Path) -> None:
    """Say on stderr why no page is rendered into a signed run, and which command renders one.

    `words` are those of `audit report` that stand behind the run.
    """
    names = click.get_current_context().meta.get(_FETCHED, {})
    shown = [names.get(str(word), str(word)) for word in (run, *words)]
    command_line = shlex.join(["audit", "report", *shown, "--out", "DIR"])
    text = f"{run} is signed with its page, which stays as it is; for another: `{command_line}`"
    say.message("note", text, err=True)


def rename(error: AuditError, context: click.Context) -> None:
    """Have an error name runs as they were named to the command."""
    text = str(error)
    for path, name in context.meta.get(_FETCHED, {}).items():
        text = text.replace(path, name)
    error.args = (text,)
