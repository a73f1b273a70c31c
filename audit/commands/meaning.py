"""One cell of a finished run, by its policy objects: why, and what would have to change."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.commands import intent as intending
from audit.facts import kube
from audit.facts.fields import FieldError
from audit.model import findings
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.facts import AddressRanges, Policy
from audit.model.matrix import FAMILIES
from audit.model.meaning import Change, Meaning
from audit.model.networks import Role
from audit.model.packets import Family
from audit.model.run import Run, StreamedRun
from audit.model.verdicts import PASSES as PASSING
from audit.model.verdicts import REASONS, UNPROVEN, VERDICTS, PolicyRef, Reason, Verdict
from audit.policy import chain, deviations, edits
from audit.policy.cluster import Cluster, Controllers, hosted
from audit.policy.deviations import Deviation
from audit.policy.tables import PASSES, STOPS

_NOT_OF_POLICIES = frozenset(
    {Reason.OTHER_NETWORK, Reason.NETWORK_ISOLATED, Reason.NETWORK_UNKNOWN}
)
"""Reasons for which it does not matter what any policy says."""
_LEAKING = Deviation.ADMIN_NAMED_PORT
"""What leaks depends on pods that are in no cell; a run's findings have worked it out."""
_WORDS = {PASSES: Verdict.REACHABLE, STOPS: Verdict.BLOCKED}


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
        ranges = labels.get("ranges", {}).items()
        return cls(
            namespaces={
                name: tuple(sorted(pairs.items())) for name, pairs in labels["namespaces"].items()
            },
            nodes=labels["nodes"],
            complete=labels.get("complete", True),
            ranges=AddressRanges(**{kind: tuple(cidrs) for kind, cidrs in ranges}),
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
                kube.policy_of(policy)
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
            return _meanings(causes)
    return _recorded_cause(run, cell)


def _decider(run: Run, cell: int) -> PolicyRef | None:
    """Return the policy that OVN's verdict of a cell is blamed on, if there is one."""
    blame = run.verdicts.blame[cell]
    return run.verdicts.blames[blame].policy if blame >= 0 else None


def _recorded_cause(run: Run, cell: int) -> str:
    """Return the cause of a cell that a finding of the run names, where that is a leak."""
    name = run.matrix.describe(cell)
    for finding in findings.recorded(run.manifest):
        causes = finding.cause.split("+")
        if _LEAKING in causes and name in finding.subjects:
            return _meanings([Deviation(word) for word in causes])
    return ""


def _meanings(causes: Sequence[Deviation]) -> str:
    return "; ".join(deviations.MEANINGS[cause] for cause in causes)


def _change(question: edits.Question, opening: edits.Opening) -> Change:
    names = tuple(
        f"{question.endpoints[src].key} to {question.endpoints[dst].key} on {question.ports[port]}"
        for src, dst, port in opening.also
    )
    return Change(
        edits=tuple(edit.text for edit in opening.edits), also=names, also_count=opening.count
    )
