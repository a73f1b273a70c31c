"""Matches mean to `parse` what they mean to OVN."""

import ipaddress
import itertools
import os
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.cover import matches
from audit.cover.matches import (
    ANY_L4,
    MAX_TERMS,
    AddressIn,
    Match,
    MatchError,
    PortIs,
    Side,
    Term,
    Terms,
    parse,
)
from audit.flows.syntax import TURNED
from audit.model.packets import REQUEST_SOURCE_PORT, WITH_PORTS, Family, Protocol
from audit.replay.tables import Tables
from audit.replay.toolchain import Toolchain
from tests.archives import extract
from tests.cover.compiled import (
    GROUPS,
    NETWORKS,
    NUMBERS,
    PACKETS,
    PORTS,
    SETS,
    Packet,
    compiled,
    delivered,
    met,
)

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDED = (
    REPOSITORY / "examples/interconnect.tar.gz",
    *sorted((REPOSITORY / "tests/data").glob("*.tar.xz")),
    *sorted((REPOSITORY / "tests/data/cases").glob("*.tar.xz")),
)
NB = "OVN_Northbound"

PREDICATES = (
    "ip",
    "ip4",
    "ip6",
    "tcp",
    "udp",
    "sctp",
    "arp",
    "icmp",
    "icmp4",
    "icmp6",
    "igmp",
    "nd",
    "mldv2",
)
BITS = {
    "ct.new": True,
    **dict.fromkeys(("ct.est", "ct.rel", "ct.rpl", "ct.inv"), False),
    **dict.fromkeys(
        ("eth.mcast", "eth.mcastv6", "eth.bcast", "ip4.mcast", "ip4.src_mcast", "ip6.mcast"), False
    ),
}


# --- trees of expressions, their text, and what they mean


@dataclass(frozen=True)
class Compare:
    """`field relation constants`; without a relation just `field`."""

    field: str
    relation: str = ""
    constants: tuple[str, ...] = ()
    turned: bool = False

    def text(self) -> str:
        if not self.relation:
            return self.field
        few = len(self.constants) == 1 and not self.constants[0].endswith(",")
        right = self.constants[0] if few else f"{{{' '.join(self.constants)}}}"
        if self.turned:
            return f"{right} {TURNED[self.relation]} {self.field}"
        return f"{self.field}{self.relation}{right}"

    def means(self, packet: Packet, *, negated: bool) -> bool:
        values = [constant.rstrip(",") for constant in self.constants]
        if not self.relation:
            return (self.value(packet) != 0) != negated
        if values == ["$empty"]:
            return (self.relation == "!=") != negated
        if not self.prerequisite(packet):
            return False
        if self.relation == "!=":
            return any(self.same(packet, value) for value in values) == negated
        if self.relation == "==":
            return any(self.same(packet, value) for value in values) != negated
        mine, other = self.value(packet), int(values[0], 0)
        ordered = {
            "<": mine < other,
            "<=": mine <= other,
            ">": mine > other,
            ">=": mine >= other,
        }
        return ordered[self.relation] != negated

    def prerequisite(self, packet: Packet) -> bool:
        symbol, _, part = self.field.partition(".")
        return (
            not part
            or self.field in BITS
            or symbol not in (*Family, *Protocol, "icmp4", "icmp6")
            or symbol in words(packet)
        )

    def value(self, packet: Packet) -> int:
        if self.field in BITS:
            return int(BITS[self.field])
        if self.field == "ip.proto":
            icmp = 1 if packet.family is Family.IP4 else 58
            return {"tcp": 6, "udp": 17, "sctp": 132, "icmp": icmp}[packet.protocol]
        if self.field in ("icmp4.type", "icmp6.type"):
            return 8 if packet.family is Family.IP4 else 128
        if self.field in ("icmp4.code", "icmp6.code"):
            return 0
        if self.field.endswith(".dst"):
            return packet.port
        return REQUEST_SOURCE_PORT if "." in self.field else int(self.field in words(packet))

    def same(self, packet: Packet, value: str) -> bool:
        if value.startswith('"'):
            return str(getattr(packet, self.field)) == value[1:-1]
        if value.startswith("@"):
            return getattr(packet, self.field) in GROUPS[value[1:]]
        if self.field in BITS or not self.field.startswith(("ip4.", "ip6.")):
            return self.value(packet) == int(value, 0)
        mine = ipaddress.ip_address(getattr(packet, self.field.partition(".")[2]))
        listed = SETS[value[1:]] if value.startswith("$") else [value]
        return any(mine in ipaddress.ip_network(one, strict=False) for one in listed)


