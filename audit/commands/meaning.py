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
from audit.model.packets import Family
from audit.model.run import Run, StreamedRun
from audit.model.verdicts import PASSES as PASSING
from audit.model.verdicts import REASONS, UNPROVEN, VERDICTS, Reason, Verdict
from audit.policy import chain, deviations, edits
from audit.policy.cluster import Cluster, Controllers, hosted
from audit.policy.deviations import Deviation
from audit.policy.tables import PASSES, STOPS

_NOT_OF_POLICIES = frozenset({Reason.OTHER_NETWORK, Reason.NETWORK_UNKNOWN})
"""Reasons for which it does not matter what any policy says."""
_WORDS = {PASSES: Verdict.REACHABLE, STOPS: Verdict.BLOCKED}


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
        known = run.manifest.get("labels")
        if known is None:
            return None
        labels = known["namespaces"].items()
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
                namespaces={name: tuple(sorted(pairs.items())) for name, pairs in labels},
                nodes=known["nodes"],
                hosted=hosted(e for e in listed.endpoints if e.kind is EndpointKind.POD),
                complete=known.get("complete", True),
                ranges=AddressRanges(
                    **{kind: tuple(cidrs) for kind, cidrs in known.get("ranges", {}).items()}
                ),
                controllers=_controllers(known.get("controllers") or {}),
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
        return edits.Question(
            policies=tuple(p for p in self.policies if p.ref.namespace in spaces),
            endpoints=(src, dst),
            cluster=self.cluster,
            ports=self.ports,
            family=family,
            src=0,
            dst=1,
            port=port,
        )


def _controllers(known: Mapping[str, Any]) -> Controllers:
    """Return in which namespaces a run's controllers may be."""
    return Controllers(
        namespace=known.get("namespace", ""),
        away={row: frozenset(spaces) for row, spaces in known.get("away", {}).items()},
    )


def of_cell(run: Run, cell: int) -> Meaning | None:
    """Return what the objects say about a cell; None where the run does not know enough.

    A Service is asked about by its endpoints: name one of them.
    """
    matrix = run.matrix
    src, dst = (matrix.endpoints[end[cell]] for end in (matrix.src, matrix.dst))
    asked_of_policies = REASONS[run.verdicts.reason[cell]] not in _NOT_OF_POLICIES
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
    found = edits.openings(question, count=count)
    meant = Meaning(
        verdict=_WORDS.get(bits, Verdict.INCONCLUSIVE),
        egress=str(sides[0]),
        ingress=str(sides[1]),
        changes=tuple(_change(question, opening) for opening in found),
    )
    return meant, bits


def _cause(run: Run, cell: int, question: edits.Question, meant: int) -> str:
    """Return the deviation that explains why OVN does otherwise; nothing where it does not."""
    found = VERDICTS[intending.ovn_verdicts(run.verdicts)[cell]]
    done = PASSES if found in PASSING else STOPS
    if found in UNPROVEN or found is Verdict.UNROUTABLE or done == meant:
        return ""
    blame = run.verdicts.blame[cell]
    decider = run.verdicts.blames[blame].policy if blame >= 0 else None
    policies = list(question.policies)
    if decider is not None and decider not in {policy.ref for policy in policies}:
        return ""
    # What leaks depends on pods that are in no cell; the run's findings have worked it out.
    leaking = Deviation.ADMIN_NAMED_PORT
    rewritten = [one for one in deviations.present(policies) if one is not leaking]
    for tried in deviations.candidates(rewritten):
        intent = question.intent(deviations.as_enforced(policies, tried), narrow=True)
        decided = intent.decide(*(intent.index(i) for i in (0, 1, 0)))
        if int(decided.outcome[0]) == done:
            return _meanings(tried)
    name = run.matrix.describe(cell)
    for finding in findings.recorded(run.manifest):
        if leaking in finding.cause.split("+") and name in finding.subjects:
            return _meanings([Deviation(word) for word in finding.cause.split("+")])
    return ""


def _meanings(causes: Sequence[Deviation]) -> str:
    return "; ".join(deviations.MEANINGS[one] for one in causes)


def _change(question: edits.Question, opening: edits.Opening) -> Change:
    names = tuple(
        f"{question.endpoints[src].key} to {question.endpoints[dst].key} on {question.ports[port]}"
        for src, dst, port in opening.also
    )
    return Change(
        edits=tuple(edit.text for edit in opening.edits), also=names, also_count=opening.count
    )
