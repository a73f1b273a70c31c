"""What the policy objects say of a run's blocked cells, for its page, by kinds of pods.

Pods are of one kind when no policy tells them apart and the edits that would let them through read
the same: they have the same namespace, and the same labels but for those that a roll-out changes.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.meaning import Meaning, Meanings
from audit.model.run import StreamedRun
from audit.model.verdicts import CODE, Verdict
from audit.pipeline.meaning import Objects, meaning
from audit.policy.edits import UNSTABLE
from audit.policy.population import Population, Vocabulary

MOST_CELLS = 5_000_000
MOST_POLICIES = 1_000
"""Beyond these a page says nothing of meanings: it would take minutes."""
MOST_KINDS = 60
"""Kinds of blocked cells that are evaluated, those of most cells first."""
WORK = 12_000
"""Kinds times policies that are evaluated at most: some three seconds."""

_Key = tuple[int, int, int, int]
"""Kind of the source, kind of the destination, family, port."""


def of_run(run: StreamedRun) -> Meanings | None:
    """Return what the objects say of the most common kinds of blocked cells; None for a large run.

    Hosts, Services and addresses are in no kind: `audit explain` speaks of them.
    """
    if run.manifest["counts"]["cells"] > MOST_CELLS or len(run.policies) > MOST_POLICIES:
        return None
    objects = Objects.of(run)
    if objects is None:
        return None
    kinds = _kinds(objects, run.endpoints)
    of: dict[_Key, Meaning] = {}
    for key, (src, dst) in _blocked(run, kinds):
        ends = run.endpoints[src], run.endpoints[dst]
        question = objects.question(*ends, FAMILIES[key[2]], key[3])
        of[key], _ = meaning(question, count=False)
    named = zip(run.endpoints, kinds.tolist(), strict=True)
    return Meanings(kind_of={e.key: kind for e, kind in named if kind >= 0}, of=of)


def _kinds(objects: Objects, endpoints: tuple[Endpoint, ...]) -> NDArray[np.int64]:
    """Return each endpoint's kind, -1 for what is in none."""
    words = Vocabulary.of(policy.spec for policy in objects.policies if policy.spec is not None)
    spaces, nodes = objects.cluster.namespaces, objects.cluster.nodes
    classes = [Population(endpoints, spaces, nodes, words, family).of for family in FAMILIES]
    numbers: dict[object, int] = {}
    kinds = np.full(len(endpoints), -1, np.int64)
    for place, endpoint in enumerate(endpoints):
        if endpoint.kind is EndpointKind.POD and not endpoint.host_network:
            labels = tuple(pair for pair in endpoint.labels if pair[0] not in UNSTABLE)
            key = (*(int(of[place]) for of in classes), labels, endpoint.obstacle)
            kinds[place] = numbers.setdefault(key, len(numbers))
    return kinds


def _blocked(run: StreamedRun, kinds: NDArray[np.int64]) -> Iterator[tuple[_Key, tuple[int, int]]]:
    """Yield the most common kinds of blocked cells, each with the ends of one of them."""
    counts: Counter[_Key] = Counter()
    samples: dict[_Key, tuple[int, int]] = {}
    for part in run.parts():
        known = (kinds[part.src] >= 0) & (kinds[part.dst] >= 0) & (part.src != part.dst)
        cells = np.flatnonzero(known & (part.verdict == CODE[Verdict.BLOCKED]))
        src, dst = part.src[cells], part.dst[cells]
        columns = (kinds[src], kinds[dst], part.family[cells], part.port[cells])
        keys, first, many = np.unique(
            np.stack(columns, axis=1), axis=0, return_index=True, return_counts=True
        )
        for row, place, count in zip(keys.tolist(), first.tolist(), many.tolist(), strict=True):
            key = (*row,)
            counts[key] += count
            samples.setdefault(key, (int(src[place]), int(dst[place])))
    common = sorted(counts, key=lambda key: (-counts[key], key))
    most = min(MOST_KINDS, WORK // max(len(run.policies), 1))
    yield from ((key, samples[key]) for key in common[:most])
