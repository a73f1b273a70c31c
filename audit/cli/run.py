"""`audit run`: from the facts to the report."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from audit.cli import (
    engines,
    groups,
    options,
    progress,
    resuming,
    run_arguments,
    say,
    surroundings,
    values,
)
from audit.cli.expected import Expected
from audit.commands import apply as applying
from audit.commands import check as checking
from audit.commands import copy as copying
from audit.commands import diff as diffs
from audit.commands import rehearse as rehearsals
from audit.commands import report as reports
from audit.commands import run as command
from audit.commands import snapshot as snapshots
from audit.commands import who as deciding
from audit.errors import AuditError, ExitCode, UsageError
from audit.facts import applying as change_files
from audit.facts import manifests as manifest_files
from audit.model import expectations as expecting
from audit.model.options import (
    DEFAULT_PLANES,
    INTENT_ALONE,
    Covering,
    Format,
    Part,
    PlaneName,
    Workers,
)
from audit.model.verdicts import VERDICTS, PolicyRef
from audit.report import messages
from audit.report import who as reaching
from audit.scope import scope as scopes
from audit.store import http, timestamps
from audit.tracing import options as tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What `audit run` is given on its command line, by the options' names."""

    snapshot: Path | None
    live: bool
    max_snapshot_size: int
    access: snapshots.Access
    manifests: str | None
    kustomization: str | None
    apply: tuple[str, ...]
    apply_delete: tuple[PolicyRef, ...]
    around: manifest_files.Surroundings
    ovn_prefix: Path | None
    scope: scopes.Scope
    install_ovn: bool
    out: Path | copying.RemoteDirectory
    staging: Path
    workers: str | None
    traces: str
    worker_count: int
    agents_listen: str
    agents_wait: float
    planes: frozenset[PlaneName] | None
    cover: str
    verify: int
    verify_packets: int
    recompile: bool
    trace_timeout: float
    time_limit: float | None
    fail_coverage_below: float | None
    resumed: Path | copying.RemoteDirectory | None
    reuse: Path | None
    without: tuple[str, ...]
    sign_key: Path | None
    timestamp_url: str
    push_metrics: str
    file: Path | None
    packs: tuple[str, ...]
    exit_zero: bool
    quiet: bool
    output: str

    @property
    def has_manifests(self) -> bool:
        """Say whether manifests are audited, and no cluster."""
        return self.manifests is not None or self.kustomization is not None

    @property
    def change(self) -> change_files.Change:
        """What is applied to the objects of the cluster first."""
        return change_files.Change(applied=self.apply, deleted=self.apply_delete)

    @property
    def asked_planes(self) -> frozenset[PlaneName]:
        """The planes that are asked: those named, else of what OVN does not have its meaning."""
        alone = self.has_manifests or self.change
        return self.planes or (INTENT_ALONE if alone else DEFAULT_PLANES)

    @property
    def of_this_sitting(self) -> dict[str, Any]:
        """The fields of `Options` that are given again when a run is resumed."""
        return {
            "ovn_prefix": self.ovn_prefix,
            "most_unpacked": self.max_snapshot_size,
            "workers": Workers(self.workers) if self.workers else None,
            "cluster": options.traced_cluster(self.traces, self.access),
            "worker_count": self.worker_count,
            "agents_listen": self.agents_listen,
            "agents_wait_s": self.agents_wait,
            "trace_timeout_s": self.trace_timeout,
            "time_limit_s": self.time_limit,
            "sign_key": self.sign_key,
            "timestamp_url": self.timestamp_url,
            "kustomization": self.kustomization or "",
            "command": options.command_line(),
        }


