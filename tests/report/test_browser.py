"""The report in a real browser: from disk, without a network, by mouse and by keyboard."""

import csv
import datetime as dt
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import axe_playwright_python
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from audit.model.changes import ChangedCells, ChangedPath, ChangedPaths
from audit.model.expectations import Checked, Checks, Status, Violation, Waiver
from audit.model.packets import Family
from audit.model.run import Run
from audit.model.verdicts import CODE, NO_VERDICT, VERDICTS, Verdict
from tests.report.parts import render_html

if TYPE_CHECKING:
    from tests.report.conftest import Made

pytestmark = pytest.mark.browser


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
def read(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    """Write a run's report and open it; at the end it must have asked for and said nothing."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    readers: list[Reader] = []

    def opened(run: Run, **options: Any) -> Reader:
        path = tmp_path / "report.html"
        path.write_text(render_html(run, **options), encoding="utf-8")
        readers.append(Reader(context.new_page(), path))
        readers[-1].open()
        return readers[-1]

    yield opened
    context.close()
    for reader in readers:
        asked = {url.partition("#")[0] for url in reader.requests}
        assert {url for url in asked if not url.startswith("blob:")} == {reader.path.as_uri()}
        assert reader.complaints == []


Read = Callable[..., Reader]


def test_by_mouse_from_namespaces_to_the_policy(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.at("groups")
    assert "3,047 cells decided by 8,274 traces; 151 unproven." in reader.text("coverage")
    assert "954" in reader.text("counter-blocked")
    reader.click("shop", "payments")
    reader.at("workloads")
    reader.click("shop/front", "payments/api")
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
    reader.at("workloads")
    reader.move_to("shop/cart", "default/web")
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
    reader.at("workloads")
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


def found_by(reader: Reader, text: str) -> list[str]:
    """Return what the search offers for a text, name and role in a line each."""
    reader.page.get_by_test_id("search").fill(text)
    options = reader.page.locator("#found li")
    expect(options.first).to_be_visible()
    return [" ".join(option.split("\n")) for option in options.all_inner_texts()]


def test_searching_by_label_address_port_and_pair(made: "Made", read: Read) -> None:
    run = made.shop()
    labels = (("app", "front"), ("tier", "web"))
    ends = tuple(
        replace(end, labels=labels, addresses=("10.9.8.7",)) if end.name == "front-1" else end
        for end in run.matrix.endpoints
    )
    reader = read(replace(run, matrix=replace(run.matrix, endpoints=ends)))
    page = reader.page
    assert found_by(reader, "10.9.8.7")[0] == "pod shop/front-1 10.9.8.7, as source"
    assert found_by(reader, "tier=we")[0] == "pod shop/front-1 tier=web, as source"
    assert found_by(reader, "80")[0] == "tcp/80 this port alone"
    assert found_by(reader, "nothing-such") == ["nothing in this run"]
    assert found_by(reader, "default")[0] == "default all of it, as source"
    assert found_by(reader, "ns/shop")[0] == "shop all of it, as source"
    assert found_by(reader, "shop -> payments")[0] == "shop → payments these namespaces"
    pair = found_by(reader, "pod/shop/front-1 payments/api-0")[0]
    assert pair == "pod shop/front-1 → pod payments/api-0 this pair"
    assert found_by(reader, "tier=web")[0] == "tier=web all that have it, as source"
    page.get_by_test_id("search").press("Enter")
    expect(page.get_by_test_id("crumbs")).to_contain_text("label tier=web → everything")
    assert {line[0] for line in csv_of(reader)[1:]} == {"pod shop/front-1"}
    found_by(reader, "front-1 -> payments/api-0 tcp/80")
    page.get_by_test_id("search").press("Enter")
    expect(page.get_by_test_id("panel-sentence")).to_contain_text(
        "pod shop/front-1 cannot reach pod payments/api-0 on tcp/80"
    )


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
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text(
        "Blocks 402 cells and allows 0."
    )
    reader.page.get_by_role("button", name="payments → default").click()
    reader.at("endpoints")
    expect(reader.page.get_by_test_id("crumbs")).to_contain_text("only networkpolicy default/deny")


def test_every_policy_is_listed_with_what_it_decides(made: "Made", read: Read) -> None:
    run = made.shop()
    idle = replace(run.policies[0], ref=replace(run.policies[0].ref, name="decides-nothing"))
    reader = read(replace(run, policies=(*run.policies, idle)))
    reader.page.get_by_test_id("policy-filter").fill("NOTHING")
    rows = reader.page.locator("#policy-rows tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("decides no cell")
    rows.get_by_role("button").click()
    expect(reader.page.get_by_test_id("panel-sentence")).to_have_text(
        "Decides no cell of this run."
    )
    reader.open("policy=networkpolicy%20payments%2Fsame-namespace")
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text(
        "shares the default deny of 540 more"
    )


def csv_of(reader: Reader) -> list[list[str]]:
    return list(csv.reader(io.StringIO(reader.page.evaluate("window.auditReport.csv()"))))


def test_what_is_filtered_is_what_is_exported(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.page.get_by_test_id("level").select_option("endpoints")
    reader.at("endpoints")
    reader.page.get_by_test_id("only").select_option("blocked")
    expect(reader.page.get_by_test_id("crumbs")).to_contain_text("only blocked")
    head, *lines = csv_of(reader)
    assert len(lines) == 954
    assert {line[head.index("verdict")] for line in lines} == {"blocked"}
    reader.open("ns=*,*&only=blocked&policy=networkpolicy%20default%2Fdeny-by-default")
    assert len(csv_of(reader)) == 1 + 402
    reader.open("only=reply")
    head, *lines = csv_of(reader)
    assert [line[:2] for line in lines] == [["ingress", "shop"]]
    assert lines[0][head.index("chosen_by_filter")] == "18"
    with reader.page.expect_download() as download:
        reader.page.get_by_test_id("export").click()
    assert download.value.suggested_filename == "audit-groups.csv"


@pytest.mark.parametrize("order", ["exposure", "similarity"])
def test_rows_in_another_order(made: "Made", read: Read, order: str) -> None:
    reader = read(made.shop())
    lines = sorted(csv_of(reader))
    reader.page.get_by_test_id("order").select_option(order)
    assert f"order={order}" in reader.page.url
    expect(reader.page.get_by_test_id("heatmap")).to_be_visible()
    assert sorted(csv_of(reader)) == lines
    if order == "exposure":
        passing = [sum(map(int, line[2:4])) for line in csv_of(reader)[1:]]
        first, last = csv_of(reader)[1][0], csv_of(reader)[-1][0]
        sums = dict.fromkeys((first, last), 0)
        for line, count in zip(csv_of(reader)[1:], passing, strict=True):
            if line[0] in sums:
                sums[line[0]] += count
        assert sums[first] > sums[last]


def test_planes_and_both_evidences_of_drift(made: "Made", read: Read) -> None:
    run = made.drifting()
    reader = read(run)
    reader.open("ns=*,*&only=drift")
    head, *lines = csv_of(reader)
    ((source, target, *rest),) = lines
    assert rest[head.index("logical") - 2 : head.index("datapath") - 1] == ["reachable", "blocked"]
    reader.page.get_by_test_id("plane").select_option("logical")
    (line,) = csv_of(reader)[1:]
    assert line[head.index("verdict")] == "reachable"
    spot = reader.page.evaluate("ends => window.auditReport.cellRect(...ends)", [source, target])
    reader.page.mouse.click(spot["x"] + 4, spot["y"] + 4)
    expect(reader.page.get_by_test_id("panel-drift")).to_contain_text("planes disagree")
    expect(reader.page.get_by_test_id("panel-planes")).to_contain_text("logicalreachable")
    expect(reader.page.get_by_test_id("panel-hops")).to_contain_text("node worker-b: blocked")
    expect(reader.page.get_by_test_id("panel-other-hops")).to_contain_text(
        "zone worker-b: reachable"
    )


def test_what_changed_is_a_filter(made: "Made", browser: Browser, tmp_path: Path) -> None:
    run = made.shop(1)
    cells = np.zeros(len(run.matrix), np.uint8)
    cells[[3, 5]] = CODE[Verdict.BLOCKED] + 1
    stopped = int(np.flatnonzero(run.verdicts.verdict == CODE[Verdict.BLOCKED])[0])
    cells[stopped] = CODE[Verdict.REACHABLE] + 1
    path = tmp_path / "report.html"
    names, closing = (
        [run.matrix.endpoints[end[cell]] for end in (run.matrix.src, run.matrix.dst)]
        for cell in (3, stopped)
    )
    path_ = ChangedPath(
        src=names[0].belongs_to,
        dst=names[1].belongs_to,
        ports=(str(run.matrix.ports[run.matrix.port[3]]),),
        before=Verdict.BLOCKED,
        after=VERDICTS[run.verdicts.verdict[3]],
        was="networkpolicy shop/<gone>",
        why="",
        cells=2,
        because=("removed networkpolicy shop/<gone>",),
    )
    changed = ChangedCells(
        since="yesterday",
        cells=cells,
        sentences=("two cells opened",),
        paths=ChangedPaths(paths=(path_,)),
    )
    path.write_text(render_html(run, changed=changed), encoding="utf-8")
    reader = Reader(browser.new_page(), path)
    reader.open("ns=*,*&only=changed")
    assert len(csv_of(reader)) == 1 + 3
    assert violations(reader.page) == []
    # A plus stands where something opened, a minus where something closed.
    surface = [0xFF, 0xFF, 0xFF]
    radius = min(7, max(4, (where(reader)["size"] - 2) / 5))
    beside, above = (1 + 1.5 * radius, 1 + 1.5 * radius), (1 + radius, 1 + 0.5 * radius)
    for (source, destination), is_minus in ((names, False), (closing, True)):
        assert pixel(reader, source.key, destination.key, beside) == surface
        assert (pixel(reader, source.key, destination.key, above) == surface) is is_minus
    assert pixel(reader, names[1].key, "pod data/backup-0", beside) != surface
    assert "Compared with yesterday" in reader.text("changes")
    row = reader.page.get_by_test_id("changes").locator("tbody tr")
    assert "removed networkpolicy shop/<gone>" in row.inner_text()
    row.get_by_role("link").click()
    assert "only=opened" in reader.page.url
    assert len(csv_of(reader)) == 1 + 2
    reader.open("only=closed&ns=*,*")
    assert len(csv_of(reader)) == 1 + 1
    reader.open(f"cell={','.join(quote(end.key, safe='') for end in names)}")
    reader.page.get_by_test_id("panel-ports").get_by_role("button", name=path_.ports[0]).click()
    since = reader.page.get_by_test_id("panel-since")
    expect(since).to_contain_text("blocked networkpolicy shop/<gone>")
    # Who looks at what opened is shown the port that did, though another of the pair is stopped.
    ends = ",".join(quote(end.key, safe="") for end in names)
    reader.open(f"cell={ends}&only=opened")
    expect(since).to_contain_text("Afterreachable")
    expect(reader.page.get_by_test_id("panel")).to_contain_text("Opened, compared with yesterday")
    expect(since).to_contain_text("removed networkpolicy shop/<gone>")
    assert reader.complaints == []
    reader.page.close()


def test_the_whole_map_is_pixels_and_a_cell_of_it_can_be_opened(made: "Made", read: Read) -> None:
    reader = read(made.large(300))
    reader.open("ns=*,*")
    reader.at("endpoints")
    expect(reader.page.get_by_test_id("mini")).to_be_visible()
    reader.page.get_by_test_id("whole").click()
    assert reader.page.evaluate("window.auditReport.where().size") < 4
    while reader.page.evaluate("window.auditReport.busy()"):
        reader.page.wait_for_timeout(20)
    expect(reader.page.get_by_test_id("mini")).to_be_hidden()
    colours = [pixel(reader, f"pod team-00/app-{n:04}", "pod team-03/app-0080") for n in (3, 24)]
    colours.append(pixel(reader, "pod team-03/app-0079", "pod team-03/app-0080"))
    assert colours[0] == colours[1] == [0xA0, 0x37, 0x0A]
    assert colours[2] == [0x88, 0xC4, 0xF4]
    reader.click("pod team-00/app-0003", "pod team-03/app-0080")
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text("cannot reach")


def pixel(
    reader: Reader, source: str, destination: str, at: tuple[float, float] | None = None
) -> list[int]:
    """Return the colour in the middle of a cell, or so far from its upper left corner."""
    look = """([source, destination, offset]) => {
        const spot = window.auditReport.cellRect(source, destination);
        const canvas = document.getElementById("canvas");
        const box = canvas.getBoundingClientRect();
        const [across, down] = offset ?? [spot.width / 2, spot.height / 2];
        const at = [spot.x + across - box.left, spot.y + down - box.top];
        const copy = document.createElement("canvas").getContext("2d");
        copy.drawImage(canvas, -Math.floor(at[0]), -Math.floor(at[1]));
        return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }"""
    colour: list[int] = reader.page.evaluate(look, [source, destination, at])
    return colour


def where(reader: Reader) -> dict[str, Any]:
    found: dict[str, Any] = reader.page.evaluate("window.auditReport.where()")
    return found


def test_zooming_by_button_wheel_and_key_and_the_small_map(made: "Made", read: Read) -> None:
    reader = read(made.large(300))
    reader.open("ns=*,*")
    reader.at("endpoints")
    usual = where(reader)["size"]
    reader.page.get_by_role("button", name="Larger cells").click()
    assert where(reader)["size"] > usual
    reader.page.get_by_role("button", name="Smaller cells").click()
    assert where(reader)["size"] == usual
    heatmap = reader.page.get_by_test_id("heatmap")
    heatmap.hover()
    reader.page.keyboard.down("Control")
    reader.page.mouse.wheel(0, -100)
    reader.page.keyboard.up("Control")
    reader.page.wait_for_timeout(100)
    assert where(reader)["size"] > usual
    heatmap.press("-")
    heatmap.press("-")
    assert where(reader)["size"] < usual
    heatmap.press("+")
    reader.page.get_by_test_id("mini").click(position={"x": 60, "y": 60})
    left, top = heatmap.evaluate("map => [map.scrollLeft, map.scrollTop]")
    assert left > 500
    assert top > 500


def test_the_other_controls(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    page = reader.page
    page.get_by_test_id("exposure").get_by_role("button", name="shop", exact=True).click()
    reader.at("workloads")
    expect(page.get_by_test_id("crumbs")).to_contain_text("everything → shop")
    page.get_by_test_id("crumbs").get_by_role("button", name="All namespaces").click()
    reader.at("groups")
    spot = page.evaluate("window.auditReport.cellRect('shop', 'data')")
    box = page.get_by_test_id("heatmap").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 20, spot["y"] + spot["height"] / 2)  # the head of the row
    reader.at("endpoints")
    expect(page.get_by_test_id("crumbs")).to_contain_text("shop → everything")
    page.get_by_test_id("only").select_option("blocked")
    expect(page.get_by_test_id("crumbs")).to_contain_text("only blocked")
    page.get_by_role("button", name="Show everything").click()
    expect(page.get_by_test_id("only")).to_have_value("")
    reader.click("pod shop/front-0", "pod payments/api-0")
    button = page.get_by_test_id("panel-commands").get_by_role("button").first
    button.click()
    expect(button).to_have_text(re.compile("Copied|Selected"))
    page.get_by_test_id("panel-close").click()
    expect(page.get_by_test_id("panel")).to_be_hidden()


def test_the_map_of_one_network(made: "Made", read: Read) -> None:
    """Of pods those that are attached to it, and what is on no network at all."""
    run = made.shop()
    ends = tuple(
        replace(end, network="blue") if end.namespace == "shop" else end
        for end in run.matrix.endpoints
    )
    reader = read(replace(run, matrix=replace(run.matrix, endpoints=ends)))
    network = reader.page.get_by_test_id("network")
    assert network.locator("option").all_inner_texts() == ["all", "blue", "default"]
    reader.page.get_by_test_id("level").select_option("endpoints")
    reader.at("endpoints")
    whole = csv_of(reader)[1:]
    network.select_option("blue")
    of_blue = csv_of(reader)[1:]
    assert "network=blue" in reader.page.url
    assert 0 < len(of_blue) < len(whole)
    assert all("pod payments/" not in ",".join(row) for row in of_blue)
    assert violations(reader.page) == []


def test_where_there_are_several_networks_the_map_begins_with_them(
    made: "Made", read: Read
) -> None:
    run = made.shop()
    ends = tuple(
        replace(end, network="blue") if end.namespace == "shop" else end
        for end in run.matrix.endpoints
    )
    reader = read(replace(run, matrix=replace(run.matrix, endpoints=ends)))
    reader.at("networks")
    networks = csv_of(reader)
    counted = slice(2, 8)
    assert {row[0] for row in networks[1:]} <= {"blue", "default", "(no network)"}
    assert {"blue", "default"} <= {row[0] for row in networks[1:]}
    assert violations(reader.page) == []
    on_blue = np.array([end.network_name == "blue" for end in ends])
    both = on_blue[run.matrix.src] & on_blue[run.matrix.dst]
    [within] = [row for row in networks[1:] if row[:2] == ["blue", "blue"]]
    assert sum(map(int, within[counted])) == int(both.sum()) > 0
    # The same cells, counted by network and by namespace.
    reader.page.get_by_test_id("level").select_option("groups")
    reader.at("groups")
    assert reader.page.url.endswith("#level=groups")
    by_network, by_group = (
        sum(int(count) for row in rows[1:] for count in row[counted])
        for rows in (networks, csv_of(reader))
    )
    assert by_network == by_group == len(run.matrix)
    # Down from a pair of networks to their namespaces, and up again.
    reader.page.get_by_test_id("level").select_option("networks")
    reader.at("networks")
    reader.click("blue", "default")
    reader.at("groups")
    rows = csv_of(reader)[1:]
    assert {row[0] for row in rows} == {"shop"}
    assert "shop" not in {row[1] for row in rows}
    reader.page.get_by_role("button", name="All networks").click()
    reader.at("networks")
    reader.open("cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0")
    path = reader.text("panel-path")
    assert "network blue" in path
    assert "network default" in path


def test_the_map_is_on_the_first_screen(made: "Made", read: Read) -> None:
    reader = read(made.drifting())
    reader.page.set_viewport_size({"width": 1440, "height": 900})
    box = reader.page.get_by_test_id("heatmap").bounding_box()
    assert box is not None
    assert box["y"] < 400
    spot = reader.page.evaluate("window.auditReport.cellRect('shop', 'shop')")
    assert spot["y"] + spot["height"] < 900


def test_the_map_is_on_the_first_screen_of_a_phone(made: "Made", read: Read) -> None:
    reader = read(made.drifting())
    page = reader.page
    page.set_viewport_size({"width": 390, "height": 844})
    reader.open("port=tcp%2F80")
    box = page.get_by_test_id("heatmap").bounding_box()
    assert box is not None
    assert box["y"] < 640
    # What narrows the map down waits behind a button, but for what does so now.
    expect(page.get_by_test_id("port")).to_be_visible()
    expect(page.get_by_test_id("only")).to_be_hidden()
    page.get_by_test_id("filters").click()
    expect(page.get_by_test_id("only")).to_be_visible()


def test_a_finding_about_one_family_leads_to_it(made: "Made", read: Read) -> None:
    run = made.shop(1, families=tuple(Family))
    blocked = run.verdicts.verdict == CODE[Verdict.BLOCKED]
    name = run.matrix.describe(int(np.flatnonzero(blocked & (run.matrix.family == 1))[0]))
    assert name.endswith(" over ip6")
    finding = {"kind": "drift", "severity": "error", "text": "they differ", "subjects": [name]}
    reader = read(replace(run, manifest={**run.manifest, "findings": [finding]}))
    reader.page.get_by_test_id("findings").get_by_role("link", name=name).click()
    expect(reader.page.get_by_test_id("panel-sentence")).to_contain_text(" over ip6: ")


def test_a_link_brings_to_what_it_leads_to_and_a_wrong_one_says_so(
    made: "Made", read: Read
) -> None:
    reader = read(made.shop())
    page = reader.page
    page.set_viewport_size({"width": 390, "height": 700})
    page.goto("about:blank")
    reader.open("cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0")
    expect(page.get_by_test_id("panel")).to_be_focused()
    expect(page.get_by_test_id("panel-sentence")).to_be_in_viewport()
    page.goto("about:blank")
    reader.open("cell=pod%20shop%2Fgone-0,pod%20payments%2Fapi-0&only=blocked")
    expect(page.get_by_test_id("strange")).to_have_text(
        "The link names what this run does not have: pod shop/gone-0."
    )
    expect(page.get_by_test_id("only")).to_have_value("blocked")
    page.evaluate("location.hash = ''")
    expect(page.get_by_test_id("strange")).to_be_hidden()


def test_findings_are_by_kind_and_lead_to_the_map(
    made: "Made", browser: Browser, tmp_path: Path
) -> None:
    cell = "pod shop/front-0 to pod payments/api-0 on tcp/80"
    said = [
        {"kind": "no-default-deny", "text": "no deny", "subjects": ["shop", "elsewhere"]},
        {"kind": "drift", "text": "differs", "subjects": [cell]},
        {"kind": "selects-nothing", "text": "nobody", "subjects": ["<b>x</b>"]},
        {"kind": "no-default-deny", "text": "none for egress", "subjects": ["shop"]},
    ]
    run = made.drifting()
    run = replace(run, manifest={**run.manifest, "findings": said})
    path = tmp_path / "report.html"
    path.write_text(render_html(run), encoding="utf-8")
    reader = Reader(browser.new_page(), path)
    page = reader.open()
    groups = page.get_by_test_id("findings").locator("details")
    assert groups.locator("h3").all_inner_texts() == [
        "error drift",
        "warning no-default-deny",
        "warning selects-nothing",
    ]
    for number, (name, view) in enumerate(
        (
            ("show on the map", "ns=shop,payments&only=drift"),
            (cell, "cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0&at=tcp%2F80"),
        )
    ):
        groups.nth(0).get_by_role("link", name=name).click()
        assert page.url.endswith(f"#{view}")
        expect(page.get_by_test_id(("heatmap", "panel")[number])).to_be_focused()
    egress = groups.nth(1).get_by_role("link", name="shop")
    assert [link.get_attribute("href") for link in egress.all()] == ["#ns=*,shop", "#ns=shop,*"]
    assert groups.nth(2).get_by_role("link").count() == 0
    expect(groups.nth(2)).to_contain_text("<b>x</b>")
    assert reader.complaints == []
    page.close()


def test_a_namespace_cell_is_a_shade_and_a_hatched_part(made: "Made", read: Read) -> None:
    # 81 cells get through, 27 do not, 12 are not proven
    reader = read(made.shop())
    kinds = reader.page.evaluate(
        """([source, destination]) => {
            const spot = window.auditReport.cellRect(source, destination);
            const canvas = document.getElementById("canvas");
            const box = canvas.getBoundingClientRect();
            const copy = document.createElement("canvas").getContext("2d");
            const [x, y] = [spot.x - box.left + 5, spot.y - box.top];
            copy.drawImage(canvas, -Math.round(x), -Math.round(y));
            const [wide, high] = [Math.round(spot.width) - 14, Math.round(spot.height) - 4];
            const all = copy.getImageData(0, 0, wide, high).data;
            return [2, high - 1].map((row) => {
                const colours = new Set();
                for (let i = 4 * row * wide; i < 4 * (row + 1) * wide; i += 4)
                    colours.add(`${all[i]},${all[i + 1]},${all[i + 2]}`);
                return [...colours];
            });
        }""",
        ["data", "shop"],
    )
    assert len(kinds[0]) == 1, "above the figure there is one shade, and no stripes"
    assert kinds[0][0] not in ("136,196,244", "160,55,10"), "and it is neither verdict's own"
    assert len(kinds[1]) > 1, "below it, what is unproven is hatched"


def test_the_path_of_a_blocked_packet_is_drawn(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.open("cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0")
    steps = reader.page.get_by_test_id("panel-path").locator("li")
    expect(steps.last).to_have_text("pod payments/api-0 not reached")
    texts = steps.all_inner_texts()
    assert texts[0].startswith("pod shop/front-0")
    assert "zone worker-a" in texts[1]
    assert "networkpolicy payments/api-from-shop" in texts[-2]
    expect(steps.nth(len(texts) - 2).locator(".glyph.blocked")).to_have_count(1)
    expect(steps.last.locator(".glyph")).to_have_count(0)


def test_that_planes_disagree_is_a_link_to_the_cells(made: "Made", read: Read) -> None:
    run = made.drifting()
    run = replace(run, manifest={**run.manifest, "drift": {"cells": 1, "of": 120}})
    reader = read(run)
    reader.page.get_by_test_id("checks").get_by_role("link", name="disagree").click()
    expect(reader.page.get_by_label("Only")).to_have_value("drift")
    assert reader.page.url.endswith("#only=drift")


def test_links_within_the_page_leave_the_view_as_it_is(made: "Made", read: Read) -> None:
    reader = read(made.drifting())
    reader.page.set_viewport_size({"width": 1440, "height": 400})
    reader.open("only=blocked")
    for link in reader.page.get_by_test_id("checks").get_by_role("link").all():
        section = reader.page.locator(str(link.get_attribute("href")))
        link.click()
        expect(section).to_be_in_viewport()
        expect(section).to_be_focused()
        assert reader.page.url.endswith("#only=blocked")


# What eyes without one kind of cones see, in linear RGB: Machado, Oliveira and Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.0.
EYES = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def luminance(colour: str, eyes: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2) as such eyes see it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    light = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    red, green, blue = (
        min(1, max(0, sum(weight * x for weight, x in zip(row, light, strict=True))))
        for row in EYES[eyes]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    ("media", "scheme"), [("screen", "light"), ("screen", "dark"), ("print", "dark")]
)
def test_what_passes_and_what_is_stopped_differ_without_any_colour(
    made: "Made",
    read: Read,
    media: Literal["screen", "print"],
    scheme: Literal["light", "dark"],
) -> None:
    reader = read(made.shop())
    reader.page.emulate_media(media=media, color_scheme=scheme)
    colours = {
        name: reader.page.evaluate(
            "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()",
            f"--{name}",
        )
        for name in ("reachable", "exits", "blocked", "unroutable")
    }
    for eyes in EYES:
        lights = {name: luminance(colour, eyes) + 0.05 for name, colour in colours.items()}
        for passes in ("reachable", "exits"):
            for stopped in ("blocked", "unroutable"):
                assert lights[passes] / lights[stopped] >= 3, (eyes, passes, stopped)


AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"

VIEWS = (
    "",
    "ns=*,*&level=workloads",
    "ns=*,*",
    "only=drift",
    "policy=networkpolicy%20default%2Fdeny-by-default",
    "cell=pod%20shop%2Ffront-0,pod%20payments%2Fapi-0",
    "cell=pod%20nobody%2Fx,pod%20payments%2Fapi-0",
)


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe's rules find, all of them: each rule, and what breaks it."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [(rule["id"], [node["html"][:160] for node in rule["nodes"][:3]]) for rule in found]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_no_rule_of_accessibility_is_broken_on_any_view(
    made: "Made", read: Read, scheme: Literal["light", "dark"], width: int
) -> None:
    reader = read(made.drifting())
    reader.page.emulate_media(color_scheme=scheme)
    reader.page.set_viewport_size({"width": width, "height": 844})
    for fragment in VIEWS:
        reader.open(fragment)
        assert violations(reader.page) == [], fragment
        wide = reader.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width


def checks(name: str, owner: str) -> Checks:
    """Return what became of three expectations: of one control two, of which one is waived."""
    waiver = Waiver(names=(name,), reason=name, owner=owner, expires=dt.date(2026, 12, 31))
    violation = Violation(
        src="deployment shop/front",
        dst="deployment payments/api",
        ports=("tcp/80",),
        verdict=Verdict.REACHABLE,
        by=f"networkpolicy {name}",
        cells=1,
        waiver=str(waiver),
    )
    blank = Checked(
        name=name,
        description=name,
        status=Status.WAIVED,
        sentence="1 of 2 cells is as expected",
        as_expected=1,
        violating=0,
        unproven=0,
        exempt=0,
        waived=1,
        violations=(violation,),
        notes=(name,),
        controls=("PCI DSS 1.3.1", name),
        waivers=(waiver,),
    )
    violated = replace(blank, name="violated", status=Status.VIOLATED, controls=("PCI DSS 1.3.1",))
    unproven = replace(blank, name="unproven", status=Status.UNPROVEN, controls=("PCI DSS 1.4.1",))
    return Checks(day=dt.date(2026, 11, 29), expectations=(blank, violated, unproven))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_expectations_controls_and_waivers_are_text_and_within_reach(
    made: "Made", read: Read, scheme: Literal["light", "dark"], width: int
) -> None:
    hostile = made.hostile_texts[0]
    reader = read(made.shop(), checks=checks(hostile, made.hostile_texts[1]))
    reader.page.emulate_media(color_scheme=scheme)
    reader.page.set_viewport_size({"width": width, "height": 844})
    reader.open("")
    assert violations(reader.page) == []
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
    assert "1 of 3 expectations pass on 2026-11-29" in reader.text("checks")
    rows = reader.page.get_by_test_id("controls").locator("tbody tr")
    found = {
        row.locator("td").nth(0).inner_text(): row.locator("td").nth(1).inner_text()
        for row in rows.all()
    }
    assert (found["PCI DSS 1.3.1"], found["PCI DSS 1.4.1"]) == ("fails", "unproven")
    assert [*found.values()].count("passes with waivers") == 1
    section = reader.page.get_by_test_id("expectations")
    expect(section).to_contain_text("<script>alert(1)</script>")
    expect(section).to_contain_text("2026-12-31")
    assert reader.page.locator("script").count() == 1
    section.locator("details[open] a.view").first.click()
    assert "only=reachable" in reader.page.url


def test_a_probe_is_a_plane_of_its_own(made: "Made", read: Read) -> None:
    run = made.drifting()
    probe = np.full(len(run.matrix), NO_VERDICT, np.uint8)
    [cell] = np.flatnonzero(run.verdicts.drift == 1).tolist()
    probe[cell] = CODE[Verdict.INCONCLUSIVE]
    probed = replace(
        run,
        verdicts=replace(run.verdicts, probe=probe),
        manifest={**run.manifest, "probe": {"of": 3, "agree": 2}},
    )
    ends = (run.matrix.endpoints[end[cell]].key for end in (run.matrix.src, run.matrix.dst))
    reader = read(probed)
    reader.open("cell=" + ",".join(map(quote, ends)))
    row = reader.page.get_by_test_id("panel-planes").locator("tr").last
    expect(row).to_contain_text("probe")
    expect(row).to_contain_text("inconclusive")
    assert "real connections agree in 2 of 3 cells" in reader.text("coverage")
    reader.open("plane=probe")
    assert violations(reader.page) == []


def test_on_paper(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    reader.page.emulate_media(media="print", color_scheme="dark")
    heading = reader.page.get_by_role("heading", level=1)
    expect(heading).to_have_css("color", "rgb(26, 33, 43)")  # paper is light
    expect(reader.page.get_by_test_id("search")).to_be_hidden()
    expect(reader.page.get_by_test_id("coverage")).to_be_visible()
    expect(reader.page.locator("#policy-rows tr").first).to_be_visible()
    assert reader.page.pdf().startswith(b"%PDF")


def test_names_cannot_become_formulas(made: "Made", read: Read) -> None:
    reader = read(made.hostile())
    reader.open("ns=*,*")
    text = reader.page.evaluate("window.auditReport.csv()")
    for line in csv.reader(io.StringIO(text)):
        assert not any(field.startswith(tuple("=+-@\t\r")) for field in line)
    named = made.hostile_with_formula()
    reader = read(named)
    reader.open("")
    lines = csv_of(reader)
    assert {line[0] for line in lines[1:]} == {"'=HYPERLINK(1)", "'+1"}


def test_what_is_drawn_is_a_table_too(made: "Made", read: Read) -> None:
    reader = read(made.shop())
    table = reader.page.get_by_test_id("namespace-table")
    expect(table.locator("tbody tr").first).to_contain_text("45 reachable, 15 unroutable")
    groups = reader.page.get_by_test_id("cells-table").locator("tbody tr")
    expect(groups.first).to_contain_text("datadata45 reachable")
    reader.open("ns=shop,payments")
    reader.at("endpoints")
    rows = reader.page.get_by_test_id("cells-table").locator("tbody tr")
    expect(rows).to_have_count(9 * 9 * 2)
    expect(rows.first).to_contain_text("pod shop/cart-0")
    # Not only in the document: what a screen reader is given.
    session = reader.page.context.new_cdp_session(reader.page)
    given = session.send("Accessibility.getFullAXTree")["nodes"]
    tables = [node["name"]["value"] for node in given if node["role"]["value"] == "table"]
    assert "Cells from shop to payments" in tables
    assert any(name.startswith("Cells by verdict, from each namespace") for name in tables)


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
    expect(reader.page.get_by_test_id("panel-policy")).to_contain_text(
        "</script><script>alert(2)</script>"
    )
    expect(reader.page.get_by_test_id("panel-others")).to_contain_text("onerror=alert(3)")
    assert "\u202e" not in reader.page.locator("body").inner_text()
    reader.page.get_by_test_id("panel-raw").first.locator("summary").click()
    expect(reader.page.get_by_test_id("panel-raw").first.locator("pre")).to_contain_text("ingress(")
    reader.page.get_by_test_id("search").fill("<script>")
    expect(reader.page.get_by_role("option").first).to_contain_text("<script>")
    assert reader.page.locator("script").count() == scripts == 1
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


@pytest.mark.parametrize("without", ["script", "DecompressionStream"])
def test_without_what_unpacks_the_cells_the_table_remains(
    made: "Made", browser: Browser, tmp_path: Path, without: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_html(made.shop()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=without != "script")
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(path.as_uri())
    expect(page.get_by_test_id("namespace-table")).to_be_visible()
    expect(page.get_by_test_id("coverage")).to_contain_text("3,047 cells decided")
    context.close()
