"""What an answer to a real connection proves about a cell. Pure.

A connection proves that packets pass: the handshake takes a request that arrives and a reply that
comes back. It never proves that they are stopped. A silent destination looks like a drop, and a
reset may be that of an ACL that rejects; so these are inconclusive, and in no drift.
"""

from dataclasses import dataclass

from audit.model.endpoints import EndpointKind
from audit.model.probes import Probed, Response
from audit.model.verdicts import PASSES, STOPPED, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of a cell beside the answer.

    `verdict` and `reply` are the run's; `reply` is None where there is none. `rejecting` are the
    ACLs of all zones that reject, None where the run does not say. `between` is what answers in the
    pod's network for addresses that nobody has, empty when nothing does.
    """

    verdict: Verdict
    reply: Verdict | None
    destination: EndpointKind
    rejecting: int | None
    between: str


def judged(response: Response, situation: Situation) -> tuple[Verdict, str]:
    """Return what an answer proves, and why in a sentence."""
    if response is Response.NOT_SENT:
        return Verdict.UNTRACED, "no connection was tried"
    if situation.between:
        return Verdict.INCONCLUSIVE, f"{situation.between}: the answer may not be the destination's"
    match response:
        case Response.CONNECTED:
            return Verdict.REACHABLE, "the connection was accepted: request and reply passed"
        case Response.REFUSED:
            return _refused(situation)
        case Response.UNREACHABLE:
            return Verdict.INCONCLUSIVE, "the source's kernel found no way, or was told of none"
        case Response.UNANSWERED:
            return (
                Verdict.INCONCLUSIVE,
                "nothing came back: a drop looks so, and so does a destination that is silent",
            )


def _refused(situation: Situation) -> tuple[Verdict, str]:
    """Tell a destination that does not listen from an ACL that rejects, where that is possible."""
    if situation.destination is not EndpointKind.POD:
        kind = situation.destination
        return (
            Verdict.INCONCLUSIVE,
            f"a reset came back, which a firewall or load balancer may send for a {kind}",
        )
    if situation.rejecting is None:
        return (
            Verdict.INCONCLUSIVE,
            "a reset came back, and the run does not say whether any ACL rejects",
        )
    if situation.rejecting:
        return (
            Verdict.INCONCLUSIVE,
            f"a reset came back, and {situation.rejecting:,} ACLs of the cluster reject",
        )
    return (
        Verdict.REACHABLE,
        "a reset came back and no ACL of the cluster rejects: the pod does not listen there",
    )


def drift_of(verdict: Verdict, situation: Situation) -> bool | None:
    """Say whether a probe's verdict contradicts the run's; None where either proves nothing."""
    if verdict is not Verdict.REACHABLE or situation.verdict not in PASSES | STOPPED:
        return None
    return situation.verdict in STOPPED or situation.reply in STOPPED


def is_unanswered(probed: Probed) -> bool:
    """Say whether packets that pass both ways by the run got no answer: something to look at."""
    silent = probed.response in (Response.UNANSWERED, Response.UNREACHABLE)
    return silent and probed.expected in PASSES and probed.expected_reply not in STOPPED