@groups.command()
@options.source_options(manifests=True)
@options.live_anyway_option
@click.option(
    "--apply",
    multiple=True,
    metavar="DIR|FILE|-",
    help="Say what these policies and labels of namespaces would open and close in the cluster or "
    "snapshot; nothing is changed there (docs/compare.md).",
)
@click.option(
    "--apply-delete",
    multiple=True,
    type=values.Policy(),
    metavar="KIND/[NAMESPACE/]NAME",
    help="Say what the cluster would do without this policy, as networkpolicy/shop/default-deny; "
    "also with --apply.",
)
@surroundings.surroundings_options
@options.scope_options
@engines.install_option
@click.option(
    "--out",
    type=run_arguments.DirectoryOrStore(),
    default=Path("runs"),
    show_default=True,
    help="Where runs are kept: each is a directory of its own below. A directory, or "
    "s3://BUCKET/PREFIX of an object store (docs/operations.md).",
)
@click.option(
    "--staging",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Where a run is written while it lasts, when --out is an object store.",
)
@click.option(
    "--workers",
    type=click.Choice([str(kind) for kind in Workers]),
    help="Where traces run: Ray processes here, this process, or agents on the nodes. Default: "
    "Ray when it is worth its start.",
)
@options.traces_option
@click.option(
    "--worker-count",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="one per CPU",
    metavar="N",
    help="How many Ray workers.",
)
@click.option(
    "--agents-listen",
    default="6379",
    show_default=True,
    metavar="[IP:]PORT",
    help="Where agents (`audit agent`) join this run, with --workers agents.",
)
@click.option(
    "--agents-wait",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long agents may take to join; a zone without one is not traced.",
)
@click.option(
    "--planes",
    type=values.Planes(),
    metavar="PLANE[,PLANE]",
    help="What is asked of every cell: what the policy objects mean (intent, which alone needs no "
    "OVN), what OVN decides (logical), and what each node's Open vSwitch does (datapath, beside "
    "logical). Several are compared. Default: intent,logical; of manifests intent.",
)
@click.option(
    "--cover",
    type=click.Choice([str(kind) for kind in Covering]),
    default=str(Covering.LEGS),
    show_default=True,
    help="What is traced: the legs that decide every cell, every pair of legs, every cell, or "
    "nothing (a quick look).",
)
@click.option(
    "--verify",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="K",
    help="Composed cells, drawn at random, that are traced end to end and compared.",
)
@click.option(
    "--verify-packets",
    type=values.Count(),
    default=0,
    show_default=True,
    metavar="K|all",
    help="Cells that stay on one node, services and what a pod sends itself with them, drawn at "
    "random, for which real packets are sent through the replayed datapath, with their replies, "
    "and compared; 'all' sends every one.",
)
@click.option(
    "--recompile",
    is_flag=True,
    help="Rehearse an upgrade: audit the snapshot also as this OVN's ovn-northd would make it, and "
    "say which verdicts change (docs/compare.md).",
)
@click.option(
    "--trace-timeout",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds after which one trace is given up.",
)
@click.option(
    "--time-limit",
    type=values.Duration(),
    metavar="TIME",
    help="Begin no trace after this long (90s, 10m, 1h30m): the run ends in order, what is left is "
    "unproven, and the exit code is 3.",
)
@click.option(
    "--fail-coverage-below",
    type=click.FloatRange(min=0, max=100),
    metavar="PERCENT",
    help="Exit with 3 when fewer of the cells are proven. Those whose packets never pass OVN, such "
    "as from host to host, do not count.",
)
@click.option(
    "--resume",
    "resumed",
    type=run_arguments.DirectoryOrStore(),
    metavar="DIR",
    help="Go on with a run that was ended: what it traced is not traced again. Of a finished run, "
    "make what is missing (report, signature), else run what failed again.",
)
@click.option(
    "--reuse",
    type=run_arguments.Run(Part.TABLES),
    help="Reuse this run's traces in zones whose southbound database has not changed; trace the "
    "others (docs/operations.md).",
)
@resuming.without_option
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An Ed25519 private key to sign the run with (docs/runs.md); `audit verify` checks it.",
)
@click.option(
    "--timestamp-url",
    default="",
    metavar="URL",
    help="An RFC 3161 timestamp server that is sent the SHA-256 of the signature, and says when "
    "that was; with --sign-key (docs/runs.md). By default nothing is sent.",
)
@click.option(
    "--push-metrics",
    default="",
    metavar="URL",
    help="Put the run's metrics to this address of a Prometheus Pushgateway, as "
    "https://HOST/metrics/job/ovn-audit/instance/prod (docs/monitoring.md). By default nothing is "
    "sent.",
)
@options.own_expectations_options
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also when the run found something.")
@options.quiet_option
@options.output_option("text", "json")
def run(**given: Any) -> int:  # noqa: ANN401 - click hands on the options above: `Flags`
    """Trace every cell in scope, write a run, and render its report.

    \b
    Examples:
      audit run --context prod --selector app=web
      audit run --snapshot cluster.tar.gz
      audit run --snapshot cluster.tar.gz --install-ovn
      audit run --snapshot cluster.tar.gz --selector app=web --with-peers
      audit run --snapshot cluster/ -n shop --to-service openshift-dns/dns-default --port udp/53
      audit run --snapshot cluster.tar.gz --planes intent,logical,datapath
      audit run --snapshot cluster.tar.gz --recompile --ovn-prefix /opt/ovn-25.03
      audit run --snapshot cluster.tar.gz --apply policy.yaml
      audit run --snapshot cluster.tar.gz --pack cis-kubernetes --expectations own.yaml
      audit run --manifests deploy/
      audit run -k overlays/prod
      helm template charts/shop | audit run --manifests -
      audit run --manifests deploy/ --namespace-labels shop:team=web --pod-cidr 10.128.0.0/14
      audit run --resume runs/20261123T043457Z-9510
    """
    flags = Flags(**given)
    if flags.push_metrics:
        http.require_url(flags.push_metrics, _PUSHGATEWAY)
    if flags.timestamp_url:
        timestamps.require_url(flags.timestamp_url)
        if flags.sign_key is None:
            raise UsageError("--timestamp-url is about the signature: it goes with --sign-key")
    if flags.resumed is not None:
        return _resume(flags, flags.resumed)
    for contradiction in (
        *_wrong_sources(flags),
        *_wrong_change(flags),
        *_wrong_packets(flags),
        *_wrong_traces(flags),
    ):
        raise UsageError(contradiction)
    surroundings.require_manifests(flags.around, manifests=flags.has_manifests)
    return _audit(flags, Expected.of(flags.file, flags.packs))


