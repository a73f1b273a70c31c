"""What the run keeps of a trace: its row of `traces`. Pure."""

from audit.model.run import TraceRecord
from audit.model.traces import DatapathTask, LogicalTrace, TraceOutcome, TraceTask
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
    blame = judgement.blame
    policy = blame.policy if blame is not None else None
    hop = outcome.hop if isinstance(outcome, LogicalTrace) else None
    return TraceRecord(
        key=task.key,
        plane=DATAPATH if isinstance(task, DatapathTask) else LOGICAL,
        zone=task.zone,
        node=task.node if isinstance(task, DatapathTask) else "",
        state=task.state,
        microflow=microflow,
        outcome=judgement.verdict or _CONTINUES,
        reason=judgement.reason,
        # What decided: the ACL's stage where one did, else the last logical flow.
        stage=(blame or hop).stage if hop is not None else "",
        logical_flow=(blame or hop).logical_flow if hop is not None else "",
        acl=blame.acl if blame is not None else "",
        acl_match=blame.acl_match if blame is not None else "",
        policy_kind=policy.kind if policy is not None else "",
        policy_namespace=policy.namespace if policy is not None else "",
        policy_name=policy.name if policy is not None else "",
        policy_direction=blame.direction if blame is not None else "",
        policy_rule=blame.rule if blame is not None else -1,
        policies=tuple(str(ref) for ref in blame.policies) if blame is not None else (),
        detail=judgement.detail,
        next_keys=tuple(onward.key for onward in judgement.next_hops),
        reply_of=reply_of,
        output=outcome.output,
        read=outcome,
    )


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
        stage="",
        logical_flow="",
        acl="",
        acl_match="",
        policy_kind="",
        policy_namespace="",
        policy_name="",
        policy_direction="",
        policy_rule=-1,
        policies=(),
        detail=judgement.detail,
        next_keys=tuple(onward.key for onward in judgement.next_hops),
        reply_of=(),
        output="",
    )
