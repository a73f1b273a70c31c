"""The matrix is every cell of the scope, once, in order."""

import itertools
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ScopeError
from audit.model.endpoints import Attachment, Endpoint, EndpointKind, Port
from audit.model.matrix import FAMILIES, Matrix, index_type
from audit.model.packets import Family, Protocol
from audit.scope import matrix
from audit.scope.matrix import Block, Built, Path, build

Cell = tuple[int, int, Family, Port]

FOUR, SIX = "10.128.0.7", "fd01::7"
PORTS = tuple(
    Port(protocol=protocol, number=number)
    for protocol in (Protocol.TCP, Protocol.UDP)
    for number in (53, 80)
)

addresses = st.sampled_from([(), (FOUR,), (SIX,), (FOUR, SIX)])
endpoints_in = st.lists(
    st.tuples(addresses, st.none() | addresses, st.booleans()), min_size=1, max_size=6
)
indices = st.lists(st.integers(0, 5), max_size=6)
blocks_in = st.lists(st.tuples(indices, indices), min_size=1, max_size=3)
ports_in = st.lists(
    st.lists(st.sampled_from(PORTS), unique=True).map(lambda own: tuple(sorted(own))),
    min_size=6,
    max_size=6,
)
families_in = st.sampled_from([(Family.IP4,), (Family.IP6,), (Family.IP4, Family.IP6)])


def endpoint(
    name: str,
    receives: tuple[str, ...] = (FOUR,),
    sends: tuple[str, ...] | None = None,
    *,
    obstacle: str = "",
) -> Endpoint:
    attachment = sends and Attachment(
        zone="z", switch="n1", port=name, mac="0a:58", gateway_mac="0a:58", addresses=sends
    )
    return Endpoint(
        kind=EndpointKind.POD,
        namespace="shop",
        name=name,
        addresses=receives,
        attachment=attachment or None,
        obstacle=obstacle,
    )


def block(sources: Iterable[int], destinations: Iterable[int]) -> Block:
    return Block(
        sources=np.array(sorted(set(sources)), np.int32),
        destinations=np.array(sorted(set(destinations)), np.int32),
    )


def cells(built: Matrix) -> list[Cell]:
    columns = (built.src, built.dst, built.family, built.port)
    return [
        (src, dst, FAMILIES[family], built.ports[port])
        for src, dst, family, port in zip(*(column.tolist() for column in columns), strict=True)
    ]


def sent_in(one: Endpoint) -> set[Family]:
    sends = one.attachment.addresses if one.attachment else one.addresses
    return {Family.of(a) for a in sends} or (set(Family) if one.obstacle else set())


def received_in(one: Endpoint) -> set[Family]:
    return {Family.of(a) for a in one.addresses} or (set(Family) if one.obstacle else set())


def expected_cells(
    endpoints: Sequence[Endpoint],
    pairs: set[tuple[int, int]],
    ports: Sequence[tuple[Port, ...]],
    families: tuple[Family, ...],
) -> set[Cell]:
    return {
        (src, dst, family, port)
        for src, dst in pairs
        for family in families
        if family in sent_in(endpoints[src]) & received_in(endpoints[dst])
        for port in ports[dst]
    }


@given(endpoints_in, blocks_in, ports_in, families_in)
def test_the_matrix_is_what_its_definition_says_cell_by_cell(
    described: list[tuple[tuple[str, ...], tuple[str, ...] | None, bool]],
    lists: list[tuple[list[int], list[int]]],
    all_ports: list[tuple[Port, ...]],
    families: tuple[Family, ...],
) -> None:
    endpoints = [
        endpoint(f"p{n}", receives, sends, obstacle="no-address" if blocked else "")
        for n, (receives, sends, blocked) in enumerate(described)
    ]
    size = len(endpoints)
    ports = all_ports[:size]
    blocks = [block([s % size for s in a], [d % size for d in b]) for a, b in lists]
    pairs = {
        (int(src), int(dst))
        for one in blocks
        for src, dst in itertools.product(one.sources, one.destinations)
        if src != dst
    }
    expected = expected_cells(endpoints, pairs, ports, families)
    try:
        built = build(endpoints, blocks, ports, families)
    except ScopeError:
        assert not expected
        return
    found = cells(built.matrix)
    assert set(found) == expected
    assert len(found) == len(set(found)) == len(built.matrix)
    keys = [(src, dst, FAMILIES.index(family), port) for src, dst, family, port in found]
    assert keys == sorted(keys)
    with_cells = {(src, dst) for src, dst, _, _ in found}
    assert built.pairs_without_family == len({p for p in pairs - with_cells if ports[p[1]]})
    columns = {int(dst) for one in blocks for dst in one.destinations}
    assert built.without_ports == tuple(sorted(dst for dst in columns if not ports[dst]))


def test_paths_are_rows_beside_the_blocks_with_ports_of_their_own() -> None:
    ends = [endpoint("p0"), endpoint("p1", (FOUR, SIX)), endpoint("r1", obstacle="no-address")]
    ends = [ends[0], ends[1], replace(ends[2], addresses=()), replace(ends[2], addresses=())]
    web, other = PORTS[0], Port(protocol=Protocol.TCP, number=8080)
    paths = [
        Path(source=3, destination=1, ports=(other, web)),
        Path(source=2, destination=0, ports=(other,)),
        Path(source=3, destination=0, ports=(web,)),
    ]
    built = build(ends, [block([0, 1], [0, 1])], [(web,)] * 4, tuple(Family), paths)
    assert cells(built.matrix) == [
        *((0, 1, Family.IP4, web), (1, 0, Family.IP4, web)),
        (2, 0, Family.IP4, other),
        (3, 0, Family.IP4, web),
        *((3, 1, family, port) for family in Family for port in (web, other)),
    ]
    assert built.matrix.ports == (web, other)


