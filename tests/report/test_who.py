"""Cells are folded to paths: by workload, port and decider; doubt is neither side."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from audit.errors import UsageError
from audit.model.endpoints import Endpoint, EndpointKind, Port
from audit.model.matrix import Cells
from audit.model.networks import Role
from audit.model.packets import Protocol
from audit.model.recorded import CellReader, Recorded
from audit.model.verdicts import CODE, REASON_CODE, Blame, PolicyRef, Reason, Verdict
from audit.report import dot, who
from audit.report.who import Answer, Path
from audit.scope.named import Directory

PORTS = tuple(Port(protocol=Protocol.TCP, number=number) for number in (80, 443))
DENY = Blame(
    action="drop",
    direction="ingress",
    policy=PolicyRef(kind="NetworkPolicy", namespace="shop", name="deny"),
)


def pod(name: str, workload: str) -> Endpoint:
    return Endpoint(
        kind=EndpointKind.POD, namespace="shop", name=name, workload=f"Deployment/{workload}"
    )


A0, A1, B0, B1 = (pod(f"{name}-{n}", name) for name in "ab" for n in (0, 1))
ENDPOINTS = (A0, A1, B0, B1)
REACHABLE = (Verdict.REACHABLE, Reason.DELIVERED, -1)
BLOCKED = (Verdict.BLOCKED, Reason.ACL_DROP, 0)
DIFFER = (Verdict.INCONCLUSIVE, Reason.BACKENDS_DIFFER, 0)
UNTRACED = (Verdict.UNTRACED, Reason.LEG_NOT_SHOWN, -1)
Rows = Sequence[tuple[int, int, int, tuple[Verdict, Reason, int]]]


class Reader:
    """A run's cells in memory, in two parts."""

    blames = (DENY,)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Cells]:
        half = len(self._rows) // 2
        for rows in (self._rows[:half], self._rows[half:]):
            src, dst, port, said = zip(*rows, strict=True) if rows else ((), (), (), ())
            yield Cells(
                src=np.array(src, np.int16),
                dst=np.array(dst, np.int16),
                port=np.array(port, np.int16),
                family=np.zeros(len(rows), np.int8),
                verdict=np.array([CODE[v] for v, _, _ in said], np.uint8),
                reply=np.zeros(len(rows), np.uint8),
                reason=np.array([REASON_CODE[r] for _, r, _ in said], np.uint8),
                drift=np.zeros(len(rows), np.uint8),
                blame=np.array([b for _, _, b in said], np.int32),
            )


def paths(rows: Rows, *, sources: Sequence[int] = (0, 1, 2, 3)) -> tuple[Path, ...]:
    chosen = np.zeros(len(ENDPOINTS), np.bool_)
    chosen[list(sources)] = True
    run = Recorded(
        path="run",
        manifest={},
        endpoints=ENDPOINTS,
        ports=PORTS,
        policies=(),
        cells=cast("CellReader", Reader(rows)),
    )
    return who.fold(run, chosen, np.ones((len(ENDPOINTS), len(PORTS)), np.bool_))


def between(*said: Any) -> Rows:
    """Return the cells of both pods of `a` to both of `b` on the first port, in order."""
    return [
        (s, d, 0, one) for (s, d), one in zip([(0, 2), (0, 3), (1, 2), (1, 3)], said, strict=True)
    ]


@pytest.mark.parametrize(
    ("said", "answer", "because"),
    [
        ((REACHABLE,) * 4, Answer.YES, ()),
        ((BLOCKED,) * 4, Answer.NO, ("networkpolicy shop/deny ingress",)),
        ((UNTRACED,) * 4, Answer.UNPROVEN, None),
        ((REACHABLE, REACHABLE, REACHABLE, BLOCKED), Answer.PARTLY, None),
        ((REACHABLE, REACHABLE, REACHABLE, UNTRACED), Answer.PARTLY, None),
        ((BLOCKED, BLOCKED, BLOCKED, UNTRACED), Answer.UNPROVEN, None),
        ((DIFFER,) * 4, Answer.PARTLY, None),
        ((BLOCKED, BLOCKED, BLOCKED, DIFFER), Answer.PARTLY, None),
        ((REACHABLE, REACHABLE, REACHABLE, DIFFER), Answer.PARTLY, None),
    ],
)
def test_a_path_is_yes_or_no_only_where_all_of_it_is_proven(
    said: Sequence[Any], answer: Answer, because: tuple[str, ...] | None
) -> None:
    (path,) = paths(between(*said))
    assert (path.src, path.dst) == ("deployment shop/a", "deployment shop/b")
    assert (path.answer, path.cells) == (answer, 4)
    assert (path.passes, path.stopped) == (said.count(REACHABLE), said.count(BLOCKED))
    assert (path.partly, path.unproven) == (said.count(DIFFER), said.count(UNTRACED))
    if because is not None:
        assert path.because == because


def test_ports_on_which_all_is_the_same_are_one_path() -> None:
    alike = [(0, 2, 0, BLOCKED), (0, 2, 1, BLOCKED), (0, 3, 0, BLOCKED), (0, 3, 1, BLOCKED)]
    (path,) = paths(alike, sources=(0,))
    assert (path.src, path.ports, path.stopped) == ("pod shop/a-0", ("tcp/80", "tcp/443"), 2)
    apart = [(0, 2, 0, BLOCKED), (0, 2, 1, REACHABLE)]
    assert [(one.ports, one.answer) for one in paths(apart, sources=(0,))] == [
        (("tcp/80",), Answer.NO),
        (("tcp/443",), Answer.YES),
    ]