def _resume(flags: Flags, resumed: Path | copying.RemoteDirectory) -> int:
    """Go on with a run, and print what came out; return the exit code."""
    expected = Expected.of(flags.file, flags.packs)
    context = click.get_current_context()
    resuming.refuse_anew(context)
    snapshot = {} if flags.snapshot is None else {"snapshot": flags.snapshot}
    with ExitStack() as stack:
        done = engines.provided(
            functools.partial(
                resuming.resume,
                resumed,
                flags.of_this_sitting | snapshot,
                resuming.kept_at(flags.out, resumed),
                flags.staging,
                resuming.answered(context, flags.without),
                stack,
                expected=expected,
                quiet=flags.quiet,
            ),
            snapshot=None,
            prefix=flags.ovn_prefix,
            install=flags.install_ovn,
        )
        return _print_outcome(done, flags, expected)


def _wrong_sources(flags: Flags) -> Iterator[str]:
    """Yield why what is to be audited contradicts the other flags, in sentences."""
    planes = flags.asked_planes
    sources = (flags.snapshot, flags.manifests, flags.kustomization, flags.live or None)
    if flags.without:
        yield "--without is about a run that is resumed: it goes with --resume"
    if sum(source is not None for source in sources) > 1:
        yield "give one of --snapshot, --live, --manifests and -k"
    if flags.has_manifests and planes != INTENT_ALONE:
        yield "manifests have no OVN to ask; --manifests and -k go with --planes intent"
    if flags.reuse is not None and (flags.traces == "exec" or flags.workers == "agents"):
        yield "--reuse compares copies of the databases; traces in the cluster itself all run anew"
    if flags.reuse is not None and PlaneName.LOGICAL not in planes:
        yield "--reuse takes over traces; it goes with --planes logical"
    if flags.recompile and PlaneName.LOGICAL not in planes:
        yield "--recompile asks OVN; it goes with --planes logical"
    if (flags.file or flags.packs) and (flags.recompile or flags.change):
        yield (
            "--expectations and --pack are about one run; --recompile, --apply and --apply-delete "
            "compare two"
        )


