"""A pair as `audit trace` prints it: verdict lines, what they are made of, and what they mean.

The lines are ovnkube-trace's to the letter, so that what greps them keeps working. Behind them come
sentences: what stops the packet, the reply, the other direction, where the planes disagree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audit.model.endpoints import Endpoint, Port
from audit.model.packets import Family
from audit.model.stages import Answer, Ends, Leg, PairTrace, Stage, Tool, Way
from audit.model.verdicts import PASSES, Verdict
from audit.report import printing, sentences
from audit.report.cells import blame_fields
from audit.report.explain import blame_lines
from audit.report.printing import wrap

OUTPUTS_FROM, COMMANDS_FROM = 2, 4
"""Log levels from which outputs and commands are shown; ovnkube-trace's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Some text; `indicates` is set where it is a verdict line, to be coloured by."""

    text: str
    indicates: str | None = None


def texts(
    traced: Sequence[PairTrace], loglevel: int, *, answer_first: bool = False
) -> Iterator[Text]:
    """Yield everything that is printed about a pair on each of its ports, in order, printable."""
    for index, pair in enumerate(traced):
        if index:
            yield Text(text="")
        yield from _texts(pair, loglevel, answer_first=answer_first)


def _texts(pair: PairTrace, loglevel: int, *, answer_first: bool) -> Iterator[Text]:
    """Yield what is printed about a pair on one port.

    ovnkube-trace's lines come first, unless its flags were not used either: `answer_first`.
    """
    meaning = list(_meaning(pair))
    if answer_first:
        lines = (*meaning, "", *wrap(_OF_TOOLS))
        yield Text(text=printing.lines(lines).removesuffix("\n"))
    for stage in pair.stages:
        yield from _stage(stage, loglevel)
    if not answer_first:
        yield Text(text=printing.lines(("", *meaning)).removesuffix("\n"))


_OF_TOOLS = (
    "Each tool by itself, as ovnkube-trace prints it: on the source's side and, (remote), on the "
    "destination's. From destination to source is the reply of an established connection, whether "
    "or not there is one."
)


def _stage(stage: Stage, loglevel: int) -> Iterator[Text]:
    ends = f"from {stage.src} to {stage.dst}"
    if loglevel >= COMMANDS_FROM:
        for command in stage.commands:
            yield Text(
                text=printing.line(f"{stage.name} command {ends} in {stage.location}: {command}")
            )
    if loglevel >= OUTPUTS_FROM:
        for output in stage.outputs:
            yield Text(text=printing.printable(f"{stage.name} Output:\n{output}"))
    if stage.has_line:
        yield Text(text=printing.line(line(stage)), indicates=stage.indicates)


def line(stage: Stage) -> str:
    """Return a stage's verdict line; ovnkube-trace's where there is a verdict."""
    ends = f"from {stage.src} to {stage.dst}"
    if stage.indicates or stage.answer is None:
        return f"{stage.name} indicates {stage.indicates} {ends}"
    why = sentences.CAUSES[stage.answer.reason]
    return f"{stage.name} is {stage.answer.verdict} {ends}: {why}"


def _meaning(pair: PairTrace) -> Iterator[str]:
    """Yield what the lines amount to, first which pair they are about."""
    for note in pair.chosen:
        yield from wrap(f"note: {note}")
    yield from wrap(_sentence(pair, pair.answer))
    if pair.answer.blame is not None:
        yield from blame_lines(pair.answer.blame)
    for supposition in dict.fromkeys(_suppositions(pair)):
        yield from wrap(supposition)
    if len(pair.legs) > 1:
        for leg in pair.legs:
            yield from wrap(_leg_sentence(pair, leg), indent=2, hang=4)
    yield from wrap(_reply_sentence(pair))
    yield from _other_way(pair)
    for stage in pair.stages:
        if stage.indicates == "failure" and stage.tool is Tool.OVN_DETRACE:
            yield from wrap(f"finding: {stage.detail}")
    for drift in pair.drifts:
        yield from wrap(
            f"finding: the planes disagree about {_WAYS[drift.way]} {drift.dst.key}: logical says "
            f"{_answer_text(drift.logical)}; datapath says {_answer_text(drift.datapath)}"
        )
    for note in pair.notes:
        yield from wrap(f"note: {note}")


def _suppositions(pair: PairTrace) -> Iterator[str]:
    """Yield what else would stop a packet that does not get there."""
    for stage in pair.stages:
        answer = stage.answer
        if stage.supposed and answer is not None and answer.verdict is Verdict.BLOCKED:
            why = sentences.cause(answer.verdict, answer.reason, answer.blame)
            what = "a reply" if stage.way is Way.REPLY else "it"
            yield f"Had {what} got to {stage.location}, {what} would be {why}."


def _sentence(pair: PairTrace, answer: Answer) -> str:
    return _upper(_described(pair.src, pair.dst, pair.port, answer, pair.family))


def _leg_sentence(pair: PairTrace, leg: Leg) -> str:
    return _described(pair.src, leg.dst, leg.port, leg.request)


