"""Databases as nobody made them: legs never let a packet pass that its own trace stops.

`make mutate` tries ten thousand.
"""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from audit.model.verdicts import CODE, Verdict
from tests import mutate
from tests.mutable import Cluster, copied
from tests.mutations import EDITS

pytestmark = pytest.mark.ovn

MUTATIONS = 75
AT_ONCE = 25


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> mutate.Clusters:
    return mutate.Clusters(tmp_path_factory.mktemp("clusters"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, MUTATIONS, AT_ONCE))
def test_legs_say_what_tracing_every_cell_of_an_edited_cluster_says(
    first: int, clusters: mutate.Clusters
) -> None:
    tally = mutate.Tally()
    wrong: list[str] = []
    for number in range(first, first + AT_ONCE):
        one = mutate.mutate_alone(number, clusters, [])
        tally.add(one)
        wrong += one.told()
    assert not wrong, "\n".join([*wrong, str(tally)])
    assert tally.total("refused") < AT_ONCE / 3, str(tally)
    assert tally.total("cells") > AT_ONCE * 20, str(tally)


def test_a_cell_that_legs_let_pass_wrongly_is_found_out(
    clusters: mutate.Clusters, tmp_path: Path
) -> None:
    engine = clusters.engine("upgrade-before")
    assert engine is not None
    cluster = Cluster(root=copied(engine.snapshot, tmp_path / "s"), rng=random.Random(1))  # noqa: S311
    cluster.choose(most=6)
    flags = mutate.draw_scope(cluster)
    cluster.write()
    memory = mutate.Memory()
    (planned, few), everything = mutate.audit(cluster.root, engine, flags, memory)
    assert list(mutate.differences((planned, few), everything)) == []
    stopped = np.flatnonzero(few.verdicts.verdict == CODE[Verdict.BLOCKED])[0]
    verdict = few.verdicts.verdict.copy()
    verdict[stopped] = CODE[Verdict.REACHABLE]
    wrong = dataclasses.replace(few, verdicts=dataclasses.replace(few.verdicts, verdict=verdict))
    (difference,) = mutate.differences((planned, wrong), everything)
    assert difference.kind == mutate.FALSE_PASS
    assert planned.matrix.describe(int(stopped)) in difference.text


@pytest.mark.parametrize("kind", EDITS)
def test_the_same_seed_makes_the_same_edit_of_every_kind(
    kind: str, clusters: mutate.Clusters, tmp_path: Path
) -> None:
    engine = clusters.engine("upgrade-after")
    assert engine is not None
    told, files = set(), set()
    for attempt in "ab":
        cluster = Cluster(root=copied(engine.snapshot, tmp_path / attempt), rng=random.Random(5))  # noqa: S311
        cluster.choose(most=8)
        mutate.draw_scope(cluster)
        told.add(EDITS[kind](cluster))
        cluster.write()
        paths = sorted(file for file in cluster.root.rglob("*") if file.is_file())
        files.add(tuple(file.read_bytes() for file in paths))
    assert len(told) == len(files) == 1
