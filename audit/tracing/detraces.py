"""What the flows behind `ofproto/trace` were made from: the `ovn-detrace` stages of a pair.

What a cookie stands for is looked up in memory. The real program is run only for its words.
"""

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from audit.errors import EngineError
from audit.facts.origins import read_origins
from audit.model.origins import Origins, sources
from audit.model.stages import Stage, Tool
from audit.replay import databases
from audit.trace import detrace, ofproto_tree, typed
from audit.tracing.plan import Planned

_DIRECTIONS = {"pod to IP": "pod to external IP"}
"""Where ovnkube-trace has other words for it here."""


@dataclass(slots=True, kw_only=True)
class Detraces:
    """Makes a stage of every stage of `ofproto/trace`.

    `raw` asks for the real program's output as well; `notes` then says what it could not do.
    """

    planned: Planned
    zone_of: Mapping[str, str]
    """Nodes' zones."""
    raw: bool
    notes: list[str] = field(default_factory=list)

    def stages(self, traced: Sequence[Stage]) -> Iterator[Stage]:
        """Yield what stands behind each of these stages that has a verdict line."""
        reader = databases.OvsdbTool(programs=self.planned.engine)
        for name, stages in self._by_zone(traced).items():
            zone = self.planned.state.zones[name]
            cookies = {c for stage in stages for output in stage.outputs for c in _cookies(output)}
            origins = read_origins(reader, zone.northbound, zone.southbound, cookies)
            outputs = self._outputs(name, stages) if self.raw else {}
            for number, stage in enumerate(stages):
                yield replace(_stage(stage, name, origins), outputs=outputs.get(number, ()))

    def _by_zone(self, traced: Sequence[Stage]) -> Mapping[str, list[Stage]]:
        """Return the stages that have a verdict line and flows with cookies, by zone."""
        by_zone: dict[str, list[Stage]] = defaultdict(list)
        for stage in traced:
            if (
                stage.has_line
                and stage.location in self.zone_of
                and all(map(_cookies, stage.outputs))
            ):
                by_zone[self.zone_of[stage.location]].append(stage)
        return by_zone

    def _outputs(self, name: str, stages: Sequence[Stage]) -> dict[int, tuple[str, ...]]:
        """Return the real program's words about each stage; none where it does not run."""
        zone = self.planned.state.zones[name]
        engine = self.planned.engine
        serve = functools.partial(databases.serve, engine)
        program = detrace.Detracer(programs=engine, serve=serve)
        traces = [(number, text) for number, stage in enumerate(stages) for text in stage.outputs]
        try:
            texts = program.run(zone.northbound, zone.southbound, [text for _, text in traces])
        except EngineError as error:
            self.notes.append(f"skipped the program ovn-detrace: {error}")
            return {}
        outputs: dict[int, tuple[str, ...]] = defaultdict(tuple)
        for (number, _), text in zip(traces, texts, strict=True):
            outputs[number] += (text,)
        return outputs


def _stage(stage: Stage, zone: str, origins: Origins) -> Stage:
    """Return the detrace of a stage: whether every flow stands for a row, and which rows."""
    cookies = [cookie for output in stage.outputs for cookie in _cookies(output)]
    unknown = sorted({f"{cookie:#x}" for cookie in cookies if not origins.of(cookie)})
    rows = [row for cookie in cookies for row in origins.of(cookie)]
    detail = ""
    if unknown:
        detail = (
            f"cookie {', '.join(unknown)} of node {stage.location} is of no row of zone {zone}: "
            "the node's OpenFlow is of another time than the database"
        )
    return replace(
        stage,
        tool=Tool.OVN_DETRACE,
        direction=_DIRECTIONS.get(stage.direction, stage.direction),
        indicates="failure" if unknown else "success",
        answer=None,
        detail=detail,
        commands=(typed.ovn_detrace(stage.location),) * len(stage.outputs),
        sources=tuple(sources(rows)),
    )


def _cookies(output: str) -> tuple[int, ...]:
    """Return the cookies of the flows that a trace went through, in order; none if it is no trace.

    Flows of ovn-controller's own have none.
    """
    try:
        sections = ofproto_tree.parse(output)
    except ofproto_tree.OfprotoSyntaxError:
        return ()
    return tuple(
        step.cookie
        for section in sections
        for step in section.steps
        if isinstance(step, ofproto_tree.Table) and step.cookie
    )
