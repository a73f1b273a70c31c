"""What was traced of a pair → stages, in the order and the words of ovnkube-trace.

A packet to a pod: `ovn-trace` there and back, `ofproto/trace` there and back, `ovn-detrace` of
both. To a Service: the Service's own trace, then the same for each backend. To an address: one
direction. `(remote)` is the zone or node at the other end.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from audit.model.endpoints import EndpointKind
from audit.model.stages import Stage, Tool, Way
from audit.model.traces import TraceTask
from audit.model.verdicts import PASSES
from audit.tracing.pair import Destination, TracedPair
from audit.verdict.by_zone import ZoneAnswer

TO_POD = "source pod to destination pod"
FROM_POD = "destination pod to source pod"
TO_SERVICE = "source pod to service clusterIP"
TO_IP = {Tool.OVN_TRACE: "from pod to IP", Tool.OFPROTO_TRACE: "pod to IP"}
"""ovnkube-trace's words for the directions its tools are run in."""
OTHER_WAY = "new connection from destination pod to source pod"
"""What it takes for the way back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packet:
    """What the stages of one packet have in common."""

    way: Way
    direction: str
    src: str
    dst: str
    leg: str = ""
    has_line: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Tells stage by stage what one tool found; `command` is what one would type."""

    tool: Tool
    traced: TracedPair
    command: Callable[[TraceTask], str]

    def stages(self) -> Iterator[Stage]:
        """Yield the stages, the new connections back last."""
        traced, dst = self.traced, self.traced.pair.dst
        if not traced.key:
            return
        if dst.kind is EndpointKind.EXTERNAL or traced.pair.by_address:
            packet = _Packet(
                way=Way.REQUEST,
                direction=TO_IP[self.tool],
                src=traced.pair.src.name,
                dst=dst.name,
            )
            yield from self._stages(packet, traced.by_zone(traced.key))
            return
        if dst.kind is EndpointKind.SERVICE and traced.key in traced.tasks:
            yield from self._service()
        for to in traced.destinations:
            yield from self._there(to)
            yield from self._back(to)
        for to in traced.destinations:
            if to.reply is not None and to.reverse is not None:
                yield from self._other_way(to, to.reverse)

    def _service(self) -> Iterator[Stage]:
        """Yield the trace of the Service's own address, and the places of its backends.

        The Service works when every backend does: that is what its line says.
        """
        traced = self.traced
        src, dst = traced.pair.src.name, traced.pair.dst.name
        packet = _Packet(way=Way.REQUEST, direction=TO_SERVICE, src=src, dst=dst)
        first, *others = traced.by_zone(traced.key)
        first = replace(first, keys=(traced.key,), answer=traced.answer(traced.key))
        yield self._stage(packet, first, remote=False)
        for hop in others:
            task = traced.tasks[hop.keys[0]]
            to = traced.owners.get(task.microflow.ip_dst, task.network)
            yield self._stage(replace(packet, dst=to.name if to else dst), hop, remote=True)

    def _there(self, to: Destination) -> Iterator[Stage]:
        src = self.traced.pair.src.name
        packet = _Packet(way=Way.REQUEST, direction=TO_POD, src=src, dst=to.dst.name, leg=to.name)
        yield from self._stages(packet, self.traced.by_zone(to.request.key))
        if to.supposed is not None:
            for hop in self.traced.by_zone(to.supposed.key):
                yield replace(self._stage(packet, hop, remote=True), supposed=True)

    def _back(self, to: Destination) -> Iterator[Stage]:
        """Yield the way back: the reply; where no trace can follow it, a new connection."""
        packet = self._from(to, Way.REPLY, FROM_POD)
        if to.reply is not None:
            supposed = self.traced.answer(to.request.key).verdict not in PASSES
            for stage in self._stages(packet, self.traced.by_zone(to.reply.key)):
                yield replace(stage, supposed=supposed)
        elif to.reverse is not None:
            packet = replace(packet, way=Way.REVERSE)
            yield from self._stages(packet, self.traced.by_zone(to.reverse.key))

    def _other_way(self, to: Destination, reverse: TraceTask) -> Iterator[Stage]:
        """Yield a new connection the other way, which is not what the lines are about."""
        packet = replace(self._from(to, Way.REVERSE, OTHER_WAY), has_line=False)
        yield from self._stages(packet, self.traced.by_zone(reverse.key))

    def _from(self, to: Destination, way: Way, direction: str) -> _Packet:
        dst = self.traced.pair.src.name
        return _Packet(way=way, direction=direction, src=to.dst.name, dst=dst, leg=to.name)

    def _stages(self, packet: _Packet, answers: Iterable[ZoneAnswer]) -> Iterator[Stage]:
        for number, hop in enumerate(answers):
            yield self._stage(packet, hop, remote=number > 0)

    def _stage(self, packet: _Packet, hop: ZoneAnswer, *, remote: bool) -> Stage:
        traced = self.traced
        return Stage(
            tool=self.tool,
            way=packet.way,
            direction=packet.direction,
            src=packet.src,
            dst=packet.dst,
            leg=packet.leg,
            location=hop.name,
            indicates=hop.answer.indicates,
            answer=hop.answer,
            detail=hop.answer.detail,
            remote=remote,
            has_line=packet.has_line,
            commands=tuple(self.command(traced.tasks[key]) for key in hop.keys),
            outputs=tuple(traced.outcomes[key].output for key in hop.keys),
        )


_TOOLS = tuple(Tool)


def in_order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return stages as ovnkube-trace runs them: destination by destination, tool by tool."""
    listed = list(stages)
    legs = {"": -1}
    for stage in listed:
        legs.setdefault(stage.leg, len(legs))
    return tuple(
        sorted(
            listed,
            key=lambda stage: (
                not stage.has_line,
                legs[stage.leg],
                _TOOLS.index(stage.tool),
                stage.way is not Way.REQUEST,
                stage.remote,
            ),
        )
    )
