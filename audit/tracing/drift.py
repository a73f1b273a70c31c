"""Two planes' verdicts → what is said about the cells they disagree on."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.model.endpoints import Endpoint
from audit.model.facts import Note
from audit.model.findings import (
    MOST_SAID,
    Disagreement,
    Finding,
    FindingKind,
    of_disagreements,
)
from audit.model.matrix import CellVerdicts, Matrix, proven
from audit.model.verdicts import NO_VERDICT, REASONS, STOPPED, VERDICTS, Verdict
from audit.tracing.follow import Tracing, disagreement_fields
from audit.verdict.drift import DRIFT
from audit.verdict.judge import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """How many cells drift of those both planes decided, at which nodes, and some in sentences."""

    cells: int
    of: int
    nodes: dict[str, int]
    disagreements: tuple[Disagreement, ...]

    def fields(self) -> dict[str, Any]:
        """Return it for run.json."""
        return {
            "cells": self.cells,
            "of": self.of,
            "nodes": self.nodes,
            **disagreement_fields(self.disagreements),
        }

    def findings(self) -> tuple[Finding, ...]:
        """Return it as findings; none where the planes agree."""
        return of_disagreements(FindingKind.DATAPATH_DRIFT, self.disagreements, count=self.cells)


def drifted(matrix: Matrix, verdicts: CellVerdicts, logical: Tracing, datapath: Tracing) -> Drifted:
    """Return what drifts in `verdicts`, which are of two planes."""
    assert verdicts.drift is not None  # noqa: S101 - two planes were merged
    cells = np.flatnonzero(verdicts.drift == DRIFT)
    nodes: Counter[str] = Counter()
    disagreements: list[Disagreement] = []
    for cell in cells.tolist():
        drifting = _Cell(matrix, verdicts, cell, logical, datapath)
        nodes[drifting.node] += 1
        if len(disagreements) < MOST_SAID:
            disagreements.append(drifting.disagreement())
    return Drifted(
        cells=len(cells),
        of=int((verdicts.drift != NO_VERDICT).sum()),
        nodes=dict(sorted(nodes.items())),
        disagreements=tuple(disagreements),
    )


def unheard(logical: CellVerdicts, datapath: CellVerdicts) -> tuple[Note, ...]:
    """Say how many cells only OVN's own word is known of, and why; nothing where there is none."""
    alone = proven(logical.verdict) & ~proven(datapath.verdict)
    if not alone.any():
        return ()
    reasons = Counter(REASONS[code] for code in datapath.reason[alone].tolist())
    why = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
    text = (
        f"{int(alone.sum())} cells are decided by the logical plane alone, as the datapath proves "
        f"nothing of them; reasons and cells: {why}"
    )
    return (Note(code="datapath-unproven", text=text),)


class _Cell:
    """One cell that drifts."""

    def __init__(
        self,
        matrix: Matrix,
        verdicts: CellVerdicts,
        cell: int,
        logical: Tracing,
        datapath: Tracing,
    ) -> None:
        assert verdicts.logical is not None  # noqa: S101 - there is drift
        assert verdicts.datapath is not None  # noqa: S101
        assert verdicts.other_trace is not None  # noqa: S101
        self._src: Endpoint = matrix.endpoints[matrix.src[cell]]
        self._dst: Endpoint = matrix.endpoints[matrix.dst[cell]]
        self._name, self._about = matrix.describe(cell), matrix.about(cell)
        self._verdicts: tuple[Verdict, Verdict] = (
            VERDICTS[verdicts.logical[cell]],
            VERDICTS[verdicts.datapath[cell]],
        )
        keys = (int(verdicts.other_trace[cell]), int(verdicts.trace[cell]))
        self._ends = [
            traced.end_of(verdicts.trace_keys[key]) if key >= 0 else None
            for traced, key in zip((logical, datapath), keys, strict=True)
        ]
        self._sent = logical.sent(cell)

    @property
    def node(self) -> str:
        """The node whose datapath is off: where it stopped the packet, or should have."""
        logical, datapath = self._ends
        if datapath is not None and datapath[0].verdict in STOPPED:
            # What was sent to a third node was sent astray by the first.
            astray = self._dst.node and datapath[1] != self._dst.node
            return self._src.node if astray else datapath[1]
        sent = self._sent
        if sent is None and logical is not None:
            sent = _at(logical[0], self._dst) and not _sending(logical[0])
        return self._dst.node if sent else self._src.node

    def disagreement(self) -> Disagreement:
        """Say what each plane says of it, and what decides there."""
        logical, datapath = (
            f"{verdict}{_why(end[0]) if end is not None else ''}"
            for verdict, end in zip(self._verdicts, self._ends, strict=True)
        )
        if self._verdicts[0] is self._verdicts[1]:
            datapath = f"{datapath}, but of the reply something else than the logical plane"
        return Disagreement(
            text=f"{self._name}: by the logical plane {logical}, "
            f"by the datapath of node {self.node} {datapath}",
            about=(*self._about, *map(str, self._verdicts)),
            cause=self._cause(),
        )

    def _cause(self) -> str:
        """Return what the datapath lacks where it stops the packet by no ACL; else nothing."""
        end = self._ends[1]
        if end is None or self._verdicts[1] is not Verdict.UNROUTABLE:
            return ""
        return end[0].detail or str(end[0].reason)


def _at(judgement: Judgement, endpoint: Endpoint) -> bool:
    attached = endpoint.attachment
    switch = (judgement.zone, judgement.datapath)
    return attached is not None and switch == (attached.zone, attached.switch)


def _sending(judgement: Judgement) -> bool:
    return judgement.stage.startswith("ls_in_")


def _why(judgement: Judgement) -> str:
    because = str(judgement.blame) if judgement.blame is not None else ""
    why = because or judgement.detail or str(judgement.reason)
    return f" ({why})"
