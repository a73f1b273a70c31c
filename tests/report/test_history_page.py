"""The page of all runs: lines and links that the runs bear out, and names that stay text."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from audit.model.history import Exposed, Kept
from audit.report.render import render_history
from audit.report.timeline import EDGE, HEIGHT, WIDTH, timeline
from tests.report.test_browser import Reader, violations

COUNTS = ("reachable", "exits", "blocked", "unroutable", "inconclusive", "untraced")


def kept(day: int, counts: tuple[int, ...], scope: str = "a", passes: int = 0) -> Kept:
    return Kept(
        path=f"runs/run-{day}",
        run=f"run-{day}",
        started=f"2026-11-{day:02}T02:17:00+00:00",
        source="cluster",
        scope=f'[{{"selector": "{scope}"}}, ["intent"], null]',
        counts=dict(zip(COUNTS, counts, strict=True)),
        proven=sum(counts[:4]),
        drifting=0,
        findings=0,
        pairs=9,
        passing=3,
        exposure={"shop": Exposed(passes=passes, proven=20, cells=25)},
        seconds=1.5,
        report=day != 2,
    )


RUNS = (
    kept(1, (10, 0, 5, 0, 0, 1), passes=4),
    kept(2, (1, 1, 1, 1, 1, 1), scope="b"),
    kept(3, (6, 4, 5, 0, 0, 0), passes=4),
    kept(4, (15, 5, 0, 0, 0, 0), passes=1),
)


def test_runs_are_compared_with_the_one_before_of_the_same_scope() -> None:
    first, second = timeline(RUNS)
    assert first.title == "cluster · selector: a · intent"
    assert [run.name for run in first.runs] == ["run-4", "run-3", "run-1"]
    assert [run.name for run in second.runs] == ["run-2"]
    assert first.runs[0].numbers[:3] == (
        ("20", "+10"),
        ("0", "\N{MINUS SIGN}5"),
        ("0", ""),
    )
    assert first.runs[0].moved == "shop \N{MINUS SIGN}3"
    assert first.runs[0].compare == "audit diff runs/run-3 runs/run-4"
    assert (first.runs[2].numbers[0], first.runs[2].compare) == (("10", ""), "")
    assert (second.runs[0].link, first.runs[0].link) == ("", "run-4/report.html")
    (row,) = first.namespaces
    assert (row.passes, row.share, row.unproven) == ("1", "5.0 %", "5")


def test_a_line_goes_from_edge_to_edge_and_from_nothing_to_the_most() -> None:
    passes = timeline(RUNS)[0].trends[0]
    assert passes.title == "Gets through"
    assert [(point.x, point.y) for point in passes.points] == [
        (EDGE, HEIGHT / 2),  # 10 of 20
        (WIDTH / 2, HEIGHT / 2),
        (WIDTH - EDGE, EDGE),
    ]
    nothing = timeline(RUNS)[0].trends[3]
    assert {point.y for point in nothing.points} == {HEIGHT - EDGE}


def test_one_run_is_no_trend_and_is_not_drawn() -> None:
    several = [run for run in RUNS if run is not RUNS[1]]
    drawn = render_history("runs", several, ())
    assert ('class="trend"' in drawn, "One run so far" in drawn) == (True, False)
    alone = render_history("runs", RUNS[:1], ())
    assert ('class="trend"' in alone, "One run so far" in alone) == (False, True)
    assert alone.count("One run so far") == 1


@pytest.mark.browser
def test_the_page_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    runs = (*RUNS, Kept(**{**{n: getattr(RUNS[0], n) for n in Kept.__slots__}, "source": hostile}))
    path = tmp_path / "index.html"
    path.write_text(render_history(f"s3://{hostile}", runs, (hostile,)), encoding="utf-8")
    for width, scheme in ((1440, "light"), (390, "dark")):
        reader = Reader(browser.new_page(viewport={"width": width, "height": 800}), path)
        reader.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        reader.page.goto(path.as_uri())
        assert reader.page.locator("img, script").count() == 0
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        assert reader.requests == [path.as_uri()]
        assert reader.complaints == []
        reader.page.close()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', path.read_text())
    assert policy is not None
    assert "script-src &#39;none&#39;" in policy[1]
    context = browser.new_context(bypass_csp=True)  # axe is a script, and the page admits none
    page = context.new_page()
    page.goto(path.as_uri())
    assert violations(page) == []
    context.close()
