import re
from itertools import pairwise

import pytest

from audit.trace import ofproto_tree
from audit.trace.odp_actions import encapsulated, split
from audit.trace.ofproto_tree import Action, Bridge, Detail, Failure, OfprotoSyntaxError, Table
from tests.trace.recorded_datapath import CLUSTERS, recorded


def printed(step: ofproto_tree.Step) -> str:
    """Return a step's line as OVS prints it, without its indentation."""
    match step:
        case Table(number=number, priority=-1):
            return f"{number}. No match."
        case Table(number=number, match=match, priority=priority, cookie=cookie):
            said = f"{match}, " if match else ""
            return f"{number}. {said}priority {priority}" + (
                f", cookie {cookie:#x}" if cookie else ""
            )
        case Bridge(name=name):
            return f'bridge("{name}")'
        case Detail(text=text):
            return f"-> {text}"
        case Failure(text=text):
            return f">>>> {text} <<<<"
        case Action(text=text):
            return text


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_line_of_recorded_traces_is_kept_in_its_order(cluster: str) -> None:
    for one in recorded(cluster):
        sections = ofproto_tree.parse(one.output)
        lines = [line.strip() for line in one.output.splitlines() if line.strip()]
        trees = [
            line
            for line in lines
            if not line.startswith(("Flow: ", "Final flow: ", "Megaflow: ", "Datapath actions: "))
            and not re.fullmatch(r"=+|-+", line)
            and not line.startswith(("recirc(", "Replacing src/dst", "Initial ", "Modified "))
        ]
        assert [printed(step) for section in sections for step in section.steps] == trees


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_sections_are_told_by_their_recirculations(cluster: str) -> None:
    for one in recorded(cluster):
        first, *resumed = ofproto_tree.parse(one.output)
        assert first.recirculation == 0
        announced = re.findall(r"^recirc\((0x\w+)\)", one.output, re.MULTILINE)
        assert [f"{section.recirculation:#x}" for section in resumed] == announced
        assert {section.state for section in resumed} <= {"new|trk", "trk|new"}
        assert {section.default for section in resumed} <= {not one.states}
        for place, after in enumerate(resumed):
            # Not always the one before: packets too long for the next hop may go another way.
            before = [section.actions for section in (first, *resumed[:place])]
            assert any(f"recirc({after.recirculation:#x})" in actions for actions in before)
            assert after.fields["recirc_id"] == f"{after.recirculation:#x}"
            assert after.megaflow.startswith("recirc_id=")


def test_what_leaves_by_a_tunnel_is_what_the_recorder_put_into_the_next_node() -> None:
    """The recorder read the tunnel's header from the text by itself."""
    compared = 0
    for cluster in CLUSTERS:
        rows = list(recorded(cluster))
        for sent, received in pairwise(rows):
            if received.leg != "destination":
                continue
            last = ofproto_tree.parse(sent.output)[-1]
            [left] = encapsulated(last.actions, last.fields)
            words = dict(word.strip().partition("=")[::2] for word in received.flow.split(","))
            assert left.remote == words["tun_dst"]
            assert left.key == int(words["tun_id"], 16)
            assert left.metadata == int(words["tun_metadata0"], 16)
            for name in ("dl_src", "dl_dst", "nw_src", "nw_dst", "nw_ttl"):
                assert left.fields[name] == words[name], name
            compared += 1
    assert compared == 44


@pytest.mark.parametrize(
    ("actions", "remote"),
    [
        ("4", []),
        ("set(tunnel(tun_id=0x3,dst=10.0.0.1,ttl=64,flags(df|key))),2", ["10.0.0.1"]),
        (
            "check_pkt_len(size=1414,gt(drop),le(set(tunnel(tun_id=0x3,dst=10.0.0.1)),2))",
            ["10.0.0.1"],
        ),
        (
            "clone(set(tunnel(tun_id=3,ipv6_dst=fd00::1)),2),set(tunnel(tun_id=3,dst=10.0.0.2)),3",
            ["fd00::1", "10.0.0.2"],
        ),
        ("clone(set(tunnel(tun_id=0x3,dst=10.0.0.1)),2),4", ["10.0.0.1"]),
        ("drop", []),
    ],
)
def test_tunnels_are_found_in_every_branch_of_the_packet(actions: str, remote: list[str]) -> None:
    assert [left.remote for left in encapsulated(actions, {})] == remote


def test_headers_are_those_set_before_the_output() -> None:
    actions = (
        "set(tunnel(tun_id=0x1,dst=10.0.0.1)),2,set(eth(dst=0a:00:00:00:00:02)),"
        "set(ipv6(dst=fd00::2,hlimit=62)),set(tcp(dst=8080)),3"
    )
    first, second = encapsulated(actions, {"nw_ttl": "63", "tp_dst": "80"})
    assert first.fields == {"nw_ttl": "63", "tp_dst": "80"}
    assert second.fields == {
        "nw_ttl": "62",
        "tp_dst": "8080",
        "dl_dst": "0a:00:00:00:00:02",
        "ipv6_dst": "fd00::2",
    }


def test_only_commas_outside_of_brackets_separate() -> None:
    assert list(split("a(1,2),{b,c},3")) == ["a(1,2)", "{b,c}", "3"]


@pytest.mark.parametrize("kept", [0, 100, 3000, 8000])
def test_half_a_trace_is_none(kept: int) -> None:
    whole = next(one.output for one in recorded(CLUSTERS[0]) if len(one.output) > 10_000)
    with pytest.raises(OfprotoSyntaxError):
        ofproto_tree.parse(whole[:kept])


def test_a_refusal_is_no_trace() -> None:
    with pytest.raises(OfprotoSyntaxError, match="br-ext: unknown bridge"):
        ofproto_tree.parse("br-ext: unknown bridge")


def test_a_translation_that_failed_says_why() -> None:
    text = (
        'Flow: tcp,in_port=1\n\nbridge("br-int")\n----------------\n 0. priority 0\n'
        "    resubmit(,0)\n     >>>> resubmit depth limit reached <<<<\n\n"
        "Final flow: unchanged\nMegaflow: recirc_id=0\nDatapath actions: drop\n"
        "Translation failed (Recursion too deep), packet is dropped.\n"
    )  # fmt: skip
    [section] = ofproto_tree.parse(text)
    assert section.failed == "Recursion too deep"
    assert section.steps[-1] == Failure(1, "resubmit depth limit reached")
