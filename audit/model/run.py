"""A finished run, as the store gives it back and the reports see it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from audit.model.blocks import Blocks
from audit.model.endpoints import Endpoint, Port
from audit.model.facts import Policy
from audit.model.matrix import Cells, CellVerdicts, Matrix
from audit.model.packets import Family
from audit.model.probes import Probed
from audit.model.tasks import key_of
from audit.model.traces import TraceOutcome
from audit.model.verdicts import Blame

ENDPOINTS = "endpoints "
"""Begins the detail of a request that is no packet of its own, before those that it is sent to."""


TO_ITSELF = key_of("to itself")
"""The key of the row that stands for what one of a Service's several endpoints sends itself."""


def endpoints_key(service: str, port: Port, family: Family) -> str:
    """Return the key of the row that names the endpoints of a Service's port."""
    return key_of(ENDPOINTS, service, port, family)


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
    probes: Mapping[int, Probed] = field(default_factory=dict)
    """By cell, the last real connection that was tried for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedRun:
    """A run whose cells come part by part, in the matrix' order: nothing holds them all.

    `blames` and `trace_keys` are what the parts' codes index: asked for after a part, they have at
    least all that this part and those before it index, at the same places ever after. A part is
    good until the next is asked for.
    """

    path: str
    manifest: Mapping[str, Any]
    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    policies: tuple[Policy, ...]
    traces: TraceReader
    parts: Callable[[], Iterator[Cells]]
    blames: Callable[[], Sequence[Blame]]
    trace_keys: Callable[[], Sequence[str]]
    blocks: Blocks | None = None
    """All cells by class, of a run that has them so and was not probed."""
