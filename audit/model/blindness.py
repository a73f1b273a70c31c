"""What the tracers are known to be blind to: one table, by engine.

A tracer that passes over an action, a field or a stage goes on, and what it says of the packet
afterwards proves nothing. `docs/traces.md` shows this table to readers; a test keeps both alike.
How a trace is recognised that met a spot: `audit.trace.blindness`, from the engine's own words,
and `audit.verdict.blindness`, from what the databases say of the packet. Who decides instead is, in
this order, the other plane, a real packet, and nobody: then the cell is inconclusive, with
`reason`.
"""

from dataclasses import dataclass
from enum import StrEnum

from audit.model.verdicts import Reason


class Spot(StrEnum):
    """A place in which an engine is blind; the name stands in `docs/traces.md`."""

    REGISTERS = "registers kept at a patch port"
    SERVICE_CLASS = "service class"
    PACKET_SIZE = "packet size"
    HAIRPIN = "hairpin translation"
    CONNECTION = "connection's first packet"
    UNTRANSLATION = "translation back"
    TEMPLATES = "template variables"
    LOCAL_BACKENDS = "backends on this node"
    RESIDENCE = "where a port is"
    TIES = "contradicting ACLs"
    HOST = "host to a Service"
    LEARNT = "what nodes learnt"
    CONTROLLER = "what ovn-controller answers"
    FORWARDING = "forwarding groups"
    UNKNOWN = "unknown actions"


OLDEST = "22.03"
"""The oldest OVN that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """One row. `engines` are the programs that are blind there, from OVN `since` on.

    `reason` is the cell's when nobody else decides; None where the trace is gone on with instead.
    """

    spot: Spot
    engines: tuple[str, ...]
    since: str
    reason: Reason | None


LOGICAL_ENGINE, DATAPATH_ENGINE = "ovn-trace", "ofproto/trace"


def _row(
    spot: Spot,
    reason: Reason | None,
    *,
    logical: bool = True,
    datapath: bool = False,
    since: str = OLDEST,
) -> Blindness:
    flags = ((LOGICAL_ENGINE, logical), (DATAPATH_ENGINE, datapath))
    engines = tuple(engine for engine, blind in flags if blind)
    return Blindness(spot=spot, engines=engines, since=since, reason=reason)


BLINDNESS: tuple[Blindness, ...] = (
    _row(Spot.REGISTERS, None),
    _row(Spot.SERVICE_CLASS, Reason.ACTION_NOT_TRACED),
    _row(Spot.PACKET_SIZE, Reason.ACTION_NOT_TRACED),
    _row(Spot.HAIRPIN, Reason.HAIRPIN_NOT_TRANSLATED, datapath=True),
    _row(Spot.CONNECTION, Reason.ACTION_NOT_TRACED, logical=False, datapath=True, since="25.09"),
    _row(Spot.UNTRANSLATION, Reason.NAT_NOT_TRACED, datapath=True),
    _row(Spot.TEMPLATES, Reason.TEMPLATE_LOAD_BALANCER, since="22.12"),
    _row(Spot.LOCAL_BACKENDS, Reason.ACTION_NOT_TRACED, since="26.03"),
    _row(Spot.RESIDENCE, Reason.ACTION_NOT_TRACED),
    _row(Spot.TIES, Reason.ACLS_CONTRADICT, datapath=True),
    _row(Spot.HOST, Reason.HOST_TO_SERVICE, datapath=True),
    _row(Spot.LEARNT, Reason.ACTION_NOT_TRACED),
    _row(Spot.CONTROLLER, Reason.ACTION_NOT_TRACED),
    _row(Spot.FORWARDING, Reason.ACTION_NOT_TRACED),
    _row(Spot.UNKNOWN, Reason.ACTION_NOT_TRACED),
)

BLIND_REASONS = frozenset(
    row.reason for row in BLINDNESS if row.reason not in (None, Reason.NAT_NOT_TRACED)
)
"""Reasons of a trace that ends as ever and proves nothing, for what its engine is blind to."""

SENT_REASONS = frozenset({Reason.HAIRPIN_NOT_TRANSLATED, Reason.HAIRPIN_NOT_DRAWN})
"""Reasons of a trace that a packet can decide. Not where two ACLs contradict each other: which of
them a replayed switch takes says nothing about another."""