def test_a_workload_is_named_only_where_all_of_it_is_asked_for() -> None:
    rows = between(*(REACHABLE,) * 4)
    assert [path.src for path in paths(rows)] == ["deployment shop/a"]
    assert [path.src for path in paths(rows, sources=(1, 2))] == ["pod shop/a-1"]


def test_the_text_has_every_answer_and_counts_paths() -> None:
    text = who.text(paths(between(REACHABLE, BLOCKED, UNTRACED, REACHABLE)), wide=True)
    assert "can reach in part:" in text
    assert "of 4 cells 2 pass, 1 stopped, 1 not proven" in text
    assert text.endswith("paths: 1 can reach in part\n")
    # What is too wide for a table goes on below, with the same words.
    few = paths(between(REACHABLE, BLOCKED, UNTRACED, REACHABLE))
    folded = who.text(few)
    assert max(map(len, folded.splitlines())) <= who.WIDEST < max(map(len, text.splitlines()))
    assert folded.split() == text.split()
    # Where the ends leave no room for that, each row is a paragraph.
    wider = who.text([replace(path, src=f"deployment shop/{'a' * 60}") for path in few])
    assert max(map(len, wider.splitlines())) <= 80
    assert {*text.replace(";", "").split()} - {"tcp/80", "shop/a"} <= {
        *wider.replace(";", "").split()
    }
    text = who.text(paths(between(BLOCKED, BLOCKED, UNTRACED, BLOCKED)), wide=True)
    assert "in part" not in text, "nothing is proven to pass"
    assert "of 4 cells 3 stopped, 1 not proven" in text


STOPPED = Path(
    src="pod shop/web",
    dst="pod shop/web",
    ports=("tcp/80",),
    passes=0,
    stopped=1,
    partly=0,
    unproven=0,
    because=("networkpolicy shop/deny ingress",),
)


def test_pods_that_no_one_of_them_reaches_share_a_line() -> None:
    names = [f"pod shop/{name}" for name in "abc"]
    among = [replace(STOPPED, src=src, dst=dst) for src in names for dst in names if src != dst]
    assert who.text(among).splitlines() == [
        "cannot reach:",
        "  pod shop/a, b, c  to each other  tcp/80  networkpolicy shop/deny ingress",
        "paths: 6 cannot reach",
    ]
    assert "pod shop/a, b  to pod other/d  tcp/80" in who.text(
        [replace(STOPPED, src=name, dst="pod other/d") for name in names[:2]]
    )


def test_a_graph_has_an_edge_for_each_path_whatever_its_ends_are_called() -> None:
    path = replace(STOPPED, src='external 2001:db8::/32 "\\n')
    drawn = dot.text([path, replace(path, ports=("tcp/81",))])
    assert drawn.count("->") == 2
    assert drawn.count("[label=") == 4, "two nodes, two edges"
    assert '"external 2001:db8::/32 \\"\\\\n"' in drawn


def test_graphviz_draws_the_graph_and_names_stay_text(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = 'pod shop/<script>"&]]></svg>'
    drawn = dot.svg([replace(STOPPED, src=hostile)])
    (title,) = [e for e in ET.fromstring(drawn).iter() if e.text == hostile]  # noqa: S314 - our own
    assert title.tag.endswith("}text")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="-o svg is drawn by Graphviz, which is not here"):
        dot.svg([STOPPED])


NAMED = (
    *ENDPOINTS,
    Endpoint(kind=EndpointKind.POD, namespace="shop", name="bare", workload="Pod/bare"),
    Endpoint(kind=EndpointKind.POD, namespace="shop", name="vm-x", workload="VirtualMachine/vm"),
    Endpoint(kind=EndpointKind.POD, namespace="shop", name="night-1", workload="CronJob/night"),
    replace(A0, network="blue", role=Role.SECONDARY),
    Endpoint(kind=EndpointKind.NODE, name="worker", addresses=("172.18.0.2",)),
    Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.7", addresses=("198.51.100.7",)),
    Endpoint(kind=EndpointKind.EXTERNAL, name="198.51.100.9", node="worker"),
    Endpoint(kind=EndpointKind.INGRESS, namespace="shop", name="route/shop/web"),
)


@pytest.mark.parametrize("end", sorted({endpoint.belongs_to for endpoint in NAMED}))
def test_a_word_for_an_end_means_it(end: str) -> None:
    chosen = Directory(NAMED, sending=True).find(who.word(end)).tolist()
    assert [NAMED[index].belongs_to for index in chosen] == [end] * len(chosen)
    assert len(chosen) == sum(endpoint.belongs_to == end for endpoint in NAMED)
    assert "\n" not in who.word(end)


def test_words_have_kubectls_short_kinds() -> None:
    assert who.word(A0.belongs_to) == "shop/deploy/a"
    assert who.word("pod prod/prod-client-0") == "prod/pod/prod-client-0"
    assert who.word("node worker") == "node/worker"
