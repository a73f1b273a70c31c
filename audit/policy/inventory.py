"""Which difference between OVN's databases and the objects explains a cell's drift. Pure.

A difference says whose packets it concerns, with whom, and which way OVN errs. A cell that is all
of that is explained by it, and no other.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.model.inventory import Difference
from audit.model.matrix import Matrix
from audit.model.policies import Direction
from audit.model.verdicts import PolicyRef

NOTHING = -1


def explain(
    matrix: Matrix,
    cells: NDArray[np.int64],
    passes: NDArray[np.bool_],
    decided: Sequence[Collection[PolicyRef]],
    differences: Sequence[Difference],
) -> NDArray[np.int32]:
    """Return the difference that explains each cell, by its place; NOTHING where none does.

    `passes[i]` is what OVN does with `cells[i]`, and `decided[i]` are the policies that share in
    that decision.
    """
    explained_by = np.full(len(cells), NOTHING, dtype=np.int32)
    ends = {
        Direction.INGRESS: (matrix.dst[cells], matrix.src[cells]),
        Direction.EGRESS: (matrix.src[cells], matrix.dst[cells]),
    }
    places = {endpoint.key: index for index, endpoint in enumerate(matrix.endpoints)}
    for number, difference in enumerate(differences):
        open_ = np.flatnonzero(explained_by == NOTHING)
        if not open_.size:
            break
        for effect in difference.effects:
            subject, other = ends[Direction(effect.direction)]
            met = _among(effect.pods, places, len(places))[subject[open_]]
            if effect.others is not None:
                met &= _among(effect.others, places, len(places))[other[open_]]
            if effect.passes is not None:
                met &= passes[open_] == effect.passes
            if effect.policy is not None:
                met &= [effect.policy in decided[index] for index in open_.tolist()]
            explained_by[open_[met]] = number
    return explained_by


def _among(keys: frozenset[str], places: dict[str, int], size: int) -> NDArray[np.bool_]:
    members = np.zeros(size, dtype=np.bool_)
    members[[places[key] for key in keys if key in places]] = True
    return members
