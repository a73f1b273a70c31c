"""The report in a real browser: from disk, without a network, by mouse and by keyboard."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from audit.model.run import Run
from audit.report.render import render_html

if TYPE_CHECKING:
    from tests.report.conftest import Made

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium; root needs it without its sandbox."""
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


class Reader:
    """Someone with a report open: what the page asked for and complained about is kept."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.path = path
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._dialog)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def open(self, fragment: str = "") -> Page:
        self.page.goto(f"{self.path.as_uri()}#{fragment}")
        self.page.evaluate("window.auditReport.ready")
        return self.page

    def at(self, level: str) -> None:
        """Wait until the heatmap shows this level."""
        expect(self.page.locator("body")).to_have_attribute("data-level", level)

    def click(self, source: str, destination: str) -> None:
        """Click into a cell of the heatmap with the mouse."""
        spot = self.page.evaluate(
            "ends => window.auditReport.cellRect(...ends)", [source, destination]
        )
        assert spot is not None, f"no cell {source} to {destination}"
        self.page.mouse.click(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)

    def move_to(self, source: str, destination: str) -> None:
        """Move the cursor with the arrow keys, as long as it takes."""
        for way, wanted, keys in (
            ("source", source, ("ArrowDown", "ArrowUp")),
            ("destination", destination, ("ArrowRight", "ArrowLeft")),
        ):
            for key in keys:
                for _ in range(60):
                    if self.page.evaluate("window.auditReport.where().cursor")[way] == wanted:
                        break
                    self.page.keyboard.press(key)
        assert self.page.evaluate("window.auditReport.where().cursor") == {
            "source": source,
            "destination": destination,
        }

    def text(self, testid: str) -> str:
        return self.page.get_by_test_id(testid).first.inner_text()


@pytest.fixture
def read(browser: Browser, tmp_path: Path) -> Iterator[Callable[[Run], Reader]]:
    """Write a run's report and open it; at the end it must have asked for and said nothing."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    readers: list[Reader] = []

    def opened(run: Run) -> Reader:
        path = tmp_path / "report.html"
        path.write_text(render_html(run), encoding="utf-8")
        readers.append(Reader(context.new_page(), path))
        readers[-1].open()
        return readers[-1]

    yield opened
    context.close()
    for reader in readers:
        assert {url.partition("#")[0] for url in reader.requests} == {reader.path.as_uri()}
        assert reader.complaints == []


Read = Callable[[Run], Reader]


