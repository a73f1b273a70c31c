"""What `audit who` and `audit can` are asked about: a finished run, a cluster, or manifests."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.cli import engines, options, progress, query, run_arguments, say, surroundings
from audit.commands import snapshot as snapshots
from audit.commands import who as command
from audit.errors import UsageError
from audit.facts import manifests as manifest_files
from audit.model.options import DEFAULT_PLANES, INTENT_ALONE
from audit.report import who as report
from audit.scope import scope as scopes
from audit.tracing import options as tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked, by the options' names: at most one of them says what about."""

    run: str | None
    snapshot: Path | None
    live: bool
    manifests: str | None
    kustomization: str | None
    max_snapshot_size: int
    access: snapshots.Access
    around: manifest_files.Surroundings
    ovn_prefix: Path | None
    install_ovn: bool
    traces: str
    quiet: bool

    @property
    def has_manifests(self) -> bool:
        """Say whether manifests are asked, and no cluster."""
        return self.manifests is not None or self.kustomization is not None

    @property
    def is_live(self) -> bool:
        """Say whether a live cluster is meant: by its flag, or by those that say which."""
        named = self.live or self.access.kubeconfig is not None or bool(self.access.context)
        return named and self.snapshot is None


def subject_options(command: Any) -> Any:  # noqa: ANN401 - click's decorators take any command
    """Add the options that say what is asked; the command receives `subject: Subject`."""

    @functools.wraps(command)
    def with_subject(**given: Any) -> Any:  # noqa: ANN401 - click hands on any option
        names = Subject.__dataclass_fields__
        subject = Subject(**{name: given.pop(name) for name in names})
        return command(subject=subject, **given)

    wrapped: Any = with_subject
    for option in (
        options.quiet_option,
        engines.install_option,
        options.traces_option,
        surroundings.surroundings_options,
        options.source_options(manifests=True),
        options.live_option("Ask the cluster of the kubeconfig now, not a run of it."),
        options.run_option,
    ):
        wrapped = option(wrapped)
    return wrapped


def answered(subject: Subject, question: command.Question) -> command.Reach:
    """Return the paths that answer a question, read from a run or traced for it now."""
    _check(subject)
    if not (subject.is_live or subject.snapshot or subject.has_manifests):
        return command.reach(_run(subject.run), question)
    quiet = subject.quiet or not sys.stderr.isatty()
    with ExitStack() as stack:
        snapshot = subject.snapshot
        if subject.is_live:
            with progress.shown(quiet=quiet) as shown:
                snapshot = stack.enter_context(snapshots.captured(subject.access, shown))
        return engines.provided(
            functools.partial(_decide, _request(subject, snapshot), question, quiet=quiet),
            snapshot=subject.snapshot,
            prefix=subject.ovn_prefix,
            install=subject.install_ovn,
        )


def _run(named: str | None) -> Path:
    """Return where the run is that is named, or the newest; UsageError with what else to ask."""
    try:
        run: Path = run_arguments.Run()(named or run_arguments.LATEST)
    except UsageError as error:
        if named is not None:
            raise
        raise UsageError(f"{error}; or ask a cluster, with --snapshot FILE or --live") from error
    return run


def _decide(request: tracing.Options, question: command.Question, *, quiet: bool) -> command.Reach:
    with progress.shown(quiet=quiet) as shown:
        return command.decide(request, shown, question)


def _request(subject: Subject, snapshot: Path | None) -> tracing.Options:
    both = scopes.FamilyChoice.IP4 if subject.has_manifests else scopes.FamilyChoice.BOTH
    return tracing.Options(
        snapshot=snapshot,
        most_unpacked=subject.max_snapshot_size,
        scope=scopes.Scope(family=both),
        manifests=subject.manifests or "",
        kustomization=subject.kustomization or "",
        surroundings=subject.around,
        ovn_prefix=subject.ovn_prefix,
        cluster=options.traced_cluster(subject.traces, subject.access),
        planes=INTENT_ALONE if subject.has_manifests else DEFAULT_PLANES,
    )


def _check(subject: Subject) -> None:
    """Refuse options that name several subjects, or say something of another; UsageError."""
    options.require_one_source(
        {
            "--run": subject.run,
            "--snapshot": subject.snapshot,
            "--live": subject.live,
            "--manifests": subject.manifests,
            "-k": subject.kustomization,
        }
    )
    if subject.traces == "exec" and not subject.is_live:
        raise UsageError("--traces exec asks the pods of a live cluster; it goes with --live")
    surroundings.require_manifests(subject.around, manifests=subject.has_manifests)


def ports_of(port: str, ports: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ports that are asked for: the word behind the ends, or those of -p."""
    if port and ports:
        raise UsageError(f"give ports either as {port} behind the ends, or with -p; not both")
    return (port,) if port else ports


FORMATS = ("text", "wide", "json", "yaml", "csv", "name", "dot", "svg")
"""How paths can be printed."""

output_option = options.output_option(*FORMATS)

COLOURS = {
    "yes": say.PASSES,
    "partly": say.UNPROVEN,
    "no": say.STOPPED,
    "unproven": say.UNPROVEN,
}
"""The colours of `audit.report.who.Answer`, which is loaded later."""


def show(paths: Sequence[report.Path], fields: Mapping[str, Any], output: str) -> None:
    """Print paths in one of `FORMATS`; for programs, with the `fields` that go with them."""
    records = {**fields, "paths": [report.fields(path) for path in paths]}
    match output:
        case "json":
            say.json(records)
        case "yaml":
            say.yaml(records)
        case "csv":
            query.show(report.COLUMNS, [report.row(path) for path in paths], "csv")
        case "name":
            sources = (report.word(p.src) for p in paths if p.answer is report.Answer.YES)
            say.text("".join(f"{source}\n" for source in dict.fromkeys(sources)))
        case "dot":
            from audit.report import dot  # noqa: PLC0415 - its library is loaded where it is used

            say.text(dot.text(paths))
        case "svg":
            from audit.report import dot  # noqa: PLC0415 - as above

            say.text(dot.svg(paths))
        case _:
            heads = {f"{head}:": COLOURS[answer] for answer, head in report.HEADS.items()}
            for line in report.text(paths, wide=output == "wide").splitlines():
                say.line(line, colour=heads.get(line))
