"""One pair, traced by every tool: what `audit trace` knows, stage by stage.

A stage is what one tool says of one direction in one place. The words `tool` and `direction` are
made of are ovnkube-trace's, so that its verdict lines can be printed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from audit.model.endpoints import Endpoint, Port
from audit.model.origins import Source
from audit.model.packets import Family
from audit.model.verdicts import PASSES, STOPPED, Blame, Reason, Verdict


class Tool(StrEnum):
    """The program behind a stage, as ovnkube-trace calls it."""

    OVN_TRACE = "ovn-trace"
    OFPROTO_TRACE = "ovs-appctl ofproto/trace"
    OVN_DETRACE = "ovn-detrace"


class Way(StrEnum):
    """What packet a stage is about: the request, its reply, or a new connection back."""

    REQUEST = "request"
    REPLY = "reply"
    REVERSE = "reverse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of a packet, or of its way through one place."""

    verdict: Verdict
    reason: Reason
    blame: Blame | None = None
    detail: str = ""

    @property
    def indicates(self) -> str:
        """`success` or `failure`, as ovnkube-trace says it; empty when neither is proven."""
        if self.verdict in PASSES:
            return "success"
        return "failure" if self.verdict in STOPPED else ""

    def contradicts(self, other: "Answer") -> bool:
        """Say whether both are proven, and differ."""
        proven = bool(self.indicates and other.indicates)
        return proven and self.verdict is not other.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one tool says of one packet at one `location`, a zone or a node.

    `remote` says that it is the other end's; `src` and `dst` are the names in the verdict line,
    and `leg` the destination it is about, empty for a Service as a whole. `answer` is about this
    location alone: a packet that leaves it towards its destination passes; `ovn-detrace` has none,
    and only `indicates`. `supposed` says that the packet does not get here, and that this is what
    would become of it; `has_line` that the stage is of those ovnkube-trace has verdict lines for,
    or would have for another node. `commands` and `outputs` are parallel, a trace each; without
    outputs the program was not asked for its words. `sources` are the northbound rows behind the
    flows that the traces went through.
    """

    tool: Tool
    way: Way
    direction: str
    src: str
    dst: str
    location: str
    indicates: str
    leg: str = ""
    answer: Answer | None = None
    detail: str = ""
    remote: bool = False
    supposed: bool = False
    has_line: bool = True
    commands: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def name(self) -> str:
        """`ovn-trace (remote) source pod to destination pod`."""
        remote = " (remote)" if self.remote else ""
        return f"{self.tool}{remote} {self.direction}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What one plane says of one destination a packet of the pair may come to.

    `reply` is None when it cannot be traced: it comes back through the underlay or through a
    translation. `reverse` is a new connection from there to the source on the same port, None
    where there is no one to open it.
    """

    request: Answer
    reply: Answer | None
    reverse: Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One destination a packet of the pair may come to: the pod, or a backend of the Service.

    A plane that does not know the destination, or was not traced, is None; not both.
    """

    dst: Endpoint
    port: Port
    logical: Ends | None
    datapath: Ends | None

    @property
    def request(self) -> Answer:
        """The strongest evidence of what becomes of the request."""
        answer = strongest(*(ends.request for ends in self._planes))
        assert answer is not None  # noqa: S101 - one of the two planes has it
        return answer

    @property
    def reply(self) -> Answer | None:
        """The strongest evidence of what becomes of its reply."""
        return strongest(*(ends.reply for ends in self._planes))

    @property
    def reverse(self) -> Answer | None:
        """The strongest evidence of what becomes of a new connection the other way."""
        return strongest(*(ends.reverse for ends in self._planes))

    @property
    def _planes(self) -> tuple[Ends, ...]:
        return tuple(ends for ends in (self.datapath, self.logical) if ends is not None)


def strongest(*answers: Answer | None) -> Answer | None:
    """Return the first answer that proves anything, else the first there is."""
    given = [answer for answer in answers if answer is not None]
    return next((answer for answer in given if answer.indicates), next(iter(given), None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Two planes that prove different things of one packet."""

    way: Way
    dst: Endpoint
    logical: Answer
    datapath: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTrace:
    """Everything known about one pair. `stages` are in the order in which ovnkube-trace has them.

    `logical` and `datapath` are what the planes say of the request, and `answer` is the strongest
    evidence there is. `notes` are sentences about what could not be had, `chosen` about which of
    several endpoints is traced.
    """

    src: Endpoint
    dst: Endpoint
    port: Port
    family: Family
    answer: Answer
    logical: Answer
    datapath: Answer | None
    legs: tuple[Leg, ...]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    @property
    def drifts(self) -> tuple[Drift, ...]:
        """What the planes disagree about, both of them being sure."""
        return tuple(
            Drift(way=way, dst=dst, logical=logical, datapath=datapath)
            for way, dst, logical, datapath in self._packets()
            if logical and datapath and logical.contradicts(datapath)
        )

    def _packets(self) -> Iterator[tuple[Way, Endpoint, Answer | None, Answer | None]]:
        """Yield each packet of the pair with the answers of both planes."""
        yield Way.REQUEST, self.dst, self.logical, self.datapath
        for leg in self.legs:
            if leg.logical is None or leg.datapath is None:
                continue
            if len(self.legs) > 1:
                yield Way.REQUEST, leg.dst, leg.logical.request, leg.datapath.request
            yield Way.REPLY, leg.dst, leg.logical.reply, leg.datapath.reply
            yield Way.REVERSE, leg.dst, leg.logical.reverse, leg.datapath.reverse
