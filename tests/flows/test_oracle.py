"""What is foreseen of random packets is what `ovn-trace` says of them (`tests/predict.py`)."""

import random
from collections import Counter
from pathlib import Path

import pytest

from audit.flows import actions, expressions
from audit.flows.evaluate import Evaluator
from audit.flows.southbound import read
from audit.model.packets import ConntrackState
from tests.mutate import Clusters
from tests.predict import edited, packets
from tests.prediction import Expected, World, tokens
from tests.prediction import read as tables

TEMPLATES = "^"
CHECKED = ("head-observability", "ovn-23.03-central", "services-egressip", "udn-interconnect")


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    return Clusters(tmp_path_factory.mktemp("c"))


@pytest.mark.ovn
@pytest.mark.parametrize("name", CHECKED)
def test_packets_meet_the_flows_that_are_foreseen(name: str, clusters: Clusters) -> None:
    engine = clusters.engine(name)
    assert engine is not None
    rng = random.Random(len(name))  # noqa: S311 - no secrets
    compared = list(packets(engine, 60, rng))
    different = [one for one in compared if not one.equal and not one.refused]
    assert not different, different[0]
    assert sum(one.equal for one in compared) > 50


@pytest.mark.ovn
@pytest.mark.parametrize("seed", range(4))
def test_an_edit_is_seen_by_both_or_by_neither(
    seed: int, clusters: Clusters, tmp_path: Path
) -> None:
    name = CHECKED[seed]
    engine = clusters.engine(name)
    assert engine is not None
    done = edited(engine, seed, tmp_path, 200)
    different = [one for one in done.compared if not one.equal and not one.refused]
    assert not different, (done.text, different[0])


@pytest.mark.parametrize("name", CHECKED)
def test_every_flow_is_understood_but_those_of_template_variables(
    name: str, clusters: Clusters
) -> None:
    engine = clusters.engine(name)
    assert engine is not None
    seen: Counter[bool] = Counter()
    for database in (engine.snapshot / "ovn").glob("*/sb.db"):
        for flow in read(tables(database)).flows:
            unread = [
                *expressions.unread(expressions.parse(flow.match)),
                *actions.unknown(actions.read(flow.actions).steps),
            ]
            template = TEMPLATES in flow.match or TEMPLATES in flow.actions
            assert bool(unread) <= template, (flow.match, flow.actions, unread)
            seen[bool(unread)] += 1
    assert seen[False] > 500


def test_another_trace_is_not_what_was_foreseen(clusters: Clusters) -> None:
    engine = clusters.engine("services-egressip")
    assert engine is not None
    database = min((engine.snapshot / "ovn").glob("*/sb.db"))
    world = World.of(tables(database))
    evaluator = Evaluator(world.zone)
    rng = random.Random(3)  # noqa: S311 - no secrets
    drawn = [world.draw(rng) for _ in range(20)]
    answers = evaluator.run(drawn, ConntrackState.REQUEST)
    expected = Expected(evaluator, answers)
    whole = [
        'ingress(dp="a", inport="b")',
        "-" * 27,
        " 0. ls_in_check_port_sec: 1, priority 50, uuid 00000000",
        "    next;",
    ]
    assert not any(expected.allows(packet, tokens("\n".join(whole))) for packet in range(20))
