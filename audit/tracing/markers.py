"""Markers of the cluster at both ends of a run, and what they make of its cells.

Copies are of one moment: what they say, they say of that. Traces in the pods read databases that
live on, so the cluster is looked at again when they are done. Pods that changed meanwhile, or whose
policies or namespaces did, were planned as they are no more: their cells are untraced.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.errors import ClusterError
from audit.model.facts import ClusterState, Note
from audit.model.matrix import CellVerdicts, Matrix
from audit.model.verdicts import CODE, NO_VERDICT, REASON_CODE, Reason, Verdict
from audit.tracing.every_plane import Traced
from audit.tracing.options import Options, Progress
from audit.tracing.plan import Planned

if TYPE_CHECKING:
    from audit.facts.live.afterwards import Afterwards

_Code = TypeVar("_Code", np.uint8, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What was traced, without what is not known any more; and the markers, for run.json."""

    traced: Traced
    markers: Mapping[str, Any]


def settle(options: Options, planned: Planned, traced: Traced, progress: Progress) -> Settled:
    """Look at a cluster again that was traced in its pods; of copies the markers are known."""
    start = _start(planned.state)
    if options.cluster is None or options.snapshot is None:
        return Settled(traced=traced, markers={"start": start, "end": None})
    from audit.facts.live import afterwards  # noqa: PLC0415 - only who asks a cluster pays for its client

    progress.phase("looking what changed", 0)
    try:
        later = afterwards.look(options.cluster, options.snapshot)
    except ClusterError as error:
        text = f"whether the cluster changed while it was traced could not be looked at: {error}"
        note = Note(code="end-unread", text=text)
        unread = replace(traced, notes=(*traced.notes, note))
        return Settled(traced=unread, markers={"start": start, "end": None})
    end = {
        "resource_versions": dict(later.resource_versions),
        "zones": {zone: dict(counters) for zone, counters in later.markers.items()},
    }
    verdicts, lost = withdrawn(planned.matrix, traced.verdicts, later.changed)
    settled = replace(
        traced,
        verdicts=verdicts,
        incomplete=traced.incomplete or lost,
        notes=(*traced.notes, *_notes(planned.state, later)),
    )
    return Settled(traced=settled, markers={"start": start, "end": end})


def _start(state: ClusterState) -> dict[str, Any]:
    zones = {zone.name: dict(zone.markers) for zone in state.zones.values()}
    return {"resource_versions": dict(state.resource_versions), "zones": zones}


def withdrawn(
    of: Matrix, verdicts: CellVerdicts, changed: frozenset[str]
) -> tuple[CellVerdicts, bool]:
    """Return verdicts without those of pods that changed, and whether there were any."""
    gone = np.array(
        [f"{endpoint.namespace}/{endpoint.name}" in changed for endpoint in of.endpoints],
        dtype=np.bool_,
    )
    cells = gone[of.src] | gone[of.dst] if len(of) else np.zeros(0, dtype=np.bool_)
    cells &= verdicts.verdict != CODE[Verdict.UNTRACED]
    if not cells.any():
        return verdicts, False
    untraced = CODE[Verdict.UNTRACED]

    def instead(column: NDArray[_Code], code: int) -> NDArray[_Code]:
        return np.where(cells, column.dtype.type(code), column)

    def if_asked(column: NDArray[_Code] | None, code: int) -> NDArray[_Code] | None:
        return None if column is None else instead(column, code)

    return replace(
        verdicts,
        verdict=instead(verdicts.verdict, untraced),
        reply=instead(verdicts.reply, NO_VERDICT),
        reason=instead(verdicts.reason, REASON_CODE[Reason.CHANGED_MEANWHILE]),
        blame=instead(verdicts.blame, -1),
        trace=instead(verdicts.trace, -1),
        logical=if_asked(verdicts.logical, untraced),
        datapath=if_asked(verdicts.datapath, untraced),
        drift=if_asked(verdicts.drift, NO_VERDICT),
    ), True


def _notes(state: ClusterState, later: "Afterwards") -> Iterator[Note]:
    if later.changed:
        pods = tuple(sorted(later.changed))
        text = (
            f"{len(pods)} pods, or policies or namespaces that concern them, changed while the "
            "cluster was traced: their cells are untraced"
        )
        yield Note(code="changed-meanwhile", text=text, subjects=pods)
    moved = tuple(
        sorted(
            zone
            for zone, counters in later.markers.items()
            if zone in state.zones and dict(state.zones[zone].markers) != dict(counters)
        )
    )
    if moved:
        text = (
            f"the databases of {len(moved)} zones went on while they were traced "
            "(markers in run.json)"
        )
        yield Note(code="zone-went-on", text=text, subjects=moved)
