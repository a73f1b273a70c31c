"""Whatever the legs are, few cells show all that are needed, and few rounds the unforeseen."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.cover import represent
from audit.model.endpoints import Port
from audit.model.legs import NO_WAY, CellLegs, LegPlan, LegTable, Locality
from audit.model.matrix import Matrix
from audit.model.packets import Protocol
from audit.model.verdicts import Reason, Verdict
from audit.tracing.follow import MOST_ROUNDS
from audit.verdict import legs
from audit.verdict.compose import Decision
from audit.verdict.legs import LegResults, Shown
from tests.verdict import made

PORTS = tuple(Port(protocol=Protocol.TCP, number=80 + i) for i in range(3))
PASSES = Decision(verdict=Verdict.REACHABLE, reason=Reason.DELIVERED, trace="t")
STOPS = Decision(verdict=Verdict.BLOCKED, reason=Reason.ACL_DROP, trace="t")


class Case:
    """A matrix and a leg plan of it, both made of a seed; the legs mean nothing."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.count = int(self.draw.integers(2, 9))
        self.matrix = self._matrix()
        switch = self._some(3)
        host = self.draw.random(self.count) < 0.2
        sending = (switch * 2 + self._some(2)).astype(np.int64)
        receiving = (switch * 2 + self._some(2)).astype(np.int64)
        between = (int(sending.max()) + 1, int(receiving.max()) + 1 + int(switch.max()) + 1)
        ways = self._ways(*between)
        self.plan = LegPlan(
            family=0,
            composed=self.draw.random(len(self.matrix)) < 0.8,
            switch=switch,
            host=host,
            sending=sending,
            receiving=receiving,
            answered=np.where(host, receiving.max() + 1 + switch, receiving),
            ways=ways,
            common=np.zeros(int(ways.max()) + 1, dtype=np.bool_),
            apart=np.arange(ways.size, dtype=np.int64).reshape(ways.shape),
            unjoined=np.zeros(between, dtype=np.bool_),
            egress=self._table(),
            ingress=self._table(),
            deciders=("one",),
            met_own=switch.astype(np.int64),
            met_other=np.zeros((int(switch.max()) + 1, self.count), dtype=np.int64),
            stateful=np.ones(self.count, dtype=np.bool_),
            composable=made.composable(host, len(PORTS)),
        )

    def _ways(self, senders: int, receivers: int) -> NDArray[np.int64]:
        """Return ways of which some are shared."""
        drawn = self.draw.integers(0, senders * receivers, (senders, receivers))
        _, ways = np.unique(drawn, return_inverse=True)
        return ways.reshape(senders, receivers).astype(np.int64)

    def _some(self, below: int) -> NDArray[np.int32]:
        return self.draw.integers(0, below, self.count, dtype=np.int32)

    def _matrix(self) -> Matrix:
        count, ports = self.count, len(PORTS)
        return Matrix(
            endpoints=tuple(made.pod(f"p{i}", f"10.128.0.{i + 5}") for i in range(count)),
            ports=PORTS,
            src=np.repeat(np.arange(count, dtype=np.int32), count * ports),
            dst=np.tile(np.repeat(np.arange(count, dtype=np.int32), ports), count),
            family=np.zeros(count * count * ports, dtype=np.int8),
            port=np.tile(np.arange(ports, dtype=np.int32), count * count),
        )

    def _table(self) -> LegTable:
        classes = int(self.draw.integers(1, self.count + 1))
        atoms = self.draw.integers(1, self.count + 1, classes)
        width = self.draw.integers(1, len(PORTS) + 1, classes)
        sizes = atoms * width
        # Within a class, some ports of an atom share a leg.
        drawn = np.repeat(np.arange(len(sizes)), sizes) * 64 + self.draw.integers(0, 9, sizes.sum())
        legs = np.unique(drawn, return_inverse=True)[1].reshape(-1).astype(np.int64)
        predicted = (self.draw.random(int(legs.max()) + 1) < 0.4).astype(np.uint8)
        return LegTable(
            classes=np.stack([self._some(classes) for _ in Locality]),
            atoms=np.stack([self._some(int(n)) for n in atoms]),
            port_atoms=np.stack(
                [self.draw.integers(0, n, len(PORTS), dtype=np.int32) for n in width]
            ),
            first=np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64),
            width=width.astype(np.int64),
            legs=legs,
            predicted=predicted,
            decider=np.where(predicted == 1, 0, -1).astype(np.int32),
            zonal=np.full(len(predicted), -1, dtype=np.int64),
            zone=np.zeros(self.count, dtype=np.int64),
        ).by_zone(self.draw.random(len(predicted)) < 0.2, self._some(3).astype(np.int64))

    @property
    def composed(self) -> CellLegs:
        """The legs of all composed cells."""
        return self.plan.of(self.matrix, np.flatnonzero(self.plan.composed))


cases = st.integers(0, 1 << 32).map(Case)


def choose(case: Case, *, big: bool) -> NDArray[np.int64]:
    """Choose as of a matrix that is gone through at once, or of one that is too big for that."""
    with pytest.MonkeyPatch.context() as patch:
        if big:
            patch.setattr(represent, "CELLS_AT_A_TIME", 0)
            patch.setattr("audit.model.legs.CELLS_AT_A_TIME", 8)
        return represent.choose(case.matrix, case.plan)


def pairs(found: CellLegs) -> NDArray[np.int64]:
    return found.transit[found.transit >= 0]


