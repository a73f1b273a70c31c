"""A pair's lines are ovnkube-trace's to the letter, and no doubt reads as either side."""

import dataclasses
import io
from typing import Any

import pytest

from audit.cli.trace import _print
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.origins import Source
from audit.model.packets import Family, Protocol
from audit.model.stages import Answer, Ends, Leg, PairTrace, Stage, Tool, Way
from audit.model.verdicts import PASSES, STOPPED, Blame, PolicyRef, Reason, Verdict
from audit.report import trace as rendering

REASONS = {
    Verdict.REACHABLE: Reason.DELIVERED,
    Verdict.EXITS: Reason.LEFT_BY_GATEWAY,
    Verdict.BLOCKED: Reason.ACL_DROP,
    Verdict.UNROUTABLE: Reason.NO_ROUTE,
    Verdict.INCONCLUSIVE: Reason.TRACE_ENDS,
    Verdict.UNTRACED: Reason.ENGINE_LOST,
}
WEB, CLIENT = (
    Endpoint(kind=EndpointKind.POD, namespace="shop", name=name) for name in ("web", "client")
)
PORT = Port(protocol=Protocol.TCP, number=80)
DENIES = Blame(
    action="drop",
    direction="ingress",
    policy=PolicyRef(kind="NetworkPolicy", namespace="shop", name="deny"),
)


def answer(verdict: Verdict, blame: Blame | None = None, detail: str = "") -> Answer:
    return Answer(verdict=verdict, reason=REASONS[verdict], blame=blame, detail=detail)


def stage(verdict: Verdict = Verdict.REACHABLE, **fields: Any) -> Stage:
    of = answer(verdict)
    given: dict[str, Any] = {
        "tool": Tool.OVN_TRACE,
        "way": Way.REQUEST,
        "direction": "source pod to destination pod",
        "src": "client",
        "dst": "web",
        "location": "worker",
        "indicates": of.indicates,
        "answer": of,
    }
    return Stage(**{**given, **fields})


def found(*stages: Stage, **fields: Any) -> PairTrace:
    given: dict[str, Any] = {
        "src": CLIENT,
        "dst": WEB,
        "port": PORT,
        "family": Family.IP4,
        "answer": answer(Verdict.REACHABLE),
        "logical": answer(Verdict.REACHABLE),
        "datapath": answer(Verdict.REACHABLE),
        "legs": (),
    }
    return PairTrace(**{**given, **fields}, stages=stages)


def printed(pair: PairTrace, loglevel: int = 0) -> str:
    return "\n".join(one.text for one in rendering.texts([pair], loglevel))


def words(pair: PairTrace) -> str:
    return " ".join(printed(pair).split())


def test_of_several_ports_each_is_told_by_itself() -> None:
    http = found(stage())
    dns = dataclasses.replace(http, port=Port(protocol=Protocol.UDP, number=53))
    text = "\n".join(each.text for each in rendering.texts([http, dns], 0))
    assert text == f"{printed(http)}\n\n{printed(dns)}"
    assert rendering.answer([http], raw=False) == rendering.fields(http, raw=False)
    both = rendering.answer([http, dns], raw=False)["traces"]
    assert [trace["port"] for trace in both] == [str(http.port), "udp/53"]


@pytest.mark.parametrize("verdict", Verdict)
def test_lines(verdict: Verdict) -> None:
    line = rendering.line(stage(verdict))
    ends = "from client to web"
    if verdict in PASSES:
        assert line == f"ovn-trace source pod to destination pod indicates success {ends}"
    elif verdict in STOPPED:
        assert line == f"ovn-trace source pod to destination pod indicates failure {ends}"
    else:
        assert "indicates" not in line
        assert line.startswith(f"ovn-trace source pod to destination pod is {verdict} {ends}: ")


def test_the_other_end_and_the_other_tools() -> None:
    assert rendering.line(stage(remote=True)).startswith("ovn-trace (remote) source pod to ")
    there = stage(Verdict.BLOCKED, tool=Tool.OFPROTO_TRACE, remote=True)
    assert rendering.line(there).startswith(
        "ovs-appctl ofproto/trace (remote) source pod to destination pod indicates failure from"
    )
    detraced = stage(tool=Tool.OVN_DETRACE, answer=None)
    assert rendering.line(detraced) == (
        "ovn-detrace source pod to destination pod indicates success from client to web"
    )


