"""`audit plan`: everything up to the first trace."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from audit import pipeline
from audit.cli import options, progress
from audit.plan.scope import Scope
from audit.report.explain import printable

SECONDS_PER_TRACE = 0.0012
"""Measured on one core of the class of machine this is developed on, traces of 9 kB."""
HOPS_PER_REQUEST = 2.0
"""A request, the other zone's half of two in three, and the replies of one in three."""


@click.command()
@options.source_options()
@options.scope_options
@options.output_option("text", "json")
def plan(
    *,
    snapshot: Path | None,
    access: pipeline.Access,
    ovn_prefix: Path | None,
    scope: Scope,
    output: str,
) -> None:
    """Say what a run would trace: endpoints, cells, traces, an estimate. Nothing is traced.

    \b
    Example:
      audit plan --snapshot cluster.tar.gz --selector app=web --port tcp/80
    """
    with ExitStack() as stack, progress.shown(quiet=True) as shown:
        if snapshot is None:
            snapshot = stack.enter_context(pipeline.captured(access, shown))
        asked = pipeline.Options(snapshot=snapshot, scope=scope, ovn_prefix=ovn_prefix)
        described = _described(pipeline.plan(asked, shown, stack))
    if output == "json":
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for name, value in described.items():
        if name == "zones":
            click.echo(f"{'zones':<14}{len(value):>12,}")
            for zone, traces in value.items():
                click.echo(f"  {printable(zone):<30}{traces:>12,} requests")
        elif name == "notes":
            for note in value:
                click.echo(f"note: {printable(note)}")
        else:
            shown_value = f"{value:,}" if isinstance(value, int | float) else value
            click.echo(f"{name.replace('_', ' '):<14}{shown_value:>12}")


def _described(planned: pipeline.Planned) -> dict[str, Any]:
    """Return what a plan amounts to, for people and programs."""
    zones = Counter(task.zone for task in planned.cover.tasks)
    traces = len(planned.cover.tasks)
    without = ~planned.cover.asked
    composed = sum(int((plan.composed & without).sum()) for plan in planned.legs)
    return {
        "endpoints": len(planned.matrix.endpoints),
        "cells": len(planned.matrix),
        "composed": composed,
        "not_traceable": int(without.sum()) - composed,
        "cover": planned.cover.name,
        "requests": traces,
        "estimate_s": round(traces * HOPS_PER_REQUEST * SECONDS_PER_TRACE),
        "engine": f"OVN {planned.engine.version}",
        "zones": dict(sorted(zones.items())),
        "notes": [note.text for note in planned.notes],
    }
