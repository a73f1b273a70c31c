"""One pair as `audit trace` prints it: verdict lines, what they are made of, and what they mean.

The lines are ovnkube-trace's to the letter, so that what greps them keeps working. Behind them come
sentences: what stops the packet, the reply, the other direction, where the planes disagree.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from audit.model.stages import Answer, Ends, Leg, PairTrace, Stage, Tool, Way
from audit.model.verdicts import PASSES, Blame, Verdict
from audit.report import printing, sentences
from audit.report.explain import blame_lines, wrap

OUTPUTS_FROM, COMMANDS_FROM = 2, 4
"""Log levels from which outputs and commands are shown; ovnkube-trace's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Some text; `indicates` is set where it is a verdict line, to be coloured by."""

    text: str
    indicates: str | None = None


def texts(found: PairTrace, loglevel: int) -> Iterator[Text]:
    """Yield everything that is printed about a pair, in order, printable."""
    for stage in found.stages:
        yield from _stage(stage, loglevel)
    yield Text(text=printing.lines(("", *_meaning(found))).removesuffix("\n"))


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


def _meaning(found: PairTrace) -> Iterator[str]:
    """Yield what the lines amount to."""
    yield from wrap(_sentence(found, found.answer))
    if found.answer.blame is not None:
        yield from blame_lines(found.answer.blame)
    for said in dict.fromkeys(_suppositions(found)):
        yield from wrap(said)
    if len(found.legs) > 1:
        for leg in found.legs:
            yield from wrap(_leg_sentence(found, leg), indent=2, hang=4)
    yield from wrap(_reply_sentence(found))
    yield from _other_way(found)
    for stage in found.stages:
        if stage.indicates == "failure" and stage.tool is Tool.OVN_DETRACE:
            yield from wrap(f"finding: {stage.detail}")
    for drift in found.drifts:
        yield from wrap(
            f"finding: the planes disagree about {_WAYS[drift.way]} {drift.dst.key}: logical says "
            f"{_said(drift.logical)}; datapath says {_said(drift.datapath)}"
        )
    for note in found.notes:
        yield from wrap(f"note: {note}")


def _suppositions(found: PairTrace) -> Iterator[str]:
    """Yield what else would stop a packet that does not get there."""
    for stage in found.stages:
        answer = stage.answer
        if stage.supposed and answer is not None and answer.verdict is Verdict.BLOCKED:
            why = sentences.cause(answer.verdict, answer.reason, answer.blame)
            what = "a reply" if stage.way is Way.REPLY else "it"
            yield f"Had {what} got to {stage.location}, {what} would be {why}."


def _sentence(found: PairTrace, answer: Answer) -> str:
    return _upper(
        sentences.sentence(
            found.src,
            found.dst,
            found.port,
            verdict=answer.verdict,
            reason=answer.reason,
            blame=answer.blame,
            family=found.family,
        )
    )


def _leg_sentence(found: PairTrace, leg: Leg) -> str:
    return sentences.sentence(
        found.src,
        leg.dst,
        leg.port,
        verdict=leg.request.verdict,
        reason=leg.request.reason,
        blame=leg.request.blame,
    )


def _reply_sentence(found: PairTrace) -> str:
    """Return what becomes of the replies of the legs that arrive, the worst of them."""
    arrived = [leg for leg in found.legs if leg.request.verdict in PASSES]
    if not arrived or found.answer.verdict not in PASSES:
        return sentences.NO_REPLY
    verdicts = [Verdict.UNTRACED if leg.reply is None else leg.reply.verdict for leg in arrived]
    worst = max(verdicts, key=list(sentences.REPLIES).index)
    return sentences.REPLIES[worst]


def _other_way(found: PairTrace) -> Iterator[str]:
    """Yield what becomes of new connections the other way, which is another question.

    Of a Service's backends only those that cannot open one are named.
    """
    for leg in found.legs:
        if leg.reverse is None or (len(found.legs) > 1 and leg.reverse.verdict in PASSES):
            continue
        said = sentences.sentence(
            leg.dst,
            found.src,
            leg.port,
            verdict=leg.reverse.verdict,
            reason=leg.reverse.reason,
            blame=leg.reverse.blame,
        )
        yield from wrap(f"The other way, as a new connection: {said}")
    instead = dict.fromkeys(
        stage.src for stage in found.stages if stage.has_line and stage.way is Way.REVERSE
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


def _said(answer: Answer) -> str:
    why = sentences.cause(answer.verdict, answer.reason, answer.blame)
    detail = f" ({answer.detail})" if answer.detail else ""
    return f"{answer.verdict}, {why}{detail}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def fields(found: PairTrace, *, raw: bool) -> dict[str, Any]:
    """Return everything known about a pair as data; `raw` with the engines' own words."""
    return {
        "src": found.src.key,
        "dst": found.dst.key,
        "family": str(found.family),
        "port": str(found.port),
        **_answer(found.answer),
        "sentence": _sentence(found, found.answer),
        "logical": str(found.logical.verdict),
        "datapath": str(found.datapath.verdict) if found.datapath is not None else None,
        "drift": bool(found.drifts) if found.datapath is not None else None,
        "legs": [_leg(leg) for leg in found.legs],
        "stages": [_stage_fields(stage, raw=raw) for stage in found.stages],
        "notes": list(found.notes),
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
        **_blame(answer.blame),
    }


def _blame(blame: Blame | None) -> dict[str, Any]:
    """Return who decided, under the names of the `cells` columns."""
    policy = blame.policy if blame is not None else None
    return {
        "blame": str(blame) if blame is not None else None,
        "blame_kind": policy.kind if policy is not None else None,
        "blame_namespace": policy.namespace if policy is not None else None,
        "blame_name": policy.name if policy is not None else None,
        "blame_direction": blame.direction if blame is not None else None,
        "blame_rule": blame.rule if blame is not None and blame.rule >= 0 else None,
        "policies": [str(ref) for ref in blame.policies] if blame is not None else [],
        "acl": blame.acl if blame is not None else None,
    }


def _stage_fields(stage: Stage, *, raw: bool) -> dict[str, Any]:
    told = {
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
    return {**told, "outputs": list(stage.outputs)} if raw else told


def has_findings(found: PairTrace) -> bool:
    """Say whether the planes disagree, or a node has flows that no row stands behind."""
    stale = any(s.tool is Tool.OVN_DETRACE and s.indicates != "success" for s in found.stages)
    return stale or bool(found.drifts)


def is_complete(found: PairTrace) -> bool:
    """Say whether the question is answered, and by both planes if there was any to ask."""
    planes = (found.logical, found.datapath)
    asked = all(one is not None and one.verdict is not Verdict.UNTRACED for one in planes)
    return bool(found.answer.indicates) and (asked or not found.stages)
