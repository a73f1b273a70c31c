"""Legs on recorded clusters: prediction against the recorded tool, and what covers what."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from audit.cover import classes, represent
from audit.cover.acls import Entry, sends
from audit.facts import assemble
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.facts import ClusterState
from audit.model.legs import NO_WAY, LegPlan
from audit.model.matrix import FAMILIES, Matrix
from audit.replay.databases import OvsdbTool
from audit.replay.toolchain import Toolchain
from audit.scope import expand, matrix, ports, scope
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.ovn

DATA = REPOSITORY / "tests" / "data"
NAMES = ("ovn-23.03-central", "ovn-25.03-interconnect", "upgrade-before", "upgrade-after")

WITH_MULTICAST = ("head-shared", "head-observability", "udn-interconnect")
"""Clusters with ACLs of multicast, of user-defined networks, or of both."""


def snapshot(name: str) -> Path:
    if name == "ovn-25.03-interconnect":
        return REPOSITORY / "examples" / "interconnect.tar.gz"
    return DATA / f"{name}.tar.xz"


def answers(name: str) -> list[dict[str, str]]:
    """Return the recorded answers; of a cluster without any, what ports were recorded of others."""
    if name in WITH_MULTICAST:
        recorded = (("tcp", "80"), ("tcp", "8080"), ("udp", "53"))
        return [{"protocol": protocol, "port": port} for protocol, port in recorded]
    with gzip.open(DATA / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Case:
    """A recorded cluster's matrix over the ports that were recorded, and its legs."""

    def __init__(self, name: str, toolchain: Toolchain, workdir: Path) -> None:
        self.answers = answers(name)
        self.state: ClusterState = assemble.load(
            snapshot(name), workdir, OvsdbTool(programs=toolchain)
        )
        asked = scope.from_flags(
            ports=sorted({f"{a['protocol']}/{a['port']}" for a in self.answers}), family="both"
        )
        sides = expand.sources_and_destinations(self.state, asked)
        resolved = ports.resolve(asked.ports, sides.endpoints, sides.destinations.tolist())
        self.matrix: Matrix = matrix.build(
            sides.endpoints, sides.blocks, resolved, asked.family.families
        ).matrix
        self.legs = classes.legs(self.matrix, self.state.zones)

    @property
    def plans(self) -> tuple[LegPlan, ...]:
        return self.legs.plans

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.matrix.endpoints

    def recorded(self) -> Iterator[tuple[int, bool]]:
        """Yield each recorded cell's index and whether its packet was delivered."""
        names = {f"{e.namespace}_{e.name}": i for i, e in enumerate(self.matrix.endpoints)}
        m = self.matrix
        places = {
            (int(s), int(d), int(f), str(m.ports[p])): cell
            for cell, (s, d, f, p) in enumerate(zip(m.src, m.dst, m.family, m.port, strict=True))
        }
        for answer in self.answers:
            family = [str(f) for f in FAMILIES].index(answer["family"])
            port = f"{answer['protocol']}/{answer['port']}"
            where = (names[answer["src"]], names[answer["dst"]], family, port)
            yield places[where], answer["delivered"] == "1"


@pytest.fixture(scope="module", params=NAMES)
def case(
    request: pytest.FixtureRequest,
    toolchain: Toolchain,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    return Case(request.param, toolchain, tmp_path_factory.mktemp(request.param))


def test_the_prediction_equals_every_recorded_answer(case: Case) -> None:
    passes = np.zeros(len(case.matrix), dtype=np.bool_)
    composed = np.zeros(len(case.matrix), dtype=np.bool_)
    for plan in case.plans:
        for found in plan.walk(case.matrix):
            egress, ingress = plan.predicted(found)
            passes[found.cells] = egress & ingress
            composed[found.cells] = True
    recorded = list(case.recorded())
    assert len(recorded) > 4_000
    assert all(composed[cell] for cell, _ in recorded)
    assert [cell for cell, delivered in recorded if passes[cell] != delivered] == []
    assert not case.legs.notes


@pytest.mark.parametrize("name", WITH_MULTICAST)
def test_cells_between_pods_are_composed_whatever_acls_there_are(
    name: str, toolchain: Toolchain, tmp_path: Path
) -> None:
    case = Case(name, toolchain, tmp_path)
    own = np.array(
        [sends(e) and e.kind is EndpointKind.POD and not e.host_network for e in case.endpoints]
    )
    composed = np.logical_or.reduce([plan.composed for plan in case.plans])
    between = own[case.matrix.src] & own[case.matrix.dst]
    assert between.sum() >= 40
    assert composed[between].mean() >= 0.95
    assert "opaque-matches" not in {note.code for note in case.legs.notes}


def test_few_cells_show_every_leg_that_is_needed(case: Case) -> None:
    for plan in case.plans:
        chosen = represent.choose(case.matrix, plan)
        assert len(chosen) < plan.composed.sum() / 8
        shown = plan.of(case.matrix, chosen)
        passes, _ = plan.predicted(shown)
        for found in plan.walk(case.matrix):
            arrives, _ = plan.predicted(found)
            assert set(found.egress) <= set(shown.egress)
            assert set(found.ingress[arrives]) <= set(shown.ingress[passes])
            assert set(found.transit[arrives]) <= set(shown.transit[passes])
            assert set(found.arrival[arrives]) <= {NO_WAY, *shown.arrival[passes].tolist()}
            m = case.matrix
            assert set(m.src[found.cells]) <= set(m.src[chosen])
            assert set(m.dst[found.cells][arrives]) <= set(m.dst[chosen][passes])


def entry(action: str, *, stage: int = 0, tier: int = 0, priority: int = 1000) -> Entry:
    return Entry(
        stage=stage, tier=tier, priority=priority, action=action, decider=priority, others=0, l4=()
    )


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], (0, -1)),
        ([entry("drop")], (1, 1000)),
        ([entry("reject")], (1, 1000)),
        ([entry("drop"), entry("allow-related", priority=1001)], (0, 1001)),
        ([entry("drop", priority=1001), entry("allow", priority=1000)], (1, 1001)),
        # the first tier with a verdict wins, whatever the priorities of later ones
        ([entry("allow", tier=1, priority=1), entry("drop", tier=2, priority=9)], (0, 1)),
        # pass goes on to the next tier
        ([entry("pass", tier=1, priority=9), entry("drop", tier=3, priority=2)], (1, 2)),
        ([entry("pass", tier=1, priority=9)], (0, -1)),
        # an allow in one stage says nothing about the next
        ([entry("allow", stage=0), entry("drop", stage=2, priority=5)], (1, 5)),
        # contradicting twins: the denial
        ([entry("allow"), entry("drop")], (1, 1000)),
    ],
)
def test_acls_are_evaluated_by_stage_tier_and_priority(
    entries: list[Entry], expected: tuple[int, int]
) -> None:
    found = classes.evaluate(entries)
    assert (found.verdict, found.decider) == expected
    assert not found.tied


def test_acls_of_several_owners_that_decide_alike_are_a_tie() -> None:
    twin = entry("allow")._replace(decider=7)
    assert classes.evaluate([entry("allow"), twin]).tied
    assert not classes.evaluate([entry("allow"), twin, entry("drop", priority=1001)]).tied
    assert not classes.evaluate([entry("allow"), entry("allow")._replace(others=3)]).tied
    # a tie in a stage before the last that decides is one as well
    assert classes.evaluate([entry("allow"), twin, entry("drop", stage=2)]).tied
