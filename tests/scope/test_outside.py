"""The outside as ranges: each address is in at most one, and its sample stands for all of it."""

import ipaddress
import random
from unittest.mock import Mock

import pytest

from audit.model.packets import Family
from audit.model.policies import BlockPeer
from audit.scope import outside
from audit.scope.outside import Range, ranges

IP4 = (Family.IP4,)


def cut(*blocks: BlockPeer, inside: tuple[str, ...] = ()) -> list[str]:
    return [found.name for found in ranges(["all"], blocks, inside, (), IP4)]


def holds(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Read a name as a reader does."""
    for part in name.split("; "):
        whole, _, without = part.partition(" except ")
        if address in ipaddress.ip_network(whole) and not any(
            address in ipaddress.ip_network(hole) for hole in filter(None, without.split(", "))
        ):
            return True
    return False


def blocks_of(address: str, blocks: list[BlockPeer]) -> list[bool]:
    one = ipaddress.ip_address(address)
    return [
        one in ipaddress.ip_network(block.cidr)
        and not any(one in ipaddress.ip_network(cidr) for cidr in block.excluded)
        for block in blocks
    ]


def test_without_cidrs_everything_is_one_range() -> None:
    assert cut() == ["0.0.0.0/0"]


def test_a_block_is_a_range_and_what_is_around_it_another() -> None:
    assert cut(BlockPeer(cidr="203.0.113.0/24")) == [
        "0.0.0.0/0 except 203.0.113.0/24",
        "203.0.113.0/24",
    ]


def test_ranges_that_no_block_tells_apart_are_one() -> None:
    block = BlockPeer(cidr="0.0.0.0/0", excluded=("10.0.0.0/8", "192.168.0.0/16"))
    assert cut(block) == [
        "0.0.0.0/0 except 10.0.0.0/8, 192.168.0.0/16",
        "10.0.0.0/8; 192.168.0.0/16",
    ]
    hole = BlockPeer(cidr="10.0.0.0/8", excluded=("10.1.0.0/16",))
    assert cut(hole) == [
        "0.0.0.0/0 except 10.0.0.0/8; 10.1.0.0/16",
        "10.0.0.0/8 except 10.1.0.0/16",
    ]


def test_a_block_that_halves_cover_leaves_no_range_of_itself() -> None:
    halves = [BlockPeer(cidr=cidr) for cidr in ("0.0.0.0/1", "128.0.0.0/1")]
    assert cut(BlockPeer(cidr="0.0.0.0/0"), *halves) == ["0.0.0.0/1", "128.0.0.0/1"]


def test_what_is_the_clusters_is_not_outside() -> None:
    pods = ("10.128.0.0/14",)
    assert cut(BlockPeer(cidr="10.0.0.0/8"), inside=pods) == [
        "0.0.0.0/0 except 10.0.0.0/8",
        "10.0.0.0/8 except 10.128.0.0/14",
    ]
    assert cut(BlockPeer(cidr="10.129.0.0/16"), inside=pods) == ["0.0.0.0/0 except 10.128.0.0/14"]


def test_addresses_nobody_can_connect_to_are_no_range() -> None:
    block = BlockPeer(cidr="0.0.0.0/0", excluded=("127.0.0.0/8", "224.0.0.0/4"))
    assert cut(block) == ["0.0.0.0/0 except 127.0.0.0/8, 224.0.0.0/4"]


def test_link_local_is_a_range_where_a_policy_names_it() -> None:
    found = ranges(["all"], [BlockPeer(cidr="169.254.169.254/32")], (), (), IP4)
    assert ("169.254.169.254/32", "169.254.169.254") in {(r.name, r.address) for r in found}


def test_a_cidr_asks_for_what_is_in_it_alone() -> None:
    asked, named = "198.51.100.0/24", BlockPeer(cidr="198.51.100.128/25")
    assert [r.name for r in ranges([asked], [BlockPeer(cidr=asked), named], (), (), IP4)] == [
        "198.51.100.0/24 except 198.51.100.128/25",
        "198.51.100.128/25",
    ]


def test_both_families_have_ranges_of_their_own() -> None:
    found = ranges(["all"], [BlockPeer(cidr="2001:db8::/32")], (), (), tuple(Family))
    assert [r.name for r in found] == [
        "0.0.0.0/0",
        "::/0 except 2001:db8::/32",
        "2001:db8::/32",
    ]
    assert [Family.of(r.address) for r in found] == [Family.IP4, Family.IP6, Family.IP6]


def test_an_address_of_the_cluster_stands_for_no_range() -> None:
    block = BlockPeer(cidr="192.0.2.0/29")
    taken = [f"192.0.2.{number}" for number in range(1, 7)]
    by_name = {r.name: r.address for r in ranges(["all"], [block], (), taken, IP4)}
    assert by_name["192.0.2.0/29"] not in taken
    single = BlockPeer(cidr="192.0.2.1/32")
    assert "192.0.2.1/32" not in {r.name for r in ranges(["all"], [single], (), taken, IP4)}


def test_a_long_name_counts_what_it_does_not_list() -> None:
    excluded = tuple(f"10.{number}.0.0/16" for number in range(0, 20, 2))
    first = cut(BlockPeer(cidr="0.0.0.0/0", excluded=excluded))[0]
    assert first == "0.0.0.0/0 except 10.0.0.0/16, 10.2.0.0/16, 10.4.0.0/16 and 7 more"


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("seed", range(20))
def test_an_address_is_in_one_range_and_like_its_sample(
    seed: int, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "MOST_NAMED", 1 << 20)
    rng = random.Random(seed)  # noqa: S311 - no secret
    bits, base = (32, 0xC6336400) if family is Family.IP4 else (128, 0x20010DB8 << 96)
    kind = ipaddress.IPv4Address if family is Family.IP4 else ipaddress.IPv6Address

    def network(longest: int) -> str:
        length = rng.randint(bits - 8, longest)
        return f"{kind((base + rng.getrandbits(8)) >> (bits - length) << (bits - length))}/{length}"

    blocks = []
    for _ in range(rng.randint(1, 8)):
        cidr = rng.choice([network(bits - 2), family.everything])
        excluded = {network(bits) for _ in range(rng.randint(0, 3))}
        whole = ipaddress.ip_network(cidr)
        inner = [c for c in sorted(excluded) if ipaddress.ip_network(c)[0] in whole]
        blocks.append(BlockPeer(cidr=cidr, excluded=tuple(inner)))
    inside = [network(bits - 3)]
    found: tuple[Range, ...] = ranges(["all"], blocks, inside, (), (family,))
    seen = [tuple(blocks_of(r.address, blocks)) for r in found]
    assert len(set(seen)) == len(seen)
    assert all(holds(r.name, kind(r.address)) for r in found)
    for offset in range(-2, 258):
        address = kind(base + offset)
        mine = [r for r in found if holds(r.name, address)]
        if address in ipaddress.ip_network(inside[0]):
            assert not mine
        else:
            assert len(mine) == 1
            assert blocks_of(str(address), blocks) == blocks_of(mine[0].address, blocks)


def test_matches_and_address_sets_cut_where_ovn_tells_addresses_apart() -> None:
    zone = Mock(
        switches={"n1": ("10.128.0.0/23",)},
        address_sets={"a": ("198.51.100.0/24", "10.128.0.5")},
        installed_sets={"a": ("203.0.113.9",)},
        acls={"x": (Mock(match="ip4.dst == {192.0.2.7, 192.0.2.128/25} && tcp"),)},
        flows={
            "router": (
                Mock(match="reg7 == 0 && ip4.dst == 172.16.0.0/12 && eth.src == 0a:58:0a:80:00:01"),
                Mock(match="ip4 && ip4.dst == 10.96.0.1 && ip6.dst == fd00:1::/64"),
                Mock(match="ip4.src == {0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4}"),
            )
        },
    )
    cuts, inside = outside.of_zones([zone], {"10.128.0.5"})
    assert cuts == (
        "172.16.0.0/12",
        "192.0.2.128/25",
        "192.0.2.7/32",
        "198.51.100.0/24",
        "203.0.113.9/32",
        "fd00:1::/64",
    )
    assert inside.networks == ("10.128.0.0/23",)
    assert inside.addresses == {"10.96.0.1"}
