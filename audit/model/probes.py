"""Probes: real connections between endpoints, and what came back. The plane `probe`."""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from audit.model.verdicts import Verdict


class Response(StrEnum):
    """What a client in the source's pod saw of one TCP connection."""

    CONNECTED = "connected"
    """The handshake was completed: a packet arrived, and its answer came back."""
    REFUSED = "refused"
    """A reset came back, from the destination or from whatever rejects in its name."""
    UNREACHABLE = "unreachable"
    """The kernel gave up before the time was over: no route, or an ICMP error."""
    UNANSWERED = "unanswered"
    """Nothing came back in time."""
    NOT_SENT = "not-sent"
    """No connection was tried; why is in the probe's detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection that a client tried. `client` is empty when none could be used."""

    response: Response
    client: str = ""
    detail: str = ""
    """What the client printed, or why nothing was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A connection for one cell of a run, and what it proves.

    `verdict` is REACHABLE, INCONCLUSIVE or UNTRACED, for a connection cannot prove that packets are
    stopped. `drift` says whether that contradicts what the run says; None where either proves
    nothing. `expected` and `expected_reply` are the run's verdicts. `at` is
    when the answer came, in UTC.
    """

    cell: int
    connection: Connection
    expected: Verdict
    expected_reply: Verdict | None
    verdict: Verdict
    drift: bool | None
    meaning: str
    """Why the answer comes to this verdict, in a sentence."""
    address: str
    port: int
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A cell's latest probe, as the store gives it back."""

    response: str
    expected: str
    expected_reply: str | None
    verdict: str
    drift: bool | None
    client: str
    detail: str
    meaning: str
    address: str
    port: int
    at: str