def test_levels_show_outputs_then_commands() -> None:
    pair = found(
        stage(commands=("ovn-trace 'x'",), outputs=("# tcp\n",)),
        stage(has_line=False, direction="other way", commands=("c",), outputs=("o",)),
    )
    quiet, shown, typed = (printed(pair, level) for level in (0, 2, 5))
    assert quiet.splitlines()[0].endswith("indicates success from client to web")
    assert "other way" not in quiet
    assert shown.startswith("ovn-trace source pod to destination pod Output:\n# tcp\n")
    assert "ovn-trace other way Output:\no" in shown
    assert "ovn-trace 'x'" not in shown
    assert typed.startswith(
        "ovn-trace source pod to destination pod command from client to web in worker: "
        "ovn-trace 'x'"
    )


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    pair = found(stage(src="\x1b[31mclient"), stage(outputs=("\x1b]0;pwned\x07\n",)))
    assert "\x1b" not in printed(pair, 5)
    assert "\x07" not in printed(pair, 5)


def test_the_meaning_names_the_policy_the_reply_and_the_other_direction() -> None:
    leg = Leg(
        dst=WEB,
        port=PORT,
        logical=Ends(
            request=answer(Verdict.REACHABLE),
            reply=answer(Verdict.REACHABLE),
            reverse=answer(Verdict.BLOCKED, DENIES),
        ),
        datapath=None,
    )
    said = words(found(stage(), legs=(leg,), datapath=None))
    assert "Pod shop/client can reach pod shop/web on tcp/80" in said
    assert "The reply gets back." in said
    assert (
        "The other way, as a new connection: pod shop/web cannot reach pod shop/client on tcp/80: "
        "blocked by networkpolicy shop/deny ingress"
    ) in said
    blocked = answer(Verdict.BLOCKED, DENIES)
    said = words(found(stage(), answer=blocked, logical=blocked, datapath=None))
    assert "cannot reach pod shop/web on tcp/80 over ip4: blocked by networkpolicy shop" in said
    assert "There is no reply to trace." in said


def test_which_of_several_is_traced_is_said_first() -> None:
    chosen = "ns/shop means 7 endpoints; pod shop/a is traced"
    pair = found(stage(Verdict.REACHABLE), chosen=(chosen,), notes=("something is missing",))
    first, *_ = rendering.texts([pair], 0, answer_first=True)
    assert first.text.splitlines()[0] == f"note: {chosen}"
    assert rendering.fields(pair, raw=False)["notes"] == [chosen, "something is missing"]


def test_a_reply_that_no_trace_follows_is_said_to_be_none() -> None:
    ends = Ends(request=answer(Verdict.EXITS), reply=None, reverse=answer(Verdict.REACHABLE))
    leg = Leg(dst=WEB, port=PORT, logical=ends, datapath=ends)
    exits = answer(Verdict.EXITS)
    back = stage(way=Way.REVERSE, direction="destination pod to source pod", src="web")
    said = words(found(stage(), back, answer=exits, legs=(leg,)))
    assert "The reply was not traced." in said
    assert "The reply of web comes back where no trace follows it" in said
    assert "comes back" not in words(found(stage(), answer=exits, legs=(leg,)))


def test_of_many_backends_only_those_that_cannot_connect_back_are_named() -> None:
    other = Endpoint(kind=EndpointKind.POD, namespace="shop", name="other")
    legs = tuple(
        Leg(
            dst=dst,
            port=PORT,
            logical=Ends(request=answer(Verdict.REACHABLE), reply=None, reverse=answer(back)),
            datapath=None,
        )
        for dst, back in ((WEB, Verdict.REACHABLE), (other, Verdict.BLOCKED))
    )
    said = words(found(stage(), legs=legs))
    assert "pod shop/client can reach pod shop/web on" in said
    assert said.count("The other way") == 1
    assert "new connection: pod shop/other cannot reach pod shop/client" in said


