"""Every error that ends a run, each with the exit code it ends with.

A message says what is wrong, where, and what to do about it. A trace that fails is not an error:
it is an outcome, and the run goes on (`audit.model.traces.TraceFailure`).

Exit codes, and nothing else: 0 clean, 1 findings, 2 usage, scope or manifests, 3 incomplete,
4 could not run, 130 interrupted.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the `audit` command tells the shell, a CronJob or an upgrade gate."""

    CLEAN = 0
    FINDINGS = 1
    USAGE = 2
    INCOMPLETE = 3
    COULD_NOT_RUN = 4
    INTERRUPTED = 130


class AuditError(Exception):
    """The run cannot go on; the message is shown to the user as it is."""

    exit_code = ExitCode.COULD_NOT_RUN


class ScopeError(AuditError):
    """The scope cannot be used as written: a selector, a port, a namespace, a scope file."""

    exit_code = ExitCode.USAGE


class UsageError(AuditError):
    """A command was asked for something that contradicts itself or does not exist."""

    exit_code = ExitCode.USAGE


class SnapshotError(AuditError):
    """A snapshot is missing, unreadable or incomplete."""


class ManifestError(SnapshotError):
    """Manifests cannot be read, or hold what no API server accepts: whoever wrote them mends it."""

    exit_code = ExitCode.USAGE


class DatabaseError(SnapshotError):
    """An OVSDB file cannot be read."""


class ClusterError(AuditError):
    """A live cluster cannot be read: no access, no permission, no OVN-Kubernetes in it."""


class NoClusterError(ClusterError):
    """Nothing says which live cluster is meant, or how to reach it."""


class EngineError(AuditError):
    """No OVN on this machine can trace these databases."""


class NoEngineError(EngineError):
    """No OVN on this machine is new enough; one that is may be installed.

    `needed` is the release it must not be older than, empty when any will do.
    """

    def __init__(self, what: str, *, needed: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what
        self.needed = needed


class OutputError(AuditError):
    """The run directory cannot be written."""


class RunReadError(AuditError):
    """A run directory cannot be read: it is not one, or another version wrote it."""


class RunInterruptedError(AuditError):
    """The user or the platform stopped the run."""

    exit_code = ExitCode.INTERRUPTED
