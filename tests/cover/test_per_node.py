"""A leg of a node is a leg and a node, whatever the legs are."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.cover import per_node
from audit.model.legs import NO_WAY, LegTable
from tests.cover.test_represent import Case


def _whole(table: LegTable) -> LegTable:
    return replace(table, zonal=np.full_like(table.zonal, -1))


@given(st.integers(min_value=0, max_value=10_000))
def test_cells_share_a_leg_where_they_shared_one_and_the_node_is_the_same(seed: int) -> None:
    case = Case(seed)
    # A node is in one zone; these endpoints' are drawn, so no leg is by zone.
    plan = replace(case.plan, egress=_whole(case.plan.egress), ingress=_whole(case.plan.ingress))
    names = case.draw.choice(["one", "two", "three"], case.count)
    matrix = replace(
        case.matrix,
        endpoints=tuple(
            replace(endpoint, node=str(name))
            for endpoint, name in zip(case.matrix.endpoints, names, strict=True)
        ),
    )
    fine = per_node.refined(matrix, plan)
    cells = np.arange(len(matrix), dtype=np.int64)
    before, after = plan.of(matrix, cells), fine.of(matrix, cells)
    for side, end in (("egress", matrix.src), ("ingress", matrix.dst)):
        coarse, split = getattr(before, side), getattr(after, side)
        pairs = set(zip(coarse.tolist(), names[end].tolist(), split.tolist(), strict=True))
        assert len({(leg, node) for leg, node, _ in pairs}) == len(pairs)
        assert len({leg for _, _, leg in pairs}) == len(pairs)
    for own, theirs in zip(plan.predicted(before), fine.predicted(after), strict=True):
        assert np.array_equal(own, theirs)
    apart = plan.apart[plan.sending[matrix.src], plan.receiving[matrix.dst]]
    assert np.array_equal(after.transit, np.where(before.transit == NO_WAY, NO_WAY, apart))
    assert not fine.common.any()
