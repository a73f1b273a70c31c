"""Two runs, or two evaluations of policies, compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.errors import ExitCode
from audit.model.verdicts import PASSES, STOPPED, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPath:
    """Cells between two workloads that changed alike, on some ports.

    `was` and `why` are what decides before and after the change, empty where no policy does.
    `because` is what explains it, `drift` whether planes disagreed before and disagree after.
    `reply` are the verdicts of the reply where these alone changed.
    """

    src: str
    dst: str
    ports: tuple[str, ...]
    before: Verdict
    after: Verdict
    why: str
    cells: int
    was: str = ""
    because: tuple[str, ...] = ()
    drift: tuple[bool, bool] = (False, False)
    reply: tuple[Verdict, Verdict] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedPaths:
    """What changed, by the way in which it did."""

    paths: tuple[ChangedPath, ...]

    @property
    def opened(self) -> tuple[ChangedPath, ...]:
        """What gets through now and did not, or was not known to."""
        return tuple(p for p in self.paths if p.after in PASSES and p.before not in PASSES)

    @property
    def closed(self) -> tuple[ChangedPath, ...]:
        """What is stopped now and was not, or was not known to be."""
        return tuple(p for p in self.paths if p.after in STOPPED and p.before not in STOPPED)

    @property
    def replies(self) -> tuple[ChangedPath, ...]:
        """Whose request fares as before, and its reply does not."""
        return tuple(p for p in self.paths if p.reply is not None)

    @property
    def otherwise(self) -> tuple[ChangedPath, ...]:
        """What changed in another way: it is not proven any more, drifts, or ends elsewhere."""
        listed = {*self.opened, *self.closed, *self.replies}
        return tuple(path for path in self.paths if path not in listed)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many cells changed in each of these ways."""
        kinds = {
            "opened": self.opened,
            "closed": self.closed,
            "replies": self.replies,
            "otherwise": self.otherwise,
        }
        return {kind: sum(path.cells for path in paths) for kind, paths in kinds.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideChanges(ChangedPaths):
    """What changed between pods and ranges of addresses outside that are in no cell of the runs.

    The policies that each run stored decide it alone. Nobody traced it, so it is counted with
    nothing that was: `compared` are combinations of pod, range, family and port, of which
    `decided` are decided by the policies of both runs.
    """

    plane: str = "intent"
    traced: bool = False
    compared: int = 0
    decided: int = 0
    limits: tuple[str, ...] = ()
    """Sentences: why the outside, or a part of it, was not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes(ChangedPaths):
    """What is different between two runs, or two sets of manifests.

    `by` says what decided, where it was not traces. `appeared` and `vanished` are workloads, which
    are not compared; `unmatched` counts the later run's cells that the earlier has none for, and
    `unmatched_before` the other way round. Of the `compared` cells `proven` are proven in both.
    `out_of_scope` counts workloads of the earlier run that the later did not ask about, and the
    other way round. `reservations` are sentences: why the two are not of the same, though what
    they share was compared. `outside` is what policies alone say of what neither run's cells hold.
    """

    before: str
    after: str
    compared: int
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    policies: tuple[str, ...]
    """`added networkpolicy shop/x`, `changed …`, `removed …`."""
    facts: tuple[str, ...] = ()
    """What else differs: labels, nodes, versions."""
    by: str = "the policy objects alone"
    unmatched: int = 0
    drift_appeared: int = 0
    drift_gone: int = 0
    unmatched_before: int = 0
    proven: int = 0
    out_of_scope: tuple[int, int] = (0, 0)
    reservations: tuple[str, ...] = ()
    outside: OutsideChanges | None = None

    @property
    def limits(self) -> tuple[str, ...]:
        """Sentences: why that nothing changed does not say that all is as it was."""
        return (*self._of_cells, *(self.outside.limits if self.outside else ()))

    @property
    def _of_cells(self) -> tuple[str, ...]:
        if not self.compared:
            why = "" if self.reservations else "The two have no cell in common: "
            return (*self.reservations, f"{why}nothing was compared.".capitalize())
        if not self.proven:
            text = "No cell is proven in both: whether anything changed is not known."
            return (*self.reservations, text)
        return self.reservations

    @property
    def exit_code(self) -> ExitCode:
        """1 when something changed, else 3 when not all of it was compared, else 0."""
        if self.paths or (self.outside is not None and self.outside.paths):
            return ExitCode.FINDINGS
        return ExitCode.INCOMPLETE if self.limits else ExitCode.CLEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCells:
    """What a comparison with the earlier run `since` marks in a run.

    `cells` says of each cell of the run, in the matrix' order, how it changed: UNCHANGED, one more
    than the code of the verdict it had, or UNMATCHED. `sentences` are for who reads the report,
    `paths` are what changed, most cells first, and `outside` what did by the policies alone, of
    which there are no cells.
    """

    since: str
    cells: NDArray[np.uint8]
    sentences: tuple[str, ...] = ()
    paths: ChangedPaths = ChangedPaths(paths=())
    outside: ChangedPaths = ChangedPaths(paths=())


UNCHANGED = 0
UNMATCHED = 7
"""The mark of a cell that the earlier run has no counterpart of."""
