"""Which cells no leg decides, though all legs were asked for. Pure."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import Matrix
from audit.model.verdicts import Reason
from audit.verdict.legs import LegResults


def undecided(
    results: Sequence[LegResults], matrix: Matrix, reasons: Collection[Reason]
) -> NDArray[np.int64]:
    """Return the composed cells whose legs come to one of these reasons.

    LEGS_DISAGREE are those that two traces showed differently, LEG_NOT_SHOWN those that none showed
    or that no trace but a cell's own can show.
    """
    cells = [np.zeros(0, dtype=np.int64)]
    for result in results:
        doubtful = _doubtful(result, reasons)
        if doubtful.any():
            cells += [
                legs.cells[doubtful[result.outcome(legs)[0]]] for legs in result.plan.walk(matrix)
            ]
    return np.concatenate(cells)


def undecided_replies(
    replies: Sequence[LegResults],
    requests: Sequence[LegResults],
    matrix: Matrix,
    reasons: Collection[Reason],
) -> NDArray[np.int64]:
    """Return the composed cells that arrive, and whose replies' legs come to one of these reasons.

    To LEG_NOT_SHOWN come also all that have no legs, as beside an ACL that is stateless.
    """
    cells = [np.zeros(0, dtype=np.int64)]
    for reply, request in zip(replies, requests, strict=True):
        doubtful = _doubtful(reply, reasons)
        if not doubtful.any():
            continue
        for legs in request.plan.walk(matrix):
            arrived = legs.cells[request.arrives(legs)]
            have_legs = request.plan.answers(matrix, arrived)
            back, _ = reply.outcome(reply.legs(matrix, arrived[have_legs]))
            cells.append(arrived[have_legs][doubtful[back]])
            if Reason.LEG_NOT_SHOWN in reasons:
                cells.append(arrived[~have_legs])
    return np.concatenate(cells)


def _doubtful(results: LegResults, reasons: Collection[Reason]) -> NDArray[np.bool_]:
    """Say of each decision whether it is for one of these reasons; of UNKNOWN, at the end."""
    return np.array(
        [*(d.reason in reasons for d in results.decisions), Reason.LEG_NOT_SHOWN in reasons],
        dtype=np.bool_,
    )
