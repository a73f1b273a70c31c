"""A pod is a row and a column for each network that it is attached to."""

import dataclasses
import itertools

import numpy as np
import pytest

from audit.errors import ScopeError
from audit.model.endpoints import Endpoint, Port
from audit.model.networks import Role
from audit.model.packets import Family, Protocol
from audit.scope import matrix, scope
from audit.scope.expand import sources_and_destinations
from audit.scope.pair import Names, Networks, resolve
from tests.scope.test_expand import STATE, pod

HTTP = Port(protocol=Protocol.TCP, number=80)


def attached(name: str, network: str, role: Role, address: str) -> Endpoint:
    return dataclasses.replace(pod("shop", name, address), network=network, role=role)


PODS = (
    pod("shop", "plain", "10.128.0.4"),
    attached("a", "shop_blue", Role.PRIMARY, "10.50.0.5"),
    attached("a", "", Role.LOCKED, "10.128.0.5"),
    attached("a", "shop_storage", Role.SECONDARY, "10.80.0.5"),
    attached("b", "shop_blue", Role.PRIMARY, "10.50.0.6"),
    attached("b", "", Role.LOCKED, "10.128.0.6"),
    attached("b", "shop_storage", Role.SECONDARY, "10.80.0.6"),
    attached("c", "cluster_udn_red", Role.PRIMARY, "10.50.0.5"),
    attached("c", "", Role.LOCKED, "10.128.0.7"),
)
CLUSTER = dataclasses.replace(STATE, pods=PODS)


def cells(**flags: list[str]) -> set[tuple[str, str]]:
    """Return the cells of a scope by the keys of their ends."""
    sides = sources_and_destinations(CLUSTER, scope.from_flags(**flags))  # type: ignore[arg-type]
    ports = [(HTTP,)] * len(sides.endpoints)
    built = matrix.build(sides.endpoints, sides.blocks, ports, (Family.IP4,)).matrix
    ends = built.endpoints
    return {
        (ends[src].key.removeprefix("pod shop/"), ends[dst].key.removeprefix("pod shop/"))
        for src, dst in zip(built.src.tolist(), built.dst.tolist(), strict=True)
    }


def test_primary_networks_meet_and_secondary_ones_are_among_themselves() -> None:
    main = {"plain", "a", "a on default", "b", "b on default", "c", "c on default"}
    storage = {"a on shop_storage", "b on shop_storage"}
    assert cells() == {
        (src, dst)
        for src, dst in (*itertools.product(main, main), *itertools.product(storage, storage))
        if src.split()[0] != dst.split()[0]
    }


@pytest.mark.parametrize("name", ["shop_blue", "shop/blue"])
def test_a_network_is_chosen_by_its_own_name_or_by_its_object(name: str) -> None:
    assert cells(networks=[name]) == {("a", "b"), ("b", "a")}


def test_several_networks_meet() -> None:
    assert cells(networks=["shop_blue", "red"]) == {
        (src, dst) for src, dst in itertools.product("abc", "abc") if src != dst
    }


def test_a_network_that_nobody_is_on_is_refused_with_the_nearest() -> None:
    with pytest.raises(ScopeError, match="no pod is on a network 'shop_blu'; did you mean shop_bl"):
        cells(networks=["shop_blu"])


def test_the_endpoints_of_a_pod_stand_together_the_primary_network_first() -> None:
    sides = sources_and_destinations(CLUSTER, scope.from_flags())
    names = [endpoint.key.removeprefix("pod shop/") for endpoint in sides.endpoints]
    assert names[:3] == ["a", "a on default", "a on shop_storage"]
    assert np.array_equal(sides.sources, np.arange(len(PODS)))


@pytest.mark.parametrize(
    ("src", "dst", "networks", "ends"),
    [
        ("a", "b", Networks(), ("a", "b")),
        ("a", "c", Networks(), ("a on default", "c on default")),
        ("a", "plain", Networks(), ("a on default", "plain")),
        ("plain", "a", Networks(), ("plain", "a on default")),
        (
            *("a", "b", Networks(src="shop_storage", dst="shop_storage")),
            ("a on shop_storage", "b on shop_storage"),
        ),
        ("a", "c", Networks(src="shop/blue", dst="red"), ("a", "c")),
    ],
)
def test_a_pair_is_on_the_network_that_it_would_use_or_that_is_named(
    src: str, dst: str, networks: Networks, ends: tuple[str, ...]
) -> None:
    names = Names(
        src_namespace="shop", src=src, dst_namespace="shop", dst=dst, port=HTTP, networks=networks
    )
    (pair,) = resolve(CLUSTER, names)
    assert (pair.src.key, pair.dst.key) == tuple(f"pod shop/{end}" for end in ends)


def test_a_pod_that_is_not_on_a_network_says_which_it_is_on() -> None:
    networks = Networks(src="shop_storage", dst="shop_storage")
    names = Names(
        src_namespace="shop", src="a", dst_namespace="shop", dst="c", port=HTTP, networks=networks
    )
    with pytest.raises(ScopeError, match="is not on network 'shop_storage'; it is on cluster_udn"):
        resolve(CLUSTER, names)
