"""Blame rebuilt from what a cell says and what its trace says.

The `cells` columns name the policy and the rule; the flow, the ACL and the stage are in the
trace that decided, or in one that took over from it. They are put together once per combination
that occurs, of which there are as many as decisions, never per cell.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from audit.model.facts import Policy
from audit.model.verdicts import PASSES, Blame, PolicyRef, Reason, Verdict
from audit.store.traces import TraceFiles

_Decisions = Mapping[str, Mapping[str, Any]]


class Combination(NamedTuple):
    """What one or more cells say of who decided; None where the column is null."""

    blame_kind: str | None
    blame_namespace: str | None
    blame_name: str
    blame_direction: str | None
    blame_rule: int | None
    verdict: str
    reason: str
    trace_id: str | None


class CellBlames:
    """The blames of combinations, made as these are met; `columns` are what tells them apart."""

    columns: tuple[str, ...]

    def __init__(self) -> None:
        self._blames: list[Blame] = []

    def of(self, combinations: Sequence[tuple[Any, ...]]) -> Sequence[Blame]:
        """Return the blame of each; the first are those of earlier calls, which are kept."""
        self._blames += self._made(combinations[len(self._blames) :])
        return self._blames

    def _made(self, added: Sequence[tuple[Any, ...]]) -> Iterable[Blame]:
        raise NotImplementedError


class Named(CellBlames):
    """As far as the cells say: the policy, direction and rule."""

    columns: tuple[str, ...] = Combination._fields[:5]

    def _made(self, added: Sequence[tuple[Any, ...]]) -> Iterable[Blame]:
        for kind, namespace, name, direction, rule in added:
            policy = PolicyRef(kind=kind, namespace=namespace or "", name=name) if kind else None
            yield Blame(
                action="",
                direction=direction or "",
                policy=policy,
                rule=-1 if rule is None else rule,
                owner="" if policy else name,
            )


class Rebuilt(CellBlames):
    """As far as the cells and their traces say.

    The policy, direction and rule are the cell's own. The rest is filled in where a trace of the
    cell decided by that same policy and rule, and left empty where none did.
    """

    columns: tuple[str, ...] = Combination._fields

    def __init__(self, traces: TraceFiles, policies: Sequence[Policy]) -> None:
        super().__init__()
        self._traces = traces
        self._names = {str(policy.ref): policy.ref for policy in policies}

    def _made(self, added: Sequence[tuple[Any, ...]]) -> Iterable[Blame]:
        combinations = [Combination(*row) for row in added]
        decisions = self._traces.decisions({c.trace_id for c in combinations if c.trace_id})
        return [_blame(c, _decision(c, decisions), self._names) for c in combinations]


def _blame(
    cell: Combination, decision: Mapping[str, Any] | None, names: Mapping[str, PolicyRef]
) -> Blame:
    """Return the blame of `cell`, with what the trace that decided it adds, if there is one."""
    trace = decision or {}
    policy = _policy(cell)
    shared = tuple(names.get(name) or _reference(name) for name in trace.get("policies", ()))
    # Without a policy the name stands for the ACL or the stage, where those have no owner.
    stands_for = {f"ACL {trace.get('acl')}", trace.get("stage")}
    return Blame(
        action=_action(cell),
        direction=cell.blame_direction or "",
        policy=policy,
        policies=shared or ((policy,) if policy else ()),
        rule=-1 if cell.blame_rule is None else cell.blame_rule,
        owner="" if policy or cell.blame_name in stands_for else cell.blame_name,
        acl=trace.get("acl", ""),
        acl_match=trace.get("acl_match", ""),
        logical_flow=trace.get("logical_flow", ""),
        stage=trace.get("stage", ""),
        zone=trace.get("zone", ""),
    )


def _policy(cell: Combination) -> PolicyRef | None:
    """Return the policy the cell names."""
    if cell.blame_kind is None:
        return None
    namespace = cell.blame_namespace or ""
    return PolicyRef(kind=cell.blame_kind, namespace=namespace, name=cell.blame_name)


def _action(cell: Combination) -> str:
    """Return what the decision did, which follows from the verdict it led to."""
    if cell.reason == Reason.ACL_REJECT:
        return "reject"
    return "allow" if Verdict(cell.verdict) in PASSES else "drop"


def _decision(cell: Combination, decisions: _Decisions) -> Mapping[str, Any] | None:
    """Return the first trace of the cell's chain that was decided by whom the cell blames."""
    queue = [cell.trace_id] if cell.trace_id else []
    for key in queue:
        row = decisions.get(key)
        if row is None:
            continue
        if _decided(cell, row):
            return row
        queue.extend(key for key in row["next_ids"] if key not in queue)
    return None


def _decided(cell: Combination, row: Mapping[str, Any]) -> bool:
    """Tell whether a trace was decided by the policy and rule, or the nameless ACL, of `cell`."""
    if cell.blame_kind is None:
        # A hop that hands the packet on names its last stage too, and the ACL that let it pass.
        passed_on = bool(row["next_ids"]) and Verdict(cell.verdict) not in PASSES
        named = bool(row["acl"]) or cell.blame_name == row["stage"]
        return named and not row["policy_kind"] and not passed_on
    names = ("kind", "namespace", "name", "direction", "rule")
    return all(getattr(cell, f"blame_{name}") == row[f"policy_{name}"] for name in names)


def _reference(name: str) -> PolicyRef:
    """Return the reference `str(PolicyRef)` printed, for an object that is in no table."""
    kind, _, rest = name.partition(" ")
    namespace, _, name = rest.rpartition("/")
    return PolicyRef(kind=kind, namespace=namespace, name=name)
