"""`audit trace`: one pair, as ovnkube-trace is asked for it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from audit.cli import engines, groups, options, progress, say
from audit.cli import words as completed
from audit.commands import snapshot as snapshots
from audit.commands import trace as command
from audit.errors import ExitCode, UsageError
from audit.model import stages
from audit.model.endpoints import MAX_PORT, Port
from audit.model.packets import Family, Protocol
from audit.model.verdicts import PASSES, STOPPED, VERDICTS
from audit.report import trace as rendering
from audit.scope import pair as pairing

_MOST_WORDS = 3
"""FROM, TO and PORT."""
_COLOURS = {"success": "green", "failure": "red", "": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What `audit trace` is given on its command line, by the options' names."""

    words: tuple[str, ...]
    src: str | None
    src_namespace: str
    dst: str | None
    service: str | None
    dst_ip: str | None
    dst_namespace: str
    dst_port: int
    network: str
    dst_network: str
    protocols: tuple[str, ...]
    addr_family: str | None
    skip_detrace: bool
    loglevel: int
    access: snapshots.Access
    snapshot: Path | None
    live: bool
    max_snapshot_size: int
    ovn_prefix: Path | None
    traces: str
    install_ovn: bool
    expect: str | None
    quiet: bool
    output: str

    @property
    def raw(self) -> bool:
        """Say whether the tools' own output is shown."""
        return self.loglevel >= rendering.OUTPUTS_FROM

    @property
    def names(self) -> pairing.Names | pairing.Words:
        """What the two ends are called."""
        family = Family(self.addr_family) if self.addr_family else None
        networks = pairing.Networks(src=self.network, dst=self.dst_network or self.network)
        if self.words:
            src, dst, port = (*self.words, "")[:_MOST_WORDS]
            return pairing.Words(src=src, dst=dst, port=port, family=family, networks=networks)
        return pairing.Names(
            src_namespace=self.src_namespace,
            src=self.src or "",
            dst_namespace=self.dst_namespace,
            dst=self.dst or "",
            service=self.service or "",
            dst_ip=self.dst_ip or "",
            port=Port(protocol=Protocol(self.protocols[0]), number=self.dst_port),
            family=family,
            networks=networks,
        )


@groups.command()
@click.argument(
    "words", metavar="[FROM TO [PORT]]", nargs=-1, shell_complete=completed.complete_pair
)
@click.option("-src", "--src", metavar="POD", help="The source pod.")
@click.option(
    "-src-namespace", "--src-namespace", default="default", show_default=True, metavar="NAMESPACE"
)
@click.option("-dst", "--dst", metavar="POD", help="The destination: a pod …")
@click.option("-service", "--service", metavar="SERVICE", help="… or a Service …")
@click.option("-dst-ip", "--dst-ip", metavar="IP", help="… or an address.")
@click.option(
    "-dst-namespace",
    "--dst-namespace",
    default="default",
    show_default=True,
    metavar="NAMESPACE",
    help="Of the destination pod or Service.",
)
@click.option(
    "-dst-port", "--dst-port", type=click.IntRange(1, MAX_PORT), default=80, show_default=True
)
@click.option(
    "--network",
    default="",
    metavar="NETWORK",
    help="The network that both pods are asked on. Default: the one that they would use.",
)
@click.option(
    "--dst-network", default="", metavar="NETWORK", help="The destination's, where it is another."
)
@click.option("-tcp", "--tcp", "protocols", flag_value="tcp", multiple=True, help="Trace TCP, …")
@click.option("-udp", "--udp", "protocols", flag_value="udp", multiple=True, help="… UDP …")
@click.option("-sctp", "--sctp", "protocols", flag_value="sctp", multiple=True, help="… or SCTP.")
@click.option(
    "-addr-family",
    "--addr-family",
    type=click.Choice([str(family) for family in Family]),
    help="Default: that of --dst-ip, else ip4.",
)
@click.option(
    "-skip-detrace", "--skip-detrace", is_flag=True, help="Leave out the ovn-detrace stages."
)
@click.option(
    "-v",
    "-loglevel",
    "--loglevel",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="2 shows what the tools say, 5 each command as well.",
)
@options.source_options()
@options.live_anyway_option
@options.traces_option
@engines.install_option
@click.option(
    "--expect",
    type=click.Choice([str(verdict) for verdict in VERDICTS if verdict in PASSES | STOPPED]),
    help="Exit with 1 unless this is the verdict.",
)
@options.quiet_option
@options.output_option("text", "json")
def trace(**given: Any) -> int:  # noqa: ANN401 - click hands on the options above: `Flags`
    """Trace one pair both ways; takes ovnkube-trace's flags and prints its verdict lines.

    Every tool runs all stages, whatever the first says. The way back is the reply's; a new
    connection the other way is told apart. Flags may have one dash or two. Exit codes: 0 the
    question is answered, whatever the answer; 1 the planes disagree, or not what --expect says;
    2 usage; 3 not answered, or not by every tool; 4 could not run.

    FROM, TO and PORT are words as `audit can` takes them, instead of the flags that name a pair; of
    several pods the first is traced. Without PORT, every port that TO declares, one by one.

    \b
    Examples:
      audit trace shop/front-0 svc/web http --context prod
      audit trace shop/front-0 svc/web --snapshot cluster.tar.gz
      audit trace --context prod -src web -dst db-0 -dst-namespace shop -tcp -dst-port 5432
      audit trace --snapshot cluster.tar.gz -src web -dst-namespace openshift-dns \\
        -dst dns-default-8s42x -udp -dst-port 53 -loglevel 0
      audit trace --snapshot cluster.tar.gz --src front-0 --src-namespace shop \\
        --dst-ip 198.51.100.7 --tcp --dst-port 443 --expect exits
    """
    flags = Flags(**given)
    _check(flags)
    quiet = flags.quiet or not sys.stderr.isatty()
    with ExitStack() as stack:
        snapshot = flags.snapshot
        if snapshot is None:
            with progress.shown(quiet=quiet) as shown:
                snapshot = stack.enter_context(snapshots.captured(flags.access, shown))
        traced = engines.provided(
            functools.partial(_trace, flags, snapshot, quiet=quiet),
            snapshot=flags.snapshot,
            prefix=flags.ovn_prefix,
            install=flags.install_ovn,
        )
    if flags.output == "json":
        say.json(rendering.answer(traced, raw=flags.raw))
    else:
        _print(rendering.texts(traced, flags.loglevel, answer_first=bool(flags.words)))
    unexpected = flags.expect and any(pair.answer.verdict != flags.expect for pair in traced)
    if unexpected or any(map(rendering.has_findings, traced)):
        return ExitCode.FINDINGS
    complete = all(map(rendering.is_complete, traced))
    return ExitCode.CLEAN if complete else ExitCode.INCOMPLETE


