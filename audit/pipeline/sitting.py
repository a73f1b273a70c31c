"""One sitting of a run, which may need several: begun, resumed, left, and what each needs to know.

`plan.json` says what is going to be done with which inputs, engine and program; it is written
before anything is traced. Who resumes must have the same, for what is kept was traced with those.
"""

import datetime as dt
import math
import secrets
import time
import typing
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import msgspec

from audit import __version__
from audit.errors import RunReadError, ScopeError, UsageError
from audit.model.facts import ClusterState
from audit.pipeline.journal import Journal
from audit.pipeline.options import Options
from audit.plan import scope
from audit.store import layout, manifest, unfinished
from audit.store.lock import exclusively
from audit.store.writer import RunWriter


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
    _since: float = field(default_factory=time.monotonic)

    @classmethod
    def new(cls, root: Path) -> Self:
        """Begin a run below `root`; OutputError when it cannot be written or another is."""
        started = now()
        out = RunWriter(root, f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
        return cls(out=out, started=started, _open=_locked(out))

    @classmethod
    def resumed(cls, path: Path) -> Self:
        """Go on with the run at `path`: in place, or where it is finished as a new run beside it.

        RunReadError when it cannot be; UsageError when there is nothing to go on with.
        """
        before = unfinished.read_plan(path)
        if unfinished.is_finished(path):
            if not layout.read_manifest(path).get("incomplete"):
                raise UsageError(
                    f"{path} is a finished run in which nothing failed to run; there is nothing "
                    "to resume"
                )
            sitting = cls.new(path.absolute().parent)
            sitting.before, sitting.source = before, path
            return sitting
        with ExitStack() as stack:
            stack.enter_context(exclusively(path.absolute().parent))
            out = RunWriter.again(path)
            held = stack.pop_all()
        try:
            started = dt.datetime.fromisoformat(str(before.get("started")))
        except ValueError as error:
            raise RunReadError(f"{path}: plan.json has no start: {error}; run again") from error
        return cls(out=out, started=started, before=before, _open=held)

    def begin(self, plan: Mapping[str, Any], time_limit_s: float | None = None) -> Journal:
        """Write what is going to be done; return where traces go, and come from.

        The limit counts from the beginning of this sitting. UsageError when this is not what the
        run that is resumed was about.
        """
        until = math.inf if time_limit_s is None else self._since + time_limit_s
        if self.before is None:
            self._begun = True
            self.out.write_plan({**plan, "started": text(self.started)})
            return Journal(self.out, until=until)
        for difference in _differences(self.before, plan):
            raise UsageError(
                f"{self.source or self.out.path} cannot be resumed: {difference}; run again"
            )
        self._begun = True
        if self.source is not None:
            outputs = layout.read_manifest(self.source)["outputs"]
            digests = {str(output["path"]): str(output["sha256"]) for output in outputs}
            self.out.write_plan({**plan, "started": text(self.started)})
            unfinished.take_over(self.source, self.out.path, digests)
        return Journal(self.out, unfinished.sift(self.out.path), until=until)

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
            "seconds": round(time.monotonic() - self._since, 1),
            "resumed": resumed,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if error is not None and not self._left():
                error.add_note(
                    f"what was traced is kept; go on with `audit run --resume {self.out.path}`"
                )
        finally:
            self._open.close()

    def _left(self) -> bool:
        """Leave without a run; say whether nothing is there to go on with."""
        untouched = self.before is not None and self.source is None and not self._begun
        return untouched or not self.out.leave()


def _locked(out: RunWriter) -> ExitStack:
    """Return the lock of the place of a new run, which vanishes when there is none to be had."""
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusively(out.path.parent))
        except BaseException:
            out.abandon()
            raise
        return stack.pop_all()


def planned(options: Options, state: ClusterState, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what plan.json says, but for when it began."""
    asked = {f.name: getattr(options, f.name) for f in fields(Options) if f.name != "scope"}
    return {
        "audit": __version__,
        "command": options.command,
        "host": manifest.host(),
        "engine": engine,
        "scope": options.scope.describe(),
        "options": msgspec.to_builtins(_absolute(asked), enc_hook=str),
        "inputs": manifest.inputs(state),
    }


def _absolute(asked: dict[str, Any]) -> dict[str, Any]:
    """Name files so that they are found from any directory."""
    return {k: v.absolute() if isinstance(v, Path) else v for k, v in asked.items()}


def options_of(plan: Mapping[str, Any], changes: Mapping[str, Any], where: Path) -> Options:
    """Return what the run of a plan was asked for, except for `changes`.

    RunReadError when the plan does not say it.
    """
    kinds = typing.get_type_hints(Options)
    try:
        values = {
            name: msgspec.convert(value, kinds[name], dec_hook=_path)
            for name, value in plan["options"].items()
        }
        asked = scope.parse_scope_file(msgspec.json.encode(plan["scope"]).decode(), "plan.json")
        return replace(Options(scope=asked, **values), **changes)
    except (ScopeError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RunReadError(f"{where}: plan.json does not say what was asked; run again") from error


def _path(kind: type, value: Any) -> Path:  # noqa: ANN401 - of msgspec's choosing
    if kind is not Path:
        raise ValueError(f"{kind} cannot be read")
    return Path(value)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not as it was, in sentences."""
    if before.get("audit") != after["audit"]:
        yield f"audit {before.get('audit')} began it, and this is {after['audit']}"
    engines = [plan.get("engine") or {} for plan in (before, after)]
    if engines[0].get("version") != engines[1].get("version"):
        yield (
            f"OVN {engines[0].get('version')} traced it, and the one at hand is "
            f"{engines[1].get('version')}; name the other with --ovn-prefix"
        )
    old, new = ({one["path"]: one["sha256"] for one in p["inputs"]} for p in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            change = "has changed" if name in old and name in new else "was not there then"
            yield f"its input {name} {change if name in new else 'is not there now'}"


def now() -> dt.datetime:
    """Return the time, to be told; durations are measured elsewhere."""
    return dt.datetime.now(dt.UTC)


def text(moment: dt.datetime) -> str:
    """Return a time as run.json has it."""
    return moment.isoformat(timespec="seconds")
