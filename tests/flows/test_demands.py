"""What a match demands, no packet without it meets; and only what is sure is told."""

import tarfile
from pathlib import Path

import pytest

from audit.flows import demands as demands_module
from audit.flows.demands import Demand, demands
from audit.flows.literals import alike
from audit.replay.tables import Tables
from tests.archives import extract


def of(field: str, *constants: str, groups: tuple[str, ...] = ()) -> Demand:
    return Demand(field, frozenset(constants), frozenset(groups))


@pytest.mark.parametrize(
    ("match", "demanded"),
    [
        ('inport == "shop_web"', [of("inport", "shop_web")]),
        ('outport == {"a", @g} && ip4', [of("outport", "a", groups=("g",))]),
        (
            'ct.new && (outport == @a) && ip4.dst == 10.0.0.1 && inport == "x"',
            [of("inport", "x"), of("ip4.dst", "10.0.0.1"), of("outport", groups=("a",))],
        ),
        ("ip4.dst == {10.0.0.1, 10.0.0.2}", [of("ip4.dst", "10.0.0.1", "10.0.0.2")]),
        ("10.0.0.1 == ip4.dst", [of("ip4.dst", "10.0.0.1")]),
        ("ip6.dst == fd00:0:0::1", [of("ip6.dst", "fd00::1")]),
        (
            'inport == "3" && ip4.src == 10.0.0.1 && ip4.dst == 10.0.0.2 && outport == "0"',
            [of("inport", "3"), of("ip4.dst", "10.0.0.2"), of("outport", "0")],
        ),
        (
            'outport == "rtos" && xxreg0 == fd00:0::5',
            [of("outport", "rtos"), of("xxreg0", "fd00::5")],
        ),
        ("reg0 == {10.0.0.1, 10.0.0.2}", [of("reg0", "10.0.0.1", "10.0.0.2")]),
        ("eth.dst == 0a:58:0a:80:00:05", [of("eth.dst", "0a:58:0a:80:00:05")]),
        ("arp.tpa == 10.0.0.1 && arp.op == 1", [of("arp.tpa", "10.0.0.1")]),
        ("nd_ns_mcast && nd.target == fd00::0005", [of("nd.target", "fd00::5")]),
        ("outport == @g && ip4.src == {$a, $b}", [of("outport", groups=("g",))]),
        ('inport == "a\\"b" && outport == "c"', [of("inport", 'a"b'), of("outport", "c")]),
        ('(inport == "x" || inport == @g)', [of("inport", "x", groups=("g",))]),
        (
            '(inport == "x" && tcp) || (inport == "y" && ip4.dst == 10.0.0.1)',
            [of("inport", "x", "y")],
        ),
        ('inport == "x" && inport == "y"', [of("inport", "x")]),
        ("!(ip4.dst != 10.0.0.1)", [of("ip4.dst", "10.0.0.1")]),
        ('!(!(inport == "x"))', [of("inport", "x")]),
    ],
)
def test_what_is_demanded(match: str, demanded: list[Demand]) -> None:
    assert sorted(demands(alike(match)), key=lambda demand: demand.field) == demanded


@pytest.mark.parametrize(
    "match",
    [
        "1",
        "0",
        "tcp && ip4.src == 10.0.0.1",
        'inport == "x" || tcp',
        'inport == "x" || outport == "x"',
        "ip4.dst != 10.0.0.1",
        "ip4.dst == 10.0.0.0/8",
        "ip4.dst[0..7] == 1",
        "ip4.dst == {10.0.0.1, 10.0.1.0/24}",
        "ip4.dst == $services",
        "ip4.dst == {10.0.0.1, $services}",
        "10.0.0.1 <= ip4.dst <= 10.0.0.9",
        "reg0[0..7] == 1",
        "reg1 == 10.0.0.1",
        "arp.spa == 10.0.0.1",
        "eth.src == 0a:58:0a:80:00:05",
        "eth.dst != 0a:58:0a:80:00:05",
        "eth.dst == 0a:58:00:00:00:00/ff:ff:00:00:00:00",
        'is_chassis_resident("x")',
        'inport == "x" &&',
        'inport == "x" && unheard.of == 1',
        "ip4.dst == ^NODEIP_IPv4_0",
    ],
)
def test_nothing_is_demanded_that_is_not_sure(match: str) -> None:
    assert demands(alike(match)) == ()


def test_matches_that_differ_in_names_and_addresses_are_read_alike(
    example_snapshot: Path, tmp_path: Path
) -> None:
    with tarfile.open(example_snapshot) as tar:
        extract(tar, tmp_path)
    matches = {
        row["match"]
        for database in tmp_path.glob("ovn/*/sb.db")
        for row in Tables.of(database, "OVN_Southbound").rows("Logical_Flow", ("match",))
    }
    assert len(matches) > 1000
    for match in matches:
        assert demands(alike(match)) == demands_module._demands(match)  # noqa: SLF001 - each for itself