def _check(flags: Flags) -> None:
    """Refuse flags that do not name one pair, or no cluster to trace it in; UsageError."""
    _check_pair(flags)
    options.require_one_source({"--snapshot": flags.snapshot, "--live": flags.live})
    if flags.snapshot is not None:
        if flags.traces == "exec":
            raise UsageError("--traces exec asks the pods of a live cluster, not a --snapshot")
        _say_unused(flags.access)


def _check_pair(flags: Flags) -> None:
    named = [flag for flag in (flags.src, flags.dst, flags.service, flags.dst_ip) if flag]
    if flags.words:
        if len(flags.words) not in (_MOST_WORDS - 1, _MOST_WORDS):
            raise UsageError(
                "trace takes FROM TO [PORT], as in: audit trace shop/front-0 svc/web http"
            )
        if named or flags.protocols:
            raise UsageError("give the pair either as FROM TO [PORT] or by flags")
        return
    if not flags.src:
        raise UsageError("name a pair: FROM TO [PORT], or -src POD and -dst POD -tcp")
    if sum(map(bool, (flags.dst, flags.service, flags.dst_ip))) != 1:
        raise UsageError("give exactly one of --dst, --service and --dst-ip")
    if len(set(flags.protocols)) != 1:
        raise UsageError("give exactly one of --tcp, --udp and --sctp")


def _trace(flags: Flags, snapshot: Path, *, quiet: bool) -> tuple[stages.PairTrace, ...]:
    with progress.shown(quiet=quiet) as shown:
        return command.trace(
            command.TraceOptions(
                snapshot=snapshot,
                names=flags.names,
                most_unpacked=flags.max_snapshot_size,
                ovn_prefix=flags.ovn_prefix,
                cluster=options.traced_cluster(flags.traces, flags.access),
                detrace=not flags.skip_detrace,
                raw=flags.raw,
            ),
            shown,
        )


def _say_unused(access: snapshots.Access) -> None:
    """Say which flags were given that only a live cluster has a use for."""
    flags = {
        "--kubeconfig": access.kubeconfig,
        "--context": access.context,
        "--ovn-config-namespace": access.namespace,
    }
    for flag, value in flags.items():
        if value:
            say.message("note", f"{flag} is of no use with --snapshot", err=True)


def _print(texts: Iterable[rendering.Text]) -> None:
    """Print texts; verdict lines coloured as ovnkube-trace's."""
    for text in texts:
        colour = None if text.indicates is None else _COLOURS[text.indicates]
        say.text(text.text, end="\n", colour=colour)