def words(packet: Packet) -> set[str]:
    if packet.protocol is Protocol.ICMP:
        return {"ip", str(packet.family), "icmp", f"icmp{packet.family[-1]}"}
    return {"ip", str(packet.family), str(packet.protocol)}


@dataclass(frozen=True)
class Range:
    """`low <= field < high`."""

    low: int
    first: str
    field: str
    second: str
    high: int

    def text(self) -> str:
        return f"{self.low} {self.first} {self.field}{self.second}{self.high}"

    def means(self, packet: Packet, *, negated: bool) -> bool:
        parts = (
            Compare(self.field, TURNED[self.first], (str(self.low),)),
            Compare(self.field, self.second, (str(self.high),)),
        )
        return (any if negated else all)(one.means(packet, negated=negated) for one in parts)


@dataclass(frozen=True)
class Not:
    operand: "Expression"

    def text(self) -> str:
        bare = isinstance(self.operand, Compare) and not self.operand.relation
        return f"!{self.operand.text()}" if bare else f"!({self.operand.text()})"

    def means(self, packet: Packet, *, negated: bool) -> bool:
        return self.operand.means(packet, negated=not negated)


@dataclass(frozen=True)
class Several:
    operator: str
    operands: "tuple[Expression, ...]"

    def text(self) -> str:
        def operand(one: Expression) -> str:
            return f"({one.text()})" if isinstance(one, Several) else one.text()

        return f" {self.operator} ".join(operand(one) for one in self.operands)

    def means(self, packet: Packet, *, negated: bool) -> bool:
        combine = all if (self.operator == "&&") != negated else any
        return combine(one.means(packet, negated=negated) for one in self.operands)


Expression = Compare | Range | Not | Several


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - tests repeat themselves


def expression(rng: random.Random, depth: int, *, negated: bool = False) -> Expression:
    """Return a random expression that OVN takes where `negated` by what is around it."""
    if depth and rng.random() < 0.75:
        if rng.random() < 0.25:
            return Not(expression(rng, depth - 1, negated=not negated))
        operands = [
            expression(rng, depth - 1, negated=negated) for _ in range(rng.choice((2, 2, 3)))
        ]
        return Several(rng.choice(("&&", "||")), tuple(operands))
    leaf = rng.choice((address, address, l4_port, l4_port, logical_port, word))
    return leaf(rng, negated=negated)


def constants(rng: random.Random, choices: tuple[str, ...]) -> tuple[str, ...]:
    some = rng.sample(choices, rng.choice((1, 1, 2, 3)) % (len(choices) + 1))
    if rng.random() < 0.2 or len(some) > 1:
        return (*(f"{one}{rng.choice((',', ''))}" for one in some[:-1]), f"{some[-1]},")
    return tuple(some)


def address(rng: random.Random, *, negated: bool) -> Expression:
    family = rng.choice(list(Family))
    sets = (f"$s{family[-1]}", f"$t{family[-1]}", "$empty")
    some = constants(rng, sets if rng.random() < 0.5 else NETWORKS[family] + sets[:2])
    field = f"{family}.{rng.choice(('src', 'dst'))}"
    if negated and all(one.startswith("$") for one in some):
        return Not(address(rng, negated=False))
    if rng.random() < 0.3:
        different = Compare(field, "!=", some, turned=rng.random() < 0.2)
        implied = Compare(str(family)) if not negated else Compare(str(family), "==", ("0",))
        return different if negated else Several("&&", (implied, different))
    return Compare(field, "==", some, turned=rng.random() < 0.2)


