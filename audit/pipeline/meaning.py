"""One cell of a finished run, by its policy objects: why, and what would have to change."""

from audit.facts import kube
from audit.model.endpoints import EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.meaning import Change, Meaning
from audit.model.run import Run
from audit.model.verdicts import Verdict
from audit.policy import chain, edits
from audit.policy.intent import Cluster, Intent
from audit.policy.tables import PASSES, STOPS

_WORDS = {PASSES: Verdict.REACHABLE, STOPS: Verdict.BLOCKED}


def of_cell(run: Run, cell: int) -> Meaning | None:
    """Return what the objects say about a cell; None where the run does not know enough.

    A Service is asked about by its endpoints: name one of them.
    """
    matrix, known = run.matrix, run.manifest.get("labels")
    src, dst = int(matrix.src[cell]), int(matrix.dst[cell])
    if known is None or matrix.endpoints[dst].kind is EndpointKind.SERVICE:
        return None
    cluster = Cluster(
        namespaces={
            name: tuple(sorted(pairs.items())) for name, pairs in known["namespaces"].items()
        },
        nodes=known["nodes"],
    )
    policies = [kube.policy_of(policy) for policy in run.policies]
    family, port = FAMILIES[matrix.family[cell]], int(matrix.port[cell])
    ends = (matrix.endpoints[src], matrix.endpoints[dst])
    intent = Intent(policies, ends, cluster, [matrix.ports[port]], family, blame=False)
    sides = chain.chains(intent, 0, 1, 0)
    question = edits.Question(
        policies=policies,
        endpoints=[e for e in matrix.endpoints if e.kind is not EndpointKind.SERVICE],
        cluster=cluster,
        ports=matrix.ports,
        family=family,
        src=_place(run, src),
        dst=_place(run, dst),
        port=port,
    )
    return Meaning(
        verdict=_WORDS.get(chain.verdict(sides), Verdict.INCONCLUSIVE),
        egress=str(sides[0]),
        ingress=str(sides[1]),
        changes=tuple(_change(question, opening) for opening in edits.openings(question)),
    )


def _place(run: Run, endpoint: int) -> int:
    """Return an endpoint's index among those that are no Service."""
    before = run.matrix.endpoints[:endpoint]
    return sum(one.kind is not EndpointKind.SERVICE for one in before)


def _change(question: edits.Question, opening: edits.Opening) -> Change:
    names = tuple(
        f"{question.endpoints[src].key} to {question.endpoints[dst].key} on {question.ports[port]}"
        for src, dst, port in opening.also
    )
    return Change(
        edits=tuple(edit.text for edit in opening.edits), also=names, also_count=opening.count
    )
