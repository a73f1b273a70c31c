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
    found = [np.zeros(0, dtype=np.int64)]
    for known in results:
        doubtful = np.array(
            [*(d.reason in reasons for d in known.decisions), Reason.LEG_NOT_SHOWN in reasons],
            dtype=np.bool_,
        )
        if doubtful.any():
            found += [
                legs.cells[doubtful[known.outcome(legs)[0]]] for legs in known.plan.walk(matrix)
            ]
    return np.concatenate(found)
