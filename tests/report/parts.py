"""Runs that tests hold in memory, as the page reads them: part by part."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from audit.model.matrix import Cells
from audit.model.run import Run, StreamedRun
from audit.model.verdicts import NO_VERDICT
from audit.report import render


def streamed(run: Run, size: int = 1_000_000) -> StreamedRun:
    """Return the run as one that is read `size` cells at a time."""
    return StreamedRun(
        path=run.path,
        manifest=run.manifest,
        endpoints=run.matrix.endpoints,
        ports=run.matrix.ports,
        policies=run.policies,
        traces=run.traces,
        parts=lambda: _parts(run, size),
        blames=lambda: run.verdicts.blames,
        trace_keys=lambda: run.verdicts.trace_keys,
    )


def _parts(run: Run, size: int) -> Iterator[Cells]:
    matrix, verdicts = run.matrix, run.verdicts
    drift = verdicts.drift
    whole = Cells(
        src=matrix.src,
        dst=matrix.dst,
        family=matrix.family,
        port=matrix.port,
        verdict=verdicts.verdict,
        reply=verdicts.reply,
        reason=verdicts.reason,
        drift=np.full(len(matrix), NO_VERDICT, np.uint8) if drift is None else drift,
        blame=verdicts.blame,
        trace=verdicts.trace,
        other_trace=verdicts.other_trace,
        intent=verdicts.intent,
        logical=verdicts.logical,
        datapath=verdicts.datapath,
        probe=verdicts.probe,
    )
    for first in range(0, len(matrix), size):
        yield whole.take(slice(first, first + size))


def render_html(run: Run, **options: Any) -> str:
    """Return the page of a run."""
    return render.render_html(streamed(run), **options)
