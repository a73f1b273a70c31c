"""Which logical flows the ACLs in force explain, and which ACLs have none. Pure.

northd makes of an ACL, per conntrack state that it can meet, one flow whose match is the ACL's own
between fixed conditions (northd.c, `consider_acl`):

    reg8[30..31] == 2 && reg0[7] == 1 && (outport == @a1 && ip4.src == $a2)

The planner knows ACLs by their rows in the northbound, and packets meet the flows. So what the
flows say otherwise (an edited one, one too many or too few, a northd that lags) is found here, and
whatever can meet it is not composed.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.model.facts import Acl, LogicalFlow

ACL_STAGES = {
    "ls_in_pre_acl": ("from-lport", None),
    "ls_out_pre_acl": ("to-lport", None),
    "ls_in_acl": ("from-lport", False),
    "ls_in_acl_eval": ("from-lport", False),
    "ls_in_acl_after_lb": ("from-lport", True),
    "ls_in_acl_after_lb_eval": ("from-lport", True),
    "ls_out_acl": ("to-lport", False),
    "ls_out_acl_eval": ("to-lport", False),
}
"""Stages with flows made of ACLs: of which direction, and whether after load balancing (None:
either). Up to OVN 23.03 and from 23.06 on (northd.h)."""

_FORM = re.compile(
    r"(?:reg8\[30\.\.31\] == (?P<tier>[0-3]) && )?(?:reg0\[(?P<hint>7|8|9|10)\] == 1 && )?"
    r"(?P<match>.*)",
    re.DOTALL,
)
_COMPLETE = (frozenset({7, 8}), frozenset({9, 10}), frozenset({0}))
"""Hints that tell conntrack states apart (REGBIT_ACL_HINT_*): of an ACL that allows, of one that
denies, and of one that is asked whatever the state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a switch's flows and the ACLs in force there have in common.

    `explained` are flows, by their index among the switch's; `lacking` ACLs whose flows are not all
    there, or do something else.
    """

    explained: frozenset[int]
    lacking: tuple[Acl, ...]


def compare(acls: Iterable[Acl], flows: Sequence[LogicalFlow]) -> Agreement:
    """Return which of a switch's flows are made of these ACLs, which are in force there."""
    wanted: dict[tuple[str, int, str], list[Acl]] = defaultdict(list)
    for acl in acls:
        wanted[acl.direction, acl.flow_priority, acl.match].append(acl)
    explained: set[int] = set()
    hints: dict[str, set[int]] = defaultdict(set)
    for index, flow in enumerate(flows if wanted else ()):
        direction, after_lb = ACL_STAGES.get(flow.stage, ("", None))
        form = _FORM.fullmatch(flow.match) if direction else None
        if form is None:
            continue
        for acl in wanted.get((direction, flow.priority, _bare(form["match"])), ()):
            if after_lb is None and acl.action == "allow-stateless":
                explained.add(index)
            elif acl.after_lb == after_lb and _does(acl, flow, form["tier"]):
                explained.add(index)
                hints[acl.uuid].add(int(form["hint"] or 0))
    every = itertools.chain.from_iterable(wanted.values())
    lacking = tuple(acl for acl in every if not _is_complete(hints[acl.uuid]))
    return Agreement(explained=frozenset(explained), lacking=lacking)


def _is_complete(hints: set[int]) -> bool:
    """Say whether an ACL has flows with all the hints of one of its kinds."""
    return any(complete <= hints for complete in _COMPLETE)


def _bare(match: str) -> str:
    """Return the ACL's own match, which stands in parentheses."""
    return match[1:-1] if match.startswith("(") and match.endswith(")") else match


def _does(acl: Acl, flow: LogicalFlow, tier: str | None) -> bool:
    """Say whether a flow does what the ACL says, in its tier."""
    return (tier is None or int(tier) == acl.tier) and _verdict(flow) in acl.action


def _verdict(flow: LogicalFlow) -> str:
    """Return the action that a flow of an ACL stage stands for, as an ACL's begins with it."""
    actions = flow.actions
    for bit, verdict in (("16", "allow"), ("17", "drop"), ("18", "reject")):
        if f"reg8[{bit}] = 1;" in actions:
            return verdict
    if "reject" in actions:
        return "reject"
    if "drop" in actions or "ct_mark.blocked = 1" in actions:
        return "drop"
    if "next;" not in actions:
        return "nothing that an ACL does"
    return "pass" if flow.stage.endswith("_eval") else "allow"
