"""Two planes' verdicts as one, and where they disagree."""

from collections.abc import Sequence

import numpy as np
import pytest

from audit.model.matrix import CellVerdicts
from audit.model.verdicts import CODE, NO_VERDICT, REASON_CODE, Blame, Reason, Verdict
from audit.verdict.drift import merged

R, X, B, U, I, N = Verdict  # noqa: E741 - one letter a verdict, in their order
OURS, THEIRS = Blame(action="drop", owner="ours"), Blame(action="drop", owner="theirs")


def plane(
    verdicts: Sequence[Verdict], blame: Blame, key: str, replies: Sequence[Verdict | None] = ()
) -> CellVerdicts:
    codes = [CODE[v] for v in verdicts]
    answered = [NO_VERDICT if v is None else CODE[v] for v in replies or [None] * len(codes)]
    return CellVerdicts(
        verdict=np.array(codes, dtype=np.uint8),
        reply=np.array(answered, dtype=np.uint8),
        reason=np.full(len(codes), REASON_CODE[Reason.DELIVERED], dtype=np.uint8),
        blame=np.zeros(len(codes), dtype=np.int32),
        trace=np.arange(len(codes), dtype=np.int32),
        blames=(blame,),
        trace_keys=tuple(f"{key}{i}" for i in range(len(codes))),
    )


@pytest.mark.parametrize(
    ("logical", "datapath", "verdict", "drift", "by_datapath"),
    [
        (R, R, R, 0, False),
        (R, B, B, 1, True),
        (B, R, R, 1, True),
        (B, U, U, 1, True),
        (X, R, R, 1, True),
        (I, B, B, NO_VERDICT, True),
        (N, R, R, NO_VERDICT, True),
        (R, I, R, NO_VERDICT, False),
        (B, N, B, NO_VERDICT, False),
        (I, N, I, NO_VERDICT, False),
    ],
)
def test_what_the_datapath_proves_is_the_cell_s(
    logical: Verdict, datapath: Verdict, verdict: Verdict, drift: int, *, by_datapath: bool
) -> None:
    both = merged(plane([logical], OURS, "l"), plane([datapath], THEIRS, "d"))
    assert both.verdict.tolist() == [CODE[verdict]]
    assert both.drift is not None
    assert both.drift.tolist() == [drift]
    assert both.other_trace is not None
    evidence = (both.trace_keys[both.trace[0]], both.trace_keys[both.other_trace[0]])
    assert evidence == (("d0", "l0") if by_datapath else ("l0", "d0"))
    assert both.blames[both.blame[0]] == (THEIRS if by_datapath else OURS)
    assert both.logical is not None
    assert both.datapath is not None
    assert (both.logical[0], both.datapath[0]) == (CODE[logical], CODE[datapath])


@pytest.mark.parametrize(
    ("logical", "datapath", "below", "reason"),
    [
        (I, I, Reason.BACKENDS_DIFFER, Reason.BACKENDS_DIFFER),
        (I, I, Reason.HAIRPIN_NOT_TRANSLATED, Reason.HAIRPIN_NOT_TRANSLATED),
        (I, N, Reason.NODE_MISSING, Reason.HAIRPIN_NOT_TRANSLATED),
    ],
)
def test_where_ovn_trace_is_blind_the_datapath_says_why_nothing_is_proven(
    logical: Verdict, datapath: Verdict, below: Reason, reason: Reason
) -> None:
    blind, sees = plane([logical], OURS, "l"), plane([datapath], THEIRS, "d")
    blind.reason[:] = REASON_CODE[Reason.HAIRPIN_NOT_TRANSLATED]
    sees.reason[:] = REASON_CODE[below]
    both = merged(blind, sees)
    assert both.reason.tolist() == [REASON_CODE[reason]]
    assert both.verdict.tolist() == [CODE[I]]
    assert both.drift is not None
    assert both.drift.tolist() == [NO_VERDICT]


@pytest.mark.parametrize(
    ("ours", "theirs", "drift"), [(R, R, 0), (R, B, 1), (None, R, 0), (I, B, 0), (R, None, 0)]
)
def test_replies_that_differ_are_drift_too(
    ours: Verdict | None, theirs: Verdict | None, drift: int
) -> None:
    both = merged(plane([R], OURS, "l", [ours]), plane([R], THEIRS, "d", [theirs]))
    assert both.drift is not None
    assert both.drift.tolist() == [drift]
    if drift:
        assert theirs is not None
        assert both.reply.tolist() == [CODE[theirs]]


def test_a_cell_without_trace_or_blame_stays_without() -> None:
    ours, theirs = plane([R, I], OURS, "l"), plane([B, N], THEIRS, "d")
    theirs.blame[:] = -1
    theirs.trace[1] = ours.trace[1] = -1
    both = merged(ours, theirs)
    assert both.blame.tolist() == [-1, 0]
    assert both.other_trace is not None
    assert (both.trace[1], both.other_trace[1]) == (-1, -1)
