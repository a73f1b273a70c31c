"""One cell of a finished run, by its policy objects: why, and what would have to change."""

from audit.facts import kube
from audit.model.endpoints import EndpointKind
from audit.model.matrix import FAMILIES
from audit.model.meaning import Change, Meaning
from audit.model.run import Run
from audit.model.verdicts import PASSES as PASSING
from audit.model.verdicts import UNPROVEN, VERDICTS, Verdict
from audit.policy import chain, deviations, edits
from audit.policy.deviations import Deviation
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
    bits = chain.verdict(sides)
    return Meaning(
        verdict=_WORDS.get(bits, Verdict.INCONCLUSIVE),
        egress=str(sides[0]),
        ingress=str(sides[1]),
        changes=tuple(_change(question, opening) for opening in edits.openings(question)),
        cause=_cause(run, cell, question, bits),
    )


def _cause(run: Run, cell: int, question: edits.Question, meant: int) -> str:
    """Return the deviation that explains why OVN does otherwise; nothing where it does not."""
    found = VERDICTS[run.verdicts.verdict[cell]]
    done = PASSES if found in PASSING else STOPS
    if found in UNPROVEN or found is Verdict.UNROUTABLE or done == meant:
        return ""
    policies = list(question.policies)
    for deviation in deviations.present(policies):
        if deviation is Deviation.ADMIN_NAMED_PORT:
            continue
        intent = question.intent(deviations.as_enforced(policies, [deviation]), narrow=True)
        decided = intent.decide(*(intent.index(i) for i in (0, 1, 0)))
        if int(decided.outcome[0]) == done:
            return deviations.MEANINGS[deviation]
    # What leaks depends on pods that are in no cell; the run's findings have worked it out.
    src, dst = question.endpoints[question.src], question.endpoints[question.dst]
    name = f"{src.key} to {dst.key} on {question.ports[question.port]}"
    listed = any(
        finding["cause"] == Deviation.ADMIN_NAMED_PORT and name in finding["subjects"]
        for finding in run.manifest.get("findings", ())
    )
    return deviations.MEANINGS[Deviation.ADMIN_NAMED_PORT] if listed else ""


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