def test_what_would_stop_it_further_on_is_said_once() -> None:
    blocked = answer(Verdict.BLOCKED, DENIES)
    there = stage(remote=True, supposed=True, location="far", answer=blocked, indicates="failure")
    said = words(found(stage(Verdict.BLOCKED), there, there, answer=blocked, logical=blocked))
    assert said.count("Had it got to far, it would be blocked by networkpolicy shop/deny") == 1


def test_planes_that_prove_different_things_are_a_finding() -> None:
    stopped = answer(Verdict.UNROUTABLE, detail="node worker has no flow")
    pair = found(stage(), answer=stopped, datapath=stopped)
    assert rendering.has_findings(pair)
    assert (
        "finding: the planes disagree about the request to pod shop/web: logical says reachable, "
        "it is delivered, and no policy had to allow it; datapath says unroutable, no route leads "
        "there (node worker has no flow)"
    ) in words(pair)
    assert rendering.fields(pair, raw=False)["drift"] is True
    doubt = answer(Verdict.INCONCLUSIVE)
    for unsure in (found(stage(), datapath=doubt), found(stage(), datapath=None)):
        assert not rendering.has_findings(unsure)
    assert rendering.fields(found(stage(), datapath=None), raw=False)["drift"] is None


def test_replies_and_other_directions_drift_too() -> None:
    said = [
        Ends(request=answer(Verdict.REACHABLE), reply=answer(reply), reverse=None)
        for reply in (Verdict.REACHABLE, Verdict.BLOCKED)
    ]
    leg = Leg(dst=WEB, port=PORT, logical=said[0], datapath=said[1])
    [drift] = found(stage(), legs=(leg,)).drifts
    assert (drift.way, drift.dst) == (Way.REPLY, WEB)
    assert "the reply of pod shop/web" in words(found(stage(), legs=(leg,)))


def test_a_flow_of_no_row_is_a_finding() -> None:
    stale = stage(
        tool=Tool.OVN_DETRACE, answer=None, indicates="failure", detail="cookie 0xabc is of no row"
    )
    assert rendering.has_findings(found(stage(), stale))
    assert "finding: cookie 0xabc is of no row" in words(found(stage(), stale))


def test_json_holds_every_stage_and_raw_text_only_when_asked() -> None:
    source = Source(table="ACL", uuid="u", text="ACL: x", owner="networkpolicy shop/deny")
    pair = found(stage(outputs=("text",), commands=("c",), sources=(source,)), notes=("n",))
    fields = rendering.fields(pair, raw=False)
    assert (fields["src"], fields["dst"], fields["port"]) == (CLIENT.key, WEB.key, "tcp/80")
    assert fields["notes"] == ["n"]
    [told] = fields["stages"]
    assert told["line"] == rendering.line(pair.stages[0])
    assert told["sources"] == [
        {"table": "ACL", "uuid": "u", "text": "ACL: x", "owner": "networkpolicy shop/deny"}
    ]
    assert "outputs" not in told
    [told] = rendering.fields(pair, raw=True)["stages"]
    assert told["outputs"] == ["text"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_coloured_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = found(stage(), stage(Verdict.BLOCKED))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", terminal := _Terminal())
    _print(rendering.texts([pair], 0))
    coloured = terminal.getvalue()
    assert coloured.startswith("\x1b[32m\x1b[1movn-trace source pod to destination pod indicates")
    assert "\x1b[31m\x1b[1movn-trace" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", plain := _Terminal())
    _print(rendering.texts([pair], 0))
    assert "\x1b" not in plain.getvalue()


def test_an_answer_is_proven_and_asked_of_every_plane() -> None:
    blocked, doubt = answer(Verdict.BLOCKED), answer(Verdict.UNTRACED)
    assert rendering.is_complete(found(stage(), answer=blocked))
    assert not rendering.is_complete(found(stage(), answer=doubt))
    assert not rendering.is_complete(found(stage(), datapath=None))
    assert not rendering.is_complete(found(stage(), answer=blocked, datapath=doubt))
    assert not rendering.is_complete(found(stage(), answer=blocked, logical=doubt))
    assert rendering.is_complete(found(answer=answer(Verdict.UNROUTABLE), datapath=None))
