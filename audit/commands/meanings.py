"""What the policy objects say of a run's blocked cells, for its page, by kinds of pods.

Pods are of one kind when they have the same namespace and the same labels, but for those that a
roll-out changes: the edits that would let them through read the same. What is said of one pair of
a kind is said of all of them where no policy of either namespace tells them apart; where one does
(by a CIDR, or a port's name), nothing is said.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.commands.meaning import Objects, meaning
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.meaning import Meaning, Meanings
from audit.model.run import StreamedRun
from audit.model.verdicts import CODE, Verdict
from audit.policy.cluster import Vocabulary
from audit.policy.edits import UNSTABLE, Question
from audit.policy.population import Population
from audit.report.grid import Grid

MOST_KINDS = 200
"""Kinds of blocked cells that are evaluated, those of most cells first."""
MOST_POLICIES = 1_000
"""Policies that are read for it: kinds in further namespaces are left out."""
WORK = 12_000
"""Kinds times policies of their namespaces, at most: some seconds."""

_Key = tuple[int, int, int, int]
"""Kind of the source, kind of the destination, family, port."""


def of_run(run: StreamedRun, grid: Grid) -> Meanings | None:
    """Return what the objects say of the most common kinds of blocked cells of a run.

    None where the run does not know enough. Hosts, Services and addresses are in no kind: `audit
    explain` speaks of them.
    """
    endpoints = grid.page.endpoints
    kinds = _kinds(endpoints)
    common = dict(_blocked(grid, kinds))
    near = Counter(policy.ref.namespace for policy in run.policies)
    spaces = _affordable(near, ((endpoints[s], endpoints[d]) for s, d in common.values()))
    objects = Objects.of(run, spaces)
    if objects is None:
        return None
    of: dict[_Key, Meaning] = {}
    work = 0
    for key, (src, dst) in common.items():
        ends = endpoints[src], endpoints[dst]
        if not spaces.issuperset(end.namespace for end in ends):
            continue
        question = objects.between(*ends, FAMILIES[key[2]], key[3])
        work += len(question.policies)
        if work > WORK:
            break
        members = [np.flatnonzero(kinds == kind).tolist() for kind in key[:2]]
        if _alike(question, [[endpoints[place] for place in side] for side in members]):
            of[key], _ = meaning(question, count=False)
    named = zip(endpoints, kinds.tolist(), strict=True)
    return Meanings(kind_of={e.key: kind for e, kind in named if kind >= 0}, of=of)


def _kinds(endpoints: Sequence[Endpoint]) -> NDArray[np.int64]:
    """Return each endpoint's kind, -1 for what is in none."""
    numbers: dict[object, int] = {}
    kinds = np.full(len(endpoints), -1, np.int64)
    for place, endpoint in enumerate(endpoints):
        if endpoint.kind is EndpointKind.POD and not endpoint.host_network:
            labels = tuple(pair for pair in endpoint.labels if pair[0] not in UNSTABLE)
            key = (endpoint.namespace, labels, endpoint.obstacle)
            kinds[place] = numbers.setdefault(key, len(numbers))
    return kinds


def _affordable(near: Counter[str], pairs: Iterator[tuple[Endpoint, Endpoint]]) -> set[str]:
    """Return the namespaces whose policies are read: those of the first pairs, while few."""
    spaces, count = {""}, near[""]
    for ends in pairs:
        new = {end.namespace for end in ends} - spaces
        more = sum(near[space] for space in new)
        if count + more <= MOST_POLICIES:
            spaces |= new
            count += more
    return spaces


def _alike(question: Question, sides: Sequence[Sequence[Endpoint]]) -> bool:
    """Tell whether the policies in question see the pods of each side as one."""
    words = Vocabulary.of(p.spec for p in question.policies if p.spec is not None)
    for pods in sides:
        seen = Population(pods, question.cluster, words, question.family).of
        if (seen != seen[0]).any():
            return False
    return True


def _blocked(grid: Grid, kinds: NDArray[np.int64]) -> Iterator[tuple[_Key, tuple[int, int]]]:
    """Yield the most common kinds of blocked cells, each with the ends of one of them."""
    page = grid.page
    blocked = np.array([False, *(s.verdict == CODE[Verdict.BLOCKED] for s in grid.states)])
    # Columns of one kind of destination and one slice are one; those of no kind are the last.
    to, size = kinds[page.column_dst], int(kinds.max(initial=-1)) + 1
    wide = size * len(page.slices)
    column = np.where(to >= 0, to * len(page.slices) + page.column_slice, wide)
    rows = kinds[page.sources]
    found: list[tuple[int, int, int]] = []
    for kind in range(size):
        counts = np.zeros(wide + 1, np.int64)
        for row in np.flatnonzero(rows == kind).tolist():
            here = blocked[grid.codes[row]] & (page.column_dst != page.sources[row])
            counts += np.bincount(column[here], minlength=wide + 1)
        most = np.flatnonzero(counts[:wide] > (-found[-1][0] if len(found) == MOST_KINDS else 0))
        found += [(-int(counts[place]), kind, int(place)) for place in most]
        found = sorted(found)[:MOST_KINDS]
    for _, kind, place in found:
        dst, slice_ = divmod(place, len(page.slices))
        yield (kind, dst, *page.slices[slice_]), _ends(grid, blocked, rows == kind, column == place)


def _ends(
    grid: Grid, blocked: NDArray[np.bool_], rows: NDArray[np.bool_], columns: NDArray[np.bool_]
) -> tuple[int, int]:
    """Return the ends of the first blocked cell between rows and columns, of which there is one."""
    page, places = grid.page, np.flatnonzero(columns)
    chosen = np.flatnonzero(rows)
    here = blocked[grid.codes[np.ix_(chosen, places)]]
    here &= page.sources[chosen][:, None] != page.column_dst[places]
    row, place = np.argwhere(here)[0].tolist()
    return int(page.sources[chosen[row]]), int(page.column_dst[places[place]])