def l4_port(rng: random.Random, *, negated: bool) -> Expression:
    protocol = rng.choice(WITH_PORTS)
    if rng.random() < 0.25:
        field, some = rng.choice(
            [
                ("ip.proto", ("6", "17", "132", "1", "58", "0x11")),
                ("icmp4.type", ("8", "0", "3")),
                ("icmp6.type", ("128", "129", "135")),
                ("icmp4.code", ("0", "1", "2")),
            ]
        )
        return Compare(field, "!=" if negated else "==", constants(rng, some))
    field = f"{protocol}.{rng.choice(('src', 'dst', 'dst', 'dst', 'dst'))}"
    if rng.random() < 0.3:
        low, high = rng.choice(NUMBERS), rng.choice(NUMBERS)
        first, second = rng.choice(("<", "<=")), rng.choice(("<", "<="))
        if rng.random() < 0.3:
            return Range(high, first.replace("<", ">"), field, second.replace("<", ">"), low)
        return Range(low, first, field, second, high)
    relation = rng.choice(("==", "==", "==", "!=", "<", "<=", ">", ">="))
    spelled = tuple(rng.choice((str, hex))(number) for number in NUMBERS)
    some = constants(rng, spelled) if relation in ("==", "!=") else (rng.choice(spelled),)
    return Compare(field, relation, some, turned=rng.random() < 0.2)


def logical_port(rng: random.Random, *, negated: bool) -> Expression:
    names = tuple(f'"{name}"' for name in PORTS) + tuple(f"@{name}" for name in GROUPS)
    relation = "!=" if negated else "=="
    return Compare(rng.choice(("inport", "outport")), relation, constants(rng, names))


def word(rng: random.Random, *, negated: bool) -> Expression:
    if rng.random() < 0.5:
        bit = rng.choice(sorted(BITS))
        relation = rng.choice(("", "==", "!="))
        return Compare(bit, relation, (rng.choice("01"),) if relation else ())
    predicate = rng.choice(PREDICATES)
    if rng.random() < 0.5 and not negated:
        return Compare(predicate)
    if rng.random() < 0.5:
        return Compare(predicate, "!=", ("1" if negated else "0",))
    return Compare(predicate, "==", ("0" if negated else "1",))


# --- what is parsed means the same


@given(st.integers(0, 2**32), st.integers(0, 3))
def test_terms_are_true_of_the_packets_the_expression_is_true_of(seed: int, depth: int) -> None:
    rng = seeded(seed)
    tree = expression(rng, depth)
    terms = parse(tree.text())
    for packet in rng.sample(PACKETS, 40):
        assert met(terms, packet) is tree.means(packet, negated=False), (tree.text(), packet)


@given(st.integers(0, 2**32))
def test_terms_are_in_order_and_of_one_family_where_they_look_at_addresses(seed: int) -> None:
    terms = parse(expression(seeded(seed), 3).text())
    assert len(set(terms)) == len(terms)
    for term in terms:
        assert term.families
        assert term.l4
        assert list(term.l4) == sorted(term.l4)
        for (protocol, first, last), (after, start, _) in itertools.pairwise(term.l4):
            assert first <= last
            assert protocol is not after or last + 1 < start
        for literal in term.literals:
            assert not isinstance(literal, AddressIn) or term.families == {literal.family}
            for network in getattr(literal, "networks", ()):
                assert str(ipaddress.ip_network(network)) == network


