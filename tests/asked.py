"""What the intent plane says of manifests, for whoever holds it against something."""

from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import numpy as np

from audit.commands import intent
from audit.facts.manifests import Surroundings
from audit.model.matrix import Cells
from audit.model.verdicts import REASONS, VERDICTS
from audit.scope import scope
from audit.tracing.options import Options, Progress


class Asked:
    """Manifests evaluated on one port: verdicts and reasons by the names of the pods."""

    def __init__(
        self, place: Path, port: str = "tcp/80", around: Surroundings | None = None
    ) -> None:
        options = Options(
            snapshot=None,
            scope=scope.from_flags(ports=(port,)),
            manifests=str(place),
            surroundings=around or Surroundings(),
        )
        with ExitStack() as stack:
            planned = intent.plan(options, Mock(spec=Progress), stack)
        judged = intent.alone(planned, Mock(spec=Progress))
        self.notes = {note.code: note for note in planned.notes}
        self.state = planned.state
        self.pods = [pod.name for pod in planned.state.pods]
        self.all_findings = judged.findings
        self._matrix = planned.layout.matrix()
        self._verdicts = Cells.joined(list(judged.blocks.parts()))

    def _cell(self, src: str, dst: str) -> int:
        ends = {e.name: i for i, e in enumerate(self._matrix.endpoints)}
        (cell,) = np.flatnonzero(
            (self._matrix.src == ends[src]) & (self._matrix.dst == ends[dst])
        ).tolist()
        return int(cell)

    def between(self, src: str, dst: str) -> str:
        """Return the verdict of a cell whose ends are given by their keys."""
        ends = [e.key for e in self._matrix.endpoints]
        met = (self._matrix.src == ends.index(src)) & (self._matrix.dst == ends.index(dst))
        [cell] = np.flatnonzero(met)
        return str(VERDICTS[self._verdicts.verdict[cell]])

    def verdict(self, src: str, dst: str) -> str:
        return str(VERDICTS[self._verdicts.verdict[self._cell(src, dst)]])

    def reason(self, src: str, dst: str) -> str:
        return str(REASONS[self._verdicts.reason[self._cell(src, dst)]])
