"""Where packets end on a switch of a few flows, by construction."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from audit.flows.batch import Packet
from audit.flows.evaluate import MOST_HOPS, Evaluator
from audit.flows.southbound import read
from audit.model.packets import ConntrackState

Flow = tuple[str, int, int, str, str]
"""Pipeline, table, priority, match, actions."""

DELIVER: Flow = ("egress", 0, 0, "1", "output;")


@dataclass(slots=True)
class Switch:
    """A southbound of one switch with the ports a, b and c, as `Tables` gives it."""

    flows: Sequence[Flow]
    others: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def rows(
        self,
        table: str,
        columns: Sequence[str],
        *,
        mentioning: Collection[str] = (),  # noqa: ARG002 - as Tables has it
    ) -> list[dict[str, Any]]:
        made = {
            "Datapath_Binding": [
                {"_uuid": "s", "tunnel_key": 1, "external_ids": {"name": "switch"}}
            ],
            "Port_Binding": [
                {
                    "_uuid": name,
                    "logical_port": name,
                    "type": "",
                    "datapath": "s",
                    "tunnel_key": key,
                    "options": {},
                    "port_security": [],
                }
                for key, name in enumerate("abc", 1)
            ],
            "Multicast_Group": [
                {"name": "_MC_flood", "tunnel_key": 32768, "datapath": "s", "ports": [*"abc"]}
            ],
            "Logical_Flow": [
                {
                    "_uuid": str(number),
                    "external_ids": {},
                    "logical_datapath": ["s"],
                    "logical_dp_group": [],
                    "pipeline": flow[0],
                    "table_id": flow[1],
                    "priority": flow[2],
                    "match": flow[3],
                    "actions": flow[4],
                }
                for number, flow in enumerate(self.flows)
            ],
            **self.others,
        }
        return [{name: row[name] for name in columns} for row in made.get(table, ())]

    def external_ids(self, table: str, key: str) -> frozenset[str]:
        raise NotImplementedError

    def digest(self, without: Mapping[str, Collection[str]]) -> str:
        raise NotImplementedError

    def each(
        self, table: str, columns: Sequence[str], unless: Callable[[bytes], bool]
    ) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    def pick(
        self, table: str, columns: Sequence[str], uuids: Iterable[str]
    ) -> Iterator[dict[str, Any]]:
        raise NotImplementedError


def packet(**changed: Any) -> Packet:
    given: dict[str, Any] = {
        "inport": "a",
        "eth_src": "02:00:00:00:00:01",
        "eth_dst": "02:00:00:00:00:02",
        "ip_src": "10.0.0.1",
        "ip_dst": "10.0.0.2",
        "protocol": "tcp",
        "src_port": 52888,
        "dst_port": 80,
    }
    return Packet(**given | changed)


def ends(
    flows: Sequence[Flow],
    one: Packet | None = None,
    state: ConntrackState = ConntrackState.REQUEST,
    **others: list[dict[str, Any]],
) -> tuple[str, str]:
    """Return the ports that a packet may be output to, and why that is not known."""
    southbound = read(Switch([*flows, DELIVER], others))
    answers = Evaluator(southbound).run([one or packet()], state)
    names = sorted(southbound.by_number[number].name for number in answers.ends(0))
    return "".join(names), answers.refused(0)


def flow(priority: int, match: str, actions: str, table: int = 0) -> Flow:
    return "ingress", table, priority, match, actions


def out(port: str) -> str:
    return f'outport = "{port}"; output;'


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        ([], ""),
        ([flow(1, "1", out("b"))], "b"),
        ([flow(1, "1", out("a"))], ""),
        ([flow(1, "1", f"flags.loopback = 1; {out('a')}")], "a"),
        ([flow(1, "1", out("b")), flow(2, "tcp.dst == 80", out("c"))], "c"),
        ([flow(1, "1", out("b")), flow(2, "udp.dst == 80", out("c"))], "b"),
        ([flow(1, "1", out("b")), flow(2, "!(tcp.dst == 80)", out("c"))], "b"),
        ([flow(1, "1", out("b")), flow(2, "tcp.dst[0..3] == 0", out("c"))], "c"),
        ([flow(1, "1", out("b")), flow(2, "79 < tcp.dst <= 80", out("c"))], "c"),
        ([flow(1, "1", out("b")), flow(2, "ip4.src == 10.0.0.0/31", out("c"))], "c"),
        ([flow(1, "1", out("b")), flow(2, "ip4.src != 10.0.0.0/31", out("c"))], "b"),
        ([flow(1, "1", out("b")), flow(1, "tcp", out("c"))], "bc"),
        ([flow(1, "1", 'outport = "_MC_flood"; output;')], "bc"),
        ([flow(1, "1", f"clone {{ {out('b')} }}; {out('c')}")], "bc"),
        ([flow(1, "1", "ct_next;"), flow(1, "ct.new", out("b"), 1)], "b"),
        ([flow(1, "1", "ct_next;"), flow(1, "ct.est", out("b"), 1)], ""),
        ([flow(1, "arp", out("b")), flow(0, "1", "ct_next;"), flow(0, "1", out("c"), 1)], "c"),
        (
            [flow(1, "1", "reg0[4..7] = 6; xxreg1 = ip6.src; next;"), flow(0, "1", out("b"))],
            "b",
        ),
        (
            [flow(1, "1", "reg0[4..7] = 6; next;"), flow(1, "reg0 == 0x60", out("b"), 1)],
            "b",
        ),
        (
            [
                flow(1, "1", "ct_lb_mark(backends=10.0.0.8:8080,10.0.0.9,[fd00::1]:1);"),
                flow(1, "ip4.dst == 10.0.0.8 && tcp.dst == 8080 && ct.dnat", out("b"), 1),
                flow(1, "ip4.dst == 10.0.0.9 && tcp.dst == 80", out("c"), 1),
            ],
            "bc",
        ),
        (
            [
                flow(1, "1", "reg8[16..31] = select(1=100,2=100);"),
                flow(1, "reg8[16..31] == 1", out("b"), 1),
                flow(1, "reg8[16..31] == 2", out("c"), 1),
            ],
            "bc",
        ),
        (
            [
                flow(
                    1,
                    "1",
                    'outport = "b"; reject { outport <-> inport; next(pipeline=egress,table=0); };',
                ),
            ],
            "a",
        ),
        (
            [
                flow(1, "1", "reg0[0] = get_fdb(eth.dst); next;"),
                flow(1, "1", "outport = get_fdb(eth.dst); output;", 1),
            ],
            "",
        ),
        ([flow(2, "ip4.src == $missing || tcp", out("b")), flow(1, "1", out("c"))], "c"),
        ([flow(2, "inport == @missing || tcp", out("b")), flow(1, "1", out("c"))], "c"),
        ([flow(2, 'is_chassis_resident("a")', out("b"))], "b"),
        ([flow(2, '!is_chassis_resident("a")', out("b")), flow(1, "1", out("c"))], "c"),
    ],
)
def test_a_packet_ends_where_its_flows_send_it(flows: list[Flow], expected: str) -> None:
    assert ends(flows) == (expected, "")


def test_sets_and_groups_are_those_of_the_southbound() -> None:
    sets = [
        {"name": "two", "addresses": ["10.0.0.1", "10.9.0.0/16"]},
        {"name": "none", "addresses": []},
        {"name": "wide", "addresses": ["fd00::1"]},
    ]
    groups = [{"name": "1_pg", "ports": ["a", "b"]}, {"name": "other", "ports": ["a"]}]
    for match, expected in {
        "ip4.src == $two": "b",
        "ip4.dst == $two": "c",
        "ip4.src != $two": "c",
        "ip4.src == $none": "c",
        "ip6.src != $none": "b",
        "tcp || ip4.src == $wide": "c",
        "inport == @pg": "b",
        "tcp || inport == @other": "c",
    }.items():
        flows = [flow(2, match, out("b")), flow(1, "1", out("c"))]
        assert ends(flows, Address_Set=sets, Port_Group=groups) == (expected, ""), match


def test_a_packet_is_refused_where_it_comes_to_what_nobody_knows_and_nowhere_else() -> None:
    high = flow(9, "tcp.dst == 81", "teleport;")
    assert ends([high, flow(1, "1", out("b"))]) == ("b", "")
    ended, why = ends([high, flow(1, "1", out("b"))], packet(dst_port=81))
    assert not ended
    assert "teleport" in why
    unread = flow(9, "tcp.dst == 81 && warp.factor == 9", out("c"))
    assert ends([flow(9, "1", "drop;"), unread])[1].startswith("a match is not understood")
    assert ends([flow(10, "1", out("b")), unread]) == ("b", "")


def test_a_template_variable_is_what_some_chassis_has() -> None:
    flows = [flow(9, "ip4.dst == ^NODE && tcp.dst == 80", out("c")), flow(1, "1", out("b"))]
    nodes = [{"variables": {"NODE": "10.0.0.2"}}, {"variables": {"NODE": "10.0.0.3"}}]
    assert "^NODE" in ends(flows, Chassis_Template_Var=nodes)[1]
    assert ends(flows, packet(ip_dst="10.0.0.4"), Chassis_Template_Var=nodes) == ("b", "")
    assert ends(flows, packet(dst_port=81), Chassis_Template_Var=nodes) == ("b", "")
    assert ends(flows) == ("b", "")


def test_what_goes_round_is_refused() -> None:
    assert str(MOST_HOPS) in ends([flow(1, "1", "next(table=0);")])[1]


def test_port_security_stops_a_stranger() -> None:
    ports = [
        {
            "_uuid": name,
            "logical_port": name,
            "type": "",
            "datapath": "s",
            "options": {},
            "tunnel_key": key,
            "port_security": ["02:00:00:00:00:01 10.0.0.1 fd00::1"],
        }
        for key, name in enumerate("abc", 1)
    ]
    flows = [
        flow(1, "1", "reg0[15] = check_in_port_sec(); next;"),
        flow(1, "reg0[15] == 1", "drop;", 1),
        flow(0, "1", out("b"), 1),
    ]
    for one, expected in (
        (packet(), "b"),
        (packet(eth_src="02:00:00:00:00:09"), ""),
        (packet(ip_src="10.0.0.9"), ""),
        (packet(ip_src="fd00::1", ip_dst="fd00::2"), "b"),
        (packet(ip_src="fe80::ff:fe00:1", ip_dst="fd00::2"), "b"),
        (packet(ip_src="fd00::2", ip_dst="fd00::2"), ""),
    ):
        assert ends(flows, one, Port_Binding=ports) == (expected, ""), one


def test_a_reply_is_established_and_a_reply() -> None:
    flows = [
        flow(1, "1", "ct_next;"),
        flow(2, "ct.est && ct.rpl && !ct.new", out("b"), 1),
        flow(1, "ct.new", out("c"), 1),
    ]
    assert ends(flows, state=ConntrackState.REPLY) == ("b", "")
    assert ends(flows) == ("c", "")
