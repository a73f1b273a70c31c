"""What a finished run's policy objects say of one cell, and for its page of kinds of cells.

Why a cell is decided so, and what would have to change. For the page, pods are of one kind when
they have the same namespace and the same labels, but for those that a roll-out changes: the edits
that would let them through read the same. What is said of one pair of a kind is said of all of
them where no policy of either namespace tells them apart; where one does (by a CIDR, or a port's
name), nothing is said.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.commands import intent as intending
from audit.facts import policyobjects
from audit.facts.fields import FieldError
from audit.model import findings
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import AddressRanges, Policy
from audit.model.matrix import FAMILIES
from audit.model.meaning import Change, Meaning, Meanings
from audit.model.networks import Role
from audit.model.packets import Family
from audit.model.run import Run, StreamedRun
from audit.model.verdicts import CODE, REASONS, UNPROVEN, VERDICTS, PolicyRef, Reason, Verdict
from audit.model.verdicts import PASSES as PASSING
from audit.policy import chain, deviations, edits
from audit.policy.cluster import Cluster, Controllers, Vocabulary, hosted
from audit.policy.deviations import Deviation
from audit.policy.population import Population
from audit.policy.tables import PASSES, STOPS
from audit.report.grid import Grid
from audit.report.sentences import gathered, ports_text

_NOT_OF_POLICIES = frozenset(
    {Reason.OTHER_NETWORK, Reason.NETWORK_ISOLATED, Reason.NETWORK_UNKNOWN}
)
"""Reasons for which it does not matter what any policy says."""
_LEAKING = Deviation.ADMIN_NAMED_PORT
"""What leaks depends on pods that are in no cell; a run's findings have worked it out."""
_WORDS = {PASSES: Verdict.REACHABLE, STOPS: Verdict.BLOCKED}


MOST_KINDS = 500
"""Kinds of blocked cells that are evaluated, those of most cells first."""
MOST_POLICIES = 1_000
"""Policies that are read for it: kinds in further namespaces are left out."""
WORK = 12_000
"""Kinds times policies of their namespaces, at most: some seconds."""

_Key = tuple[int, int, int, int]
"""Kind of the source, kind of the destination, family, port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLabels:
    """What a finished run keeps of what policies select by, beside its endpoints."""

    namespaces: Mapping[str, tuple[tuple[str, str], ...]]
    nodes: Mapping[str, Mapping[str, str]]
    complete: bool
    ranges: AddressRanges
    controllers: Controllers
    attached: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "RunLabels | None":
        """Read them from run.json; None where an earlier audit wrote it, without them."""
        labels = manifest.get("labels")
        if labels is None:
            return None
        ranges = labels.get("ranges", {})
        return cls(
            namespaces={
                name: tuple(sorted(pairs.items())) for name, pairs in labels["namespaces"].items()
            },
            nodes=labels["nodes"],
            complete=labels.get("complete", True),
            ranges=AddressRanges(
                **{field.name: tuple(ranges.get(field.name, ())) for field in fields(AddressRanges)}
            ),
            controllers=_controllers(labels.get("controllers") or {}),
            attached=labels.get("attached", {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """What a finished run keeps of a cluster's policies and of what they select by."""

    policies: tuple[Policy, ...]
    cluster: Cluster
    endpoints: tuple[Endpoint, ...]
    """All but Services: a Service is asked about by its endpoints."""
    ports: Sequence[Port]

    @classmethod
    def of(cls, run: Run | StreamedRun, spaces: Collection[str] | None = None) -> "Objects | None":
        """Read them, of these namespaces or all; None where the run does not know enough."""
        labels = RunLabels.of(run.manifest)
        if labels is None:
            return None
        listed = run.matrix if isinstance(run, Run) else run
        try:
            policies = tuple(
                policyobjects.policy_of(policy)
                for policy in run.policies
                if spaces is None or policy.ref.namespace in spaces
            )
        except FieldError:  # one without a meaning, which a note of the run says
            return None
        return cls(
            policies=policies,
            cluster=Cluster(
                namespaces=labels.namespaces,
                nodes=labels.nodes,
                hosted=hosted(e for e in listed.endpoints if e.kind is EndpointKind.POD),
                complete=labels.complete,
                ranges=labels.ranges,
                controllers=labels.controllers,
                attached=labels.attached,
            ),
            endpoints=tuple(e for e in listed.endpoints if e.kind is not EndpointKind.SERVICE),
            ports=listed.ports,
        )

    def question(self, src: Endpoint, dst: Endpoint, family: Family, port: int) -> edits.Question:
        """Return what is asked about a cell, its ends being two of the endpoints."""
        return edits.Question(
            policies=self.policies,
            endpoints=self.endpoints,
            cluster=self.cluster,
            ports=self.ports,
            family=family,
            src=self.endpoints.index(src),
            dst=self.endpoints.index(dst),
            port=port,
        )

    def between(self, src: Endpoint, dst: Endpoint, family: Family, port: int) -> edits.Question:
        """Return the same question with nothing else in the cluster, for who counts nothing else.

        A policy of another namespace selects neither end.
        """
        spaces = ("", src.namespace, dst.namespace)
        policies = tuple(p for p in self.policies if p.ref.namespace in spaces)
        near = replace(self, policies=policies, endpoints=(src, dst))
        return near.question(src, dst, family, port)


