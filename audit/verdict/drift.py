"""Where two planes disagree, and what the cell is then. Pure; by array per cell."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.model.blindness import BLIND_REASONS
from audit.model.matrix import CellVerdicts, among, proven, where_known
from audit.model.verdicts import CODE, REASON_CODE, Blame, Verdict

DRIFT = 1
"""Of a cell that drifts; 0 where both planes prove the same."""
_BLIND = [REASON_CODE[reason] for reason in BLIND_REASONS]


def merged(logical: CellVerdicts, datapath: CellVerdicts) -> CellVerdicts:
    """Return the verdicts of both planes together, with the drift between them.

    The datapath is the stronger evidence: where it proves something and the logical plane
    something else, or nothing, its verdict, reason and blame are the cell's. Where both say the
    same, the logical plane's words stand, which name what was meant to happen. So they do where
    neither proves anything, unless only `ovn-trace` was blind: then the datapath saw more. `drift`
    is where both prove something, and the verdicts differ or those of the replies do; NO_VERDICT
    where a plane proves nothing.
    """
    certain = proven(datapath.verdict)
    both = certain & proven(logical.verdict)
    replied = proven(logical.reply) & proven(datapath.reply)
    differ = datapath.verdict != logical.verdict
    drift = both & (differ | (replied & (datapath.reply != logical.reply)))
    sees = among(logical.reason, _BLIND) & ~among(datapath.reason, _BLIND)
    doubts = sees & (datapath.verdict == CODE[Verdict.INCONCLUSIVE])
    decides = (certain & (differ | drift)) | doubts
    blames, moved = _joined(logical.blames, datapath.blames)
    keys = (*logical.trace_keys, *datapath.trace_keys)
    their_trace = _shifted(datapath.trace, len(logical.trace_keys))
    their_blame = np.array([*moved, -1], dtype=np.int32)[datapath.blame]
    return replace(
        logical,
        verdict=np.where(decides, datapath.verdict, logical.verdict),
        reply=np.where(decides, datapath.reply, logical.reply),
        reason=np.where(decides, datapath.reason, logical.reason),
        blame=np.where(decides, their_blame, logical.blame),
        trace=np.where(decides, their_trace, logical.trace),
        other_trace=np.where(decides, logical.trace, their_trace),
        blames=blames,
        trace_keys=keys,
        logical=logical.verdict,
        datapath=datapath.verdict,
        drift=where_known(both, drift),
    )


def _shifted(trace: NDArray[np.int32], by: int) -> NDArray[np.int32]:
    return np.where(trace < 0, trace, trace + by).astype(np.int32)


def _joined(ours: Sequence[Blame], theirs: Sequence[Blame]) -> tuple[tuple[Blame, ...], list[int]]:
    """Return both tables as one, and the index of each of `theirs` in it."""
    indices = {blame: index for index, blame in enumerate(ours)}
    moved = [indices.setdefault(blame, len(indices)) for blame in theirs]
    return tuple(indices), moved
