"""A finished run, as the store gives it back and the reports see it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audit.model.endpoints import Endpoint, Port
from audit.model.facts import Policy
from audit.model.matrix import CellVerdicts, Indices, Matrix
from audit.model.traces import TraceOutcome
from audit.model.verdicts import Blame


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRecord:
    """One row of `traces/*.parquet`: a real trace, what it decided and its raw text.

    `next_keys` are the traces that took over where this one's zone ended; `reply_of` are the
    traces whose replies this is, empty for requests. A request to a headless Service's name is a
    row without a microflow and a raw text: its endpoints' traces take over. The words are those
    of `docs/store.md`.
    """

    key: str
    plane: str
    zone: str
    state: str
    microflow: str
    outcome: str
    reason: str
    stage: str = ""
    logical_flow: str = ""
    acl: str = ""
    acl_match: str = ""
    policy_kind: str = ""
    policy_namespace: str = ""
    policy_name: str = ""
    policy_direction: str = ""
    policy_rule: int = -1
    policies: tuple[str, ...] = ()
    detail: str = ""
    next_keys: tuple[str, ...] = ()
    reply_of: tuple[str, ...] = ()
    output: str = ""
    node: str = ""
    """The node whose Open vSwitch was asked; empty on the logical plane."""
    read: TraceOutcome | None = None
    """What was read of `output`, to be written beside it; readers do not give it back."""


class TraceReader(Protocol):
    """Gives traces back without holding them all: raw text is most of a run's bytes."""

    def all(self) -> Iterator[TraceRecord]:
        """Yield every trace, sorted by key."""
        ...

    def get(self, key: str) -> TraceRecord | None:
        """Return one trace."""
        ...

    def reply_to(self, key: str) -> TraceRecord | None:
        """Return the first trace of the reply to what trace `key` delivered, if one was traced."""
        ...

    def deciding(self, zone: str, like: Blame) -> TraceRecord | None:
        """Return a trace that the same policy, rule and match decided in a zone, if one was."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything a report or `audit explain` needs. `manifest` is run.json as read."""

    path: str
    manifest: Mapping[str, Any]
    matrix: Matrix
    verdicts: CellVerdicts
    policies: tuple[Policy, ...]
    traces: TraceReader

    def streamed(self) -> "StreamedRun":
        """Return the run as one that is read part by part."""
        return StreamedRun(
            path=self.path,
            manifest=self.manifest,
            endpoints=self.matrix.endpoints,
            ports=self.matrix.ports,
            policies=self.policies,
            traces=self.traces,
            parts=self._parts,
            blames=lambda: self.verdicts.blames,
            trace_keys=lambda: self.verdicts.trace_keys,
        )

    def _parts(self) -> Iterator["Part"]:
        optional = ("intent", "logical", "datapath", "drift", "other_trace")
        for first in range(0, len(self.matrix), PART):
            cells = slice(first, first + PART)
            columns = {name: getattr(self.verdicts, name) for name in optional}
            yield Part(
                src=self.matrix.src[cells],
                dst=self.matrix.dst[cells],
                family=self.matrix.family[cells],
                port=self.matrix.port[cells],
                verdict=self.verdicts.verdict[cells],
                reply=self.verdicts.reply[cells],
                reason=self.verdicts.reason[cells],
                blame=self.verdicts.blame[cells],
                trace=self.verdicts.trace[cells],
                **{n: None if column is None else column[cells] for n, column in columns.items()},
            )


PART = 1_000_000
"""Cells of a part: some 100 MB with everything that is made of them on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Consecutive cells of a run: the arrays of Matrix and CellVerdicts under their names.

    They are good until the next part is asked for. A plane that was not asked is None.
    """

    src: Indices
    dst: Indices
    family: NDArray[np.int8]
    port: Indices
    verdict: NDArray[np.uint8]
    reply: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    blame: NDArray[np.int32]
    trace: NDArray[np.int32]
    intent: NDArray[np.uint8] | None = None
    logical: NDArray[np.uint8] | None = None
    datapath: NDArray[np.uint8] | None = None
    drift: NDArray[np.uint8] | None = None
    other_trace: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedRun:
    """A run whose cells come part by part, in the matrix' order: nothing holds them all.

    `blames` and `trace_keys` are what the parts' codes index: asked for after a part, they have at
    least all that this part and those before it index, at the same places ever after.
    """

    path: str
    manifest: Mapping[str, Any]
    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    policies: tuple[Policy, ...]
    traces: TraceReader
    parts: Callable[[], Iterator[Part]]
    blames: Callable[[], Sequence[Blame]]
    trace_keys: Callable[[], Sequence[str]]