def test_by_mouse_from_namespaces_to_the_policy(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.at("groups")
    assert "3,047 cells decided by 8,274 traces; 151 unproven." in reader.text("coverage")
    assert "954" in reader.text("counter-blocked")
    reader.click("shop", "payments")
    reader.at("endpoints")
    reader.click("pod shop/front-0", "pod payments/api-0")
    expect(reader.page.get_by_test_id("panel-sentence")).to_have_text(
        "pod shop/front-0 cannot reach pod payments/api-0 on tcp/80: blocked by networkpolicy "
        "payments/api-from-shop ingress (default deny: no rule of the policies that select the "
        "pod allows it)."
    )
    assert "networkpolicy payments/api-from-shop" in reader.text("panel-policy")
    assert "networkpolicy payments/same-namespace" in reader.text("panel-others")
    marked = reader.page.locator("[data-testid=panel-yaml] >> nth=0").locator(".on")
    assert marked.all_inner_texts() == ["  podSelector: {}", "  policyTypes:", "  - Ingress"]
    assert reader.text("panel-reply") == "There is no reply to trace."
    commands = reader.text("panel-commands")
    assert "audit explain runs/20260214-021500 shop/front-0 payments/api-0 tcp/80" in commands
    assert "kubectl -n payments get networkpolicy api-from-shop -o yaml" in commands


def test_the_raw_trace_of_each_hop_unfolds(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.open("cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0")
    hops = reader.page.get_by_test_id("panel-raw")
    expect(hops).to_have_count(2)
    for hop, zone in ((hops.nth(0), "worker-a"), (hops.nth(1), "worker-b")):
        hop.locator("summary").click()
        expect(hop.locator("pre")).to_contain_text(f'ingress(dp="{zone}"')
    expect(hops.nth(1).locator("pre .on")).to_contain_text("uuid a7c3f001")


def test_by_keyboard_only_and_back(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    keyboard = reader.page.keyboard
    reader.page.get_by_test_id("heatmap").focus()
    reader.move_to("shop", "default")
    keyboard.press("Enter")
    reader.at("endpoints")
    reader.move_to("pod shop/cart-1", "pod default/web-2")
    keyboard.press("Enter")
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text(
        "pod shop/cart-1 cannot reach pod default/web-2 on tcp/5432"
    )
    expect(reader.page.get_by_test_id("panel-ports").locator("tr")).to_have_count(2)
    reader.page.get_by_test_id("panel-ports").get_by_role("button", name="tcp/80").click()
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text("can reach")
    reader.page.get_by_test_id("heatmap").focus()
    keyboard.press("Escape")
    expect(reader.page.get_by_test_id("panel")).to_be_hidden()
    keyboard.press("Backspace")
    reader.at("groups")
    where = reader.page.evaluate("window.auditReport.where().cursor")
    assert where == {"source": "shop", "destination": "default"}


def test_a_link_opens_where_it_was_copied(made: "Made", read: Read) -> None:
    reader = read(made.shop(families=tuple(made.families)))
    reader.open("ns=shop,default&family=ip6&cell=pod%20shop%2Ffront-0,pod%20default%2Fweb-1")
    reader.at("endpoints")
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text("on tcp/5432 over ip6")
    assert "--family ip6" in reader.text("panel-commands")
    assert reader.page.get_by_test_id("family").input_value() == "ip6"
    reader.page.get_by_test_id("port").select_option("tcp/80")
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text("can reach")
    assert "port=tcp%2F80" in reader.page.url
    reader.page.go_back()
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text("cannot reach")


def test_a_link_to_what_is_gone_is_the_start(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.open("ns=gone,away&cell=pod%20a,pod%20b&port=tcp/1&%%%")
    reader.at("groups")


def test_finding_an_endpoint(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.page.keyboard.press("/")
    reader.page.keyboard.type("ledger-1")
    reader.page.keyboard.press("ArrowDown")
    reader.page.keyboard.press("Enter")
    reader.at("endpoints")
    expect(reader.page.get_by_test_id("crumbs")).to_contain_text(
        "everything → pod payments/ledger-1"
    )
    reader.click("pod shop/front-2", "pod payments/ledger-1")
    expect(reader.page.get_by_test_id("panel-policy")).to_contain_text("payments/api-from-shop")


def test_pointing_names_verdict_and_policy(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    spot = reader.page.evaluate("window.auditReport.cellRect('data', '(external)')")
    reader.page.mouse.move(spot["x"] + 9, spot["y"] + 9)
    expect(reader.page.get_by_test_id("tooltip")).to_contain_text("data → (external)")
    expect(reader.page.get_by_test_id("tooltip")).to_contain_text("blocked12")
    reader.open("ns=data,(external)")
    reader.at("endpoints")
    ends = "'pod data/backup-0', 'external 198.51.100.7 via worker-a'"
    spot = reader.page.evaluate(f"window.auditReport.cellRect({ends})")
    reader.page.mouse.move(spot["x"] + 9, spot["y"] + 9)
    expect(reader.page.get_by_test_id("tooltip")).to_contain_text(
        "tcp/80 blocked by adminnetworkpolicy data-stays-inside egress[1]"
    )


def test_a_blocking_policy_shows_where_it_blocks(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.page.get_by_role("button", name="default/deny-by-default").click()
    expect(reader.page.get_by_test_id("panel-sentence")).to_have_text("Blocks 402 cells.")
    reader.page.get_by_role("button", name="payments → default").click()
    reader.at("endpoints")


def test_what_is_drawn_is_a_table_too(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    table = reader.page.get_by_test_id("namespace-table")
    expect(table.locator("tbody tr").first).to_contain_text("45 reachable, 15 unroutable")
    reader.click("shop", "payments")
    reader.at("endpoints")
    rows = reader.page.get_by_test_id("cells-table").locator("tbody tr")
    expect(rows).to_have_count(9 * 9 * 2)
    expect(rows.first).to_contain_text("pod shop/cart-0")


def test_names_stay_text_everywhere(made: "Made", read: Read) -> None:
    reader = read(made.hostile())
    scripts = reader.page.locator("script").count()
    first, second = (f"ns {text}" for text in made.hostile_texts[:2])
    reader.click(first, second)
    reader.at("endpoints")
    reader.click(
        f"pod {first}/pod {made.hostile_texts[0]}", f"pod {second}/pod {made.hostile_texts[1]}"
    )
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text(
        "<script>alert(1)</script>"
    )
    expect(reader.page.get_by_test_id("panel-yaml").first).to_contain_text("<img src=x onerror")
    expect(reader.page.get_by_test_id("panel-policy")).to_contain_text("{{ 7 * 7 }}{% raw %}")
    reader.page.get_by_test_id("panel-raw").first.locator("summary").click()
    expect(reader.page.get_by_test_id("panel-raw").first.locator("pre")).to_contain_text("ingress(")
    reader.page.get_by_test_id("search").fill("<script>")
    expect(reader.page.get_by_role("option").first).to_contain_text("<script>")
    assert reader.page.locator("script").count() == scripts == 2
    assert reader.page.locator("img").count() == 0


def test_nothing_scrolls_sideways(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.open("cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0")
    for width in (1440, 1024, 420):
        reader.page.set_viewport_size({"width": width, "height": 900})
        wide = reader.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width


def test_ninety_thousand_cells(made: "Made", read: Read) -> None:
    reader = read(made.large(300))
    reader.at("groups")
    reader.open("ns=*,team-03")
    reader.at("endpoints")
    reader.click("pod team-11/app-0299", "pod team-03/app-0099")
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text(
        "pod team-11/app-0299 cannot reach pod team-03/app-0099"
    )


def test_without_the_cells_the_namespaces_remain(
    made: "Made", browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_html(made.shop(), budget=1), encoding="utf-8")
    page = browser.new_page()
    reader = Reader(page, path)
    reader.open()
    reader.click("shop", "payments")
    expect(page.get_by_test_id("panel-sentence")).to_have_text("shop → payments")
    expect(page.get_by_test_id("panel")).to_contain_text("AND dst_namespace")
    expect(page.get_by_test_id("left-out")).to_contain_text("too large")
    assert reader.complaints == []
    page.close()
