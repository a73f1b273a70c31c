"""What the page says adds up, whatever the run."""

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.model.run import Run
from audit.model.verdicts import CODE, UNPROVEN, VERDICTS, Verdict
from audit.report.axes import axes
from audit.report.census import blockers, census
from audit.report.tally import NO_SHARE, Tally
from audit.report.view import Summary, summary

if TYPE_CHECKING:
    from tests.report.conftest import Made


def look(run: Run) -> Summary:
    page = axes(run.matrix)
    return summary(
        run, page, census(run.matrix, run.verdicts, page), blockers(run.matrix, run.verdicts, page)
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_everything_adds_up(made: "Made", seed: int) -> None:
    run = made.random(seed)
    page = axes(run.matrix)
    counted = census(run.matrix, run.verdicts, page)
    blocking = blockers(run.matrix, run.verdicts, page)
    seen = summary(run, page, counted, blocking)
    tally = Tally.of_codes(run.verdicts.verdict)
    assert counted.total() == tally
    assert int(counted.pairs(len(page.groups)).sum()) == len(run.matrix)
    assert sum(counter.count for counter in seen.counters) == seen.cells == len(run.matrix)
    assert sum(counter.count for counter in seen.counters if counter.share) == tally.proven
    assert tally.proven + seen.unproven == seen.cells
    assert sum(blocker.cells for blocker in blocking) == tally.of(Verdict.BLOCKED)
    for blocker in blocking:
        assert sum(cells for _, _, cells in blocker.pairs) == blocker.cells


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_census_is_what_counting_one_by_one_finds(made: "Made", seed: int) -> None:
    run = made.random(seed)
    page = axes(run.matrix)
    pairs = census(run.matrix, run.verdicts, page).pairs(len(page.groups))
    expected = np.zeros_like(pairs)
    for cell in range(len(run.matrix)):
        ends = [run.matrix.endpoints[int(e[cell])] for e in (run.matrix.src, run.matrix.dst)]
        source, target = (page.groups.index(end.namespace) for end in ends)
        expected[source, target, run.verdicts.verdict[cell]] += 1
    assert (pairs == expected).all()


def test_the_summary_of_a_shop(made: "Made") -> None:
    seen = look(made.shop())
    assert seen.coverage == "3,047 cells decided by 8,274 traces; 151 unproven."
    assert "networkpolicy payments/api-from-shop: 540 cells" in seen.headline
    assert [row.label for row in seen.blockers[:2]] == [
        "networkpolicy payments/api-from-shop",
        "networkpolicy default/deny-by-default",
    ]
    assert seen.blockers[-1].shared == "540"
    assert dict(seen.facts)["Engine"] == "ovn-trace 25.03.1"
    assert dict(seen.facts)["Databases"] == "2 zones, northd 25.03.1-20.41.0-78.8"
    assert dict(seen.facts)["Time"] == "2026-02-14 02:15:00 to 02:15:41 UTC"
    assert seen.notes[0].subjects == ("pod monitoring/grafana-0",)
    assert seen.table_head[-2:] == ("(nodes)", "(external)")
    for counter, verdict in zip(seen.counters, VERDICTS, strict=True):
        assert counter.verdict == verdict
        assert bool(counter.share) == (verdict not in UNPROVEN)


def test_verified_cells_are_said(made: "Made") -> None:
    run = made.assemble(
        made.shop(1).matrix.endpoints,
        made.shop(1).matrix.ports,
        made.shop_decides,
        blames=made.blames,
        manifest={"verify": {"agree": 50, "of": 50}},
    )
    assert "; 50 of 50 cells verified from end to end agree." in look(run).coverage


def test_a_scope_is_said_in_words(made: "Made") -> None:
    scope = {
        "to": {"ips": [f"10.0.0.{n}" for n in range(9)]},
        "from_namespace": ["shop"],
        "x": None,
    }
    run = made.assemble([], [], made.shop_decides, manifest={"scope": scope})
    assert dict(look(run).facts)["Scope"] == (
        "to ips: 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5 and 3 more; "
        "from namespace: shop"
    )


def test_nothing_in_scope_is_said(made: "Made") -> None:
    empty = made.assemble([], [], made.shop_decides)
    assert look(empty).headline == "Nothing was in scope: the matrix has no cells."


def test_nothing_proven_is_said(made: "Made") -> None:
    run = made.shop(1)
    run.verdicts.verdict[:] = CODE[Verdict.UNTRACED]
    seen = look(run)
    assert seen.headline.startswith("Nothing is proven")
    assert seen.unproven == seen.cells
    assert all(counter.share in ("", NO_SHARE) for counter in seen.counters)


def test_many_namespaces_have_a_short_table(made: "Made") -> None:
    endpoints = [made.pod(f"ns{number}", "p") for number in range(50)]
    seen = look(made.assemble(endpoints, made.shop(1).matrix.ports[:1], made.pods_only))
    assert seen.table_head == ("all destinations",)
    assert len(seen.table) == 50
