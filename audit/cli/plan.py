"""`audit plan`: everything up to the first trace."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from audit.cli import engines, groups, options, progress, say, values
from audit.commands import intent as intents
from audit.commands import snapshot as snapshots
from audit.model.endpoints import EndpointKind
from audit.model.facts import Note
from audit.model.findings import Finding, Severity, severity_of_note
from audit.model.options import DEFAULT_PLANES, INTENT_ALONE, PlaneName
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
@options.live_anyway_option
@options.scope_options
@click.option(
    "--planes",
    type=values.Planes(),
    metavar="PLANE[,PLANE]",
    help="The planes that the run would be asked for. Default: intent,logical.",
)
@engines.install_option
@options.quiet_option
@options.output_option("text", "json")
def plan(
    *,
    snapshot: Path | None,
    live: bool,
    max_snapshot_size: int,
    access: snapshots.Access,
    ovn_prefix: Path | None,
    scope: scopes.Scope,
    planes: frozenset[PlaneName] | None,
    install_ovn: bool,
    quiet: bool,
    output: str,
) -> None:
    """Say what a run would trace: endpoints, cells, traces, an estimate. Nothing is traced.

    The estimates are for a run whose other options are the defaults.

    \b
    Examples:
      audit plan --snapshot cluster.tar.gz --selector app=web --port tcp/80
      audit plan --snapshot cluster.tar.gz --planes logical,datapath
    """
    options.require_one_source({"--snapshot": snapshot, "--live": live})
    silent = quiet or not sys.stderr.isatty()
    asked_planes = planes or DEFAULT_PLANES
    with ExitStack() as stack, progress.shown(quiet=silent) as shown:
        taken = snapshot or stack.enter_context(
            snapshots.captured(access, shown, databases=asked_planes != INTENT_ALONE)
        )
        request = tracing.Options(
            snapshot=taken,
            most_unpacked=max_snapshot_size,
            scope=scope,
            ovn_prefix=ovn_prefix,
            planes=asked_planes,
        )
        if asked_planes == INTENT_ALONE:
            intended = intents.plan(request, shown, stack)
            described = _of_objects(intended)
            listed = _messages((), intended.notes)
        else:
            planned = engines.provided(
                lambda: planning.plan(request, shown, stack),
                snapshot=snapshot,
                prefix=ovn_prefix,
                install=install_ovn,
            )
            described = _described(planned, request)
            listed = _messages(intents.inventory(planned.state), planned.notes)
    described["notes"] = [text for _, text in listed]
    if output == "json":
        say.json(described)
    else:
        _print(described, listed)


def _of_objects(intended: intents.Intended) -> dict[str, Any]:
    """Return what a run amounts to that asks no OVN, by the keys of `_described`."""
    return {
        "planes": [str(PlaneName.INTENT)],
        "endpoints": len(intended.layout.endpoints),
        "cells": len(intended.layout),
        **dict.fromkeys(("composed", "not_traceable", "requests", "estimate_traces"), 0),
        "estimate_s": None,
        "in_all": "A run would trace nothing: the policy objects alone decide these cells.",
        "cover": "none",
        "engine": None,
        "zones": {},
    }


def _described(planned: planning.Planned, request: tracing.Options) -> dict[str, Any]:
    """Return what a run amounts to, for people and programs.

    An estimate is None where none can be made: of what the nodes' switches are asked.
    """
    zones = Counter(task.zone for task in planned.cover.tasks)
    requests = len(planned.cover.tasks)
    without = ~planned.cover.has_request
    composed = sum(int((plan.composed & without).sum()) for plan in planned.legs)
    composed += sum(int(without[some.cells].sum()) for some in planned.services)
    verified = min(request.verify, composed)
    seconds = sum(_seconds(planned, *zone) for zone in zones.items())
    traces = round((requests + verified) * HOPS_PER_REQUEST)
    switches = PlaneName.DATAPATH in request.planes
    return {
        "planes": [str(plane) for plane in PlaneName if plane in request.planes],
        "endpoints": len(planned.matrix.endpoints),
        "cells": len(planned.matrix),
        "composed": composed,
        "not_traceable": int(without.sum()) - composed,
        "requests": requests,
        "estimate_traces": None if switches else traces,
        "estimate_s": None if switches else round(seconds * (1 + verified / max(requests, 1)), 2),
        "in_all": _in_all(planned, traces, switches=switches),
        "cover": planned.cover.name,
        "engine": f"OVN {planned.engine.version}",
        "zones": dict(sorted(zones.items())),
    }


def _in_all(planned: planning.Planned, traces: int, *, switches: bool) -> str:
    """Say how many traces a run would make, with those that follow from the first ones."""
    about = f"{_rounded(traces):,}"
    if switches:
        return (
            "How many traces a run would make in all cannot be estimated with the datapath plane, "
            f"which follows every cell from node to node; the logical plane takes about {about} or "
            "more."
        )
    if any(end.kind is EndpointKind.SERVICE for end in planned.matrix.endpoints):
        return (
            f"A run would make at least {about} traces in all, and more the more endpoints the "
            "Services have: packets are followed to each."
        )
    return (
        f"A run would make about {about} traces in all: these, what follows from them, and those "
        "that verify composed cells."
    )


def _rounded(number: int) -> int:
    """Return a number with two digits that count: an estimate is no better."""
    return round(number, min(0, 2 - len(str(number))))


def _messages(differences: Iterable[Finding], notes: Iterable[Note]) -> list[tuple[Severity, str]]:
    """Return what is to be known about the cluster, errors first, then warnings."""
    listed = [
        *((finding.severity, finding.text) for finding in differences),
        *((severity_of_note(note.code), note.text) for note in notes),
    ]
    return sorted(listed, key=lambda message: list(Severity).index(message[0]))


def _print(described: Mapping[str, Any], listed: Iterable[tuple[Severity, str]]) -> None:
    """Print a plan: what there is, how it would be decided, what it would take."""
    say.line(f"endpoints  {described['endpoints']:>11,}")
    say.line(f"cells      {described['cells']:>11,}")
    for key, words in _DECIDED.items():
        if described[key]:
            say.line(f"  {described[key]:>19,}  {words}")
    seconds = described["estimate_s"]
    if seconds is not None:
        say.line(f"time       {'a second' if seconds < 1 else f'about {seconds:,.0f} s':>11}")
    if described["engine"] is not None:
        say.line(f"engine     {described['engine']:>11}")
        say.line("traces begin in:")
    for zone, traces in described["zones"].items():
        say.line(f"  {traces:>19,}  zone {zone}")
    say.line(described["in_all"])
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