def _wrong_change(flags: Flags) -> Iterator[str]:
    """Yield why a change of the cluster's policies cannot be tried, where one is asked for."""
    if not flags.change:
        return
    if flags.has_manifests:
        yield "--apply and --apply-delete change a cluster; of manifests, audit diff compares two"
    if flags.asked_planes != INTENT_ALONE:
        yield "OVN does not have what is only to be applied; --apply goes with --planes intent"
    if not isinstance(flags.out, Path) or flags.push_metrics:
        yield (
            "a run with --apply or --apply-delete is of no cluster that is there: it is kept in "
            "a directory (--out DIR), and pushes no metrics"
        )


def _wrong_packets(flags: Flags) -> Iterator[str]:
    """Yield why packets cannot be sent, where they are asked for."""
    if not flags.verify_packets:
        return
    if PlaneName.DATAPATH not in flags.asked_planes:
        yield "--verify-packets sends them through --planes logical,datapath"
    if flags.traces == "exec" or flags.workers == str(Workers.AGENTS):
        yield (
            "--verify-packets sends packets, which no switch of a live cluster is made to do; "
            "leave it out, or have the switches replayed here"
        )


def _wrong_traces(flags: Flags) -> Iterator[str]:
    """Yield why there is no pod to trace in, where --traces exec asks for that."""
    if flags.traces != "exec":
        return
    if flags.snapshot is not None or flags.has_manifests or flags.recompile:
        yield "--traces exec asks the pods of a live cluster, not a snapshot of one"
    if PlaneName.LOGICAL not in flags.asked_planes:
        yield "--traces exec goes with --planes logical: nothing else is traced there"
    if flags.workers not in (None, str(Workers.INLINE)):
        yield f"--traces exec traces in the pods; leave out --workers {flags.workers}"


def _audit(flags: Flags, expected: Expected | None) -> int:
    """Audit what the flags name, and print what came out; return the exit code."""
    with ExitStack() as stack:
        to = stack.enter_context(copying.destination(flags.out, flags.staging))
        with ExitStack() as reading:
            request = _request(flags, to, _snapshot(flags, to, reading))
            audited = engines.provided(
                functools.partial(
                    _ask, request, to, expected, recompile=flags.recompile, quiet=flags.quiet
                ),
                snapshot=flags.snapshot,
                prefix=flags.ovn_prefix,
                install=flags.install_ovn,
            )
        if isinstance(audited, rehearsals.Rehearsed):
            return _print_rehearsal(audited, flags)
        if isinstance(audited, applying.Applied):
            return _print_applied(audited, flags)
        return _print_outcome(audited, flags, expected)


def _snapshot(flags: Flags, to: copying.Destination, stack: ExitStack) -> Path | None:
    """Return the snapshot to audit, one of the live cluster if none is named; of manifests None."""
    if flags.snapshot is not None or flags.has_manifests:
        return flags.snapshot
    with progress.shown(quiet=flags.quiet) as shown:
        return stack.enter_context(
            snapshots.captured(
                flags.access,
                shown,
                keep=to.root,
                elsewhere=bool(to.uri),
                databases=flags.asked_planes != INTENT_ALONE,
            )
        )


def _request(flags: Flags, to: copying.Destination, snapshot: Path | None) -> tracing.Options:
    return tracing.Options(
        snapshot=snapshot,
        manifests=flags.manifests or "",
        change=flags.change,
        surroundings=flags.around,
        scope=flags.scope,
        planes=flags.asked_planes,
        cover=Covering(flags.cover),
        verify=flags.verify,
        verify_packets=flags.verify_packets,
        reuse=flags.reuse,
        destination=to.uri,
        **flags.of_this_sitting,
    )