@given(case=cases, big=st.booleans())
def test_every_leg_that_a_packet_comes_to_is_shown(*, case: Case, big: bool) -> None:
    chosen = choose(case, big=big)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert case.plan.composed[chosen].all()
    everything, shown = case.composed, case.plan.of(case.matrix, chosen)
    assert set(everything.egress) == set(shown.egress)
    coming, _ = case.plan.predicted(everything)
    shows, _ = case.plan.predicted(shown)
    assert set(everything.ingress[coming]) == set(shown.ingress[shows])
    needed = case.plan.of(case.matrix, everything.cells[coming])
    assert set(pairs(needed)) == set(pairs(case.plan.of(case.matrix, chosen[shows])))
    assert set(needed.arrival) <= {NO_WAY, *shown.arrival[shows].tolist()}


@given(case=cases, big=st.booleans())
def test_every_endpoint_is_used_as_a_source_and_as_a_destination(*, case: Case, big: bool) -> None:
    chosen = choose(case, big=big)
    everything, shown = case.composed, case.plan.of(case.matrix, chosen)
    coming, _ = case.plan.predicted(everything)
    shows, _ = case.plan.predicted(shown)
    m = case.matrix
    assert set(m.src[everything.cells]) == set(m.src[chosen])
    assert set(m.dst[everything.cells[coming]]) == set(m.dst[chosen[shows]])


@given(case=cases, big=st.booleans())
def test_no_more_cells_are_chosen_than_there_is_to_show(*, case: Case, big: bool) -> None:
    chosen = choose(case, big=big)
    found = case.composed
    parts = (found.egress, found.transit, found.arrival, found.ingress)
    things = sum(len(set(ids)) for ids in parts)
    assert len(chosen) <= things + 2 * case.count


@given(cases)
def test_every_leg_of_a_reply_to_what_arrives_is_shown(case: Case) -> None:
    traced = np.zeros(len(case.matrix), dtype=np.bool_)
    traced[represent.choose(case.matrix, case.plan)] = True
    chosen = represent.choose_replies(case.matrix, case.plan, traced)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    arriving = case.composed.cells[case.plan.arrives(case.matrix, case.composed)]
    assert set(chosen) <= set(arriving)
    needed, shown = (case.plan.replies(case.matrix, cells) for cells in (arriving, chosen))
    assert set(needed.egress) == set(shown.egress)
    assert set(needed.ingress) == set(shown.ingress)
    # A request that passes shows the way to its destination, to replies that go there too.
    asked = case.plan.of(case.matrix, np.flatnonzero(case.plan.composed & traced))
    passes, _ = case.plan.predicted(asked)
    ways = set(pairs(shown)) | set(asked.transit[passes].tolist())
    assert set(pairs(needed)) <= ways
    assert len(chosen) <= sum(len(set(ids)) for ids in (needed.egress, needed.ingress)) + len(
        set(pairs(needed))
    )


def test_replies_have_no_legs_where_an_acl_is_stateless() -> None:
    case = Case(3)
    stateless = dataclasses.replace(case.plan, stateful=np.zeros_like(case.plan.stateful))
    everything = np.ones(len(case.matrix), dtype=np.bool_)
    assert represent.choose_replies(case.matrix, case.plan, everything).size
    assert not represent.choose_replies(case.matrix, stateless, everything).size


def rounds_until_known(case: Case, truth: Callable[[CellLegs], list[Shown]]) -> int:
    """Trace the chosen cells, then what is missing; return how often something was."""
    results = LegResults(case.plan)
    asked = represent.choose(case.matrix, case.plan)
    seen: set[int] = set()
    for count in range(len(case.matrix)):
        found = case.plan.of(case.matrix, asked)
        for place, what in enumerate(truth(found)):
            results.learn(found, place, what)
        seen |= set(asked.tolist())
        asked = legs.unknown([results], case.matrix)
        assert not seen & set(asked.tolist()), "a traced cell leaves nothing unknown of itself"
        if not asked.size:
            return count
    pytest.fail("some leg is never shown")


def one_way(
    egress: NDArray[np.bool_],
    transit: NDArray[np.bool_],
    arrival: NDArray[np.bool_],
    ingress: NDArray[np.bool_],
) -> Callable[[CellLegs], list[Shown]]:
    """Return what traces show where legs pass so."""

    def truth(found: CellLegs) -> list[Shown]:
        shown = []
        ids = (found.egress, found.transit, found.arrival, found.ingress)
        for out, between, at, into in zip(*ids, strict=True):
            passes = [
                bool(egress[out]),
                bool(between < 0 or transit[between]),
                bool(at < 0 or arrival[at]),
                bool(ingress[into]),
            ]
            parts = [PASSES if good else STOPS for good in passes]
            reached = 1 + (passes.index(False) if False in passes else 3)
            given = [part if i < reached else None for i, part in enumerate(parts)]
            first, second, third, fourth = given
            shown.append(Shown(egress=first, transit=second, arrival=third, ingress=fourth))
        return shown

    return truth


@given(cases)
def test_traces_as_predicted_leave_no_leg_unknown(case: Case) -> None:
    plan = case.plan
    egress = plan.egress.predicted == 0
    ingress = plan.ingress.predicted == 0
    transit = np.ones(plan.transit_count, dtype=np.bool_)
    arrival = np.ones(plan.arrival_count, dtype=np.bool_)
    assert rounds_until_known(case, one_way(egress, transit, arrival, ingress)) == 0


@given(cases, st.floats(0.1, 1))
def test_whatever_the_traces_say_few_rounds_show_every_leg(case: Case, passing: float) -> None:
    plan = case.plan
    truth = [
        case.draw.random(count) < passing
        for count in (
            len(plan.egress),
            plan.transit_count,
            plan.arrival_count,
            len(plan.ingress),
        )
    ]
    assert rounds_until_known(case, one_way(*truth)) < MOST_ROUNDS


def test_nothing_is_chosen_where_nothing_is_composed() -> None:
    case = Case(1)
    case.plan.composed[:] = False
    assert represent.choose(case.matrix, case.plan).tolist() == []
