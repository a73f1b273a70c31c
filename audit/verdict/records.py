"""What the run keeps of a trace: its row of `traces`. Pure."""

from collections.abc import Sequence
from typing import Any

from audit.model.packets import ConntrackState
from audit.model.run import ENDPOINTS, TO_ITSELF, TraceRecord
from audit.model.traces import DatapathTask, LogicalTrace, TraceOutcome, TraceTask
from audit.model.verdicts import Blame, Reason, Verdict
from audit.verdict.judge import Judgement

LOGICAL, DATAPATH = "logical", "datapath"
"""The planes that traces are of."""
_CONTINUES = "continues"
"""The outcome of a trace that others take over from."""


def record(
    task: TraceTask,
    outcome: TraceOutcome,
    judgement: Judgement,
    *,
    microflow: str,
    reply_of: tuple[str, ...] = (),
) -> TraceRecord:
    """Return the row of a trace; `microflow` is its packet as the engine was given it."""
    # What decided: the ACL's stage where one did, else the last logical flow.
    decider = judgement.blame or outcome.hop if isinstance(outcome, LogicalTrace) else None
    return TraceRecord(
        key=task.key,
        plane=DATAPATH if isinstance(task, DatapathTask) else LOGICAL,
        zone=task.zone,
        node=task.node if isinstance(task, DatapathTask) else "",
        state=task.state,
        microflow=microflow,
        outcome=judgement.verdict or _CONTINUES,
        reason=judgement.reason,
        stage=decider.stage if decider is not None else "",
        logical_flow=decider.logical_flow if decider is not None else "",
        **_blamed(judgement.blame),
        detail=judgement.detail,
        next_keys=tuple(onward.key for onward in judgement.next_hops),
        reply_of=reply_of,
        output=outcome.output,
        read=outcome,
    )


def _blamed(blame: Blame | None) -> dict[str, Any]:
    """Return the fields about the ACL and the policy that decided; none where none did."""
    if blame is None:
        return {}
    fields = {
        "acl": blame.acl,
        "acl_match": blame.acl_match,
        "policy_direction": blame.direction,
        "policy_rule": blame.rule,
        "policies": tuple(map(str, blame.policies)),
    }
    if blame.policy is None:
        return fields
    return fields | {
        "policy_kind": blame.policy.kind,
        "policy_namespace": blame.policy.namespace,
        "policy_name": blame.policy.name,
    }


def service_record(plane: str, key: str, ends: Sequence[str], keys: Sequence[str]) -> TraceRecord:
    """Return the row of a Service whose endpoints' packets are told by traces of others.

    `ends` are endpoints as `10.0.0.1:80`, each with the key of the trace that tells what becomes of
    it. No zone traced it.
    """
    return _without_packet(
        plane=plane,
        key=key,
        outcome=_CONTINUES,
        reason=Reason.ALL_BACKENDS,
        detail=f"{ENDPOINTS}{', '.join(ends)}",
        next_keys=tuple(keys),
    )


def itself_record(plane: str) -> TraceRecord:
    """Return the row of what one of several endpoints sends itself: no trace is a proof of that."""
    return _without_packet(
        plane=plane,
        key=TO_ITSELF,
        outcome=Verdict.INCONCLUSIVE,
        reason=Reason.HAIRPIN_NOT_TRANSLATED,
        detail="what one of several endpoints of the Service sends to itself",
    )


def _without_packet(**fields: Any) -> TraceRecord:  # noqa: ANN401 - a row's fields
    """Return the row of a request that no zone was asked about."""
    return TraceRecord(zone="", state=ConntrackState.REQUEST, microflow="", **fields)


def fork_record(key: str, judgement: Judgement) -> TraceRecord:
    """Return the row of a request that is no packet of its own, but its legs'."""
    first = judgement.next_hops[0]
    return TraceRecord(
        key=key,
        plane=DATAPATH if isinstance(first, DatapathTask) else LOGICAL,
        zone=first.zone,
        state=first.state,
        microflow="",
        outcome=_CONTINUES,
        reason=judgement.reason,
        detail=judgement.detail,
        next_keys=tuple(onward.key for onward in judgement.next_hops),
    )
