"""Expectations about pods that are on several networks."""

import datetime as dt
from dataclasses import replace

import pytest

from audit.compare import check
from audit.model.expectations import Expect, Expectation, Status
from audit.model.networks import Role
from tests.compare.test_compare import BLOCKED, REACHABLE, pod, port, run

A, B = pod("a"), pod("b")
ASIDE = replace(B, network="storage", role=Role.SECONDARY)
TODAY = dt.date(2026, 11, 29)


@pytest.mark.parametrize(
    ("expect", "primary", "aside", "status"),
    [
        (Expect.REACHABLE, REACHABLE, BLOCKED, Status.SATISFIED),
        (Expect.REACHABLE, BLOCKED, REACHABLE, Status.VIOLATED),
        (Expect.BLOCKED, BLOCKED, BLOCKED, Status.SATISFIED),
        (Expect.BLOCKED, BLOCKED, REACHABLE, Status.VIOLATED),
    ],
)
def test_who_may_reach_a_pod_does_so_on_its_primary_network_and_who_may_not_on_none(
    expect: Expect, primary: int, aside: int, status: Status
) -> None:
    recorded = run((A, B, ASIDE), (port(80),), {(0, 1, 0): primary, (0, 2, 0): aside})
    [checked] = check.check(
        recorded, [Expectation(name="it", expect=expect)], TODAY, lambda _: None
    )
    assert checked.status is status
