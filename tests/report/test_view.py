"""What the page says adds up, whatever the run."""

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.model.changes import UNMATCHED, ChangedCells
from audit.model.run import Run
from audit.model.tally import NO_SHARE, Tally
from audit.model.verdicts import CODE, UNPROVEN, VERDICTS, Verdict
from audit.report.census import census, deciders
from audit.report.grid import gather
from audit.report.view import Summary, summary
from tests.report.parts import streamed

if TYPE_CHECKING:
    from tests.report.conftest import Made


def look(run: Run) -> Summary:
    grid = gather(streamed(run))
    counted = census(grid)
    return summary(run.manifest, grid, counted, deciders(grid, counted, run.policies))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_everything_adds_up(made: "Made", seed: int) -> None:
    run = made.random(seed)
    grid = gather(streamed(run))
    counted = census(grid)
    deciding = deciders(grid, counted, run.policies)
    seen = summary(run.manifest, grid, counted, deciding)
    tally = Tally(counts=tuple(np.bincount(run.verdicts.verdict, minlength=len(VERDICTS)).tolist()))
    assert counted.total() == tally
    assert int(counted.pairs.sum()) == int(counted.states.sum()) == len(run.matrix)
    assert sum(counter.count for counter in seen.counters) == seen.cells == len(run.matrix)
    assert sum(counter.count for counter in seen.counters if counter.share) == tally.proven
    assert tally.proven + seen.unproven == seen.cells
    assert sum(decider.blocks for decider in deciding) == tally.of(Verdict.BLOCKED)
    assert counted.sends.sum() == counted.receives.sum() == tally.passes


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_census_is_what_counting_one_by_one_finds(made: "Made", seed: int) -> None:
    run = made.random(seed)
    grid = gather(streamed(run))
    pairs = census(grid).pairs
    expected = np.zeros_like(pairs)
    for cell in range(len(run.matrix)):
        ends = [run.matrix.endpoints[int(e[cell])] for e in (run.matrix.src, run.matrix.dst)]
        source, target = (grid.page.groups.index(end.namespace) for end in ends)
        expected[source, target, run.verdicts.verdict[cell]] += 1
    assert (pairs == expected).all()


def test_the_summary_of_a_shop(made: "Made") -> None:
    seen = look(made.shop())
    assert seen.coverage == "3,047 cells decided by 8,274 traces; 151 unproven."
    assert "networkpolicy payments/api-from-shop: 540 cells" in seen.headline
    assert [(row.label, row.blocks) for row in seen.deciders[:2]] == [
        ("networkpolicy payments/api-from-shop", "540"),
        ("networkpolicy default/deny-by-default", "402"),
    ]
    same = next(row for row in seen.deciders if row.name == "payments/same-namespace")
    assert (same.blocks, same.shared) == ("0", "540")
    assert seen.idle == ""
    assert dict(seen.facts)["Engine"] == "ovn-trace 25.03.1"
    assert dict(seen.facts)["Databases"] == "2 zones, northd 25.03.1-20.41.0-78.8"
    assert dict(seen.facts)["Time"] == "2026-02-14 02:15:00 to 02:15:41 UTC"
    assert [subject.text for subject in seen.notes[0].rows[0].subjects] == [
        "pod monitoring/grafana-0"
    ]
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


def test_findings_come_first_and_those_that_fail_before_the_others(made: "Made") -> None:
    said = [
        {"kind": "selects-nothing", "text": "nobody", "subjects": ["a"], "cells": 0, "cause": ""},
        {"kind": "drift", "text": "differs", "subjects": list("abcdefgh"), "cells": 3},
    ]
    notes = [
        {"code": "selects-nothing", "text": "nobody", "subjects": []},
        {"code": "pod-finished", "text": "done", "subjects": []},
    ]
    run = made.assemble([], [], made.shop_decides, manifest={"findings": said, "notes": notes})
    seen = look(run)
    assert [(row.kind, row.failing) for row in seen.findings] == [
        ("drift", True),
        ("selects-nothing", False),
    ]
    assert seen.failing == 1
    assert seen.findings[0].rows[0].more == 2
    assert [note.kind for note in seen.notes] == ["pod-finished"]


def test_exposure_is_of_what_others_ask(made: "Made") -> None:
    seen = look(made.shop())
    most = {row.group: row.text for row in (*seen.most_exposed, *seen.least_exposed)}
    run = made.shop()
    into = [
        VERDICTS[run.verdicts.verdict[cell]]
        for cell in range(len(run.matrix))
        if run.matrix.endpoints[run.matrix.dst[cell]].namespace == "default"
        and run.matrix.endpoints[run.matrix.src[cell]].namespace != "default"
    ]
    passing = sum(verdict is Verdict.REACHABLE for verdict in into)
    assert most["default"] == f"{passing} of {len(into)}"
    assert seen.most_exposed[0].width >= seen.least_exposed[-1].width


def test_what_changed_is_told_apart(made: "Made") -> None:
    run = made.shop(1)
    marked = np.zeros(len(run.matrix), np.uint8)
    marked[[3, 5]] = CODE[Verdict.BLOCKED] + 1
    marked[7] = UNMATCHED
    changed = ChangedCells(since="20260213-021500", cells=marked)
    grid = gather(streamed(run), marked)
    counted = census(grid)
    assert counted.changed == 2
    seen = summary(run.manifest, grid, counted, (), changed=changed)
    assert (seen.changed_since, seen.changed) == ("20260213-021500", ("2 cells changed.",))