def _described(
    src: Endpoint, dst: Endpoint, port: Port, answer: Answer, family: Family | None = None
) -> str:
    return sentences.sentence(
        src,
        dst,
        port,
        verdict=answer.verdict,
        reason=answer.reason,
        blame=answer.blame,
        family=family,
    )


def _reply_sentence(pair: PairTrace) -> str:
    """Return what becomes of the replies of the legs that arrive, the worst of them."""
    arrived = [leg for leg in pair.legs if leg.request.verdict in PASSES]
    if not arrived or pair.answer.verdict not in PASSES:
        return sentences.NO_REPLY
    verdicts = [Verdict.UNTRACED if leg.reply is None else leg.reply.verdict for leg in arrived]
    worst = max(verdicts, key=list(sentences.REPLIES).index)
    return sentences.REPLIES[worst]


def _other_way(pair: PairTrace) -> Iterator[str]:
    """Yield what becomes of new connections the other way, which is another question.

    Of a Service's backends only those that cannot open one are named.
    """
    for leg in pair.legs:
        if leg.reverse is None or (len(pair.legs) > 1 and leg.reverse.verdict in PASSES):
            continue
        sentence = _described(leg.dst, pair.src, leg.port, leg.reverse)
        yield from wrap(f"The other way, as a new connection: {sentence}")
    instead = dict.fromkeys(
        stage.src for stage in pair.stages if stage.has_line and stage.way is Way.REVERSE
    )
    for name in instead:
        yield from wrap(
            f"The reply of {name} comes back where no trace follows it: the lines from it are "
            "those of a new connection."
        )


_WAYS = {
    Way.REQUEST: "the request to",
    Way.REPLY: "the reply of",
    Way.REVERSE: "a new connection from",
}


def _answer_text(answer: Answer) -> str:
    why = sentences.cause(answer.verdict, answer.reason, answer.blame)
    detail = f" ({answer.detail})" if answer.detail else ""
    return f"{answer.verdict}, {why}{detail}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def answer(traced: Sequence[PairTrace], *, raw: bool) -> dict[str, Any]:
    """Return everything known about a pair as data; of several ports each under `traces`."""
    if len(traced) == 1:
        return fields(traced[0], raw=raw)
    return {"traces": [fields(pair, raw=raw) for pair in traced]}


def fields(pair: PairTrace, *, raw: bool) -> dict[str, Any]:
    """Return everything known about a pair on a port as data; `raw` with the engines' words."""
    return {
        "src": pair.src.key,
        "dst": pair.dst.key,
        "family": str(pair.family),
        "port": str(pair.port),
        **_answer(pair.answer),
        "sentence": _sentence(pair, pair.answer),
        "logical": str(pair.logical.verdict),
        "datapath": str(pair.datapath.verdict) if pair.datapath is not None else None,
        "drift": bool(pair.drifts) if pair.datapath is not None else None,
        "legs": [_leg(leg) for leg in pair.legs],
        "stages": [_stage_fields(stage, raw=raw) for stage in pair.stages],
        "notes": [*pair.chosen, *pair.notes],
    }


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "dst": leg.dst.key,
        "port": str(leg.port),
        "logical": _ends(leg.logical),
        "datapath": _ends(leg.datapath),
    }


def _ends(ends: Ends | None) -> dict[str, Any] | None:
    if ends is None:
        return None
    return {
        "request": _answer(ends.request),
        "reply": _answer(ends.reply) if ends.reply is not None else None,
        "reverse": _answer(ends.reverse) if ends.reverse is not None else None,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "verdict": str(answer.verdict),
        "reason": str(answer.reason),
        "detail": answer.detail,
        **blame_fields(answer.blame),
        "acl": answer.blame.acl if answer.blame is not None else None,
    }


def _stage_fields(stage: Stage, *, raw: bool) -> dict[str, Any]:
    stage_fields = {
        "line": line(stage) if stage.has_line else None,
        "tool": str(stage.tool),
        "way": str(stage.way),
        "direction": stage.direction,
        "remote": stage.remote,
        "supposed": stage.supposed,
        "src": stage.src,
        "dst": stage.dst,
        "place": stage.location,
        "indicates": stage.indicates or None,
        **(_answer(stage.answer) if stage.answer is not None else {"detail": stage.detail}),
        "sources": [
            {"table": source.table, "uuid": source.uuid, "text": source.text, "owner": source.owner}
            for source in stage.sources
        ],
        "commands": list(stage.commands),
    }
    return {**stage_fields, "outputs": list(stage.outputs)} if raw else stage_fields


def has_findings(pair: PairTrace) -> bool:
    """Say whether the planes disagree, or a node has flows that no row stands behind."""
    stale = any(s.tool is Tool.OVN_DETRACE and s.indicates != "success" for s in pair.stages)
    return stale or bool(pair.drifts)


def is_complete(pair: PairTrace) -> bool:
    """Say whether the question is answered, and by both planes if there was any to ask."""
    planes = (pair.logical, pair.datapath)
    traced = all(answer and answer.verdict is not Verdict.UNTRACED for answer in planes)
    return bool(pair.answer.indicates) and (traced or not pair.stages)
