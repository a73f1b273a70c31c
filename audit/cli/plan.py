"""`audit plan`: everything up to the first trace."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from audit.cli import engines, groups, options, progress, say
from audit.commands import intent as intents
from audit.commands import snapshot as snapshots
from audit.model.findings import Severity, severity_of_note
from audit.scope import scope as scopes
from audit.tracing import options as tracing
from audit.tracing import plan as planning

HOPS_PER_REQUEST = 1.6
"""A request, the other zone's half of every second one, and a few replies."""
SECONDS_PER_TRACE, SECONDS_PER_TRACE_AND_MB, SECONDS_PER_MB = 0.0008, 0.001, 0.2
"""Of one core of the class of machine this is developed on: a trace goes through the flows of its
zone's southbound database, which is served and read before. Measured at 0.3, 2 and 11 MB."""


@groups.command()
@options.source_options()
@options.scope_options
@engines.install_option
@options.quiet_option
@options.output_option("text", "json")
def plan(
    *,
    snapshot: Path | None,
    max_snapshot_size: int,
    access: snapshots.Access,
    ovn_prefix: Path | None,
    scope: scopes.Scope,
    install_ovn: bool,
    quiet: bool,
    output: str,
) -> None:
    """Say what a run would trace: endpoints, cells, traces, an estimate. Nothing is traced.

    \b
    Example:
      audit plan --snapshot cluster.tar.gz --selector app=web --port tcp/80
    """
    silent = quiet or not sys.stderr.isatty()
    with ExitStack() as stack, progress.shown(quiet=silent) as shown:
        taken = snapshot or stack.enter_context(snapshots.captured(access, shown))
        request = tracing.Options(
            snapshot=taken,
            most_unpacked=max_snapshot_size,
            scope=scope,
            ovn_prefix=ovn_prefix,
        )
        planned = engines.provided(
            lambda: planning.plan(request, shown, stack),
            snapshot=snapshot,
            prefix=ovn_prefix,
            install=install_ovn,
        )
        described = _described(planned)
    if output == "json":
        say.json(described)
        return
    _print(described, _messages(planned))


def _described(planned: planning.Planned) -> dict[str, Any]:
    """Return what a plan amounts to, for people and programs."""
    zones = Counter(task.zone for task in planned.cover.tasks)
    traces = len(planned.cover.tasks)
    without = ~planned.cover.has_request
    composed = sum(int((plan.composed & without).sum()) for plan in planned.legs)
    composed += sum(int(without[some.cells].sum()) for some in planned.services)
    return {
        "endpoints": len(planned.matrix.endpoints),
        "cells": len(planned.matrix),
        "composed": composed,
        "not_traceable": int(without.sum()) - composed,
        "cover": planned.cover.name,
        "requests": traces,
        "estimate_s": round(sum(_seconds(planned, *zone) for zone in zones.items())),
        "engine": f"OVN {planned.engine.version}",
        "zones": dict(sorted(zones.items())),
        "notes": [text for _, text in _messages(planned)],
    }


def _messages(planned: planning.Planned) -> list[tuple[Severity, str]]:
    """Return what is to be known about the cluster, errors first, then warnings."""
    listed = [
        *((finding.severity, finding.text) for finding in intents.inventory(planned.state)),
        *((severity_of_note(note.code), note.text) for note in planned.notes),
    ]
    return sorted(listed, key=lambda message: list(Severity).index(message[0]))


def _print(described: Mapping[str, Any], listed: Iterable[tuple[Severity, str]]) -> None:
    """Print a plan: what there is, how it would be decided, what it would take."""
    seconds = described["estimate_s"]
    say.line(f"endpoints  {described['endpoints']:>11,}")
    say.line(f"cells      {described['cells']:>11,}")
    for key, words in _DECIDED.items():
        if described[key]:
            say.line(f"  {described[key]:>19,}  {words}")
    say.line(f"time       {f'about {seconds:,} s' if seconds else 'a second':>11}")
    say.line(f"engine     {described['engine']:>11}")
    say.line("traces begin in:")
    for zone, traces in described["zones"].items():
        say.line(f"  {traces:>19,}  zone {zone}")
    for severity, text in listed:
        say.message(severity, text)


_DECIDED = {
    "requests": "traced, each with what follows from it: another zone, the reply",
    "composed": "decided by the legs of those traces",
    "not_traceable": "not traceable: a reason settles them",
}
"""How cells are decided, by the keys of what is described."""


def _seconds(planned: planning.Planned, zone: str, requests: int) -> float:
    """Return about how long the requests that begin in a zone keep all cores busy."""
    try:
        size_mb = planned.state.zones[zone].southbound.stat().st_size / 1e6
    except (LookupError, OSError):
        size_mb = 0.0
    traces = requests * HOPS_PER_REQUEST
    busy = traces * (SECONDS_PER_TRACE + SECONDS_PER_TRACE_AND_MB * size_mb)
    return (busy + SECONDS_PER_MB * size_mb) / (os.cpu_count() or 1)