def square(size: int, ports: tuple[Port, ...] = PORTS[:1]) -> Built[Matrix]:
    endpoints = [endpoint(f"p{n}") for n in range(size)]
    everyone = block(range(size), range(size))
    return build(endpoints, [everyone], [ports] * size, [Family.IP4])


def test_a_thousand_pods_and_three_ports_take_the_memory_of_their_cells_and_little_more() -> None:
    tracemalloc.start()
    built = square(1000, PORTS[:3])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = 1000 * 999 * 3
    columns = (built.matrix.src, built.matrix.dst, built.matrix.family, built.matrix.port)
    assert [column.shape for column in columns] == [(size,)] * 4
    assert [column.dtype for column in columns] == [np.int16, np.int16, np.int8, np.int16]
    assert peak < 7 * size + 5_000_000


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, np.int16), (32_767, np.int16), (32_768, np.int32), (65_535, np.int32)],
)
def test_indices_are_wide_enough_for_their_table(count: int, expected: type) -> None:
    assert index_type(count) is expected
    assert np.iinfo(expected).max >= count  # the last index, and one past it


def test_no_endpoint_is_paired_with_itself() -> None:
    found = cells(square(3).matrix)
    assert {(src, dst) for src, dst, _, _ in found} == {
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
    }


def test_an_external_address_is_not_paired_with_itself_by_any_gateway() -> None:
    outside = [
        Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.7", node=node, addresses=(FOUR,))
        for node in ("", "n1", "n2")
    ]
    endpoints = [*outside, endpoint("web")]
    built = build(endpoints, [block([1, 2], [0, 3])], [PORTS[:1]] * 4, [Family.IP4])
    assert [(src, dst) for src, dst, _, _ in cells(built.matrix)] == [(1, 3), (2, 3)]


def test_an_attached_source_sends_with_the_addresses_it_has_in_ovn() -> None:
    endpoints = [endpoint("dual", (FOUR, SIX), (SIX,)), endpoint("other", (FOUR, SIX))]
    built = build(endpoints, [block([0, 1], [0, 1])], [PORTS[:1]] * 2, FAMILIES)
    assert [(src, dst, family) for src, dst, family, _ in cells(built.matrix)] == [
        (0, 1, Family.IP6),
        (1, 0, Family.IP4),
        (1, 0, Family.IP6),
    ]


def test_an_obstructed_endpoint_without_address_keeps_its_cells() -> None:
    endpoints = [endpoint("web"), endpoint("headless", (), obstacle="service-without-endpoints")]
    built = build(endpoints, [block([0], [1])], [PORTS[:1]] * 2, FAMILIES)
    assert [family for _, _, family, _ in cells(built.matrix)] == [Family.IP4]
    assert not built.notes()


def test_what_is_left_out_is_told_in_notes() -> None:
    endpoints = [endpoint("four"), endpoint("six", (SIX,)), endpoint("bare")]
    ports = [PORTS[:1], PORTS[:1], ()]
    built = build(endpoints, [block([0, 1, 2], [0, 1, 2])], ports, FAMILIES)
    # bare reaches four; four and bare share no family with six, in either direction but to bare.
    assert [(src, dst) for src, dst, _, _ in cells(built.matrix)] == [(2, 0)]
    assert built.pairs_without_family == 3
    notes = {note.code: note for note in built.notes()}
    assert notes["destinations-without-ports"].subjects == ("pod shop/bare",)
    assert notes["pairs-without-common-family"].text.startswith("3 pairs of endpoints")


@pytest.mark.parametrize(
    ("endpoints", "ports", "message"),
    [
        ([endpoint("a"), endpoint("b")], [(), ()], "declares a port; say which"),
        ([endpoint("a"), endpoint("b", (SIX,))], [PORTS, PORTS], "share an ip4 address; see"),
        ([endpoint("a")], [PORTS], "this scope is one endpoint"),
    ],
)
def test_a_scope_without_a_cell_is_refused_and_told_why(
    endpoints: list[Endpoint], ports: list[tuple[Port, ...]], message: str
) -> None:
    everyone = block(range(len(endpoints)), range(len(endpoints)))
    with pytest.raises(ScopeError, match=message):
        build(endpoints, [everyone], ports, [Family.IP4])


def test_a_scope_too_large_for_memory_is_refused_before_any_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrix, "MAX_CELLS", 99)
    with pytest.raises(ScopeError, match="this scope has 100 cells, more than 99; narrow it"):
        square(10)
    assert len(square(9).matrix) == 72


def test_cells_that_are_not_laid_out_may_be_more(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = [endpoint(f"p{n}") for n in range(10)]
    everyone = block(range(10), range(10))
    asked = (endpoints, [everyone], [PORTS[:1]] * 10, [Family.IP4])
    monkeypatch.setattr(matrix, "MAX_CELLS", 99)
    assert len(matrix.outline(*asked).matrix) == 90
    monkeypatch.setattr(matrix, "MAX_OUTLINED", 99)
    with pytest.raises(ScopeError, match="this scope has 100 cells, more than 99; narrow it"):
        matrix.outline(*asked)
