"""A cell is explained by a difference that concerns its ends, and the way OVN errs; by no other."""

import numpy as np
import pytest

from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.findings import FindingKind
from audit.model.inventory import Difference, Effect
from audit.model.matrix import Matrix
from audit.model.packets import Protocol
from audit.model.policies import Direction
from audit.model.verdicts import PolicyRef
from audit.policy.inventory import explain

STALE = PolicyRef(kind="NetworkPolicy", namespace="shop", name="gone")
OTHER = PolicyRef(kind="NetworkPolicy", namespace="shop", name="kept")
A, B, C = (f"pod shop/{name}" for name in "abc")


def difference(**effect: object) -> Difference:
    given = {"direction": Direction.INGRESS, "pods": frozenset({B})} | effect
    return Difference(
        kind=FindingKind.ADDRESS_SET_DIFFERS,
        text="it differs",
        zones=("z",),
        effects=(Effect(**given),),  # type: ignore[arg-type]
    )


def a_to_b(effect: Difference, *, passes: bool, by: PolicyRef = OTHER) -> int:
    pods = tuple(Endpoint(kind=EndpointKind.POD, namespace="shop", name=name) for name in "abc")
    one = np.zeros(1, np.int16)
    matrix = Matrix(
        endpoints=pods,
        ports=(Port(protocol=Protocol.TCP, number=80),),
        src=one,
        dst=one + 1,
        family=one.astype(np.int8),
        port=one,
    )
    ignored = Difference(kind=FindingKind.POD_DIFFERS, text="it has no effect", zones=())
    cells = np.zeros(1, np.int64)
    [found] = explain(matrix, cells, np.array([passes]), [{by}], [ignored, effect]).tolist()
    return int(found)


@pytest.mark.parametrize(
    ("effect", "passes", "explained"),
    [
        (difference(), False, True),
        (difference(others=frozenset({A}), passes=False), False, True),
        (difference(others=frozenset({A}), passes=False), True, False),
        (difference(others=frozenset({C})), False, False),
        (difference(direction=Direction.EGRESS), False, False),
        (difference(direction=Direction.EGRESS, pods=frozenset({A})), False, True),
        (difference(pods=frozenset({"pod shop/unknown"})), False, False),
        (difference(policy=OTHER), False, True),
        (difference(policy=STALE), False, False),
    ],
)
def test_a_difference_explains_what_it_concerns(
    effect: Difference, *, passes: bool, explained: bool
) -> None:
    assert a_to_b(effect, passes=passes) == (1 if explained else -1)
