"""A cell on the terminal: everything the run knows of it, in order, and nothing obeyed."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from audit.model.endpoints import EndpointKind
from audit.model.packets import Family
from audit.model.run import Run
from audit.model.verdicts import CODE, NO_VERDICT, Blame, PolicyRef, Reason, Verdict
from audit.report.explain import alike, explain
from audit.report.printing import COLUMNS
from tests.report.named import find_cell

if TYPE_CHECKING:
    from tests.report.conftest import Made


@pytest.fixture
def run(made: "Made") -> Run:
    return made.shop(1)


def told(run: Run, src: str, dst: str, port: str = "tcp/80") -> str:
    return explain(run, find_cell(run, src, dst, port, None))


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_blocked_cell_names_who_decided_and_everyone_who_shares_it(run: Run) -> None:
    text = told(run, "shop/front-0", "payments/api-0")
    said = words(text)
    assert "pod shop/front-0 cannot reach pod payments/api-0 on tcp/80: blocked by" in said
    assert "Verdict blocked (default-deny)" in said
    assert "Decided networkpolicy payments/api-from-shop ingress" in said
    assert "match outport == @a9921774 && ip" in said
    shared = text.split("Policies that share this decision", 1)[1].split("Request", 1)[0]
    assert "networkpolicy payments/api-from-shop" in shared
    assert "networkpolicy payments/same-namespace" in shared
    assert "There is no reply to trace." in said


def test_cells_of_which_the_same_is_true_are_named(run: Run) -> None:
    first = run.matrix.describe(1)
    assert words(alike(run, [1])) == f"The same is true of 1 more cell: {first}."
    several = words(alike(run, [1, 2, 3, 4, 5]))
    assert several.startswith(f"The same is true of 5 more cells: {first}; ")
    assert several.endswith(" and 2 more.")


def test_each_hop_says_what_it_did_and_which_acl_matched(made: "Made") -> None:
    first = made.trace("a", outcome="continues", next_keys=("b",), microflow="the packet")
    last = made.trace(
        "b",
        zone="worker-b",
        outcome="blocked",
        reason="acl-drop",
        stage="ls_out_acl_action",
        logical_flow="f1",
        acl="ac1",
        acl_match="outport == @pg && tcp",
        detail="and so on",
    )
    run = one_cell(made, {"a": first, "b": last}, Verdict.BLOCKED, Reason.ACL_DROP)
    said = words(explain(run, 0))
    assert "1. zone worker-a: continues microflow the packet" in said
    assert (
        "2. zone worker-b: blocked (acl-drop) at ls_out_acl_action ACL ac1 "
        "match outport == @pg && tcp logical flow f1 and so on"
    ) in said


def one_cell(made: "Made", records: dict[str, object], verdict: Verdict, reason: Reason) -> Run:
    """Return a run of one cell whose trace is `a`."""
    ends = [made.pod("shop", "a"), made.pod("shop", "b")]
    reply = CODE[Verdict.REACHABLE] if verdict is Verdict.REACHABLE else NO_VERDICT
    run = made.assemble(
        ends,
        [made.shop(1).matrix.ports[0]],
        lambda src, *_: (verdict, reason, reply, -1) if src is ends[0] else None,
        families=(Family.IP4,),
    )
    verdicts = type(run.verdicts)(
        **{
            name: getattr(run.verdicts, name)
            for name in type(run.verdicts).__slots__
            if name != "trace_keys"
        },
        trace_keys=("a",),
    )
    fields = {name: getattr(run, name) for name in type(run).__slots__}
    return type(run)(**{**fields, "verdicts": verdicts, "traces": made.traces(records)})  # type: ignore[arg-type]


def test_the_replies_of_all_backends_are_shown(made: "Made") -> None:
    records = {
        "a": made.trace("a", outcome="continues", next_keys=("b", "c")),
        "b": made.trace("b", outcome="reachable"),
        "c": made.trace("c", outcome="reachable"),
        "rb": made.trace("rb", reply_of=("b", "another cell's"), detail="from b"),
        "rc": made.trace("rc", reply_of=("c",), detail="from c"),
    }
    run = one_cell(made, dict(records), Verdict.REACHABLE, Reason.ALL_BACKENDS)
    reply = explain(run, 0).split("Reply, hop by hop", 1)[1]
    assert "from b" in reply
    assert "from c" in reply


def test_of_a_service_it_is_counted_how_many_of_its_endpoints_can_be_reached(made: "Made") -> None:
    def packet(dst: str) -> str:
        return f'inport=="shop_a" && ip4.src==10.0.0.1 && ip4.dst=={dst} && tcp.dst==80'

    onward: dict[str, Any] = {"outcome": "continues", "reason": "all-backends-reachable"}
    records = {
        "a": made.trace("a", **onward, microflow=packet("10.96.0.9"), next_keys=("b", "c", "d")),
        "b": made.trace("b", reason="delivered", microflow=packet("10.0.0.2")),
        "c": made.trace("c", outcome="continues", microflow=packet("10.0.0.3"), next_keys=("e",)),
        "d": made.trace(
            "d", outcome="inconclusive", reason="hairpin-not-drawn", microflow=packet("10.96.0.9")
        ),
        "e": made.trace("e", outcome="blocked", reason="acl-drop", microflow=packet("10.0.0.3")),
    }
    run = one_cell(made, dict(records), Verdict.INCONCLUSIVE, Reason.BACKENDS_DIFFER)
    ends = tuple(replace(end, kind=EndpointKind.SERVICE) for end in run.matrix.endpoints)
    text = explain(replace(run, matrix=replace(run.matrix, endpoints=ends)), 0)
    assert (
        "Backends 1 of 3 can be reached, 1 may or may not\n"
        "         the sender itself inconclusive (hairpin-not-drawn)\n"
        "         10.0.0.2:80 reachable (delivered)\n"
        "         10.0.0.3:80 blocked (acl-drop)\n"
    ) in text
    assert "Backends" not in explain(run, 0)


def test_what_policies_see_of_a_service_is_apart_from_who_shares_the_decision(
    made: "Made",
) -> None:
    packet = 'inport=="shop_a" && ip4.src==10.0.0.1 && ip4.dst==10.96.0.9 && tcp.dst==80'
    record = made.trace("a", outcome="blocked", reason="default-deny", microflow=packet)
    run = one_cell(made, {"a": record}, Verdict.BLOCKED, Reason.DEFAULT_DENY)
    ends = tuple(replace(end, kind=EndpointKind.SERVICE) for end in run.matrix.endpoints)
    refs = tuple(PolicyRef(kind="NetworkPolicy", namespace="shop", name=name) for name in "ab")
    shared = Blame(action="drop", direction="egress", policy=refs[0], policies=refs)
    verdicts = replace(run.verdicts, blames=(shared,), blame=np.zeros(1, np.int32))
    text = explain(replace(run, matrix=replace(run.matrix, endpoints=ends), verdicts=verdicts), 0)
    assert "  networkpolicy shop/b\n\nBackends OVN balances the load before it looks" in text


def test_lines_are_folded_but_what_is_copied_is_not(run: Run) -> None:
    for cell in range(len(run.matrix)):
        for line in explain(run, cell).splitlines():
            assert len(line) <= COLUMNS or " " not in line.strip()


def test_a_cell_without_a_trace(run: Run) -> None:
    text = told(run, "shop/front-0", "monitoring/grafana-0")
    assert "Verdict  untraced (user-defined-network)" in text
    assert "Request" not in text


def test_names_are_printed_and_not_obeyed(made: "Made") -> None:
    evil = "web\x1b[2J\x07\u202eevil\r"
    run = made.assemble(
        [made.pod("shop", evil), made.pod("shop", "b")],
        [made.shop(1).matrix.ports[0]],
        made.pods_only,
    )
    for cell in range(len(run.matrix)):
        text = explain(run, cell)
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "web�[2J" in text


def test_whatever_a_cell_is_it_can_be_explained(made: "Made") -> None:
    for seed in range(5):
        run = made.random(seed, pods=4)
        for cell in range(len(run.matrix)):
            assert explain(run, cell).endswith("\n")
