"""Which cells no leg decides, because traces of other cells contradict each other. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.model.matrix import Matrix
from audit.model.verdicts import Reason
from audit.verdict.legs import LegResults


def disputed(results: Sequence[LegResults], matrix: Matrix) -> NDArray[np.int64]:
    """Return the cells whose deciding leg is one that two traces showed differently."""
    found = [np.zeros(0, dtype=np.int64)]
    for known in results:
        doubtful = np.array(
            [*(d.reason is Reason.LEGS_DISAGREE for d in known.decisions), False], dtype=np.bool_
        )
        if doubtful.any():
            found += [
                legs.cells[doubtful[known.outcome(legs)[0]]] for legs in known.plan.walk(matrix)
            ]
    return np.concatenate(found)