def _ask(
    request: tracing.Options,
    to: copying.Destination,
    expected: Expected | None,
    *,
    recompile: bool,
    quiet: bool,
) -> reports.Outcome | rehearsals.Rehearsed | applying.Applied:
    """Audit a cluster, and also as another OVN, or a change of its policies, would make it."""
    with progress.shown(quiet=quiet) as shown:
        if request.change:
            return applying.apply(request, to.root, shown)
        if not recompile:
            page = functools.partial(expected.render, progress=shown) if expected else None
            return to.deliver(command.run(request, to.root, shown, page=page), shown)
        done = rehearsals.rehearse(request, to.root, shown)
        return dataclasses.replace(
            done,
            recorded=to.deliver(done.recorded, shown),
            recompiled=to.deliver(done.recompiled, shown),
        )


def _print_applied(done: applying.Applied, flags: Flags) -> int:
    """Print what a change opens and closes; return the exit code."""
    if flags.output == "json":
        where = _places(done.outcome)
        say.json({**done.outcome.manifest, **where, "changes": dataclasses.asdict(done.changes)})
    else:
        say.text(diffs.plain(done.changes), words=say.CHANGES)
        _print_messages(done.outcome.manifest, known=messages.messages(done.before))
        _print_places(done.outcome)
    return ExitCode.CLEAN if flags.exit_zero else done.exit_code


def _print_outcome(done: reports.Outcome, flags: Flags, expected: Expected | None) -> int:
    """Print what came out, and what became of what was `expected`; return the exit code."""
    checked = _checked(done, flags, expected)
    checks = checked.expectations if checked else ()
    if flags.output == "json":
        results = {"expectations": checking.fields(checks)} if expected else {}
        say.json({**done.manifest, **_places(done), **results, "paths": _paths(done)})
    else:
        _print(done.manifest, done, checks)
    _push(done, flags, checks)
    code = done.exit_code
    if checked and checked.failing:
        code = ExitCode.FINDINGS
    proven, least = _percent(done.manifest), flags.fail_coverage_below
    if least is not None and proven < least:
        text = (
            f"{proven:.6g} % of the cells that OVN decides are proven, fewer than "
            "--fail-coverage-below asks for"
        )
        say.message("error", f"{text} ({least:g} %)", err=True, prefix="coverage")
        code = ExitCode.INCOMPLETE
    return ExitCode.CLEAN if flags.exit_zero else code


def _checked(
    done: reports.Outcome, flags: Flags, expected: Expected | None
) -> expecting.Checks | None:
    """Return what became of what was expected; None where nothing was."""
    if expected is None:
        return None
    with progress.shown(quiet=flags.quiet) as shown:
        return expected.check(done.path, shown)


def _paths(done: reports.Outcome) -> list[dict[str, Any]] | None:
    """Return who can reach whom, by workload; None of a large run, which `audit who` is asked."""
    if int(done.manifest["counts"]["cells"]) > checking.MOST_CELLS_AT_THE_END:
        return None
    everything = deciding.reach(done.path, deciding.Question())
    return [reaching.fields(path) for path in everything.paths]


_PUSHGATEWAY = "Pushgateway"


def _push(done: reports.Outcome, flags: Flags, checks: Sequence[expecting.Checked]) -> None:
    """Put the run's metrics where the user says; without them the run is whole all the same."""
    if not flags.push_metrics:
        return
    text = checking.formatted(done.path, Format.PROMETHEUS, checks).encode()
    media_type = "text/plain; version=0.0.4; charset=utf-8"
    try:
        http.sent(flags.push_metrics, text, media_type, method="PUT", what=_PUSHGATEWAY)
    except AuditError as error:
        say.line(f"warning: the metrics were not put anywhere: {error}", err=True)