def test_terms_do_not_depend_on_the_order_sets_are_iterated_in() -> None:
    texts = [expression(seeded(seed), 3).text() for seed in range(30)]
    script = (
        "import sys; from audit.cover.matches import parse\n"
        "for match in sys.argv[1:]:\n"
        "    print([(len(t.literals), sorted(t.families), t.l4) for t in parse(match)])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script, *texts],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(REPOSITORY)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(said) == 1


TCP_80 = ((Protocol.TCP, 80, 80),)
WEB = PortIs(side=Side.DST, groups=frozenset(), names=frozenset({"shop_web"}))


def source(
    *, sets: tuple[str, ...] = (), networks: tuple[str, ...] = (), negated: bool = False
) -> AddressIn:
    family = Family.of(networks[0]) if networks else Family.IP4
    return AddressIn(
        side=Side.SRC,
        family=family,
        sets=frozenset(sets),
        networks=frozenset(networks),
        negated=negated,
    )


def term(
    *literals: PortIs | AddressIn,
    families: tuple[Family, ...] = (Family.IP4, Family.IP6),
    l4: matches.Intervals = ANY_L4,
) -> Term:
    return Term(literals=frozenset(literals), families=frozenset(families), l4=l4)


IP4 = (Family.IP4,)
IP6 = (Family.IP6,)
TCP = ((Protocol.TCP, 0, 65535),)
PING = ((Protocol.ICMP, 0, 65535),)


@pytest.mark.parametrize(
    ("match", "terms"),
    [
        ("1", (term(),)),
        ("0", ()),
        ("!0", (term(),)),
        ("arp || nd", ()),
        ("ip", (term(),)),
        ("(ip4 || ip6)", (term(),)),
        ('outport == "shop_web"', (term(WEB),)),
        ('"shop_web" == outport', (term(WEB),)),
        ('!(outport != "shop_web")', (term(WEB),)),
        ('outport == "shop_w\\u0065b"', (term(WEB),)),
        ("tcp.dst==80", (term(l4=TCP_80),)),
        ("tcp && tcp.dst=={0x50 80,}", (term(l4=TCP_80),)),
        ("tcp.dst == 80 && udp", ()),
        ("tcp.dst < 0", ()),
        ("tcp.src == 52888", (term(l4=TCP),)),
        ("tcp.src != 52888", ()),
        (
            "ip.proto == {6, 1}",
            (term(l4=TCP), term(l4=PING, families=(Family.IP4,))),
        ),
        ("ip4 && ip.proto == {6, 1}", (term(l4=(*PING, *TCP), families=(Family.IP4,)),)),
        ("!(ip.proto != 6)", (term(l4=TCP),)),
        ("ip.proto == 1", (term(l4=PING, families=(Family.IP4,)),)),
        ("ip6 && ip.proto == 1", ()),
        ("icmp", (term(l4=PING),)),
        ("icmp4.type == 8 && icmp4.code == 0", (term(l4=PING, families=(Family.IP4,)),)),
        ("icmp4.type == 3 || icmp6.type == 1 || icmp4.code == 1", ()),
        (
            "80<=tcp.dst<=90 || 100 > tcp.dst > 90",
            (term(l4=((Protocol.TCP, 80, 99),)),),
        ),
        (
            "!(tcp.dst == {80, 82})",
            (
                term(
                    l4=(
                        (Protocol.TCP, 0, 79),
                        (Protocol.TCP, 81, 81),
                        (Protocol.TCP, 83, 65535),
                    )
                ),
            ),
        ),
        (
            "ip4.src == {$a1, 10.0.0.0/8, 10.1.2.3}",
            (term(source(sets=("a1",), networks=("10.0.0.0/8", "10.1.2.3/32")), families=IP4),),
        ),
        (
            "ip4.src == $a1 || ip4.src == {$a2}",
            (term(source(sets=("a1", "a2")), families=IP4),),
        ),
        (
            "ip4.src == 10.0.0.9/255.0.0.0 && ip4.src != {10.1.0.0/16}",
            (
                term(
                    source(networks=("10.0.0.0/8",)),
                    source(networks=("10.1.0.0/16",), negated=True),
                    families=IP4,
                ),
            ),
        ),
        ("ip4.src == 10.1.0.0/16 && ip4.src != 10.0.0.0/8", ()),
        ("ip4.src == 10.1.0.0/16 && ip4.src == 10.2.0.0/16", ()),
        ("ip4.src == $a1 && ip4.src != {$a2, $a1}", ()),
        ("ip4.src == 10.0.0.1 && ip6", ()),
        ('inport == "a" && inport == "b"', ()),
        (
            "ip4 && ip4.src != $a1",
            (term(source(sets=("a1",), negated=True), families=IP4),),
        ),
        (
            "!(ip6.src == fd00::/8)",
            (term(source(networks=("fd00::/8",), negated=True), families=IP6),),
        ),
        ("ip6.src == fd00::1 && ip4.mcast", ()),
        ("ct.new && !ct.est && ct.rpl == 0 && ct.trk && !ct.dnat", (term(),)),
        ("eth.type == 0x800", (term(families=IP4),)),
        ("ct_mark == 0 && ct_label.label == 0 && pkt.mark == 0 && ip.frag == 0", (term(),)),
        ("!vlan.present && vlan.tci == 0/0xfff", (term(),)),
        ("vlan.vid == 0 || vlan.vid != 7", ()),
        ("arp.tpa == 10.0.0.1 || arp.op == 1 || !(arp.spa == 10.0.0.1)", ()),
        ("nd.target == fd00::1 || nd.sll == 00:00:00:00:00:01 || nd_na || mldv1 || igmp", ()),
        ("icmp4.type == 0 || icmp6.type == {129, 135, 136} || rarp", ()),
        ("ip4.mcast || ip6.mcast || ip6.mcast_flood || eth.mcast || eth.mcastv6", ()),
        ("eth.dst == 01:00:5e:00:00:01", ()),
        ("!(eth.src == ff:ff:ff:ff:ff:ff)", (term(),)),
        ("ip.ttl == 255", ()),
        ("tcp.flags[2]", ()),
        ("tcp.flags == 0/4", (term(l4=TCP),)),
        ("arp && reg0[3]", ()),
        ("flags.loopback || ip4 || ip6", (term(),)),
        ("ip4.src == 167772161", (term(source(networks=("10.0.0.1/32",)), families=IP4),)),
        ("ip4.src[28..31] == 0xe", (term(source(networks=("224.0.0.0/4",)), families=IP4),)),
        ("ip4.src_mcast", (term(source(networks=("224.0.0.0/4",)), families=IP4),)),
        (
            "ip4.src[0] || ip4.src == 10.0.0.1/255.0.255.0",
            (term(source(networks=("0.0.0.1/0.0.0.1", "10.0.0.0/255.0.255.0")), families=IP4),),
        ),
        (
            "ip4.src < 10.0.0.0",
            (term(source(networks=("0.0.0.0/5", "8.0.0.0/7")), families=IP4),),
        ),
        ("ip4.src >= 0.0.0.0", (term(source(networks=("0.0.0.0/0",)), families=IP4),)),
        ("ip4.src < 0.0.0.0", ()),
        (
            "ip6.src[120..127] == 0xff && ip6.src[112..127] != 0xff02",
            (
                term(
                    source(networks=("ff00::/8",)),
                    source(networks=("ff02::/16",), negated=True),
                    families=IP6,
                ),
            ),
        ),
        ("ip6.src[120..127] == 0xff && ip6.src[112..127] == 0xfe80", ()),
        ("tcp.dst[4..15] == 5", (term(l4=((Protocol.TCP, 80, 95),)),)),
        (
            "ip4.src == 10.0.0.1 /* ovn-worker */ // and so on",
            (term(source(networks=("10.0.0.1/32",)), families=IP4),),
        ),
    ],
)
def test_what_a_match_says(match: str, terms: Terms) -> None:
    assert parse(match) == terms


def test_one_term_however_many_pods_a_named_port_is_resolved_to() -> None:
    pods = " || ".join(
        f"(ip4.dst == 10.{number // 256}.{number % 256}.4 && tcp.dst == 8080)"
        for number in range(MAX_TERMS + 1)
    )
    (only,) = parse(f"((ip4.src == $a4 || ip6.src == $a6)) && tcp && ({pods})")
    assert only.l4 == ((Protocol.TCP, 8080, 8080),)
    assert sorted(len(one.networks) for one in only.literals if isinstance(one, AddressIn)) == [
        0,
        MAX_TERMS + 1,
    ]


def test_too_many_terms_are_refused_early() -> None:
    match = " && ".join(f"(ip4.dst == $a{n} || inport == @b{n})" for n in range(30))
    with pytest.raises(MatchError, match=f"more than {MAX_TERMS} terms at character 35 of"):
        parse(match)


@pytest.mark.parametrize(
    ("match", "complaint"),
    [
        ("", "expected a constant, got the end at character 1 of ''"),
        ("ip4 && reg0[3] == 1", "depends on reg0"),
        ("flags.loopback", "depends on flags.loopback"),
        ("!flags.loopback || xxreg1 == 0/1", "depends on flags.loopback and xxreg1"),
        ("eth.dst == 0a:00:00:00:00:01", "depends on eth.dst"),
        ("eth.src == $macs", "depends on eth.src"),
        ("arp.tpa != $a1", "depends on whether \\$a1 is empty"),
        ("tcp.flags == 2", "depends on tcp.flags"),
        ("!ct.trk && tcp", "depends on ct.trk"),
        ("ct_state == 0", "depends on ct_state"),
        ("tcp.dst[0]", "depends on single bits of tcp.dst"),
        ("ip.ttl == 64", "depends on ip.ttl"),
        ("ip.dscp == 0", "depends on ip.dscp"),
        ("ip6.label == 0", "depends on ip6.label"),
        ("ip4.src[0..7] == $a1", "depends on bits of ip4.src"),
        ('!is_chassis_resident("cr-x")', "depends on is_chassis_resident"),
        ("is_chassis_resident(tcp)", "expected a string, got tcp"),
        ("ip5.dst == 1", "ip5.dst is no symbol of OVN at character 1 of"),
        ("ip4.dst == ^VIP", "'^' is not understood at character 12 of"),
        ("ip4.dst[28..32] == 0xe", "ip4.dst has 32 bits"),
        ("ip4.dst[3..2] == 0", "ip4.dst has 32 bits"),
        ("ip4.dst[3 == 0", "expected ], got =="),
        ("ip4.dst[x]", "expected the number of a bit, got x"),
        ("inport[0]", "inport has 0 bits"),
        ("ip.proto[0]", "bits of ip.proto cannot be tested"),
        ("ip4.dst", "expected a relation, got the end"),
        ("ip4.dst == fd00::1", "expected a number of 32 bits, got fd00::1"),
        ("ip4.dst[0..7] == 0x1ffffffff", "expected a number of 32 bits, got 0x1ffffffff"),
        ('ip4.dst == "10.0.0.1"', 'expected a number of 32 bits, got "10.0.0.1"'),
        ("ip4.dst == 10.0.0.1/", "expected a number of 32 bits, got 10.0.0.1/"),
        ("ip4.dst == 10.0.0.0/0xff000000", "expected a number of 32 bits"),
        ("ip4.dst < 10.0.0.0/8", "what has a mask is compared with == and != only"),
        ("ip4.dst < $a1", "a set is compared with == and != only"),
        ("ip4.mcast < 1", "ip4.mcast is compared with == and != only"),
        ("ip4.mcast == $a1", "ip4.mcast is compared with 0 and 1 only"),
        ("ip4.src != $a1", "depends on whether \\$a1 is empty"),
        ("!(ip4.src == {$a1, $a2}) && tcp", "depends on whether \\$a1 or \\$a2 is empty"),
        ("tcp.dst == 65536", "expected a number of 16 bits, got 65536 at character 12 of"),
        ("tcp.dst == 080", "expected a number of 16 bits, got 080"),
        ("tcp.dst == 80/0xff", "expected a number of 16 bits, got 80/0xff"),
        ("tcp.dst", "expected a relation, got the end"),
        ("tcp.dst = 80", "'=' is not understood"),
        ("tcp.dst < {80}", "a set is compared with == and != only"),
        ("tcp.dst == {}", "expected a constant, got }"),
        ("tcp.dst == {80, 443", "expected a constant, got the end"),
        ("1 <= tcp.dst >= 9", "a range is x <= field <= y"),
        ("1 == tcp.dst == 1", "a range is x <= field <= y"),
        ("2", "expected a relation, got the end"),
        ("80 ==", "expected a field, got the end at character 6 of"),
        ("10.0.0.0/08 == ip4.dst", "expected a number of 32 bits, got 10.0.0.0/08"),
        ("tcp.dst == " + "9" * 5000, "expected a number of 16 bits"),
        ("!tcp", "tcp can only be tested positively at character 2 of"),
        ("tcp == 0", "tcp can only be tested positively"),
        ("tcp == {0, 1}", "tcp can only be tested positively"),
        ("tcp < 1", "tcp is compared with == and != only"),
        ("ip4 == 2", "expected a number of 1 bits, got 2"),
        ("ip.proto != 6", "ip.proto can only be tested positively"),
        ('inport != "a"', "inport can only be tested positively"),
        ("!(inport == @a1)", "inport can only be tested positively"),
        ("inport == 7", "expected a port or a group, got 7"),
        ('inport == "\\x"', "is no JSON string"),
        ('inport == "a', "'\"' is not understood"),
        ("!tcp.dst == 80", "! needs parentheses before a comparison"),
        ("!!ip4", "expected a constant, got !"),
        ("ip4 && tcp || udp", "&& and || need parentheses when used together at character 12 of"),
        ("(ip4", "expected &&, || or \\), got the end at character 5 of"),
        ("ip4)", "expected &&, || or the end, got \\)"),
        ("ip4 & tcp", "'&' is not understood"),
        ("ip4 /* never", "'/' is not understood"),
        ("(" * 101 + "1" + ")" * 101, "nested"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(match: str, complaint: str) -> None:
    with pytest.raises(MatchError, match=re.escape(complaint).replace("\\\\\\", "\\")):
        parse(match)


@given(st.integers(0, 2**32), st.data())
def test_a_damaged_match_is_refused_or_read(seed: int, data: st.DataObject) -> None:
    text = expression(seeded(seed), 2).text()
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.text(max_size=2)) + text[at + 1 :]
    with suppress(MatchError):
        parse(damaged)


@given(st.integers(0, 2**32), st.data())
def test_what_is_read_once_for_all_names_is_what_each_match_says(
    seed: int, data: st.DataObject
) -> None:
    text = expression(seeded(seed), 3).text()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        inserted = data.draw(st.sampled_from(['"', "\\", "$a1", "@", "$", '"@a"', '"$a1"', "\x01"]))
        text = text[:at] + inserted + text[at:]
    assert understood(text) == understood(with_a_comment(text))


def with_a_comment(text: str) -> str:
    """Return a match that says the same, and is read by itself."""
    return f"/* */ {text}"


def understood(text: str) -> Match | None:
    try:
        return matches.read(text)
    except MatchError:
        return None


# --- what OVN-Kubernetes writes


def recorded(table: str, directory: Path) -> set[str]:
    """Return the matches of all rows in every recorded cluster, also of those not in force."""
    found: set[str] = set()
    for number, archive in enumerate(RECORDED):
        with tarfile.open(archive) as tar:
            members = [one for one in tar if one.name.endswith("/nb.db")]
            extract(tar, directory / str(number), members)
    for database in sorted(directory.glob("**/nb.db")):
        rows = Tables.of(database, NB).rows(table, ("match",))
        found |= {str(row["match"]) for row in rows}
    return found


def not_understood(matched: Iterable[str]) -> list[str]:
    refused = []
    for match in sorted(matched):
        try:
            parse(match)
        except MatchError as error:
            refused.append(str(error))
    return refused


@pytest.mark.parametrize(("table", "least"), [("ACL", 250), ("Logical_Router_Policy", 30)])
def test_every_recorded_match_is_understood(table: str, least: int, tmp_path: Path) -> None:
    matched = recorded(table, tmp_path)
    assert len(matched) > least
    assert not_understood(matched) == []
    assert all(matches.read(match) == matches.read(with_a_comment(match)) for match in matched)


def test_a_recorded_acl_is_never_true_only_where_it_is_not_of_such_packets(tmp_path: Path) -> None:
    never = {match for match in recorded("ACL", tmp_path) if not parse(match)}
    network = re.compile(r"\((ip4|ip6)\.dst == (\S+) && \1\.dst != \2\)")
    unexplained = {m for m in never if not re.search(r"\b(arp|nd|icmp)\b|mcast", m)}
    assert all(network.search(match) for match in unexplained), unexplained


# --- the same question to OVN


CURIOUS = (
    "!(ip4.src == 10.0.0.1)",
    "ip4.src != 10.0.0.1",
    "ip4 && ip4.src != $empty",
    "ip4.src != {$empty, 10.0.0.9}",
    "!(tcp.dst == 80)",
    "!(tcp.dst < 80)",
    "tcp.dst < 0",
    "!(tcp.dst >= 0)",
    "ip4.src != 0.0.0.0/0",
    "!ip4.mcast",
    "icmp4.type == 8 || icmp6.type == 129",
    "ip.proto == {1, 58}",
    "!ct.est && ct.new",
    '!(inport != "a")',
)


@pytest.mark.ovn
def test_ovn_drops_what_the_terms_are_true_of(toolchain: Toolchain) -> None:
    rng = seeded(2503)
    matched = [*CURIOUS, *(expression(rng, 1 + n % 3).text() for n in range(240))]
    drops = 0
    with compiled(matched, toolchain) as daemon:
        assert daemon.unparsed.flows == 0, daemon.unparsed
        for number, match in enumerate(matched):
            terms = parse(match)
            # Half of the packets from either side, where there are two.
            sides = [
                [p for p in rng.sample(PACKETS, 60) if met(terms, p) is side]
                for side in (True, False)
            ]
            for packet in sides[0][:3] + sides[1][:3]:
                dropped = met(terms, packet)
                drops += dropped
                assert delivered(daemon, packet, number) is not dropped, (match, packet)
    assert drops > 400


@pytest.mark.ovn
def test_ovn_refuses_what_is_refused_as_an_error_of_its_own(toolchain: Toolchain) -> None:
    wrong = [
        "!tcp",
        "tcp == 0",
        "tcp == {0, 1}",
        "ip.proto != 6",
        'inport != "a"',
        "!(inport == @g_c)",
        "!tcp.dst == 80",
        "!!ip4",
        "ip4 && tcp || udp",
        "tcp.dst < {80}",
        "tcp.dst == 65536",
        "tcp.dst == 080",
        "1 <= tcp.dst >= 9",
        "tcp.dst == {}",
        "ip4.dst == fd00::1",
    ]
    with compiled(wrong, toolchain) as daemon:
        # Each is two flows: of connections that are new, and of those that are known.
        assert daemon.unparsed.flows == 2 * len(wrong), daemon.unparsed
    for match in wrong:
        with pytest.raises(MatchError):
            parse(match)
