"""A change of policies, tried on a cluster as it is recorded: what it would open and close.

The objects are judged as they are and as they would be, by what policies mean alone: what the
change makes of a cluster is known before OVN has it. The run that is kept is of the changed
cluster, and its page marks what changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit import scratch
from audit.commands.diff import mark_runs
from audit.commands.report import Outcome, write_report
from audit.commands.run import decide, run
from audit.errors import ExitCode
from audit.facts.applying import NO_CHANGE
from audit.model.changes import Changes
from audit.store.layout import read_manifest
from audit.tracing.options import Options, Progress

_DIRECTORY = "applied"
"""Where these runs are kept, below the others: none is the latest of a cluster, or its history."""
_BEFORE = "the cluster as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The run of the changed cluster, and what is different in it.

    `before` is what run.json said of the cluster as it is.
    """

    outcome: Outcome
    changes: Changes
    before: Mapping[str, Any]

    @property
    def exit_code(self) -> ExitCode:
        """1 when a verdict would change, 3 when not all could be compared, else 0."""
        return self.changes.exit_code


def apply(options: Options, root: Path, progress: Progress) -> Applied:
    """Judge a cluster with and without `options.change`; write a run of it with the change.

    That run is below `root`, in a directory of its own.
    """
    compared = []

    def page(path: Path) -> None:
        # The changed cluster was first: what is wrong with the change is said before all else.
        with scratch.directory("unchanged") as place:
            before = decide(replace(options, change=NO_CHANGE), place / "runs", progress)
            changes, marked = mark_runs(before, path, progress)
            write_report(path, replace(marked, since=_BEFORE))
            named = replace(changes, before=_BEFORE, after=path.name)
            compared.append((named, read_manifest(before)))

    outcome = run(options, root / _DIRECTORY, progress, page=page)
    [(changes, unchanged)] = compared
    return Applied(outcome=outcome, changes=changes, before=unchanged)