def _places(done: reports.Outcome) -> dict[str, str]:
    """Return where a run and its page are."""
    if done.url:
        return {"path": done.url, "report": f"{done.url}/{done.report.name}"}
    return {"path": str(done.path), "report": str(done.report)}


def _print_places(done: reports.Outcome) -> None:
    """Print where a run and its page are, the page last."""
    where = _places(done)
    say.line(f"run: {where['path']}")
    say.line(where["report"] if done.url else str(done.report.absolute()))


def _print_rehearsal(done: rehearsals.Rehearsed, flags: Flags) -> int:
    """Print what changes under another OVN; return the exit code."""
    runs = {"recorded": done.recorded, "recompiled": done.recompiled}
    if flags.output == "json":
        fields = {name: {**each.manifest, **_places(each)} for name, each in runs.items()}
        say.json({**fields, "changes": dataclasses.asdict(done.changes)})
    else:
        for name, each in runs.items():
            version = each.manifest["databases"][0]["northd_version"] or "unknown"
            say.line(f"{name} by northd {version}: {_places(each)['path']}")
            _print_messages(each.manifest)
        say.text(diffs.plain(done.changes), words=say.CHANGES)
    return ExitCode.CLEAN if flags.exit_zero else done.exit_code


def _percent(manifest: Mapping[str, Any]) -> float:
    """Return the proven share of what can be, unrounded: what is compared must not be flattered.

    All of it where nothing can be proven: no further run would have more. Runs of earlier versions
    do not say what cannot be.
    """
    coverage = manifest["coverage"]
    provable = coverage["total"] - coverage["unprovable"]
    return 100.0 * coverage["proven"] / provable if provable > 0 else 100.0


_COMPARED = {"intent": "intent and logical", "drift": "logical and datapath"}
"""The planes that are compared with each other, and where run.json says how that came out."""


def _print_planes(manifest: Mapping[str, Any]) -> None:
    """Print how the planes, and real packets, compare; nothing when one plane was asked."""
    for key, planes in _COMPARED.items():
        compared = manifest[key]
        if compared is not None:
            agree = compared["of"] - compared["cells"]
            say.line(f"planes: {planes} agree on {agree:,} of {compared['of']:,} cells")
    packets = manifest["packets"]
    if packets is not None:
        say.line(f"packets: agree in {packets['agree']:,} of {packets['of']:,} cells")


def _print_messages(manifest: Mapping[str, Any], known: Collection[messages.Message] = ()) -> None:
    """Print what was found, and what is to be known: errors, warnings and notes, each as such.

    What is `known` already is left out.
    """
    listed = [message for message in messages.messages(manifest) if message not in known]
    if listed:
        say.line(messages.counted(listed))
    for message in listed:
        say.message(message.severity, message.text)


def decided_by(manifest: Mapping[str, Any]) -> str:
    """Say how many cells are proven and what decided them, and how many are not."""
    proven, total = manifest["coverage"]["proven"], manifest["counts"]["cells"]
    cells, traces = (
        f"{count:,} {noun}{'' if count == 1 else 's'}"
        for noun, count in (("cell", proven), ("trace", manifest["counts"]["traces"]))
    )
    by = traces if manifest["engine"] else "the policy objects"
    rest = f"; {total - proven:,} unproven" if total > proven else ""
    return f"{cells} decided by {by}{rest}"


def _print(
    manifest: Mapping[str, Any], done: reports.Outcome, checks: Sequence[expecting.Checked]
) -> None:
    """Print the counts, what is unproven, expectations and where the report is, its path last."""
    counts = manifest["counts"]
    say.line(decided_by(manifest))
    for verdict in VERDICTS:
        if counts[verdict]:
            say.text(f"  {verdict:<13}{counts[verdict]:>12,}\n", words=say.VERDICTS)
    say.text(checking.namespaces_text(done.path))
    _print_planes(manifest)
    _print_messages(manifest)
    for sentence in done.unproven:
        say.message("warning", sentence, prefix="unproven")
    if checks:
        say.text(checking.summary(checks), words=say.STATUSES)
    _print_places(done)
