"""Where runs are kept: a directory, or an object store that whole runs are put on and read from.

A run is written on a disk first, since traces are kept as they finish and gone on from there. What
the store gets is finished; an unfinished run stays where it is.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from audit import scratch
from audit.commands.report import Outcome
from audit.errors import AuditError, OutputError, UsageError
from audit.model.options import Part
from audit.store import evidence, layout, remote
from audit.store.remote import RemoteDirectory, located
from audit.tracing.options import Progress

__all__ = [
    "Part",
    "RemoteDirectory",
    "copy",
    "destination",
    "fetched",
    "finished",
    "located",
    "resumable",
]


@dataclass(slots=True, kw_only=True)
class Destination:
    """Where a run is written (`root`), and where it goes when it is finished, if elsewhere."""

    root: Path
    store: RemoteDirectory | None
    _delivered: list[Path] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """What plan.json says of it; empty for the directory itself."""
        return "" if self.store is None else self.store.uri

    def deliver(self, done: Outcome, progress: Progress) -> Outcome:
        """Put a finished run where it goes; what cannot be put there stays, and the error says so.

        The copy here goes when the destination is left.
        """
        if self.store is None:
            return done
        progress.phase(f"putting the run on {self.store}", 0)
        try:
            remote.put(done.path, self.store)
        except BaseException as error:
            error.add_note(
                f"the run is whole in {done.path}; put it there with "
                f"`audit copy {done.path} {self.store.uri}`"
            )
            raise
        self._delivered.append(done.path)
        return replace(done, url=str(self.store / done.path.name))

    def leave(self) -> None:
        """Remove the copies here of what was delivered."""
        for path in self._delivered:
            shutil.rmtree(path, ignore_errors=True)
        if self._delivered:
            with suppress(OSError):
                self.root.rmdir()  # fails, rightly, when something else is in it


@contextmanager
def destination(out: Path | RemoteDirectory, staging: Path) -> Iterator[Destination]:
    """Yield where to write runs that are kept at `out`; below `staging` when that is a store.

    OutputError, before there is anything to lose, when nothing can be put on the store.
    """
    if isinstance(out, Path):
        yield Destination(root=out, store=None)
        return
    remote.require_writable(out)
    to = Destination(root=staging, store=out)
    try:
        yield to
    finally:
        to.leave()


def finished(root: Path | RemoteDirectory, prefix: str = "") -> Iterator[Path | RemoteDirectory]:
    """Yield the finished runs right below `root` whose names begin so, the newest first."""
    if isinstance(root, Path):
        yield from layout.finished(root, prefix)
    else:
        yield from remote.finished(root, prefix)


def fetched(run: RemoteDirectory, stack: ExitStack, part: Part = Part.TABLES) -> Path:
    """Return a copy of part of a finished run that lasts as long as `stack`."""
    return remote.fetch(run, stack.enter_context(scratch.directory("run")), part)


def resumable(run: RemoteDirectory, staging: Path, stack: ExitStack) -> Path:
    """Return a copy of a finished run below `staging`, beside which another will go on with it."""
    target = staging / run.name
    if target.exists():
        raise OutputError(f"{target} is there already; resume that, or name another --staging")
    stack.callback(shutil.rmtree, target, ignore_errors=True)
    return remote.fetch(run, staging)


def copy(source: Path | RemoteDirectory, target: Path | RemoteDirectory) -> Path | RemoteDirectory:
    """Copy a finished run below `target`, every file compared with run.json; return where it is.

    RunReadError when it is not as the audit wrote it, OutputError when something is there.
    """
    name = source.name
    if isinstance(source, Path):
        for difference in evidence.differences(source):
            raise AuditError(f"{source} is not as the audit wrote it: {difference}")
        if isinstance(target, Path):
            raise UsageError("neither is an object store; copy directories with cp -r")
        remote.put(source, target)
        return target / name
    if not isinstance(target, Path):
        raise UsageError("one of the two is a directory of this machine; copy by way of one")
    if (target / name).exists():
        raise OutputError(f"{target / name} is there already; name another directory")
    with ExitStack() as stack:
        local = fetched(source, stack, Part.EVERYTHING)
        for difference in evidence.differences(local):
            raise AuditError(f"{source} is not as the audit wrote it: {difference}")
        try:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copytree(local, target / name)
        except OSError as error:
            shutil.rmtree(target / name, ignore_errors=True)
            raise OutputError(f"cannot write {target / name}: {error.strerror}") from error
    return target / name
