"""One sitting of a run, which may need several: begun, resumed, left, and what each needs to know.

`plan.json` says what is going to be done with which inputs, engine and program
(`audit.commands.plan_file`); it is written before anything is traced. Who resumes must have the
same, for what is kept was traced with those.
"""

import datetime as dt
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from audit import supervise
from audit.commands import plan_file
from audit.errors import UsageError
from audit.model.facts import Note
from audit.store import layout, plain, unfinished
from audit.store.lock import exclusively
from audit.store.reuse import Reusable
from audit.store.writer import RunWriter, sweep
from audit.tracing.journal import Journal
from audit.tracing.options import Options

_CLOCK_S = 60.0
"""How far the clock may be off the monotonic one, which nobody sets, before a note says so."""


@dataclass(slots=True, kw_only=True)
class Sitting:
    """Where a run is written, and what it goes on from. Use as a context.

    Left by an error it keeps the traces that ran, and says with the error how to go on.
    """

    out: RunWriter
    started: dt.datetime
    before: Mapping[str, Any] | None = None
    """The plan of the run that is resumed; None for a new one."""
    source: Path | None = None
    """The run that is resumed, when it is a finished one, which is not written again."""
    _open: ExitStack
    _begun: bool = False
    _going_on: str = ""
    """The command that does, once it has begun."""
    _since: float = field(default_factory=time.monotonic)
    _moment: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @classmethod
    def new(cls, root: Path) -> Self:
        """Begin a run below `root`; OutputError when it cannot be written or another is."""
        started = now()
        out = RunWriter(root, f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
        return cls(out=out, started=started, _open=_locked(out))

    @classmethod
    def resumed(cls, path: Path, before: Mapping[str, Any]) -> Self:
        """Go on with the run at `path`: in place, or where it is finished as a new run beside it.

        `before` is its plan.

        RunReadError when it cannot be; UsageError when there is nothing to go on with.
        """
        if unfinished.is_finished(path):
            if not layout.read_manifest(path).get("incomplete"):
                raise UsageError(
                    f"{path} is a finished run in which nothing failed to run; there is nothing "
                    "to resume"
                )
            plain.require_all(path)
            sitting = cls.new(path.absolute().parent)
            sitting.before, sitting.source = before, path
            return sitting
        with ExitStack() as stack:
            stack.enter_context(exclusively(path.absolute().parent))
            out = RunWriter.again(path)
            held = stack.pop_all()
        started = dt.datetime.fromisoformat(before["started"])
        return cls(out=out, started=started, before=before, _open=held)

    def begin(
        self, plan: Mapping[str, Any], options: Options, reusable: Reusable | None = None
    ) -> Journal:
        """Write what is going to be done; return where traces go, and come from.

        The time limit counts from the beginning of this sitting. UsageError when this is not what
        the run that is resumed was about.
        """
        limit_s = math.inf if options.time_limit_s is None else options.time_limit_s
        until = self._since + limit_s
        self._going_on = plan_file.going_on(self.out.path, options)
        if self.before is not None:
            for difference in plan_file.differences(self.before, plan):
                raise UsageError(
                    f"{self.source or self.out.path} cannot be resumed: {difference}; run again"
                )
        self._begun = True
        supervise.note(self._kept)
        if self.before is None or self.source is not None:
            self.out.write_plan({**plan, "started": text(self.started)})
        if self.source is not None:
            outputs = layout.read_manifest(self.source)["outputs"]
            digests = {str(output["path"]): str(output["sha256"]) for output in outputs}
            unfinished.take_over(self.source, self.out.path, digests)
        earlier = unfinished.sift(self.out.path) if self.before is not None else None
        return Journal(self.out, earlier, reusable=reusable, until=until)

    def fields(self, journal: Journal) -> dict[str, Any]:
        """Return what run.json says of the sittings."""
        resumed = None
        if self.before is not None:
            source = self.source.name if self.source is not None else None
            resumed = {"run": source, "traces_kept": journal.kept}
        return {
            "run_id": self.out.path.name,
            "started": text(self.started),
            "finished": text(now()),
            "seconds": max(round(time.monotonic() - self._since, 1), 0.0),
            "resumed": resumed,
        }

    def clock(self) -> Iterator[Note]:
        """Say that the clock was set since this sitting began, or is behind the run's beginning."""
        return clock_notes(self.started, self._moment, now(), time.monotonic() - self._since)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if error is not None and not self._left():
                error.add_note(self._kept)
        finally:
            self._open.close()

    @property
    def _kept(self) -> str:
        return f"what was traced is kept; go on with `{self._going_on}`"

    def _left(self) -> bool:
        """Leave without a run; say whether nothing is there to go on with."""
        untouched = self.before is not None and self.source is None and not self._begun
        return untouched or not self.out.leave()


def _locked(out: RunWriter) -> ExitStack:
    """Return the lock of the place of a new run, which vanishes when there is none to be had."""
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusively(out.path.parent))
            sweep(out.path.parent)
        except BaseException:
            out.abandon()
            raise
        return stack.pop_all()


def clock_notes(
    started: dt.datetime, sitting: dt.datetime, finished: dt.datetime, seconds: float
) -> Iterator[Note]:
    """Say that a clock does not tell how long a run took; nothing where it does.

    `sitting` is when this sitting began, `seconds` what it took by the monotonic clock. A clock
    that a time service keeps differs by less than a minute. That clock may be wrong itself in a
    virtual machine that is restored: what ends before it begins is noted in any case.
    """
    shift_s = (finished - sitting).total_seconds() - seconds
    if abs(shift_s) >= _CLOCK_S:
        change = f"moved {'back' if shift_s < 0 else 'forward'} by {abs(shift_s):.0f} s"
        what = f"this machine's clock {change} while the run went on, or the machine was suspended"
    elif finished < started:
        what = "this machine's clock is behind the moment at which the run began"
    else:
        return
    text = f"{what}: the times of the run do not tell how long it took; its cells do not use them"
    yield Note(code="clock-set", text=text, subjects=())


def now() -> dt.datetime:
    """Return the time, to be shown; durations are measured elsewhere."""
    return dt.datetime.now(dt.UTC)


def text(moment: dt.datetime) -> str:
    """Return a time as run.json has it."""
    return moment.isoformat(timespec="seconds")