def _controllers(controllers: Mapping[str, Any]) -> Controllers:
    """Return in which namespaces a run's controllers may be."""
    return Controllers(
        namespace=controllers.get("namespace", ""),
        away={row: frozenset(spaces) for row, spaces in controllers.get("away", {}).items()},
    )


def of_cell(run: Run, cell: int) -> Meaning | None:
    """Return what the objects say about a cell; None where the run does not know enough.

    A Service is asked about by its endpoints: name one of them.
    """
    matrix = run.matrix
    src, dst = (matrix.endpoints[end[cell]] for end in (matrix.src, matrix.dst))
    asked_of_policies = REASONS[run.verdicts.reason[cell]] not in _NOT_OF_POLICIES
    if src.network != dst.network or Role.LOCKED in (src.role, dst.role):
        # Networks decide, unless a policy was seen to.
        asked_of_policies &= _decider(run, cell) is not None
    objects = (
        Objects.of(run) if asked_of_policies and dst.kind is not EndpointKind.SERVICE else None
    )
    if objects is None:
        return None
    question = objects.question(src, dst, FAMILIES[matrix.family[cell]], int(matrix.port[cell]))
    meant, bits = meaning(question)
    return replace(meant, cause=_cause(run, cell, question, bits))


def meaning(question: edits.Question, *, count: bool = True) -> tuple[Meaning, int]:
    """Return what the objects say about a cell, in words and as bits.

    Without `count` it is not counted what else the edits open.
    """
    sides = chain.chains(question.intent(question.policies, narrow=True), 0, 1, 0)
    bits = chain.verdict(sides)
    openings = edits.openings(question, count=count)
    meant = Meaning(
        verdict=_WORDS.get(bits, Verdict.INCONCLUSIVE),
        egress=str(sides[0]),
        ingress=str(sides[1]),
        changes=tuple(_change(question, opening) for opening in openings),
    )
    return meant, bits


def _cause(run: Run, cell: int, question: edits.Question, meant: int) -> str:
    """Return the deviation that explains why OVN does otherwise; nothing where it does not."""
    enforced = VERDICTS[intending.ovn_verdicts(run.verdicts)[cell]]
    enforced_bits = PASSES if enforced in PASSING else STOPS
    if enforced in UNPROVEN or enforced is Verdict.UNROUTABLE or enforced_bits == meant:
        return ""
    policies = list(question.policies)
    decider = _decider(run, cell)
    if decider is not None and decider not in {policy.ref for policy in policies}:
        return ""
    rewritten = [each for each in deviations.present(policies) if each is not _LEAKING]
    for causes in deviations.candidates(rewritten):
        intent = question.intent(deviations.as_enforced(policies, causes), narrow=True)
        decided = intent.decide(*(intent.index(i) for i in (0, 1, 0)))
        if int(decided.outcome[0]) == enforced_bits:
            return _causes_in_words(causes)
    return _recorded_cause(run, cell)


def _decider(run: Run, cell: int) -> PolicyRef | None:
    """Return the policy that OVN's verdict of a cell is blamed on, if there is one."""
    blame = run.verdicts.blame[cell]
    return run.verdicts.blames[blame].policy if blame >= 0 else None


def _recorded_cause(run: Run, cell: int) -> str:
    """Return the cause of a cell that a finding of the run names, where that is a leak."""
    name = run.matrix.describe(cell)
    names = {name, name.partition(" over ")[0]}  # an earlier audit left the family out
    for finding in findings.recorded(run.manifest):
        causes = finding.cause.split("+")
        if _LEAKING in causes and not names.isdisjoint(finding.subjects):
            return _causes_in_words([Deviation(word) for word in causes])
    return ""


def _causes_in_words(causes: Sequence[Deviation]) -> str:
    return "; ".join(
        f"{deviations.MEANINGS[cause]} (to have it enforced: {deviations.REMEDIES[cause]})"
        for cause in causes
    )


def _change(question: edits.Question, opening: edits.Opening) -> Change:
    ports: dict[tuple[str, str], list[str]] = defaultdict(list)
    for src, dst, port in opening.also:
        ends = question.endpoints[src].key, question.endpoints[dst].key
        ports[ends].append(str(question.ports[port]))
    opened = [_Opened(*ends, tuple(on)) for ends, on in ports.items()]
    rows = gathered(opened, lambda path: path.ports)
    return Change(
        edits=tuple(edit.text for edit in opening.edits),
        also=tuple(f"{row.ends} on {ports_text(row.path.ports)}" for row in rows[:_MOST_ROWS]),
        also_count=opening.count,
        also_more=len(rows) > _MOST_ROWS or opening.count > len(opening.also),
    )


_MOST_ROWS = 3
"""Lines of what an edit opens besides."""


class _Opened(NamedTuple):
    """What an edit opens between two pods."""

    src: str
    dst: str
    ports: tuple[str, ...]

    @property
    def cells(self) -> int:
        """How many cells that is."""
        return len(self.ports)


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
) -> Iterator[tuple[_Key, edits.Question]]:
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
            labels = tuple(pair for pair in endpoint.labels if pair[0] not in edits.UNSTABLE)
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


def _alike(question: edits.Question, sides: Sequence[Sequence[Endpoint]]) -> bool:
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
    here = blocked[np.stack([grid.codes[row][column_numbers] for row in row_numbers.tolist()])]
    here &= page.sources[row_numbers][:, None] != page.column_dst[column_numbers]
    row, column = np.argwhere(here)[0].tolist()
    return int(page.sources[row_numbers[row]]), int(page.column_dst[column_numbers[column]])
