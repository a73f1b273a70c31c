"""Pairing, port ranges that are cut differently, and folding: against a cell-by-cell comparison."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.compare import diff, pairing
from audit.compare.ports import overlaps
from audit.model.changes import UNMATCHED, Changes
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import Cells
from audit.model.packets import Protocol
from audit.model.recorded import Recorded
from audit.model.verdicts import CODE, NO_VERDICT, Blame, Verdict
from audit.report import changes

REACHABLE, BLOCKED = CODE[Verdict.REACHABLE], CODE[Verdict.BLOCKED]


def pod(name: str, workload: str = "", *, node: str = "a", **labels: str) -> Endpoint:
    return Endpoint(
        kind=EndpointKind.POD,
        namespace="shop",
        name=name,
        node=node,
        workload=workload or f"Pod/{name}",
        labels=tuple(sorted(labels.items())),
    )


def port(first: int, last: int = 0) -> Port:
    return Port(protocol=Protocol.TCP, number=first, last=last)


class Reader:
    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self.blames: tuple[Blame, ...] = ()

    def of_source(self, source: int) -> Cells:
        first, last = np.searchsorted(self._cells.src, [source, source + 1]).tolist()
        return self._cells.take(slice(first, last))

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[Cells]:
        yield self._cells


def run(
    endpoints: tuple[Endpoint, ...],
    ports: tuple[Port, ...],
    verdicts: Mapping[tuple[int, int, int], int],
    replies: Mapping[tuple[int, int, int], int] = MappingProxyType({}),
    **manifest: Any,
) -> Recorded:
    """Return a run with these cells, (source, destination, port) each."""
    keys = np.array(sorted(verdicts), np.int32).reshape(-1, 3)
    codes = np.array([verdicts[key] for key in sorted(verdicts)], np.uint8)
    none = np.zeros(len(codes), np.int8)
    cells = Cells(
        src=keys[:, 0],
        dst=keys[:, 1],
        family=none,
        port=keys[:, 2],
        verdict=codes,
        reply=np.array([replies.get(k, verdicts[k]) for k in sorted(verdicts)], np.uint8),
        reason=none.astype(np.uint8),
        drift=none.astype(np.uint8),
        blame=np.full(len(codes), -1, np.int32),
    )
    return Recorded(
        path="run",
        manifest={"counts": {"cells": len(codes)}, **manifest},
        endpoints=endpoints,
        ports=ports,
        policies=(),
        cells=Reader(cells),
    )


def compared(before: Recorded, after: Recorded) -> Changes:
    return diff.compare(before, after, lambda _: None)


def test_a_roll_out_is_no_change() -> None:
    old = (pod("web-1", "Deployment/web"), pod("web-2", "Deployment/web"), pod("x"))
    new = (
        pod("web-8", "Deployment/web", node="b"),
        pod("web-9", "Deployment/web"),
        pod("web-99", "Deployment/web"),
        pod("x", node="b"),
    )
    before = run(old, (port(80),), {(0, 2, 0): BLOCKED, (1, 2, 0): BLOCKED})
    same = {(0, 3, 0): BLOCKED, (1, 3, 0): BLOCKED, (2, 3, 0): BLOCKED}
    found = compared(before, run(new, (port(80),), same))
    assert (found.compared, found.paths, found.appeared, found.vanished) == (3, (), (), ())
    changed = compared(before, run(new, (port(80),), {**same, (2, 3, 0): REACHABLE}))
    (path,) = changed.paths
    assert (path.src, path.dst, path.cells) == ("deployment shop/web", "pod shop/x", 1)
    assert (path.before, path.after) == (Verdict.BLOCKED, Verdict.REACHABLE)


def test_a_change_of_the_reply_alone_is_a_change_of_its_own_kind() -> None:
    ends, ports = (pod("a"), pod("b")), (port(80), port(81), port(82), port(83))
    cells = {(0, 1, number): REACHABLE for number in range(4)}
    before = run(ends, ports, {**cells, (0, 1, 3): BLOCKED})
    other = {(0, 1, 0): BLOCKED, (0, 1, 1): NO_VERDICT, (0, 1, 3): BLOCKED}
    after, marks = run(ends, ports, cells, other), np.zeros(4, np.uint8)
    found = diff.compare(before, after, lambda _: None, marks)
    assert found.counts == {"opened": 1, "closed": 0, "replies": 1, "otherwise": 0}
    # One more than the verdict before; of tcp/81's reply one run knows nothing.
    assert marks.tolist() == [REACHABLE + 1, 0, 0, BLOCKED + 1]
    (reply,), (opened,) = found.replies, found.opened
    assert (reply.ports, reply.before, reply.after) == (("tcp/80",), *2 * (Verdict.REACHABLE,))
    assert reply.reply == (Verdict.REACHABLE, Verdict.BLOCKED)
    assert (opened.ports, opened.reply) == (("tcp/83",), None)  # its reply changed with it
    assert "after    reachable, reply blocked" in changes.plain(found)
    assert "#### Replies changed" in changes.markdown(found)
    assert "| reachable, reply reachable | reachable, reply blocked |" in changes.markdown(found)
    said = "4 cells compared: 1 cell opened, 0 cells closed, 1 cell with another reply."
    assert changes.sentences(found)[0] == said


def beyond(name: str) -> Endpoint:
    return Endpoint(kind=EndpointKind.EXTERNAL, name=name, addresses=("192.0.2.1",))


def test_ranges_outside_are_compared_where_they_overlap() -> None:
    ports = (port(443),)
    spans = {
        "earlier": {
            "10.0.0.0/8": [["10.0.0.0", "10.255.255.255"]],
            "0.0.0.0/0 except 10.0.0.0/8": [
                ["1.0.0.0", "9.255.255.255"],
                ["11.0.0.0", "255.255.255.255"],
            ],
        },
        "later": {
            "10.0.0.0/9": [["10.0.0.0", "10.127.255.255"]],
            "0.0.0.0/0 except 10.0.0.0/9": [
                ["1.0.0.0", "9.255.255.255"],
                ["10.128.0.0", "255.255.255.255"],
            ],
        },
    }
    runs = []
    for known in spans.values():
        ends = (pod("web"), *map(beyond, known))
        cells = {(0, 1, 0): REACHABLE, (0, 2, 0): BLOCKED}
        runs.append(replace(run(ends, ports, cells), manifest={"outside": known}))
    marks = np.zeros(2, np.uint8)
    found = diff.compare(runs[0], runs[1], lambda _: None, marks)
    (path,) = found.paths
    assert path.dst == "external 0.0.0.0/0 except 10.0.0.0/9, within 10.0.0.0/8"
    assert (path.before, path.after, path.cells) == (Verdict.REACHABLE, Verdict.BLOCKED, 1)
    assert (found.compared, found.unmatched, marks.tolist()) == (2, 0, [0, REACHABLE + 1])
    assert (found.appeared, found.vanished) == ((), ())


def test_a_range_and_an_address_in_it_are_compared() -> None:
    ends = (pod("web"), beyond("192.0.2.1"))
    before = run(ends, (port(443),), {(0, 1, 0): BLOCKED})
    later = (pod("web"), beyond("192.0.2.0/24"))
    after = replace(
        run(later, (port(443),), {(0, 1, 0): REACHABLE}),
        manifest={"outside": {"192.0.2.0/24": [["192.0.2.0", "192.0.2.255"]]}},
    )
    (path,) = compared(before, after).paths
    assert (path.dst, path.after) == ("external 192.0.2.1", Verdict.REACHABLE)


def test_bare_pods_stand_in_for_those_with_the_same_labels_only() -> None:
    found = pairing.pair((pod("db-1", app="db"), pod("y")), (pod("db-4", app="db"), pod("z")))
    assert found.before.tolist() == [0, -1]
    assert (found.appeared, found.vanished) == (("pod shop/z",), ("pod shop/y",))


def test_ranges_are_compared_where_they_overlap() -> None:
    ends = (pod("a"), pod("b"))
    before = run(ends, (port(0, 99), port(100, 65535)), {(0, 1, 0): BLOCKED, (0, 1, 1): REACHABLE})
    after = run(ends, (port(0, 49), port(50, 65535)), {(0, 1, 0): BLOCKED, (0, 1, 1): REACHABLE})
    found = compared(before, after)
    (path,) = found.paths
    assert (path.ports, path.before, path.after) == (
        ("tcp/50-99",),
        Verdict.BLOCKED,
        Verdict.REACHABLE,
    )
    assert (found.compared, found.unmatched) == (2, 0)


@given(st.sets(st.integers(1, 200), max_size=8), st.sets(st.integers(1, 200), max_size=8))
def test_overlaps_partition_what_both_have(left: set[int], right: set[int]) -> None:
    sides = []
    for cuts in (left, right):
        edges = [0, *sorted(cuts), 201]
        sides.append([port(a, b - 1) for a, b in itertools.pairwise(edges)])
    found = overlaps(*sides)
    numbers = [n for one in found.common for n in range(one.number, one.sample + 1)]
    assert sorted(numbers) == list(range(201))


@given(st.data())
def test_what_changed_is_what_a_loop_over_the_cells_finds(data: st.DataObject) -> None:
    names = ("a", "b", "c", "d")
    runs, dicts = [], []
    for _ in range(2):
        chosen = tuple(sorted(data.draw(st.sets(st.sampled_from(names), min_size=1))))
        size = len(chosen)
        cells = data.draw(
            st.dictionaries(
                st.tuples(*(st.integers(0, top) for top in (size - 1, size - 1, 1))),
                st.integers(0, 5),
            )
        )
        runs.append(run(tuple(pod(name) for name in chosen), (port(80), port(443)), cells))
        dicts.append({(chosen[s], chosen[d], p): v for (s, d, p), v in cells.items()})
    marks = np.zeros(len(dicts[1]), np.uint8)
    found = diff.compare(runs[0], runs[1], lambda _: None, marks)
    common = dicts[0].keys() & dicts[1].keys()
    ordered = sorted(dicts[1])  # as the run has its cells: names and ports are in order
    assert marks.tolist() == [
        UNMATCHED
        if key not in common
        else dicts[0][key] + 1
        if dicts[0][key] != dicts[1][key]
        else 0
        for key in ordered
    ]
    assert found.compared == len(common)
    assert found.unmatched == len(dicts[1].keys() - common)
    assert found.unmatched_before == len(dicts[0].keys() - common)
    known = sum(max(dicts[0][key], dicts[1][key]) < CODE[Verdict.INCONCLUSIVE] for key in common)
    assert found.proven == known
    assert bool(found.limits) == (not known)
    expected = {
        (f"pod shop/{s}", f"pod shop/{d}", str((port(80), port(443))[p]))
        for s, d, p in common
        if dicts[0][s, d, p] != dicts[1][s, d, p]
    }
    assert {(q.src, q.dst, name) for q in found.paths for name in q.ports} == expected
    assert sum(path.cells for path in found.paths) == len(expected)
