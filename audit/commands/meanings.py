"""What the policy objects say of a run's blocked cells, for its page, by kinds of pods.

Pods are of one kind when they have the same namespace and the same labels, but for those that a
roll-out changes: the edits that would let them through read the same. What is said of one pair of
a kind is said of all of them where no policy of either namespace tells them apart; where one does
(by a CIDR, or a port's name), nothing is said.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audit.commands.meaning import Objects, meaning
from audit.model.endpoints import Endpoint, EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.meaning import Meaning, Meanings
from audit.model.networks import Role
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
    blocked = ((key, (endpoints[s], endpoints[d])) for key, (s, d) in _blocked(grid, kinds))
    # Between networks no edit of a policy opens anything.
    common = {key: ends for key, ends in blocked if ends[0].network == ends[1].network}
    near = Counter(policy.ref.namespace for policy in run.policies)
    spaces = _affordable(near, common.values())
    objects = Objects.of(run, spaces)
    if objects is None:
        return None
    of: dict[_Key, Meaning] = {}
    for key, question in _questions(objects, spaces, common):
        members = [np.flatnonzero(kinds == kind).tolist() for kind in key[:2]]
        if _alike(question, [[endpoints[index] for index in side] for side in members]):
            of[key], _ = meaning(question, count=False)
    named = zip(endpoints, kinds.tolist(), strict=True)
    return Meanings(kind_of={e.key: kind for e, kind in named if kind >= 0}, of=of)


def _questions(
    objects: Objects, spaces: Collection[str], common: Mapping[_Key, tuple[Endpoint, Endpoint]]
) -> Iterator[tuple[_Key, Question]]:
    """Yield what is asked about each kind whose policies were read, while that is affordable."""
    work = 0
    for key, ends in common.items():
        if any(end.namespace not in spaces for end in ends):
            continue
        question = objects.between(*ends, FAMILIES[key[2]], key[3])
        work += len(question.policies)
        if work > WORK:
            return
        yield key, question


def _kinds(endpoints: Sequence[Endpoint]) -> NDArray[np.int64]:
    """Return each endpoint's kind, -1 for what is in none."""
    numbers: dict[object, int] = {}
    kinds = np.full(len(endpoints), -1, np.int64)
    for index, endpoint in enumerate(endpoints):
        on_pod_network = endpoint.kind is EndpointKind.POD and not endpoint.host_network
        if on_pod_network and endpoint.role is not Role.LOCKED:
            labels = tuple(pair for pair in endpoint.labels if pair[0] not in UNSTABLE)
            key = (endpoint.namespace, endpoint.network, labels, endpoint.obstacle)
            kinds[index] = numbers.setdefault(key, len(numbers))
    return kinds


def _affordable(near: Counter[str], pairs: Iterable[tuple[Endpoint, Endpoint]]) -> set[str]:
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
    # A group of columns has one kind of destination and one slice; the last has those of no kind.
    to, size = kinds[page.column_dst], int(kinds.max(initial=-1)) + 1
    group_count = size * len(page.slices)
    groups = np.where(to >= 0, to * len(page.slices) + page.column_slice, group_count)
    rows = kinds[page.sources]
    commonest: list[tuple[int, int, int]] = []
    for kind in range(size):
        counts = np.zeros(group_count + 1, np.int64)
        for row in np.flatnonzero(rows == kind).tolist():
            here = blocked[grid.codes[row]] & (page.column_dst != page.sources[row])
            counts += np.bincount(groups[here], minlength=group_count + 1)
        most = np.flatnonzero(
            counts[:group_count] > (-commonest[-1][0] if len(commonest) == MOST_KINDS else 0)
        )
        commonest += [(-int(counts[group]), kind, int(group)) for group in most]
        commonest = sorted(commonest)[:MOST_KINDS]
    for _, kind, group in commonest:
        dst, slice_ = divmod(group, len(page.slices))
        yield (kind, dst, *page.slices[slice_]), _ends(grid, blocked, rows == kind, groups == group)


def _ends(
    grid: Grid, blocked: NDArray[np.bool_], rows: NDArray[np.bool_], columns: NDArray[np.bool_]
) -> tuple[int, int]:
    """Return the ends of the first blocked cell between rows and columns, of which there is one."""
    page = grid.page
    row_numbers, column_numbers = np.flatnonzero(rows), np.flatnonzero(columns)
    here = blocked[grid.codes[np.ix_(row_numbers, column_numbers)]]
    here &= page.sources[row_numbers][:, None] != page.column_dst[column_numbers]
    row, column = np.argwhere(here)[0].tolist()
    return int(page.sources[row_numbers[row]]), int(page.column_dst[column_numbers[column]])
