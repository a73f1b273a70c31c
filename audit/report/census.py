"""Counting cells by namespace and by policy: vectorised, because there are N² of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.model.changes import UNCHANGED, UNMATCHED
from audit.model.facts import Policy
from audit.model.tally import Tally, from_others, most_open
from audit.model.verdicts import CODE, PASSES, VERDICTS, Blame, PolicyRef, Verdict
from audit.report.axes import LAST_GROUPS
from audit.report.grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """What decides, and how much: a policy, or what stands for one where none is known.

    `blocks` and `allows` name it as what decided. `shared` is in how many more blocked cells a
    default deny is shared with the one named, so that taking only that one away changes nothing.
    """

    label: str
    policy: PolicyRef | None
    blocks: int = 0
    allows: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The counts of a run.

    `pairs` has the shape (groups, groups, verdicts), from and to; `states` counts the cells of
    each state; `sends` and `receives` count the cells of each endpoint of the page that pass.
    """

    pairs: NDArray[np.int64]
    states: NDArray[np.int64]
    sends: NDArray[np.int64]
    receives: NDArray[np.int64]
    drifting: int
    changed: int

    def total(self) -> Tally:
        """Return the tally of the whole run."""
        return Tally.by_verdict(self.pairs.sum(axis=(0, 1)))


def census(grid: Grid) -> Census:
    """Count the cells of a grid."""
    page, codes = grid.page, grid.codes
    groups, verdicts, endpoints = len(page.groups), len(VERDICTS), len(page.endpoints)
    verdict_of = np.array([verdicts, *(state.verdict for state in grid.states)], np.int64)
    passing = np.isin(verdict_of, [CODE[verdict] for verdict in PASSES])
    column = page.group_of[page.column_dst].astype(np.int64) * (verdicts + 1)
    pairs = np.zeros((groups, groups * (verdicts + 1)), np.int64)
    states = np.zeros(len(grid.states) + 1, np.int64)
    sends, receives = np.zeros((2, endpoints), np.int64)
    for row, source in enumerate(page.sources.tolist()):
        here = codes[row]
        counted = np.bincount(column + verdict_of[here], minlength=pairs.shape[1])
        pairs[page.group_of[source]] += counted
        states += np.bincount(here, minlength=len(states))
        passes = passing[here]
        sends[source] = int(passes.sum())
        receives += np.bincount(page.column_dst[passes], minlength=endpoints)
    states[0] = 0
    return Census(
        pairs=pairs.reshape(groups, groups, verdicts + 1)[:, :, :verdicts],
        states=states[1:],
        sends=sends,
        receives=receives,
        drifting=_count(states, [state.drift == 1 for state in grid.states]),
        changed=_count(states, [UNCHANGED < state.changed < UNMATCHED for state in grid.states]),
    )


def _count(states: NDArray[np.int64], which: Sequence[bool]) -> int:
    return int(states[1:][np.array(which, bool)].sum())


def deciders(grid: Grid, counted: Census, policies: Sequence[Policy]) -> tuple[Decider, ...]:
    """Return what decides, most blocked cells first; policies that decide nothing are the last.

    The `blocks` of all of them are the blocked cells.
    """
    ledger = _Ledger(policies)
    for state, count in zip(grid.states, counted.states.tolist(), strict=True):
        if count:
            blame = grid.blames[state.blame] if state.blame >= 0 else None
            ledger.add(VERDICTS[state.verdict], blame, count)
    return ledger.deciders()


_FIGURES = ("blocks", "allows", "shared")


class _Ledger:
    """Cells by the label of what decides them, and the policy of each label."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policy_of: dict[str, PolicyRef | None] = {str(p.ref): p.ref for p in policies}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, verdict: Verdict, blame: Blame | None, count: int) -> None:
        """Count cells of one verdict and blame."""
        policy = blame.policy if blame else None
        if verdict is Verdict.BLOCKED:
            self._count(label_of(blame), policy, "blocks", count)
            for other in blame.policies if blame else ():
                if other != policy:
                    self._count(str(other), other, "shared", count)
        elif blame is not None:
            # What ends in doubt, or stopped by no ACL, was decided by neither.
            figure = "allows" if verdict in PASSES else ""
            self._count(label_of(blame), policy, figure, count)

    def _count(self, label: str, policy: PolicyRef | None, figure: str, count: int) -> None:
        self._policy_of.setdefault(label, policy)
        self._counts[label][figure] += count

    def deciders(self) -> tuple[Decider, ...]:
        """Return all of them, most blocked cells first."""
        ranked = (
            Decider(
                label=label, policy=policy, **{name: self._counts[label][name] for name in _FIGURES}
            )
            for label, policy in self._policy_of.items()
        )
        return tuple(sorted(ranked, key=lambda d: (-d.blocks, -d.allows, -d.shared, d.label)))


def label_of(blame: Blame | None) -> str:
    """Return what a blocked cell is counted under."""
    if blame is None:
        return "no policy named"
    return str(blame.policy) if blame.policy is not None else str(blame)


def exposures(grid: Grid, counted: Census) -> tuple[tuple[str, Tally], ...]:
    """Return the namespaces, most exposed to the others first; those nobody asks are left out."""
    into = zip(grid.page.groups, from_others(counted.pairs), strict=True)
    return most_open((group, tally) for group, tally in into if group not in LAST_GROUPS)
