"""An upgrade of OVN, rehearsed: what the recorded cluster would do under another `ovn-northd`.

The snapshot is audited as it was recorded and as the other OVN would make it from the same
northbound databases, with the same engine, and the two runs are compared.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from audit import scratch
from audit.commands.diff import diff_runs
from audit.commands.report import Outcome
from audit.commands.run import run
from audit.errors import EngineError, ExitCode, NoEngineError, OutputError, UsageError
from audit.facts import snapshot
from audit.model.changes import Changes
from audit.replay import recompile, toolchain
from audit.tracing.options import Options, Progress

_NEEDED = ("ovn-northd", "ovn-nbctl", "ovsdb-server", "ovsdb-tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Both runs, and what is different between them."""

    recorded: Outcome
    recompiled: Outcome
    changes: Changes

    @property
    def exit_code(self) -> ExitCode:
        """1 when a verdict would change, else what the worse of the runs deserves."""
        if self.changes.exit_code is ExitCode.FINDINGS:
            return ExitCode.FINDINGS
        return max(self.recorded.exit_code, self.recompiled.exit_code, self.changes.exit_code)


def rehearse(options: Options, root: Path, progress: Progress) -> Rehearsed:
    """Audit a snapshot as recorded and as another OVN would make it; compare the two."""
    if options.snapshot is None:
        raise UsageError("--recompile needs a snapshot: manifests have no northbound database")
    snapshot, programs = options.snapshot, _programs(options)
    # The system's is preferred by itself.
    options = replace(options, ovn_prefix=programs.prefix)
    recorded = run(options, root, progress)
    with _recompiled(snapshot, options.most_unpacked, programs, progress) as rewritten:
        recompiled = run(replace(options, snapshot=rewritten), root, progress)
    changes = diff_runs(recorded.path, recompiled.path, progress, by_policies=False)
    return Rehearsed(recorded=recorded, recompiled=recompiled, changes=changes)


def _programs(options: Options) -> toolchain.Toolchain:
    """Return the OVN that is rehearsed: the newest of those named."""
    candidates = toolchain.find(options.ovn_prefix)
    newest = max(candidates, key=lambda candidate: candidate.version, default=None)
    if newest is None:
        where = f" below {options.ovn_prefix}" if options.ovn_prefix else ""
        raise NoEngineError(f"no OVN{where}", needed="", advice=toolchain.ADVICE)
    missing = [program for program in _NEEDED if not newest.has(program)]
    if missing:
        raise EngineError(
            f"OVN {newest.version} ({newest.where}) has no {', '.join(missing)}; a rehearsal "
            "needs OVN's central half (ovn-central) too"
        )
    return newest


@contextmanager
def _recompiled(
    source: Path, most: int, programs: toolchain.Toolchain, progress: Progress
) -> Iterator[Path]:
    """Yield a snapshot with the same objects, and southbound databases of another OVN."""
    with scratch.directory("recompiled") as workdir:
        opened = snapshot.open_snapshot(source, workdir, most=most)
        name = source.name.partition(".tar")[0]
        target = workdir / f"{name}-by-ovn-{programs.version}"
        progress.phase(f"recompiling with OVN {programs.version}", len(opened.zones))
        try:
            (target / "kube").mkdir(parents=True)
            for file in opened.lists.values():
                (target / "kube" / file.name).symlink_to(file.resolve())
            recompile.recompile(
                programs, opened.zones, target / "ovn", workdir / "r", progress.advance
            )
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
        yield target
